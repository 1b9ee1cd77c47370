"""Reports of SWE-bench: which instances a run resolved. Agents' trajectories do not say it.

A report beside the trajectories belongs to them. Further up, as in the harness' own
`logs/run_evaluation/<run>/<model>/<instance>/report.json`, a report has to name the model.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

import msgspec

from workbench.decoding import UNDECODABLE
from workbench.sources import heads
from workbench.sources.heads import Line
from workbench.sources.json_lines import member

TASK = "swe-bench"
_BESIDE = 2  # folders, from the trajectory's on, whose reports are of its run
_ABOVE = 5  # folders in which reports that name the model are looked for
_LISTS = ("resolved_ids", "resolved")
_FAILED = (
    "unresolved_ids",
    "error_ids",
    "empty_patch_ids",
    "unresolved",
    "no_generation",
    "no_logs",
)
_MOST_BYTES = 64 << 20
_MOST_FILES = 200  # of one folder
_object = msgspec.json.Decoder(Line)


def verdict(path: Path, instance: str, model: str | None) -> bool | None:
    """Return whether reports say that the instance of a trajectory is resolved.

    Args:
        path: the trajectory.
        instance: the instance's id.
        model: the model's name, with its provider.

    Returns:
        None where no report names the instance, or where two contradict each other.
    """
    known = set(_verdicts(path, instance, model))
    return known.pop() if len(known) == 1 else None


def _verdicts(path: Path, instance: str, model: str | None) -> Iterator[bool]:
    folders = path.resolve().parents[:_ABOVE]
    for folder in folders[:_BESIDE]:
        yield from (report[instance] for _, report in _reports(folder) if instance in report)
    if model is None:
        return
    named = model.replace("/", "__")
    for folder in folders[_BESIDE:]:
        for place in (folder, folder / "sb-cli-reports"):
            for name, report in _reports(place):
                if named in name and instance in report:
                    yield report[instance]
    for folder in folders:
        harness = folder / "logs" / "run_evaluation"
        for file in _evaluations(harness, named):
            report = _report(file / instance / "report.json")
            if instance in report:
                yield report[instance]


@functools.lru_cache(maxsize=64)
def _evaluations(harness: Path, model: str) -> tuple[Path, ...]:
    """Return the folders of a model in the harness' logs."""
    try:
        runs = sorted(run for run in harness.iterdir() if run.is_dir())
    except OSError:
        return ()
    return tuple(run / model for run in runs if (run / model).is_dir())


@functools.lru_cache(maxsize=64)
def _reports(folder: Path) -> tuple[tuple[str, dict[str, bool]], ...]:
    """Read the reports directly in a folder: their names, with verdicts by instance."""
    try:
        files = sorted(f for f in folder.glob("*.json") if not f.name.endswith(".traj.json"))
    except OSError:
        return ()
    reports = ((file.name, _report(file)) for file in files[:_MOST_FILES])
    return tuple((name, report) for name, report in reports if report)


def _report(file: Path) -> dict[str, bool]:
    keys = heads.keys(file)
    is_list = any(name in keys for name in _LISTS)
    is_single = not is_list and len(keys) == 1 and b'"resolved"' in heads.start(file)
    if not (is_list or is_single):
        return {}
    try:
        if file.stat().st_size > _MOST_BYTES:
            return {}
        report = _object.decode(file.read_bytes())
    except (OSError, *UNDECODABLE):
        return {}
    if is_single:
        resolved = member(report, keys[0]).get("resolved")
        return {keys[0]: resolved} if isinstance(resolved, bool) else {}
    verdicts = {name: False for field in _FAILED for name in _names(report, field)}
    return verdicts | {name: True for field in _LISTS for name in _names(report, field)}


def _names(report: Line, field: str) -> list[str]:
    listed = report.get(field)
    return [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
