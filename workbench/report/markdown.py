"""A report as Markdown: the tables and words of the page, without its charts.

What comes from outside is shown, not followed: markup, links, entities and HTML are escaped.
"""

import re
from collections.abc import Iterator, Sequence

from workbench.report import words
from workbench.report.contents import Answered, Report
from workbench.report.tables import Table, tables

# A dollar sign before a digit is money; before anything else some readers take it for mathematics.
_MARKUP = re.compile(r"[\\`*_\[\]<>|#~&]|\$(?!\d)|:(?=//)|(?<=www)\.|@")
_NUMBER = re.compile(r"[-−+]?\$?[\d.,e+∞]+( \[[-−\d.,e+∞— ]+\])?")
_BEGINNING = re.compile(r"^([-+=]|\d+(?=[.)]))")


def escaped(text: str) -> str:
    """Keep one line of text from being read as markup."""
    return _MARKUP.sub(r"\\\g<0>", text)


def sentence(text: str) -> str:
    """Escape a text that begins a line, where a dash or a number would begin a list."""
    found = escaped(text)
    match = _BEGINNING.match(found)
    if match is None:
        return found
    end = match.end()
    return f"{found[:end]}\\{found[end:]}" if match[0].isdigit() else f"\\{found}"


def prose(text: str) -> str:
    """Escape prose of ours; what stands in backquotes stays code."""
    return "".join(f"`{part}`" if code else escaped(part) for part, code in words.spans(text))


def fenced(text: str) -> list[str]:
    """Write a line of code as a block that nothing in it can end."""
    ticks = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, ticks + 1)
    return [fence, text, fence]


def grid(
    heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]
) -> Iterator[str]:
    """Write a table of cells that are not yet escaped; `right` says which columns are set to the right."""
    yield "| " + " | ".join(map(escaped, heads)) + " |"
    yield "|" + "|".join("---:" if r else "---" for r in right) + "|"
    for row in rows:
        yield "| " + " | ".join(map(_cell, row)) + " |"


def _cell(text: str) -> str:
    """Leave a number as it is: the brackets of its interval are no link."""
    return text if _NUMBER.fullmatch(text) else escaped(text)


def as_markdown(report: Report) -> str:
    """Write a report as Markdown."""
    families = report.families()
    lines = [f"# {escaped(words.said(report.title))}", "", sentence(words.lead(report)), ""]
    lines += [*grid(("looked at", ""), words.facts(report), (False, False)), ""]
    for origin in words.origins(report):
        lines += _folded(words.heading(origin).capitalize(), _table(origin, ""))
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
    """The name that readers such as GitHub give to a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _answer(report: Report, answer: Answered) -> Iterator[str]:
    declared = answer.declared
    yield from (f"### {escaped(declared.title)}", "", f"**{escaped(declared.question)}**", "")
    for text in words.outlook(answer):
        yield from (f"> **What would it take:** {escaped(text)}", "")
    main, *further = tables(answer.result, report.most, report.fewer)
    yield from _table(main, answer.command, words.level(answer))
    for text in words.notes(answer):
        yield f"- {sentence(text)}"
    yield ""
    for more in further:
        yield from _folded(words.heading(more), _table(more, answer.command))
    meaning = [line for text in words.paragraphs(declared.doc) for line in (prose(text), "")]
    yield from _folded("How it is estimated", meaning)
    if declared.source:
        yield from (f"Source: {escaped(declared.source)}.", "")
    yield from (*fenced(words.said(answer.command)), "")


def _table(table: Table, command: str, level: str = "") -> Iterator[str]:
    heads = [head.text for head in table.heads]
    yield from grid(heads, table.rows, [h.is_number for h in table.heads])
    yield ""
    if rest := words.rest(table):
        yield from (f"{sentence(rest)}; all of them:", "", *fenced(words.said(command)), "")
    below = " ".join(filter(None, (f"{level}." if level else "", words.unknown(table))))
    if below:
        yield from (sentence(below), "")


def _folded(summary: str, lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    """Fold lines away where the reader knows HTML; the blank lines let Markdown go on inside."""
    yield from (f"<details><summary>{_entities(summary)}</summary>", "", *lines, "</details>", "")


def _entities(text: str) -> str:
    import html

    return html.escape(text)


def _unanswered(report: Report) -> Iterator[str]:
    if report.unanswered:
        yield from ("## Without an answer", "")
        for found in report.unanswered:
            failed = "failed: " if found.failed else ""
            yield f"- **{escaped(found.declared.title)}**: {failed}{escaped(words.said(found.reason))}"
        yield ""
    if others := words.others(report):
        yield from (escaped(others), "")
