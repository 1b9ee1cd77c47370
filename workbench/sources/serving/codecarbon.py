"""Emissions of CodeCarbon (emissions.csv, and its files of tasks): what a tracker's meters read.

A tracker in `machine` mode measures the whole machine: rows of several trackers that ran at once
must not be added up. CPU and memory are often estimated from a constant power, and the file does
not say which. Of a tracker's rows, which are cumulative, the last counts. No model is in the file:
each row is a run with its energy by device.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from workbench.records import AnyRecord, EnergyBalance, Run, content_id, json_text
from workbench.sources.json_lines import moment
from workbench.sources.report import FileReport, Total
from workbench.sources.serving import energy_csv

NAME = "codecarbon"
_COLUMNS = frozenset({"run_id", "duration", "emissions", "cpu_energy", "energy_consumed"})
_DEVICES = {"cpu": "cpu_energy", "gpu": "gpu_energy", "ram": "ram_energy"}
_KNOWN = frozenset({"timestamp", "run_id", "os", "codecarbon_version", "gpu_model", "duration"})
_NOTE = "tracked by {mode}; CPU and memory may be estimates from a constant power"


class CodeCarbon:
    """Source of CodeCarbon's CSV files."""

    name = NAME
    title = "CodeCarbon emissions (emissions.csv)"

    def detect(self, path: Path) -> bool:
        """Return whether the first line names the columns of emissions and energy."""
        return set(energy_csv.header(path)) >= _COLUMNS

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield a run and the energy of its devices for each tracker or task.

        Raises:
            ImportFormatError: the file is no CSV, or a row cannot be read.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        last: dict[tuple[str, str], dict[str, str]] = {}
        for line, row in energy_csv.rows(path, report):
            report.rows_in += 1
            if not row["run_id"] or energy_csv.joules(row["energy_consumed"]) is None:
                report.bad_row(f"{path}, line {line} has no run_id or energy", read=0)
                continue
            key = (row["run_id"], row.get("task_name", ""))
            if key in last:
                report.duplicates.add(f"line {line} replaces an earlier row of {row['run_id']}")
            last[key] = row
        for row in last.values():
            yield from _records(row, path, report)
            report.rows_out += 1


SOURCE = CodeCarbon()


def _records(row: Mapping[str, str], path: Path, report: FileReport) -> Iterator[AnyRecord]:
    task = row.get("task_name", "")
    ended = moment(row.get("timestamp", ""))  # the machine's own time, without a zone
    duration_s = energy_csv.joules(row["duration"])
    metadata = {name: value for name, value in row.items() if value and name not in _KNOWN}
    run = Run(
        run_id=content_id(NAME, row["run_id"], task),
        kind="import",
        source=NAME,
        origin=path.name,
        status="done",
        ended_at=ended,
        platform=row.get("os") or None,
        accelerator=row.get("gpu_model") or None,
        versions=json_text({"codecarbon": row["codecarbon_version"]})
        if row.get("codecarbon_version")
        else None,
        metadata=json_text(metadata),
    )
    yield run
    mode = row.get("tracking_mode") or "an unknown mode"
    total_j = 0.0
    for device, column in _DEVICES.items():
        joules = energy_csv.joules(row.get(column), energy_csv.KWH_J)
        if joules is None or (device == "gpu" and not joules and not _has_gpu(row)):
            continue
        total_j += joules
        yield EnergyBalance(
            run_id=run.run_id,
            device=device,
            meter=NAME,
            meter_j=joules,
            duration_s=duration_s,
            note=_NOTE.format(mode=mode),
        )
    stated_j = energy_csv.joules(row["energy_consumed"], energy_csv.KWH_J) or 0.0
    name = f"energy of {task or row['run_id'][:8]} (J)"
    report.totals.append(Total(name, stated_j, total_j, tolerance=1e-6 * max(stated_j, 1.0)))


def _has_gpu(row: Mapping[str, str]) -> bool:
    """Return whether there is a GPU: without one the file has an energy of 0."""
    return bool(row.get("gpu_model")) or row.get("gpu_count", "") not in {"", "0", "0.0"}
