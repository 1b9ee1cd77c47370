"""Inspect AI logs: `.eval` archives, complete or not, and `.json`, read without inspect-ai."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from workbench.decoding import UNDECODABLE
from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Run
from workbench.sources import json_bytes
from workbench.sources.inspect_calls import Log
from workbench.sources.inspect_checks import Checks
from workbench.sources.inspect_chunks import Members
from workbench.sources.inspect_header import configuration_of, run_of, task_of
from workbench.sources.inspect_results import results_of
from workbench.sources.inspect_sample import SampleReader, item_of
from workbench.sources.inspect_schema import (
    HEADER,
    SAMPLE,
    SCORED,
    SUMMARIES,
    WHOLE,
    Header,
    ScoredSample,
)
from workbench.sources.inspect_scores import Scales
from workbench.sources.inspect_usage import version_of
from workbench.sources.inspect_zip import Archive, open_archive, read_directory
from workbench.sources.report import FileReport, Total

_START = "_journal/start.json"
_SUMMARIES = "summaries.json"
_HEAD = 4096
_KEYS = b"eval_set_id|eval_id|run_id|created|task|task_id|task_version|model|dataset"
_EVAL = re.compile(rb'"eval"\s*:\s*\{\s*"(?:' + _KEYS + rb')"\s*:')
_VERSIONS = {1, 2}  # of the log's own layout
Samples = Iterator[tuple[str, Callable[[FileReport], bytes | memoryview]]]


class _Log(NamedTuple):
    """An opened log.

    Attributes:
        header: all but the samples.
        samples: walks the samples, as often as asked: the name, and what reads the document.
        listed: summaries of the samples; None where the log has none.
        stated: where the log lists its samples besides, and how many those are.
        strange: members that are part of no sample.
    """

    header: Header
    samples: Callable[[], Samples]
    listed: list[ScoredSample] | None
    stated: tuple[str, int] | None
    strange: list[str]


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
        with _opened(path, report) as log:
            if log.header.version not in _VERSIONS:
                report.lacks(
                    f"the log is of version {log.header.version}, of which nothing is known here: "
                    "what it holds beside the parts of version 2 was passed over"
                )
            yield from _records(path, log, report)


SOURCE = InspectLog()


def _is_archive(path: Path, head: bytes) -> bool:
    with path.open("rb") as file:
        directory = read_directory(file)
    if isinstance(directory, str):  # reading will say what is wrong with it
        return _START.encode() in head or path.suffix == ".eval"
    return bool({"header.json", _START} & {info.filename for info in directory})


@contextmanager
def _opened(path: Path, report: FileReport) -> Iterator[_Log]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    if not zipped:
        whole = json_bytes.decode(WHOLE, json_bytes.document(path), str(path), report)
        parts = whole.samples or []
        yield _Log(
            whole,
            lambda: ((f"samples[{i}]", partial(_bytes_of, raw)) for i, raw in enumerate(parts)),
            None,
            None,
            [],
        )
        return
    with open_archive(path) as archive:
        name = "header.json" if "header.json" in archive.members else _START
        if name not in archive.members:
            raise ImportFormatError(f"{path} is a zip file, but no Inspect log: it has no {name}")
        header = json_bytes.decode(HEADER, archive.read(name), f"{path}, member {name}", report)
        if name == _START:
            report.notes["unfinished log, without a header: the samples written so far"] += 1
        members = Members(archive)
        listed, where = _listed(archive, path)
        yield _Log(
            header,
            lambda: ((n, partial(members.read, n)) for n in members.names),
            listed,
            None if listed is None else (f"samples in the {where}", len(listed)),
            members.strange,
        )


def _bytes_of(raw: msgspec.Raw, _report: FileReport) -> memoryview:
    return memoryview(raw)


def _listed(archive: Archive, path: Path) -> tuple[list[ScoredSample] | None, str]:
    """Read the list of samples: the summaries of a finished log, the journal of another."""
    journal = sorted(archive.names("_journal/summaries/"), key=_number)
    names = [_SUMMARIES] if _SUMMARIES in archive.members else journal
    aside = FileReport(path)  # what is odd about a number is told of the sample itself
    found = {
        (str(s.id), s.epoch): s  # one that was run again stands there twice, the last is current
        for name in names
        for s in json_bytes.decode(SUMMARIES, archive.read(name), f"{path}, member {name}", aside)
    }
    return list(
        found.values()
    ) if names else None, "summaries" if _SUMMARIES in names else "journal"


def _number(name: str) -> int:
    digits = re.sub(r"\D", "", name)
    return int(digits) if digits else 0


def _scales(path: Path, log: _Log) -> Scales:
    """Learn which scorers have a scale of their own: of all samples, before the first is read."""
    scales, aside = Scales(), FileReport(path)
    if log.listed:
        for sample in log.listed:
            scales.learn(sample.all_scores)
        return scales
    for member, read in log.samples():
        with suppress(ImportFormatError):  # which is said when the sample itself is read
            found = json_bytes.decode(SCORED, read(aside), f"{path}, {member}", aside)
            scales.learn(found.all_scores)
    return scales


def _records(path: Path, log: _Log, report: FileReport) -> Iterator[AnyRecord]:
    header = log.header
    with _located(str(path)):
        run, task = run_of(header, path), task_of(header)
        configuration = configuration_of(header)
    yield from (run, task, configuration)
    version = version_of(header.eval.packages.get("inspect_ai"))
    ids = Log(run.run_id, configuration.configuration_id, task.task_id, version)
    scales, checks = _scales(path, log), Checks(header)
    trials: set[tuple[str, int]] = set()
    items: set[str] = set()
    for member, read in log.samples():
        report.rows_in += 1
        where = f"{path}, {member}"
        try:
            sample = json_bytes.decode(SAMPLE, read(report), where, report)
        except ImportFormatError as error:
            report.bad_row(str(error), error, read=0)
            continue
        key = (str(sample.id), sample.epoch)
        if key in trials:
            what = f"{member}: item {key[0]!r}, epoch {key[1]} stands there before"
            report.duplicates.add(f"{what}; the first is kept")
            continue
        trials.add(key)
        with _located(where):
            item = item_of(sample, ids.task_id)
            reader = SampleReader(sample, ids, scales, where, report)
            trace = reader.trace(item)
            replaced = list(reader.replaced(item))
        checks.add(item, trace, reader.usages)
        if item.item_id not in items:
            items.add(item.item_id)
            yield item
        report.rows_out += 1
        yield from (*replaced, trace)
    report.totals += _counts(log, report.rows_in)
    if header.keeps_samples and run.n_planned and report.rows_in < run.n_planned:
        report.notes["planned samples that the log does not hold"] += run.n_planned - report.rows_in
    if report.rows_in:
        report.totals += checks.totals()
    else:
        yield from _figures(header, run, ids, report)
    for member in log.strange:
        report.skip("members of the samples' folder that are part of no sample", member)


def _counts(log: _Log, found: int) -> Iterator[Total]:
    """Compare how many samples the log says that it holds with how many there are."""
    results = log.header.results
    if log.stated is not None:
        yield Total(*log.stated, found)
    elif results is not None and results.early_stopping is None and log.header.keeps_samples:
        stated = results.logged_samples or results.total_samples
        if stated and log.header.status == "success":
            yield Total("samples of the log's results", stated, found)


def _figures(header: Header, run: Run, ids: Log, report: FileReport) -> Iterator[AnyRecord]:
    """Bring the metrics of a log that holds no samples."""
    for result in results_of(header, run, ids):
        report.rows_in += 1
        report.rows_out += 1
        yield result
    if report.rows_out:
        report.notes["log without samples: its own metrics came in, as results"] += 1
    else:
        report.lacks("the log holds neither samples nor metrics: nothing came in")


@contextmanager
def _located(where: str) -> Iterator[None]:
    """Say in which file and member a field is not what it should be."""
    try:
        yield
    except UNDECODABLE as error:
        raise ImportFormatError(f"{where}: {error}") from error
