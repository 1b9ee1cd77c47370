"""Logs of Zeus' ZeusMonitor (log_file=…): joules of each GPU in named windows of time.

Windows may nest or overlap, so they are never added up: each is a run of its own with one meter per
GPU. The energy of CPUs is not in the file, and no model is; a window's name is what the user chose.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from workbench.records import AnyRecord, EnergyBalance, Run, content_id, json_text
from workbench.sources.json_lines import moment
from workbench.sources.report import FileReport
from workbench.sources.serving import energy_csv

NAME = "zeus"
_COLUMNS = ["start_time", "window_name", "elapsed_time"]
_GPU = re.compile(r"(gpu\d+)_energy")
_NOTE = "a window of time; windows may overlap, so their energies are not added up"


class ZeusLog:
    """Source of the CSV file that a ZeusMonitor writes."""

    name = NAME
    title = "Zeus monitor log (CSV)"

    def detect(self, path: Path) -> bool:
        """Return whether the first line is that of a log of windows."""
        names = energy_csv.header(path)
        return names[:3] == _COLUMNS and all(_GPU.fullmatch(name) for name in names[3:])

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield a run and the energy of each GPU for each window.

        Raises:
            ImportFormatError: the file is no CSV, or a row cannot be read.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        for line, row in energy_csv.rows(path, report, unquoted="window_name"):
            report.rows_in += 1
            start_s = energy_csv.joules(row["start_time"])
            duration_s = energy_csv.joules(row["elapsed_time"])
            if start_s is None or duration_s is None:
                report.bad_row(f"{path}, line {line} has no start or length", read=0)
                continue
            run = Run(
                run_id=content_id(NAME, row),
                kind="import",
                source=NAME,
                origin=path.name,
                status="done",
                started_at=moment(start_s),
                ended_at=moment(start_s + duration_s),
                metadata=json_text({"window": row["window_name"]}),
            )
            yield run
            for column in row:
                gpu = _GPU.fullmatch(column)
                joules = energy_csv.joules(row[column])
                if gpu is not None and joules is not None:
                    yield EnergyBalance(
                        run_id=run.run_id,
                        device=gpu[1],
                        meter=NAME,
                        meter_j=joules,
                        duration_s=duration_s,
                        note=_NOTE,
                    )
            report.rows_out += 1


SOURCE = ZeusLog()
