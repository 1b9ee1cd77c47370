"""Reference rows: what ships agrees with itself, a user's own win, what is wrong is told."""

import hashlib
import json
import re
from pathlib import Path

import polars as pl
import pytest

from workbench import analysis, hardware
from workbench.cli import main
from workbench.datasets import data_dir
from workbench.errors import ConfigError
from workbench.store import open_store, reference

WHOLE = [m for m in hardware.bundled().models if m.d_ff]


@pytest.mark.parametrize("row", WHOLE, ids=[m.model for m in WHOLE])
def test_shapes_imply_the_parameters(row):
    """Layers, widths, heads and vocabulary multiply out to the parameters, embeddings once or
    twice."""
    d, heads = row.d_model, (row.n_heads + row.n_kv_heads) * row.head_width
    body = row.n_layers * (2 * d * heads + 3 * d * row.d_ff)
    embedding = d * row.vocab_size

    assert min(abs((body + k * embedding) / row.n_params - 1) for k in (1, 2)) < 0.002


def test_every_row_has_a_source():
    """A fact without a source is a rumour."""
    rows = hardware.bundled()
    for row in (*rows.models, *rows.accelerators, *rows.grids, *rows.latencies):
        assert row.source, row


@pytest.mark.parametrize(
    ("name", "intensity"), [("H100-SXM5-80GB", 295.2239), ("A100-SXM4-80GB", 153.02)]
)
def test_intensity_is_peak_over_bandwidth(name, intensity):
    """989e12 / 3.35e12 = 295.2239, as published for the H100."""
    assert hardware.bundled().accelerator(name).intensity == pytest.approx(intensity, abs=5e-3)


def test_what_is_not_known_has_no_intensity():
    """Null, not 0."""
    assert hardware.bundled().accelerator("Jetson-AGX-Orin-64GB").intensity is None


@pytest.mark.parametrize("name", ["Qwen/Qwen3-8B", "qwen3-8b", "any/prefix/QWEN3-8B"])
def test_a_model_is_found_with_or_without_its_maker(name):
    """Case and prefix do not matter; another name is unknown, not the nearest."""
    assert hardware.bundled().find_model(name).n_layers == 36
    assert hardware.bundled().find_model("qwen3-80b") is None


def test_rows_of_a_file_win_field_by_field(tmp_path):
    """A user's file corrects and adds; what it does not say stays; grids take their latest year."""
    mine = tmp_path / "mine.toml"
    mine.write_text(
        '[[model]]\nmodel = "qwen3-8b"\nn_params = 9_000_000_000\n'
        '[[model]]\nmodel = "own/thing"\nn_params = 5\n'
        '[[grid]]\ngrid = "USA"\nyear = 2030\ncarbon_g_per_kwh = 100\n'
        '[[grid]]\ngrid = "USA"\nyear = 1990\ncarbon_g_per_kwh = 900\n'
    )

    rows = hardware.in_force(mine)

    assert (rows.model("Qwen3-8B").n_params, rows.model("Qwen3-8B").n_layers) == (9_000_000_000, 36)
    assert rows.model("thing").active == 5
    assert rows.grid("usa").carbon_g_per_kwh == 100
    assert hardware.in_force().grid("USA").carbon_g_per_kwh == 369.473


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[model]]\nmodel = "x"\nlayers = 3', r"model 1 of .*layers"),
        ('[[model]]\nmodel = "x"\nn_params = "many"', r"model 1 of .*n_params"),
        ('[[model]]\nmodel = "x"\nn_params = -1', "n_params = -1 must be at least 0"),
        ('[[grid]]\ngrid = "x"\ncarbon_g_per_kwh = nan', "carbon_g_per_kwh = nan"),
        ("[[modle]]\nmodel = 1", r"unknown table 'modle'; known are \[\[model\]\]"),
        ("", "holds no row"),
        ("[[model", "cannot read"),
    ],
    ids=["field", "type", "negative", "nan", "table", "empty", "syntax"],
)
def test_a_wrong_file_is_told(tmp_path, text, says):
    """File, entry and field are in the message."""
    path = tmp_path / "wrong.toml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=says):
        hardware.read(path)
    with pytest.raises(ConfigError, match="cannot read"):
        hardware.read(tmp_path / "absent.toml")


def test_unknown_names_offer_near_ones():
    """A typing error is helped."""
    with pytest.raises(ConfigError, match="h100-sxm5-80gb"):
        hardware.bundled().accelerator("H100")
    with pytest.raises(ConfigError, match="usa"):
        hardware.bundled().grid("UAS")


def test_rows_of_a_store_are_in_force_inside_the_block(tmp_path):
    """Added, added again in place of themselves, read, and in force only where asked."""
    store = open_store(tmp_path / "traces.duckdb", create=True)
    own = hardware.of_rows(
        models=[{"model": "Gemma-3-270M", "n_params": 7}],
        accelerators=[{"accelerator": "mine", "tdp_w": 5.0}],
        grids=[{"grid": "here", "year": 2026, "carbon_g_per_kwh": 1.0, "colour": "red"}],
    )

    first = reference.add(store.lease(), own)
    reference.add(store.lease(), own)

    assert first == {"models": 1, "accelerators": 1, "grids": 1}
    assert store.sql("SELECT count(*) AS n FROM models")["n"][0] == 1
    with hardware.using(reference.rows(store.sql)):
        inside = hardware.in_force()
        assert inside.model("gemma-3-270m").n_params == 7
        assert inside.model("gemma-3-270m").head_dim == 256  # the store has no such column
        assert (inside.accelerator("mine").tdp_w, inside.grid("here").carbon_g_per_kwh) == (5, 1)
    assert hardware.in_force().model("gemma-3-270m").n_params == 268_098_176


def test_an_analysis_takes_the_grid_of_a_file(tmp_path):
    """Carbon by grid: a joule in the USA, and on a grid of the user's."""
    mine = tmp_path / "mine.toml"
    mine.write_text('[[grid]]\ngrid = "island"\ncarbon_g_per_kwh = 10\n')
    frame = pl.DataFrame({"configuration": "a", "item_id": "1", "energy_j": [3.6e6]})

    usa = analysis.energy(frame, grid="USA").frame["carbon_g"][0]
    island = analysis.energy(frame, grid="island", reference=str(mine)).frame["carbon_g"][0]

    assert (usa, island) == (pytest.approx(369.473), pytest.approx(10))


def test_files_are_as_the_readme_says():
    """Checksums and sizes in data/README.md are those of the files."""
    folder = data_dir() / "reference"
    said = re.findall(
        r"`reference/([\w.]+)`[^\n]*\| ([\d,]+) \| `([0-9a-f]{64})`",
        (data_dir() / "README.md").read_text(),
    )
    files: list[Path] = sorted(folder.iterdir())

    assert [p.name for p in files] == sorted(hardware.FILES)
    assert said == [
        (p.name, f"{p.stat().st_size:,}", hashlib.sha256(p.read_bytes()).hexdigest()) for p in files
    ]


def test_the_command_lists_and_adds(tmp_path, capsys):
    """Rows that ship, then those of the store; what has no table is said; an analysis finds the new
    ones."""
    store = tmp_path / "traces.duckdb"
    mine = tmp_path / "mine.toml"
    mine.write_text(
        '[[model]]\nmodel = "mine"\nn_params = 12\nd_ff = 3\n[[grid]]\ngrid = "here"\n'
        "carbon_g_per_kwh = 5\n"
        '[[latency]]\nlaw = "x"\na = 0\nb = 0\nc = 1\nm = 0\nn = 1\n'
    )

    assert main(["hardware", "add", str(mine), "--store", str(store)]) == 0
    said = capsys.readouterr().err
    assert main(["hardware", "--kind", "grids", "--store", str(store), "--format", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    question = ["analyze", "energy", "--grid", "here", "--store", str(store)]
    assert main(question) == 0
    assert main([*question[:3], "nowhere", "--store", str(store)]) == 1

    assert "1 models, 1 grids written" in said
    assert "no table" in said
    assert "head_dim, d_ff and vocab_size were not written" in said
    assert [row["grid"] for row in listed["rows"]][-1] == "here"
    assert "unknown grid: 'nowhere'" in capsys.readouterr().err
