"""Prefill-token equivalents and idealized runtimes."""

import duckdb
import numpy as np
import polars as pl
import polars.testing
import pytest

from tests.support.facts import DTYPES, SCHEMA
from workbench import analysis, charts
from workbench.analysis.families.compute import pte as module
from workbench.analysis.inputs import runtime_coefficients
from workbench.errors import AnalysisError
from workbench.schema import CALL_FACTS

CALLS = {c.name: DTYPES[c.type] for c in CALL_FACTS.columns}


def facts(*rows: dict, schema: dict = SCHEMA) -> pl.DataFrame:
    """Rows of a view; what a row leaves out is unknown."""
    return pl.DataFrame([dict.fromkeys(schema) | row for row in rows], schema=schema)


def trace(item: str, given: int | None, out: int | None, n_calls: int = 1, **more) -> dict:
    """One trace with its totals."""
    named = {
        "configuration": "a",
        "model": "a",
        "task": "t",
        "task_id": "t",
        "item": item,
        "item_id": item,
    }
    named |= {"trial": 0, "n_calls": n_calls, "input_tokens": given, "output_tokens": out}
    return named | {"passed": True} | more


def call(trace_id: str, given: int | None, out: int | None, role: str = "subject", **more) -> dict:
    """One call of a trace; every trace is an item of its own."""
    named = {
        "configuration": "a",
        "model": "a",
        "trace_id": trace_id,
        "item_id": trace_id,
        "role": role,
    }
    return (
        named
        | {"call_id": f"{trace_id}{given}", "input_tokens": given, "output_tokens": out}
        | more
    )


def row(result, group: str = "a") -> dict:
    """The row of a group."""
    (found,) = result.frame.filter(configuration=group).rows(named=True)
    return found


# --- pte ---


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((36, 4096, 8.19e9, 295), 0.01062259), ((80, 8192, 70e9, 989e12 / 3.35e12), 0.00552794)],
)
def test_gamma_of_two_shapes(shape, expected):
    """36 layers × 4096 of 8.19e9 at 295, and 80 × 8192 of 70e9 on an H100."""
    assert module.gamma(*shape) == pytest.approx(expected, abs=5e-9)


def test_gamma_from_bytes_and_operations():
    """Bytes of a cached token times HOI over operations of a prefill token; GQA and fp8 scale
    it."""
    layers, width, params, hoi = 36, 4096, 8.19e9, 295

    direct = hoi * (2 * layers * width * 2) / (2 * params)

    assert module.gamma(layers, width, params, hoi) == pytest.approx(direct)
    eighth = module.gamma(layers, width, params, hoi, kv_share=1 / 4, kv_bytes=1)
    assert eighth == pytest.approx(direct / 8)


def test_two_rounds_with_a_tool_by_calls():
    """1000 + .01·1300·300 = 4,900; 3300 + .01·3800·500 = 22,300; together 27,200."""
    frame = facts(call("x", 1000, 300), call("x", 3300, 500), schema=CALLS)

    found = row(analysis.pte(frame, gamma=0.01))

    assert found["pte"] == pytest.approx(27_200)
    assert (found["prefill_pte"], found["decode_pte"]) == pytest.approx((4300, 22_900))
    assert found["n_approximate"] == 0


def test_one_round_needs_no_calls():
    """A trace of one call: 4,900 from its totals."""
    found = row(analysis.pte(facts(trace("1", 1000, 300)), gamma=0.01))

    assert found["pte"] == pytest.approx(4900)
    assert found["n_approximate"] == 0


def test_totals_of_two_rounds_are_an_approximation_and_say_so():
    """4300 + .01 · 800 · 5100 / 2 = 24,700, a tenth below 27,200: counted and noted."""
    result = analysis.pte(facts(trace("1", 4300, 800, n_calls=2)), gamma=0.01)

    assert row(result)["pte"] == pytest.approx(24_700)
    assert row(result)["n_approximate"] == 1
    assert any("call_facts" in note for note in result.notes)
    alike = facts(call("x", 1000, 400), call("x", 3300, 400), schema=CALLS)
    assert row(analysis.pte(alike, gamma=0.01))["pte"] == pytest.approx(24_700)


@pytest.mark.parametrize(("length", "context"), [("end", 1300), ("mean", 1150), ("start", 1000)])
def test_where_the_context_is_read(length, context):
    """The end of the call by default; the mean adds half of the output, the start none."""
    found = row(analysis.pte(facts(trace("1", 1000, 300)), gamma=0.01, length=length))

    assert found["pte"] == pytest.approx(1000 + 0.01 * context * 300)


def test_a_kept_cache_costs_no_prefill():
    """800 of 1000 prompt tokens read: 200 remain; unknown reads are none."""
    frame = facts(trace("1", 1000, 0, cache_read_tokens=800), trace("2", 1000, 0))

    kept, lost = (row(analysis.pte(frame, keep_cache=k)) for k in (True, False))

    assert (kept["pte"], lost["pte"]) == (600, 1000)


def test_the_shape_can_be_given_and_is_told():
    """γ is in the notes; single options override the shape's."""
    frame = facts(trace("1", 0, 1000))

    default = analysis.pte(frame)
    halved = analysis.pte(frame, n_params=2 * 8.19e9)
    large = analysis.pte(frame, shape="70b", hoi=989e12 / 3.35e12)

    assert row(default)["pte"] == pytest.approx(0.01062259 * 1e6, rel=1e-6)
    assert row(halved)["pte"] == pytest.approx(row(default)["pte"] / 2)
    assert row(large)["pte"] == pytest.approx(5527.94, abs=5e-3)
    assert "γ = 0.0106226" in default.notes


def test_judges_are_no_part_and_an_unknown_call_leaves_the_trace_unknown():
    """What grades is not the subject's work; half a trace is none."""
    frame = facts(
        call("x", 100, 0),
        call("x", 900, 5, role="judge"),
        call("y", 100, 0),
        call("y", None, 7),
        schema=CALLS,
    )

    result = analysis.pte(frame)

    assert row(result)["pte"] == 100
    assert (row(result)["n"], row(result)["n_counted"]) == (2, 1)
    assert result.dropped == {"traces without input_tokens or output_tokens": 1}


def test_work_per_right_answer():
    """Half right: twice the work; none right: infinite; unscored count only in the mean."""
    frame = facts(
        trace("1", 100, 0, passed=True),
        trace("2", 300, 0, passed=False),
        trace("3", 800, 0, passed=None),
        *[trace(str(i), 50, 0, passed=False, configuration="b") for i in range(5)],
    )

    result = analysis.pte(frame)

    assert row(result)["pte"] == 400
    assert row(result)["pte_per_pass"] == 400
    assert row(result)["rate"] == 0.5
    assert row(result, "b")["pte_per_pass"] == np.inf
    assert row(result, "b")["pte_per_pass_low"] == pytest.approx(50 / (1 - 0.05 ** (1 / 5)))


def test_agreement_with_the_clock():
    """Time made of the work alone: r = 1 for PTE, less for tokens; numpy's own figure."""
    rng = np.random.default_rng(0)
    given, out = rng.integers(100, 9000, 60), rng.integers(10, 900, 60)
    work = given + 0.01 * (given + out) * out
    frame = facts(
        *[
            trace(str(i), int(p), int(o), e2e_s=float(w) / 1e5)
            for i, (p, o, w) in enumerate(zip(given, out, work, strict=True))
        ]
    )

    found = row(analysis.pte(frame, gamma=0.01))

    assert found["r_time"] == pytest.approx(1)
    assert found["r_time_tokens"] == pytest.approx(np.corrcoef(given + out, work)[0, 1])
    assert found["pte"] == pytest.approx(work.mean())


def test_pte_is_monotone_and_the_same_in_an_engine():
    """More output or γ is never less work; calls in DuckDB and in Polars agree."""
    rng = np.random.default_rng(1)
    frame = facts(
        *[
            call(f"x{i}", int(rng.integers(10, 999)), int(rng.integers(10, 99)), e2e_s=1.0)
            for i in range(20)
            for _ in range(3)
        ],
        schema=CALLS,
    )
    connection = duckdb.connect()
    connection.register("calls", frame.to_arrow())

    plain, engine = analysis.pte(frame), analysis.pte(connection.table("calls"))
    more = analysis.pte(frame.with_columns(pl.col("output_tokens") + 1))
    steeper = analysis.pte(frame, gamma=0.02)

    pl.testing.assert_frame_equal(plain.frame, engine.frame)
    assert row(plain)["pte"] < row(more)["pte"]
    assert row(plain)["pte"] < row(steeper)["pte"]


def test_pte_unknown_tokens_and_a_single_item():
    """No tokens: nulls and a count; one item: no interval."""
    result = analysis.pte(facts(trace("1", 10, 1), trace("1", None, 5, configuration="b")))

    assert row(result)["pte_low"] is None
    assert row(result, "b")["pte"] is row(result, "b")["pte_per_pass"] is None
    picture = charts.chart(result).to_dict()
    assert "not known" in str(picture["datasets"])


# --- idealized runtime ---


def on(model: str, given: int | None, out: int | None, item: str = "1", **more) -> dict:
    """One call to a deployment of the coefficients."""
    return trace(item, given, out, model=model, configuration=model) | more


@pytest.mark.parametrize(
    ("deployment", "given", "out", "seconds"),
    [
        ("openai/davinci", 512, 64, 5.281),
        ("openai/davinci", 500, 64, 5.276828125),
        ("ai21/j1-large", 512, 2, 0.071),
        ("openai/ada", 512, 1, 0.025),
        ("ai21/j1-jumbo", 512, 1, 0.164),
        ("microsoft/TNLGv2_530B", 512, 1, 0.49),
        ("gooseai/gpt-neo-20b", 512, 1, 0.114),
        ("huggingface/gptj_6b", 512, 1, 0.042),
        ("together/bloom", 512, 1, 0.191),
        ("together/opt-66b", 512, 2, 0.126 + 0.055),
        ("openai/davinci", 512, 0, 0.178),
        ("openai/davinci", 0, 3, 2 * 0.081),
        ("openai/davinci", 3840, 1, 2 * 0.597),
    ],
)
def test_idealized_runtimes_of_helm(deployment, given, out, seconds):
    """T(512) and t_out as released; scaled down within the grid and up beyond it."""
    result = analysis.idealized_runtime(facts(on(deployment, given, out)))

    assert row(result, deployment)["runtime_s"] == pytest.approx(seconds, abs=1e-12)


def test_the_discrepancy_of_a_logged_run():
    """J1-Large (512, 2): .5986398697 s measured, .071 idealized, .5276398697 of contention."""
    result = analysis.idealized_runtime(facts(on("ai21/j1-large", 512, 2, e2e_s=0.5986398697)))

    found = row(result, "ai21/j1-large")
    assert found["excess_s"] == pytest.approx(0.5276398697)
    assert found["measured_s"] == pytest.approx(0.5986398697)
    assert found["slowdown"] == pytest.approx(0.5986398697 / 0.071)


def test_dollars_and_joules_of_davinci():
    """(512, 64) on 8 A100 at $4.10 an hour and 400 W: $.0481158 and 16,899.2 J."""
    result = analysis.idealized_runtime(
        facts(on("openai/davinci", 512, 64)), accelerator_usd_per_hour=4.1, accelerator_w=400
    )

    found = row(result, "openai/davinci")
    assert found["runtime_cost_usd"] == pytest.approx(0.0481158, abs=5e-8)
    assert found["runtime_energy_j"] == pytest.approx(16_899.2)
    unknown = analysis.idealized_runtime(facts(on("together/bloom", 512, 64)), accelerator_w=400)
    assert row(unknown, "together/bloom")["runtime_energy_j"] is None
    given = analysis.idealized_runtime(
        facts(on("together/bloom", 512, 1)), accelerator_w=400, n_accelerators=8
    )
    assert row(given, "together/bloom")["runtime_energy_j"] == pytest.approx(0.191 * 3200)


def test_denoised_runtimes_have_an_overhead():
    """J1-Large, fitted on the service: .184 + 3 · .016 + .237."""
    result = analysis.idealized_runtime(facts(on("ai21/j1-large", 512, 4)), kind="denoised")

    assert row(result, "ai21/j1-large")["runtime_s"] == pytest.approx(0.184 + 3 * 0.016 + 0.237)


def by_hand(given: int, out: int, entry: dict) -> float:
    """The formula with plain Python: the least grid length that holds the prompt."""
    grid = {int(k): v for k, v in entry["prompt_s"].items()}
    fits = [k for k in grid if k >= given]
    k = min(fits) if fits else max(grid)
    prompt = grid[k] * given / k
    return prompt + max(out - 1, 0) * entry["per_output_token_s"] + entry.get("overhead_s", 0.0)


@pytest.mark.parametrize("kind", ["idealized", "denoised"])
def test_every_coefficient_agrees_with_plain_python(kind):
    """All deployments, prompts on and between and beyond the grid."""
    rows, expected = [], {}
    for name, entry in runtime_coefficients.deployments().items():
        if kind in entry:
            for j, given in enumerate((1, 7, 512, 513, 1500, 1919, 5000)):
                rows.append(on(name, given, 3 * j, str(j)))
                expected[name, str(j)] = by_hand(given, 3 * j, entry[kind])

    result = analysis.idealized_runtime(
        facts(*rows), by=("model", "item"), kind=kind, resamples=100
    )

    found = {(m, i): s for m, i, s in result.frame.select("model", "item", "runtime_s").iter_rows()}
    assert len(found) == 7 * (19 if kind == "idealized" else 18)
    assert found == pytest.approx(expected)


def test_own_coefficients_serve_any_model():
    """.1 s for 1,000 prompt tokens and .02 s a token: (500, 11) takes .25 s; a deployment by name
    too."""
    frame = facts(on("mine", 500, 11))
    own = analysis.idealized_runtime(
        frame, prompt_s=0.1, prompt_tokens=1000, per_output_token_s=0.02
    )
    borrowed = analysis.idealized_runtime(frame, deployment="openai/davinci")

    assert row(own, "mine")["runtime_s"] == pytest.approx(0.05 + 10 * 0.02)
    assert row(borrowed, "mine")["runtime_s"] == pytest.approx(
        by_hand(500, 11, runtime_coefficients.deployments()["openai/davinci"]["idealized"])
    )
    with pytest.raises(AnalysisError, match="openai/davinci"):
        analysis.idealized_runtime(frame, deployment="openai/davincy")
    with pytest.raises(AnalysisError, match="per_output_token_s"):
        analysis.idealized_runtime(frame, prompt_s=0.1)


def test_a_model_without_coefficients_is_unknown_not_zero():
    """Null, counted and noted; a bare name finds its deployment."""
    frame = facts(on("gpt-9", 10, 10), on("davinci", 512, 64))

    result = analysis.idealized_runtime(frame)

    assert row(result, "gpt-9")["runtime_s"] is None
    assert row(result, "davinci")["runtime_s"] == pytest.approx(5.281)
    assert result.dropped == {"traces without coefficients or token counts": 1}
    assert "gpt-9" in result.notes[0]


def test_several_calls_need_calls():
    """Totals of two calls have no runtime; the calls' own add up."""
    totals = analysis.idealized_runtime(facts(on("openai/davinci", 1024, 4, n_calls=2)))
    parts = [call("x", 512, 2, model="openai/davinci"), call("x", 511, 2, model="openai/davinci")]
    exact = analysis.idealized_runtime(facts(*parts, schema=CALLS))

    assert row(totals, "openai/davinci")["runtime_s"] is None
    assert any("call_facts" in note for note in totals.notes)
    expected = 0.178 + 0.081 + 0.178 * 511 / 512 + 0.081
    assert row(exact)["runtime_s"] == pytest.approx(expected)


def test_runtimes_have_intervals_and_a_chart(tmp_path):
    """The mean of items with its ends, that of the measured time beside it."""
    rng = np.random.default_rng(4)
    frame = facts(
        *[
            on(
                "openai/davinci",
                int(rng.integers(10, 1900)),
                int(rng.integers(1, 99)),
                str(i),
                e2e_s=9.0,
            )
            for i in range(40)
        ]
    )

    result = analysis.idealized_runtime(frame)

    found = row(result, "openai/davinci")
    assert found["runtime_s_low"] < found["runtime_s"] < found["runtime_s_high"]
    picture = charts.save(charts.chart(result), tmp_path / "c.svg").read_text()
    assert "Runtime (s)" in picture
    assert "Measured (s)" in picture
