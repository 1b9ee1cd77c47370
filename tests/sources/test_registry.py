"""Which file is of which format, and what is passed over."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench import sources
from workbench.errors import ImportFormatError
from workbench.records import AnyRecord
from workbench.sources import heads


def log(path: Path) -> Path:
    """Write a small Inspect log under any name."""
    spec = {"eval_id": "e", "run_id": "r", "task": "t", "model": "mockllm/model"}
    path.write_text(json.dumps({"version": 2, "status": "success", "eval": spec, "samples": []}))
    return path


def test_formats_are_found_by_their_files() -> None:
    """One module per format; tables come last, since they fit most."""
    names = list(sources.sources())
    assert names == [*sorted(set(names) - {"table"}), "table"]
    assert set(names) >= {"claude-code", "codex", "evalplus", "guidellm", "inspect", "otlp"}
    for name, source in sources.sources().items():
        assert source.name == name
        assert source.title


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    """A log stays a log under another suffix."""
    found = sources.detect(log(tmp_path / "what.txt"))

    assert found is not None
    assert found.name == "inspect"


@pytest.mark.parametrize("content", [b"", b"hello", b"\0\0", b'{"a": 1}', b"PK\x03\x04nothing"])
def test_a_file_of_another_kind_is_of_no_format(tmp_path: Path, content: bytes) -> None:
    """Reading it says what was tried, and how to write a mapping."""
    path = tmp_path / "thing.dat"
    path.write_bytes(content)

    assert sources.detect(path) is None
    with pytest.raises(ImportFormatError, match=r"no known format.*pricing_reversal.*--mapping"):
        list(sources.read(path))


def test_a_folder_is_walked_in_order_without_hidden_files_and_licences(tmp_path: Path) -> None:
    """Links that lead out are not followed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    log(outside / "secret.json")
    root = tmp_path / "root"
    (root / "b").mkdir(parents=True)
    (root / ".git").mkdir()
    for name in ("b/2.json", "a.json", ".hidden.json", "LICENSE", "README.md", ".git/x.json"):
        log(root / name)
    (root / "link.json").symlink_to(outside / "secret.json")
    (root / "folder").symlink_to(outside)
    (root / "notes.txt").write_text("hello")

    found = [(os.fspath(f.path.relative_to(root)), f.source) for f in sources.detect_files(root)]

    assert [name for name, _ in found] == ["a.json", "notes.txt", "b/2.json"]
    assert [source and source.name for _, source in found] == ["inspect", None, "inspect"]


def test_a_mapping_takes_the_files_that_it_names(tmp_path: Path) -> None:
    """The others keep their own format."""
    log(tmp_path / "a.json")
    (tmp_path / "b.csv").write_text("q\n1\n")
    (tmp_path / "mine.toml").write_text('[match]\nfiles=["*.csv"]\n[columns]\nitem="q"')

    found = sources.detect_files(tmp_path, mapping=tmp_path / "mine.toml")

    kinds = {f.path.name: f.source.name if f.source else None for f in found}
    assert kinds == {"a.json": "inspect", "b.csv": "table", "mine.toml": None}


def test_nothing_at_a_path_is_an_error(tmp_path: Path) -> None:
    """Rather than an import of nothing."""
    with pytest.raises(ImportFormatError, match="neither a file nor a folder"):
        sources.detect_files(tmp_path / "none")


def test_the_registry_stays_light() -> None:
    """No format loads Arrow, YAML or inspect-ai before a file asks for it."""
    code = (
        "import sys, workbench.sources as s; s.sources();"
        "print([m for m in ('pyarrow','yaml','inspect_ai','polars','pandas') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


class WithSamples:
    """A source whose results are read with the samples beside them."""

    name = "with-samples"
    title = "results with samples"

    def detect(self, path: Path) -> bool:
        """Claim the results, and the samples too if nothing else reads them."""
        return path.suffix in {".results", ".samples"}

    def parts(self, path: Path) -> tuple[Path, ...]:
        """Return the samples of a file of results."""
        return (path.with_suffix(".samples"),) if path.suffix == ".results" else ()

    def read(self, path: Path, **_: object) -> Iterator[AnyRecord]:
        """Yield nothing."""
        del path
        yield from ()


def test_files_that_belong_together_are_read_together(tmp_path: Path) -> None:
    """A part is not imported by itself; it is if nothing reads it."""
    for name in ("a.results", "a.samples", "b.samples"):
        (tmp_path / name).write_text("{}")
    source = WithSamples()

    files = sources.detect_files(tmp_path, source=source)

    assert files == [
        (tmp_path / "a.results", source, None),
        (tmp_path / "a.samples", None, tmp_path / "a.results"),
        (tmp_path / "b.samples", source, None),
    ]


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        (b'\xef\xbb\xbf {"a": {"b": 1, "c": [{"d": "}"}]}, "e\\"f": "g: {", "h": 2}', 'a e\\"f h'),
        (b'{"a": 1}\n{"z": 2}', "a"),
        (b'{"a": "cut off', "a"),
        (b'[{"a": 1}]', ""),
        (b"a: 1", ""),
        (b"", ""),
    ],
)
def test_keys_are_those_of_the_first_object(tmp_path: Path, content: bytes, keys: str) -> None:
    """Keys of inner objects, and marks within texts, are not taken for them."""
    path = tmp_path / "file"
    path.write_bytes(content)

    assert " ".join(heads.keys(path)) == keys


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    """The head of the file before is not returned."""
    path = tmp_path / "file"
    path.write_text('{"a": 1}\n')
    before = heads.lines(path)
    path.write_text('{"a": 1}\n{"b": 2}\n')

    assert (before, heads.lines(path)) == ([{"a": 1}], [{"a": 1}, {"b": 2}])
