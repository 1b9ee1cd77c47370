"""Settings: defaults < configuration file < environment < typed flags, one pure merge.

| setting | file key | environment | where |
|---|---|---|---|
| any | `name = value` | `WORKBENCH_NAME` | `--name` where a command has it |

The configuration file is `$XDG_CONFIG_HOME/workbench/config.toml`.

The file never holds a key: `api_key_env` names the environment variable that does.
"""

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import ConfigError
from workbench.toml_reader import toml

PREFIX = "WORKBENCH_"


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its type, default, bounds and one sentence."""

    name: str
    type: type
    default: Any
    doc: str
    choices: tuple[str, ...] = ()
    low: float | None = None


SETTINGS: dict[str, Setting] = {
    s.name: s
    for s in (
        Setting("store", Path, None, "The DuckDB file; by default in the user's data folder."),
        Setting("format", str, "table", "How results are printed.", ("table", "json", "csv", "md")),
        Setting("theme", str, "", "Theme of the terminal app; empty for its own."),
        Setting("inspect", str, "on", "Whether `inspect eval` writes to the store.", ("on", "off")),
        Setting("provider", str, "", "Provider to collect from, where none is typed."),
        Setting("base_url", str, "", "Address of the provider's API, where none is typed."),
        Setting("api_key_env", str, "", "Environment variable that holds the provider's key."),
        Setting("machine", str, "", "Name of this machine in the price sheet."),
        Setting("concurrency", int, 8, "Calls in flight while collecting.", low=1),
        Setting(
            "budget_usd",
            float,
            None,
            "Most dollars that one launch of a collection may spend.",
            low=0,
        ),
    )
}


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    """The settings in force; `origins` says for each where it came from."""

    store: Path
    format: str
    theme: str
    inspect: str
    provider: str
    base_url: str
    api_key_env: str
    machine: str
    concurrency: int
    budget_usd: float | None
    origins: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)


def merge(
    home: Path,
    file: Mapping[str, Any],
    environ: Mapping[str, str],
    flags: Mapping[str, Any],
    *,
    file_path: Path,
) -> Config:
    """Combine the four layers; the last that says something wins.

    Args:
        home: the folder of the default store.
        file: what the configuration file holds.
        environ: environment variables; those that are none of ours are passed over.
        flags: what was typed; None was not typed.
        file_path: where `file` was read from, for messages and for a relative `store`.

    Raises:
        ConfigError: naming the layer, the key and the nearest valid one.
    """
    values: dict[str, Any] = {name: s.default for name, s in SETTINGS.items()}
    values["store"] = home / "traces.duckdb"
    origins = dict.fromkeys(values, "default")
    for key, value in file.items():
        if key not in SETTINGS:
            close = difflib.get_close_matches(key, SETTINGS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(SETTINGS)}"
            raise ConfigError(f"{file_path}: unknown key {key!r}; {hint}")
        values[key] = _typed(SETTINGS[key], value, f"{file_path}: {key}")
        origins[key] = str(file_path)
    if "store" in file:
        values["store"] = file_path.parent / values["store"]
    for name, setting in SETTINGS.items():
        variable = PREFIX + name.upper()
        if environ.get(variable):
            values[name] = _typed(setting, environ[variable], variable)
            origins[name] = variable
        if flags.get(name) is not None:
            flag = "--" + name.replace("_", "-")
            values[name], origins[name] = _typed(setting, flags[name], flag), flag
    return Config(**values, origins=origins)


def _typed(setting: Setting, value: Any, where: str) -> Any:
    """Check one value; numbers may come as text (environment), texts may not come as numbers."""
    if setting.type is Path:
        if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
            raise ConfigError(f"{where} is {value!r}, and should be a path")
        return _expanded(Path(value), where)
    if setting.type is str:
        if not isinstance(value, str):
            raise ConfigError(f"{where} is {value!r}, and should be text in quotes")
        if setting.choices and value not in setting.choices:
            known = ", ".join(setting.choices)
            raise ConfigError(f"{where} is {value!r}, and should be one of {known}")
        return value
    return _number(setting, value, where)


def _number(setting: Setting, value: Any, where: str) -> float:
    kind = "a whole number" if setting.type is int else "a number"
    reason = f"{where} is {value!r}, and should be {kind}"
    try:
        number = setting.type(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(reason) from None
    if isinstance(value, bool) or (isinstance(value, float) and number != value):
        raise ConfigError(reason)
    low = float("-inf") if setting.low is None else setting.low
    if not low <= number < float("inf"):
        raise ConfigError(f"{reason} from {low:g} on")
    return float(number) if setting.type is float else int(number)


def _expanded(path: Path, where: str) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{where} is {str(path)!r}: {error}") from None


def read_file(path: Path) -> dict[str, Any]:
    """Read a configuration file; an absent one says nothing.

    Raises:
        ConfigError: with file and line where it is no TOML, or cannot be read.
    """
    try:
        return toml(path.read_bytes().decode())
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def _xdg(environ: Mapping[str, str], variable: str, default: str) -> Path:
    """Find a base folder; the specification has relative values ignored."""
    named = Path(environ.get(variable, ""))
    return (named if named.is_absolute() else Path.home() / default) / "workbench"


def config_path(environ: Mapping[str, str] | None = None) -> Path:
    """Find the configuration file."""
    return _xdg(os.environ if environ is None else environ, "XDG_CONFIG_HOME", ".config") / (
        "config.toml"
    )


def cache_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Find the folder for cached files, which can be created again."""
    return _xdg(os.environ if environ is None else environ, "XDG_CACHE_HOME", ".cache")


def state_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Find the folder for what is kept from launch to launch, such as what the user has trusted."""
    return _xdg(os.environ if environ is None else environ, "XDG_STATE_HOME", ".local/state")


def load(
    flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> Config:
    """Read file and environment, and merge them with the typed flags."""
    environ = os.environ if environ is None else environ
    path = config_path(environ)
    home = _xdg(environ, "XDG_DATA_HOME", ".local/share")
    return merge(home, read_file(path), environ, flags or {}, file_path=path)


def store_path(environ: Mapping[str, str] | None = None) -> Path:
    """Find the default store, used when no store is given."""
    return load(environ=environ).store
