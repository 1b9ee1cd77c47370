"""`workbench runs`: what was collected, what is being collected, and how to steer it."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench.cli.options import (
    amount,
    open_store,
    output_options,
    settings,
    store_option,
    talk,
)
from workbench.errors import ConfigError

if TYPE_CHECKING:
    import polars as pl

    from workbench.cli.output import Document
    from workbench.runner.control.protocol import AnyCommand, RunState
    from workbench.store import Store

WATCH_EVERY_S = 1.0
_LIVE = {
    "run_id": ("text", ""),
    "status": ("text", ""),
    "planned": ("int", "count"),
    "before": ("int", "count"),
    "done": ("int", "count"),
    "failed": ("int", "count"),
    "in_flight": ("int", "count"),
    "left": ("int", "count"),
    "rate_per_s": ("float", ""),
    "eta_s": ("float", "s"),
    "spent_usd": ("float", "USD"),
    "spent_tokens": ("int", "tokens"),
    "spent_j": ("float", "J"),
    "budget_usd": ("float", "USD"),
    "concurrency": ("int", "count"),
    "concurrency_cap": ("int", "count"),
    "retrying": ("int", "count"),
    "host": ("text", ""),
    "pid": ("int", ""),
    "started_at": ("time", ""),
}
_SHOWN = (
    "run_id",
    "status",
    "in_flight",
    "done",
    "failed",
    "left",
    "rate_per_s",
    "eta_s",
    "spent_usd",
    "concurrency",
)


@click.group(invoke_without_command=True)
@store_option
@output_options
@click.pass_context
def runs(
    ctx: click.Context, store_path: str | None, format_: str | None, output: Path | None
) -> None:
    """List what was collected or imported.

    Those that are being collected come as a second table, with how far they are. They are steered
    from any
    terminal; RUN is the beginning of a run's id, or "latest":

    workbench runs pause latest
    """
    ctx.obj = {"store": _store_of(ctx, store_path)}
    if ctx.invoked_subcommand is not None:
        return
    from workbench.cli.output import check_output, emit

    check_output(output)
    store = open_store(store_path)
    as_table = output is None and (format_ or settings().format) in {"table", "md"}
    emit(_listing(store, _SHOWN if as_table else tuple(_LIVE)), format_, output)


def _store_of(ctx: click.Context, store_path: str | None) -> str | None:
    """Let `--store` before the subcommand, or before `runs`, count."""
    typed = (ctx.find_object(dict) or {}).get("store")
    return store_path if store_path is not None else typed


def _listing(store: "Store", live_columns: tuple[str, ...]) -> "Document":
    import dataclasses

    from workbench.cli.output import Document
    from workbench.cli.tables import frame_of
    from workbench.runner.control.protocol import live_runs
    from workbench.schema import Column

    document = Document.of_frame("runs", _summary(store), store=str(store.path))
    live = live_runs(store.spool_dir)
    if not live:
        return document
    rows = [{name: getattr(state, name) for name in live_columns} for state in live]
    described = {n: Column(n, kind, unit) for n, (kind, unit) in _LIVE.items()}
    return dataclasses.replace(
        document,
        more={"live": frame_of(rows, live_columns)},
        columns={**described, **document.columns},
    )


def _summary(store: "Store") -> "pl.DataFrame":
    with store.facts("", "run_summary") as frame:
        rows: pl.DataFrame = frame.collect("polars").to_native()
    return rows.sort("started_at", "run_id", nulls_last=True)


@runs.command()
@click.argument("run")
@store_option
@output_options
def show(run: str, store_path: str | None, format_: str | None, output: Path | None) -> None:
    """Print a run's plan as TOML that can be collected again.

    With --format json and the others, its row of the table of runs.
    """
    from workbench.cli.output import Document, emit

    store = open_store(store_path)
    with store.facts("", "runs") as frame:
        rows = frame.collect("polars").to_native()
    row = _named(rows, run)
    if format_ is not None or output is not None:
        import polars as pl

        emit(
            Document.of_frame("run", rows.filter(pl.col("run_id") == row["run_id"])),
            format_,
            output,
        )
        return
    if not row["plan"]:
        raise ConfigError(f"the run {row['run_id']} has no plan: it was not collected here")
    click.echo(_plan_text(row), nl=False)
    _tell_state(store, row["run_id"])


def _named(rows: "pl.DataFrame", text: str) -> Mapping[str, Any]:
    """Find a run by the beginning of its id, or the latest."""
    rows = rows.sort("started_at", "run_id", nulls_last=False)
    if text == "latest":
        rows = rows.tail(1)
    else:
        exact = rows.filter(rows["run_id"] == text)
        rows = exact if exact.height else rows.filter(rows["run_id"].str.starts_with(text))
    if rows.height == 1:
        return rows.row(0, named=True)
    if not rows.height:
        raise ConfigError(f"there is no run {text!r} in the store; see: workbench runs")
    names = ", ".join(rows["run_id"].head(5))
    raise ConfigError(f"several runs begin with {text!r}: {names}; type more of the id")


def _plan_text(row: Mapping[str, Any]) -> str:
    """Write a plan without what is as by default, headed by how the run went."""
    from workbench.cli.toml_text import toml_text
    from workbench.formats import when
    from workbench.runner import Plan
    from workbench.safe import safe

    about = f"run {row['run_id']}: {row['status']}, {when(row['started_at'])} to {when(row['ended_at'])}"
    return f"# {safe(about)}\n{toml_text(Plan.special(row['plan']))}"


def _tell_state(store: "Store", run_id: str) -> None:
    """Say how a live run stands, on stderr: stdout is the plan."""
    from workbench.cli.progress import with_trouble
    from workbench.runner.control.protocol import live_runs

    for state in live_runs(store.spool_dir):
        if state.run_id != run_id:
            continue
        talk(with_trouble(state))
        for c in state.configurations:
            talk(
                f"  {c.configuration}: {c.before + c.done:,} of {c.planned:,}, {c.in_flight} in flight, {c.failed} failed"
            )
        for a in state.attempts[:20]:
            talk(
                f"  {a.task}/{a.item} trial {a.trial} {a.configuration}: {a.elapsed_s:.1f} s, {a.n_calls} calls"
            )
        if state.in_flight > 20:
            talk(f"  and {state.in_flight - 20} more in flight")


def _tell(store_path: str | None, run: str, command: "AnyCommand") -> None:
    """Send a command to a live run; exit status 1 where it was not obeyed."""
    from workbench.runner.control import protocol

    store = open_store(store_path, take_in=False)
    state = protocol.find(store.spool_dir, run)
    taken = protocol.send(store.spool_dir, state.run_id, command)
    talk(f"{state.run_id}: {'' if taken.status == 'done' else taken.status + ': '}{taken.said}")
    if taken.status != "done":
        click.get_current_context().exit(1)


def _steering(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what every steering command takes."""
    return click.argument("run")(store_option(command))


@runs.command()
@_steering
def pause(run: str, store_path: str | None) -> None:
    """Begin no new attempts; those in flight go on."""
    from workbench.runner.control.protocol import Pause

    _tell(store_path, run, Pause())


@runs.command()
@_steering
def resume(run: str, store_path: str | None) -> None:
    """Begin new attempts again."""
    from workbench.runner.control.protocol import Resume

    _tell(store_path, run, Resume())


@runs.command()
@_steering
@click.option("--now", is_flag=True, help="Do not wait for what is in flight.")
def stop(run: str, store_path: str | None, now: bool) -> None:
    """End a run after what is in flight, as Ctrl-C does."""
    from workbench.runner.control.protocol import Stop

    _tell(store_path, run, Stop(now=now))


@runs.command("set")
@_steering
@click.option("--concurrency", type=int, help="Attempts and calls at once.")
@click.option(
    "--budget-usd",
    type=amount("USD", lifts=True),
    metavar="N|none",
    help="Dollars of this launch, or none.",
)
@click.option(
    "--budget-tokens",
    type=amount("tokens", lifts=True),
    metavar="N|none",
    help="Tokens of this launch, or none.",
)
@click.option(
    "--budget-j",
    type=amount("J", lifts=True),
    metavar="N|none",
    help="Joules of this launch, or none.",
)
@click.option(
    "--budget-time-s",
    type=amount("s", lifts=True),
    metavar="N|none",
    help="Seconds of this launch, or none.",
)
@click.option("--retries", type=int, help="Tries after the first.")
@click.option("--timeout-s", type=float, help="Cap of one request in seconds.")
def set_(run: str, store_path: str | None, **changes: Any) -> None:
    """Change how fast and how far a run goes."""
    import msgspec

    from workbench.runner.control.protocol import BUDGETS, Retune

    lifted = [name for name in BUDGETS if changes[name] == -1.0]
    given = {n: v for n, v in changes.items() if v is not None and n not in lifted}
    if not given and not lifted:
        raise click.UsageError("nothing to change was given; see: workbench runs set --help")
    try:
        command = msgspec.convert({"command": "set", "lift": lifted, **given}, Retune)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from None
    _tell(store_path, run, command)


def _item_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what names an item's attempts."""
    command = click.option("--configuration", help="One configuration, by name or id.")(command)
    command = click.option("--trial", type=click.IntRange(min=0), help="One repeat, from 0.")(
        command
    )
    return click.argument("run")(click.argument("item")(store_option(command)))


@runs.command()
@_item_options
def cancel(
    run: str, item: str, trial: int | None, configuration: str | None, store_path: str | None
) -> None:
    """End an item's attempts in flight, and leave out those that wait.

    ITEM is its name, task/name, or id. The next launch of the same plan makes it again.
    """
    from workbench.runner.control.protocol import Cancel

    _tell(store_path, run, Cancel(item, trial, configuration))


@runs.command()
@_item_options
def requeue(
    run: str, item: str, trial: int | None, configuration: str | None, store_path: str | None
) -> None:
    """Make an item's failed or cancelled attempts again in the same run."""
    from workbench.runner.control.protocol import Requeue

    _tell(store_path, run, Requeue(item, trial, configuration))


@runs.command()
@_steering
def watch(run: str, store_path: str | None) -> None:
    """Print a line a second until a run ends."""
    from workbench.runner.control import protocol

    store = open_store(store_path, take_in=False)
    run_id = protocol.find(store.spool_dir, run).run_id
    folder = protocol.control_dir(store.spool_dir) / run_id
    while True:
        lives = protocol.is_live(folder)  # before the look: the last state comes before the end
        state = protocol.state_of(store.spool_dir, run_id)
        if state is None:  # the next collector has cleaned up
            talk(f"{run_id} has ended; see: workbench runs")
            return
        click.echo(_watched(state))
        if state.ended or not lives:
            break
        time.sleep(WATCH_EVERY_S)
    if not state.ended:
        talk(f"the collector of {run_id} is gone; the same collect command goes on where it was")
    click.get_current_context().exit(0 if state.status == "done" else 1)


def _watched(state: "RunState") -> str:
    from workbench.cli.progress import with_trouble
    from workbench.safe import safe

    return safe(with_trouble(state))
