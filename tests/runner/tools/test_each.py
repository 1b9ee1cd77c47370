"""The tools one by one: what they answer, what they refuse, and what hostile questions cannot
do."""

import asyncio
import json
import math
import re
import resource
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import datasets, sandbox
from workbench.errors import ConfigError
from workbench.runner import tools
from workbench.runner.tools import arguments, calculator, search, sql, sql_worker


def call(name, text, **options):
    """Ask a tool with arguments as a model writes them."""
    box = tools.Toolbox([tools.get(name)], **options)
    return asyncio.run(box.call(name, text if isinstance(text, str | None) else json.dumps(text)))


# ---- calculator
# -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("17 * 23 - 6", "385"),
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * 4", "20"),
        ("2 ^ 3 ^ 2", "512"),
        ("-2 ^ 2", "-4"),
        ("2 ** -1", "0.5"),
        ("0.1 + 0.2", "0.3"),
        ("10 - 2 - 3", "5"),
        ("7 // 2", "3"),
        ("-7 % 3", "2"),
        ("--3", "3"),
        ("1/3", "0.333333333333333 (rounded; exactly 1/3)"),
        ("sqrt(16)", "4"),
        ("2 ^ 0.5", "1.41421356237309504880168872421"),
        ("sqrt(4/9) * 9", "6"),
        ("round(2.5)", "3"),
        ("round(-2.675, 2)", "-2.68"),
        ("max(1, 7, 3)", "7"),
        ("gcd(12, 18) + lcm(4, 6)", "18"),
        ("comb(52, 5)", "2598960"),
        ("factorial(20)", "2432902008176640000"),
        ("1_000 + .5", "1000.5"),
        ("1e3", "1000"),
        ("3 × 4 ÷ 6 − 1", "1"),
        ("0 ^ 0", "1"),
        ("(-1) ^ 1001", "-1"),
        ("floor(-0.5)", "-1"),
        ("ceil(7/2)", "4"),
        ("abs(-3)", "3"),
        ("1e-30", "1E-30"),
    ],
)
def test_the_calculator_works_out_exactly(expression, value):
    """Precedence as in a textbook; fractions stay whole; what is rounded says so."""
    assert call("calculator", {"expression": expression}).text == value


@given(
    st.recursive(
        st.integers(0, 99).map(str),
        lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        max_leaves=12,
    )
)
def test_the_calculator_agrees_with_fractions(expression):
    """A second derivation: Python's own grammar over fractions, where nothing is divided by
    zero."""
    try:
        expected = eval(re.sub(r"\d+", r"Fraction(\g<0>)", expression), {"Fraction": Fraction})
    except ZeroDivisionError:
        expected = None

    if expected is None:
        with pytest.raises(ValueError, match="division by zero"):
            calculator.evaluate(expression)
    else:
        assert calculator.evaluate(expression) == expected


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("9^9^9", "too large"),
        ("10^1000 * 10^1000", "too large"),
        ("factorial(10^9)", "0 to 400"),
        ("comb(10^9, 5)", "4000"),
        ("1/0", "division by zero"),
        ("5 % 0", "division by zero"),
        ("0^-1", "division by zero"),
        ("sqrt(-1)", "no square root"),
        ("2^0.3", "whole number"),
        ("", "empty"),
        ("2 +", "too early"),
        ("(2", "missing"),
        ("2 3", "not expected"),
        ("5,000 + 1", "without separators"),
        ("__import__('os')", "cannot be read"),
        ("os.system('x')", "no function|cannot be read"),
        ("foo(2)", "there are sqrt"),
        ("sqrt(1, 2)", "does not take 2"),
        ("gcd(1.5, 2)", "[Ww]hole numbers"),
        ("round(1, 10^9)", "too many digits"),
        ("(" * 400 + "1", "nested"),
        ("2^" * 200 + "1", "nested"),
        ("1e999 * 1e999", "too large"),
        ("round(1, 5, 7)", "does not take"),
    ],
    ids=lambda v: v[:20],
)
def test_the_calculator_refuses_with_a_reason(expression, words):
    """No code is evaluated, nothing takes long, no fault escapes."""
    start = time.process_time()
    called = call("calculator", {"expression": expression})

    assert re.search(words, called.text)
    assert called.record.error_type == "no_value"
    assert time.process_time() - start < 0.5


@given(st.text(alphabet="0123456789.+-*/%^(), esqrtminax", max_size=60))
def test_no_text_breaks_the_calculator(text):
    """Any text has a value or a reason."""
    called = call("calculator", {"expression": text})

    assert called.text
    assert called.record.error_type in {None, "no_value"}


# ---- search
# ---------------------------------------------------------------------------------------


def test_search_scores_as_the_formula_says():
    """BM25 worked out by hand for three documents (Robertson and Zaragoza 2009, eq. 3.15)."""
    texts = ("red fox", "red red dog barks", "cat")
    index = search.Index([search.Document(f"d{n}", "", text) for n, text in enumerate(texts)])
    mean = 7 / 3
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    one = idf * 1 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 2 / mean))
    two = idf * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 4 / mean))

    found = index.find("RED, the red!", 5)

    assert (
        [(d.document, pytest.approx(score)) for d, score in found] == [("d1", two), ("d0", one)]
        if two > one
        else [("d0", one), ("d1", two)]
    )
    assert index.find("cat", 1)[0][0].document == "d2"
    assert index.find("the of", 3) == []


def test_search_finds_every_document_by_its_title():
    """The corpus that ships: the document itself is among the first three."""
    index = search.corpus()

    assert len(index.documents) > 100
    for document in index.documents:
        assert document in [found for found, _ in index.find(document.title, 3)]


def test_search_answers_with_titles_and_texts():
    """The best first; as many as asked for; nothing found is said."""
    called = call("search", {"query": "Who designed the Kelldale Bridge?", "k": 2})
    lines = called.text.splitlines()

    assert len(lines) == 2
    assert "Kelldale Bridge" in lines[0]
    assert called.record.error_type is None
    assert call("search", {"query": "zzz"}).text == "No document has any of these words."
    assert call("search", {"query": "town", "k": 11}).record.error_type == "bad_arguments"


# ---- sql
# ------------------------------------------------------------------------------------------


def test_sql_answers_with_a_table():
    """Names, rows, and how many there are; a long result is cut and says so."""
    one = call("sql", {"query": "SELECT count(*) AS n FROM customers"})
    many = call("sql", {"query": "SELECT order_id FROM orders ORDER BY 1"})

    assert (one.text, one.record.error_type) == ("n\n30", None)
    assert many.text.splitlines()[:3] == ["order_id", "1", "2"]
    assert many.text.endswith("(the first 50 rows; there are more)")
    assert call("sql", {"query": "SELECT NULL AS a, 1 AS b WHERE false"}).text == "a | b\n(0 rows)"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("DROP TABLE orders", "one SELECT"),
        ("SELECT 1; SELECT 2", "one SELECT"),
        ("SET memory_limit = '9GB'", "one SELECT"),
        ("COPY orders TO 'x.csv'", "one SELECT"),
        ("ATTACH 'x.db'", "one SELECT"),
        ("INSTALL httpfs", "one SELECT"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled by configuration"),
        ("SELECT * FROM '/etc/passwd'", "does not exist"),
        ("SELECT * FROM glob('/*')", "disabled by configuration"),
        ("SELECT getenv('HOME')", "does not exist"),
        ("SELCT 1", "syntax error"),
        ("", "one SELECT"),
    ],
)
def test_sql_only_reads_and_only_its_own_tables(query, words):
    """No file, no setting, no other statement; the reason is said."""
    asked = {
        "database": datasets.data_dir() / "tools" / "database.sql",
        "query": query,
        "rows": 5,
        "cell": 9,
    }

    assert re.search(words, sql_worker.answer(asked)["error"])


def test_sql_takes_no_more_memory_than_it_may():
    """Neither here nor, beyond its cap, where it runs; the next query is answered."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    called = call("sql", {"query": "SELECT repeat('x', 2000000000)"})

    assert re.search("[Mm]emory", called.text)
    assert called.record.error_type == "sql"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_query_without_end_is_ended(monkeypatch):
    """After its seconds, whatever it does."""
    monkeypatch.setattr(sql, "_QUERY_S", 1)
    start = time.perf_counter()
    called = call("sql", {"query": "SELECT count(*) FROM range(100000000000) a, range(100000) b"})

    assert called.record.error_type in {"limit", "timeout"}
    assert time.perf_counter() - start < 30.0


# ---- python
# ---------------------------------------------------------------------------------------


@pytest.mark.skipif(sandbox.why_not() is not None, reason=f"no sandbox: {sandbox.why_not()}")
def test_python_shows_what_was_printed_and_how_it_ended():
    """Code as JSON or in a fence; silence and errors are said."""
    assert call("python", {"code": "print(6 * 7)"}).text == "42"
    assert call("python", "```python\nprint(6 * 7)\n```").text == "42"
    assert call("python", {"code": "x = 1"}).text == "(nothing was printed)"
    failed = call("python", {"code": "print('a')\n1/0"})
    assert failed.text.startswith("a\n")
    assert failed.text.endswith(
        "ZeroDivisionError: division by zero\n[the script ended with status 1]"
    )
    assert failed.record.error_type == "exit"


def test_without_a_sandbox_there_is_no_python(monkeypatch):
    """Refused before the first item, with the reason."""
    monkeypatch.setattr(sandbox, "why_not", lambda: "bwrap is not installed")

    with pytest.raises(ConfigError, match="bwrap is not installed"):
        tools.get("python")


# ---- all of them
# ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tools.names())
def test_a_tool_s_example_is_true(name):
    """Its answer follows from what the tool really says; its question is in no task set."""
    if name == "python" and sandbox.why_not() is not None:
        pytest.skip("no sandbox")
    tool = tools.get(name)
    arguments.check(tool.example.arguments, tool.spec.parameters)

    result = asyncio.run(tool.run(tool.example.arguments))

    assert result.error is None
    assert tool.example.answer in result.text
    asked = {i.input for n in datasets.task_names() for i in datasets.load_task(n).items}
    assert tool.example.question not in asked
    assert tool.spec.name == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"query": ', "no JSON"),
        ("[1, 2]", "maxLength|of the type|object"),
        ('{"k": 3}', "'query' is missing"),
        ('{"query": 5}', "of the type string, not 5"),
        ('{"query": "x", "k": true}', "of the type integer"),
        ('{"query": "x", "n": 1}', "no argument 'n'; there are query, k"),
        ('{"query": "x", "k": 0}', "between 1 and 10"),
        (json.dumps({"query": "x" * 301}), "301 characters"),
        ("{" * 5000, "no JSON"),
        (None, "missing"),
    ],
)
def test_wrong_arguments_are_told_to_the_model(text, words):
    """What is wrong, in words; recorded as such; the tool does not run."""
    called = call("search", text)

    if text == "[1, 2]":  # the one text that it takes, written without JSON around it
        assert called.record.error_type is None
        return
    assert re.search(words, called.text)
    assert (called.record.error_type, called.record.error_message) == ("bad_arguments", called.text)


def test_a_tool_that_is_not_there_is_named():
    """By a model: an answer. By a plan: an error with the nearest name."""
    box = tools.Toolbox([tools.get("calculator")])
    called = asyncio.run(box.call("browse", "{}"))

    assert called.text == "Error: there is no tool called 'browse'; there are calculator."
    assert called.record.error_type == "unknown_tool"
    with pytest.raises(ConfigError, match="did you mean 'calculator'"):
        tools.get("calculater")


def test_a_long_answer_is_cut_and_says_so():
    """What is left out is counted; the record counts the bytes that the model sees."""
    called = call("sql", {"query": "SELECT order_id FROM orders"}, most_characters=20)

    body, note = called.text.split("\n[cut: ")
    assert len(body) == 20
    assert re.fullmatch(r"20 of \d+ characters are shown\]", note)
    assert called.record.result_bytes == len(called.text)


def test_a_tool_that_hangs_is_given_up():
    """After its time, with an error; the attempt goes on."""

    class Slow:
        spec = tools.get("calculator").spec
        example = tools.get("calculator").example
        timeout_s = 0.05

        async def run(self, arguments):
            await asyncio.sleep(60)

    called = asyncio.run(tools.Toolbox([Slow()]).call("calculator", "1"))

    assert called.record.error_type == "timeout"
    assert 0.04 < called.record.e2e_s < 30.0


def test_times_are_the_clock_s():
    """Start and length of a tool call come from the clocks that were handed in."""
    ticks = iter([10.0, 12.5])
    box = tools.Toolbox(
        [tools.get("calculator")], clock=lambda: next(ticks), now=lambda: "2026-01-01"
    )
    record = asyncio.run(box.call("calculator", "1")).record

    assert (record.started_at, record.e2e_s, record.cost_usd) == ("2026-01-01", 2.5, None)
