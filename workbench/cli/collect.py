"""`workbench collect`: a plan from a file or from flags, the runner, and the spool taken in meanwhile."""

import asyncio
import contextlib
import datetime as dt
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click

from workbench.cli.options import open_store, settings, store_option, talk
from workbench.errors import ConfigError, StoreLocked

if TYPE_CHECKING:
    from workbench.records import Price
    from workbench.runner import CollectReport, Plan
    from workbench.store import Store

INGEST_EVERY_S = 3.0
_SETTINGS = ("provider", "base_url", "api_key_env", "machine", "concurrency", "budget_usd")
_LISTS = {"model": "models", "task": "tasks", "strategy": "strategies"}


def _plan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add a flag for each setting of a plan."""
    number, whole = click.FLOAT, click.INT
    flags: tuple[tuple[str, Any, str], ...] = (
        ("--base-url", str, "Address of the API, with its /v1; by default the provider's own."),
        ("--provider", str, "Its name in the price sheet; by default told by the address."),
        ("--api-key-env", str, "Name of the environment variable that holds the key."),
        ("--trials", whole, "Repeats of every item."),
        ("--limit", whole, "At most so many items of each task."),
        ("--budget-usd", number, "Stop before spending more than that."),
        ("--concurrency", whole, "Calls in flight."),
        ("--temperature", number, "Sampling temperature."),
        ("--top-p", number, "Nucleus sampling mass."),
        ("--max-tokens", whole, "Cap on output tokens."),
        ("--effort", str, "Reasoning effort, in the server's words."),
        ("--thinking-budget-tokens", whole, "Cap on thinking tokens, where the API takes one."),
        ("--seed", whole, "Base of the seeds, one per item and trial."),
        ("--machine", str, "Name, in the price sheet, of the machine that serves the model."),
        ("--precision", str, "Number format of the weights, for the record."),
        (
            "--endpoint",
            click.Choice(["chat", "completions", "responses", "messages", "gemini"]),
            "The API that is spoken; by default the provider's own. completions is for base models.",
        ),
        ("--template", str, "How a chat becomes text for completions."),
        ("--timeout-s", number, "Cap of one request in seconds."),
        ("--retries", whole, "Tries after the first."),
    )
    for name, kind, text in reversed(flags):
        command = click.option(name, type=kind, default=None, help=text)(command)
    for name, text in (("strategy", "direct, cot, think, self_consistency, self_refine, best_of_n"),
                       ("task", "a shipped task, or a file"), ("model", "the model to ask")):  # fmt: skip
        help_text = f"Add {text}; may be repeated."
        command = click.option(f"--{name}", multiple=True, help=help_text)(command)
    return command


@click.command()
@click.argument("plan_file", required=False, metavar="[PLAN.toml]",
                type=click.Path(exists=True, dir_okay=False, path_type=Path))  # fmt: skip
@_plan_options
@click.option("--prices", "sheet", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A price sheet to add first.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what is missing, and ask nothing.")
@store_option
@click.pass_context
def collect(
    ctx: click.Context,
    /,
    plan_file: Path | None,
    sheet: Path | None,
    dry_run: bool,
    store_path: str | None,
    **flags: Any,
) -> None:
    """Ask models the items of tasks; only what is missing.

    Every model × strategy is a configuration, tried on every item so many times. The same command
    again does only what is missing; Ctrl-C once waits for what is in flight. For example:

    workbench collect --base-url http://127.0.0.1:8080/v1 --model smollm2 --task arithmetic
    --strategy direct --strategy cot --trials 4
    """
    from workbench.runner import Plan

    plan = Plan.from_mapping(_plan(plan_file, flags))
    # the runner looks at the spool before it is taken in, for what was in flight at a kill
    store = open_store(store_path, create=True, take_in=False)
    if sheet is not None:
        from workbench.prices import read_sheet

        store.add_prices(read_sheet(sheet))
    if dry_run:
        _say_missing(store, plan)
        return
    report = asyncio.run(_collect(store, plan))
    talk(str(report))
    talk(f"see them with: workbench tui {store.path}")
    nothing_worked = report.collected > 0 and report.failed == report.collected
    ctx.exit(1 if report.status != "done" or nothing_worked else 0)


def _plan(plan_file: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    """Combine settings < plan file < flags."""
    found = settings()
    plan = {n: getattr(found, n) for n in _SETTINGS if found.origins[n] != "default"}
    if plan_file is not None:
        try:
            plan |= tomllib.loads(plan_file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{plan_file} is not TOML: {error}") from None
    for name, value in flags.items():
        if value is not None and value != ():
            plan[_LISTS.get(name, name)] = list(value) if name in _LISTS else value
    for flag, name in _LISTS.items():
        if not plan.get(name) and name != "strategies":
            raise click.UsageError(f"no {flag}; name one with --{flag}, or give a PLAN.toml")
    return plan


def _say_missing(store: "Store", plan: "Plan") -> None:
    from workbench.runner import expand

    work = expand(plan)
    done = store.done(work.configuration_ids)
    missing = [p for p in work if p.key not in done]
    talk(f"{len(work):,} planned, {len(missing):,} missing")


async def _collect(store: "Store", plan: "Plan") -> "CollectReport":
    """Run the plan and take the spool in every few seconds, and at the end."""
    from workbench import prices, runner
    from workbench.spool import SpoolWriter

    now = dt.datetime.now(dt.UTC)
    book = prices.PriceBook(_price_rows(store))
    run_id = f"{now:%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"
    with _shown() as show:
        ended = asyncio.Event()
        ingesting = asyncio.create_task(_keep_ingesting(store, ended))
        try:
            with SpoolWriter(store.spool_dir, run_id) as spool:
                report = await runner.collect(
                    plan, spool=spool, done=store.done, on_progress=show,
                    price=lambda call: book.cost(call, now), environ=os.environ,
                )  # fmt: skip
        finally:
            ended.set()
            await ingesting
            await asyncio.to_thread(_ingest_last, store)
    return report


def _price_rows(store: "Store") -> list["Price"]:
    """Read the store's price rows as records; times in the store are UTC."""
    import msgspec

    from workbench.records import Price

    with store.facts("", "prices") as frame:
        rows = frame.collect("polars").to_native()
    for column in ("starts_at", "ends_at"):
        rows = rows.with_columns(rows[column].dt.replace_time_zone("UTC"))
    return [msgspec.convert(row, Price) for row in rows.iter_rows(named=True)]


async def _keep_ingesting(store: "Store", ended: asyncio.Event) -> None:
    """Take the spool in every few seconds, never twice at once."""
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), INGEST_EVERY_S)
            return
        with contextlib.suppress(StoreLocked):  # whoever has it lets go; the spool waits
            await asyncio.to_thread(store.ingest_spool)


def _ingest_last(store: "Store") -> None:
    try:
        report = store.ingest_spool()
    except StoreLocked as error:
        talk(f"{error}\nwhat was collected waits in {store.spool_dir}; nothing is lost")
        return
    for note in report.notes:
        talk(f"note: {note}")


@contextlib.contextmanager
def _shown() -> Any:
    """Show progress on stderr: a bar for a person, a line every ten seconds for a log."""
    from workbench.cli.progress import Bar

    bar = Bar()
    try:
        yield bar.show
    finally:
        bar.close()
