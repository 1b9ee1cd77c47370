"""Forms of an answer that can be copied: SQL, Polars code, a notebook cell, a command.

Cells and commands give every column. SQL gives the counts and means of the analyses in `MEANS`; for
all others it gives the rows that they take. A comment in the form names what it does not give.
"""

import dataclasses
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.analysis.catalogue import snippets
from workbench.analysis.catalogue.registry import get
from workbench.slice import Slice
from workbench.slice.names import columns, is_entry, own_fields, written

if TYPE_CHECKING:
    from workbench.analysis.core.declaration import Analysis
    from workbench.schema import Column

# analyses whose main table has the counts and means of the reduce stage under their own names
MEANS = frozenset({"cost-of-pass", "energy", "frontier", "summary", "tradeoff"})


@dataclasses.dataclass(frozen=True)
class AnalysisRequest:
    """An analysis with its slice, groups and options, as its answer is shown.

    Attributes:
        name: the analysis.
        where: the slice.
        by: the columns that name a group.
        options: those of the analysis, as typed or as values; defaults may be among them.
        table: the name of the result's table, "" for the main one.
    """

    name: str
    where: Slice = Slice()  # noqa: RUF009 (frozen)
    by: tuple[str, ...] = ("configuration",)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    table: str = ""

    @property
    def declared(self) -> "Analysis":
        """The declaration of the analysis."""
        return get(self.name)

    @property
    def given(self) -> dict[str, Any]:
        """The options that are not at their default, as values.

        A flag that was switched off is among them: it prevents a metric's direction from setting
        it.
        """
        defaults = {o.name: o.default for o in self.declared.options}
        chosen = self.declared.parse(self.options)
        return {
            name: value
            for name, value in chosen.items()
            if value != defaults[name] or self.options.get(name) is False
        }

    @property
    def own(self) -> tuple[str, ...]:
        """Entry columns (see `core.entry_columns`) among groups and options."""
        return own_fields(self.by, self.options)

    @property
    def is_means(self) -> bool:
        """Whether SQL can give the counts and means of the table."""
        return self.name in MEANS and not self.table


def sql(request: AnalysisRequest, fields: "Mapping[str, Column] | None" = None) -> str:
    """Write the query of the counts and means, or of the rows that the analysis takes.

    Args:
        request: the analysis and its options.
        fields: entry columns that it names, for their types.
    """
    if request.is_means:
        more = _own(fields)
        query = snippets.as_sql(request.name, request.where, request.by, request.given, **more)
        return f"{_remark(request, '--')}{query}\n"
    view = request.declared.rows
    test = request.where.sql()
    if test == "TRUE":
        query = f"FROM {view}"
    elif view == "trace_facts":
        query = f"FROM trace_facts\nWHERE {test}"
    else:
        query = f"FROM {view}\nWHERE trace_id IN (SELECT trace_id FROM trace_facts WHERE {test})"
    return f"{_remark(request, '--')}{query}\n"


def polars(
    request: AnalysisRequest, path: str, fields: "Mapping[str, Column] | None" = None
) -> str:
    """Write Polars code: `means`, built from the traces, or `table`, as the analysis gives it.

    Args:
        request: the analysis and its options.
        path: the store.
        fields: entry columns that it names, for their types.
    """
    if not request.is_means:
        return f"{_opened(path)}table = {_call(request)}{_table(request)}\n"
    code = snippets.as_polars(
        request.name, request.where, request.by, request.given, **_own(fields)
    )
    opened = f"import workbench as wb\n\ntraces = wb.open({path!r}).traces()\n"
    return f"{_remark(request, '#')}{opened}{code}\n"


def cell(request: AnalysisRequest, path: str) -> str:
    """Write a notebook cell that runs the analysis again and shows its chart, or the table."""
    shown = f"result{_table(request)}" if request.table else "wb.charts.chart(result)"
    return f"{_opened(path)}result = {_call(request)}\n{shown}\n"


def command(request: AnalysisRequest, path: str) -> str:
    """Write the shell command that prints the answer."""
    words = ["workbench", "analyze", request.name, "--store", path]
    words += ["--where", str(request.where)] if request.where else []
    words += ["--by", ",".join(map(_typed, columns(request.by)))]
    for name, value in request.given.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", _typed(str(value))]
    return shlex.join(words) + "\n"


def _typed(name: str) -> str:
    return written(name) if is_entry(name) else name


def _own(fields: "Mapping[str, Column] | None") -> dict[str, Any]:
    return {"fields": fields} if fields else {}


def _opened(path: str) -> str:
    return f"import workbench as wb\n\nstore = wb.open({path!r})\n"


def _call(request: AnalysisRequest) -> str:
    """Write the call that runs the analysis on `store`."""
    where = f", where={str(request.where)!r}" if request.where else ""
    options = "".join(f", {name}={value!r}" for name, value in request.given.items())
    function = request.name.replace("-", "_")
    return f"wb.analysis.{function}(store{where}, by={request.by!r}{options})"


def _table(request: AnalysisRequest) -> str:
    return f".more[{request.table!r}]" if request.table else ".frame"


def _remark(request: AnalysisRequest, sign: str) -> str:
    """Write comment lines on what a query gives of the answer, and what it does not."""
    declared = request.declared
    if not request.is_means:
        shown = f"the table {request.table} of {request.name}" if request.table else request.name
        lines = (
            f"The rows that {request.name} takes ({declared.rows} of the slice).",
            f"SQL does not give {shown}: the notebook cell and the command do.",
        )
    else:
        outcome = declared.reduction(declared.parse(request.options)).outcome
        name = "pass_rate" if outcome == "passed" else outcome
        lines = (
            f"Counts and means of {request.name}; outcome is its {name}.",
            (
                "Intervals and other estimates are not among them: the notebook cell and the "
                "command give those, too."
            ),
        )
    return "".join(f"{sign} {line}\n" for line in lines)
