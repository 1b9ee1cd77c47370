"""Documents as bytes: the four formats, the files, and what hostile text must not do."""

import datetime as dt
import decimal
import json
import math

import click
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import __version__, formats, schema
from workbench.cli import output
from workbench.cli.output import Document, emit, json_text, write_file
from workbench.cli.tables import lines, markdown
from workbench.errors import WorkbenchError

FRAME = pl.DataFrame(
    {
        "model": ["a\x1b[2J|*b*", "日本", None],
        "n_traces": [1200, None, 3],
        "cost_usd": [0.00021, math.inf, math.nan],
        "passed": [True, None, False],
        "started_at": [dt.datetime(2026, 1, 2, 3, 4, 5), None, None],  # noqa: DTZ001 (stored so)
    }
)
DOCUMENT = Document.of_frame("golden", FRAME, store="x.duckdb")

TABLE = """\
model      traces  cost (USD)  passed  started
─────────  ──────  ──────────  ──────  ───────────────────
a␛[2J|*b*   1,200   $0.000210  yes     2026-01-02 03:04:05
日本            —           ∞  —       —
—               3           —  no      —
"""
MARKDOWN = r"""| model | traces | cost (USD) | passed | started |
|---|---:|---:|---|---|
| a␛\[2J\|\*b\* | 1,200 | $0.000210 | yes | 2026-01-02 03:04:05 |
| 日本 | — | ∞ | — | — |
| — | 3 | — | no | — |
"""
CSV = """\
model,n_traces,cost_usd,passed,started_at
a\x1b[2J|*b*,1200,0.00021,true,2026-01-02T03:04:05.000000
日本,,inf,,
,3,NaN,false,
"""


@pytest.mark.parametrize(
    ("format_", "golden"),
    [("table", TABLE), ("md", MARKDOWN), ("csv", CSV)],
    ids=["table", "md", "csv"],
)
def test_each_format_is_pinned(capsys, format_, golden):
    """A changed byte is a changed contract."""
    emit(DOCUMENT, format_)

    assert capsys.readouterr().out == golden


def test_json_is_one_object_unrounded_with_null_and_inf(capsys):
    """The shape of the contract: name, rows, columns, dropped, provenance."""
    emit(DOCUMENT, "json")
    found = json.loads(capsys.readouterr().out)

    assert found["name"] == "golden"
    assert [r["cost_usd"] for r in found["rows"]] == [0.00021, "inf", None]
    assert [r["n_traces"] for r in found["rows"]] == [1200, None, 3]
    assert found["rows"][0]["model"] == "a\x1b[2J|*b*"
    assert found["rows"][0]["started_at"] == "2026-01-02T03:04:05"
    assert found["columns"]["cost_usd"] == {"title": "cost", "unit": "USD"}
    assert found["dropped"] == {}
    assert found["provenance"] == {"workbench": __version__, "store": "x.duckdb"}


def test_json_takes_what_the_engine_returns():
    """Decimals are numbers, bytes are hex, intervals are seconds, lists stay lists."""
    frame = pl.DataFrame(
        {
            "d": [decimal.Decimal("0.10")],
            "b": [b"\x00\xff"],
            "l": [[1, None]],
            "i": [dt.timedelta(minutes=1)],
            "t": [dt.time(1, 2)],
            "big": [2**70],
        },
        schema_overrides={"big": pl.Int128},
    )

    (row,) = json.loads(json_text(Document("x", frame)))["rows"]

    assert row == {
        "d": 0.1,
        "b": "00ff",
        "l": [1, None],
        "i": 60.0,
        "t": "01:02:00",
        "big": 2**70,
    }


def test_csv_writes_nested_values_as_json(capsys):
    """A list in a cell does not break the file."""
    emit(Document("x", pl.DataFrame({"l": [[1, 2], None]})), "csv")

    assert capsys.readouterr().out == 'l\n"[1, 2]"\n\n'


ACTIVE = "".join(map(chr, [*range(32), *range(0x7F, 0xA0), 0x202E, 0x2066, 0x2028, 0x200B]))


@given(st.text(alphabet=st.sampled_from(ACTIVE + "ab[]|<é日🙂\\\"'"), max_size=30))
@settings(max_examples=200, deadline=None)
def test_no_cell_reaches_a_terminal_or_a_reader_alive(hostile):
    """No control, no direction override, one line a row, in tables, Markdown and JSON."""
    frame = pl.DataFrame({hostile or "x": [hostile], "other": ["y"]})
    written = [list(lines(frame, {})), list(lines(frame, {}, width=20)), list(markdown(frame, {}))]

    for text in written:
        joined = "".join(text)
        assert not any(c in joined for c in ACTIVE)
    assert len(written[0]) == 3
    assert all(line.replace("\\\\", "").replace("\\|", "").count("|") == 3 for line in written[2])
    as_json = json_text(Document("x", frame))
    assert not any(c in as_json.replace("\n", "") for c in ACTIVE if c != "\u200b")
    assert json.loads(as_json)["rows"] == frame.to_dicts()


def test_a_table_fits_a_narrow_terminal_by_cutting_text_then_by_turning():
    """Numbers are never cut; where nothing fits, a value stands on a line."""
    frame = pl.DataFrame({"name": ["x" * 100], "number": [123456]})

    cut = list(lines(frame, {}, width=40))
    turned = list(lines(frame, {}, width=15))

    assert max(map(len, cut)) <= 40
    assert "123,456" in cut[-1]
    assert cut[-1].startswith("xxx")
    assert "…" in cut[-1]
    assert turned[0] == "─ row 1"
    assert any("123,456" in line for line in turned)


def test_an_empty_table_still_has_its_head():
    """No rows is an answer too."""
    assert next(lines(pl.DataFrame({"a": []}), {})) == "a"
    assert list(lines(pl.DataFrame(), {})) == []


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".json", ".md"])
def test_a_file_is_written_whole_by_its_ending(tmp_path, capsys, suffix):
    """The data is the same as on stdout, and nothing else is left in the folder."""
    path = tmp_path / f"out{suffix}"
    emit(DOCUMENT, None, path)

    captured = capsys.readouterr()
    assert captured.out == ""
    assert str(path) in captured.err
    assert list(tmp_path.iterdir()) == [path]
    if suffix == ".parquet":
        assert pl.read_parquet(path).equals(FRAME)
    elif suffix == ".csv":
        assert path.read_bytes().decode() == CSV
    elif suffix == ".json":
        assert json.loads(path.read_text())["name"] == "golden"
    else:
        assert path.read_text() == "# golden\n\n" + MARKDOWN


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    """Half a file is worse than an old one."""
    path = tmp_path / "out.json"
    path.write_text("old")

    def full(_document):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "json_text", full)
    with pytest.raises(WorkbenchError, match="the disk is full; make room"):
        write_file(DOCUMENT, path)

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "said"), [("x.xls", "no known suffix"), ("no/x.csv", "no folder")]
)
def test_a_file_that_cannot_be_is_refused(tmp_path, name, said):
    """Misuse is told before the work is done."""
    with pytest.raises(click.BadParameter, match=said):
        output.check_output(tmp_path / name)


def test_what_was_left_out_is_said_on_stderr_and_further_tables_follow(capsys):
    """Data on stdout, talk on stderr."""
    more = {"totals": pl.DataFrame({"cost_usd": [1.5]})}
    document = Document("x", FRAME.head(1), {}, {"failed traces": 1200}, ["a note"], more)

    emit(document, "table")
    table = capsys.readouterr()
    emit(document, "csv")
    csv = capsys.readouterr()

    assert "\ntotals\n" in table.out
    assert table.err == "left out: 1,200 failed traces\nnote: a note\n"
    assert "totals" not in csv.out
    assert "for totals as well, use --format json" in csv.err


def test_two_columns_never_bear_one_head() -> None:
    """Ids lose their ending where nothing else has their name; settings stand as they were set."""
    frame = pl.DataFrame({"item": ["q1"], "item_id": ["abc"], "temperature": [0.7]})
    known = {c.name: c for c in (*schema.TABLES["items"].columns, *schema.TRACE_FACTS.columns)}

    assert schema.headings(frame.columns, known)[:2] == ["item", "item id"]
    assert schema.headings(["item_id"], known) == ["item"]
    assert formats.value_text(0.7, known["temperature"]) == "0.7"
    assert formats.value_text(0.7) != "0.7"  # a figure has its digits
