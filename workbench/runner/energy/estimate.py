"""Estimates of a remote call's energy, as a range, where nothing can be metered.

The model is EcoLogits' (Rincé and Banse, "EcoLogits: Evaluating the Environmental Impacts of
Generative AI", Journal of Open Source Software 10(111), 7471, 2025;
https://ecologits.ai/latest/methodology/llm_inference/): a fit to the ML.ENERGY measurements of vLLM
on H100, extended to a server and a data centre. Its only variable is the number of output tokens;
prompts enter by the average prompts of those measurements.
"""

import functools
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from workbench.datasets import data_dir
from workbench.errors import ConfigError
from workbench.records import Call, EnergyReading
from workbench.toml_reader import toml

DEVICE = "provider"
_J_PER_WH = 3600.0
# energy of one GPU per output token in Wh: α·exp(β·B)·P + γ, P in billions of active parameters, B
# the batch
_ENERGY = (1.17e-6, -1.12e-2, 4.05e-5)
# latency per output token in s: α·P + β·B + γ
_LATENCY = (6.78e-4, 3.12e-4, 1.94e-2)
_GPU_GB, _GPUS_INSTALLED, _SERVER_W = 80.0, 8, 1200.0  # an AWS p5.48xlarge without its GPUs
_OVERHEAD, _BITS = 1.2, 16
# EcoLogits holds the batch at 64; that is the largest unknown beside the size, so the range spans
# more
BATCHES = (256, 64, 16)
_VERSION = r"(-(latest|preview[\w.-]*|\d{3,4}|\d{6,8}|\d{4}-\d{2}-\d{2}|v\d[\w.]*))?"


class Size(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Billions of parameters; `active` is one number, or the lowest and highest guess.

    Attributes:
        total: of a mixture of experts; a dense model's are all active.
        source: where it is published; "" for a guess about a closed model.
    """

    active: float | tuple[float, float]
    total: float | None = None
    source: str = ""

    @property
    def range(self) -> tuple[float, float]:
        """Active parameters, lowest and highest."""
        return self.active if isinstance(self.active, tuple) else (self.active, self.active)


class _Facts(NamedTuple):
    sizes: dict[str, Size]
    pue: dict[str, tuple[float, float]]
    date: str


@functools.cache
def _facts() -> _Facts:
    path = data_dir() / "energy" / "api_models.toml"
    try:
        raw: dict[str, Any] = toml(path.read_text(encoding="utf-8"))
        sizes = msgspec.convert(raw["closed"] | raw["open"], dict[str, Size])
        pue = msgspec.convert(raw["pue"], dict[str, tuple[float, float]])
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(
            f"{path}: not the table of model sizes: {error}; install again"
        ) from error
    return _Facts(sizes, pue, str(raw.get("date", "")))


def size_of(model: str) -> Size | None:
    """Find a model's size by its name without vendor prefix and date; null where unknown."""
    name = model.rsplit("/", 1)[-1].lower()
    sizes = _facts().sizes
    matches = [known for known in sizes if re.fullmatch(re.escape(known) + _VERSION, name)]
    return sizes[max(matches, key=len)] if matches else None


def energy_j(
    output_tokens: int,
    *,
    active: float,
    total: float,
    batch: int,
    pue: float,
    most_s: float | None = None,
) -> float:
    """Return the joules of a request by EcoLogits' model.

    Args:
        output_tokens: thinking included.
        active: billions of parameters active per token.
        total: billions of parameters in memory.
        batch: requests that the server answers at once.
        pue: facility energy over that of the server.
        most_s: the request's latency as measured, which bounds the time at the server.
    """
    alpha, beta, gamma = _ENERGY
    gpu_j = output_tokens * (alpha * math.exp(beta * batch) * active + gamma) * _J_PER_WH
    n_gpus = n_gpus_of(total)
    alpha, beta, gamma = _LATENCY
    server_s = output_tokens * (alpha * active + beta * batch + gamma)
    if most_s is not None:
        server_s = min(server_s, most_s)
    server_j = server_s * _SERVER_W * n_gpus / _GPUS_INSTALLED / batch
    return pue * (server_j + n_gpus * gpu_j)


def n_gpus_of(total: float) -> int:
    """Count the 80 GB GPUs that hold so many billions of 16-bit parameters: a power of two."""
    needed = math.ceil(_OVERHEAD * total * _BITS / 8 / _GPU_GB)
    return 1 << (needed - 1).bit_length()


def estimate(call: Call) -> EnergyReading | None:
    """Estimate what a call to a remote service took; null where its model or its output is unknown.

    Low is the smallest size at the largest batch and the best data centre, high the opposite,
    central the middle of each at a batch of 64.
    """
    size = size_of(call.response_model or "") or size_of(call.model or "")
    if size is None or call.output_tokens is None:
        return None
    facts = _facts()
    low, high = size.range
    active = (low, (low + high) / 2, high)
    least, most = facts.pue.get(call.provider or "", facts.pue["other"])
    pue = (least, (least + most) / 2, most)
    totals = [size.total or part for part in active]
    estimates = [
        energy_j(call.output_tokens, active=p, total=t, batch=b, pue=u, most_s=call.e2e_s)
        for p, t, b, u in zip(active, totals, BATCHES, pue, strict=True)
    ]
    return EnergyReading(
        call_ordinal=call.ordinal,
        device=DEVICE,
        method="estimated",
        energy_j=estimates[1],
        low_j=min(estimates),
        high_j=max(estimates),
        note=_why(size, totals, pue, facts.date),
    )


def _why(size: Size, totals: Sequence[float], pue: Sequence[float], date: str) -> str:
    of = f" of {size.total:g}" if size.total else ""
    source = size.source or f"not published, guessed as of {date}"
    gpus = [float(n_gpus_of(total)) for total in totals]
    return (
        f"EcoLogits' model of H100 servers: {_between(size.range)}{of} billion parameters active"
        f" ({source}), {_between(gpus)} GPUs, batch {_between(sorted(BATCHES))}, PUE"
        f" {_between(pue)}; output tokens alone"
    )


def _between(ascending: Sequence[float]) -> str:
    low, high = ascending[0], ascending[-1]
    return f"{low:g}" if low == high else f"{low:g}–{high:g}"
