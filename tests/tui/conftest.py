"""A small real store for the terminal app: two models, three strategies, one agent, one failure."""

from pathlib import Path

import pytest

from tests.support.tui_records import everything
from workbench.store import open_store
from workbench.tui.app import WorkbenchApp


@pytest.fixture(scope="session")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample as a store on disk; tests only read it."""
    path = tmp_path_factory.mktemp("tui") / "traces.duckdb"
    open_store(path, create=True).ingest(everything(), source="sample")
    return path


@pytest.fixture
def app(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkbenchApp:
    """The app on the sample store, without animations."""
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    return WorkbenchApp(store_path)
