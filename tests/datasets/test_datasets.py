"""Task sets and sample traces: what ships is sound, and a user's own file is read or refused
clearly."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest

from workbench import datasets, schema, scoring
from workbench.errors import TaskError
from workbench.prices import read_sheet

NAMES = datasets.task_names()
POLARS = {
    "text": pl.String,
    "json": pl.String,
    "int": pl.Int64,
    "float": pl.Float64,
    "bool": pl.Boolean,
    "time": pl.Datetime("us"),
}

# ---- task sets that ship
# --------------------------------------------------------------------------


def test_at_least_four_kinds_ship() -> None:
    """The sets, by name."""
    assert {"arithmetic", "dates", "facts", "lists", "logic", "strings"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_set_is_graded_and_clustered(name: str) -> None:
    """60 to 200 items over five difficulties, the first 40 balanced; every question once."""
    task = datasets.load_task(name)

    assert 60 <= len(task.items) <= 200
    assert {i.difficulty for i in task.items} == {1, 2, 3, 4, 5}
    assert [i.difficulty for i in task.items[:40]] == [1, 2, 3, 4, 5] * 8
    assert len({i.question for i in task.items}) == len(task.items)
    assert len({i.cluster for i in task.items}) >= 5
    assert task.task.version
    assert task.task.description


@pytest.mark.parametrize("name", NAMES)
def test_every_target_passes_its_own_scorer(name: str) -> None:
    """The right answer is right, and the next item's is mostly not."""
    task = datasets.load_task(name)

    assert all(task.score(i, f"Answer: {i.target}").passed for i in task.items)
    assert not all(task.score(i, "Answer: 77777").passed for i in task.items)


@pytest.mark.parametrize("name", NAMES)
def test_worked_examples_are_right_and_no_items(name: str) -> None:
    """No example leaks a test item; each thought and target holds."""
    task = datasets.load_task(name)

    asked = {i.question for i in task.items}
    assert len(task.examples) >= 4
    assert not asked & {e.question for e in task.examples}
    assert all(e.thought for e in task.examples)


def test_targets_of_arithmetic_are_what_the_text_says() -> None:
    """A second derivation: the plain sums are worked out from the question."""
    sums = [i for i in datasets.load_task("arithmetic").items if i.input.startswith("What is")]

    for item in sums:
        a, sign, b = re.fullmatch(r"What is (\d+) ([+-]) (\d+)\?", item.input).groups()
        assert int(item.target) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
    assert len(sums) > 30


def test_generator_writes_the_same_bytes(tmp_path: Path) -> None:
    """The seeded scripts that ship reproduce the sets, and what the tools look into."""
    folder, tools = datasets.data_dir() / "tasks", datasets.data_dir() / "tools"
    command = [sys.executable, str(folder / "generate.py"), "--output", str(tmp_path)]
    second = [sys.executable, str(folder / "generate_for_tools.py"), "--output", str(tmp_path)]

    subprocess.run(command, check=True, capture_output=True, timeout=60)
    second += ["--tools", str(tmp_path / "tools")]
    subprocess.run(second, check=True, capture_output=True, timeout=60)

    written = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    assert written == {p.name: p.read_bytes() for p in folder.glob("*.jsonl")}
    written = {p.name: p.read_bytes() for p in (tmp_path / "tools").iterdir()}
    assert written == {p.name: p.read_bytes() for p in tools.iterdir()}


def test_the_tools_data_is_as_the_readme_says() -> None:
    """The README's checksums and sizes are those of the files."""
    said = re.findall(
        r"`tools/([\w.]+)`[^\n]*\| ([\d,]+) \| `([0-9a-f]{64})`",
        (datasets.data_dir() / "README.md").read_text(),
    )
    files = sorted((datasets.data_dir() / "tools").iterdir())

    assert said == [
        (p.name, f"{p.stat().st_size:,}", hashlib.sha256(p.read_bytes()).hexdigest()) for p in files
    ]


LEDGER = {
    r"How many customers live in (\w+)\?": "SELECT count(*) FROM customers WHERE town = $1",
    r"How many cents does the (.+) cost\?": "SELECT price_cents FROM products WHERE name = $1",
    r"How many pieces of the (.+) were ordered .*": (
        "SELECT sum(quantity) FROM order_lines JOIN products USING (product_id) WHERE name = $1"
    ),
    r"How many orders of the year (\d+) are (\w+)\?": (
        "SELECT count(*) FROM orders WHERE year(ordered_on) = $1::INT AND status = $2"
    ),
    r"For how many cents were goods delivered to (.+) from orders of the year (\d+)\?": (
        "SELECT sum(quantity * price_cents) FROM order_lines JOIN orders USING (order_id)"
        " JOIN products USING"
        " (product_id) JOIN customers c USING (customer_id) WHERE c.name = $1"
        " AND year(ordered_on) = $2::INT AND"
        " status = 'delivered'"
    ),
    r"Which product of the category (\w+) costs the most\?": (
        "SELECT max_by(name, price_cents) FROM products WHERE category = $1"
    ),
    r"Which customer ordered the most pieces of the category (\w+) in the year (\d+)\?": (
        "SELECT c.name FROM order_lines JOIN orders USING (order_id) JOIN products p"
        " USING (product_id) JOIN customers c"
        " USING (customer_id) WHERE category = $1 AND year(ordered_on) = $2::INT GROUP BY 1"
        " ORDER BY sum(quantity) DESC"
        " LIMIT 1"
    ),
}


def test_answers_about_the_ledger_are_the_database_s() -> None:
    """A second derivation, in SQL, of what was worked out in Python; the worked examples too."""
    task = datasets.load_task("ledger")
    database = duckdb.connect()
    database.execute((datasets.data_dir() / "tools" / "database.sql").read_text())
    checked = 0

    for asked in (*task.items, *task.examples):
        for pattern, query in LEDGER.items():
            if found := re.fullmatch(pattern, asked.input):
                row = database.execute(query, list(found.groups())).fetchone()
                assert row is not None
                assert str(row[0]) == asked.target, asked.input
                checked += 1
    assert checked > 50


def test_answers_about_the_isles_stand_in_the_documents() -> None:
    """What one document says is there, word by word; sums are those of the documents' numbers."""
    task = datasets.load_task("lookup")
    lines = (datasets.data_dir() / "tools" / "corpus.jsonl").read_text().splitlines()
    texts = {d["title"]: d["text"] for d in map(json.loads, lines)}

    for asked in (*task.items, *task.examples):
        if taller := re.search(r"taller is (the .+) than (the .+)\?", asked.input):
            heights = [
                re.search(r"(\d+) metres", texts[n[0].upper() + n[1:]]) for n in taller.groups()
            ]
            high, low = (int(h[1]) for h in heights if h)
            assert int(asked.target) == high - low
        elif not re.search(r"years after|together", asked.input):
            assert any(re.search(rf"\b{re.escape(asked.target)}\b", t) for t in texts.values())
    assert len(texts) > 100


# ---- a user's own file
# ----------------------------------------------------------------------------


def test_header_may_be_a_line_or_a_file_beside(tmp_path: Path) -> None:
    """Both say the same of the set."""
    about = {"task": "mine", "version": "3", "scorer": "numeric", "prompt": "Count."}
    (tmp_path / "a.jsonl").write_text(f'{json.dumps(about)}\n{{"input": "q", "target": 4}}\n')
    (tmp_path / "b.jsonl").write_text('{"input": "q", "target": 4}\n')
    (tmp_path / "b.toml").write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in about.items()))

    a, b = (datasets.load_task(tmp_path / f"{n}.jsonl") for n in "ab")

    assert a == b
    assert (a.name, a.task.version, a.scorer.name, a.prompt) == ("mine", "3", "numeric", "Count.")
    assert a.items[0].target == "4"


def test_csv_gives_every_field(tmp_path: Path) -> None:
    """A row whose fields are all different is read whole, and its record holds them."""
    path = tmp_path / "quiz.csv"
    path.write_text(
        "item,input,target,scorer,tags,difficulty,cluster,choices,metadata\n"
        'k7,"Which, of these?",B,choice,x|y,2.5,c1,red|blue,"{""source"": ""me""}"\n'
    )

    task = datasets.load_task(str(path))

    expected = datasets.TaskItem(
        task="quiz",
        item="k7",
        input="Which, of these?",
        target="B",
        scorer="choice",
        tags=("x", "y"),
        difficulty=2.5,
        cluster="c1",
        choices=("red", "blue"),
        metadata={"source": "me"},
    )
    assert task.items == [expected]
    record = task.record(expected)
    assert record.input == "Which, of these?\nA) red\nB) blue"
    assert (record.tags, record.metadata) == ('["x","y"]', '{"source":"me"}')
    assert (record.difficulty, record.cluster, record.target) == (2.5, "c1", "B")


BAD = [
    ("no json", "a.jsonl", '{"input": "q", "target": "t"}\nnot json\n', "a.jsonl:2: not a JSON"),
    ("no object", "a.jsonl", "[1]\n", "a.jsonl:1: not a JSON object"),
    ("deep", "a.jsonl", "[" * 100_000, "a.jsonl:1: not a JSON object"),
    (
        "no target",
        "a.jsonl",
        '{"input": "q"}\n',
        "a.jsonl: none of the columns .input. looks like the `target`",
    ),
    (
        "wrong type",
        "a.jsonl",
        '{"input": [3], "target": "t"}\n',
        "a.jsonl:1: column 'input': a list",
    ),
    (
        "unknown header",
        "a.jsonl",
        '{"task": "a", "scorrer": "exact"}\n',
        "a.jsonl:1: .*'scorrer'; did you mean 'scorer'",
    ),
    (
        "column twice",
        "a.csv",
        "input,target,input\nq,t,u\n",
        "a.csv:1: two columns are called 'input'",
    ),
    (
        "no question",
        "a.csv",
        "foo,target\nq,t\n",
        "a.csv: none of the columns .foo, target. looks like",
    ),
    ("empty cell", "a.csv", "input,target\nq,t\n,u\n", "a.csv:3: `input` is empty"),
    (
        "empty target",
        "a.csv",
        "input,target\nq,t\nr,\n",
        "a.csv:3: the target is empty.*column 'target'",
    ),
    (
        "no number",
        "a.csv",
        "input,target,scorer\nq,t,numeric\n",
        "a.csv:2: target 't' is not a number.*'target'",
    ),
    (
        "lone surrogate",
        "a.json",
        '[{"input": "\\ud800", "target": "t"}]',
        "row 1: column 'input': half a character",
    ),
    ("text for rows", "a.json", '{"a": 1}', "no list of objects; name the field"),
    ("no parquet", "a.parquet", "hello", "a.parquet: not readable as Parquet"),
    (
        "unknown scorer",
        "a.jsonl",
        '{"input": "q", "target": "t", "scorer": "numerik"}\n',
        "1: no sc.*numeric",
    ),
    (
        "header scorer",
        "a.jsonl",
        '{"task": "a", "scorer": "exakt"}\n',
        "a.jsonl:1: no scorer.*exact",
    ),
    (
        "twice",
        "a.jsonl",
        '{"item":"1","input":"q","target":"t"}\n' * 2,
        "a.jsonl:2: item '1' occurs twice",
    ),
    (
        "no options",
        "a.jsonl",
        '{"input":"q","target":"A","scorer":"choice"}\n',
        "a.jsonl:1: a choice needs",
    ),
    (
        "no such letter",
        "a.jsonl",
        '{"input":"q","target":"C","scorer":"choice","choices":["x","y"]}\n',
        "A–B",
    ),
    ("empty", "a.jsonl", "\n", "no item in the file"),
    ("not finite", "a.csv", "input,target,difficulty\nq,t,inf\n", "a.csv:2: difficulty"),
    ("too many cells", "a.csv", "input,target\nq,t,u\n", "a.csv:2: more cells"),
    ("torn quote", "a.csv", 'input,target\n"q,t\n', "a.csv:.*not readable as CSV"),
]


def test_a_long_document_is_an_input_like_any_other(tmp_path: Path) -> None:
    """A cell may be longer than the CSV reader's default."""
    path = tmp_path / "a.csv"
    path.write_text(f"input,target\n{'q' * 200_000},t\n")
    assert len(datasets.load_task(path).items[0].input) == 200_000


@pytest.mark.parametrize(("name", "text", "words"), [c[1:] for c in BAD], ids=[c[0] for c in BAD])
def test_bad_line_is_named_with_file_and_line(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    """The error says where and what."""
    (tmp_path / name).write_text(text, encoding="utf-8")

    with pytest.raises(TaskError, match=words):
        datasets.load_task(tmp_path / name)


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Another encoding, a folder, nothing: each a clear error."""
    (tmp_path / "a.jsonl").write_bytes('{"input": "é"}'.encode("latin-1"))
    (tmp_path / "b.jsonl").mkdir()

    with pytest.raises(TaskError, match="not UTF-8"):
        datasets.load_task(tmp_path / "a.jsonl")
    with pytest.raises(TaskError, match="cannot be read"):
        datasets.load_task(tmp_path / "b.jsonl")
    with pytest.raises(TaskError, match="there is no such task file"):
        datasets.load_task(tmp_path / "c.jsonl")


@pytest.mark.parametrize(
    ("name", "words"),
    [("arithmatic", "did you mean arithmetic"), ("qqq", "there are arithmetic, dates")],
)
def test_unknown_set_offers_what_there_is(name: str, words: str) -> None:
    """A typing error is answered with the name that was meant."""
    with pytest.raises(TaskError, match=words):
        datasets.load_task(name)


def test_data_is_found_in_a_wheel_and_in_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The packaged folder comes first; without any, the error says where it was looked for."""
    package = tmp_path / "workbench"
    home = package / "datasets" / "shipped.py"
    monkeypatch.setattr("workbench.datasets.shipped.__file__", str(home))
    with pytest.raises(TaskError, match="_data"):
        datasets.data_dir()
    (tmp_path / "data" / "tasks").mkdir(parents=True)
    assert datasets.data_dir() == (tmp_path / "data").resolve()
    (package / "_data" / "tasks").mkdir(parents=True)
    assert datasets.data_dir() == (package / "_data").resolve()


def test_item_ids_follow_content() -> None:
    """The same file gives the same ids; another question another id."""
    task = datasets.load_task("facts")

    first, second = (task.record(i) for i in task.items[:2])

    assert first == datasets.load_task("facts").record(task.items[0])
    assert first.item_id != second.item_id


# ---- the sample traces
# ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def samples() -> dict[str, pl.DataFrame]:
    """All sample tables."""
    found = sorted(datasets.sample_traces_dir().glob("*.parquet"))
    return {p.stem: pl.read_parquet(p) for p in found}


def test_sample_tables_are_the_schemas(samples: dict[str, pl.DataFrame]) -> None:
    """Exactly the columns and types of schema.py, and what may not be null is not."""
    needed = {"runs", "tasks", "items", "configurations", "traces", "calls", "messages", "contents"}
    assert needed | {"scores"} <= set(samples)
    for name, frame in samples.items():
        table = schema.TABLES[name]
        expected = {c.name: POLARS[c.type] for c in table.columns}
        later = {c.name for c in table.columns if c.since > 1} - set(frame.columns)
        assert dict(frame.schema) == {n: t for n, t in expected.items() if n not in later}, name
        for column in table.columns:
            if column.name in later:
                continue
            if column.null == schema.KEY_NULL:
                assert frame[column.name].null_count() == 0, f"{name}.{column.name}"
        assert frame.select(table.key).is_duplicated().sum() == 0, name


REFERENCES = [
    ("traces", "run_id", "runs"),
    ("traces", "task_id", "tasks"),
    ("traces", "item_id", "items"),
    ("traces", "configuration_id", "configurations"),
    ("items", "task_id", "tasks"),
    ("calls", "trace_id", "traces"),
    ("calls", "item_id", "items"),
    ("scores", "trace_id", "traces"),
    ("messages", "trace_id", "traces"),
    ("messages", "content_id", "contents"),
    ("messages", "call_id", "calls"),
]


@pytest.mark.parametrize(("table", "column", "parent"), REFERENCES)
def test_sample_rows_refer_to_rows_that_are_there(
    samples: dict[str, pl.DataFrame], table: str, column: str, parent: str
) -> None:
    """No reference hangs in the air, and no parent is idle."""
    child, found = set(samples[table][column].drop_nulls()), set(samples[parent][column])

    assert child <= found
    # a call that failed has no message, a trace that failed no score
    assert child == found or (table, parent) in {("messages", "calls"), ("scores", "traces")}


def joined(samples: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """One row per trace with the names of what it is about."""
    names = samples["configurations"].select("configuration_id", "model", "strategy")
    tasks = samples["tasks"].select("task_id", "task")
    return samples["traces"].join(names, on="configuration_id").join(tasks, on="task_id")


def test_samples_are_priced_by_the_example_sheet(samples: dict[str, pl.DataFrame]) -> None:
    """Cost is machine time at the sheet's price per hour; the sheet that ships is the one used."""
    (price,) = read_sheet(datasets.sample_prices())
    traces = samples["traces"]
    expected = traces["machine_s"] * price.machine_usd_per_hour / 3600

    assert samples["prices"]["machine_usd_per_hour"].to_list() == [price.machine_usd_per_hour]
    assert traces["cost_usd"].null_count() == 0
    assert ((traces["cost_usd"] - expected).abs() < 1e-12).all()


def test_samples_cover_the_design(samples: dict[str, pl.DataFrame]) -> None:
    """2 models × 4 tasks and more × 3 strategies × 4 trials, nothing missing; and further
    strategies."""
    every = joined(samples)
    traces = every.filter(pl.col("strategy").is_in(["direct", "cot", "think"]))
    more = {
        "budgeted",
        "self_consistency",
        "best_of_n",
        "self_refine",
        "sequential_refinement",
        "react",
    }
    assert set(every.filter(pl.col("model") == every["model"].max())["strategy"]) >= more
    assert set(every.filter(pl.col("model") == every["model"].min())["strategy"]) >= more
    cells = traces.group_by("model", "task", "strategy").agg(
        pl.len(), pl.col("item_id").n_unique().alias("items"), pl.col("trial").n_unique()
    )

    assert len(traces) >= 2000
    assert (cells["model"].n_unique(), cells["strategy"].n_unique()) == (2, 3)
    assert cells["task"].n_unique() >= 4
    assert len(cells) == 2 * 3 * cells["task"].n_unique()
    assert (cells["trial"] == 4).all()
    assert (cells["len"] == cells["items"] * 4).all()
    assert cells["items"].n_unique() == 1


def test_sample_pass_rates_lie_between_the_extremes(samples: dict[str, pl.DataFrame]) -> None:
    """5 to 95 % in every model × task of the plain strategies; every trace was scored."""
    traces = joined(samples)
    plain = traces.filter(pl.col("strategy").is_in(["direct", "cot", "think"]))
    rates = plain.group_by("model", "task", "strategy").agg(pl.col("passed").mean())

    assert traces["passed"].null_count() == traces["error_type"].count()
    assert rates["passed"].is_between(0.05, 0.95).all(), rates.sort("passed")


def test_samples_agree_with_their_scorers(samples: dict[str, pl.DataFrame]) -> None:
    """Scoring the recorded answers again gives the recorded scores."""
    wanted = samples["items"].join(samples["tasks"].select("task_id", "task"), on="task_id")
    items = {
        (name, i.item): i
        for name in wanted["task"].unique()
        for i in datasets.load_task(name).items
    }
    traces = (
        samples["traces"]
        .join(wanted.select("item_id", "task", "item"), on="item_id")
        .filter(pl.col("answer").is_not_null())
    )

    for task, key, answer, passed in traces.select("task", "item", "answer", "passed").iter_rows():
        item = items[task, key]
        assert scoring.get(item.scorer)(item, f"Answer: {answer}").passed is passed, (key, answer)


def test_sample_calls_measure_what_they_should(samples: dict[str, pl.DataFrame]) -> None:
    """Streamed, timed, counted; thinking is part of the output and only the tagged strategy has
    it."""
    names = samples["configurations"].select("configuration_id", "strategy", "temperature")
    calls = (
        samples["calls"].filter(pl.col("error_type").is_null()).join(names, on="configuration_id")
    )
    tagged = ["think", "budgeted"]
    thinking = calls.filter(pl.col("strategy").is_in(tagged))

    for column in ("ttft_s", "e2e_s", "input_tokens", "output_tokens", "machine_s", "started_at"):
        assert calls[column].null_count() == 0, column
    assert (calls["ttft_s"] <= calls["e2e_s"]).all()
    assert (calls["cache_read_tokens"] <= calls["input_tokens"]).all()
    assert (calls["temperature"] > 0).all()
    assert (thinking["reasoning_tokens"] <= thinking["output_tokens"]).all()
    assert thinking["reasoning_tokens"].null_count() == 0
    assert thinking["reasoning_tokens"].mean() > 5
    assert (
        calls.filter(~pl.col("strategy").is_in(tagged))["reasoning_tokens"].null_count()
        == (~calls["strategy"].is_in(tagged)).sum()
    )
    assert calls["gap_p50_s"].drop_nulls().min() >= 0


def test_sample_contents_are_addressed_by_their_text(samples: dict[str, pl.DataFrame]) -> None:
    """Every text once, with its length."""
    contents = samples["contents"]

    assert contents["text"].n_unique() == len(contents)
    assert (contents["text"].str.len_bytes() == contents["n_bytes"]).all()


def test_samples_tell_nothing_of_the_collecting_machine(samples: dict[str, pl.DataFrame]) -> None:
    """No path, no user, no host name."""
    private = re.compile(r"/(root|home|Users|work|tmp)/|site-packages|\.gguf")

    for name, frame in samples.items():
        for column in frame.select(pl.col(pl.String)).columns:
            found = [v for v in frame[column].drop_nulls().unique() if private.search(v)]
            assert not found, (name, column, found[:3])


def test_samples_are_small_and_as_the_readme_says() -> None:
    """8 MB at most; the README's checksums are those of the files."""
    files = sorted(datasets.sample_traces_dir().glob("*.parquet"))
    said = dict(
        re.findall(
            r"`traces/(\w+\.parquet)`[^\n]*`([0-9a-f]{64})`",
            (datasets.data_dir() / "README.md").read_text(),
        )
    )

    assert sum(p.stat().st_size for p in files) <= 8_000_000
    assert said == {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
