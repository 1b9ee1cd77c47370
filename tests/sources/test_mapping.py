"""The mapping language beyond plain columns: what each part refuses, and the cases between."""

import json
from pathlib import Path

import pytest

from workbench import sources
from workbench.errors import ImportFormatError
from workbench.records import Configuration, Item, Run, Trace
from workbench.sources import FileReport
from workbench.sources.tables.paths import MISSING, file_names, lookup, row_steps, steps
from workbench.store import open_store

BASE = '[constants]\ntask = "t"\nmodel = "m"\n[columns]\nitem = "id"\n'


def load(
    folder: Path, rows: object, text: str, name: str = "rows.json", *, skip: bool = False
) -> tuple[list, FileReport]:
    """Import rows, as JSON or as the text that they are, with a mapping."""
    path = folder / name
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    mapping = folder / "mine.toml"
    mapping.write_text(text)
    report = FileReport(path, skip_bad_rows=skip)
    return list(sources.read(path, report=report, mapping=mapping)), report


def of(records: list, kind: type) -> list:
    return [r for r in records if isinstance(r, kind)]


def answers(records: list) -> list:
    """Item and answer of each trace."""
    names = {i.item_id: i.item for i in of(records, Item)}
    return [(names[t.item_id], t.answer) for t in of(records, Trace)]


# -- paths ---------------------------------------------------------------------------------------

ROW = {
    "a": {"b": [{"c": 1}, {"c": 2}]},
    "a.b": "dotted",
    "x[0]": "bracket",
    "text": '{"n": [5, {"k": null}]}',
    "python": '{"n": NaN}',
    "prose": "{not json",
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.b[0].c", 1),
        ("a.b[-1].c", 2),
        ("a.b", "dotted"),
        ("x[0]", "bracket"),
        ("text.n[0]", 5),
        ("text.n[1].k", None),
        ("python.n", None),
        ("prose.n", MISSING),
        ("a.b[2].c", MISSING),
        ("a.b[-3].c", MISSING),
        ("a.b[x]", MISSING),
        ("a[0]", MISSING),
        ("nothing.at.all", MISSING),
        ("", MISSING),
    ],
)
def test_a_path_leads_to_a_cell(path: str, expected: object) -> None:
    """A column of that whole name has precedence; a text is read as JSON."""
    assert lookup(ROW, path) == expected or lookup(ROW, path) is expected


def test_the_steps_of_paths() -> None:
    """Names, indexes, every element, every key."""
    assert steps("a.b[0][-1].c") == ("a", "b", 0, -1, "c")
    assert row_steps("a[].{k}.b[0][]") == ("a", "[]", ("k",), "b", 0, "[]")
    with pytest.raises(ValueError, match="no step"):
        row_steps("a[x]")
    with pytest.raises(ValueError, match="32 steps"):
        row_steps("a" + "[]" * 40)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.json", "x/a.json", {}),
        ("*.json", "x/a.csv", None),
        ("{m}__{n}.json", "x/gpt-5__3.json", {"m": "gpt-5", "n": "3"}),
        ("{m}/{n}.json", "y/x/a.json", {"m": "x", "n": "a"}),
        ("{m}/*.json", "a.json", None),
        ("[ab]{m}.json", "x/b1.json", {"m": "1"}),
        ("{m}+(x).json", "x/a+(x).json", {"m": "a"}),
    ],
)
def test_braces_name_parts_of_a_file_name(
    pattern: str, path: str, expected: dict[str, str] | None
) -> None:
    """Everything else is a glob."""
    assert file_names(pattern, Path(path)) == expected


# -- rows ----------------------------------------------------------------------------------------

SERVED = {
    "model": "m",
    "benchmarks": [
        {"rate": 1, "requests": {"successful": [{"id": "a", "out": 1}, {"id": "b", "out": 2}]}},
        {"rate": 2, "requests": {"successful": None}},
        {"rate": 3},
        {"rate": 4, "requests": {"successful": [{"id": "c", "out": 3}]}},
    ],
}
SERVED_MAPPING = """
rows = "benchmarks[].requests.successful[]"
[constants]
task = "load"
[columns]
item = "id"
model = "^model"
output_tokens = "out"
[settings]
rate = "^rate"
"""


@pytest.mark.parametrize("suffix", ["json", "yaml", "jsonl"])
def test_rows_lie_in_lists_of_lists_and_see_what_is_around_them(
    tmp_path: Path, suffix: str
) -> None:
    """A list that is null or not there holds no rows, which the report says."""
    records, report = load(tmp_path, SERVED, SERVED_MAPPING, f"rows.{suffix}")

    rates = {c.configuration_id: json.loads(c.settings)["rate"] for c in of(records, Configuration)}
    found = [(rates[t.configuration_id], t.calls[0].output_tokens) for t in of(records, Trace)]
    assert found == [(1, 1), (1, 2), (4, 3)]
    assert report.notes["places on the path to the rows that hold none"] == 2
    assert report.is_accounted_for


@pytest.mark.parametrize(
    ("rows", "path", "parts"),
    [
        ({"a": {"b": 1}}, "a.b[]", ["a.b", "needs a list", "there is 1"]),
        ({"a": [1]}, "a.{k}", ["a", "needs an object", "a list of 1", "use []"]),
        ({"a": {"x": []}}, "a[]", ["an object with x", "{name}"]),
        ({"a": [{"b": 3}]}, "a[].b[]", ["a[0].b", "needs a list", "there is 3"]),
        ({"b": []}, "a[]", ["no 'a'", "it has b"]),
        ({"a": [[]]}, "a[5][]", ["[5]", "a list of 1"]),
    ],
)
def test_a_path_to_no_rows_says_where_it_ends_and_what_is_there(
    tmp_path: Path, rows: object, path: str, parts: list[str]
) -> None:
    """The file, the place, what was needed, what stood there."""
    with pytest.raises(ImportFormatError) as caught:
        load(tmp_path, rows, f'rows = "{path}"\n{BASE}')

    for part in ["rows.json", *parts]:
        assert part in str(caught.value)


def test_a_plain_path_may_lead_to_one_row(tmp_path: Path) -> None:
    """An object is one row, a list is its rows."""
    one, _ = load(tmp_path, {"a": {"id": "x", "r": "1"}}, f'rows = "a"\n{BASE}answer = "r"')
    more, _ = load(tmp_path, {"a": [{"id": "x", "r": "1"}]}, f'rows = "a"\n{BASE}answer = "r"')

    assert answers(one) == answers(more) == [("x", "1")]


def test_rows_within_a_cell_of_csv(tmp_path: Path) -> None:
    """A text that is JSON is unfolded as JSON is; the cells of the line are beside it."""
    text = 'who,samples\nm1,"[{""id"": 1}, {""id"": 2}]"\nm2,\n'
    mapping = 'rows = "samples[]"\n[constants]\ntask = "t"\n[columns]\nitem = "id"\nmodel = "^who"'

    records, report = load(tmp_path, text, mapping, "rows.csv")

    assert [i.item for i in of(records, Item)] == ["1", "2"]
    assert [c.model for c in of(records, Configuration)] == ["m1"]
    assert report.rows_in == 2


# -- wide tables ---------------------------------------------------------------------------------


def test_a_path_that_no_line_has_is_refused(tmp_path: Path) -> None:
    """An import of nothing would look like a success."""
    with pytest.raises(ImportFormatError, match=r"'smaples\[\]' leads to no row; line 1 has id"):
        load(tmp_path, '{"id": 1}\n', f'rows = "smaples[]"\n{BASE}', "rows.jsonl")


def test_values_of_a_wide_table_may_be_listed(tmp_path: Path) -> None:
    """Where the columns have nothing in common."""
    text = 'unpivot = { who = ["gpt", "opus"] }\n[constants]\ntask = "t"\n'
    text += '[columns]\nitem = "id"\nmodel = "@who"\nscore = "{who}"'

    records, report = load(tmp_path, [{"id": "a", "gpt": 1, "opus": 0}], text)

    models = {c.configuration_id: c.model for c in of(records, Configuration)}
    found = [(models[t.configuration_id], t.score) for t in of(records, Trace)]
    assert found == [("gpt", 1.0), ("opus", 0.0)]
    assert report.notes == {}


def test_a_pattern_that_no_column_fits_is_refused(tmp_path: Path) -> None:
    """With the columns that there are."""
    text = 'unpivot = "{who}_score"\n[constants]\ntask = "t"\n'
    text += '[columns]\nitem = "id"\nmodel = "@who"\nscore = "{who}_score"'
    with pytest.raises(ImportFormatError, match=r"\[0\].*no column fits.*id, other"):
        load(tmp_path, [{"id": "a", "other": 1}], text)


# -- conditions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('s = "x"', "ab"),
        ('s = ["x", "y"]', "abc"),
        ("n = 1", "ac"),
        ("n = { min = 2 }", "b"),
        ("n = { max = 1 }", "ac"),
        ('s = { not = "x" }', "cd"),
        ('s = { not = ["x", "@null"] }', "c"),
        ('s = "@null"', "d"),
        ("flag = true", "a"),
        ('"deep.k" = "v"', "b"),
        ('s = "x"\nn = { min = 1, max = 1 }', "a"),
        ('gone = "@null"', "abcd"),
    ],
)
@pytest.mark.parametrize("suffix", ["json", "csv"])
def test_conditions_choose_rows(tmp_path: Path, condition: str, expected: str, suffix: str) -> None:
    """Equal, one of, none of, within bounds; numbers are compared as numbers."""
    rows: object = [
        {"id": "a", "s": "x", "n": 1, "flag": True},
        {"id": "b", "s": "x", "n": 2.0, "flag": False, "deep": {"k": "v"}},
        {"id": "c", "s": "y", "n": 1.0, "flag": None},
        {"id": "d", "s": None, "n": None, "flag": None},
    ]
    if suffix == "csv":
        rows = (
            'id,s,n,flag,deep\na,x,1,True,\nb,x,2.0,false,"{""k"": ""v""}"\nc,y,1.0,,\nd,,n/a,,\n'
        )

    records, report = load(tmp_path, rows, f"[where]\n{condition}\n{BASE}", f"rows.{suffix}")

    assert "".join(i.item for i in of(records, Item)) == expected
    left_out = report.notes["rows that [where] leaves out"]
    assert (report.rows_in, left_out) == (len(expected), 4 - len(expected))


def test_a_bound_on_a_text_is_refused_with_row_and_text(tmp_path: Path) -> None:
    """Or the row is skipped, where that is asked for."""
    rows = [{"id": "a", "n": "many"}, {"id": "b", "n": 3}]
    text = f"[where]\nn = {{ min = 1 }}\n{BASE}"
    with pytest.raises(ImportFormatError, match=r"\[0\], \[where\] 'n': 'many' is no number"):
        load(tmp_path, rows, text)

    records, report = load(tmp_path, rows, text, skip=True)

    assert [i.item for i in of(records, Item)] == ["b"]
    assert report.is_accounted_for


# -- cells ---------------------------------------------------------------------------------------


def test_the_first_known_cell_counts_and_then_the_default(tmp_path: Path) -> None:
    """Each with its own conversion; a default is in the store's unit."""
    rows = [{"id": 1, "a": "n/a", "b": 1500}, {"id": 2, "a": 250}, {"id": 3, "b": None}]
    text = f'{BASE}e2e_s = {{ column = ["a", "b"], unit = "ms", default = 9 }}'

    records, _ = load(tmp_path, rows, text)

    assert [t.e2e_s for t in of(records, Trace)] == [1.5, 0.25, 9.0]


def test_a_list_of_columns_needs_one_of_them(tmp_path: Path) -> None:
    """A slip in all names is a slip."""
    with pytest.raises(ImportFormatError, match="answer = 'reply'"):
        load(tmp_path, [{"id": 1}], f'{BASE}answer = {{ column = ["reply", "text"] }}')


def test_joined_texts_are_unknown_if_a_part_is(tmp_path: Path) -> None:
    """So that no key is made of half of its parts."""
    rows = [{"id": 1, "a": "x", "b": 2.0}, {"id": 2, "a": "x", "b": None}]

    records, _ = load(tmp_path, rows, f'{BASE}answer = {{ join = ["a", "b"], separator = "-" }}')

    assert [t.answer for t in of(records, Trace)] == ["x-2", None]


def test_times_have_units(tmp_path: Path) -> None:
    """A number that is small for a date is one where the unit is said; an end gives a duration."""
    rows = [{"id": 1, "at": 5000, "to": 7500}]
    text = 'started_at = { column = "at", unit = "ms" }\nended_at = { column = "to", unit = "ms" }'

    [trace] = of(load(tmp_path, rows, f"{BASE}{text}")[0], Trace)

    assert trace.started_at.isoformat() == "1970-01-01T00:00:05+00:00"
    assert trace.e2e_s == 2.5


@pytest.mark.parametrize("value", [1e300, -1e300, 10**400, "x", True])
def test_a_number_that_is_no_time_is_refused(tmp_path: Path, value: object) -> None:
    """With its place."""
    text = f'{BASE}started_at = {{ column = "at", unit = "s" }}'
    with pytest.raises(ImportFormatError, match=r"rows\.json"):
        load(tmp_path, [{"id": 1, "at": value}], text)


# -- traces of several rows ----------------------------------------------------------------------

LOG = f"""{BASE}trace = "run"
started_at = "at"
e2e_s = "s"
output_tokens = {{ column = "out", optional = true }}
output = {{ column = "text", optional = true }}
answer = {{ column = "text", optional = true }}
passed = {{ column = "ok", optional = true }}
error_type = {{ column = "error", optional = true }}
"""


def call(run: str, at: int, **more: object) -> dict[str, object]:
    return {"id": "q", "run": run, "at": f"2026-10-01T10:00:{at:02d}Z", "s": 1, **more}


def test_calls_of_a_trace_are_in_the_order_of_their_times(tmp_path: Path) -> None:
    """Whatever the order of rows; rows of other traces may lie between."""
    rows = [
        call("a", 9, out=3, text="third", ok=True),
        call("b", 1, out=7, text="alone", ok=False, error="crash"),
        call("a", 2, out=1, text="first", error="retry"),
        call("a", 5, out=2, text="second"),
    ]

    records, report = load(tmp_path, rows, LOG)

    a, b = of(records, Trace)
    assert [(c.ordinal, c.output_tokens) for c in a.calls] == [(0, 1), (1, 2), (2, 3)]
    assert [(m.text, m.call_ordinal) for m in a.messages] == [
        ("first", 0),
        ("second", 1),
        ("third", 2),
    ]
    assert (a.e2e_s, a.answer, a.passed, a.error_type, a.n_turns) == (8.0, "third", True, None, 3)
    assert (b.answer, b.passed, b.error_type) == ("alone", False, "crash")
    assert report.is_accounted_for


def test_a_file_that_has_grown_gives_the_same_traces_and_what_is_new(tmp_path: Path) -> None:
    """Their id is of what they are, not of the file."""
    rows = [call("a", 1, out=1), call("a", 2, out=2), call("b", 3, out=3)]
    before, _ = load(tmp_path, rows[:1], LOG)
    after, _ = load(tmp_path, rows, LOG, "other.json")

    [first], [again, other] = of(before, Trace), of(after, Trace)
    assert first.trace_id == again.trace_id != other.trace_id
    assert of(before, Run)[0].run_id != of(after, Run)[0].run_id


@pytest.mark.parametrize("has_times", [True, False])
def test_a_store_takes_what_a_file_has_grown_by(tmp_path: Path, has_times: bool) -> None:
    """More calls of a trace that it has, and other traces; the shorter file changes nothing."""
    text = f'{BASE}trace = "run"\noutput_tokens = "out"\n'
    text += 'started_at = "at"\ne2e_s = "s"\n' if has_times else ""
    rows = [call("a", 1, out=1), call("a", 2, out=2), call("b", 3, out=3)]
    store = open_store(tmp_path / "traces.duckdb", create=True)

    for n, name in ((1, "short.json"), (3, "long.json"), (1, "short.json"), (3, "long.json")):
        store.ingest(load(tmp_path, rows[:n], text, name)[0])

    query = "SELECT n_calls, output_tokens FROM trace_facts ORDER BY output_tokens, n_calls DESC"
    assert store.sql(query).rows() == [(2, 3), (1, 3)]


def test_equal_ids_that_began_at_another_time_are_other_traces(tmp_path: Path) -> None:
    """Two logs may both count from 1."""
    [one] = of(load(tmp_path, [call("1", 1)], LOG)[0], Trace)
    [other] = of(load(tmp_path, [call("1", 2)], LOG, "other.json")[0], Trace)

    assert one.trace_id != other.trace_id


TOOLS = f"""{LOG}
[tool_calls]
tool = "tool"
arguments = "args"
result = "result"
error_type = "fault"
e2e_s = {{ column = "ms", unit = "ms" }}
started_at = "at"
"""


def test_a_row_with_a_tool_is_a_tool_call_of_the_call_before_it(tmp_path: Path) -> None:
    """With result, error and times; it is no call of a model."""
    rows = [
        call("a", 1, out=1),
        {"run": "a", "at": "2026-10-01T10:00:03Z", "tool": "sh", "args": {"c": "ls"}}
        | {"result": "böse", "fault": "exit 1", "ms": 1500},
        call("a", 6, out=2, ok=True),
    ]

    records, report = load(tmp_path, rows, TOOLS)

    [trace] = of(records, Trace)
    [tool] = trace.tool_calls
    assert (tool.tool, tool.arguments, tool.call_ordinal) == ("sh", '{"c":"ls"}', 0)
    assert (tool.result_bytes, tool.error_type, tool.e2e_s) == (5, "exit 1", 1.5)
    assert [(m.role, m.kind, m.text, m.tool_call_ordinal) for m in trace.messages] == [
        ("assistant", "tool_call", 'sh({"c":"ls"})', 0),
        ("tool", "tool_result", "böse", 0),
    ]
    assert [c.output_tokens for c in trace.calls] == [1, 2]
    assert trace.e2e_s == 6.0
    assert report.is_accounted_for


def test_tool_calls_without_a_call_are_refused_with_their_trace(tmp_path: Path) -> None:
    """Nobody knows which model asked for them."""
    rows = [call("a", 1, out=1), {"run": "b", "tool": "sh"}]
    with pytest.raises(ImportFormatError, match=r"\[1\]: trace 'b' has tool calls, but no row"):
        load(tmp_path, rows, TOOLS)

    records, report = load(tmp_path, rows, TOOLS, skip=True)

    assert len(of(records, Trace)) == 1
    assert report.is_accounted_for


def test_rows_of_a_trace_that_name_two_items_are_reported(tmp_path: Path) -> None:
    """The first one holds."""
    rows = [call("a", 1), call("a", 2) | {"id": "r"}]

    records, report = load(tmp_path, rows, LOG)

    assert len(of(records, Trace)) == 1
    assert report.mismatches.texts == [
        "[1]: trace 'a' is of item 'q', but this row says 'r'; the first holds"
    ]


@pytest.mark.parametrize("keep", ["first", "last"])
def test_of_equal_attempts_one_is_kept(tmp_path: Path, keep: str) -> None:
    """The first, or the last; each other one is reported."""
    rows = [{"id": 1, "r": "a"}, {"id": 2, "r": "b"}, {"id": 1, "r": "c"}, {"id": 1, "r": "d"}]

    records, report = load(tmp_path, rows, f'keep = "{keep}"\n{BASE}answer = "r"')

    kept = {"first": "a", "last": "d"}[keep]
    assert answers(records) == [("1", kept), ("2", "b")]
    assert report.duplicates.n == 2
    assert report.is_accounted_for


# -- second files --------------------------------------------------------------------------------

JOIN = f"""[join.q]
file = "items.csv"
on = {{ id = "key" }}
{BASE}target = "q.answer"
"""


def test_rows_are_joined_by_a_key_however_it_is_written(tmp_path: Path) -> None:
    """1 and "1.0" are one key; a row without a partner has unknown cells, which the report says."""
    (tmp_path / "items.csv").write_text("key,answer\n1.0,four\n2,five\n,none\n")

    records, report = load(tmp_path, [{"id": 1}, {"id": "2"}, {"id": 3}], JOIN)

    assert [(i.item, i.target) for i in of(records, Item)] == [
        ("1", "four"),
        ("2", "five"),
        ("3", None),
    ]
    assert report.notes["rows without a row of [join.q]"] == 1


def test_a_second_file_is_part_of_the_run(tmp_path: Path) -> None:
    """Other answers are another import."""
    runs = []
    for answer in ("four", "five"):
        (tmp_path / "items.csv").write_text(f"key,answer\n1,{answer}\n")
        runs.append(of(load(tmp_path, [{"id": 1}], JOIN)[0], Run)[0].run_id)

    assert runs[0] != runs[1]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "cannot be read"),
        ("key,answer\n1,a\n1,b\n", "line 3: a second row for the key '1'"),
        ("key,key\n", "repeated"),
        ("id,answer\n1,a\n", "q.answer"),
    ],
)
def test_a_second_file_that_cannot_be_joined_is_refused(
    tmp_path: Path, content: str | None, part: str
) -> None:
    """With its name and what is wrong."""
    if content is not None:
        (tmp_path / "items.csv").write_text(content)
    with pytest.raises(ImportFormatError, match=part):
        load(tmp_path, [{"id": 1}], JOIN)


def test_equal_rows_of_a_second_file_are_one(tmp_path: Path) -> None:
    """A repeat contradicts nothing."""
    (tmp_path / "items.csv").write_text("key,answer\n1,a\n1,a\n")

    [item] = of(load(tmp_path, [{"id": 1}], JOIN)[0], Item)

    assert item.target == "a"


# -- names of files ------------------------------------------------------------------------------


def test_a_file_whose_name_does_not_fit_says_so(tmp_path: Path) -> None:
    """And not that the file lacks a column."""
    text = '[match]\nfiles = ["{who}__{what}.json"]\n[constants]\ntask = "t"\n'
    with pytest.raises(ImportFormatError, match=r"'rows.json' does not fit files"):
        load(tmp_path, [{"id": 1}], f'{text}[columns]\nitem = "id"\nmodel = "@who"')


# -- mappings that are wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('rows = "a[x]"', "rows = 'a\\[x\\]'"),
        ("rows = 3", "rows must be a text"),
        ('keep = "best"', "keep 'best'"),
        ("unpivot = 3", "unpivot must be"),
        ('unpivot = "{a}_{b}"', "unpivot must be"),
        ("unpivot = { a = [] }", "unpivot must be"),
        ('where = "x"', r"\[where\] must be a table"),
        ("[where]\na = { above = 1 }", "'above'"),
        ('[where]\na = { min = "x" }', "min of"),
        ("[where]\na = [[1]]", "must be a text, a number or a flag"),
        ('[join.x]\nfile = "a"', r"\[join.x\] needs"),
        ('[join.x]\nfile = "a"\non = []', "names no column"),
        ('[join.x]\nfile = "a"\non = { b = 1 }', "on of"),
        ('[join.x]\nfile = "{n}.csv"\non = "a"', "no name of files"),
        ('[tool_calls]\ntool = "a"', "need trace"),
        ('[tool_calls]\nrows = "x[]"', "needs tool"),
        ('[tool_calls]\nname = "a"', "'name'"),
        ('[match]\nfiles = ["{a}-{a}.csv"]', "occurs twice"),
        ('[match]\nfiles = ["{row}.csv"]', "has a meaning"),
        ('rows = "{a}.{a}"', "occurs twice"),
        ('tokens = { column = "a" }', "tokens needs map"),
        ('tokens = { column = "a", map = { x = ["y"] } }', "'y'"),
        ("[columns]\nitem = { column = [] }", "must be"),
        ('[columns]\nitem = { column = "a", join = ["b"] }', "must be"),
        ('[columns]\nitem = { join = ["b"], separator = 3 }', "separator"),
        ('[columns]\nitem = { column = "a", default = [1] }', "default"),
        ('[columns]\nstarted_at = { column = "a", unit = "J" }', "'J'"),
        ('kind = "prices"\n[columns]\ntrace = "a"', "not 'prices'"),
    ],
)
def test_a_mapping_that_is_wrong_names_the_place(tmp_path: Path, text: str, part: str) -> None:
    """The mapping's name and the section."""
    with pytest.raises(ImportFormatError, match=f"^mapping mine.toml: .*{part}"):
        load(tmp_path, [{"id": 1}], text)


@pytest.mark.parametrize(
    ("name", "part"), [("@repeated", "@repeat"), ("{who}", "no such column"), ("a[0].b", "no such")]
)
def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path, name: str, part: str) -> None:
    """As a column that the file lacks is."""
    with pytest.raises(ImportFormatError, match=part):
        load(tmp_path, [{"id": 1}], f'{BASE}answer = "{name}"')


def test_a_score_has_the_name_of_no_other(tmp_path: Path) -> None:
    """Two scores of one scorer would be one row."""
    with pytest.raises(ImportFormatError, match=r"\[scores\] reported has the name of the scorer"):
        load(tmp_path, [{"id": 1, "s": 1}], f'{BASE}[scores]\nreported = "s"')
