"""Settings: four layers, one winner each, and errors that name the place."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import config
from workbench.errors import ConfigError

FILE = Path("/etc/wb/config.toml")


def merge(file=None, environ=None, flags=None):
    """Merge with a fixed home."""
    return config.merge(Path("/data"), file or {}, environ or {}, flags or {}, file_path=FILE)


def test_with_nothing_said_the_defaults_hold():
    """A fresh machine works."""
    found = merge()

    assert found.store == Path("/data/traces.duckdb")
    assert (found.format, found.concurrency, found.budget_usd) == ("table", 8, None)
    assert set(found.origins.values()) == {"default"}


LAYERS = st.fixed_dictionaries({layer: st.booleans() for layer in ("file", "environ", "flags")})


@given(LAYERS, st.sampled_from(["provider", "theme", "machine", "api_key_env"]))
def test_the_last_layer_that_speaks_wins(speaks, name):
    """defaults < file < environment < flags, for every setting and every combination."""
    file = {name: "file"} if speaks["file"] else {}
    environ = {f"WORKBENCH_{name.upper()}": "environ"} if speaks["environ"] else {}
    flags = {name: "flags" if speaks["flags"] else None}
    winners = [layer for layer in ("file", "environ", "flags") if speaks[layer]]

    found = merge(file, environ, flags)

    assert getattr(found, name) == (winners[-1] if winners else "")


def test_numbers_in_the_environment_are_read_as_numbers():
    """The environment knows only text."""
    found = merge(environ={"WORKBENCH_CONCURRENCY": "3", "WORKBENCH_BUDGET_USD": "1.5"})

    assert (found.concurrency, found.budget_usd) == (3, 1.5)
    assert found.origins["concurrency"] == "WORKBENCH_CONCURRENCY"


def test_a_relative_store_in_the_file_lies_beside_the_file():
    """It must not depend on where the command is run."""
    assert merge({"store": "a.duckdb"}).store == FILE.parent / "a.duckdb"
    assert merge({"store": "/a.duckdb"}).store == Path("/a.duckdb")


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ({"file": {"stroe": "x"}}, "config.toml: unknown key 'stroe'; did you mean store?"),
        ({"file": {"zzz": 1}}, "known are store, format"),
        ({"file": {"format": "xml"}}, "config.toml: format is 'xml', and should be one of table"),
        ({"file": {"theme": 3}}, "should be text in quotes"),
        ({"file": {"concurrency": True}}, "should be a whole number"),
        ({"file": {"concurrency": 2.5}}, "should be a whole number"),
        ({"file": {"concurrency": 0}}, "from 1 on"),
        ({"file": {"store": 3}}, "should be a path"),
        ({"file": {"store": "~nosuchuser/x"}}, "store is '~nosuchuser/x'"),
        ({"environ": {"WORKBENCH_CONCURRENCY": "many"}}, "WORKBENCH_CONCURRENCY is 'many'"),
        ({"environ": {"WORKBENCH_BUDGET_USD": "nan"}}, "should be a number from 0 on"),
        ({"flags": {"budget_usd": -1.0}}, "--budget-usd is -1.0"),
        ({"flags": {"store": "a\0b"}}, "--store is"),
    ],
)
def test_an_error_names_the_layer_and_the_key(layers, said):
    """What, where, and what to write."""
    with pytest.raises(ConfigError) as caught:
        merge(**layers)

    assert said in str(caught.value)


def test_the_file_is_found_by_xdg_and_read(tmp_path):
    """A relative XDG folder is ignored, as its specification says."""
    folder = tmp_path / "workbench"
    folder.mkdir()
    (folder / "config.toml").write_text('format = "json"\n')
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": "relative"}

    found = config.load(environ=environ)

    assert found.format == "json"
    assert found.store == Path.home() / ".local/share/workbench/traces.duckdb"
    assert config.store_path({"XDG_DATA_HOME": "/d"}) == Path("/d/workbench/traces.duckdb")
    assert config.cache_dir({"XDG_CACHE_HOME": "/c"}) == Path("/c/workbench")


@pytest.mark.parametrize("content", [b"format = ", b"\xff\xfe", b"store = 'a' 'b'"])
def test_a_broken_file_is_named(tmp_path, content):
    """No traceback from the TOML reader reaches a user."""
    path = tmp_path / "config.toml"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match="is not TOML"):
        config.read_file(path)


def test_a_folder_in_place_of_the_file_is_named(tmp_path):
    """An absent file is silent, an unreadable one is not."""
    assert config.read_file(tmp_path / "none.toml") == {}
    with pytest.raises(ConfigError, match="cannot be read"):
        config.read_file(tmp_path)
