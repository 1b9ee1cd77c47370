"""Rules of the tree that no linter holds: imports of tests, reasons of pragmas, long lines."""

import ast
import io
import re
import tokenize
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


PRAGMA = re.compile(
    r"(?:noqa(?:: [A-Z]+\d+(?:, ?[A-Z]+\d+)*)?|type: ignore(?:\[[\w-]+(?:, ?[\w-]+)*\])?"
    r"|pragma: no (?:cover|branch))"
)
SKIPS = {"skip", "skipif", "xfail", "importorskip"}


def listed(*suffixes: str) -> list[Path]:
    """Files of the project with these suffixes."""
    folders = (
        ROOT / name for name in (".ci", "data", "notebooks", "tests", "widgets", "workbench")
    )
    return [f for folder in folders for f in sorted(folder.rglob("*")) if f.suffix in suffixes]


def bare_pragmas(text: str) -> list[int]:
    """Lines whose pragma has no reason: neither behind it nor as a comment on the line above."""
    if not PRAGMA.search(text):
        return []
    lines, bare = text.splitlines(), []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT or not PRAGMA.search(token.string):
            continue
        row = token.start[0]
        above = lines[row - 2].strip() if row > 1 else ""
        reason = PRAGMA.sub("", token.string)
        if not re.search(r"[a-z]{2}|\w+\(", reason, re.IGNORECASE) and not above.startswith("#"):
            bare.append(row)
    return bare


def bare_skips(text: str) -> list[int]:
    """Lines that skip a test, or expect its failure, without a reason."""
    if not any(name in text for name in SKIPS):
        return []
    return [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in SKIPS
        and "pytest" in ast.unparse(node.func)
        and not any(k.arg == "reason" for k in node.keywords)
        and not (node.func.attr == "skip" and node.args)
    ]


def test_every_pragma_and_skip_has_its_reason():
    """`noqa`, `type: ignore`, `pragma: no cover` and skipped tests say beside them why."""
    files = listed(".py")
    texts = {f: f.read_text(encoding="utf-8") for f in files}

    bare = {
        f"{file.relative_to(ROOT)}:{row}"
        for file, text in texts.items()
        for row in bare_pragmas(text) + bare_skips(text)
    }

    assert bare == set()
    assert len(files) > 700, "where has the tree gone?"


@pytest.mark.parametrize(
    ("text", "is_bare"),
    [
        ("x = 1  # noqa: E501\n", True),
        ("x = 1  # noqa\n", True),
        ("x = f()  # type: ignore[arg-type]\n", True),
        ("if x:  # pragma: no cover\n    pass\n", True),
        ("x = 1  # noqa: E501, B008\n", True),
        ("x = 1  # noqa: E501 (a table)\n", False),
        ("x = f()  # type: ignore[arg-type]  # of integers\n", False),
        ("# the server's own name\nx = 1  # noqa: N815\n", False),
        ("x = '# noqa: E501'\n", False),
    ],
)
def test_a_pragma_without_reason_is_noticed(text, is_bare):
    """Behind the pragma, or on the line above; texts of strings do not count."""
    assert bool(bare_pragmas(text)) == is_bare


@pytest.mark.parametrize(
    ("text", "is_bare"),
    [
        ("pytest.importorskip('torch')\n", True),
        ("pytest.skip()\n", True),
        ("x = pytest.mark.skipif(True)\n", True),
        ("pytest.skip('no compiler')\n", False),
        ("pytest.importorskip('torch', reason='local models need torch')\n", False),
    ],
)
def test_a_skip_without_reason_is_noticed(text, is_bare):
    """The report of skipped tests is read by people."""
    assert bool(bare_skips(text)) == is_bare


def test_no_line_is_longer_than_100_columns():
    """Also scripts and styles, which ruff does not read, and pragmas, which it allows."""
    files = listed(".py", ".js", ".css", ".tcss")

    long = {
        f"{file.relative_to(ROOT)}:{n}"
        for file in files
        for n, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 100
    }

    assert long == set()
