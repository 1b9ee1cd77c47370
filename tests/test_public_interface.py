"""The public interface: what `__all__` lists is there, sorted, documented; former names warn."""

import ast
import importlib
import tomllib

import pytest

import workbench
from tests.support import ROOT
from workbench import errors, report, runner

PACKAGES = ["workbench", "workbench.analysis", "workbench.billing", "workbench.charts"]
PACKAGES += ["workbench.report", "workbench.runner", "workbench.slice", "workbench.store"]
PACKAGES += ["widgets"]


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_are_there_and_in_order(name):
    """A name that cannot be imported is found here, not by a user; those made on use as well."""
    package = importlib.import_module(name)

    listed = list(package.__all__)

    assert listed == sorted(listed, key=lambda n: (not n.isupper(), n[:1].islower(), n))
    assert [n for n in listed if not hasattr(package, n)] == []


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_are_documented(name):
    """Modules, classes and functions have docstrings; a class made by msgspec has its own too."""
    package = importlib.import_module(name)

    bare = [
        n
        for n in package.__all__
        if callable(value := getattr(package, n)) and not (value.__doc__ or "").strip()
    ]

    assert bare == []


def test_every_error_has_one_base_and_a_docstring():
    """`except WorkbenchError` catches all that a caller can handle."""
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ]

    assert [c.__name__ for c in classes if not issubclass(c, errors.WorkbenchError)] == []
    assert [c.__name__ for c in classes if not c.__doc__] == []
    assert len(classes) >= 10, "where have the errors gone?"


def test_the_version_is_that_of_the_project():
    """Written twice: `import workbench` does not read the metadata of the installation."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert workbench.__version__ == project["version"]


def test_no_module_imports_the_root_for_a_value():
    """The root imports its parts on use; an import from below would be a circle."""
    own = {path.stem for path in (ROOT / "workbench").iterdir()}

    upward = {
        f"{file.relative_to(ROOT)}: {name.name}"
        for file in (ROOT / "workbench").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "workbench" and not node.level
        for name in node.names
        if name.name not in own
    }

    assert upward == set()


def test_former_names_of_the_interface_work_and_warn():
    """Scripts written for the former names go on, and say what to write instead."""
    with pytest.warns(FutureWarning, match="now called select_analyses"):
        former = report.chosen
    with pytest.warns(FutureWarning, match="now called StopSignal"):
        stop = runner.Stop

    assert former is report.select_analyses
    assert stop is runner.StopSignal


def test_a_name_that_never_was_is_an_error():
    """As Python says it."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = runner.nothing
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = report.nothing
