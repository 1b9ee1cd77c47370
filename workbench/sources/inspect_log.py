"""Inspect AI logs: `.eval` archives, whole or unfinished, and `.json` files, read without inspect-ai."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from workbench.errors import ImportFormatError
from workbench.records import AnyRecord
from workbench.sources import json_bytes
from workbench.sources.inspect_calls import Log
from workbench.sources.inspect_checks import Checks
from workbench.sources.inspect_header import configuration_of, run_of, task_of
from workbench.sources.inspect_sample import SampleReader, item_of
from workbench.sources.inspect_schema import HEADER, PARTS, SAMPLE, WHOLE, Header
from workbench.sources.inspect_usage import version_of
from workbench.sources.inspect_zip import Archive, open_archive, read_directory
from workbench.sources.report import FileReport, Total

_START = "_journal/start.json"
_HEAD = 4096
_EVAL = re.compile(rb'"eval"\s*:\s*\{')
Samples = Iterator[tuple[str, bytes | memoryview]]


class InspectLog:
    """Logs of Inspect AI, of every version since it wrote `version: 1`."""

    name = "inspect"
    title = "Inspect AI log (.eval or .json)"

    def detect(self, path: Path) -> bool:
        """Whether it is a zip with a log's members, or JSON that starts as a log does."""
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD)
        except OSError:
            return False
        if head[:2] == b"PK":
            return _is_archive(path, head)
        return head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"{" and bool(_EVAL.search(head))

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield run, task and configuration, then each sample's item and trace.

        Raises:
            ImportFormatError: the log is truncated, damaged, bombed or no log; with the member.
        """
        del mapping  # the format says what its fields are
        report.format = self.name
        with _opened(path, report) as (header, samples, stated):
            yield from _records(path, header, samples, report)
            if stated is not None:
                report.totals.append(Total("samples in the journal", stated, report.rows_in))


SOURCE = InspectLog()


def _is_archive(path: Path, head: bytes) -> bool:
    with path.open("rb") as file:
        directory = read_directory(file)
    if isinstance(directory, str):  # reading will say what is wrong with it
        return _START.encode() in head or path.suffix == ".eval"
    return bool({"header.json", _START} & {info.filename for info in directory})


@contextmanager
def _opened(path: Path, report: FileReport) -> Iterator[tuple[Header, Samples, int | None]]:
    """Give header, samples, and how many of them the journal of an unfinished log lists."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    if not zipped:
        whole = json_bytes.decode(WHOLE, json_bytes.document(path), str(path), report)
        parts = whole.samples or []
        samples = ((f"samples[{i}]", memoryview(raw)) for i, raw in enumerate(parts))
        yield whole, samples, None
        return
    with open_archive(path) as archive:
        name = "header.json" if "header.json" in archive.members else _START
        if name not in archive.members:
            raise ImportFormatError(f"{path} is a zip file, but no Inspect log: it has no {name}")
        header = json_bytes.decode(HEADER, archive.read(name), f"{path}, member {name}", report)
        stated = None
        if name == _START:
            report.notes["unfinished log, without a header: the samples written so far"] += 1
            journal = archive.names("_journal/summaries/")
            stated = sum(_length(archive, member, path, report) for member in journal)
        yield header, ((n, archive.read(n)) for n in archive.names("samples/")), stated


def _length(archive: Archive, member: str, path: Path, report: FileReport) -> int:
    data = archive.read(member)
    return len(json_bytes.decode(PARTS, data, f"{path}, member {member}", report))


def _records(
    path: Path, header: Header, samples: Samples, report: FileReport
) -> Iterator[AnyRecord]:
    with _located(str(path)):
        run, task = run_of(header, path), task_of(header)
        configuration = configuration_of(header)
    yield from (run, task, configuration)
    version = version_of(header.eval.packages.get("inspect_ai"))
    log = Log(run.run_id, configuration.configuration_id, task.task_id, version)
    checks = Checks(header)
    trials: set[tuple[str, int]] = set()
    items: set[str] = set()
    for member, data in samples:
        report.rows_in += 1
        where = f"{path}, {member}"
        sample = json_bytes.decode(SAMPLE, data, where, report)
        key = (str(sample.id), sample.epoch)
        if key in trials:
            what = f"{member}: item {key[0]!r}, epoch {key[1]} stands there before"
            report.duplicates.add(f"{what}; the first is kept")
            continue
        trials.add(key)
        with _located(where):
            item = item_of(sample, log.task_id)
            reader = SampleReader(sample, log, where, report)
            trace = reader.trace(item)
        checks.add(item, trace, reader.usages)
        if item.item_id not in items:
            items.add(item.item_id)
            yield item
        report.rows_out += 1
        yield trace
    report.totals += checks.totals()
    if run.n_planned and run.n_planned > report.rows_in:
        report.notes["planned samples that the log does not hold"] += run.n_planned - report.rows_in


@contextmanager
def _located(where: str) -> Iterator[None]:
    """Say in which file and member a field is not what it should be."""
    try:
        yield
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ImportFormatError(f"{where}: {error}") from error
