"""Who can read keys and transcripts: not whoever is on the way, not other users."""

import os
import stat
from pathlib import Path

import pytest

from tests.support import making
from workbench.cli import main
from workbench.errors import ConfigError, StoreError
from workbench.runner.planning.target import Target
from workbench.spool import SpoolWriter
from workbench.store import open_store


@pytest.mark.parametrize(
    ("address", "is_sent"),
    [
        ("http://models.example.com/v1", False),
        ("http://127.0.0.1.example.com/v1", False),
        ("http://10.0.0.5:8000/v1", False),
        ("https://models.example.com/v1", True),
        ("http://localhost:8000/v1", True),
        ("http://127.0.0.1:8000/v1", True),
        ("http://[::1]:8000/v1", True),
    ],
)
def test_a_key_is_not_sent_over_plain_http_to_another_machine(address: str, is_sent: bool) -> None:
    """Unless the user says so, where no plan can."""
    target = Target(model="m", base_url=address, provider="stub", api_key_env="MY_KEY")
    key = {"MY_KEY": "k"}

    if is_sent:
        assert target.api_key(key) == "k"
    else:
        with pytest.raises(ConfigError, match="plain http"):
            target.api_key(key)
        assert target.api_key(key | {"WORKBENCH_ALLOW_HTTP_KEYS": "1"}) == "k"


def test_what_the_command_line_makes_is_for_its_user_alone(tmp_path: Path) -> None:
    """Stores, spools, exports and query results, whatever the usual mask allows."""
    store = making.small_store(tmp_path)
    made = tmp_path / "made"
    made.mkdir()
    before = os.umask(0o022)
    try:
        name = ["--store", str(made / "s.duckdb")]
        assert main(["import", str(store.path), *name]) == 0
        assert main(["sql", "FROM messages", "-o", str(made / "m.csv"), *name]) == 0
        assert main(["export", "all", "--folder", str(made / "out"), *name]) == 0
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)

    modes = {p.relative_to(made): stat.S_IMODE(p.stat().st_mode) for p in made.rglob("*")}
    assert len(modes) > 5
    assert not {str(path): oct(mode) for path, mode in modes.items() if mode & 0o077}


def test_a_spool_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    """Neither taken in nor written to."""
    store = making.small_store(tmp_path)
    store.spool_dir.mkdir(exist_ok=True)
    store.spool_dir.chmod(0o777)

    with pytest.raises(StoreError, match="every user of this machine can write"):
        open_store(store.path)
    with pytest.raises(StoreError, match="chmod go-w"):
        SpoolWriter(store.spool_dir, "r1")

    store.spool_dir.chmod(0o700)
    assert open_store(store.path).count() == store.count()


def test_a_name_that_begins_like_an_address_is_another_machine() -> None:
    """127.0.0.1.example.com is not measured here, as little as it is sent a key."""
    for host, here in (("127.0.0.1", True), ("[::1]", True), ("127.0.0.1.example.com", False)):
        target = Target(model="m", base_url=f"http://{host}:8000/v1")
        assert target.is_on_this_host is here
