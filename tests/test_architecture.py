"""What the tests may import: what they share lies in `tests/support`, never in a test module."""

import re
from pathlib import Path

import pytest

from tests.support import ROOT

HERE = Path(__file__).resolve()
FILES = sorted((ROOT / "tests").rglob("*.py"))
# also in the scripts that tests hand to other processes, which no linter reads
IMPORT = re.compile(r"^[ ]*(?:from ([\w.]+) )?import (\([^)]*\)|[^\n#(]+)", re.MULTILINE)


def imported_tests(text: str) -> set[str]:
    """Names of test modules and conftests that a text imports, or imports from."""
    parts = {p for found in IMPORT.findall(text) for p in re.findall(r"\w+", " ".join(found))}
    return {part for part in parts if part.startswith("test_") or part == "conftest"}


def test_no_test_module_is_imported():
    """A builder that two tests need moves to `tests/support`: neither test owns the other."""
    found = {
        file: imported_tests(file.read_text(encoding="utf-8")) for file in FILES if file != HERE
    }

    assert {str(f.relative_to(ROOT)): names for f, names in found.items() if names} == {}
    assert len(found) > 200, "where have the tests gone?"


@pytest.mark.parametrize(
    "text",
    [
        "from tests.runner.test_a import make\n",
        "from tests.runner import test_a\n",
        "from .test_a import (\n    make,\n)\n",
        "import tests.test_a as a\n",
        'SCRIPT = """\nimport sys\nfrom tests.test_a import make  # noqa\n"""\n',
    ],
)
def test_an_import_of_a_test_module_is_noticed(text):
    """Absolute, relative, of the module, and in a script."""
    assert imported_tests(text) == {"test_a"}
