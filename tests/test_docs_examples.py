"""The rows made by hand say so, are as they are described, and the examples on them give what is
worked out here."""

import functools
import hashlib
import itertools
import math
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from tests.support import ROOT
from workbench import analysis, datasets, schema
from workbench.cli import docs
from workbench.cli.analyze import ask
from workbench.cli.app import main
from workbench.slice import Slice

PAGES = ROOT / "notebooks" / "catalogue"
BY_HAND = [name for name in analysis.names() if analysis.get(name).by_hand is not None]
THINKER, TERSE, BF16, INT4 = (
    "made-up-thinker",
    "made-up-terse",
    "made-up-large BF16",
    "made-up-large INT4",
)
MEASURED_BY = "no energy was measured of these traces"
exactly = functools.partial(pytest.approx, rel=1e-9, abs=1e-12)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The sample traces, and the rows made by hand."""
    return docs.Stores(tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="module")
def answer(stores):
    """Run the example of a page; more options than it has may be given."""

    def run(name, **more):
        given = dict(analysis.get(name).by_hand) | more
        given.pop("worked", None)
        where, by = Slice.parse(given.pop("where", "")), given.pop("by", None)
        return ask(stores.by_hand, name, where=where, by=by, options=given)

    return run


def rows(table, key="configuration"):
    """Rows by their group, with fields as attributes."""
    return {row[key]: SimpleNamespace(**row) for row in table.iter_rows(named=True)}


# ---- the rows
# --------------------------------------------------------------------------------------


def test_files_are_small_and_as_the_readme_says():
    """Sizes and checksums in data/README.md are those of the files."""
    said = re.findall(
        r"`examples/(\w+\.parquet)` \| ([\d,]+) \| ([\d,]+) \| `([0-9a-f]{64})`",
        (datasets.data_dir() / "README.md").read_text(encoding="utf-8"),
    )
    files = datasets.by_hand_dir().glob("*.parquet")
    found = {
        (
            p.name,
            f"{pl.read_parquet(p).height:,}",
            f"{p.stat().st_size:,}",
            hashlib.sha256(p.read_bytes()).hexdigest(),
        )
        for p in files
    }

    assert set(said) == found
    assert sum(p.stat().st_size for p in datasets.by_hand_dir().glob("*.parquet")) < 100_000


def test_the_script_writes_the_same_rows(tmp_path):
    """Nobody touched the files by another hand."""
    runpy.run_path(str(datasets.by_hand_dir() / "make_by_hand.py"))["export"](tmp_path)

    written = {p.name: pl.read_parquet(p) for p in tmp_path.glob("*.parquet")}
    kept = {p.name: pl.read_parquet(p) for p in datasets.by_hand_dir().glob("*.parquet")}
    assert written.keys() == kept.keys()
    assert all(written[name].select(kept[name].columns).equals(kept[name]) for name in kept)
    later = {
        schema.TABLES[Path(name).stem][column].since
        for name in kept
        for column in set(written[name].columns) - set(kept[name].columns)
    }
    assert later <= {3, 4}, "the files lack no column that was there when they were written"


def test_rows_by_hand_say_so_and_are_not_among_the_samples(stores):
    """Every model is called made-up, every run, price and reading is by hand; the samples have none
    of them."""
    store = stores.by_hand
    models = store.sql("SELECT DISTINCT model FROM configurations")["model"]
    notes = [
        *store.sql("SELECT DISTINCT note FROM energy UNION SELECT DISTINCT note FROM prices")[
            "note"
        ],
        *store.sql("SELECT source FROM models UNION SELECT description FROM tasks")["source"],
    ]

    assert all(model.startswith("made-up-") for model in models)
    assert all("made by hand, not measured" in note for note in notes)
    assert set(store.sql("SELECT source FROM runs")["source"]) == {"by hand"}
    shared = stores.samples.sql("SELECT model FROM configurations WHERE model LIKE 'made-up%'")
    assert shared.is_empty()


def test_a_user_can_import_them_and_ask(tmp_path, capsys):
    """The two commands of a page work as they stand there."""
    store = str(tmp_path / "by-hand.duckdb")

    assert main(["import", str(datasets.by_hand_dir()), "--store", store]) == 0
    assert main(["analyze", "energy", "--store", store, "--g-per-kwh", "360"]) == 0
    assert "made-up-thinker" in capsys.readouterr().out
    assert main(["import", str(datasets.by_hand_dir()), "--store", store]) == 0
    assert main(["faults", "--store", store, "--format", "json"]) == 0
    assert '"rows": []' in capsys.readouterr().out


# ---- the pages
# -------------------------------------------------------------------------------------


def test_which_pages_use_them():
    """Those whose question the samples have nothing for."""
    assert set(BY_HAND) == {
        "energy",
        "energy-by-phase",
        "fleet-power",
        "idealized-runtime",
        "interval-forecasts",
        "price-reversal",
        "quantization",
        "spend",
        "steady-state",
        "token-production",
        "verifier-ceiling",
    }


@pytest.mark.parametrize("name", BY_HAND)
def test_a_page_says_that_its_rows_are_made_by_hand(name, stores):
    """It says so before the table, with both commands, and how its figures come about."""
    said = docs.page(analysis.get(name), stores).partition("## Example")[2]

    assert said.index("made by hand, not measured") < said.index("workbench import data/examples")
    assert f"workbench analyze {name} " in said
    assert said.index("--store by-hand.duckdb\n```") < said.index("|---|")
    worked = docs._plain(analysis.get(name).by_hand["worked"])
    assert worked in said
    for value in analysis.get(name).by_hand.values():
        assert isinstance(value, tuple) or str(value).replace("_", "\\_") in said.replace("`", "")


@pytest.mark.parametrize("name", analysis.names())
def test_no_page_shows_an_empty_example(name):
    """Every example has rows, and most of what its page (see test_cli_docs) shows of them is
    known."""
    table = (PAGES / f"{name}.md").read_text(encoding="utf-8").partition("## Example")[2]
    cells = [line.split("|")[2:-1] for line in table.splitlines() if line.startswith("| ")][1:]
    every = [cell.strip() for line in cells for cell in line]

    assert every
    assert every.count("—") < 0.45 * len(every)


def test_on_a_named_store_the_rows_by_hand_are_left_alone(stores, capsys):
    """The example is asked of the store that was named, and nothing is said of other rows."""
    assert main(["docs", "energy", "--store", str(stores.samples.path)]) == 0
    said = capsys.readouterr().out
    assert "by hand" not in said
    assert MEASURED_BY in said


# ---- the figures, by plain arithmetic
# --------------------------------------------------------------

# What is written for the six items, over the mean; of an item, the mean is 1.
SIZES = (0.5, 1, 1.5, 1, 1, 1)


def test_energy(answer):
    """A request has half of the watts above idle for as long as it takes."""
    found = rows(answer("energy").frame)

    # thinker: 2 s + 800 tokens / 100 per s = 10 s, of 200 W / 2
    assert found[THINKER].energy_j == exactly(100 * 10)
    assert found[BF16].energy_j == exactly(2 * 100 * (2 + 400 / 50))
    assert found[INT4].energy_j == exactly(100 * (2 + 400 / 100))
    assert found[THINKER].energy_per_token == exactly(1000 / 800)
    assert found[THINKER].power_w == exactly(100)
    # right: 4 + 4 + 4 + 3 + 3 + 2 of 24
    assert found[THINKER].rate == exactly(20 / 24)
    assert found[THINKER].energy_per_pass_j == exactly(1000 * 24 / 20)
    # 1,000 J are 1/3,600 kWh, of 360 g each
    assert found[THINKER].carbon_g == exactly(0.1)
    assert found[THINKER].carbon_per_pass_g == exactly(0.12)
    assert (found[TERSE].n_metered, found[TERSE].energy_j) == (0, None)
    # resamples draw six of the items' joules
    assert 100 * (2 + 4) < found[THINKER].energy_j_low < 1000 < found[THINKER].energy_j_high < 1400


def test_spend(answer):
    """A call is 1,000 tokens of input, 600 of thinking and 200 of answer, each at its price."""
    frame = answer("spend", by=("model",)).frame
    found = {(r["model"], r["part"]): r["cost_usd"] / r["n_calls"] for r in frame.to_dicts()}

    assert found == {
        (THINKER, "fresh input"): exactly(1000 * 1e-6),
        (THINKER, "thinking"): exactly(600 * 5e-6),
        (THINKER, "visible output"): exactly(200 * 5e-6),
        (TERSE, "fresh input"): exactly(1000 * 2e-6),
        (TERSE, "visible output"): exactly(200 * 10e-6),
    }


def test_energy_by_phase(answer):
    """A phase has the watts for its seconds, over its own tokens; devices are added up beside."""
    of = "made-up-thinker,made-up-terse,made-up-large"
    result = answer("energy-by-phase", where=f"model:{of}")
    found = {
        (r["configuration"], r["phase"], r["device"]): SimpleNamespace(**r)
        for r in result.frame.iter_rows(named=True)
    }
    prefill, thinking = (found[THINKER, p, "gpu0"] for p in ("prefill", "thinking"))

    assert prefill.energy_per_call_j == exactly(100 * 2)
    assert prefill.energy_per_token == exactly(100 * 2 / 1000)
    # even trials think 100 tokens less than 600, odd ones 100 more: the mean over items and trials
    # is 600
    assert thinking.energy_per_call_j == exactly(100 * 600 / 100)
    assert thinking.energy_per_token == exactly(100 / 100)
    assert found[THINKER, "answer", "gpu0"].energy_per_call_j == exactly(100 * 200 / 100)
    # of the 100 W that the GPU draws idle, each of two requests has half
    assert thinking.full_per_token == exactly((100 + 50) / 100)
    assert [found[THINKER, p, "gpu0"].share for p in ("prefill", "thinking", "answer")] == exactly(
        [0.2, 0.6, 0.2]
    )
    # 200 W over two requests at 50 tokens a second each, on each of two GPUs
    assert [found[BF16, "thinking", g].energy_per_token for g in ("gpu0", "gpu1")] == exactly(
        [2, 2]
    )
    together = result.more["together"].filter(configuration=BF16, phase="thinking")
    assert together.select("n_devices", "energy_per_token").row(0) == exactly((2, 4))
    guess = found[TERSE, None, "provider"]
    assert (guess.energy_per_token, guess.range_low, guess.range_high) == exactly((2, 1, 4))
    assert (guess.method, guess.full_per_token) == ("estimated", None)


def test_fleet_power(answer):
    """A thousand queries a second of a thousand joules each are a megawatt."""
    found = rows(answer("fleet-power").frame)

    assert 86_400_000 / (24 * 3600) == 1000
    assert [found[c].power_mw for c in (THINKER, BF16, INT4)] == exactly([1, 2, 0.6])
    assert found[THINKER].query_wh == exactly(1000 / 3600)
    assert found[THINKER].daily_gwh == exactly(0.024)
    assert found[THINKER].daily_cost_usd == exactly(24_000 * 0.1)
    assert [found[c].times_least for c in (INT4, THINKER, BF16)] == exactly([1, 1 / 0.6, 2 / 0.6])
    assert found[TERSE].power_mw is None


def test_steady_state(answer):
    """The window, its joules and its tokens; the interval is Student's with one degree of
    freedom."""
    result = answer("steady-state")
    found = rows(result.frame)
    windows = {
        (r["configuration"], r["run_id"]): r for r in result.more["windows"].iter_rows(named=True)
    }

    # Pairs of requests end together; the ninth of twelve is of the fifth pair.
    ends = list(itertools.accumulate(2 + 8 * size for size in SIZES))
    length = ends[4] - 2
    assert windows[THINKER, "by-hand-1"]["window_s"] == exactly(length)
    assert length == 48
    tokens = 2 * 800 * sum(SIZES[:5])
    assert tokens == 8000
    assert found[THINKER].energy_per_token == exactly(200 * length / tokens)
    assert found[THINKER].energy_per_token == exactly(1.2)
    assert found[THINKER].token_rate == exactly(tokens / length)
    assert (found[THINKER].power_w, found[THINKER].batch_size) == exactly((200, 2))
    assert windows[THINKER, "by-hand-1"]["energy_per_token"] == exactly(0.99 * 1.2)
    assert windows[THINKER, "by-hand-2"]["energy_per_token"] == exactly(1.01 * 1.2)
    # Of two values the standard error is half their distance; t at 0.975 with 1 degree is tan(0.475
    # π).
    half = math.tan(0.475 * math.pi) * 0.012
    assert (found[THINKER].energy_per_token_low, found[THINKER].energy_per_token_high) == exactly(
        (1.2 - half, 1.2 + half)
    )
    # INT4: 2 + 4 s each, five pairs to 30 s, 4,000 tokens
    assert found[INT4].energy_per_token == exactly(200 * 28 / 4000)
    assert found[BF16].energy_per_token == exactly(400 * 48 / 4000)
    # terse: 2 + 2 s each, five pairs to 20 s: 18 s are too short
    assert windows[TERSE, "by-hand-1"]["window_s"] == exactly(18)
    assert (found[TERSE].n_windows, found[TERSE].n_stable) == (2, 0)
    assert windows[TERSE, "by-hand-1"]["why"] == "shorter than 20 s"


def test_price_reversal(answer):
    """The cheapest by list has not the lowest bill, and would have it without thinking."""
    result = answer("price-reversal")
    groups = rows(result.more["groups"], "model")
    total = result.more["totals"].row(0, named=True)
    first = result.frame.row(0, named=True)

    # Per item and million: 1,000 prompt tokens and 800, 200 or 400 of output; six items.
    bills = {
        "thinker": 1000 * 1 + 800 * 5,
        "terse": 1000 * 2 + 200 * 10,
        "large": 1000 * 3 + 400 * 15,
    }
    assert bills == {"thinker": 5000, "terse": 4000, "large": 9000}
    for name, bill in bills.items():
        assert groups[f"made-up-{name}"].cost_usd == exactly(6 * bill / 1e6)
    assert groups[THINKER].list_usd_per_mtok == 6
    assert groups[THINKER].cost_without_thinking_usd == exactly(6 * (1000 + 200 * 5) / 1e6)
    assert (first["cheaper"], first["dearer"], first["reversed"]) == (THINKER, TERSE, True)
    assert (first["list_ratio"], first["cost_ratio"]) == exactly((12 / 6, 5 / 4))
    assert first["reversed_without_thinking"] is False
    # Of three pairs two agree: τ = (2 − 1) / 3.
    assert (total["n_pairs"], total["n_reversed"], total["kendall_tau"]) == exactly((3, 1, 1 / 3))
    assert total["kendall_tau_without_thinking"] == 1
    # Shapley: thinking, output price and input price are all that differ. The thinker's 600 tokens
    # more at the mean price of $7.5; 1,000 prompt tokens at $1 less; output price $5 less on the
    # mean of 800 and 200.
    parts = result.more["attribution"].filter(cheaper=THINKER, dearer=TERSE)
    effect = dict(parts.select("factor", "effect_usd").iter_rows())
    assert effect["thinking per call"] == exactly(6 * 600 * 7.5 / 1e6)
    assert effect["input price"] == exactly(-6 * 1000 * 1 / 1e6)
    assert effect["output price"] == exactly(-6 * 500 * 5 / 1e6)
    assert sum(effect.values()) == exactly(6 * 1000 / 1e6)
    # One item's trials think 500 and 700 tokens (times its size).
    spread = rows(result.more["repeats"], "model")
    assert spread[THINKER].widest_ratio == exactly(7 / 5)


def test_idealized_runtime(answer):
    """Half a second of prompt and 5 ms a token after the first, on two accelerators."""
    found = rows(answer("idealized-runtime").frame)

    for name, tokens, took in (
        (THINKER, 800, 10),
        (BF16, 400, 10),
        (INT4, 400, 6),
        (TERSE, 200, 4),
    ):
        runtime = 0.5 + (tokens - 1) * 0.005
        assert found[name].runtime_s == exactly(runtime)
        assert found[name].measured_s == exactly(took)
        assert found[name].excess_s == exactly(took - runtime)
        assert found[name].slowdown == exactly(took / runtime)
        assert found[name].runtime_cost_usd == exactly(runtime * 2 * 3.6 / 3600)
        assert found[name].runtime_energy_j == exactly(runtime * 2 * 300)


def test_interval_forecasts(answer):
    """Width, and for a miss by 10 the penalty of 2 / 0.2 times as much (Gneiting and Raftery 2007,
    eq. 43)."""
    found = rows(answer("interval-forecasts").frame)

    held = {BF16: 24, INT4: 20, THINKER: 20, TERSE: 16}
    for name, right in held.items():
        assert found[name].coverage == exactly(right / 24)
        assert found[name].interval_score == exactly(20 + 10 * (2 / 0.2) * (1 - right / 24))
        assert found[name].width == exactly(20)


def test_verifier_ceiling(answer):
    """All subsets of an item's four trials, one by one."""
    result = answer("verifier-ceiling")
    accepted = {row["k"]: row for row in result.frame.iter_rows(named=True)}

    # right; every second wrong one is accepted
    items = [["r" if t < n else "aw"[t % 2 == 0] for t in range(4)] for n in (4, 4, 4, 2, 2, 0)]
    assert sum(item.count("a") for item in items) == 4
    for k in (1, 2, 3, 4):
        orders = [
            [next((x for x in order[:k] if x != "w"), "") for order in itertools.permutations(item)]
            for item in items
        ]
        right, wrong = (
            sum(firsts.count(x) / len(firsts) for firsts in orders) / 6 for x in ("r", "a")
        )
        assert accepted[k]["accepted_rate"] == exactly(right)
        assert accepted[k]["value"] == exactly(right - wrong)
    assert accepted[1]["value"] == exactly(0.5)
    assert accepted[4]["accepted_rate"] == exactly((1 + 1 + 1 + 2 / 3 + 2 / 3 + 0) / 6)


def test_quantization(answer):
    """Four bits in place of sixteen: 600 J for 2,000, 6 s for 10, and 20 right for 24."""
    found = rows(answer("quantization").frame, "precision")

    assert (found["INT4"].energy_factor, found["INT4"].speedup) == exactly((0.3, 10 / 6))
    assert (found["INT4"].memory_factor, found["INT4"].recovered) == exactly((4 / 16, 20 / 24))
    assert (found["INT4"].tokens_factor, found["INT4"].cost_factor) == exactly((1, 1))


def test_token_production(answer):
    """800 kW over the joules of a token; parameters by two are FLOP."""
    found = rows(answer("token-production").frame)

    assert found[THINKER].token_rate == exactly(1e6 / 1.25 / (1000 / 800))
    assert found[BF16].token_rate == exactly(800_000 / 5)
    assert found[INT4].token_rate == exactly(800_000 / 1.5)
    assert found[THINKER].flops_per_token == exactly(2 * 8e9)
    assert found[THINKER].usd_per_mtok == exactly(1.25 * 1.25 * 1e6 / 3.6e6 * 0.1)
    assert found[THINKER].right_rate == exactly(640_000 / 800 * 20 / 24)


# ---- what the samples say instead
# ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("energy", MEASURED_BY),
        ("fleet-power", MEASURED_BY),
        ("steady-state", "no energy was measured"),
        ("energy-by-phase", "no energy of these calls is recorded"),
        ("price-reversal", "a price per machine-hour is none"),
        ("idealized-runtime", "give some of your own"),
    ],
)
def test_what_the_samples_do_not_have_is_said_with_what_next(stores, name, said):
    """A table of dashes, or none, comes with a note: why, and what to do."""
    notes = ask(stores.samples, name).notes

    assert any(said in note for note in notes)
    if "energy" in said:
        assert any("workbench doctor" in note for note in notes)
