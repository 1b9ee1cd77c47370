"""Reports: the same words in three formats, everything that was asked in them, nothing from outside
obeyed."""

import base64
import datetime as dt
import hashlib
import html.parser
import re

import numpy as np
import polars as pl
import pytest
from markdown_it import MarkdownIt

from workbench import analysis, formats, report
from workbench.analysis.core.result import Result
from workbench.report import latex, markdown, page, pictures, sentences, tables
from workbench.report.contents import Looked, Unanswered, Value
from workbench.schema import Column

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
HOSTILE = [
    "</style></script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)> &lt;b&gt; &#x202e;',
    "\\end{tabular}\\input{/etc/passwd} \\write18{rm} $x$ %&#_^~{}",
    "[click](javascript:alert(1)) ![x](http://e.vil/x.png) <https://e.vil> `code` **b** | c ~~d~~",
    "www.e.vil and me@e.vil and https://e.vil/?a=b",
    "\x1b[31mred\x00\u202e\u200b line\nbreak\r\t",
    "long " * 5000,
    "]]> --> <!-- \u4e2d\u6587 \u0416 \U0001f600 ''' \"\"\" --- ``` ,, ?`",
]


def traces(*groups: str, n_items: int = 12) -> pl.DataFrame:
    """Groups on the same items, the later the better and the dearer."""
    rng = np.random.default_rng(1)
    rows = [
        {
            "configuration": g,
            "model": g,
            "task": "sums",
            "task_id": "sums",
            "item": str(i),
            "item_id": str(i),
            "trial": 0,
            "error_type": None,
            "cluster": None,
            "passed": bool(rng.random() < (k + 1) / (len(groups) + 1)),
            "cost_usd": 0.001 * 4**k * rng.uniform(0.5, 1.5),
            "reasoning_cost_usd": 0.0005,
            "e2e_s": rng.uniform(1, 9),
            "input_usd_per_mtok": 9.0 - k,
            "output_usd_per_mtok": 1.0,
            "output_tokens": int(rng.integers(10, 999)),
            "tool": "search",
            "answer": "1 to 9",
            "target": "5",
            "difficulty": float(i % 4),
            "trace_id": f"{k}-{i}",
        }
        for k, g in enumerate(groups)
        for i in range(n_items)
    ]
    return pl.DataFrame(rows, schema_overrides={"error_type": pl.String, "cluster": pl.String})


def made(*results: Result, draw: bool = False, **fields):
    """A report of results, without a store."""
    return report.of(results, fields.pop("looked", Looked()), made_at=NOW, draw=draw, **fields)


def all_three(found) -> dict[str, str]:
    """A report in every format."""
    return {suffix: report.written(found, suffix) for suffix in report.SUFFIXES}


class Page(html.parser.HTMLParser):
    """The elements, attributes and text of a page; complains of what is not closed."""

    VOID = frozenset({"meta"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        """Note an element."""
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Note an element that closes itself, as those of SVG do."""
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        """Check that it ends what was begun last."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Note text, that of the style aside."""
        if self.open[-1:] != ["style"]:
            self.text += data


def rendered(text: str) -> Page:
    """A Markdown text as a reader shows it: tables, links, and HTML as far as the text has any."""
    return Page(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text))


def check_latex(text: str) -> None:
    """Read LaTeX as TeX groups it: braces and environments close, rows have their cells, nothing is
    left unescaped."""
    assert all(ord(c) >= 32 or c == "\n" for c in text)
    body = "\n".join(line for line in text.split("\n") if not line.startswith("%"))
    body = re.sub(r"\\ifdefined.*?\\fi\n", "", body, flags=re.DOTALL)
    bare = re.sub(r"\\([a-zA-Z]+|.)", lambda m: f"§{m[1]} " if m[1].isalpha() else "§", body)
    depth = 0
    for char in bare:
        depth += (char == "{") - (char == "}")
        assert depth >= 0
    assert depth == 0
    assert not re.search(r'[#%~"`]', bare)
    # mathematics is ours alone: one symbol, or a power
    assert re.fullmatch(r"([^$]*\$(§[a-zA-Z]+ |−|-|\^[0-9{}§a-z -]+)\$)*[^$]*", bare)
    assert not re.search(r"[\^_]", re.sub(r"\$[^$]*\$", "", bare))
    names = re.findall(r"\\(begin|end)\{([^}]*)\}", body)
    stack: list[str] = []
    for what, name in names:
        if what == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    assert {name for _, name in names} <= {"table", "tabular", "itemize"}
    used = set(re.findall(r"\\([a-zA-Z]+)", body))
    assert not used & {
        "input",
        "include",
        "write",
        "def",
        "immediate",
        "openout",
        "catcode",
        "csname",
        "href",
        "url",
    }
    for preamble, rows in re.findall(
        r"\\begin\{tabular\}\{((?:[^{}]|\{[^}]*\})*)\}(.*?)\\end\{tabular\}", body, re.DOTALL
    ):
        n = len(re.sub(r"\{[^}]*\}", "", preamble))
        for row in re.findall(r"^ +(.*) \\\\$", rows, re.MULTILINE):
            assert len(re.findall(r"(?<!\\)&", row)) == n - 1
            assert row[0] not in "[*"


@pytest.fixture(scope="module")
def answers():
    """Every analysis of the registry, asked of three groups."""
    frame = traces("first", "second", "third")
    return [analysis.run(name, frame) for name in analysis.names()]


def test_every_analysis_of_the_registry_is_in_every_format(answers):
    """With an answer or with the reason for none: adding a file to the catalogue adds it to the
    report."""
    found = made(*answers)
    assert len(found.answers) + len(found.unanswered) == len(analysis.names())
    assert len(found.answers) > 25

    for suffix, text in all_three(found).items():
        shown = {".html": lambda t: Page(t).text, ".md": lambda t: rendered(t).text, ".tex": str}[
            suffix
        ](text)
        for answer in found.answers:
            assert answer.declared.question.split("'")[0].split("$")[0] in shown.replace("{}", "")
            assert f"workbench analyze {answer.result.name}" in shown or suffix == ".tex"
        for missing in found.unanswered:
            assert missing.declared.title in shown
    check_latex(report.as_latex(found))
    Page(report.as_html(found))


def test_the_same_results_and_time_give_the_same_bytes(answers):
    """Nothing is taken from the clock, from an address or from the order of a set."""
    first, second = (all_three(made(*answers[:20])) for _ in range(2))

    assert first == second


@pytest.fixture(scope="module")
def hostile():
    """A report about names that attack every format, charts included."""
    frame = traces(*HOSTILE)
    results = [analysis.run(name, frame) for name in ("summary", "frontier", "compare")]
    values = tuple(Value(name, 3) for name in HOSTILE)
    runs = pl.DataFrame(
        {
            "run_id": HOSTILE,
            "started_at": [NOW] * len(HOSTILE),
            "n_traces": 1,
            "versions": ['{"<b>": "$x$"}', "not json", "[1]", None, "{}", "1", "null", '"x"'],
        },
        strict=False,
    )
    prices = pl.DataFrame(
        {"price_id": ["p"], "sheet": [HOSTILE[0]], "model": [HOSTILE[3]], "n_traces": 1}
    )
    looked = Looked(
        store=HOSTILE[1][:60],
        where=HOSTILE[2],
        n_traces=96,
        n_all=96,
        models=values,
        tasks=values,
        runs=runs,
        prices=prices,
        n_unpriced=0,
        methods=("<i>",),
        first_at=NOW,
        last_at=NOW,
    )
    found = made(*results, looked=looked, title="\ud83d" + HOSTILE[0] + HOSTILE[2], draw=True)
    bad = Unanswered(analysis.get("power"), HOSTILE[0] + HOSTILE[3], failed=True)
    return report.Report(**{f: getattr(found, f) for f in found.__slots__} | {"unanswered": (bad,)})


def test_a_page_takes_no_markup_from_outside(hostile):
    """Names are text: no element and no attribute but the page's own, nothing that runs or
    loads."""
    text = report.as_html(hostile)
    found = Page(text)

    assert set(found.tags) <= {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "nav",
        "main",
        "section",
        "article",
        "h1",
        "h2",
        "h3",
        "p",
        "b",
        "ul",
        "li",
        "a",
        "dl",
        "div",
        "dt",
        "dd",
        "figure",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "span",
        "details",
        "summary",
        "pre",
        "code",
        "svg",
        "g",
        "path",
        "rect",
        "line",
        "circle",
        "text",
        "tspan",
        "defs",
        "clippath",
    }
    assert not [
        name
        for name, _ in found.attributes
        if name.startswith("on") or name in {"src", "style", "xlink:href"}
    ]
    assert all(value.startswith("#") for name, value in found.attributes if name == "href")
    assert "<script>alert(1)</script>" in found.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text)
    assert "␛[31mred" in text
    assert len(text) < 400_000


def test_a_page_asks_for_nothing_and_allows_nothing():
    """The policy forbids all but the page's own style, whose digest is right."""
    text = report.as_html(made())
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]

    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style


def test_markdown_takes_no_markup_from_outside(hostile):
    """A reader sees names as they are: no link but those of the contents, no picture, no HTML but
    folds."""
    text = report.as_markdown(hostile)
    found = rendered(text)

    assert not {"img", "script", "b", "s", "style"} & set(found.tags)
    links = [value for name, value in found.attributes if name == "href"]
    assert links == ["#summary", "#frontier", "#compare"]
    assert "[click](javascript:alert(1))" in found.text
    assert "www\\.e.vil" in text
    assert "https\\://e.vil" in text
    assert all(len(line) < 40_000 for line in text.splitlines())


def test_latex_obeys_nothing_from_outside(hostile):
    """Braces and environments close, every row has its cells, no character acts."""
    text = report.as_latex(hostile)

    check_latex(text)
    assert r"\textbackslash{}end\{tabular\}" in text
    assert r"\workbenchletter{4E2D}{中}" in text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (
            "a_b & c% #1 $2 {x} ~ ^ \\",
            r"a\_b \& c\% \#1 \$2 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{}",
        ),
        ("a--b ,, '' <|>", r"a-{}-b ,{}, '{}' \textless{}\textbar{}\textgreater{}"),
        ("−0.5 [−1, ∞]", r"$-$0.5 [$-$1, $\infty$]"),
        ("é中", r"é\workbenchletter{4E2D}{中}"),
    ],
)
def test_latex_escapes(text, written):
    """What TeX would act on is written so that it is seen."""
    assert latex.escaped(text) == written


def test_a_bracket_that_begins_a_row_is_no_argument_of_the_line_before():
    r"""TeX takes what follows `\\` in brackets for a length."""
    frame = pl.DataFrame({"configuration": ["[x]", "*y"], "n": [1, 2]})
    result = Result("summary", frame, (), {}, (), {}, ("configuration",))

    text = report.as_latex(made(result))

    assert "  {}[x] & 1" in text
    assert "  {}*y & 2" in text


def test_a_wide_table_is_split_into_parts_that_each_name_their_rows():
    """LaTeX pages do not scroll; no column is lost."""
    result = analysis.run("summary", traces("first", "second"))
    text = report.as_latex(made(result))

    heads = re.findall(r"\\toprule\n  (.*) \\\\\n  \\midrule", text)
    assert all(head.startswith("configuration") for head in heads)
    assert re.search(r"Part 2 of \d", text)
    flat = " ".join(re.sub(r"\\shortstack\[.\]|[{}]", "", h).replace("\\\\", " ") for h in heads)
    for head in tables.tables(result, 40, 10)[0].heads:
        assert latex.escaped(head.text) in flat


def test_markdown_escapes_what_begins_a_line():
    """A sentence that begins with a dash or a number is no list."""
    assert rendered(markdown.sentence("- x")).tags == ["p"]
    assert rendered(markdown.sentence("1. x")).tags == ["p"]
    assert rendered(markdown.sentence("1. x")).text.strip() == "1. x"


def test_a_command_stays_in_its_block():
    """Backquotes in a slice do not end it."""
    lines = markdown.fenced("workbench analyze x --where '```'")

    assert rendered("\n".join(lines)).text.strip() == "workbench analyze x --where '```'"


@pytest.mark.parametrize(
    ("ends", "unit", "written"),
    [
        ((0.42413, 0.37987, 0.45991), "0..1", "0.42 [0.38, 0.46]"),
        ((-0.5, -1.23, 0.1), "", "−0.50 [−1.23, 0.10]"),
        ((8.64e-6, 7.4e-6, 1.01e-5), "USD", "$0.0000086 [0.0000074, 0.0000101]"),
        ((1234.5, 1100.0, 1400.0), "tokens", "1,234 [1,100, 1,400]"),
        ((2 / 3, 0.216, 0.998), "0..1", "0.67 [0.22, 1.00]"),
        ((0.5, None, 0.7), "", "0.50 [—, 0.70]"),
        ((0.5, None, None), "", "0.5000"),
        ((None, 0.1, 0.2), "", "—"),
        ((math_inf := float("inf"), 0.2, math_inf), "USD", "∞ [0.200, ∞]"),
        ((1.0, 1.0, 1.0), "", "1.000 [1.000, 1.000]"),
        ((-0.001, -0.2, 0.2), "", "0.00 [−0.20, 0.20]"),
    ],
)
def test_an_interval_stands_with_its_figure_in_the_digits_that_it_bears(ends, unit, written):
    """As many as its width bears; unknown is a dash, and nothing rounds to minus zero."""
    assert formats.interval(*ends, Column("x", "float", unit)) == written


def result_of(frame: pl.DataFrame, **fields) -> Result:
    """A result of the summary with any frame."""
    columns = (
        Column("configuration", "text"),
        Column("pass_rate", "float", "0..1", "Right ones.", "none scored"),
        Column("cost_usd", "float", "USD", "Money.", "no price", "cost"),
        Column("n", "int", "count"),
    )
    given = {
        "dropped": {},
        "notes": (),
        "options": {"level": 0.9},
        "by": ("configuration",),
    } | fields
    return Result("summary", frame, columns, **given)


RATES = {"pass_rate": [0.5] * 3, "pass_rate_low": [0.4] * 3, "pass_rate_high": [0.6] * 3}


def test_what_is_cut_is_said_with_the_command_that_gives_all():
    """Also of further tables, which are cut earlier."""
    frame = pl.DataFrame({"configuration": ["a", "b", "c"], **RATES})
    more = {"curve": pl.DataFrame({"n": range(30)})}
    found = made(
        result_of(frame, more=more), most=2, looked=Looked(store="s.duckdb", where="model:a b")
    )

    for suffix, text in all_three(found).items():
        assert "1 more row" in text
        assert "20 more rows" in text
        if suffix != ".tex":
            assert (
                "workbench analyze summary --where &#x27;model:a b&#x27; --level 0.9"
                " --store s.duckdb" in text.replace("'", "&#x27;")
            )


def test_what_no_row_knows_is_named_and_not_shown():
    """A column of dashes becomes a sentence with what its absence means."""
    frame = pl.DataFrame(
        {"n": [1, 2, 3], "configuration": ["a", "b", "c"], **RATES, "cost_usd": [None] * 3}
    )

    main = tables.tables(result_of(frame), 40, 10)[0]

    assert [h.text for h in main.heads] == ["configuration", "pass rate", "n"]
    assert main.rows[0] == ("a", "0.50 [0.40, 0.60]", "1")
    assert sentences.unknown(main) == "Not known of any row: cost (USD) (no price)."


def test_one_long_row_is_turned():
    """A line per column."""
    frame = pl.DataFrame({"configuration": ["a"], "n": [1], "x": [1.5], "y": ["z"], "v": [True]})

    main = tables.tables(result_of(frame), 40, 10)[0]

    assert main.sideways
    assert ("v", "yes") in main.rows
    assert main.n_cut == 0


def test_an_answer_without_a_figure_is_listed_with_the_reason():
    """No rows, or figures that are unknown in all of them."""
    empty = result_of(pl.DataFrame({"configuration": []}), dropped={"failed traces": 1200})
    blank = {"pass_rate": [None], "pass_rate_low": [None], "pass_rate_high": [float("nan")]}
    unknown = result_of(
        pl.DataFrame({"configuration": ["a"], "n": [3], **blank}), notes=("no meter",)
    )

    found = made(
        empty, unknown, result_of(pl.DataFrame({"configuration": ["a", "b", "c"], **RATES}))
    )

    assert [u.reason for u in found.unanswered] == ["left out: 1,200 failed traces", "no meter"]
    assert len(found.answers) == 1
    assert made(
        result_of(pl.DataFrame({"configuration": ["a"]}))
    ).answers  # a name is an answer, too


def test_the_outlook_stands_apart_from_the_notes():
    """What would settle the question is said once, as such."""
    result = analysis.run("summary", traces("first", "second", "third", n_items=6))
    assert len(result.outlook) == 1
    assert result.outlook[0] in result.notes

    found = made(result)

    assert sentences.outlook(found.answers[0]) == [sentences.clean(result.outlook[0])]
    assert sentences.clean(result.outlook[0]) not in sentences.notes(found.answers[0])
    assert Page(report.as_html(found)).text.count(result.outlook[0]) == 1


def test_a_chart_that_fails_leaves_its_table(monkeypatch):
    """And says why it is not there."""
    from workbench import charts

    def broken(_result):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(charts, "chart", broken)
    found = made(result_of(pl.DataFrame({"configuration": ["a", "b", "c"], **RATES})), draw=True)

    text = Page(report.as_html(found)).text

    assert "there is no chart: ZeroDivisionError: by zero" in text
    assert "0.50" in text


def test_charts_of_one_page_share_no_names_and_hold_no_links(hostile):
    """Ids are those of the analysis; a chart has words for who does not see it."""
    text = report.as_html(hostile)
    ids = re.findall(r'\bid="([^"]*)"', text)

    assert len(ids) == len(set(ids))
    assert text.count("<svg") == 3
    assert text.count('<figure role="img" aria-label="Chart: ') == 3


def test_an_analysis_asked_twice_has_two_places():
    """With other options, for example; ids and labels are told apart."""
    frame = pl.DataFrame({"configuration": ["a", "b", "c"], **RATES})
    found = made(result_of(frame), result_of(frame))

    assert [a.mark for a in found.answers] == ["summary", "summary-2"]
    assert 'id="summary-2"' in report.as_html(found)
    labels = re.findall(r"\\label\{(.*?)\}", report.as_latex(found))
    assert len(labels) == len(set(labels)) == 3


def test_a_picture_keeps_drawings_and_drops_what_runs_or_loads():
    """An allow-list of elements and attributes, references to itself alone."""
    svg = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
        onload="x()" width="9">
      <script>x()</script><a xlink:href="javascript:x()"><text>link</text></a>
      <image href="http://e.vil"/>
      <foreignObject><b>x</b></foreignObject><style>@import "x"</style>
      <g clip-path="url(#c)" style="fill:url(http://e.vil)">
      <path d="M0,0" fill="url(http://e.vil)" stroke="#fff"/></g>
      <clipPath id="c"><rect width="1"/></clipPath></svg>"""

    clean = pictures.inline(svg, "one")

    assert not re.search("script|xlink|image|foreign|import|e.vil|style|onload", clean)
    assert 'clip-path="url(#one-c)"' in clean
    assert 'id="one-c"' in clean
    assert 'stroke="#fff"' in clean


def test_prose_keeps_its_code():
    """Backquotes of a docstring are code in a page and stay in Markdown."""
    assert page.prose("a `b<c` d") == "a <code>b&lt;c</code> d"
    assert markdown.prose("a_b `b_c`") == "a\\_b `b_c`"


def test_a_long_sentence_is_cut_and_says_so():
    """No silent truncation."""
    assert sentences.clean("x" * 2000).endswith("x… (500 more characters)")
    assert sentences.clean("short") == "short"
