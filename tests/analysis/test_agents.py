"""Agents: tools, their waste, search, processes, efficient code; real traces, worked examples,
second derivations, traps."""

import json
import re
from collections import Counter

import numpy as np
import polars as pl
import polars.testing
import pytest

from tests.support.facts import named, rows_of
from tests.support.making import COT, DIRECT, ITEMS, TASK, run
from tests.support.making import trace as recorded
from workbench import analysis, sources
from workbench.analysis.families.agents.code_efficiency import levels, read_references
from workbench.analysis.families.agents.search_efficiency import entities
from workbench.analysis.inputs.text_matching import contains_words
from workbench.analysis.stats import ratios
from workbench.errors import AnalysisError
from workbench.records import Call, Message, ToolCall
from workbench.store import open_store


def used(group: str, item: str, calls: list[tuple[str, str | None]], passed=True, trial=0, **more):
    """The rows of a trace that called tools with arguments, one after the other."""
    base = named(group, item, trial, passed=passed, n_tool_calls=len(calls)) | more
    if not calls:
        return [base]
    return [
        base | {"tool_call_id": f"{base['trace_id']}#{k}", "ordinal": k, "tool": t, "arguments": a}
        for k, (t, a) in enumerate(calls)
    ]


def one(result, table: str | None = None, **where) -> dict:
    """The only row of a result, or of those that fit."""
    frame = result.frame if table is None else result.more[table]
    (found,) = frame.filter(**where).rows(named=True) if where else frame.rows(named=True)
    return found


@pytest.fixture(scope="module")
def tau(shared_data) -> pl.DataFrame:
    """Fifty airline tasks, four trials each, as rows of tool_uses."""
    runs = json.loads((shared_data / "tau_bench" / "gpt-4o-airline.json").read_text())
    rows = []
    for r in runs:
        asked = [c["function"] for m in r["traj"] for c in m.get("tool_calls") or ()]
        calls = [(f["name"], f["arguments"]) for f in asked]
        right = abs(r["reward"] - 1) <= 1e-6
        rows += used("gpt-4o", str(r["task_id"]), calls, right, r["trial"])
    return rows_of("tool_uses", *rows)


# --- tools ---


def test_tool_productivity_of_tau_bench(tau):
    """84 right answers of 1,164 tool calls: .0721649."""
    found = one(analysis.tools(tau))

    assert (found["n"], found["n_items"]) == (200, 50)
    assert found["correct_per_call"] == pytest.approx(84 / 1164, abs=1e-12)
    assert found["calls_per_trace"] == pytest.approx(1164 / 200)
    assert found["correct_per_call_low"] < 84 / 1164 < found["correct_per_call_high"]
    assert (found["wait_s"], found["read_tokens"]) == (None, None)


def test_every_tool_of_tau_bench_is_counted(tau):
    """Calls and shares per tool add up to all, the most called first."""
    by_tool = analysis.tools(tau).more["by_tool"]
    plain = Counter(tau["tool"].drop_nulls().to_list())

    assert dict(by_tool.select("tool", "n_calls").iter_rows()) == dict(plain)
    assert by_tool["n_calls"].is_sorted(descending=True)
    assert by_tool["share_of_calls"].sum() == pytest.approx(1)


def test_repeats_and_extra_calls_agree_with_a_plain_count(tau):
    """Second derivation over dictionaries: repeated words, and right traces beyond the fewest."""
    found = one(analysis.tools(tau))
    calls: dict = {}
    for t, tool, words, item, passed in tau.select(
        "trace_id", "tool", "arguments", "item_id", "passed"
    ).iter_rows():
        calls.setdefault((t, item, passed), []).extend([(tool, words)] if tool else [])
    repeats = sum(len(c) - len(set(c)) for c in calls.values())
    right: dict = {}
    for (_, item, passed), c in calls.items():
        right.setdefault(item, []).extend([len(c)] if passed else [])
    extra = [np.mean(n) - min(n) for n in right.values() if n]

    assert found["repeat_rate"] == pytest.approx(repeats / 1164)
    assert found["extra_calls"] == pytest.approx(np.mean(extra))


def test_tools_run_inside_duckdb_and_do_not_mind_the_order(tau):
    """A DuckDB relation and shuffled rows give the same."""
    import duckdb

    connection = duckdb.connect()
    plain = analysis.tools(tau).frame
    polars.testing.assert_frame_equal(
        plain, analysis.tools(connection.from_arrow(tau.to_arrow())).frame
    )
    polars.testing.assert_frame_equal(
        plain, analysis.tools(tau.sample(fraction=1, shuffle=True, seed=1)).frame
    )


def test_traces_without_tools_count_and_unknown_stays_unknown():
    """Half the traces use a tool; tokens that were not counted are unknown, not 0; failed traces
    go."""
    rows = rows_of(
        "tool_uses",
        *used("a", "1", [("s", "x"), ("s", "x"), ("s", None), ("s", None)], e2e_s=2.0),
        *used("a", "2", []),
        *used("a", "3", [("s", "y")], passed=None, trace_error_type="timeout"),
    )

    result = analysis.tools(rows)

    found = one(result)
    assert (found["n"], found["used_rate"], found["calls_per_trace"]) == (2, 0.5, 2.0)
    assert found["repeat_rate"] == 0.25  # what was not recorded does not repeat
    assert (found["wait_s"], found["read_tokens"]) == (4.0, None)
    assert found["correct_per_call"] == 0.5
    assert result.dropped == {"failed traces": 1}
    assert one(result, "by_tool")["tokens_per_call"] is None
    unscored = one(analysis.tools(rows_of("tool_uses", *used("a", "1", [("s", "x")], passed=None))))
    assert (unscored["calls_per_trace"], unscored["correct_per_call"]) == (1.0, None)


# --- inefficiency ---


def patterns(*rows, **options) -> dict[str, set[str]]:
    """Which patterns each trace shows."""
    shown = analysis.inefficiency(rows_of("tool_uses", *rows), **options).more["traces"]
    found: dict[str, set[str]] = {}
    for trace, pattern in shown.select("trace_id", "pattern").iter_rows():
        found.setdefault(trace, set()).add(pattern)
    return found


@pytest.mark.parametrize(
    ("opening", "question", "answer", "expected"),
    [
        ("It must be 42. Let me check.", "6 * 7?", "42", {"confirmatory"}),
        ("It must be 421.", "6 * 7?", "42", set()),
        ("Is it 42?", "Is it 42 or 43?", "42", set()),
        ("PARIS, surely", "The capital?", "  Paris. ", {"confirmatory"}),
        (None, "The capital?", "Paris", set()),
        ("Paris", "The capital?", None, set()),
    ],
    ids=["known", "part of a number", "in the question", "case", "no text", "no answer"],
)
def test_confirmatory_use(opening, question, answer, expected):
    """The answer, as whole words, stood in the opening and not in the question."""
    rows = used("a", "1", [("s", "x")], opening_text=opening, input=question, answer=answer)

    assert patterns(*rows).get("a/1/0", set()) == expected


def test_the_other_three_patterns():
    """Switches, wasted calls, calls that cannot be read or were only written in the text."""
    wasted = used("a", "2", [("s", "x"), ("s", "x"), ("s", "y")])
    wasted[2] |= {"error_type": "timeout"}
    empty = used("a", "3", [("s", "x"), ("s", "y")])
    empty[0] |= {"result_bytes": 0}
    unread = used("a", "4", [("nothing", "x")])
    unread[0] |= {"error_type": "unknown_tool"}
    text = used("a", "5", [], opening_text="Thought: hm\nAction: search")
    found = patterns(
        *used("a", "1", [("s", "x"), ("c", "y"), ("s", "z")]),
        *wasted,
        *empty,
        *unread,
        *text,
        *used("a", "6", [("s", "x"), ("c", "y")], opening_text="Action: s"),
    )

    assert found == {
        "a/1/0": {"mixing"},
        "a/2/0": {"no_priors"},
        "a/3/0": {"no_priors"},
        "a/4/0": {"no_priors", "collapse"},
        "a/5/0": {"collapse"},
    }


def test_thresholds_of_patterns_can_be_moved():
    """One switch is mixing if one is asked for; waste of a third if that is enough."""
    assert patterns(*used("a", "1", [("s", "x"), ("c", "y")]), switches=1) == {"a/1/0": {"mixing"}}
    three = used("a", "1", [("s", "x"), ("s", "x"), ("s", "y")])
    assert patterns(*three, wasted=0.3) == {"a/1/0": {"no_priors"}}
    assert patterns(*three) == {}


def test_patterns_of_each_tool():
    """By tool a trace is read once for every tool that it called, with that tool's calls alone."""
    rows = used(
        "a", "1", [("s", "x"), ("c", "y"), ("c", "y")], opening_text="It is 42.", answer="42"
    )
    result = analysis.inefficiency(rows_of("tool_uses", *rows), by=("tool",))

    found = {r["tool"]: r for r in result.frame.rows(named=True)}
    assert [found[t]["confirmatory_rate"] for t in "sc"] == [1.0, 1.0]
    assert [found[t]["wasted_calls"] for t in "sc"] == [0.0, 0.5]


def test_patterns_are_compared_within_items():
    """On the item with both: pass rate 0 against 1, twice the tokens; another item moves
    nothing."""
    repeated = [("s", "x"), ("s", "x")]
    found = one(
        analysis.inefficiency(
            rows_of(
                "tool_uses",
                *used("a", "1", repeated, passed=False, trial=0, output_tokens=200),
                *used("a", "1", [("s", "x")], passed=True, trial=1, output_tokens=100),
                *used("a", "2", repeated, passed=True, output_tokens=5000),
            )
        ),
        "patterns",
        pattern="no_priors",
    )

    assert (found["n_showing"], found["pass_rate_with"], found["pass_rate_without"]) == (
        2,
        0.5,
        1.0,
    )
    assert (found["pass_rate_change"], found["tokens_factor"]) == (-1.0, 2.0)


def test_opening_share_and_rates_of_groups_without_tools():
    """Tokens before the first call over all; no tools, no rates of tools."""
    result = analysis.inefficiency(
        rows_of(
            "tool_uses",
            *used("a", "1", [("s", "x")], opening_tokens=30, output_tokens=100),
            *used("a", "2", [("s", "x")], opening_tokens=10, output_tokens=300),
            *used("b", "1", []),
        )
    )

    assert one(result, configuration="a")["opening_share"] == pytest.approx(0.1)
    b = one(result, configuration="b")
    assert (b["n_with_tools"], b["mixing_rate"], b["collapse_rate"]) == (0, None, 0.0)


# --- the views, from records to analyses ---


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two recorded agents: one in a chat with a worked example, one by native tool calls."""
    item = ITEMS[0]
    text = "Action: search\nAction Input: x"
    calls = tuple(
        Call(ordinal=k, provider="p", model="m", input_tokens=10, output_tokens=10 * (k + 1))
        for k in range(2)
    )
    said = [
        ("user", "text", "an example", 0),
        ("assistant", "text", "its answer", 0),
        ("user", "text", "1+0?", 0),
        ("assistant", "text", text, 0),
        ("user", "text", "Observation: it is 7", 1),
        ("assistant", "text", "Answer: 7", 1),
    ]
    chat = tuple(
        Message(ordinal=n, role=r, kind=k, text=t, call_ordinal=c)
        for n, (r, k, t, c) in enumerate(said)
    )
    tool = ToolCall(ordinal=0, tool="search", arguments="x", call_ordinal=0)
    native = (
        Message(ordinal=0, role="user", kind="text", text="1+0?", call_ordinal=0),
        Message(ordinal=1, role="assistant", kind="thinking", text="hm", call_ordinal=0),
        Message(
            ordinal=2,
            role="assistant",
            kind="tool_call",
            text="search(x)",
            call_ordinal=0,
            tool_call_ordinal=0,
        ),
        Message(
            ordinal=3,
            role="tool",
            kind="tool_result",
            text="seven",
            call_ordinal=1,
            tool_call_ordinal=0,
        ),
        Message(ordinal=4, role="assistant", kind="text", text="7", call_ordinal=1),
    )
    found = open_store(tmp_path_factory.mktemp("agents") / "s.duckdb", create=True)
    found.ingest(
        [
            run(),
            TASK,
            *ITEMS,
            DIRECT,
            COT,
            recorded(DIRECT, item, calls=calls, tool_calls=(tool,), messages=chat, answer="7"),
            recorded(COT, item, calls=calls, tool_calls=(tool,), messages=native, answer="7"),
            recorded(COT, ITEMS[1]),
        ]
    )
    return found


def test_the_views_tell_what_the_model_wrote_from_its_examples(store):
    """Worked examples are not its words; the opening ends with the call that asked for a tool."""
    uses = store.sql("SELECT * FROM tool_uses ORDER BY configuration, item_id")
    by = {(r["strategy"], r["item"]): r for r in uses.rows(named=True)}

    direct, cot = by["direct", "0"], by["cot", "0"]
    assert uses.height == 3
    assert direct["opening_text"] == "Action: search\nAction Input: x"
    assert (direct["opening_tokens"], direct["tool"], direct["answer"]) == (10, "search", "7")
    assert (cot["opening_text"], cot["result_bytes"]) == ("hm", len("seven"))
    none = by["cot", "1"]
    assert (none["tool"], none["ordinal"], none["opening_text"]) == (None, None, "Answer: 2")


def test_the_view_of_texts(store):
    """Thinking, visible words and what was read, each on its own."""
    texts = store.sql(
        "SELECT strategy, item, thinking_text, output_text, read_text, target FROM trace_texts"
    )
    by = {r[:2]: r[2:] for r in texts.iter_rows()}

    assert by["direct", "0"] == (
        None,
        "Action: search\nAction Input: x\nAnswer: 7",
        "Observation: it is 7",
        "1",
    )
    assert by["cot", "0"] == ("hm", "7", "seven", "1")
    assert by["cot", "1"] == (None, "Answer: 2", None, "2")


@pytest.mark.parametrize(
    "name",
    [
        "tools",
        "inefficiency",
        "search-efficiency",
        "process",
        "code-efficiency",
        "reproducibility",
        "markers",
    ],
)
def test_analyses_take_the_rows_of_their_view(store, name):
    """Each runs on a real store over the view that it declares."""
    with store.facts("", analysis.get(name).rows) as frame:
        result = analysis.run(name, frame, by="model")

    assert result.frame.height == 2


# --- search efficiency ---


def searched(item: str, target: str, read: str | None, n: int, passed=True, **more) -> dict:
    """A trace of one group that read something."""
    return named("a", item, target=target, read_text=read, n_tool_calls=n, passed=passed) | more


def test_seeking_rate_and_efficiency_by_hand():
    """Two of three entities in four calls: ISR 2/3, ISE 1/2; one of one in two: 1, 1/2."""
    result = analysis.search_efficiency(
        rows_of(
            "trace_texts",
            searched(
                "1",
                "Rome; Paris, Oslo",
                "ROME lies far from paris.\nOsloer is no city",
                4,
                passed=False,
            ),
            searched("2", "7", "it is 7", 2),
            searched("3", "7", "it is 7", 0),
            searched("4", "", "it is 7", 2),
        )
    )

    found = one(result)
    assert found["n"] == 2
    assert found["seeking_rate"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["seeking_efficiency"] == pytest.approx(0.5)
    assert (found["all_found_rate"], found["kept_rate"]) == (0.5, 1.0)
    assert (found["right_when_found"], found["right_when_missing"]) == (1.0, 0.0)
    assert found["calls_per_entity"] == pytest.approx(6 / 3)
    assert result.dropped["traces without a tool call"] == 1


def test_words_stand_whole():
    """As the pattern (?<!\\w)words(?!\\w) finds them, in random texts of letters, marks and
    accents."""
    rng = np.random.default_rng(7)
    letters = list("ab_ .é٣ß")
    for _ in range(2000):
        text = "".join(rng.choice(letters, rng.integers(0, 12)))
        words = "".join(rng.choice(letters, rng.integers(1, 3)))
        expected = re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text) is not None
        assert contains_words(words, text) == expected


def test_entities_of_the_metadata():
    """A list under the key; no list, no entities."""
    assert entities(None, '{"needs": ["The  Hague", "Oslo", "oslo"]}', "needs") == {
        "the hague",
        "oslo",
    }
    assert entities(None, "[1]", "needs") == entities(None, None, "needs") == set()
    row = searched("1", "x", "The Hague", 1, item_metadata='{"needs": ["The Hague", "Oslo"]}')
    found = one(analysis.search_efficiency(rows_of("trace_texts", row), entities="needs"))
    assert found["seeking_rate"] == 0.5


# --- process ---


def series(costs, wins, item="i", answers=None, **more) -> list[dict]:
    """Rounds of one series, as trials in order."""
    given = answers or [str(c) for c in costs]
    return [
        named("a", item, k, cost_usd=float(c), passed=None if w is None else bool(w), answer=a)
        | more
        for k, (c, w, a) in enumerate(zip(costs, wins, given, strict=True))
    ]


def test_the_worked_example_of_advgamebench():
    """Costs 10 10 12 9 9 11, wins 0 1 1 0 0 1, budget 11: ORR .6, CSR .666667, slope .0285714, OBR
    .166667, WR .5."""
    rows = rows_of("trace_details", *series([10, 10, 12, 9, 9, 11], [0, 1, 1, 0, 0, 1]))

    found = one(analysis.process(rows, budget=11, revised_by="spent"))

    assert found["revision_rate"] == pytest.approx(0.6)
    assert found["correction_success"] == pytest.approx(2 / 3)
    assert found["improvement_slope"] == pytest.approx(0.0285714, abs=5e-8)
    assert found["over_budget_rate"] == pytest.approx(1 / 6)
    assert found["win_rate"] == 0.5
    assert found["n_series"] == 1
    # 12 and 9 revise right rounds, of which 9 spoils; 11 mends a wrong one
    assert (found["correction_rate"], found["overcorrection_rate"]) == (1.0, 0.5)


def test_rounds_noted_in_traces():
    """Three rounds of a self-refinement: wrong, right, spoilt again; the cost is shared out by
    tokens."""
    rounds = [
        {"answer": a, "passed": p, "input_tokens": 0, "output_tokens": n}
        for a, p, n in (("1", False, 10), ("2", True, 10), ("3", False, 20))
    ]
    row = named("a", "i", passed=False, cost_usd=4.0, metadata=json.dumps({"rounds": rounds}))
    found = one(analysis.process(rows_of("trace_details", row), budget=1.5))

    assert (found["source"], found["n_rounds"], found["revision_rate"]) == ("rounds", 3, 1.0)
    assert (found["correction_success"], found["correction_rate"]) == (0.5, 1.0)
    assert found["overcorrection_rate"] == 1.0
    assert found["over_budget_rate"] == pytest.approx(1 / 3)
    assert found["improvement_slope"] == pytest.approx(0)
    with pytest.raises(AnalysisError, match="cost_usd"):
        analysis.process(rows_of("trace_details", row), spent="output_tokens")


def test_process_traps():
    """One round, unscored rounds, unknown answers, two runs: no steps are made up."""
    single = one(analysis.process(rows_of("trace_details", *series([1], [1]))))
    assert (single["win_rate"], single["revision_rate"], single["improvement_slope"]) == (
        1.0,
        None,
        None,
    )
    gaps = rows_of("trace_details", *series([1, 2, 3], [1, None, 0], answers=["x", "y", None]))
    result = analysis.process(gaps)
    assert one(result)["revision_rate"] is None
    assert result.dropped["unscored traces"] == 1
    two = [*series([1], [1], run_id="r1"), *series([2], [0], run_id="r2")]
    assert one(analysis.process(rows_of("trace_details", *two)))["n_series"] == 2
    later = one(analysis.process(rows_of("trace_details", *series([1, 1, 1], [0, 1, 1])), skip=1))
    assert (later["win_rate"], later["n_rounds"]) == (1.0, 2)


# --- code efficiency ---


@pytest.mark.parametrize(
    ("cost", "dps", "norm"),
    [
        (20, 1.0, 1.0),
        (25, 1.0, 1.0),
        (30, 0.8, 0.75),
        (55, 0.55, 0.5),
        (99, 0.2, 0.25),
        (150, 0.0, 0.0),
    ],
)
def test_level_matching_of_evalperf(cost, dps, norm):
    """References 100→20, 60→55, 40→80, 25→100: the published toy, through the analysis."""
    references = json.dumps({"references": [[40, 80], [100, 20], [25, 100], [60, 55]]})
    row = named(
        "a", "i", passed=True, metadata=json.dumps({"solution_s": cost}), item_metadata=references
    )
    found = one(analysis.code_efficiency(rows_of("trace_details", row)))

    assert (found["dps"], found["dps_norm"]) == (pytest.approx(dps), pytest.approx(norm))


def test_wrong_solutions_have_no_efficiency():
    """They are no part of the score, and 0 in dps_all; items with too few right ones are left
    out."""

    def solved(item, passed, cost, trial=0):
        metadata = None if cost is None else json.dumps({"solution_s": cost})
        return named(
            "a",
            item,
            trial,
            passed=passed,
            metadata=metadata,
            item_metadata='{"references": [4, 2, 1]}',
        )

    rows = rows_of(
        "trace_details",
        solved("1", True, 2),
        solved("1", False, 0.1, 1),
        solved("2", False, 1),
        solved("3", True, None),
    )
    result = analysis.code_efficiency(rows)

    found = one(result)
    assert (found["dps"], found["n_items"], found["n"]) == (pytest.approx(2 / 3), 1, 1)
    assert found["dps_all"] == pytest.approx((1 / 3 + 0) / 2)
    assert found["pass_rate"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert result.dropped["right solutions without solution_s"] == 1
    assert one(analysis.code_efficiency(rows, least=2))["dps"] is None


def test_levels_made_of_solutions():
    """1.0 and 1.1 are one level, 2 and 2.2 one, 9 stands alone; the slowest of a level stands for
    it."""
    ladder = levels([2.2, 1.0, 9.0, 1.1, 2.0], 0.2)

    assert ladder.cost.tolist() == [9.0, 2.2, 1.1]
    assert ladder.score.tolist() == [0.2, 0.6, 1.0]
    assert ladder.place([1.0, 2.1, 9.5]).T.ravel() == pytest.approx([1, 1, 0.6, 2 / 3, 0, 0])
    assert np.isnan(ladder.place(np.nan)).all()
    assert read_references([1, "x"]) is None


def test_pairs_meet_where_both_solved():
    """a is faster on one shared item, level on the other: ¾."""
    rows = [
        named(g, i, passed=p, e2e_s=s)
        for g, i, p, s in (
            ("a", "1", True, 1.0),
            ("b", "1", True, 9.0),
            ("a", "2", True, 3.0),
            ("b", "2", True, 3.1),
            ("a", "3", True, 1.0),
            ("b", "3", False, 1.0),
        )
    ]
    pair = one(analysis.code_efficiency(rows_of("trace_details", *rows), cost="e2e_s"), "pairs")

    assert (pair["a"], pair["b"], pair["n_common"], pair["win_rate"]) == ("a", "b", 2, 0.75)


# --- ratios ---


def test_ratio_is_the_clustered_mean_where_the_bottom_is_one():
    """Against the sum over clusters written out (Miller's clustered error), and Student's t."""
    from scipy import stats

    rng = np.random.default_rng(3)
    x, codes = rng.normal(5, 1, 40), np.repeat(np.arange(10), 4)
    value, low, high = ratios.mean(x, codes, 0.95)
    residual = [sum(v - x.mean() for v in x[codes == c]) for c in range(10)]
    half = stats.t.ppf(0.975, 9) * np.sqrt(10 / 9 * sum(r * r for r in residual)) / 40
    assert (value, low, high) == pytest.approx((x.mean(), x.mean() - half, x.mean() + half))


def test_intervals_of_ratios_and_shares_cover():
    """Clusters of four with a common part, 60 of them: 95 % intervals hold the truth in 93 to 97 of
    100."""
    rng = np.random.default_rng(4)
    codes, hits, held = np.repeat(np.arange(60), 4), [], []
    for _ in range(1500):
        p = rng.beta(2, 2, 60)[codes]
        right = (rng.random(240) < p).astype(float)
        calls = rng.poisson(3 + 4 * p) + 1.0
        _, low, high = ratios.ratio(right, calls, codes, 0.95)
        hits.append(low <= 0.5 / 6 <= high)
        _, low, high = ratios.share(right, codes, 0.95)
        held.append(low <= 0.5 <= high)
    assert 0.93 <= np.mean(hits) <= 0.97
    assert 0.93 <= np.mean(held) <= 0.97


def test_ratios_without_spread_or_clusters_have_no_interval():
    """Null, not of zero width; a share of 1 has Wilson's ends; nothing at all is unknown."""
    one_, same = np.ones(3), np.zeros(3, int)
    assert np.isnan(ratios.mean(one_, np.arange(3), 0.95)[1:]).all()
    assert np.isnan(ratios.share(one_, same, 0.95)[1:]).all()
    assert ratios.share(one_, np.arange(3), 0.95)[1] == pytest.approx(
        3 / (3 + 1.959964**2), rel=1e-5
    )
    assert np.isnan(ratios.share(np.full(2, np.nan), np.arange(2), 0.95)).all()
    assert np.isnan(ratios.ratio(np.zeros(2), np.zeros(2), np.arange(2), 0.95)).all()


def test_inspect_logs_of_agents(shared_data, tmp_path):
    """A real log of an agent, imported: calls and errors as the log says, in a plain count of its
    text."""
    path = shared_data / "generated" / "inspect_0.3.285_mockllm_react_5items_3epochs.json"
    messages = [m for sample in json.loads(path.read_text())["samples"] for m in sample["messages"]]
    asked = Counter(c["function"] for m in messages for c in m.get("tool_calls") or ())
    failed = sum(m["role"] == "tool" and m.get("error") is not None for m in messages)
    found = open_store(tmp_path / "s.duckdb", create=True)
    found.ingest(sources.read(path))

    with found.facts("", "tool_uses") as frame:
        by_tool = analysis.tools(frame, by="model").more["by_tool"]

    # the log shows the answers that were submitted as tool calls among its events alone
    assert dict(by_tool.select("tool", "n_calls").iter_rows()) == dict(asked) | {"submit": 15}
    assert by_tool["n_errors"].sum() == failed > 0
