"""An answer in forms that can be taken elsewhere: SQL, Polars code, a notebook cell, a command.

Cells and commands give every column. SQL can give the counts and means of the analyses whose table
holds them as they are; of all others it gives the rows that they take. What a form does not give,
it says.
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

# whose main table has the counts and means of the reduce stage under their own names
MEANS = frozenset({"cost-of-pass", "energy", "frontier", "summary", "tradeoff"})


@dataclasses.dataclass(frozen=True)
class Asked:
    """A question of the catalogue, as its answer is shown.

    Attributes:
        name: the analysis.
        where: the slice.
        by: the columns that name a group.
        options: those of the analysis, as typed or as values; defaults may be among them.
        table: which of the result's tables is meant, "" the main one.
    """

    name: str
    where: Slice = Slice()  # noqa: RUF009 (frozen)
    by: tuple[str, ...] = ("configuration",)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    table: str = ""

    @property
    def declared(self) -> "Analysis":
        """The analysis."""
        return get(self.name)

    @property
    def given(self) -> dict[str, Any]:
        """The options that are not at their default, as values.

        A flag that is off is among them where it was set so: it keeps an axis from being turned.
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
        """Columns of the store's own among groups and options."""
        return own_fields(self.by, self.options)

    @property
    def is_means(self) -> bool:
        """Whether SQL can give the counts and means of the table."""
        return self.name in MEANS and not self.table


def sql(asked: Asked, fields: "Mapping[str, Column] | None" = None) -> str:
    """Write the query of the counts and means, or of the rows that the analysis takes.

    Args:
        asked: the question.
        fields: columns of the store's own that it names, for their types.
    """
    if asked.is_means:
        more = _own(fields)
        query = snippets.as_sql(asked.name, asked.where, asked.by, asked.given, **more)
        return f"{_remark(asked, '--')}{query}\n"
    view, test = asked.declared.rows, asked.where.sql()
    if test == "TRUE":
        query = f"FROM {view}"
    elif view == "trace_facts":
        query = f"FROM trace_facts\nWHERE {test}"
    else:
        query = f"FROM {view}\nWHERE trace_id IN (SELECT trace_id FROM trace_facts WHERE {test})"
    return f"{_remark(asked, '--')}{query}\n"


def polars(asked: Asked, path: str, fields: "Mapping[str, Column] | None" = None) -> str:
    """Write Polars code: `means`, built from the traces, or `table`, as the analysis gives it.

    Args:
        asked: the question.
        path: the store.
        fields: columns of the store's own that it names, for their types.
    """
    if not asked.is_means:
        return f"{_opened(path)}table = {_call(asked)}{_table(asked)}\n"
    code = snippets.as_polars(asked.name, asked.where, asked.by, asked.given, **_own(fields))
    opened = f"import workbench as wb\n\ntraces = wb.open({path!r}).traces()\n"
    return f"{_remark(asked, '#')}{opened}{code}\n"


def cell(asked: Asked, path: str) -> str:
    """Write a notebook cell that asks the store again: `result`, and its chart or the table that is meant."""
    shown = f"result{_table(asked)}" if asked.table else "wb.charts.chart(result)"
    return f"{_opened(path)}result = {_call(asked)}\n{shown}\n"


def command(asked: Asked, path: str) -> str:
    """Write the shell command that prints the answer."""
    words = ["workbench", "analyze", asked.name, "--store", path]
    words += ["--where", str(asked.where)] if asked.where else []
    words += ["--by", ",".join(map(_typed, columns(asked.by)))]
    for name, value in asked.given.items():
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


def _call(asked: Asked) -> str:
    """Write the call that asks a `store`."""
    where = f", where={str(asked.where)!r}" if asked.where else ""
    options = "".join(f", {name}={value!r}" for name, value in asked.given.items())
    function = asked.name.replace("-", "_")
    return f"wb.analysis.{function}(store{where}, by={asked.by!r}{options})"


def _table(asked: Asked) -> str:
    return f".more[{asked.table!r}]" if asked.table else ".frame"


def _remark(asked: Asked, sign: str) -> str:
    """Say what a query gives of the answer, and what it does not."""
    declared = asked.declared
    if not asked.is_means:
        shown = f"the table {asked.table} of {asked.name}" if asked.table else asked.name
        said = (
            f"The rows that {asked.name} takes ({declared.rows} of the slice).",
            f"SQL does not give {shown}: the notebook cell and the command do.",
        )
    else:
        outcome = declared.reduction(declared.parse(asked.options)).outcome
        name = "pass_rate" if outcome == "passed" else outcome
        said = (
            f"Counts and means of {asked.name}; outcome is its {name}.",
            (
                "Intervals and other estimates are not among them: the notebook cell and the "
                "command give those, too."
            ),
        )
    return "".join(f"{sign} {line}\n" for line in said)
