"""Facts on hardware: models, accelerators, grids and latencies, from `data/reference` and the user.

A file of the user's is TOML of the same form, with any of the tables `[[model]]`,
`[[accelerator]]`, `[[grid]]` and `[[latency]]`; its rows win over those that ship, field by field.
A store's tables `models`, `accelerators` and `grids` hold the same rows.
"""

import contextlib
import contextvars
import dataclasses
import difflib
import functools
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from workbench.datasets import data_dir
from workbench.decoding import describe
from workbench.errors import ConfigError
from workbench.toml_reader import toml

FILES = ("models.toml", "accelerators.toml", "grids.toml", "latency.toml")


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape of a model; None = unknown.

    Attributes:
        n_params: parameters, of a mixture of experts all of them.
        n_active_params: those that one token meets, where they are not all.
        head_dim: width of a head, where it is not `d_model / n_heads`.
        d_ff: width of the feed-forward layer.
    """

    model: str
    family: str | None = None
    n_params: int | None = None
    n_active_params: int | None = None
    n_layers: int | None = None
    d_model: int | None = None
    n_heads: int | None = None
    n_kv_heads: int | None = None
    head_dim: int | None = None
    d_ff: int | None = None
    vocab_size: int | None = None
    source: str | None = None

    @property
    def active(self) -> int | None:
        """Parameters that one token meets."""
        return self.n_active_params or self.n_params

    @property
    def head_width(self) -> float | None:
        """Width of a head."""
        if self.head_dim:
            return float(self.head_dim)
        return self.d_model / self.n_heads if self.d_model and self.n_heads else None


class Accelerator(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An accelerator: dense 16-bit FLOP/s, bytes/s, bytes, watts; None = unknown."""

    accelerator: str
    peak_flops: float | None = None
    bandwidth_bytes_per_s: float | None = None
    memory_bytes: int | None = None
    tdp_w: float | None = None
    source: str | None = None

    @property
    def intensity(self) -> float | None:
        """FLOP that it can do while it reads one byte."""
        if self.peak_flops is None or not self.bandwidth_bytes_per_s:
            return None
        return self.peak_flops / self.bandwidth_bytes_per_s


class Grid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Carbon intensity of a country's or region's electricity in a year."""

    grid: str
    year: int | None = None
    carbon_g_per_kwh: float | None = None
    source: str | None = None


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Latency: a I'² + b I' + c + O (n + m I + m (O − 1) / 2) s; see `reference/latency.toml`."""

    law: str
    a: float
    b: float
    c: float
    m: float
    n: float
    pad_tokens: int = 1
    machine: str | None = None
    source: str | None = None


Row = TypeVar("Row", Model, Accelerator, Grid, Latency)
_KINDS: dict[str, type[msgspec.Struct]] = {
    "model": Model,
    "accelerator": Accelerator,
    "grid": Grid,
    "latency": Latency,
}


@dataclasses.dataclass(frozen=True)
class Reference:
    """Rows of each kind; of two on the same subject the later one's known fields override."""

    models: tuple[Model, ...] = ()
    accelerators: tuple[Accelerator, ...] = ()
    grids: tuple[Grid, ...] = ()
    latencies: tuple[Latency, ...] = ()

    def __add__(self, other: "Reference") -> "Reference":
        """Add rows that win over these."""
        return Reference(
            self.models + other.models,
            self.accelerators + other.accelerators,
            self.grids + other.grids,
            self.latencies + other.latencies,
        )

    def find_model(self, name: str) -> Model | None:
        """Find a model by its name in any case, with or without its maker's prefix; else None."""
        return self._models.get(name.lower()) or self._models.get(_bare(name))

    def accelerator(self, name: str) -> Accelerator:
        """Find an accelerator; ConfigError offers the nearest names."""
        return _named(
            _merged((row.accelerator, row) for row in self.accelerators), "accelerator", name
        )

    def model(self, name: str) -> Model:
        """Find a model; ConfigError offers the nearest names."""
        return self.find_model(name) or _named(self._models, "model", name)

    def grid(self, name: str) -> Grid:
        """Find the latest year of a grid; ConfigError offers the nearest names."""
        rows = {(row.grid.lower(), row.year): row for row in self.grids}
        latest = sorted(rows.values(), key=lambda row: row.year or 0)
        return _named({row.grid.lower(): row for row in latest}, "grid", name)

    def latency(self, name: str) -> Latency:
        """Find a law of latency; ConfigError offers the nearest names."""
        return _named({row.law.lower(): row for row in self.latencies}, "law", name)

    @functools.cached_property
    def _models(self) -> dict[str, Model]:
        whole = _merged((row.model, row) for row in self.models)
        return _merged((_bare(row.model), row) for row in self.models) | whole


def _bare(name: str) -> str:
    return name.rsplit("/", 1)[-1].lower()


def _merged(rows: Iterable[tuple[str, Row]]) -> dict[str, Row]:
    """Index rows by name in lower case; unknown fields of a later row come from the earlier one."""
    by_name: dict[str, Row] = {}
    for name, row in rows:
        old = by_name.get(name.lower())
        if old is not None:
            inherited = {
                f: getattr(old, f) for f in row.__struct_fields__ if getattr(row, f) is None
            }
            row = msgspec.structs.replace(row, **inherited)  # noqa: PLW2901  # the merged row
        by_name[name.lower()] = row
    return by_name


def _named(rows: Mapping[str, Row], kind: str, name: str) -> Row:
    if name.lower() in rows:
        return rows[name.lower()]
    near = difflib.get_close_matches(name.lower(), rows, n=3, cutoff=0.4) or sorted(rows)[:8]
    known = f"; known are {', '.join(near)}" if near else ""
    raise ConfigError(f"unknown {kind}: {name!r}{known}; add it in a file of your own (reference)")


@functools.cache
def bundled() -> Reference:
    """Return the rows that ship with the package."""
    folder = data_dir() / "reference"
    return functools.reduce(Reference.__add__, (read(folder / name) for name in FILES))


_IN_FORCE: contextvars.ContextVar[Reference | None] = contextvars.ContextVar(
    "reference", default=None
)


def in_force(path: str | Path | None = None) -> Reference:
    """The rows that ship, those of `using` over them, and those of a file over these."""
    rows = _IN_FORCE.get() or bundled()
    return rows if path is None else rows + read(Path(path))


@contextlib.contextmanager
def using(rows: Reference) -> Iterator[None]:
    """Give rows, such as those of a store, precedence over the others inside the block."""
    token = _IN_FORCE.set(in_force() + rows)
    try:
        yield
    finally:
        _IN_FORCE.reset(token)


def read(path: Path) -> Reference:
    """Read a file of reference rows.

    Raises:
        ConfigError: naming the file, the entry and the field.
    """
    try:
        tables = toml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read the reference rows {path}: {error}") from error
    tables.pop("date", None)
    for key in tables:
        if key not in _KINDS:
            known = ", ".join(f"[[{kind}]]" for kind in _KINDS)
            raise ConfigError(f"{path} has an unknown table {key!r}; known are {known}")
    if not tables:
        raise ConfigError(f"{path} holds no row; give at least one [[model]] or [[grid]]")
    rows_by_kind = {kind: _rows(path, kind, tables.get(kind, [])) for kind in _KINDS}
    return Reference(
        rows_by_kind["model"],
        rows_by_kind["accelerator"],
        rows_by_kind["grid"],
        rows_by_kind["latency"],
    )


def of_rows(
    models: Iterable[Mapping[str, Any]] = (),
    accelerators: Iterable[Mapping[str, Any]] = (),
    grids: Iterable[Mapping[str, Any]] = (),
) -> Reference:
    """Take rows of a store's tables; columns that are not needed here are ignored."""
    return Reference(
        tuple(Model(**_known(Model, row)) for row in models),
        tuple(Accelerator(**_known(Accelerator, row)) for row in accelerators),
        tuple(Grid(**_known(Grid, row)) for row in grids),
    )


def _known(kind: type[msgspec.Struct], row: Mapping[str, Any]) -> dict[str, Any]:
    return {field: row[field] for field in kind.__struct_fields__ if field in row}


def _rows(path: Path, kind: str, rows: Any) -> tuple[Any, ...]:
    listed: Sequence[Any] = rows if isinstance(rows, list) else [rows]
    parsed = []
    for number, row in enumerate(listed, 1):
        try:
            entry = msgspec.convert(row, _KINDS[kind])
        except msgspec.ValidationError as error:
            why = describe(error, row, _KINDS[kind].__struct_fields__)
            raise ConfigError(f"{kind} {number} of {path}: {why}") from error
        for field in entry.__struct_fields__:
            value = getattr(entry, field)
            # A law's coefficients may be any number; a size, a rate or an intensity is not below 0.
            if (
                kind != "latency"
                and isinstance(value, int | float)
                and not 0 <= value < float("inf")
            ):
                raise ConfigError(
                    f"{kind} {number} of {path}: {field} = {value!r} must be at least 0"
                )
        parsed.append(entry)
    return tuple(parsed)
