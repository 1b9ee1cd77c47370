"""What must hold in a store: sums equal their parts, prices are in force, nothing hangs in the air."""

import dataclasses
from pathlib import Path

from workbench import spool
from workbench.store import views
from workbench.store.store import Store


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One look at the store.

    Attributes:
        name: what is looked at.
        n: how many rows break it; 0 is sound.
        fatal: whether it means damage, not just something to know.
        advice: what to do if n is not 0.
    """

    name: str
    n: int
    fatal: bool
    advice: str


_SUMMED = ("input_tokens", "output_tokens", "reasoning_tokens", "n_calls")
_MONEY = ("cost_usd", "reasoning_cost_usd", "judge_cost_usd")
_RELATIVE = 1e-9  # sums of floats depend on their order

_OFF = " OR ".join(
    [f"t.{c} IS DISTINCT FROM s.{c}" for c in _SUMMED]
    + [
        f"(t.{c} IS NULL) <> (s.{c} IS NULL) OR abs(t.{c} - s.{c}) > {_RELATIVE} * abs(s.{c})"
        for c in _MONEY
    ]
)


def _orphans(table: str, key: str, owner: str) -> str:
    return (
        f"SELECT count(*) AS n FROM (SELECT DISTINCT {key} FROM {table} "
        f"WHERE {key} IS NOT NULL) ANTI JOIN {owner} USING ({key})"
    )


_AGAIN = "import the files again, or restore the backup beside the store"
_PRICES = "workbench prices add FILE gives them a price; until then their cost is unknown"
_QUERIES: tuple[tuple[str, str, bool, str], ...] = (
    (
        "traces whose tokens or cost are not the sum of their calls",
        f"SELECT count(*) AS n FROM traces t JOIN ({views.totals('calls')}) s USING (trace_id) WHERE {_OFF}",
        True, _AGAIN,
    ),
    (
        "traces whose cost is not that of the view over their calls",
        f"""SELECT count(*) AS n FROM traces t JOIN (SELECT trace_id, sum(cost_usd) AS cost_usd
        FROM call_facts WHERE role <> 'judge' GROUP BY trace_id) s USING (trace_id)
        WHERE abs(t.cost_usd - s.cost_usd) > {_RELATIVE} * abs(s.cost_usd)""",
        True, _AGAIN,
    ),
    ("traces of no run", _orphans("traces", "run_id", "runs"), True, _AGAIN),
    ("traces of no configuration", _orphans("traces", "configuration_id", "configurations"), True, _AGAIN),
    ("traces of no item", _orphans("traces", "item_id", "items"), True, _AGAIN),
    ("items of no task", _orphans("items", "task_id", "tasks"), True, _AGAIN),
    ("calls of no trace", _orphans("calls", "trace_id", "traces"), True, _AGAIN),
    ("messages of no trace", _orphans("messages", "trace_id", "traces"), True, _AGAIN),
    ("messages without their text", _orphans("messages", "content_id", "contents"), True, _AGAIN),
    ("prices that calls point at and are gone", _orphans("calls", "price_id", "prices"), True, _AGAIN),
    (
        "models asked whose price is unknown",
        """SELECT count(DISTINCT coalesce(machine, model)) AS n FROM calls
        WHERE price_id IS NULL AND error_type IS NULL AND output_tokens IS NOT NULL""",
        False, _PRICES,
    ),
    (
        "calls that contradict themselves", "SELECT count(DISTINCT call_id) AS n FROM usage_faults",
        False, "workbench faults lists them",
    ),
    (
        "runs that ended without saying so",
        "SELECT count(*) AS n FROM runs WHERE status IN ('interrupted', 'running') AND ended_at IS NULL",
        False, "the same collect command again does only what is missing",
    ),
)  # fmt: skip


def checks(store: Store) -> list[Check]:
    """Look at everything; nothing is changed."""
    found = [
        Check(name, int(store.sql(query)["n"][0]), fatal, advice)
        for name, query, fatal, advice in _QUERIES
    ]
    waiting = [s for s in spool.segments(store.spool_dir) if not s.live and s.size]
    advice = "opening the store takes them in; if they stay, another process keeps the store"
    replies = _files(store.spool_dir / spool.ARRIVED, "*.jsonl")
    notes = _files(store.spool_dir / spool.BATCHES, "*.json")
    kept = sorted((store.spool_dir / "quarantine").glob("*")) if store.spool_dir.is_dir() else []
    return [
        *found,
        Check("finished spool segments that wait", len(waiting), False, advice),
        Check(
            "damaged spool lines set aside", len(kept), False,
            f"look at them in {store.spool_dir / 'quarantine'}, then delete them",
        ),
        Check(
            "unfinished attempts whose replies are kept", len({p.name.split("-")[0] for p in replies}),
            False,
            "the same collect command goes on from them; of a plan that is given up, delete them in"
            f" {store.spool_dir / spool.ARRIVED}",
        ),
        Check(
            "batches that are kept until their answers are taken in", len(notes), False,
            "the same collect command takes them in; of a plan that is given up, delete them in"
            f" {store.spool_dir / spool.BATCHES}",
        ),
    ]  # fmt: skip


def _files(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern)) if folder.is_dir() else []


def unpriced_models(store: Store) -> list[str]:
    """Name the models, or machines, whose calls have no price."""
    frame = store.sql(
        """SELECT coalesce(machine, model) AS model FROM calls
        WHERE price_id IS NULL AND error_type IS NULL AND output_tokens IS NOT NULL
          AND coalesce(machine, model) IS NOT NULL
        GROUP BY ALL ORDER BY count(*) DESC, model LIMIT 20"""
    )
    return frame["model"].to_list()
