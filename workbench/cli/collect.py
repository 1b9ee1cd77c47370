"""`workbench collect`: a plan from a file or from flags, the runner, and the spool taken in meanwhile."""

import asyncio
import contextlib
import datetime as dt
import functools
import os
import sys
import tomllib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import click

from workbench.cli.options import (
    amount,
    open_store,
    output_options,
    settings,
    store_option,
    talk,
)
from workbench.cli.strategies import typed
from workbench.decoding import toml
from workbench.errors import ConfigError, StoreError, StoreLocked

if TYPE_CHECKING:
    from workbench.cli.piloting import Asking
    from workbench.cli.progress import Bar
    from workbench.records import AnyRecord
    from workbench.runner import CollectReport, Work
    from workbench.runner.planning.plan import Typed
    from workbench.store import Store
    from workbench.trust import Gate

INGEST_EVERY_S = 3.0
_PLACE = ("provider", "base_url", "api_key_env", "endpoint", "max_tokens")
_SETTINGS = ("provider", "base_url", "api_key_env", "machine", "concurrency")
_BUDGETS = ("budget_usd", "budget_tokens", "budget_j", "budget_time_s")
_LISTS = {"model": "models", "task": "tasks", "strategy": "strategies"}


_FLAGS: tuple[tuple[str, Any, str], ...] = (
    ("--base-url", str, "Address of the API, with its /v1; by default the provider's own."),
    ("--provider", str, "Its name in the price sheet; by default told by the address."),
    ("--api-key-env", str, "Name of the environment variable that holds the key."),
    ("--trials", click.INT, "Repeats of every item."),
    ("--limit", click.INT, "At most so many items of each task."),
    ("--budget-usd", amount("USD"), "Stop this launch before it spends more dollars than that."),
    (
        "--budget-tokens",
        amount("tokens"),
        "Stop it before it uses more tokens than that, in and out: 500k, 1M.",
    ),
    ("--budget-j", amount("J"), "Stop it before it draws more joules than that; needs a meter."),
    ("--budget-time-s", amount("s"), "Begin nothing after so many seconds of this launch."),
    ("--concurrency", click.INT, "Calls in flight."),
    ("--temperature", click.FLOAT, "Sampling temperature."),
    ("--top-p", click.FLOAT, "Nucleus sampling mass."),
    ("--max-tokens", amount("tokens", whole=True), "Cap on output tokens."),
    ("--effort", str, "Reasoning effort, in the server's words."),
    (
        "--thinking-budget-tokens",
        amount("tokens", whole=True),
        "Cap on thinking tokens, where the API takes one.",
    ),
    ("--seed", click.INT, "Base of the seeds, one per item and trial."),
    ("--machine", str, "Name, in the price sheet, of the machine that serves the model."),
    ("--precision", str, "Number format of the weights, for the record."),
    (
        "--endpoint",
        click.Choice(
            [
                "chat",
                "completions",
                "responses",
                "messages",
                "gemini",
                "local",
                "local_completions",
                "replay",
            ]
        ),
        "The API that is spoken; by default the provider's own. completions is for base models,"
        " local runs the model in this process, replay answers from recorded traces.",
    ),
    ("--device", str, "Where a local model runs: auto, cpu, cuda, mps."),
    ("--recording", str, "The store, or folder of traces, that replay answers from."),
    (
        "--energy",
        click.Choice(["auto", "off"]),
        "Whether the energy of this machine is measured.",
    ),
    ("--template", str, "How a chat becomes text for completions."),
    ("--timeout-s", click.FLOAT, "Cap of one request in seconds."),
    ("--retries", click.INT, "Tries after the first."),
)


def _plan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add a flag for each setting of a plan."""
    for name, kind, text in reversed(_FLAGS):
        command = click.option(name, type=kind, default=None, help=text)(command)
    for name, text in (
        (
            "strategy",
            "a way of asking, NAME or NAME:PARAMETER=VALUE,… (see: workbench strategies), or file.py:Class of your own",
        ),
        ("task", "a shipped task, or a file"),
        ("model", "the model to ask"),
    ):
        help_text = f"Add {text}; may be repeated."
        command = click.option(f"--{name}", multiple=True, help=help_text)(command)
    return command


@click.command()
@click.argument(
    "plan_file",
    required=False,
    metavar="[PLAN.toml]",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@_plan_options
@click.option(
    "--prices",
    "sheet",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A price sheet to add first.",
)
@click.option(
    "--batch",
    is_flag=True,
    default=None,
    help="Send requests in batches, at batch prices, where the provider has them.",
)
@click.option(
    "--allow-code",
    is_flag=True,
    default=None,
    help="Import code that files name, this time: scorers (module:function), strategies"
    " (file.py:Class).",
)
@click.option(
    "--trust",
    is_flag=True,
    help="Trust the code that the plan and its task files name, and the addresses that it sends"
    " keys to, until one of them changes. At a terminal you are asked.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Say what is missing and what it will take; send nothing, and import nothing that you have"
    " not trusted.",
)
@click.option(
    "--pilot",
    type=click.IntRange(min=1),
    metavar="N",
    help="Make the first N items, say what the rest will take, and ask.",
)
@click.option("--yes", is_flag=True, help="Go on after the pilot without a question.")
@click.option(
    "--allow-partial",
    is_flag=True,
    help="Exit with 0 as well where some attempts failed, have no score or are left.",
)
@store_option
@output_options
@click.pass_context
def collect(
    ctx: click.Context,
    /,
    *,
    plan_file: Path | None,
    sheet: Path | None,
    trust: bool,
    dry_run: bool,
    pilot: int | None,
    yes: bool,
    allow_partial: bool,
    store_path: str | None,
    format_: str | None,
    output: Path | None,
    **flags: Any,
) -> None:
    """Ask models the items of tasks; only what is missing.

    Every model × strategy is a configuration, tried on every item so many times. The same command
    again does only what is missing; Ctrl-C once waits for what is in flight. From another terminal
    a running collection is watched, paused and retuned: see workbench runs --help.

    A budget in the plan file is for the plan, over all its launches: what its attempts took before
    counts. A budget given here is for this launch alone; where there are both, both hold.
    Collections at the same time on one store share their attempts and the budgets of their plans.

    Exit status: 0 every attempt of the plan is answered and scored; 1 some failed, have no score or
    are left, or nothing could be asked; 2 the command was not understood. With --allow-partial 0
    also where
    at least one attempt of the plan is answered. For example:

    workbench collect --base-url http://127.0.0.1:8080/v1 --model smollm2 --task arithmetic
    --strategy direct --strategy cot --trials 4
    """
    from workbench.cli.output import check_output
    from workbench.cli.piloting import Asking
    from workbench.datasets.loading import located
    from workbench.runner import Plan, expand

    check_output(output)
    if not dry_run and (output or format_):
        raise click.UsageError("--format and --output are for --dry-run")
    folder = plan_file.parent if plan_file is not None else None
    given = _plan(plan_file, flags)
    # what the run's record says of its tasks is read in other folders too
    if isinstance(given["tasks"], list):
        given["tasks"] = [located(task, folder) for task in given["tasks"]]
    plan = Plan.from_mapping(given)
    gate = _gate(plan_file, trust=trust, allow_code=flags["allow_code"])
    work = expand(plan, folder, trust=gate, typed=_typed(flags, plan_file), preview=dry_run)
    for note in gate.notes:
        talk(f"note: {note}")
    for task in work.task_sets:
        for note in task.notes:
            talk(f"{task.name}: {note}")
    store = _store(store_path, sheet)
    limits = _limits(flags)
    if dry_run:
        _estimate(store, work, limits, format_, output)
        return
    asking = Asking(store, work, yes=yes, n_items=pilot, limits=limits)
    report = asyncio.run(_collect(store, work, asking))
    talk(str(report))
    talk(f"see them with: workbench tui {store.path}")
    state = _Outcome.of(report, _n_refused(store, work))
    talk(str(state))
    is_enough = state.is_whole or (allow_partial and state.answered > 0)
    ctx.exit(0 if is_enough and report.status != "failed" else 1)


def _n_refused(store: "Store", work: "Work") -> int:
    """Count the attempts of a plan that were refused for good in earlier launches, and are not asked again."""
    from workbench.runner.planning import history

    with contextlib.suppress(StoreLocked), store.facts() as facts:
        return history.refused_of(facts, work)
    return 0  # this launch's own are in its report


class _Outcome(NamedTuple):
    """How a plan stands after a launch, as far as is known: counts of its attempts."""

    planned: int
    answered: int
    failed: int
    refused: int
    unscored: int
    left: int

    @classmethod
    def of(cls, report: "CollectReport", n_refused: int) -> "_Outcome":
        """Combine what a launch reports with what was refused for good, then or before."""
        n_final = sum(reason.n for reason in report.reasons if reason.is_final)
        failed = report.failed + report.failed_elsewhere - n_final
        refused = max(n_refused, n_final)
        answered = report.planned - report.left - failed - refused
        return cls(report.planned, answered, failed, refused, report.unscored, report.left)

    @property
    def is_whole(self) -> bool:
        """Whether every attempt is answered and scored."""
        return self.answered == self.planned and not self.unscored

    def __str__(self) -> str:
        """Say in one line whether the plan is whole, and what to do where it is not."""
        if self.is_whole:
            return f"all {self.planned:,} attempts are answered and scored"
        parts = (
            (self.failed, "failed"),
            (self.refused, "refused for good"),
            (self.unscored, "without a score"),
            (self.left, "left"),
        )
        said = ", ".join(f"{n:,} {what}" for n, what in parts if n > 0)
        again = "; the same command again makes those that failed or are left"
        return f"not whole: of {self.planned:,} attempts {said}{again if self.failed or self.left else ''}"


def _typed(flags: dict[str, Any], plan_file: Path | None) -> "Typed":
    """Tell what the user typed, or set in his own configuration, from what a plan file says."""
    from workbench.runner import Plan
    from workbench.runner.planning.plan import Typed

    names = [s if isinstance(s, str) else s["name"] for s in map(typed, flags["strategy"])]
    anything = {"models": ["any"], "tasks": ["any"]}  # only where and how models are asked counts
    try:
        (own,) = Plan.from_mapping(anything | _typed_settings(flags)).targets
    except ConfigError:  # it takes the plan to make sense of it
        return Typed(names, tasks=plan_file is None or bool(flags["task"]))
    return Typed(
        strategies=names,
        keys=[] if own.api_key_env is None else [(own.api_key_env, own.base_url)],
        addresses=[own.base_url],
        tasks=plan_file is None or bool(flags["task"]),
    )


def _typed_settings(flags: dict[str, Any]) -> dict[str, Any]:
    """Combine settings < flags, of what says where a model is and with which key it is asked."""
    found = settings()
    usual = {n: getattr(found, n) for n in _PLACE if found.origins.get(n, "default") != "default"}
    return usual | {n: flags[n] for n in _PLACE if flags.get(n) is not None}


def _gate(plan_file: Path | None, *, trust: bool, allow_code: bool | None) -> "Gate":
    """Make what answers for code and keys: the flags, else a person at a terminal."""
    from workbench.trust import Gate

    return Gate(
        trust or (_confirm if _can_answer() else False),
        allow_code=bool(allow_code),
        source=f"the plan {str(plan_file)!r}" if plan_file is not None else "this collection",
    )


def _can_answer() -> bool:
    return sys.stdin.isatty()


def _confirm(question: str) -> bool:
    from workbench.safe import safe

    return click.confirm(safe(question, lines=True), err=True)


def _store(store_path: str | None, sheet: Path | None) -> "Store":
    """Open or make the store, with the prices of a sheet."""
    # the runner looks at the spool before it is taken in, for what was in flight at a kill
    store = open_store(store_path, create=True, take_in=False)
    if sheet is not None:
        from workbench.prices import read_sheet

        store.add_prices(read_sheet(sheet))
    return store


def _limits(flags: dict[str, Any]) -> dict[str, float]:
    """Find the budgets of this launch: those typed, and that of the settings."""
    found = settings()
    usual = found.budget_usd if found.origins["budget_usd"] != "default" else None
    given = {"budget_usd": usual} | {n: flags[n] for n in _BUDGETS if flags[n] is not None}
    return {name: limit for name, limit in given.items() if limit is not None}


def _plan(plan_file: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    """Combine settings < plan file < flags; budgets that are not the plan's are left aside."""
    found = settings()
    plan = {n: getattr(found, n) for n in _SETTINGS if found.origins[n] != "default"}
    if plan_file is not None:
        try:
            plan |= toml(plan_file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{plan_file} is not TOML: {error}") from None
    for name, value in flags.items():
        if value is not None and value != () and name not in _BUDGETS:
            plan[_LISTS.get(name, name)] = list(value) if name in _LISTS else value
    if flags.get("strategy"):
        plan["strategies"] = [typed(text) for text in flags["strategy"]]
    for flag, name in _LISTS.items():
        if not plan.get(name) and name != "strategies":
            raise click.UsageError(f"no {flag}; name one with --{flag}, or give a PLAN.toml")
    return plan


def _estimate(
    store: "Store", work: "Work", limits: dict[str, float], format_: str | None, output: Path | None
) -> None:
    """Print what is missing and what it will take."""
    from workbench.cli import estimates
    from workbench.cli.output import emit

    found = estimates.estimate_of(store, work, limits)
    talk(f"{found.planned:,} planned, {estimates.count_text(found.missing)} missing")
    if output is not None or (format_ or settings().format) != "table":
        emit(estimates.document(found, store=str(store.path)), format_, output)
        return
    estimates.show(found)


def _recordings(path: str) -> "Iterator[AnyRecord]":
    """Read the traces that a replay answers from."""
    from workbench.store import recorded

    return recorded.read(Path(path))


async def _collect(store: "Store", work: "Work", asking: "Asking") -> "CollectReport":
    """Run the plan and take the spool in every few seconds, and at the end."""
    from workbench import runner
    from workbench.cli.estimates import pricer, spent_of
    from workbench.spool import SpoolWriter

    plan, now = work.plan, dt.datetime.now(dt.UTC)
    run_id = f"{now:%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"
    await asyncio.to_thread(asking.warn)
    with _shown() as bar:
        ended = asyncio.Event()
        one_at_a_time = asyncio.Lock()
        ingest = functools.partial(_ingest, store, one_at_a_time)
        ingesting = asyncio.create_task(_keep_ingesting(ingest, ended))
        try:
            with SpoolWriter(store.spool_dir, run_id, store_id=store.id) as spool:
                report = await runner.collect(
                    plan,
                    work=work,
                    spool=spool,
                    on_progress=bar.show,
                    done=functools.partial(store.done, in_spool=False),
                    spent=functools.partial(spent_of, store),
                    limits=asking.limits,
                    price=pricer(store, now),
                    environ=os.environ,
                    pilot=asking.pilot(bar, ingest),
                    recordings=_recordings,
                )
        finally:
            ended.set()
            await ingesting
            is_taken_in = await asyncio.to_thread(_ingest_last, store)
    if not is_taken_in:
        raise StoreError("the spool was not taken in; the next command on the store does it")
    return report


async def _ingest(store: "Store", one_at_a_time: asyncio.Lock) -> None:
    """Take the spool in, never twice at once."""
    with contextlib.suppress(StoreError):  # the spool waits; what the last try says is told
        async with one_at_a_time:
            await asyncio.to_thread(store.ingest_spool)


async def _keep_ingesting(ingest: Callable[[], Awaitable[None]], ended: asyncio.Event) -> None:
    """Take the spool in every few seconds."""
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), INGEST_EVERY_S)
            return
        await ingest()


def _ingest_last(store: "Store") -> bool:
    """Take the spool in; False where something but another process keeps it from being taken in."""
    try:
        report = store.ingest_spool()
    except StoreError as error:
        talk(f"{error}\nwhat was written waits in {store.spool_dir}; nothing of it is lost")
        return isinstance(error, StoreLocked)
    for note in report.notes:
        talk(f"note: {note}")
    return True


@contextlib.contextmanager
def _shown() -> "Iterator[Bar]":
    """Show progress on stderr: a bar for a person, a line every ten seconds for a log."""
    from workbench.cli.progress import Bar

    bar = Bar()
    try:
        yield bar
    finally:
        bar.close()
