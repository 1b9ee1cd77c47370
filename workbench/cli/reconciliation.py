"""What an import did, file by file: every row in is a row out, a duplicate, or skipped with a reason."""

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
MADE = ("traces", "results", "prices")  # what a row of a file becomes
SHOWN = 5  # remarks of one kind on one file


@dataclasses.dataclass(frozen=True, slots=True)
class Imported:
    """One file or store: what reading found, what the store took, or why neither happened."""

    path: Path
    report: "FileReport | None" = None
    ingest: "IngestReport | None" = None
    failed: str = ""
    skipped: str = ""

    @property
    def status(self) -> str:
        """Say in a word how it went: failed, partial, differs or ok; "" if it was passed over."""
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
        """Whether all came in, but for rows that were to be passed over, and the totals agree."""
        if self.status in {"ok", ""}:
            return True
        report = self.report
        if self.failed or report is None or report.incomplete.n or not report.rows_out:
            return False
        asked_for = report.skipped.total() == report.bad_rows.n
        return asked_for and all(t.agrees for t in report.totals)

    @property
    def came_in(self) -> bool:
        """Whether anything was taken, or was there already."""
        if self.failed or self.skipped:
            return False
        return self.report is None or self.report.rows_out > 0

    def row(self) -> dict[str, object]:
        """Make the file's row of the report."""
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
            new = sum(self.ingest.rows_new.get(t, 0) for t in MADE)
            row |= {
                "new": new,
                "already_there": sum(self.ingest.duplicates.get(t, 0) for t in MADE),
            }
        return row


def document(done: Sequence[Imported], store: Path | None, *, full: bool) -> Document:
    """Make the report: one row a file, and further tables.

    Args:
        done: what was imported.
        store: where to; None in a dry run.
        full: add every stated total and every remark; else only the totals that disagree.
    """
    frame = frame_of([i.row() for i in done], COLUMNS)
    frame = frame.with_columns(pl.col(COLUMNS[2:-1]).cast(pl.Int64))
    conventions: Counter[str] = Counter()
    for imported in done:
        if imported.report is not None:
            conventions.update(imported.report.conventions)
    tables: dict[str, list[dict[str, object]]] = {
        "conventions": [{"convention": k, "usage objects": n} for k, n in conventions.items()],
        "totals": [t for t in _totals(done) if full or not t["agrees"]],
    }
    if full:
        tables["remarks"] = [
            {"file": str(i.path), "kind": k, "remark": text}
            for i in done
            for k, text in _remarks(i)
        ]
    more = {name: pl.DataFrame(rows) for name, rows in tables.items() if rows}
    provenance = {"store": str(store) if store else None}
    return Document("import", frame, more=more, provenance=provenance)


def _totals(done: Iterable[Imported]) -> Iterator[dict[str, object]]:
    for imported in done:
        for total in imported.report.totals if imported.report else ():
            yield {
                "file": imported.path.name,
                "total": total.name,
                "stated": float(total.stated),
                "found": float(total.found),
                "agrees": total.agrees,
                "nulls": total.nulls or None,
            }


def _remarks(imported: Imported) -> Iterator[tuple[str, str]]:
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
    for kind, found in kinds.items():
        for text in found.kept:
            yield kind, text
    for total in report.totals:
        if not total.agrees:
            nulls = f" ({total.nulls})" if total.nulls else ""
            both = f"{total.stated:.10g} stated, {total.found:.10g} found"
            yield "differs", f"{total.name}: {both}{nulls}"
    for note, n in report.notes.items():
        yield "note", note if n == 1 else f"{note} ({n:,} ×)"


def remarks(done: Sequence[Imported]) -> Iterator[str]:
    """Say what a person must know of single files: a few remarks of each kind."""
    for imported in done:
        kinds: Counter[str] = Counter()
        for kind, text in () if imported.skipped else _remarks(imported):
            kinds[kind] += 1
            if kinds[kind] <= SHOWN:
                yield f"{imported.path.name}: {kind}: {text}"
        for kind, n in kinds.items():
            if n > SHOWN:
                yield f"{imported.path.name}: … {n - SHOWN} more ({kind}); --format json has them"
    yield from _passed_over(done)
    totals = Counter(bool(total["agrees"]) for total in _totals(done))
    if totals:
        yield f"stated totals: {totals[True]:,} agree with their rows, {totals[False]:,} do not"


def _passed_over(done: Iterable[Imported]) -> Iterator[str]:
    """Name the files that were passed over, by why: of no known format, or with nothing in them to take."""
    unknown = "of no known format"
    by_reason: dict[str, list[str]] = {}
    for imported in done:
        if imported.skipped:
            reason = unknown if imported.report is None else imported.skipped
            by_reason.setdefault(reason, []).append(imported.path.name)
    for reason, names in by_reason.items():
        shown = ", ".join(names[:SHOWN])
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        hint = "; import one by its name to see why" if reason == unknown else ""
        yield f"passed over, {reason}: {shown}{more}{hint}"


def conclusion(done: Sequence[Imported], *, allow_partial: bool) -> str:
    """Say what an import comes to: files by status, and whether that is all."""
    statuses = Counter(i.status or "skipped" for i in done)
    counted = ", ".join(f"{n:,} {status}" for status, n in statuses.items())
    reports = [i.report for i in done if i.report is not None and not i.failed]
    broken = sum(r.mismatches.n for r in reports)
    if broken:
        counted += f"; {formats.counted(broken, 'contradiction')} within rows"
    if exit_status(done, allow_partial=False) == 0:
        return counted
    if exit_status(done, allow_partial=allow_partial) == 0:
        return f"{counted}; not all is in, which --allow-partial allows"
    if not any(i.came_in for i in done):
        return f"{counted}; nothing came in"
    return f"{counted}; not all is in: exit status 1 (0 with --allow-partial)"


def exit_status(done: Sequence[Imported], *, allow_partial: bool) -> int:
    """Return 0 where all is in; 1 where something is not, unless that is allowed and anything is in."""
    if allow_partial:
        return 0 if any(i.came_in for i in done) else 1
    whole = all(i.is_as_asked for i in done)
    return 0 if whole and any(i.status for i in done) else 1
