r"""A report as LaTeX tables, to be read into a paper by `\input`; nothing but booktabs is needed.

What comes from outside is shown, not obeyed: every character that TeX acts on is escaped, and
letters that pdfLaTeX does not know are written by XeLaTeX and LuaLaTeX, and by pdfLaTeX as their
number.
"""

import re
import textwrap
from collections.abc import Iterator, Sequence

from workbench.report import words
from workbench.report.contents import Answered, Report
from workbench.report.tables import Table, tables

_ROOM = 84  # characters of \footnotesize on a line of the article class
_GAP = 1.5  # characters between columns
_NARROW = 26  # characters of a text column that need no wrapping
_WRAPPED = 26  # the room of one that is wrapped, as its width in the preamble says
_WIDTH = r"p{.31\linewidth}"
_FLOATS = 12  # LaTeX gives up where too many tables wait for a page
_CHARACTERS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "`": r"\char96{}",
    "—": r"\textemdash{}",
    "–": r"\textendash{}",
    "−": "$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "±": r"$\pm$",
    "∞": r"$\infty$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "→": r"$\rightarrow$",
    "²": r"$^2$",
    "³": r"$^3$",
    "°": r"$^\circ$",
    "…": r"\ldots{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "’": r"\char39{}",
    "‘": r"\char96{}",
    "√": r"$\surd$",
    "Δ": r"$\Delta$",
    "Σ": r"$\Sigma$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "γ": r"$\gamma$",
    "δ": r"$\delta$",
    "ε": r"$\varepsilon$",
    "η": r"$\eta$",
    "κ": r"$\kappa$",
    "λ": r"$\lambda$",
    "μ": r"$\mu$",
    "µ": r"$\mu$",
    "π": r"$\pi$",
    "ρ": r"$\rho$",
    "σ": r"$\sigma$",
    "τ": r"$\tau$",
    "φ": r"$\varphi$",
    "θ": r"$\theta$",
    "⟨": r"$\langle$",
    "⟩": r"$\rangle$",
    "¹": r"$^1$",
    "⁻": r"$^{-}$",
    "\u00a0": "~",
    "\u202f": r"\,",
}
_LETTERS = (
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿ"  # in every encoding of fonts
)
_SPECIAL = re.compile(f"[^A-Za-z0-9 .,:;=+*/()@!?'\\[\\]{_LETTERS}-]")
_LIGATURES = re.compile("-(?=-)|,(?=,)|'(?=')")
_HEAD = r"""% {title}
% Made {made} UTC with workbench {version}.
% To look at it alone:
%   \documentclass{{article}}
%   \usepackage{{booktabs}}
%   \begin{{document}}\input{{FILE}}\end{{document}}
% A letter that pdfLaTeX lacks is shown there by its number.
\ifdefined\Umathchar
  \providecommand{{\workbenchletter}}[2]{{#2}}
\else
  \providecommand{{\workbenchletter}}[2]{{\texttt{{U+#1}}}}
\fi
"""


def escaped(text: str) -> str:
    """Keep TeX from acting on a line of text; two dashes, commas or apostrophes stay two."""
    return _LIGATURES.sub(r"\g<0>{}", _SPECIAL.sub(_character, text))


def _character(match: re.Match[str]) -> str:
    char = match[0]
    return _CHARACTERS.get(char) or f"\\workbenchletter{{{ord(char):04X}}}{{{char}}}"


def as_latex(report: Report) -> str:
    """Write the tables of a report as LaTeX."""
    lines = _HEAD.format(
        title=words.said(report.title),
        made=f"{report.made_at:%Y-%m-%d %H:%M:%S}",
        version=report.version,
    ).splitlines()
    lines += _facts(report)
    n = 1
    for title, answers in report.families().items():
        lines += ["", f"% {title}"]
        for answer in answers:
            for floated in _answer(report, answer):
                lines += ["", *floated]
                n += 1
                lines += [r"\clearpage"] if n % _FLOATS == 0 else []
    return "\n".join([*lines, *_unanswered(report)]) + "\n"


def _facts(report: Report) -> Iterator[str]:
    rows = [rf"  {escaped(name)} & {escaped(text)} \\" for name, text in words.facts(report)]
    yield from (
        r"\begin{table}[htbp]",
        r"  \centering\footnotesize",
        rf"  \caption{{{escaped(words.said(report.title))}: what was looked at.}}",
    )
    yield from (
        r"  \label{tab:workbench}",
        r"  \begin{tabular}{lp{.72\linewidth}}",
        r"  \toprule",
        *rows,
    )
    yield from (r"  \bottomrule", r"  \end{tabular}", r"\end{table}")


def _answer(report: Report, answer: Answered) -> Iterator[list[str]]:
    """Write the tables of an answer, each a float of its own."""
    declared = answer.declared
    level = words.level(answer)
    main, *further = tables(answer.result, report.most, report.fewer)
    below = [f"What would it take: {text}" for text in words.outlook(answer)] + words.notes(answer)
    below += [f"Source: {declared.source}"] if declared.source else []
    caption = " ".join(
        (f"{declared.title}.", declared.question, f"{level.capitalize()}." if level else "")
    )
    yield from _floats(main, caption.strip(), answer.mark, below)
    for n, more in enumerate(further, 1):
        text = f"{declared.title}: {words.heading(more)}."
        yield from _floats(more, text, f"{answer.mark}:{n}", [])


def _floats(table: Table, caption: str, label: str, below: Sequence[str]) -> Iterator[list[str]]:
    """Write a table, in several parts where it is wider than the page, each with the columns that name the row."""
    parts = _parts(table)
    rest = [f"{words.rest(table)} are not shown"] if table.n_cut else []
    said = [*rest, *filter(None, [words.unknown(table)]), *below]
    for n, part in enumerate(parts, 1):
        several = f" Part {n} of {len(parts)}." if len(parts) > 1 else ""
        mark = f":part{n}" if n > 1 else ""
        notes = said if n == len(parts) else []
        yield [
            r"\begin{table}[htbp]",
            r"  \centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"  \caption{{{escaped(caption + several)}}}",
            rf"  \label{{tab:workbench:{label}{mark}}}",
            *_tabular(table, part),
            *(_below(text) for text in notes),
            r"\end{table}",
        ]


def _below(text: str) -> str:
    return rf"  \par\smallskip\parbox{{.95\linewidth}}{{\raggedright {escaped(text)}}}"


def _widths(table: Table) -> list[int]:
    """Characters that each column takes, its head wrapped to its cells."""
    found = []
    for place, head in enumerate(table.heads):
        cells = max((len(row[place]) for row in table.rows), default=0)
        lines = _wrapped(head.text, cells)
        found.append(max(cells, *map(len, lines)))
    return found


def _wrapped(head: str, cells: int) -> list[str]:
    return textwrap.wrap(head, max(cells, 12), break_long_words=False) or [""]


def _parts(table: Table) -> list[list[int]]:
    """Split the columns into as many tables as fit the page, each with the keys; never without one column more."""
    widths = [min(w, _WRAPPED) + _GAP if w > _NARROW else w + _GAP for w in _widths(table)]
    keys = list(range(table.keys))
    room = _ROOM - sum(widths[k] for k in keys)
    parts: list[list[int]] = [[]]
    used = 0.0
    for place in range(table.keys, len(widths)):
        if parts[-1] and used + widths[place] > room:
            parts.append([])
            used = 0.0
        parts[-1].append(place)
        used += widths[place]
    return [[*keys, *part] for part in parts]


def _tabular(table: Table, part: Sequence[int]) -> Iterator[str]:
    widths = _widths(table)
    heads = [table.heads[p] for p in part]
    wide = [widths[p] > _NARROW and not table.heads[p].is_number for p in part]
    preamble = "".join(
        _WIDTH if w else "r" if h.is_number else "l" for w, h in zip(wide, heads, strict=True)
    )
    stacked = [_stack(table, p) for p in part]
    yield from (
        rf"  \begin{{tabular}}{{{preamble}}}",
        r"  \toprule",
        rf"  {' & '.join(stacked)} \\",
        r"  \midrule",
    )
    for row in table.rows:
        cells = [escaped(row[p]) for p in part]
        # After a line's end TeX takes a bracket or a star for an argument.
        guard = "{}" if cells[0][:1] in {"[", "*"} else ""
        yield rf"  {guard}{' & '.join(cells)} \\"
    yield from (r"  \bottomrule", r"  \end{tabular}")


def _stack(table: Table, place: int) -> str:
    """Write a head, on several lines where it is wider than its cells."""
    head = table.heads[place]
    cells = max((len(row[place]) for row in table.rows), default=0)
    lines = [escaped(line) for line in _wrapped(head.text, cells)]
    side = "r" if head.is_number else "l"
    stacked = r"\\".join(lines)
    return stacked if len(lines) == 1 else rf"\shortstack[{side}]{{{stacked}}}"


def _unanswered(report: Report) -> Iterator[str]:
    if report.unanswered:
        yield from ("", r"\paragraph{Without an answer}", r"\begin{itemize}")
        for found in report.unanswered:
            failed = "failed: " if found.failed else ""
            yield rf"  \item {escaped(found.declared.title)}: {failed}{escaped(words.said(found.reason))}"
        yield r"\end{itemize}"
