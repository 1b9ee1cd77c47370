"""Real tables of other projects, with the mappings that ship and small ones of a user."""

import math
from collections import defaultdict
from pathlib import Path

import pytest

from workbench import sources
from workbench.records import Configuration, Item, Price, Result, Run, Trace
from workbench.sources import FileReport


def load(path: Path, mapping: Path | None = None) -> tuple[list, FileReport]:
    report = FileReport(path)
    return list(sources.read(path, report=report, mapping=mapping)), report


def of(records: list, kind: type) -> list:
    return [r for r in records if isinstance(r, kind)]


@pytest.fixture(scope="module")
def reversal(shared_data: Path) -> dict[Path, tuple[list, FileReport]]:
    """Every importable file of the pricing-reversal folder, read once."""
    found = sources.detect_files(shared_data / "pricing_reversal")
    return {file.path: load(file.path) for file in found if file.source}


def test_a_folder_is_imported_as_far_as_it_can_be(shared_data: Path, reversal: dict) -> None:
    """Eight scored files, fifteen repeats, one price sheet; the rest has a reason."""
    formats = defaultdict(int)
    for _, report in reversal.values():
        formats[report.format] += 1
    left = [
        file.path
        for file in sources.detect_files(shared_data / "pricing_reversal")
        if not file.source
    ]

    assert formats == {
        "table:pricing_reversal": 8,
        "table:pricing_reversal_repeated": 15,
        "table:pricing_reversal_prices": 1,
    }
    assert [path.name for path in left] == ["experiment_config.json"]
    assert "no known format" in sources.why_not(left[0])
    assert "--mapping" in sources.why_not(left[0])


def test_every_scored_file_adds_up_to_its_own_totals(reversal: dict) -> None:
    """To the cent and the token."""
    scored = [r for _, r in reversal.values() if r.format == "table:pricing_reversal"]

    for report in scored:
        totals = {t.name: t for t in report.totals}
        assert set(totals) == {
            "performance",
            "cost",
            "prompt_tokens",
            "completion_tokens",
            "counts",
        }
        assert totals["prompt_tokens"].stated == totals["prompt_tokens"].computed
        assert totals["completion_tokens"].stated == totals["completion_tokens"].computed
        assert math.isclose(totals["cost"].stated, totals["cost"].computed, abs_tol=0.005)
        assert report.adds_up
        assert report.is_accounted_for
        assert report.rows_out == 60


def test_the_price_sheet_prices_every_billed_row(reversal: dict) -> None:
    """Prompt × in + completion × out is what each row was billed."""
    prices: dict[str, Price] = {}
    for records, _ in reversal.values():
        prices |= {p.model: p for p in of(records, Price)}
    n = 0
    for records, report in reversal.values():
        if report.format != "table:pricing_reversal":
            continue
        [configuration] = of(records, Configuration)
        price = prices[configuration.model]
        for trace in of(records, Trace):
            [call] = trace.calls
            cost = call.input_tokens * price.input_usd_per_mtok
            cost = (cost + call.output_tokens * price.output_usd_per_mtok) / 1e6
            assert cost == pytest.approx(call.billed_cost_usd, abs=1e-9)
            n += 1
    assert n == 480
    assert {p.provider for p in prices.values()} == {None}


def test_repeats_are_trials_of_the_same_items_and_configurations(reversal: dict) -> None:
    """Trial 0 is the scored run; 1 to 5 have no score; two rows stand there twice."""
    trials = defaultdict(set)
    unscored = duplicates = 0
    for records, report in reversal.values():
        duplicates += report.duplicates.n
        assert report.is_accounted_for
        for trace in of(records, Trace):
            trials[trace.configuration_id, trace.item_id].add(trace.trial)
            unscored += trace.score is None

    repeated = [t for t in trials.values() if len(t) > 1]
    assert len(trials) == 8 * 60
    assert len(repeated) == 3 * 60
    assert all(t == {0, 1, 2, 3, 4, 5} for t in repeated)
    assert unscored == 15 * 60
    assert duplicates == 2


def test_a_bill_of_zero_is_unknown(reversal: dict) -> None:
    """Rows of 40,000 tokens that cost nothing were never billed."""
    for records, _ in reversal.values():
        for trace in of(records, Trace):
            assert trace.calls[0].billed_cost_usd != 0


def test_aider_leaderboard(shared_data: Path) -> None:
    """17 zero costs and one missing one are unknown; a name that stands twice is kept apart."""
    records, report = load(shared_data / "aider" / "polyglot_leaderboard.yml")

    costs = [r for r in of(records, Result) if r.metric == "total_cost_usd"]
    names = {c.configuration_id: c for c in of(records, Configuration)}
    o3 = next(i for i, c in names.items() if c.model == "o3 (high)")
    figures = {r.metric: r.value for r in of(records, Result) if r.configuration_id == o3}
    assert (report.rows_in, report.rows_out, len(names), len(costs)) == (69, 69, 69, 69)
    assert sum(r.value is None for r in costs) == 17 + 1
    assert figures["pass_rate_2"] == pytest.approx(0.813)
    assert figures["total_cost_usd"] == pytest.approx(21.2259)
    twice = [c for c in names.values() if c.model == "Qwen2.5-Coder-32B-Instruct"]
    assert {c.configuration for c in twice} == {f"{twice[0].model} whole", f"{twice[0].model} diff"}
    assert {r.unit for r in of(records, Result)} == {"0..1", "USD", "s", "tokens"}


@pytest.mark.parametrize(("name", "rows", "unknown"), [("edit", 98, 67 + 1), ("refactor", 14, 2)])
def test_the_older_aider_leaderboards(
    shared_data: Path, name: str, rows: int, unknown: int
) -> None:
    """The same mapping, though they lack columns."""
    records, report = load(shared_data / "aider" / f"{name}_leaderboard.yml")

    costs = [r for r in of(records, Result) if r.metric == "total_cost_usd"]
    assert report.rows_out == rows
    assert sum(r.value is None for r in costs) == unknown


def test_ml_energy(shared_data: Path) -> None:
    """J per request is J per token × mean output; one configuration was measured twice."""
    records, report = load(shared_data / "ml_energy" / "gpqa.json")

    rows: dict[tuple, dict[str, float]] = defaultdict(dict)
    for r in of(records, Result):
        rows[r.configuration_id, r.metadata][r.metric] = r.value
    assert (report.rows_out, len(rows)) == (187, 187)
    assert len({r.result_id for r in of(records, Result)}) == 187 * 9
    for row in rows.values():
        joules = row["energy_per_token_j"] * row["mean_output_tokens"]
        assert joules == pytest.approx(row["energy_per_request_j"])


def test_routellm_csv_of_multi_line_cells(shared_data: Path, tmp_path: Path) -> None:
    """A user's mapping per model; 1130 and 842 of 1319 are right."""
    right = {}
    for model in ("gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"):
        mapping = tmp_path / "mine.toml"
        mapping.write_text(
            f'[constants]\ntask = "gsm8k"\nmodel = "{model}"\n[columns]\nitem = "@row"\n'
            f'input = "prompt"\npassed = "{model}"\noutput = "{model}_response"\n'
        )
        traces = of(load(shared_data / "routellm" / "gsm8k_responses.csv", mapping)[0], Trace)
        right[model] = (sum(t.passed for t in traces), len(traces))

    assert list(right.values()) == [(1130, 1319), (842, 1319)]


def test_gsm8k_lines_with_objects_inside(shared_data: Path, tmp_path: Path) -> None:
    """A dot goes into an object."""
    mapping = tmp_path / "mine.toml"
    right = []
    for system in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
        mapping.write_text(
            f'[constants]\ntask = "gsm8k"\nmodel = "{system}"\n[columns]\nitem = "@row"\n'
            f'passed = "{system}.is_correct"\n'
        )
        records, _ = load(shared_data / "gsm8k" / "example_model_solutions.jsonl", mapping)
        right.append(sum(t.passed for t in of(records, Trace)))

    assert right == [286, 515, 458, 742]


def test_the_same_items_get_the_same_ids_in_every_file(reversal: dict) -> None:
    """So that configurations can be paired."""
    items = {
        frozenset(i.item_id for i in of(records, Item))
        for records, report in reversal.values()
        if report.format.startswith("table:pricing_reversal") and of(records, Run)
    }

    assert len(items) == 1
