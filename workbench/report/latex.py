r"""LaTeX tables of a report, for `\input` into a paper that loads booktabs.

Every character that TeX interprets is escaped. XeLaTeX and LuaLaTeX print letters that pdfLaTeX
lacks; pdfLaTeX prints their code point.
"""

import re
import textwrap
from collections.abc import Iterator, Sequence

from workbench.report import sentences
from workbench.report.contents import Answered, Report
from workbench.report.tables import Table, tables

_LINE_WIDTH = 84  # characters of \footnotesize on a line of the article class
_GAP = 1.5  # characters between columns
_NARROW = 26  # characters of a text column that is not wrapped
_WRAPPED = 26  # characters of a line of a wrapped column, whose width is `_WIDTH`
_WIDTH = r"p{.31\linewidth}"
_FLOATS = 12  # tables between page breaks; else LaTeX runs out of unplaced floats
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
% Made {made_at} UTC with workbench {version}.
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
    """Escape a line of text for TeX, ligatures of dashes, commas and apostrophes included."""
    return _LIGATURES.sub(r"\g<0>{}", _SPECIAL.sub(_character, text))


def _character(match: re.Match[str]) -> str:
    char = match[0]
    return _CHARACTERS.get(char) or f"\\workbenchletter{{{ord(char):04X}}}{{{char}}}"


def as_latex(report: Report) -> str:
    """Write the tables of a report as LaTeX."""
    lines = _HEAD.format(
        title=sentences.clean(report.title),
        made_at=f"{report.made_at:%Y-%m-%d %H:%M:%S}",
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
    rows = [rf"  {escaped(name)} & {escaped(text)} \\" for name, text in sentences.facts(report)]
    yield from (
        r"\begin{table}[htbp]",
        r"  \centering\footnotesize",
        rf"  \caption{{{escaped(sentences.clean(report.title))}: traces of this report.}}",
    )
    yield from (
        r"  \label{tab:workbench}",
        r"  \begin{tabular}{lp{.72\linewidth}}",
        r"  \toprule",
        *rows,
    )
    yield from (r"  \bottomrule", r"  \end{tabular}", r"\end{table}")


def _answer(report: Report, answer: Answered) -> Iterator[list[str]]:
    """Write the tables of an answer, each as a float of its own."""
    declared = answer.declared
    level = sentences.level(answer)
    main, *further = tables(answer.result, report.most, report.fewer)
    below = [f"What would it take: {text}" for text in sentences.outlook(answer)] + sentences.notes(
        answer
    )
    below += [f"Source: {declared.source}"] if declared.source else []
    caption = " ".join(
        (f"{declared.title}.", declared.question, f"{level.capitalize()}." if level else "")
    )
    yield from _floats(main, caption.strip(), answer.mark, below)
    for n, more in enumerate(further, 1):
        text = f"{declared.title}: {sentences.heading(more)}."
        yield from _floats(more, text, f"{answer.mark}:{n}", [])


def _floats(table: Table, caption: str, label: str, below: Sequence[str]) -> Iterator[list[str]]:
    """Write a table; one wider than the page is split into parts that repeat the key columns."""
    parts = _parts(table)
    rest = [f"{sentences.rest(table)} are not shown"] if table.n_cut else []
    all_notes = [*rest, *filter(None, [sentences.unknown(table)]), *below]
    for n, part in enumerate(parts, 1):
        several = f" Part {n} of {len(parts)}." if len(parts) > 1 else ""
        mark = f":part{n}" if n > 1 else ""
        notes = all_notes if n == len(parts) else []
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
    """Return the width of each column in characters, with its head wrapped to its cells."""
    widths = []
    for index, head in enumerate(table.heads):
        cells = max((len(row[index]) for row in table.rows), default=0)
        lines = _wrapped(head.text, cells)
        widths.append(max(cells, *map(len, lines)))
    return widths


def _wrapped(head: str, cells: int) -> list[str]:
    return textwrap.wrap(head, max(cells, 12), break_long_words=False) or [""]


def _parts(table: Table) -> list[list[int]]:
    """Split the columns into parts that fit the page, each with the keys and at least one more."""
    widths = [min(w, _WRAPPED) + _GAP if w > _NARROW else w + _GAP for w in _widths(table)]
    keys = list(range(table.keys))
    available = _LINE_WIDTH - sum(widths[k] for k in keys)
    parts: list[list[int]] = [[]]
    used = 0.0
    for index in range(table.keys, len(widths)):
        if parts[-1] and used + widths[index] > available:
            parts.append([])
            used = 0.0
        parts[-1].append(index)
        used += widths[index]
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
        # After \\ TeX reads a bracket or a star as an argument.
        guard = "{}" if cells[0][:1] in {"[", "*"} else ""
        yield rf"  {guard}{' & '.join(cells)} \\"
    yield from (r"  \bottomrule", r"  \end{tabular}")


def _stack(table: Table, place: int) -> str:
    """Write a head, on several lines if it is wider than its cells."""
    head = table.heads[place]
    cells = max((len(row[place]) for row in table.rows), default=0)
    lines = [escaped(line) for line in _wrapped(head.text, cells)]
    side = "r" if head.is_number else "l"
    stacked = r"\\".join(lines)
    return stacked if len(lines) == 1 else rf"\shortstack[{side}]{{{stacked}}}"


def _unanswered(report: Report) -> Iterator[str]:
    if report.unanswered:
        yield from ("", r"\paragraph{Without an answer}", r"\begin{itemize}")
        for entry in report.unanswered:
            failed = "failed: " if entry.failed else ""
            reason = escaped(sentences.clean(entry.reason))
            yield rf"  \item {escaped(entry.declared.title)}: {failed}{reason}"
        yield r"\end{itemize}"
