"""`workbench import`: what lands, what is said, and what a bad file leaves behind (nothing)."""

import json
import zipfile

import pytest

from tests.support import ROOT, making
from workbench.cli import main
from workbench.store import open_store

MAPPING = """
title = "test rows"
kind = "traces"
[columns]
item = "q"
model = "who"
task = "what"
passed = "ok"
output_tokens = { column = "out", optional = true }
"""
ROWS = "q,who,what,ok,out\n1,m,t,true,5\n2,m,t,false,\n"


@pytest.fixture
def mapping(tmp_path):
    """A mapping of our own."""
    path = tmp_path / "map.toml"
    path.write_text(MAPPING)
    return path


@pytest.fixture
def bring(tmp_path, capsys):
    """Import into a fresh store; returns status, the JSON document, stderr."""

    def run(*args):
        store = tmp_path / "s.duckdb"
        status = main(["import", *map(str, args), "--store", str(store), "--format", "json"])
        captured = capsys.readouterr()
        return status, json.loads(captured.out) if captured.out else {}, captured.err

    return run


def test_the_report_accounts_for_every_row_and_twice_changes_nothing(tmp_path, mapping, bring):
    """Rows in, rows out, new, already there."""
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)

    status, first, err = bring(path, "--mapping", mapping)
    assert status == 0, err
    (row,) = first["rows"]
    assert (row["rows_in"], row["rows_out"], row["new"], row["already_there"]) == (2, 2, 2, 0)

    _, second, _ = bring(path, "--mapping", mapping)
    (row,) = second["rows"]
    assert (row["rows_in"], row["new"], row["already_there"]) == (2, 0, 2)
    assert open_store(tmp_path / "s.duckdb").count() == 2


def test_a_bad_file_leaves_nothing_and_the_others_land(tmp_path, mapping, bring):
    """Exit 1, the file and the place named, one transaction a file."""
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text(ROWS)
    bad.write_text("q,who,what,ok,out\n1,m,t,true,5\n2,m,t,true,lots\n")

    status, found, err = bring(good, bad, "--mapping", mapping)

    assert status == 1
    assert [r["status"] for r in found["rows"]] == ["ok", "failed"]
    assert "bad.csv" in err
    assert open_store(tmp_path / "s.duckdb").count() == 2


def test_a_dry_run_writes_nothing(tmp_path, mapping, bring):
    """It reads, reports, and makes no store."""
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)

    status, found, _ = bring(path, "--mapping", mapping, "--dry-run")

    assert status == 0
    assert found["rows"][0]["rows_out"] == 2
    assert found["rows"][0]["new"] is None
    assert not (tmp_path / "s.duckdb").exists()


def test_a_file_of_no_known_format_fails_if_named_and_is_passed_over_in_a_folder(
    tmp_path, bring, shared_data
):
    """A folder holds other things too."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "notes.txt").write_text("hello")
    source = next((shared_data / "pricing_reversal" / "aime").glob("*.json"))
    (folder / source.name).write_bytes(source.read_bytes())

    status, found, err = bring(folder)
    assert status == 0, err
    assert sorted(r["status"] for r in found["rows"]) == ["ok", "skipped"]
    assert "of no known format: notes.txt;" in err
    assert any("tried: " in r["remark"] for r in found["more"]["remarks"])

    status, _, err = bring(folder / "notes.txt")
    assert status == 1
    assert "no known format" in err


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04trunc", b"\xff\xfe\x00", b"{", b"q,who\n1,m\n"]
)
def test_broken_files_fail_with_their_name(tmp_path, mapping, bring, content):
    """Another kind, another encoding, half a file, a missing column."""
    path = tmp_path / "broken.csv"
    path.write_bytes(content)

    status, found, err = bring(path, "--mapping", mapping)

    assert status == 1, found
    assert "broken.csv" in err
    assert open_store(tmp_path / "s.duckdb").count() == 0


def test_a_mapping_that_is_not_there_is_named(tmp_path, bring):
    """What, and where."""
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)

    status, _, err = bring(path, "--mapping", "nosuch.toml")

    assert status == 1
    assert "nosuch" in err


def test_another_store_is_merged_once(tmp_path, bring):
    """Two stores into one, twice."""
    (tmp_path / "other").mkdir()
    other = making.small_store(tmp_path / "other")

    status, found, err = bring(other.path)
    assert status == 0, err
    assert found["rows"][0]["new"] >= 31
    _, again, _ = bring(other.path)
    assert again["rows"][0]["new"] == 0
    assert open_store(tmp_path / "s.duckdb").count() == 31


def test_a_file_that_is_no_store_is_not_merged(tmp_path, bring):
    """Its ending promises one."""
    path = tmp_path / "fake.duckdb"
    path.write_bytes(b"nothing" * 1000)

    status, found, err = bring(path)

    assert status == 1
    assert found["rows"][0]["status"] == "failed"
    assert "fake.duckdb" in err


def test_an_empty_folder_has_nothing_to_import(tmp_path, bring):
    """Silence would look like success."""
    folder = tmp_path / "empty"
    folder.mkdir()

    status, _, err = bring(folder)

    assert status == 1
    assert "no file that can be imported" in err


def test_real_files_add_up_to_their_own_totals(bring, shared_data):
    """Every total that the files state agrees, in one command."""
    status, found, _ = bring(shared_data / "pricing_reversal" / "aime")

    assert status == 0
    assert (
        sum(r["rows_in"] for r in found["rows"]) == sum(r["rows_out"] for r in found["rows"]) == 480
    )
    assert all(t["agrees"] for t in found["more"]["totals"])
    assert all(r["not_adding_up"] == 0 for r in found["rows"])


def test_how_a_mapping_is_written_can_be_asked(capsys):
    """Every key, and the names of the shipped ones."""
    assert main(["import", "--mapping-help"]) == 0

    out = capsys.readouterr().out
    assert all(key in out for key in ("[metrics]", "decimal", "@null", "request_id", "aider"))


def test_a_sketch_is_printed_or_written_and_works(tmp_path, capsys):
    """Nothing is imported; the file that was written is a mapping."""
    path = tmp_path / "rows.csv"
    path.write_text("id,model,passed\n1,m,true\n")
    assert main(["import", str(path), "--sketch"]) == 0
    printed = capsys.readouterr().out

    assert main(["import", str(path), "--sketch", "-o", str(tmp_path / "mine.toml")]) == 0

    assert (tmp_path / "mine.toml").read_text() == printed
    options = ["--mapping", str(tmp_path / "mine.toml"), "--dry-run"]
    assert main(["import", str(path), *options]) == 0
    assert main(["import", str(tmp_path), "--sketch"]) == 2


def test_rows_that_cannot_be_read_are_passed_over_on_request_and_named(tmp_path, mapping, bring):
    """All or nothing by default; else the others land, and the report has the line."""
    path = tmp_path / "rows.csv"
    path.write_text("q,who,what,ok,out\n1,m,t,true,5\n2,m,t,true,lots\n3,m,t,true,6\n")
    assert bring(path, "--mapping", mapping)[0] == 1

    _, found, err = bring(path, "--mapping", mapping, "--skip-bad-rows")

    (row,) = found["rows"]
    assert (row["rows_in"], row["rows_out"], row["new"], row["skipped"]) == (3, 2, 2, 1)
    assert "line 3, column 'out': 'lots' is not a value of type int" in err
    assert open_store(tmp_path / "s.duckdb").count() == 2


def _log(path, *ids, version=2, stated=None, accuracy=None):
    """An Inspect log of samples that are all right."""
    listed = range(len(ids) if stated is None else stated)
    metrics = {} if accuracy is None else {"accuracy": {"value": accuracy}}
    header = {
        "version": version,
        "status": "success",
        "eval": {"task": "t", "model": "m", "eval_id": path.stem},
        "results": {"scores": [{"name": "match", "metrics": metrics}]},
    }
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("header.json", json.dumps(header))
        zipped.writestr("summaries.json", json.dumps([{"id": n} for n in listed]))
        for id in ids:
            sample = {"id": id, "input": "q", "scores": {"match": {"value": "C"}}}
            zipped.writestr(f"samples/{id}_epoch_1.json", json.dumps(sample))
    return path


@pytest.mark.parametrize(
    ("given", "word", "said"),
    [
        ({"ids": "ab"}, "ok", ""),
        ({"ids": "ab", "stated": 5}, "differs", "samples in the summaries: 5 stated, 2 found"),
        ({"ids": "", "stated": 5}, "partial", "samples in the summaries: 5 stated, 0 found"),
        ({"ids": "", "stated": 0}, "partial", "neither samples nor metrics"),
        ({"ids": "ab", "accuracy": 0.5}, "differs", "accuracy of match: 0.5 stated, 1 found"),
        ({"ids": "ab", "version": 9}, "partial", "version 9"),
    ],
    ids=["all in", "some listed", "none of 5", "empty", "another mean", "unknown version"],
)
def test_ok_means_ok(tmp_path, bring, given, word, said):
    """The status of the file, the exit status, and the last line tell the truth."""
    path = _log(tmp_path / "log.eval", *given.pop("ids"), **given)

    status, document, err = bring(path)

    assert document["rows"][0]["status"] == word
    assert status == (word != "ok")
    assert said in err
    last = err.splitlines()[-1]
    assert last.startswith(f"1 {word}")
    assert ("not everything was imported" in last or "nothing was imported" in last) == (
        word != "ok"
    )


def test_what_is_partly_in_can_be_allowed(tmp_path, bring):
    """The exit status is 0 then, and the last line says why; nothing at all is not allowed."""
    log = _log(tmp_path / "log.eval", "a", stated=3)
    nothing = tmp_path / "nothing.eval"
    nothing.write_bytes(b"PK no zip")

    assert bring(log, nothing)[0] == 1
    status, _, err = bring(log, nothing, "--allow-partial")
    assert status == 0
    assert (
        err.splitlines()[-1]
        == "1 differs, 1 failed; not everything was imported, which --allow-partial accepts"
    )
    assert bring(nothing, "--allow-partial")[0] == 1


def test_rows_passed_over_as_asked_are_no_failure(tmp_path, mapping, bring):
    """But the file is partial, which is said; rows that contradict themselves are counted."""
    path = tmp_path / "rows.csv"
    path.write_text(ROWS + "3,m,t,true,many\n")

    assert bring(path, "--mapping", mapping)[0] == 1
    status, document, err = bring(path, "--mapping", mapping, "--skip-bad-rows")

    assert (status, document["rows"][0]["status"]) == (0, "partial")
    assert err.splitlines()[-1] == "1 partial"


def test_how_nulls_were_counted_is_in_the_document(tmp_path, bring):
    """Beside the two figures."""
    path = _log(tmp_path / "log.eval", "a", accuracy=1.0)
    with zipfile.ZipFile(path, "a") as zipped:
        sample = {"id": "b", "input": "q", "scores": {"match": {"value": None}}}
        zipped.writestr("samples/b_epoch_1.json", json.dumps(sample))

    _, document, _ = bring(path)

    mean = next(t for t in document["more"]["totals"] if t["total"] == "accuracy of match")
    assert (mean["found"], mean["nulls"]) == (1.0, "1 without a value left out")


def test_the_mapping_in_the_readme_is_read(tmp_path, bring):
    """Percentages, and a metric on a scale of its own."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    mapping, table = tmp_path / "my.toml", tmp_path / "results.csv"
    mapping.write_text(readme.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    table.write_text(
        "model;benchmark;question_id;points;cost;judge\nm;b;q1;95,5;0,01;7,5\nm;b;q2;100;0,02;9\n"
    )
    status, *_ = bring(table, "--mapping", mapping)
    assert status == 0
    rows = open_store(tmp_path / "s.duckdb").sql(
        "SELECT t.item, t.score, t.passed, billed_cost_usd, metric"
        " FROM trace_details t JOIN scores USING (trace_id) WHERE scorer = 'rubric' ORDER BY 1"
    )
    assert rows.rows() == [
        ("q1", pytest.approx(0.955), False, 0.01, 7.5),
        ("q2", 1.0, True, 0.02, 9.0),
    ]


def test_many_skipped_files_are_counted_and_not_listed(tmp_path, mapping, capsys):
    """A folder of results holds hundreds of other files; JSON names them all."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number in range(30):
        (folder / f"note{number:02}.txt").write_text("hello")
    (folder / "table.csv").write_text(ROWS)
    words = ["import", str(folder), "--store", str(tmp_path / "s.duckdb")]
    main(words)
    out, err = capsys.readouterr()
    assert "note07.txt" not in out
    assert "30 skipped" in err or "31 skipped" in err
    main([*words, "--format", "json"])
    assert "note07.txt" in capsys.readouterr().out
