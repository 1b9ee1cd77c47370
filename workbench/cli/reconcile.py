"""`workbench reconcile`: a provider's bill compared with the stored calls."""

import zoneinfo
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench.cli.examples import examples
from workbench.cli.options import open_store, output_options, settings, store_option, where_option
from workbench.slice import Slice

if TYPE_CHECKING:
    import polars as pl

    from workbench.schema import Column


def _parse_zone(ctx: click.Context, parameter: click.Parameter, text: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise click.BadParameter(
            f"there is no time zone {text!r}; write it as Europe/Berlin or UTC", ctx, parameter
        ) from None


@click.command(
    epilog=examples(
        "workbench reconcile activity.json --all",
        "workbench reconcile usage.csv costs.csv --project Default --check",
    ),
)
@click.argument(
    "bills",
    nargs=-1,
    required=True,
    metavar="BILL...",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "--provider",
    "providers",
    multiple=True,
    metavar="NAME",
    help="Compare calls of this provider only, as the store names it; may be repeated.",
)
@click.option("--key", "keys", multiple=True, metavar="KEY", help="Use only bill rows of this key.")
@click.option(
    "--project",
    "projects",
    multiple=True,
    metavar="NAME",
    help="Use only bill rows of this project or workspace.",
)
@click.option(
    "--timezone",
    "zone",
    default="UTC",
    show_default=True,
    metavar="ZONE",
    callback=_parse_zone,
    help="Time zone of the bill's days, and of its times without an offset.",
)
@click.option(
    "--tolerance-usd",
    type=click.FloatRange(min=0),
    metavar="USD",
    help="Dollars that may differ in a row.  [default: half a unit of the row's last decimal]",
)
@click.option("--all", "every", is_flag=True, help="List the requests that agree as well.")
@click.option("--check", is_flag=True, help="Exit with status 1 unless everything agrees.")
@store_option
@where_option
@output_options
@click.pass_context
def reconcile(
    ctx: click.Context,
    *,
    bills: tuple[Path, ...],
    providers: tuple[str, ...],
    keys: tuple[str, ...],
    projects: tuple[str, ...],
    zone: zoneinfo.ZoneInfo,
    tolerance_usd: float | None,
    every: bool,
    check: bool,
    store_path: str | None,
    where: Slice,
    format_: str | None,
    output: Path | None,
) -> None:
    """Compare a provider's bill with the stored calls.

    BILL is an export of usage or costs, as CSV or JSON: OpenAI's and Anthropic's usage and cost
    reports, OpenRouter's log and activity, LiteLLM's spend logs, DeepSeek's amounts and costs. You
    can give the usage and the costs of one provider as two files.

    Requests are matched by the provider's id if the bill names it. Tokens, requests and dollars
    are compared as sums over (day, model) in any case.
    """
    from workbench import billing
    from workbench.cli.output import Document, check_output, emit

    check_output(output)
    store = open_store(store_path)
    comparison = billing.reconcile(
        store,
        *bills,
        where=where,
        providers=providers,
        keys=keys,
        projects=projects,
        zone=zone,
        tolerance_usd=tolerance_usd,
        every=every,
    )
    as_table = output is None and (format_ or settings().format) in {"table", "md"}
    tables = {"total": comparison.total}
    if comparison.calls is not None and comparison.calls.height:
        tables["calls"] = comparison.calls
    frame = comparison.frame
    notes = list(comparison.notes)
    if as_table:  # the column verdict names what differs, and by how much
        frame = _paired(frame)
        tables = {name: _paired(table) for name, table in tables.items()}
        notes.append("a cell has one figure if both sides are equal, else: billed / stored")
    document = Document(
        "reconcile",
        frame,
        _described(comparison.frame.columns),
        notes=notes,
        more=tables,
        provenance=comparison.provenance,
    )
    emit(document, format_, output)
    if check and not comparison.agrees:
        ctx.exit(1)


def _paired(frame: "pl.DataFrame") -> "pl.DataFrame":
    """Put both sides of a measure into one cell: a figure where they are equal, else both."""
    import polars as pl

    from workbench.formats import count, usd

    left_out = {"trace_id"}
    if "n_uncertain" in frame.columns and not frame["n_uncertain"].sum():
        left_out.add("n_uncertain")
    columns = []
    for name in frame.columns:
        measure = name.removeprefix("billed_")
        if measure != name:
            format_value = usd if measure == "usd" else count
            pairs = frame.select(name, f"stored_{measure}", f"{measure}_difference").iter_rows()
            texts = [
                format_value(billed)
                if difference == 0 or billed is stored
                else f"{format_value(billed)} / {format_value(stored)}"
                for billed, stored, difference in pairs
            ]
            columns.append(pl.Series(_title(measure), texts, pl.String))
        elif not name.startswith("stored_") and not name.endswith("_difference"):
            columns += [] if name in left_out else [frame[name]]
    return pl.DataFrame(columns)


def _title(measure: str) -> str:
    return "cost (USD)" if measure == "usd" else measure.removesuffix("_tokens").replace("_", " ")


def _described(names: list[str]) -> dict[str, "Column"]:
    """Describe the columns of figures: type, unit and title."""
    from workbench.schema import Column

    columns = {"n_uncertain": Column("n_uncertain", "int", "count", title="perhaps charged")}
    for name in names:
        measure = name.removeprefix("billed_").removeprefix("stored_").removesuffix("_difference")
        if measure != name:
            is_usd = measure == "usd"
            unit = "USD" if is_usd else "count" if measure == "requests" else "tokens"
            side = "difference of" if name.endswith("_difference") else name.partition("_")[0]
            title = f"{side} {'cost' if is_usd else _title(measure)}"
            columns[name] = Column(name, "float" if is_usd else "int", unit, title=title)
    return columns
