"""Source of Inspect AI's logs: `.eval` archives, also unfinished ones, and `.json` files."""

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
from workbench.sources import heads, json_bytes
from workbench.sources.inspect.calls import Log
from workbench.sources.inspect.chunks import Members
from workbench.sources.inspect.header import configuration_of, run_of, task_of
from workbench.sources.inspect.log_checks import Checks
from workbench.sources.inspect.log_results import results_of
from workbench.sources.inspect.log_schema import (
    HEADER,
    SAMPLE,
    SCORED,
    SUMMARIES,
    WHOLE,
    Header,
    ScoredSample,
)
from workbench.sources.inspect.log_zip import Archive, open_archive, read_directory
from workbench.sources.inspect.model_usage import version_of
from workbench.sources.inspect.sample import SampleReader, item_of
from workbench.sources.inspect.scores import Scales
from workbench.sources.report import FileReport, Total

_START_MEMBER = "_journal/start.json"
_SUMMARIES_MEMBER = "summaries.json"
_START = 4096
_FIRST_KEYS = b"eval_set_id|eval_id|run_id|created|task|task_id|task_version|model|dataset"
_EVAL_START = re.compile(rb'"eval"\s*:\s*\{\s*"(?:' + _FIRST_KEYS + rb')"\s*:')
_VERSIONS = {1, 2}  # of the log's layout
Samples = Iterator[tuple[str, Callable[[FileReport], bytes | memoryview]]]


class _OpenLog(NamedTuple):
    """An opened log.

    Attributes:
        header: the log without its samples.
        samples: returns a new iterator of (name, function that reads the document).
        summaries: summaries of the samples; None if the log has none.
        stated_count: name and number of the samples in the log's own list.
        other_members: members that are part of no sample.
    """

    header: Header
    samples: Callable[[], Samples]
    summaries: list[ScoredSample] | None
    stated_count: tuple[str, int] | None
    other_members: list[str]


class InspectLog:
    """Source of Inspect AI's logs, of every version since `version: 1`."""

    name = "inspect"
    title = "Inspect AI log (.eval or .json)"

    def detect(self, path: Path) -> bool:
        """Return whether the file is a zip with a log's members, or begins as a log in JSON."""
        start = heads.start(path)[:_START]
        if start[:2] == b"PK":
            return _is_archive(path, start)
        return start.lstrip()[:1] == b"{" and bool(_EVAL_START.search(start))

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield run, task and configuration, then each sample's item and trace.

        Raises:
            ImportFormatError: the log is truncated, damaged, a zip bomb or not a log.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        with _opened(path, report) as log:
            if log.header.version not in _VERSIONS:
                report.add_missing(
                    f"the log has the layout version {log.header.version}, which is not supported:"
                    " only the parts known from version 2 were imported"
                )
            yield from _records(path, log, report)


SOURCE = InspectLog()


def _is_archive(path: Path, head: bytes) -> bool:
    with path.open("rb") as file:
        directory = read_directory(file)
    if isinstance(directory, str):  # damaged; read() raises an error that explains it
        return _START_MEMBER.encode() in head or path.suffix == ".eval"
    return bool({"header.json", _START_MEMBER} & {info.filename for info in directory})


@contextmanager
def _opened(path: Path, report: FileReport) -> Iterator[_OpenLog]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    if not zipped:
        document = json_bytes.decode(WHOLE, json_bytes.document(path), str(path), report)
        raw_samples = document.samples or []
        yield _OpenLog(
            document,
            lambda: (
                (f"samples[{i}]", partial(_bytes_of, raw)) for i, raw in enumerate(raw_samples)
            ),
            None,
            None,
            [],
        )
        return
    with open_archive(path) as archive:
        name = "header.json" if "header.json" in archive.members else _START_MEMBER
        if name not in archive.members:
            raise ImportFormatError(f"{path} is a zip file, but not an Inspect log: no {name}")
        header = json_bytes.decode(HEADER, archive.read(name), f"{path}, member {name}", report)
        if name == _START_MEMBER:
            report.notes["unfinished log, without a header: the samples written so far"] += 1
        members = Members(archive)
        summaries, where = _sample_summaries(archive, path)
        yield _OpenLog(
            header,
            lambda: ((n, partial(members.read, n)) for n in members.names),
            summaries,
            None if summaries is None else (f"samples in the {where}", len(summaries)),
            members.other_members,
        )


def _bytes_of(raw: msgspec.Raw, _report: FileReport) -> memoryview:
    return memoryview(raw)


def _sample_summaries(archive: Archive, path: Path) -> tuple[list[ScoredSample] | None, str]:
    """Read the list of samples: the summaries of a finished log, the journal of an unfinished one.

    Returns:
        (summaries or None, name of the list).
    """
    journal = sorted(archive.names("_journal/summaries/"), key=_number_in)
    names = [_SUMMARIES_MEMBER] if _SUMMARIES_MEMBER in archive.members else journal
    discarded = FileReport(path)  # the sample itself gives the same notes
    samples = {
        (str(s.id), s.epoch): s  # a sample that was run again is listed twice; the last counts
        for name in names
        for s in json_bytes.decode(
            SUMMARIES, archive.read(name), f"{path}, member {name}", discarded
        )
    }
    return list(
        samples.values()
    ) if names else None, "summaries" if _SUMMARIES_MEMBER in names else "journal"


def _number_in(name: str) -> int:
    digits = re.sub(r"\D", "", name)
    return int(digits) if digits else 0


def _scales(path: Path, log: _OpenLog) -> Scales:
    """Learn from all samples which scorers have a scale of their own, before the first is read."""
    scales = Scales()
    discarded = FileReport(path)
    if log.summaries:
        for sample in log.summaries:
            scales.learn(sample.all_scores)
        return scales
    for member, read in log.samples():
        with suppress(ImportFormatError):  # reported when the sample itself is read
            scored = json_bytes.decode(SCORED, read(discarded), f"{path}, {member}", discarded)
            scales.learn(scored.all_scores)
    return scales


def _records(path: Path, log: _OpenLog, report: FileReport) -> Iterator[AnyRecord]:
    header = log.header
    with _error_place(str(path)):
        run = run_of(header, path)
        task = task_of(header)
        configuration = configuration_of(header)
    yield from (run, task, configuration)
    version = version_of(header.eval.packages.get("inspect_ai"))
    ids = Log(run.run_id, configuration.configuration_id, task.task_id, version)
    scales = _scales(path, log)
    checks = Checks(header)
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
            place = f"{member}: item {key[0]!r}, epoch {key[1]} occurs twice"
            report.duplicates.add(f"{place}; the first one is imported")
            continue
        trials.add(key)
        with _error_place(where):
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
    report.totals += _count_totals(log, report.rows_in)
    if header.keeps_samples and run.n_planned and report.rows_in < run.n_planned:
        report.notes["planned samples missing in the log"] += run.n_planned - report.rows_in
    if report.rows_in:
        report.totals += checks.totals()
    else:
        yield from _log_metrics(header, run, ids, report)
    for member in log.other_members:
        report.skip("members of the samples' folder that belong to no sample", member)


def _count_totals(log: _OpenLog, n_samples: int) -> Iterator[Total]:
    """Compare the number of samples that the log states with the number that it contains."""
    results = log.header.results
    if log.stated_count is not None:
        yield Total(*log.stated_count, n_samples)
    elif results is not None and results.early_stopping is None and log.header.keeps_samples:
        stated = results.logged_samples or results.total_samples
        if stated and log.header.status == "success":
            yield Total("samples of the log's results", stated, n_samples)


def _log_metrics(header: Header, run: Run, ids: Log, report: FileReport) -> Iterator[AnyRecord]:
    """Yield the metrics of a log without samples as results."""
    for result in results_of(header, run, ids):
        report.rows_in += 1
        report.rows_out += 1
        yield result
    if report.rows_out:
        report.notes["log without samples: its own metrics were imported as results"] += 1
    else:
        report.add_missing("the log contains neither samples nor metrics: nothing was imported")


@contextmanager
def _error_place(where: str) -> Iterator[None]:
    """Add the file and member to errors of decoding."""
    try:
        yield
    except UNDECODABLE as error:
        raise ImportFormatError(f"{where}: {error}") from error
