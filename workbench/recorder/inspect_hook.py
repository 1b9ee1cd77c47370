"""The hook for Inspect: `inspect eval` writes each sample to the store when it ends.

Inspect loads it by the entry point `workbench` of the group `inspect_ai`, so that it works where
both packages are installed. `WORKBENCH_INSPECT=off`, or `inspect = "off"` in the configuration
file, turns it off. The ids are those that an import of the log gives: importing the log as well
changes nothing.
"""

import asyncio
import contextlib
import json
import logging
import threading
from pathlib import Path
from typing import Any

import msgspec
from inspect_ai.hooks import Hooks, RunEnd, SampleEnd, TaskEnd, TaskStart, hooks
from inspect_ai.log import EvalLog, EvalSample

from workbench import config
from workbench.errors import StoreError, WorkbenchError
from workbench.records import AnyRecord, Trace
from workbench.sources import json_bytes
from workbench.sources.inspect.calls import Log
from workbench.sources.inspect.header import configuration_of, run_of, task_of
from workbench.sources.inspect.log import SOURCE
from workbench.sources.inspect.log_schema import HEADER, SAMPLE, Header
from workbench.sources.inspect.model_usage import version_of
from workbench.sources.inspect.sample import SampleReader, item_of
from workbench.sources.inspect.scores import Scales
from workbench.sources.report import FileReport
from workbench.spool import SpoolWriter
from workbench.store import Store, open_store

_log = logging.getLogger(__name__)
_UNNAMED = Path("inspect eval")  # before the log has its name


@hooks(name="workbench", description="Writes every sample to the store of workbench.")
class InspectHook(Hooks):
    """Follows the tasks of this process; one instance serves all of them."""

    def __init__(self) -> None:
        """Follow no task yet."""
        self._tasks: dict[str, _TaskWriter] = {}

    def enabled(self) -> bool:
        """Return whether the settings turn it on; a setting that is wrong turns it off."""
        try:
            return config.load({}).inspect == "on"
        except WorkbenchError as error:
            _log.warning("workbench records nothing: %s", error)
            return False

    async def on_task_start(self, data: TaskStart) -> None:
        """Write the run, the task and the configuration."""
        started = EvalLog(eval=data.spec, plan=data.plan, status="started")
        self._tasks[data.eval_id] = await asyncio.to_thread(_TaskWriter, _header(started))

    async def on_sample_end(self, data: SampleEnd) -> None:
        """Write the sample."""
        if (writer := self._tasks.get(data.eval_id)) is not None:
            await asyncio.to_thread(writer.add, data.sample)

    async def on_task_end(self, data: TaskEnd) -> None:
        """Write the end of the task, and ingest what was written."""
        await self._end(data.log)

    async def on_run_end(self, data: RunEnd) -> None:
        """Write the end of the tasks that failed as a whole; Inspect tells of none of them."""
        for log in data.logs:
            await self._end(log)

    async def _end(self, log: EvalLog) -> None:
        if (writer := self._tasks.pop(log.eval.eval_id, None)) is not None:
            await asyncio.to_thread(writer.end, log)


def _header(log: EvalLog) -> Header:
    header = log.model_copy(update={"samples": None, "reductions": None})
    return json_bytes.decode(HEADER, _json(header), "the log of inspect eval", _discarded())


def _json(value: EvalLog | EvalSample) -> bytes:
    """Write as Inspect's log does: what JSON cannot hold, as a function, is null."""
    options: dict[str, Any] = {"exclude_none": True, "fallback": lambda _: None}
    try:
        return value.model_dump_json(**options).encode()
    except ValueError:  # half a surrogate pair in a text of a model
        return json.dumps(value.model_dump(mode="json", **options)).encode()


def _discarded() -> FileReport:
    return FileReport(_UNNAMED)


class _TaskWriter:
    """Writes one task of an evaluation to the spool; called from several threads."""

    def __init__(self, header: Header) -> None:
        self._store: Store = open_store(config.load({}).store, create=True, take_in=False)
        run = run_of(header, _UNNAMED)
        task, configuration = task_of(header), configuration_of(header)
        version = version_of(header.eval.packages.get("inspect_ai"))
        self._ids = Log(run.run_id, configuration.configuration_id, task.task_id, version)
        self._scales = Scales()
        self._n_scales = 0  # scorers with a scale of their own when the last sample was written
        self._has_misread = False  # whether one of them turned up after its first samples
        self._n_written = 0
        self._guard = threading.Lock()
        self._spool = SpoolWriter(self._store.spool_dir, run.run_id, store_id=self._store.id)
        started: tuple[AnyRecord, ...] = (
            msgspec.structs.replace(run, origin=None),
            task,
            configuration,
        )
        for record in started:
            self._spool.append(record)

    def add(self, sample: EvalSample) -> None:
        """Write a sample."""
        text = _json(sample)
        where = f"sample {sample.id}, epoch {sample.epoch}"
        with self._guard:
            read = json_bytes.decode(SAMPLE, text, where, _discarded())
            item = item_of(read, self._ids.task_id)
            reader = SampleReader(read, self._ids, self._scales, where, _discarded())
            trace = reader.trace(item)
            records: tuple[AnyRecord, ...] = (item, *reader.replaced(item), trace)
            for record in records:
                self._spool.offer(record)
            n_scales = self._scales.n_own
            self._has_misread |= n_scales > self._n_scales and self._n_written > 0
            self._n_scales = n_scales
            self._n_written += 1

    def end(self, log: EvalLog) -> None:
        """Write the end, and what later samples told of the scales of earlier ones; ingest it."""
        path = Path(log.location.removeprefix("file://"))
        with self._guard:
            self._spool.offer(run_of(_header(log), path))
            if self._has_misread:
                self._write_again(path)
            if (error := self._spool.retry_elsewhere()) is not None:
                _log.warning("workbench: %s", error)
            self._spool.close()
        try:
            self._store.ingest_spool()
        except StoreError as error:
            _log.warning(
                "workbench: %s; the samples wait in %s, and the next command takes them in",
                error,
                self._store.spool_dir,
            )
        _log.info("workbench: %d samples in %s", self._n_written, self._store.path)

    def _write_again(self, path: Path) -> None:
        """Write all traces again, from the log, in which every sample is known beforehand."""
        with contextlib.suppress(OSError):
            for record in SOURCE.read(path, report=FileReport(path)):
                if isinstance(record, Trace):
                    self._spool.offer(record)
            return
        _log.warning("workbench: import %s again: a scale was not known at the start", path)
