"""Files that are ingested together: the fixed cost of a transaction is paid once for many.

A group has no run and no trace twice, so that its files may as well have come one after another.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from workbench.records import AnyRecord, Configuration, Item, Rows, Run, Task, Trace
from workbench.store.ingest import IngestReport

Records = Sequence[AnyRecord | Rows]
_KINDS = (Run, Task, Item, Configuration, Trace)
MAX_FILES = 500


class _Store(Protocol):
    def ingest(self, records: Iterable[AnyRecord | Rows]) -> IngestReport:
        """Write what the store lacks."""
        ...


class Group:
    """Records of several files, in the order in which they came."""

    def __init__(self) -> None:
        """Start empty."""
        self.files: list[Records] = []
        self._ids: set[str] = set()

    def takes(self, records: Records) -> bool:
        """Add the records of a file, if the group can take them; else return False."""
        if len(self.files) >= MAX_FILES or not all(isinstance(r, _KINDS) for r in records):
            return False
        ids = set(_ids(records))
        if ids & self._ids:
            return False
        self._ids |= ids
        self.files.append(records)
        return True

    def ingest(self, store: _Store) -> tuple[list[IngestReport], list[str]]:
        """Write all files, or none if one of them is refused.

        Returns:
            A report for each file, of its traces; and the remarks on all of them.
        """
        if not self.files:
            return [], []
        whole = store.ingest(self._records())
        reports = []
        for records in self.files:
            trace_ids = {r.trace_id for r in records if isinstance(r, Trace)}
            report = IngestReport(new_traces=trace_ids & whole.new_traces)
            report.count("traces", len(trace_ids), len(report.new_traces))
            reports.append(report)
        return reports, whole.notes

    def _records(self) -> Iterator[AnyRecord | Rows]:
        """Yield all records; of tasks and items the first, as the store keeps the first."""
        described: set[str] = set()
        for records in self.files:
            for record in records:
                if isinstance(record, (Task, Item)):
                    id = record.task_id if isinstance(record, Task) else record.item_id
                    if id in described:
                        continue
                    described.add(id)
                yield record


def _ids(records: Records) -> Iterator[str]:
    for record in records:
        if isinstance(record, Run):
            yield record.run_id
        elif isinstance(record, Trace):
            yield record.trace_id
