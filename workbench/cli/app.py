"""The `workbench` command line app: imports commands on use, and maps errors to exit statuses.

Exit status: 0 done, 1 failed, 2 misuse. Data goes to stdout, messages to stderr.
"""

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from workbench import private
from workbench.cli.examples import examples
from workbench.errors import WorkbenchError
from workbench.version import __version__

FAILED, INTERRUPTED = 1, 130

# name → module:attribute, and the first line of its help (a test compares them)
COMMANDS: dict[str, tuple[str, str]] = {
    "tui": ("tui:tui", "Open the terminal app on a store."),
    "demo": ("demo:demo", "Open the sample traces in the terminal app."),
    "import": ("importing:import_", "Import logs, tables, or another store."),
    "collect": ("collect:collect", "Run tasks against models; skip what is already in the store."),
    "record": ("record:record", "Run a command and record its calls to models."),
    "listen": ("listen:listen", "Receive spans of instrumented programs while they run."),
    "watch": ("watch:watch", "Import files and folders whenever they change, until Ctrl-C."),
    "analyze": ("analyze:analyze", "Answer a question about the traces."),
    "report": (
        "report:report",
        "Write the answers of many analyses as one page, Markdown or LaTeX tables.",
    ),
    "docs": (
        "docs:docs",
        "Write the pages of analyses: question, definition, options, columns, an example.",
    ),
    "sql": ("sql:sql", "Run a read-only SQL query on the store."),
    "export": ("export:export", "Write a view, or the whole store, to files."),
    "runs": ("runs:runs", "List the runs that you collected or imported."),
    "tasks": (
        "tasks:tasks",
        "List the tasks of the store or those that ship, or preview a task file.",
    ),
    "strategies": (
        "strategies:strategies",
        "List strategies with their parameters, or describe those that you name.",
    ),
    "models": ("models:models", "List the models in the store, and what their names mean."),
    "prices": ("prices:prices", "List prices, or add a sheet of your own."),
    "hardware": (
        "hardware:hardware",
        "List models' shapes, accelerators and grids, or add rows of your own.",
    ),
    "reconcile": ("reconcile:reconcile", "Compare a provider's bill with the stored calls."),
    "faults": ("faults:faults", "List calls whose token counts contradict themselves."),
    "schema": ("schema:schema", "Describe tables and views, with example queries."),
    "plugins": (
        "plugins:plugins",
        "List plug-ins: parts that other installed packages offer, and why one cannot be used.",
    ),
    "doctor": ("doctor:doctor", "Check the installation and the store."),
    "version": ("version:version", "Print the installed version."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run or asked for help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order in which you use them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(
            importlib.import_module(f"workbench.cli.{module}"), attribute
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or offer the nearest."""
        if args[0] not in COMMANDS:
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"workbench {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    epilog=examples("workbench demo", "workbench import logs/", "workbench COMMAND --help"),
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
@click.option("--store", metavar="PATH", help="Path of the store, for any command.")
@click.pass_context
def cli(ctx: click.Context, store: str | None) -> None:
    """Measure what LLMs and agents cost for what they achieve, in one store of traces."""
    ctx.obj = {"store": store}
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Files that it creates are readable by their owner alone: files 0600, folders 0700.
    """
    with private.only_owner():
        return _run(args)


def _run(args: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status: Any = cli.main(args, prog_name="workbench", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        _close_stdout()
        return FAILED
    except WorkbenchError as error:
        return _fail(str(error))
    except OSError as error:
        from workbench.store import causes

        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{causes.reason(error, 'another place')}")
    return status if isinstance(status, int) else 0


def _fail(message: str) -> int:
    from workbench.safe import safe

    with contextlib.suppress(BrokenPipeError):
        click.echo(f"error: {safe(message, lines=True)}", err=True)
    return FAILED


def _close_stdout() -> None:
    """Redirect stdout to the null device, so that the last flush does not raise."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
