"""`workbench listen`: spans of an instrumented program, received while it runs."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

import click

from workbench.cli import child
from workbench.cli.examples import examples
from workbench.cli.options import open_store, print_message, store_option

if TYPE_CHECKING:
    from workbench.recorder.span_receiver import SpanReceiver
    from workbench.store import Store

_INGEST_EVERY_S = 3.0
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
_PORT = 4318


@click.command(
    "listen",
    context_settings={"ignore_unknown_options": True},
    epilog=examples(
        "workbench listen --port 4318",
        "workbench listen -- python agent.py",
    ),
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help=f"Port of 127.0.0.1; 0 takes a free one.  [default: {_PORT}, or a free one with COMMAND]",
)
@store_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND [ARGUMENT]…]")
@click.pass_context
def listen(
    ctx: click.Context, *, port: int | None, store_path: str | None, command: tuple[str, ...]
) -> None:
    """Receive spans of instrumented programs while they run.

    A receiver on 127.0.0.1 takes OTLP over HTTP (protobuf or JSON), as the SDKs of OpenTelemetry
    send it, and puts the spans together to traces with calls, tool calls and messages. Attributes
    may be those of the conventions for generative AI, OpenInference, OpenLLMetry or the Vercel AI
    SDK. Metrics and logs are not stored.

    With a command, it is run with OTEL_EXPORTER_OTLP_ENDPOINT set, and what it sends is received
    until it ends. Without one, set that variable yourself; Ctrl-C ends the receiver.

    Exit status: that of the command; 127 if it is not found.
    """
    store = open_store(store_path, create=True)
    chosen = port if port is not None else 0 if command else _PORT
    ctx.exit(asyncio.run(_listen(store, command, chosen)))


async def _listen(store: "Store", command: Sequence[str], port: int) -> int:
    from workbench.errors import ConfigError
    from workbench.recorder.span_receiver import SpanReceiver
    from workbench.spool import SpoolWriter

    name = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"
    with SpoolWriter(store.spool_dir, name, store_id=store.id) as spool:
        receiver = SpanReceiver(spool, port=port)
        try:
            await receiver.__aenter__()
        except OSError as error:
            raise ConfigError(
                f"port {port} of 127.0.0.1 cannot be used: {error.strerror or error};"
                " choose another one with --port"
            ) from None
        ingesting = asyncio.create_task(_keep_ingesting(store))
        try:
            if command:
                variables = {
                    _ENDPOINT: receiver.url,
                    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                }
                status = await child.run(command, variables)
            else:
                status = await child.until_interrupted(lambda: _show_address(receiver.url))
        finally:
            await receiver.__aexit__()
            ingesting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ingesting
    _conclude(store, receiver)
    return status


def _show_address(url: str) -> None:
    click.echo(f"export {_ENDPOINT}={url}")
    print_message(f"receiving spans at {url}; Ctrl-C ends it")


async def _keep_ingesting(store: "Store") -> None:
    """Ingest the spool every few seconds, so that traces are seen while the program runs."""
    from workbench.errors import StoreError

    while True:
        await asyncio.sleep(_INGEST_EVERY_S)
        with contextlib.suppress(StoreError):  # the last ingestion reports a lasting error
            await asyncio.to_thread(store.ingest_spool)


def _conclude(store: "Store", receiver: "SpanReceiver") -> None:
    """Ingest what was received, and say how much it was."""
    from workbench import formats
    from workbench.cli.record import ingest_last

    for fault in receiver.faults:
        print_message(f"workbench: {fault}")
    ingest_last(store)
    received = receiver.received
    count = formats.counted
    spans, traces = count(received.n_spans, "span"), count(received.n_traces, "trace")
    print_message(f"received {spans}: {traces} with calls, in {store.path}")
    if received.n_refused:
        print_message(f"note: {count(received.n_refused, 'request')} not understood")
    if received.n_other:
        print_message(
            f"note: {count(received.n_other, 'request')} with metrics or logs, not stored"
        )
