"""`workbench record`: a command's calls to models, recorded while it runs."""

import asyncio
import datetime as dt
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import click

from workbench.cli import child
from workbench.cli.examples import examples
from workbench.cli.options import open_store, print_message, store_option

if TYPE_CHECKING:
    from workbench.recorder.recorder import Recorder
    from workbench.store import Store


@click.command(
    "record",
    context_settings={"ignore_unknown_options": True},
    epilog=examples(
        "workbench record -- python agent.py",
        "workbench record --name my-agent --task tickets -- ./run.sh --fast",
    ),
)
@click.option(
    "--name",
    metavar="NAME",
    help="Name of the program in configurations (column strategy).  [default: the command's name]",
)
@click.option(
    "--task", default="recorded", show_default=True, metavar="NAME", help="Task of the traces."
)
@store_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND [ARGUMENT]…")
@click.pass_context
def record(
    ctx: click.Context,
    *,
    name: str | None,
    task: str,
    store_path: str | None,
    command: tuple[str, ...],
) -> None:
    """Run a command and record its calls to models.

    A proxy on 127.0.0.1 forwards the calls to OpenAI, Anthropic and Gemini, unchanged, and records
    each with its tokens, times, thinking and tool calls. The command finds the proxy by
    OPENAI_BASE_URL, ANTHROPIC_BASE_URL and GOOGLE_GEMINI_BASE_URL. Where these are set already, the
    calls are forwarded to the addresses in them. No key is stored.

    Without a command, the addresses are printed, and what uses them is recorded until you press
    Ctrl-C.

    A call that continues an earlier one belongs to the same trace. Streamed calls of OpenAI's chat
    have token counts only if the program asks for them (stream_options.include_usage).

    Exit status: that of the command; 127 if it is not found.
    """
    store = open_store(store_path, create=True)
    program = name or (Path(command[0]).name if command else "recorded")
    ctx.exit(asyncio.run(_record(store, command, program, task)))


async def _record(store: "Store", command: Sequence[str], program: str, task: str) -> int:
    from workbench.recorder.conversations import Recording
    from workbench.recorder.proxy import Keys, Proxy, upstreams
    from workbench.recorder.recorder import Recorder
    from workbench.records import Run
    from workbench.spool import SpoolWriter

    now = dt.datetime.now(dt.UTC)
    run_id = f"{now:%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"
    run = Run(
        run_id=run_id,
        kind="import",
        source="record",
        origin=program,
        started_at=now,
        host=platform.node() or None,
        platform=platform.platform(),
    )
    keys = Keys()
    recording = Recording(
        run_id,
        task=task,
        strategy=program,
        metadata={"project": str(Path.cwd()), "session": run_id},
        clean=keys.redact,
    )
    with (
        SpoolWriter(store.spool_dir, run_id, store_id=store.id) as spool,
        Recorder(recording, spool, run) as recorder,
    ):
        async with Proxy(upstreams(os.environ), recorder.take, keys=keys) as proxy:
            if command:
                status = await child.run(command, proxy.environment(os.environ))
            else:
                addresses = proxy.environment(os.environ)
                status = await child.until_interrupted(lambda: _show_addresses(addresses))
    _conclude(store, recorder, proxy.n_forwarded)
    return status


def _show_addresses(environment: dict[str, str]) -> None:
    for variable, url in environment.items():
        click.echo(f"export {variable}={url}")
    print_message("recording what uses these addresses; Ctrl-C ends it")


def _conclude(store: "Store", recorder: "Recorder", n_forwarded: int) -> None:
    """Ingest what was recorded, and say how much it was."""
    from workbench import formats

    for fault in recorder.faults:
        print_message(f"workbench: {fault}")
    ingest_last(store)
    recording = recorder.recording
    if not recording.n_calls:
        also = f" ({formats.counted(n_forwarded, 'other request')})" if n_forwarded else ""
        print_message(
            f"no call to a model came by the proxy{also}; check that the program reads"
            " OPENAI_BASE_URL, ANTHROPIC_BASE_URL or GOOGLE_GEMINI_BASE_URL"
        )
        return
    calls = formats.counted(recording.n_calls, "call")
    traces = formats.counted(len(recording.conversations), "trace")
    failed = f", {recorder.n_failed:,} failed" if recorder.n_failed else ""
    print_message(f"recorded {calls} in {traces}{failed}; run {recording.run_id} in {store.path}")
    if recorder.n_without_usage:
        print_message(
            f"note: {formats.counted(recorder.n_without_usage, 'call')} without token counts; where"
            " chats are streamed, the program has to ask for them: stream_options.include_usage"
        )


def ingest_last(store: "Store") -> None:
    """Ingest the spool; where the store cannot be written, say where the traces wait."""
    from workbench.errors import StoreError

    try:
        for note in store.ingest_spool().notes:
            print_message(f"note: {note}")
    except StoreError as error:
        print_message(f"{error}\nthe traces are in {store.spool_dir} until then; none is lost")
