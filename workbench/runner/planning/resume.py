"""Resuming a plan: the attempts that earlier launches settled or left in flight, from the spool."""

import datetime as dt
from collections import defaultdict
from pathlib import Path

import msgspec

from workbench import spool
from workbench.records import Run, json_text
from workbench.runner.planning import claims
from workbench.runner.providers.broken_requests import CANCELLED
from workbench.runner.providers.current_attempt import AttemptKey


class Leftovers(msgspec.Struct):
    """What earlier launches left in the spool.

    Attributes:
        settled: keys of the attempts that need not be made again.
        in_flight: keys of attempts that a killed run had begun and no run has ended.
        killed: final records to write for the runs that ended without one.
    """

    settled: set[AttemptKey]
    in_flight: set[AttemptKey]
    killed: list[Run]


def read_leftovers(folder: Path) -> Leftovers:
    """Read all segments of the spool; changes nothing.

    The end of a killed run is the time of its last attempt's record.
    """
    runs: dict[str, Run] = {}
    live: set[str] = set()
    begun: defaultdict[str, set[AttemptKey]] = defaultdict(set)
    last: dict[str, dt.datetime] = {}
    settled: set[AttemptKey] = set()
    segments = spool.segments(folder)
    newest = {s.run_id: s.path for s in sorted(segments, key=lambda s: s.path)}
    for segment in segments:
        is_newest = newest[segment.run_id] == segment.path  # it begins with the open attempts
        for record in spool.read_summaries(segment.path, attempts=is_newest):
            if isinstance(record, spool.TraceEnd):
                key = (record.configuration_id, record.item_id, record.trial)
                if record.error_type == CANCELLED:  # not ended: its trace holds the calls paid for
                    begun[record.run_id].add(key)
                else:
                    begun[record.run_id].discard(key)
                if spool.is_settled(record.error_type):
                    settled.add(key)
            elif isinstance(record, spool.AttemptStart):
                begun[record.run_id].add((record.configuration_id, record.item_id, record.trial))
                last[record.run_id] = record.started_at
            else:
                if record.status != "running" or record.run_id not in runs:
                    runs[record.run_id] = record
                if segment.live:
                    live.add(record.run_id)
    live |= claims.live_runs(folder)  # between two segments, or before its first
    dead = {run_id: keys for run_id, keys in begun.items() if run_id not in live}
    killed = [
        msgspec.structs.replace(
            run,
            status="interrupted",
            ended_at=last.get(run_id, run.started_at),
            metadata=json_text({"n_in_flight_at_end": len(dead.get(run_id, ()))}),
        )
        for run_id, run in runs.items()
        if run.status == "running" and run_id not in live
    ]
    in_flight = {key for keys in dead.values() for key in keys} - settled
    return Leftovers(settled, in_flight, killed)
