"""`workbench collect`: a plan from a file or flags, its run, and ingestion of the run's spool."""

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

from workbench.cli.examples import examples
from workbench.cli.options import (
    amount,
    open_store,
    output_options,
    print_message,
    settings,
    store_option,
)
from workbench.cli.strategies import typed
from workbench.errors import ConfigError, StoreError, StoreLocked
from workbench.toml_reader import toml

if TYPE_CHECKING:
    from workbench.cli.pilot_prompt import PilotPrompt
    from workbench.cli.progress import Bar
    from workbench.records import AnyRecord
    from workbench.runner import CollectReport, Plan, Work
    from workbench.runner.planning.plan import Typed
    from workbench.store import Store
    from workbench.trust import Gate

INGEST_EVERY_S = 3.0
_CONNECTION = ("provider", "base_url", "api_key_env", "endpoint", "max_tokens")
_SETTINGS = ("provider", "base_url", "api_key_env", "machine", "concurrency")
_BUDGETS = ("budget_usd", "budget_tokens", "budget_j", "budget_time_s")
_LISTS = {"model": "models", "task": "tasks", "strategy": "strategies"}


_FLAGS: tuple[tuple[str, Any, str], ...] = (
    ("--base-url", str, "Address of the API, with its /v1; by default the provider's own."),
    ("--provider", str, "Provider's name in the price sheet; by default derived from the address."),
    ("--api-key-env", str, "Name of the environment variable that holds the key."),
    ("--trials", click.INT, "Attempts at every item."),
    ("--limit", click.INT, "Items of each task, at most."),
    (
        "--budget-usd",
        amount("USD"),
        "Stop this launch before it spends more than this many dollars.",
    ),
    (
        "--budget-tokens",
        amount("tokens"),
        "Stop this launch before it uses more tokens than this, input and output: 500k, 1M.",
    ),
    (
        "--budget-j",
        amount("J"),
        "Stop this launch before it uses more joules; needs an energy meter.",
    ),
    ("--budget-time-s", amount("s"), "Start no attempt after this many seconds of this launch."),
    ("--concurrency", click.INT, "Calls in flight at once."),
    ("--temperature", click.FLOAT, "Sampling temperature."),
    ("--top-p", click.FLOAT, "Probability mass of nucleus sampling, 0 to 1."),
    ("--max-tokens", amount("tokens", whole=True), "Maximum of output tokens of a call."),
    ("--effort", str, "Reasoning effort, as your provider names it: low, medium, high."),
    (
        "--thinking-budget-tokens",
        amount("tokens", whole=True),
        "Maximum of thinking tokens, if the API accepts one.",
    ),
    ("--seed", click.INT, "Base of the seeds; each item and trial derives its own."),
    ("--machine", str, "Name, in the price sheet, of the machine that serves the model."),
    ("--precision", str, "Number format of the weights, such as int4; it is stored, not sent."),
    (
        "--endpoint",
        str,
        "API to call; by default the provider's own: chat, responses, messages, gemini,"
        " completions for base models, local or local_completions to run the model in this"
        " process, replay to answer from recorded traces, or a provider of your own"
        " (mine.py:Class).",
    ),
    ("--device", str, "Device of a local model: auto, cpu, cuda or mps."),
    ("--recording", str, "Store or folder of traces that replay answers from."),
    (
        "--energy",
        click.Choice(["auto", "off"]),
        "Whether to measure the energy of this machine.",
    ),
    ("--template", str, "Template that turns a chat into text for completions."),
    ("--timeout-s", click.FLOAT, "Timeout of one request in seconds."),
    ("--retries", click.INT, "Retries of a failed request."),
)


def _plan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add a flag for each setting of a plan."""
    for name, kind, text in reversed(_FLAGS):
        command = click.option(name, type=kind, default=None, help=text)(command)
    for name, text in (
        (
            "strategy",
            "a strategy: NAME or NAME:PARAMETER=VALUE,… (see workbench strategies), or"
            " file.py:Class for your own",
        ),
        ("task", "a shipped task, or a task file"),
        ("model", "a model to run"),
    ):
        help_text = f"Add {text}; may be repeated."
        command = click.option(f"--{name}", multiple=True, help=help_text)(command)
    return command


@click.command(
    epilog=examples(
        "workbench collect plan.toml --dry-run",
        "workbench collect --base-url http://127.0.0.1:8080/v1 --model smollm2 --task arithmetic",
        "workbench collect plan.toml --strategy cot --trials 4 --pilot 5",
    ),
)
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
    help="Price sheet to add to the store first.",
)
@click.option(
    "--batch",
    is_flag=True,
    default=None,
    help="Send requests in batches, at batch prices, if the provider has them.",
)
@click.option(
    "--allow-code",
    is_flag=True,
    default=None,
    help="Import code that your files name, for this launch: scorers (module:function), strategies"
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
    help="Print what is missing with estimates of cost, tokens and time; send nothing, and import"
    " no code that you have not trusted.",
)
@click.option(
    "--pilot",
    type=click.IntRange(min=1),
    metavar="N",
    help="Run the first N items, print estimates for the rest, and ask whether to continue.",
)
@click.option("--yes", is_flag=True, help="Continue after the pilot without a question.")
@click.option(
    "--allow-partial",
    is_flag=True,
    help="Exit with status 0 although some attempts failed, have no score or are left.",
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
    """Run tasks against models; skip what is already in the store.

    Every model × strategy is a configuration, and every configuration attempts every item --trials
    times. If you run the same command again, it makes the missing attempts only. Press Ctrl-C once
    to stop after the attempts in flight. From another terminal you can watch, pause and retune a
    running collection: see workbench runs --help.

    A budget in the plan file is for all launches of the plan together. A budget that you give here
    is for this launch alone; if you give both, both limit it. Collections that run at the same time
    on one store share their attempts and the budgets of their plans.

    Exit status: 0 if every attempt of the plan is answered and scored; 1 if some failed, have no
    score or are left, or nothing could be sent; 2 if the command is not understood. With
    --allow-partial it is 0 if at least one attempt of the plan is answered.
    """
    from workbench.cli.output import check_output
    from workbench.cli.pilot_prompt import PilotPrompt
    from workbench.datasets.loading import with_absolute_path
    from workbench.runner import expand

    check_output(output)
    if not dry_run and (output or format_):
        raise click.UsageError("--format and --output are for --dry-run")
    folder = plan_file.parent if plan_file is not None else None
    plan_settings = _plan(plan_file, flags)
    # task paths are made absolute: the run's record is read from other folders too
    if isinstance(plan_settings["tasks"], list):
        tasks = plan_settings["tasks"]
        plan_settings["tasks"] = [with_absolute_path(task, folder) for task in tasks]
    plan = _valid_plan(plan_settings, plan_file)
    gate = _gate(plan_file, trust=trust, allow_code=flags["allow_code"])
    work = expand(plan, folder, trust=gate, typed=_typed(flags, plan_file), preview=dry_run)
    for note in gate.notes:
        print_message(f"note: {note}")
    for task in work.task_sets:
        for note in task.notes:
            print_message(f"{task.name}: {note}")
    store = _store(store_path, sheet)
    limits = _limits(flags)
    if dry_run:
        _estimate(store, work, limits, format_, output)
        return
    prompt = PilotPrompt(store, work, yes=yes, n_items=pilot, limits=limits)
    report = asyncio.run(_collect(store, work, prompt))
    print_message(str(report))
    print_message(f"to see the traces: workbench tui {store.path}")
    state = _PlanState.of(report, _n_refused(store, work))
    print_message(str(state))
    is_enough = state.is_complete or (allow_partial and state.answered > 0)
    ctx.exit(0 if is_enough and report.status != "failed" else 1)


def _n_refused(store: "Store", work: "Work") -> int:
    """Count attempts that providers refused for good in earlier launches; they are not repeated."""
    from workbench.runner.planning import history

    with contextlib.suppress(StoreLocked), store.facts() as facts:
        return history.refused_of(facts, work)
    return 0  # the store is locked; refusals of this launch are in its report


class _PlanState(NamedTuple):
    """Counts of a plan's attempts after a launch, by outcome."""

    planned: int
    answered: int
    failed: int
    refused: int
    unscored: int
    remaining: int

    @classmethod
    def of(cls, report: "CollectReport", n_refused: int) -> "_PlanState":
        """Combine the report of a launch with the number of attempts refused for good."""
        n_final = sum(reason.n for reason in report.reasons if reason.is_final)
        failed = report.failed + report.failed_elsewhere - n_final
        refused = max(n_refused, n_final)
        answered = report.planned - report.left - failed - refused
        return cls(report.planned, answered, failed, refused, report.unscored, report.left)

    @property
    def is_complete(self) -> bool:
        """Whether every attempt is answered and scored."""
        return self.answered == self.planned and not self.unscored

    def __str__(self) -> str:
        """Write whether the plan is complete and, if not, the counts and what to do."""
        if self.is_complete:
            return f"all {self.planned:,} attempts are answered and scored"
        parts = (
            (self.failed, "failed"),
            (self.refused, "refused for good"),
            (self.unscored, "without a score"),
            (self.remaining, "left"),
        )
        counts = ", ".join(f"{n:,} {outcome}" for n, outcome in parts if n > 0)
        hint = ""
        if self.failed or self.remaining:
            hint = "; to make those that failed or are left, run the same command again"
        return f"not complete: of {self.planned:,} attempts {counts}{hint}"


def _valid_plan(plan_settings: dict[str, Any], plan_file: Path | None) -> "Plan":
    """Make the plan and its models; an error names the file that they are from."""
    from workbench.runner import Plan

    try:
        plan = Plan.from_mapping(plan_settings)
        plan.targets  # noqa: B018 - checks the settings of each model
    except ConfigError as error:
        if plan_file is None:
            raise
        raise ConfigError(f"{plan_file}: {error}") from error
    return plan


def _typed(flags: dict[str, Any], plan_file: Path | None) -> "Typed":
    """Collect what the user typed or set in the settings file, which needs no trust question."""
    from workbench.runner import Plan
    from workbench.runner.planning.plan import Typed

    entries = [{"name": s} if isinstance(s, str) else s for s in map(typed, flags["strategy"])]
    names = [entry["name"] for entry in entries]
    typed_tools = [tool for entry in entries for tool in entry.get("tools") or ()]
    typed_tasks = plan_file is None or bool(flags["task"])
    recordings = [] if flags["recording"] is None else [flags["recording"]]
    placeholders = {"models": ["any"], "tasks": ["any"]}  # only address and key are read
    try:
        (target,) = Plan.from_mapping(placeholders | _typed_settings(flags)).targets
    except ConfigError:  # the flags are valid only together with the plan file
        return Typed(names, tasks=typed_tasks, recordings=recordings, tools=typed_tools)
    return Typed(
        strategies=names,
        keys=[] if target.api_key_env is None else [(target.api_key_env, target.address)],
        addresses=[target.address],
        tasks=typed_tasks,
        recordings=recordings,
        endpoints=[target.endpoint] if target.is_own else [],
        tools=typed_tools,
    )


def _typed_settings(flags: dict[str, Any]) -> dict[str, Any]:
    """Combine settings < flags for the keys of a connection: address, provider, key, endpoint."""
    loaded = settings()
    usual = {
        n: getattr(loaded, n) for n in _CONNECTION if loaded.origins.get(n, "default") != "default"
    }
    return usual | {n: flags[n] for n in _CONNECTION if flags.get(n) is not None}


def _gate(plan_file: Path | None, *, trust: bool, allow_code: bool | None) -> "Gate":
    """Make the gate for external code and keys: it follows the flags, else asks at a terminal."""
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
    # the runner reads the spool first, to find attempts in flight when a run was killed
    store = open_store(store_path, create=True, take_in=False)
    if sheet is not None:
        from workbench.prices import read_sheet

        store.add_prices(read_sheet(sheet))
    return store


def _limits(flags: dict[str, Any]) -> dict[str, float]:
    """Return the budgets of this launch: those typed, else that of the settings file."""
    loaded = settings()
    usual = loaded.budget_usd if loaded.origins["budget_usd"] != "default" else None
    given = {"budget_usd": usual} | {n: flags[n] for n in _BUDGETS if flags[n] is not None}
    return {name: limit for name, limit in given.items() if limit is not None}


def _plan(plan_file: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    """Combine settings < plan file < flags; budgets of the launch are not part of the plan."""
    loaded = settings()
    plan = {n: getattr(loaded, n) for n in _SETTINGS if loaded.origins[n] != "default"}
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
            raise click.UsageError(
                f"no {flag} was given; name one with --{flag}, or give a PLAN.toml"
            )
    return plan


def _estimate(
    store: "Store", work: "Work", limits: dict[str, float], format_: str | None, output: Path | None
) -> None:
    """Print the number of missing attempts and estimates of their cost, tokens and time."""
    from workbench.cli import estimates
    from workbench.cli.output import emit

    preflight = estimates.estimate_of(store, work, limits)
    print_message(
        f"{preflight.planned:,} planned, {estimates.count_text(preflight.missing)} missing"
    )
    if output is not None or (format_ or settings().format) != "table":
        emit(estimates.document(preflight, store=str(store.path)), format_, output)
        return
    estimates.show(preflight)


def _recordings(path: str) -> "Iterator[AnyRecord]":
    """Read the recorded traces that a replay answers from."""
    from workbench.store import recorded

    return recorded.read(Path(path))


async def _collect(store: "Store", work: "Work", asking: "PilotPrompt") -> "CollectReport":
    """Run the plan; ingest its spool every few seconds and at the end."""
    from workbench import runner
    from workbench.cli.estimates import pricer, spent_of
    from workbench.spool import SpoolWriter

    plan = work.plan
    now = dt.datetime.now(dt.UTC)
    run_id = f"{now:%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"
    await asyncio.to_thread(asking.warn)
    with _progress_bar() as bar:
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
            is_ingested = await asyncio.to_thread(_ingest_last, store)
    if not is_ingested:
        raise StoreError("the spool was not ingested; the next command on this store does it")
    return report


async def _ingest(store: "Store", one_at_a_time: asyncio.Lock) -> None:
    """Ingest the spool; the lock keeps two ingestions from running at once."""
    with contextlib.suppress(StoreError):  # the last ingestion reports a lasting error
        async with one_at_a_time:
            await asyncio.to_thread(store.ingest_spool)


async def _keep_ingesting(ingest: Callable[[], Awaitable[None]], ended: asyncio.Event) -> None:
    """Ingest the spool every `INGEST_EVERY_S` seconds until the run has ended."""
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), INGEST_EVERY_S)
            return
        await ingest()


def _ingest_last(store: "Store") -> bool:
    """Ingest the spool; return False on an error other than a store locked by a process."""
    try:
        report = store.ingest_spool()
    except StoreError as error:
        print_message(f"{error}\nthe traces are in {store.spool_dir} until then; none is lost")
        return isinstance(error, StoreLocked)
    for note in report.notes:
        print_message(f"note: {note}")
    return True


@contextlib.contextmanager
def _progress_bar() -> "Iterator[Bar]":
    """Show progress on stderr, and close the bar at the end."""
    from workbench.cli.progress import Bar

    bar = Bar()
    try:
        yield bar
    finally:
        bar.close()
