"""Sessions of coding agents: speed of reading and importing, and the bill beside ccusage's.

    python tests/benchmarks/bench_sessions.py [--sessions 200] [--ccusage node_modules/.bin/ccusage]
        [--ccusage-codex node_modules/.bin/ccusage-codex] [--analyses 1000000]

With --analyses it prints the time and memory of three analyses at so many calls instead.

Prints MB of JSON lines per second of processor time on a made-up folder. With ccusage (npm), which
must know its prices offline, it prints its time on the same folder and both bills by day and model.
Each difference is taken apart into what ccusage is known to do otherwise.
"""

import argparse
import datetime as dt
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.support.session_folders import MODELS, START, ClaudeFolder, CodexFolder
from workbench import sources
from workbench.cli.import_files import FileImporter
from workbench.records import (
    AnyRecord,
    Call,
    Configuration,
    Item,
    Run,
    Task,
    ToolCall,
    Trace,
)
from workbench.store import Store, open_store

_BILL = """SELECT strftime(started_at, '%Y-%m-%d') AS day, call_model, sum(cost_usd) AS cost_usd
FROM call_facts GROUP BY ALL"""

_CALLS = 50  # of a session
GPT_5 = {"fresh": 1.25, "read": 0.125, "output": 10.0}  # USD per million tokens


def timed(what: str, size: int, work: Callable[[], Any]) -> Any:
    """Print the speed of one piece of work; returns its result."""
    start = time.process_time()
    result = work()
    taken = time.process_time() - start
    print(f"{what:44} {taken:8.2f} s {size / 1e6 / taken:9.1f} MB/s")
    return result


def foreign(what: str, size: int, command: str, **environ: str) -> list[Any]:
    """Print the processor time of ccusage; returns its days."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        ["node", command, "daily", "--json", "--offline", "--timezone", "UTC"],
        env=os.environ | environ,
        capture_output=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{what:44} {taken:8.2f} s {size / 1e6 / taken:9.1f} MB/s")
    days: list[Any] = json.loads(done.stdout)["daily"]
    return days


def imported(store: Store, folder: Path) -> None:
    """Import a folder."""
    outcomes = FileImporter(store).files(sources.detect_files(folder))
    assert {o.status for o in outcomes} == {"ok"}


def bill(store: Store) -> dict[tuple[str, str], float]:
    """The cost by day and model."""
    return {(day, model): cost for day, model, cost in store.sql(_BILL).rows()}


def compare(
    ours: dict[tuple[str, str], float],
    theirs: dict[tuple[str, str], float],
    reasons: dict[str, dict[tuple[str, str], float]],
) -> None:
    """Print both bills, and what of their difference each reason explains."""
    print(f"\n{'day':11}{'model':28}{'ours':>11}{'ccusage':>11}", end="")
    print("".join(f"{name:>22}" for name in reasons), f"{'unexplained':>12}")
    totals: Counter[str] = Counter()
    for key in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(key, 0.0), theirs.get(key, 0.0)
        parts = [reason.get(key, 0.0) for reason in reasons.values()]
        rest = mine - other - sum(parts)
        totals.update({"ours": mine, "ccusage": other, "unexplained": abs(rest)})
        shown = "".join(f"{part:22.4f}" for part in parts)
        print(f"{key[0]:11}{key[1]:28}{mine:11.4f}{other:11.4f}{shown} {rest:12.6f}")
    print({name: round(value, 6) for name, value in totals.items()})


def claude(folder: Path, options: argparse.Namespace) -> None:
    """Print the figures of Claude Code's sessions."""
    ledger = ClaudeFolder(folder).write(options.sessions, 12)
    size = ledger.n_bytes
    files = sources.detect_files(folder)
    print(f"Claude Code: {len(files):,} files, {size / 1e6:,.0f} MB, {ledger.n_calls:,} calls")
    timed("detect formats", size, lambda: sources.detect_files(folder))
    records = timed(
        "read into records", size, lambda: [[*sources.read(f.path, source=f.source)] for f in files]
    )
    whole = itertools.chain(*records)
    store = open_store(folder / "a.duckdb", create=True)
    timed("records into the store", size, lambda: store.ingest(whole))
    store = open_store(folder / "b.duckdb", create=True)
    timed("import the folder", size, lambda: imported(store, folder / "projects"))
    settle(folder)
    third = open_store(folder / "c.duckdb", create=True)
    imported(third, folder / "projects")
    timed("import it again, unchanged", size, lambda: imported(third, folder / "projects"))
    if options.ccusage is None:
        return
    days = foreign("ccusage daily", size, options.ccusage, CLAUDE_CONFIG_DIR=str(folder))
    theirs = {
        (day["date"], part["modelName"]): part["cost"]
        for day in days
        for part in day["modelBreakdowns"]
    }
    compare(bill(store), theirs, explained(store, ledger.tokens))


def explained(
    store: Store, tokens: Counter[tuple[str, str, str]]
) -> dict[str, dict[tuple[str, str], float]]:
    """What ccusage 18 leaves out: the second rate of cache writes, an answer's later lines."""
    rows = store.sql(
        "SELECT model, max(output_usd_per_mtok), max(cache_write_1h_usd_per_mtok)"
        " - max(cache_write_5m_usd_per_mtok) FROM prices WHERE min_input_tokens = 0 GROUP BY model"
    ).rows()
    prices = {model: (output, hour) for model, output, hour in rows}
    keys = {(day, model) for day, model, _ in tokens}
    hours, outputs = {}, {}
    for day, model in keys:
        output, hour = prices[model]
        hours[day, model] = tokens[day, model, "write_1h"] * hour / 1e6
        later = tokens[day, model, "output"] - tokens[day, model, "first_output"]
        outputs[day, model] = later * output / 1e6
    return {"1 h writes as 5 min": hours, "output of first line": outputs}


def settle(folder: Path) -> None:
    """Give all files a time in the past, as those of an older session have."""
    for file in folder.rglob("*.jsonl"):
        os.utime(file, ns=(10**18, 10**18))


def codex(folder: Path, options: argparse.Namespace) -> None:
    """Print the figures of Codex' threads."""
    ledger = CodexFolder(folder).write(options.sessions, 12)
    size = ledger.n_bytes
    files = sources.detect_files(folder)
    print(f"\nCodex: {len(files):,} files, {size / 1e6:,.0f} MB, {ledger.n_calls:,} calls")
    timed(
        "read into records", size, lambda: [[*sources.read(f.path, source=f.source)] for f in files]
    )
    store = open_store(folder / "b.duckdb", create=True)
    timed("import the folder", size, lambda: imported(store, folder / "sessions"))
    if options.ccusage_codex is None:
        return
    days = foreign("ccusage-codex daily", size, options.ccusage_codex, CODEX_HOME=str(folder))
    ours: Counter[tuple[str, str]] = Counter()
    for (day, _), cost in bill(store).items():
        ours[day, "all models"] += cost
    theirs = {(_iso(day["date"]), "all models"): day["costUSD"] for day in days}
    repeats: Counter[tuple[str, str]] = Counter()
    for (day, _, kind), tokens in (ledger.tokens - ledger.told).items():
        repeats[day, "all models"] += tokens * GPT_5[kind] / 1e6
    for (day, _, kind), tokens in (ledger.told - ledger.tokens).items():
        repeats[day, "all models"] -= tokens * GPT_5[kind] / 1e6
    compare(dict(ours), theirs, {"repeats and forks": dict(repeats)})


def _iso(date: str) -> str:
    """Return a date as ccusage-codex writes it, Sep 01, 2026, in ISO form."""
    return time.strftime("%Y-%m-%d", time.strptime(date, "%b %d, %Y"))


def sessions(n_calls: int) -> Iterator[AnyRecord]:
    """Records of sessions with 50 calls each, whose context grows; some pause for an hour."""
    task = Task(task="claude-code")
    configurations = [
        Configuration(model=model, provider="anthropic", strategy="claude-code") for model in MODELS
    ]
    yield from (task, *configurations)
    for number in range(n_calls // _CALLS):
        at = START + dt.timedelta(minutes=7 * number)
        configuration = configurations[number % len(MODELS)]
        item = Item(task_id=task.task_id, item=f"s{number}", cluster=f"/p{number % 9}")
        run = Run(run_id=f"r{number}", kind="import", source="claude-code", started_at=at)
        yield from (item, run)
        calls = []
        for n in range(_CALLS):
            at += dt.timedelta(seconds=3700 if (number + n) % 97 == 0 else 20)
            context = 10_000 + 2000 * (n % 40) + number % 700
            calls.append(
                Call(
                    ordinal=n,
                    call_id=f"{number}-{n}",
                    provider="anthropic",
                    model=configuration.model,
                    started_at=at,
                    e2e_s=5.0 + n % 7,
                    input_tokens=context + 2000,
                    cache_read_tokens=context,
                    cache_write_5m_tokens=0,
                    cache_write_1h_tokens=1900,
                    output_tokens=300 + number % 400,
                )
            )
        tools = tuple(
            ToolCall(ordinal=n, tool="Read", call_ordinal=n, arguments=f'{{"path":"f{n % 30}"}}')
            for n in range(_CALLS)
        )
        yield Trace(
            run_id=run.run_id,
            configuration_id=configuration.configuration_id,
            task_id=task.task_id,
            item_id=item.item_id,
            started_at=run.started_at,
            e2e_s=25.0 * _CALLS,
            n_turns=_CALLS,
            metadata=f'{{"session":"s{number}"}}',
            calls=tuple(calls),
            tool_calls=tools,
        )


def analyses(folder: Path, n_calls: int) -> None:
    """Print the time and the peak memory of each analysis, in a process of its own."""
    store = open_store(folder / "s.duckdb", create=True)
    start = time.perf_counter()
    store.ingest(sessions(n_calls))
    print(f"{n_calls:,} calls written in {time.perf_counter() - start:.0f} s")
    for name in ("spend", "context-growth", "anomalies"):
        code = (
            "import re, time\n"
            "from pathlib import Path\n"
            "from workbench.store import open_store\n"
            "start = time.perf_counter()\n"
            f"open_store({str(store.path)!r}).analyze({name!r})\n"
            "status = Path('/proc/self/status').read_text()\n"
            "peak = int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) / 1024\n"
            f"print(f'{name:16} {{time.perf_counter() - start:7.1f}} s  {{peak:8,.0f}} MiB')"
        )
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--ccusage")
    parser.add_argument("--ccusage-codex")
    parser.add_argument("--analyses", type=int, metavar="CALLS")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.analyses is not None:
            analyses(Path(name), options.analyses)
            return
        claude(Path(name, "claude"), options)
        codex(Path(name, "codex"), options)


if __name__ == "__main__":
    main()
