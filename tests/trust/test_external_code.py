"""Code that was trusted runs nothing else, whatever is put beside it afterwards."""

import os
import py_compile
import shutil
import sys
import textwrap
from pathlib import Path

import pytest

from workbench.errors import ConfigError
from workbench.external_code import locate
from workbench.trust import check_unchanged, load_trusted, to_run

MINE = "def f(): return 1\n"
EVIL = "from pathlib import Path\nPath(__file__).parents[1].joinpath('ran').touch()\nf = print\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A stranger's folder; Python's path and modules are put back afterwards."""
    modules = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    place = tmp_path / "strange"
    place.mkdir()
    yield place
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def put(folder: Path, files: dict[str, str]) -> None:
    """Write files; a text that begins with "->" is the target of a link."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("->"):
            path.symlink_to(text[2:])
        else:
            path.write_text(textwrap.dedent(text))


def digest(folder: Path, name: str = "mine.py:f") -> str:
    return to_run(locate("scorer", name, [folder], kind="function")).digest


ADDED = {  # what there is, and what is added or changed of which the code makes use
    "the file is a link to another suffix": (
        {"mine.py": "->real.txt", "real.txt": "import helper\n" + MINE, "helper.py": ""},
        "helper.py",
    ),
    "the file is a link to a text named as machine code": (
        {"mine.py": "->real.so", "real.so": "import helper\n" + MINE, "helper.py": ""},
        "helper.py",
    ),
    "a neighbour is a link to another suffix": (
        {"mine.py": "import a\n" + MINE, "a.py": "->a.dat", "a.dat": "import b", "b.py": ""},
        "b.py",
    ),
    "a module of a package is a link": (
        {
            "mine.py": "import pkg.mod\n" + MINE,
            "pkg/__init__.py": "",
            "pkg/mod.py": "->../other/mod.py",
            "other/mod.py": "try:\n    from . import late\nexcept ImportError: pass\n",
        },
        "pkg/late.py",
    ),
    "a package is a linked folder": (
        {
            "mine.py": "import deep.pkg.mod\n" + MINE,
            "deep/__init__.py": "",
            "deep/pkg": "->../other/pkg",
            "other/pkg/__init__.py": "",
            "other/pkg/mod.py": "try:\n    from .. import late\nexcept ImportError: pass\n",
        },
        "deep/late.py",
    ),
    "everything of a package": (
        {"mine.py": "from pkg import *\n" + MINE, "pkg/__init__.py": "__all__ = ['sub']"},
        "pkg/sub/__init__.py",
    ),
    "everything of a package that is within it": (
        {
            "mine.py": "from pkg import *\n" + MINE,
            "pkg/__init__.py": "__all__ = ['sub']",
            "pkg/sub/__init__.py": "from . import late",
            "pkg/sub/late.py": "",
        },
        "pkg/sub/late.py",
    ),
    "a call that imports": (
        {"mine.py": "import importlib\nimportlib.import_module('late')\n" + MINE, "late.py": ""},
        "late.py",
    ),
    "a call that imports from its package": (
        {
            "mine.py": "import pkg\n" + MINE,
            "pkg/__init__.py": "from importlib import import_module as i, import_module\n"
            "import_module('.late', __name__)\n",
            "pkg/late.py": "",
        },
        "pkg/late.py",
    ),
    "a folder that becomes a package": (
        {"mine.py": "import space.mod\n" + MINE, "space/mod.py": ""},
        "space/__init__.py",
    ),
}


@pytest.mark.parametrize(("files", "late"), ADDED.values(), ids=ADDED)
def test_what_the_code_would_run_is_asked_for_again_when_it_changes(folder, files, late):
    """Python imports by the names of links, not by what they point to; so does the look."""
    put(folder, files)
    before = digest(folder)
    (folder / late).parent.mkdir(exist_ok=True)

    (folder / late).write_text(EVIL)

    assert digest(folder) != before


UNSEEN = {
    "a name that is made": "import importlib\nimportlib.import_module('la' + 'te')\n",
    "everything of a deep name": "from pkg import *\n",
    "a statement that is made": "exec('import ' + 'late')\n",
}


@pytest.mark.parametrize("source", UNSEEN.values(), ids=UNSEEN)
def test_a_file_that_was_not_hashed_cannot_be_imported(folder, source):
    """However it comes to be named; the message says why, and what to do."""
    put(
        folder,
        {
            "mine.py": source + MINE,
            "late.py": EVIL,
            "pkg/__init__.py": "__all__ = ['sub.late']",
            "pkg/sub/late.py": EVIL,
        },
    )

    with pytest.raises(ConfigError, match=r"late\.py is not among the files|no .*'sub\.late'"):
        load_trusted("scorer", "mine.py:f", [folder], kind="function", trust=True)
    assert not list(folder.parent.rglob("ran"))


def test_a_neighbour_that_the_parser_gives_up_on_is_refused(folder):
    """What it imports is not known; whether Python gives up as well depends on the stack."""
    deep = f"import late\nx = {'-' * 2_000_000}1\n"
    put(folder, {"mine.py": "import deep\n" + MINE, "deep.py": deep})

    with pytest.raises(ConfigError, match=r"deep\.py cannot be read before it is run: too deeply"):
        digest(folder)


def test_code_of_the_users_own_may_import_by_names_that_are_made(folder):
    """What is typed is not asked for, so nothing of its folder has to be known before."""
    put(folder, {"mine.py": UNSEEN["a name that is made"] + MINE, "late.py": "x = 1"})

    found = load_trusted("scorer", "mine.py:f", [folder], kind="function", is_typed=True)

    assert found() == 1


def test_code_of_one_folder_does_not_find_what_is_added_to_another(folder):
    """A plan that names code of two folders offers both to Python."""
    tries = "try:\n    import optional_part\nexcept ImportError:\n    pass\n"
    put(folder, {"p/mine.py": MINE, "lib/b.py": tries + MINE, "p/optional_part.py": EVIL})
    places = ("mine.py:f", "../lib/b.py:f")

    for name in places:
        load_trusted("scorer", name, [folder / "p"], kind="function", trust=True)

    assert "optional_part" not in sys.modules
    assert not (folder / "ran").exists()


def test_what_was_hashed_is_what_runs(folder):
    """A file that is changed between the last look and the import is not read again."""
    put(folder, {"mine.py": "import aid\ndef f(): return aid.WORD\n", "aid.py": "WORD = 'good'"})
    code = locate("scorer", "mine.py:f", [folder], kind="function")
    check_unchanged(code, to_run(code))

    put(folder, {"mine.py": EVIL, "aid.py": "WORD = 'evil'"})

    assert code.load("function")() == "good"


def test_a_module_on_the_path_is_hashed_with_its_packages_and_run_from_source(folder, monkeypatch):
    """Python imports it, so its parents run as well; bytecode beside it is not used."""
    put(folder, {"around/__init__.py": "", "around/part.py": "from . import aid\n" + MINE})
    put(folder, {"around/aid.py": "WORD = 1"})
    monkeypatch.syspath_prepend(str(folder))
    before = to_run(locate("scorer", "around.part:f", [])).digest
    good = folder / "around" / "aid.py"
    times = good.stat().st_atime, good.stat().st_mtime
    good.write_text("OTHER= 2")
    os.utime(good, times)
    py_compile.compile(str(good))
    good.write_text("WORD = 1")
    os.utime(good, times)

    load_trusted("scorer", "around.part:f", [], kind="function", trust=True)
    assert sys.modules["around.aid"].WORD == 1

    (folder / "around" / "__init__.py").write_text("x = 1")
    assert to_run(locate("scorer", "around.part:f", [])).digest != before


def test_a_compiled_module_that_changed_is_not_loaded(folder):
    """It is compared just before the system loads it."""
    import _csv

    suffix = ".cpython" + _csv.__file__.partition(".cpython")[2]
    put(folder, {"mine.py": "def f():\n    import _csv2\n    return _csv2\nimport sys\n"})
    shutil.copy(_csv.__file__, folder / f"_csv2{suffix}")
    run = load_trusted("scorer", "mine.py:f", [folder], kind="function", trust=True)

    (folder / f"_csv2{suffix}").write_bytes(b"\x7fELF")

    with pytest.raises(ImportError, match="was changed after it was looked at"):
        run()


@pytest.mark.parametrize(
    ("source", "sign"),
    [
        ("exec(open('data.txt').read())", "exec at mine.py:1"),
        ("\nimport sys\nsys.path.insert(0, 'lib')", "sys.path at mine.py:3"),
        ("from subprocess import run", "subprocess.run at mine.py:1"),
        ("import pickle\npickle.load(open('x', 'rb'))", "pickle.load at mine.py:2"),
        ("import importlib\nimportlib.import_module(f'x{1}')", "import_module at mine.py:2"),
        ("import ctypes\nctypes.CDLL('./x.so')", "CDLL at mine.py:2"),
        ("model.eval()\nimport re\nre.compile('x')", None),
        ("import importlib\nimportlib.import_module('json')", None),
    ],
)
def test_the_question_names_what_a_hash_cannot_hold(folder, source, sign):
    """Such code may run files that change without a question."""
    put(folder, {"mine.py": f"{source}\n{MINE}"})

    sentence = to_run(locate("scorer", "mine.py:f", [folder])).sentence

    words = "may also run files that are not asked about when they change"
    assert (words in sentence) == (sign is not None)
    assert sign is None or sign in sentence
