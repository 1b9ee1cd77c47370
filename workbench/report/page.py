"""HTML page of a report: one file with its charts, without scripts or network requests.

Texts of the store are escaped. The page's content security policy forbids scripts, images, fonts,
frames, forms, and any style but its own.
"""

import base64
import hashlib
import html
from collections.abc import Iterator
from pathlib import Path

from workbench.report import sentences
from workbench.report.contents import Answered, Report
from workbench.report.tables import Head, Table, tables

_STYLE = Path(__file__).with_name("page.css")
_FEW = 3  # a further table of at most this many rows is not folded


def e(text: str) -> str:
    """Escape text for an element or a quoted attribute."""
    return html.escape(text, quote=True)


def as_html(report: Report) -> str:
    """Write a report as a page."""
    style = _STYLE.read_text(encoding="utf-8")
    families = report.families()
    title = e(sentences.clean(report.title))
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(style)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<meta name="referrer" content="no-referrer">',
        f'<meta name="generator" content="workbench {e(report.version)}">',
        f"<title>{title}</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        "<header>",
        f"<h1>{title}</h1>",
        f'<p class="lead">{e(sentences.lead(report))}</p>',
        "</header>",
        *_contents(report),
        "<main>",
        *_looked(report),
    ]
    for family, answers in families.items():
        parts += [f'<section aria-label="{e(family)}">', f"<h2>{e(family)}</h2>"]
        for answer in answers:
            parts += _answer(report, answer)
        parts.append("</section>")
    return "\n".join([*parts, *_unanswered(report), "</main>", "</body>", "</html>"]) + "\n"


def _policy(style: str) -> str:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _contents(report: Report) -> Iterator[str]:
    yield from ('<nav aria-label="Contents">', '<p><a href="#looked">Traces of this report</a></p>')
    for family, answers in report.families().items():
        links = (f'<li><a href="#{e(a.mark)}">{e(a.declared.title)}</a></li>' for a in answers)
        yield f"<div><h2>{e(family)}</h2><ul>{''.join(links)}</ul></div>"
    if report.unanswered:
        yield '<p><a href="#unanswered">Without an answer</a></p>'
    yield "</nav>"


def _looked(report: Report) -> Iterator[str]:
    yield from ('<section id="looked">', "<h2>Traces of this report</h2>", "<dl>")
    for name, text in sentences.facts(report):
        yield f"<div><dt>{e(name)}</dt><dd>{e(text)}</dd></div>"
    yield "</dl>"
    for origin in sentences.origins(report):
        yield from _folded(sentences.heading(origin).capitalize(), _table(origin, ""))
    yield "</section>"


def _answer(report: Report, answer: Answered) -> Iterator[str]:
    declared = answer.declared
    yield from (f'<article id="{e(answer.mark)}">', f"<h3>{e(declared.title)}</h3>")
    yield f'<p class="question">{e(declared.question)}</p>'
    for text in sentences.outlook(answer):
        yield f'<p class="outlook"><b>What would it take</b> {e(text)}</p>'
    if answer.picture:
        label = e(sentences.alternative(answer))
        yield f'<figure role="img" aria-label="{label}">{answer.picture}</figure>'
    main, *further = tables(answer.result, report.most, report.fewer)
    yield from _table(main, answer.command, sentences.level(answer))
    if notes := sentences.notes(answer):
        yield f'<ul class="notes">{"".join(f"<li>{e(text)}</li>" for text in notes)}</ul>'
    for more in further:
        yield from _folded(
            sentences.heading(more), _table(more, answer.command), is_open=more.n_rows <= _FEW
        )
    yield from _folded("How it is estimated", _meaning(answer, main))
    if declared.source:
        yield f'<p class="source">Source: {e(declared.source)}.</p>'
    yield from (f"<pre><code>{e(sentences.clean(answer.command))}</code></pre>", "</article>")


def _meaning(answer: Answered, main: Table) -> Iterator[str]:
    """Write the definition of the analysis and the meanings of the main table's columns."""
    for text in sentences.paragraphs(answer.declared.doc):
        yield f"<p>{prose(text)}</p>"
    heads = [h for h in main.heads if h.doc]
    if heads:
        lines = (f"<div><dt>{e(h.text)}</dt><dd>{e(h.doc)}</dd></div>" for h in heads)
        yield f"<dl>{''.join(lines)}</dl>"


def prose(text: str) -> str:
    """Write text of our own; text in backquotes is code."""
    return "".join(
        f"<code>{e(part)}</code>" if code else e(part) for part, code in sentences.spans(text)
    )


def _folded(summary: str, lines: Iterator[str], *, is_open: bool = False) -> Iterator[str]:
    yield f"<details{' open' if is_open else ''}><summary>{e(summary)}</summary>"
    yield from lines
    yield "</details>"


def _table(table: Table, command: str, level: str = "") -> Iterator[str]:
    """Write a table in a box that scrolls, and below it what it does not show."""
    # tabindex lets the keyboard reach a box that scrolls
    yield '<div class="box" role="region" aria-label="Table" tabindex="0">'
    yield '<table class="side">' if table.sideways else "<table>"
    if not table.sideways:
        yield f"<thead><tr>{''.join(map(_head, table.heads))}</tr></thead>"
    yield "<tbody>"
    for row in table.rows:
        cells = (_cell(text, table, place) for place, text in enumerate(row))
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody></table></div>"
    below = [f"{e(level)}." if level else "", e(sentences.unknown(table))]
    if rest := sentences.rest(table):
        all_ = f"; all of them: <code>{e(sentences.clean(command))}</code>." if command else "."
        below.insert(0, f"{e(rest)}{all_}")
    if any(below):
        yield f'<p class="below">{" ".join(filter(None, below))}</p>'


def _head(head: Head) -> str:
    number = ' class="n"' if head.is_number else ""
    title = f' title="{e(head.doc)}"' if head.doc else ""
    return f'<th scope="col"{number}{title}>{e(head.text)}</th>'


def _cell(text: str, table: Table, place: int) -> str:
    """Write a cell: a key as the head of its row, an interval paler than its figure."""
    number = ' class="n"' if table.heads[place].is_number else ""
    if place < table.keys:
        return f'<th scope="row"{number}>{e(text)}</th>'
    figure, bracket, ends = text.partition(" [")
    if bracket and number:
        return f"<td{number}>{e(figure)} <span>[{e(ends)}</span></td>"
    return f"<td{number}>{e(text)}</td>"


def _unanswered(report: Report) -> Iterator[str]:
    if report.unanswered or report.others:
        yield from ('<section id="unanswered">', "<h2>Without an answer</h2>")
        if report.unanswered:
            yield "<dl>"
        for entry in report.unanswered:
            reason = f"{'failed: ' if entry.failed else ''}{sentences.clean(entry.reason)}"
            failed = ' class="failed"' if entry.failed else ""
            yield f"<div{failed}><dt>{e(entry.declared.title)}</dt><dd>{e(reason)}</dd></div>"
        if report.unanswered:
            yield "</dl>"
        if others := sentences.others(report):
            yield f'<p class="below">{e(others)}</p>'
        yield "</section>"
