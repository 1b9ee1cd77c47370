"""Meters: energy counters and power of the devices of this machine, read through Zeus.

A meter never fails a run: a device that cannot be read has null readings, and a machine without any
has a meter without devices that says why. Zeus is imported only when a meter is opened (0.25 s).
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

_MJ, _UJ = 1e-3, 1e-6
_EXTRA = "zeus is not installed; to measure energy: pip install 'trace-workbench[energy]'"


class Reading(NamedTuple):
    """What one device said.

    Attributes:
        at_s: when, on the meter's clock.
        energy_j: its counter, never decreasing; null where it could not be read.
        power_w: its power; null where it gives none.
    """

    at_s: float
    energy_j: float | None
    power_w: float | None


class Device(NamedTuple):
    """What is metered: a name such as "gpu:0", and how it is read."""

    name: str
    how: str


class Meter(Protocol):
    """Devices that can be read.

    Attributes:
        devices: in the order of the readings.
        reason: why there are none, or why some are missing; "" where all is well.
    """

    @property
    def devices(self) -> Sequence[Device]:
        """What is metered."""
        ...

    @property
    def reason(self) -> str:
        """Why a device is missing."""
        ...

    def read(self) -> tuple[Reading, ...]:
        """Read every device once."""
        ...

    def __enter__(self) -> Self:
        """Return the meter."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the devices."""
        ...


class Counter(Protocol):
    """One device: its names, and a look at it that raises where it cannot be read."""

    device: Device

    def look(self) -> tuple[float | None, float | None]:
        """Return (joules of the counter as it stands, watts); null where there is no such thing."""
        ...


class CounterMeter:
    """A meter over counters: makes them monotonic, and integrates power without a counter."""

    def __init__(
        self,
        counters: Sequence[Counter],
        *,
        reason: str = "",
        errors: tuple[type[Exception], ...] = (OSError, ValueError),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Read these devices; `errors` are what a look may raise when a device is lost."""
        self._counters, self.reason = list(counters), reason
        self._errors, self._clock = errors, clock
        self._risen = [_Rising() for _ in counters]

    @property
    def devices(self) -> Sequence[Device]:
        """What is metered."""
        return [counter.device for counter in self._counters]

    def read(self) -> tuple[Reading, ...]:
        """Read every device once; one that fails has null readings."""
        readings = []
        for counter, rising in zip(self._counters, self._risen, strict=True):
            try:
                joules, watts = counter.look()
            except self._errors:
                readings.append(Reading(self._clock(), None, None))
                continue
            at = self._clock()
            readings.append(Reading(at, rising.add(at, joules, watts), watts))
        return tuple(readings)

    def __enter__(self) -> Self:
        """Return the meter."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held: Zeus keeps its libraries open."""


class _Rising:
    """A reading that never goes back: a reset of the counter is bridged with the power."""

    def __init__(self) -> None:
        self._raw: float | None = None
        self._offset = 0.0
        self._last: tuple[float, float | None] | None = None  # time and power of the last look

    def add(self, at_s: float, joules: float | None, watts: float | None) -> float | None:
        bridge = 0.0
        if self._last is not None:
            then, before = self._last
            known = [w for w in (before, watts) if w is not None]
            bridge = sum(known) / len(known) * (at_s - then) if known else 0.0
        self._last = (at_s, watts)
        if joules is None:  # no counter: the power integrated is all there is
            if watts is None:
                return None
            self._offset += bridge
            return self._offset
        if self._raw is not None and joules < self._raw:
            self._offset += self._raw - joules + bridge
        self._raw = joules
        return joules + self._offset


class _Gpu:
    """A GPU read through Zeus: NVML's or AMD's energy counter, and the present power."""

    def __init__(
        self, gpu: Any, number: int, kind: str, errors: tuple[type[Exception], ...]
    ) -> None:
        self._gpu = gpu
        supported = _ask(gpu.supports_get_total_energy_consumption, errors)
        counted = _ask(gpu.get_total_energy_consumption, errors)
        self._counts = bool(supported) and counted is not None
        powers = (gpu.get_instant_power_usage, gpu.get_average_power_usage)
        self._power = next((p for p in powers if _ask(p, errors) is not None), None)
        how = f"{kind} {'counter' if self._counts else 'power, integrated'}"
        self.device = Device(f"gpu:{number}", how)

    @property
    def readable(self) -> bool:
        """Whether there is anything to read."""
        return self._counts or self._power is not None

    def look(self) -> tuple[float | None, float | None]:
        joules = self._gpu.get_total_energy_consumption() * _MJ if self._counts else None
        watts = self._power() * _MJ if self._power is not None else None
        return joules, watts


class RaplZone:
    """A RAPL zone of the kernel: a counter in microjoules that starts again at its range.

    It is read here and not through Zeus, which watches for the turn with a process of its own per
    zone and a look a second; a meter that looks twenty times a second sees every turn itself.
    """

    def __init__(self, path: Path, range_j: float, device: Device) -> None:
        """Read `path`, a file of the kernel."""
        self._path, self._range_j, self.device = path, range_j, device
        self._raw: float | None = None
        self._turns = 0

    def look(self) -> tuple[float | None, float | None]:
        """Return the joules counted, turns included; RAPL gives no power."""
        joules = float(self._path.read_text()) * _UJ
        if self._raw is not None and joules < self._raw:
            self._turns += 1
        self._raw = joules
        return joules + self._turns * self._range_j, None


class _Daemon:
    """A CPU or its DRAM read through Zeus' daemon, for users who may not read RAPL themselves."""

    def __init__(self, cpu: Any, field: str, device: Device) -> None:
        self._cpu, self._field, self.device = cpu, field, device

    def look(self) -> tuple[float | None, float | None]:
        return getattr(self._cpu.get_total_energy_consumption(), self._field) * _MJ, None


class _Soc:
    """One part of a system on a chip; parts do not overlap."""

    def __init__(self, soc: Any, field: str, how: str) -> None:
        self._soc, self._field = soc, field
        self.device = Device(f"soc:{field.removesuffix('_mj').removesuffix('_energy')}", how)

    def look(self) -> tuple[float | None, float | None]:
        return getattr(self._soc.get_total_energy_consumption(), self._field) * _MJ, None


# parts of a chip that do not contain one another, of Apple's and of NVIDIA's
_SOC_PARTS = ("cpu_total_mj", "dram_mj", "gpu_mj", "ane_mj")
_JETSON_TOTAL = ("total_energy_mj",)


def open_meter(*, clock: Callable[[], float] = time.perf_counter) -> CounterMeter:
    """Open all readable devices of this machine; with the reason where there are none."""
    try:
        from zeus.exception import ZeusBaseError
    except ImportError:
        return CounterMeter((), reason=_EXTRA, clock=clock)
    errors: tuple[type[Exception], ...] = (ZeusBaseError, OSError, ValueError, RuntimeError)
    counters: list[Counter] = []
    reasons = []
    for kind, find in (("gpu", _gpus), ("cpu", _cpus), ("soc", _socs)):
        try:
            devices = find(errors)
        except errors as error:  # of Zeus, which tells apart no library, no driver, no permission
            reasons.append(f"{kind}: {_short(error)}")
        else:
            counters += devices
            if not devices:
                reasons.append(f"{kind}: no counter that can be read")
    return CounterMeter(counters, reason="; ".join(reasons), errors=errors, clock=clock)


def _short(error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return reason if len(reason) <= 160 else f"{reason[:159]}…"


def _ask(ask: Callable[[], Any], errors: tuple[type[Exception], ...]) -> Any:
    """Return what a device answers; null where it does not know the question."""
    unknown: tuple[type[Exception], ...] = (*errors, AttributeError, NotImplementedError)
    try:
        return ask()
    except unknown:
        return None


def _gpus(errors: tuple[type[Exception], ...]) -> list[Counter]:
    from zeus.device.gpu import get_gpus

    gpus = get_gpus()
    kind = "nvml" if type(gpus).__name__.startswith("NVIDIA") else "amd"
    gpu_counters = [_Gpu(gpu, number, kind, errors) for number, gpu in enumerate(gpus.gpus)]
    return [gpu for gpu in gpu_counters if gpu.readable]


def _cpus(errors: tuple[type[Exception], ...]) -> list[Counter]:
    del errors
    from zeus.device.cpu import get_cpus

    counters: list[Counter] = []
    for number, cpu in enumerate(get_cpus().cpus):
        names = (Device(f"cpu:{number}", "rapl counter"), Device(f"dram:{number}", "rapl counter"))
        if not hasattr(cpu, "rapl_file"):
            counters.append(_Daemon(cpu, "cpu_mj", names[0]))
            if cpu.supports_get_dram_energy_consumption():
                counters.append(_Daemon(cpu, "dram_mj", names[1]))
            continue
        for zone, device in zip((cpu.rapl_file, cpu.dram), names, strict=True):
            if zone is not None:
                path = Path(zone.energy_uj_path)
                counters.append(RaplZone(path, zone.max_energy_range_uj * _UJ, device))
    return counters


def _socs(errors: tuple[type[Exception], ...]) -> list[Counter]:
    del errors
    from zeus.device.soc import get_soc

    soc = get_soc()
    measured = soc.get_total_energy_consumption()
    kind = "jetson" if hasattr(measured, _JETSON_TOTAL[0]) else "apple"
    parts = _JETSON_TOTAL if kind == "jetson" else _SOC_PARTS
    known = [part for part in parts if getattr(measured, part, None) is not None]
    return [_Soc(soc, part, f"{kind} counter") for part in known]
