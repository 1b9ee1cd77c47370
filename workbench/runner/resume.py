"""What earlier launches left in the spool: what is done, and what was in flight when one was killed."""

from pathlib import Path

import msgspec

from workbench import spool
from workbench.records import Attempt, Run, Trace
from workbench.runner.plan import Key

# Asking again, with the same configuration, gives the same refusal; every other failure may pass.
FINAL_ERRORS = frozenset({"http_400", "http_413", "http_422"})


def is_settled(error_type: str | None) -> bool:
    """Say whether an attempt that ended so need not be made again."""
    return error_type is None or error_type in FINAL_ERRORS


class Leftovers(msgspec.Struct):
    """What a look at the spool found.

    Attributes:
        settled: keys of the attempts that need not be made again.
        in_flight: keys that a killed run had begun and nobody has finished.
        killed: last records of the runs that ended without saying so, with their attempts in flight.
    """

    settled: set[Key]
    in_flight: set[Key]
    killed: list[tuple[Run, int]]


def look(folder: Path) -> Leftovers:
    """Read all segments; changes nothing."""
    runs: dict[str, Run] = {}
    live: set[str] = set()
    begun: dict[str, set[Key]] = {}
    settled: set[Key] = set()
    for segment in spool.segments(folder):
        for record in spool.read_segment(segment.path).records:
            if isinstance(record, Run):
                runs[record.run_id] = record
                if segment.live:
                    live.add(record.run_id)
            elif isinstance(record, Attempt | Trace):
                key = (record.configuration_id, record.item_id, record.trial)
                if isinstance(record, Attempt):
                    begun.setdefault(record.run_id, set()).add(key)
                    continue
                begun.get(record.run_id, set()).discard(key)
                if is_settled(record.error_type):
                    settled.add(key)
    dead = {run_id: keys for run_id, keys in begun.items() if run_id not in live}
    in_flight = {key for keys in dead.values() for key in keys} - settled
    killed = [
        (run, len(dead.get(run_id, ())))
        for run_id, run in runs.items()
        if run.status == "running" and run_id not in live
    ]
    return Leftovers(settled, in_flight, killed)
