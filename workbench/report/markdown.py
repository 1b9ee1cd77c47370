"""Markdown of a report: the text and tables of the page, without its charts.

Markup, links, entities and HTML in texts of the store are escaped.
"""

import re
from collections.abc import Iterator, Sequence

from workbench.report import sentences
from workbench.report.contents import Answered, Report
from workbench.report.tables import Table, tables

# A dollar sign before a digit is money; before anything else some renderers read it as math.
_MARKUP = re.compile(r"[\\`*_\[\]<>|#~&]|\$(?!\d)|:(?=//)|(?<=www)\.|@")
_NUMBER = re.compile(r"[-−+]?\$?[\d.,e+∞]+( \[[-−\d.,e+∞— ]+\])?")
_BEGINNING = re.compile(r"^([-+=]|\d+(?=[.)]))")


def escaped(text: str) -> str:
    """Escape the markup in one line of text."""
    return _MARKUP.sub(r"\\\g<0>", text)


def sentence(text: str) -> str:
    """Escape a text at the start of a line, where a dash or a number would start a list."""
    escaped_text = escaped(text)
    match = _BEGINNING.match(escaped_text)
    if match is None:
        return escaped_text
    end = match.end()
    return (
        f"{escaped_text[:end]}\\{escaped_text[end:]}" if match[0].isdigit() else f"\\{escaped_text}"
    )


def prose(text: str) -> str:
    """Escape text of our own, except code in backquotes."""
    return "".join(f"`{part}`" if code else escaped(part) for part, code in sentences.spans(text))


def fenced(text: str) -> list[str]:
    """Write a line of code as a block whose fence is longer than any in the line."""
    ticks = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, ticks + 1)
    return [fence, text, fence]


def grid(
    heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]
) -> Iterator[str]:
    """Write a table of cells that are not yet escaped; `right` lists the right-aligned columns."""
    yield "| " + " | ".join(map(escaped, heads)) + " |"
    yield "|" + "|".join("---:" if r else "---" for r in right) + "|"
    for row in rows:
        yield "| " + " | ".join(map(_cell, row)) + " |"


def _cell(text: str) -> str:
    """Escape a cell, except a number: the brackets of its interval are not a link."""
    return text if _NUMBER.fullmatch(text) else escaped(text)


def as_markdown(report: Report) -> str:
    """Write a report as Markdown."""
    families = report.families()
    lines = [
        f"# {escaped(sentences.clean(report.title))}",
        "",
        sentence(sentences.lead(report)),
        "",
    ]
    lines += [*grid(("about", ""), sentences.facts(report), (False, False)), ""]
    for origin in sentences.origins(report):
        lines += _folded(sentences.heading(origin).capitalize(), _table(origin, ""))
    lines += ["## Contents", ""] if families else []
    for title, answers in families.items():
        names = ", ".join(
            f"[{escaped(a.declared.title)}](#{_anchor(a.declared.title)})" for a in answers
        )
        lines.append(f"- {title}: {names}")
    lines.append("")
    for title, answers in families.items():
        lines += [f"## {title}", ""]
        for answer in answers:
            lines += _answer(report, answer)
    lines += _unanswered(report)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _anchor(title: str) -> str:
    """Return the anchor that GitHub and others give to a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _answer(report: Report, answer: Answered) -> Iterator[str]:
    declared = answer.declared
    yield from (f"### {escaped(declared.title)}", "", f"**{escaped(declared.question)}**", "")
    for text in sentences.outlook(answer):
        yield from (f"> **What would it take:** {escaped(text)}", "")
    main, *further = tables(answer.result, report.most, report.fewer)
    yield from _table(main, answer.command, sentences.level(answer))
    for text in sentences.notes(answer):
        yield f"- {sentence(text)}"
    yield ""
    for more in further:
        yield from _folded(sentences.heading(more), _table(more, answer.command))
    meaning = [line for text in sentences.paragraphs(declared.doc) for line in (prose(text), "")]
    yield from _folded("How it is estimated", meaning)
    if declared.source:
        yield from (f"Source: {escaped(declared.source)}.", "")
    yield from (*fenced(sentences.clean(answer.command)), "")


def _table(table: Table, command: str, level: str = "") -> Iterator[str]:
    heads = [head.text for head in table.heads]
    yield from grid(heads, table.rows, [h.is_number for h in table.heads])
    yield ""
    if rest := sentences.rest(table):
        yield from (f"{sentence(rest)}; all of them:", "", *fenced(sentences.clean(command)), "")
    below = " ".join(filter(None, (f"{level}." if level else "", sentences.unknown(table))))
    if below:
        yield from (sentence(below), "")


def _folded(summary: str, lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    """Fold lines in an HTML element; its blank lines let Markdown continue inside."""
    yield from (f"<details><summary>{_entities(summary)}</summary>", "", *lines, "</details>", "")


def _entities(text: str) -> str:
    import html

    return html.escape(text)


def _unanswered(report: Report) -> Iterator[str]:
    if report.unanswered:
        yield from ("## Without an answer", "")
        for entry in report.unanswered:
            failed = "failed: " if entry.failed else ""
            reason = escaped(sentences.clean(entry.reason))
            yield f"- **{escaped(entry.declared.title)}**: {failed}{reason}"
        yield ""
    if others := sentences.others(report):
        yield from (escaped(others), "")
