"""Import report: for each file, rows read, stored, duplicate, and skipped with a reason."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from workbench import formats
from workbench.cli.output import Document
from workbench.cli.tables import frame_of

if TYPE_CHECKING:
    from workbench.sources import FileReport
    from workbench.store import IngestReport

COLUMNS = [
    "file",
    "format",
    "rows_in",
    "rows_out",
    "new",
    "already_there",
    "duplicates",
    "skipped",
    "not_adding_up",
    "status",
]
TABLES = ("traces", "results", "prices")  # the tables that rows of a file go to
MAX_REMARKS = 5  # of one kind, printed for one file


@dataclasses.dataclass(frozen=True, slots=True)
class ImportOutcome:
    """Outcome of one imported file or store: the reader's report, the store's, or an error.

    Attributes:
        path: the file or store.
        report: the reader's report.
        ingest: the store's report.
        failed: why nothing was imported.
        skipped: why the file was skipped.
        is_unknown: whether it was skipped because its format is not known.
        is_store_busy: whether it failed because of the store, so that it may succeed later.
        is_unchanged: whether it was not read, since it did not change since its import.
    """

    path: Path
    report: "FileReport | None" = None
    ingest: "IngestReport | None" = None
    failed: str = ""
    skipped: str = ""
    is_unknown: bool = False
    is_store_busy: bool = False
    is_unchanged: bool = False

    @property
    def status(self) -> str:
        """Name the outcome: failed, partial, differs or ok; "" if the file was skipped."""
        if self.failed:
            return "failed"
        if self.skipped:
            return ""
        report = self.report
        if report is None or report.is_whole:
            return "ok"
        return "differs" if report.is_complete else "partial"

    @property
    def is_as_asked(self) -> bool:
        """Whether every row not skipped on request was imported, and the stated totals agree."""
        if self.status in {"ok", ""}:
            return True
        report = self.report
        if self.failed or report is None or report.incomplete.n or not report.rows_out:
            return False
        only_bad_rows = report.skipped.total() == report.bad_rows.n  # --skip-bad-rows
        return only_bad_rows and all(t.agrees for t in report.totals)

    @property
    def has_rows(self) -> bool:
        """Whether any row was stored, or was in the store already."""
        if self.failed or self.skipped:
            return False
        return self.report is None or self.report.rows_out > 0

    def row(self) -> dict[str, object]:
        """Make the row of this file in the report."""
        row: dict[str, object] = {"file": str(self.path), "status": self.status or "skipped"}
        if self.report is not None:
            r = self.report
            row |= {
                "format": r.format,
                "rows_in": r.rows_in,
                "rows_out": r.rows_out,
                "duplicates": r.duplicates.n,
                "skipped": r.skipped.total(),
                "not_adding_up": r.mismatches.n + sum(not t.agrees for t in r.totals),
            }
        if self.ingest is not None:
            new = sum(self.ingest.rows_new.get(t, 0) for t in TABLES)
            row |= {
                "new": new,
                "already_there": sum(self.ingest.duplicates.get(t, 0) for t in TABLES),
            }
        return row


_FEW = 10  # skipped files that have a row each


def document(outcomes: Sequence[ImportOutcome], store: Path | None, *, full: bool) -> Document:
    """Make the report: a table with one row per file, and further tables.

    Args:
        outcomes: outcomes, one per file or store.
        store: path of the store; None in a dry run.
        full: add every stated total and every remark; else only the totals that disagree, and no
            row for each of many files that were skipped, which the remarks count.
    """
    n_skipped = sum(bool(i.skipped) for i in outcomes)
    shown = [i for i in outcomes if full or n_skipped <= _FEW or not i.skipped]
    frame = frame_of([i.row() for i in shown], COLUMNS)
    frame = frame.with_columns(pl.col(COLUMNS[2:-1]).cast(pl.Int64))
    conventions: Counter[str] = Counter()
    for imported in outcomes:
        if imported.report is not None:
            conventions.update(imported.report.conventions)
    tables: dict[str, list[dict[str, object]]] = {
        "conventions": [{"convention": k, "usage objects": n} for k, n in conventions.items()],
        "totals": [t for t in _totals(outcomes) if full or not t["agrees"]],
    }
    if full:
        tables["remarks"] = [
            {"file": str(i.path), "kind": k, "remark": text}
            for i in outcomes
            for k, text in _remarks(i)
        ]
    more = {name: pl.DataFrame(rows) for name, rows in tables.items() if rows}
    provenance = {"store": str(store) if store else None}
    return Document("import", frame, more=more, provenance=provenance)


def _totals(outcomes: Iterable[ImportOutcome]) -> Iterator[dict[str, object]]:
    for imported in outcomes:
        for total in imported.report.totals if imported.report else ():
            yield {
                "file": imported.path.name,
                "total": total.name,
                "stated": float(total.stated),
                "found": float(total.computed),
                "agrees": total.agrees,
                "nulls": total.nulls or None,
            }


def _remarks(imported: ImportOutcome) -> Iterator[tuple[str, str]]:
    if imported.failed:
        yield "failed", imported.failed
    if imported.skipped:
        yield "skipped", imported.skipped
    if imported.report is not None:
        yield from _of_report(imported.report)
    for note in imported.ingest.notes if imported.ingest else ():
        yield "note", note


def _of_report(report: "FileReport") -> Iterator[tuple[str, str]]:
    for reason, n in report.skipped.items():
        yield "skipped", f"{formats.counted(n, 'row')}: {reason}"
    kinds = {
        "bad row": report.bad_rows,
        "incomplete": report.incomplete,
        "does not add up": report.mismatches,
        "duplicate": report.duplicates,
    }
    for kind, group in kinds.items():
        for text in group.texts:
            yield kind, text
    for total in report.totals:
        if not total.agrees:
            nulls = f" ({total.nulls})" if total.nulls else ""
            both = f"{total.stated:.10g} stated, {total.computed:.10g} found"
            yield "differs", f"{total.name}: {both}{nulls}"
    for note, n in report.notes.items():
        yield "note", note if n == 1 else f"{note} ({n:,} ×)"


def remarks(outcomes: Sequence[ImportOutcome]) -> Iterator[str]:
    """Write the remarks on single files as lines.

    At most `MAX_REMARKS` of a kind are written for one file. Notes are written for the first
    `MAX_REMARKS` files that have any; a folder of sessions has thousands.
    """
    n_noted = 0
    for imported in outcomes:
        kinds: Counter[str] = Counter()
        found = [] if imported.skipped else list(_remarks(imported))
        n_noted += any(kind == "note" for kind, _ in found)
        for kind, text in found:
            if kind == "note" and n_noted > MAX_REMARKS:
                continue
            kinds[kind] += 1
            if kinds[kind] <= MAX_REMARKS:
                yield f"{imported.path.name}: {kind}: {text}"
        for kind, n in kinds.items():
            if n > MAX_REMARKS:
                more = f"… {n - MAX_REMARKS} more ({kind}); to list them, add --format json"
                yield f"{imported.path.name}: {more}"
    if n_noted > MAX_REMARKS:
        files = formats.counted(n_noted - MAX_REMARKS, "more file")
        yield f"notes on {files}; to list them, add --format json"
    unchanged = sum(imported.is_unchanged for imported in outcomes)
    if unchanged:
        files = formats.counted(unchanged, "file")
        yield (
            f"{files} did not change since the import, and were not read again; to have one read"
            " again, name it"
        )
    yield from _skipped(outcomes)
    totals = Counter(bool(total["agrees"]) for total in _totals(outcomes))
    if totals:
        yield f"stated totals: {totals[True]:,} agree with their rows, {totals[False]:,} do not"


def _skipped(outcomes: Iterable[ImportOutcome]) -> Iterator[str]:
    """Name the skipped files by reason: of no known format, or without rows."""
    unknown = "of no known format"
    by_reason: dict[str, list[str]] = {}
    for imported in outcomes:
        if imported.skipped:
            reason = unknown if imported.is_unknown else imported.skipped
            by_reason.setdefault(reason, []).append(imported.path.name)
    for reason, names in by_reason.items():
        shown = ", ".join(names[:MAX_REMARKS])
        more = f" and {len(names) - MAX_REMARKS} more" if len(names) > MAX_REMARKS else ""
        hint = "; to see why, import one of them by name" if reason == unknown else ""
        yield f"skipped, {reason}: {shown}{more}{hint}"


def conclusion(outcomes: Sequence[ImportOutcome], *, allow_partial: bool) -> str:
    """Summarise an import in a line: files by status, and whether every row was imported."""
    statuses = Counter(i.status or "skipped" for i in outcomes)
    counted = ", ".join(f"{n:,} {status}" for status, n in statuses.items())
    reports = [i.report for i in outcomes if i.report is not None and not i.failed]
    broken = sum(r.mismatches.n for r in reports)
    if broken:
        counted += f"; {formats.counted(broken, 'contradiction')} within rows"
    if exit_status(outcomes, allow_partial=False) == 0:
        return counted
    if exit_status(outcomes, allow_partial=allow_partial) == 0:
        return f"{counted}; not everything was imported, which --allow-partial accepts"
    if not any(i.has_rows for i in outcomes):
        return f"{counted}; nothing was imported"
    return f"{counted}; not everything was imported: exit status 1 (0 with --allow-partial)"


def exit_status(outcomes: Sequence[ImportOutcome], *, allow_partial: bool) -> int:
    """Return 0 if everything was imported, or anything with `allow_partial`; else 1."""
    if allow_partial:
        return 0 if any(i.has_rows for i in outcomes) else 1
    whole = all(i.is_as_asked for i in outcomes)
    return 0 if whole and any(i.status for i in outcomes) else 1
