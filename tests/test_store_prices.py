"""Cost: dated rows, tiers, sheets of the user's, machine hours; checked against genai-prices."""

import datetime as dt
import random
from pathlib import Path

import pytest

from tests import making
from workbench.errors import ConfigError
from workbench.prices import PriceBook, cost, read_sheet, rows_for
from workbench.records import Call, Configuration, Price
from workbench.store import Store, open_store

MODELS = (
    ("openai", "gpt-5"), ("openai", "o3"), ("anthropic", "claude-sonnet-4-5"), ("google", "gemini-2.5-pro"),
    ("deepseek", "deepseek-chat"), ("openai", "gpt-4o-2024-08-06"), ("local", "my-own-model"),
)  # fmt: skip
SHEET = (
    Price(model="gpt-5", sheet="mine.toml", input_usd_per_mtok=9.0, output_usd_per_mtok=90.0,
          starts_at=dt.datetime(2026, 3, 1, tzinfo=dt.UTC), ends_at=dt.datetime(2026, 6, 1, tzinfo=dt.UTC)),
    Price(model="my-own-model", sheet="mine.toml", input_usd_per_mtok=1.0, output_usd_per_mtok=2.0, request_usd=0.001),
    Price(model="rack-1", sheet="mine.toml", machine_usd_per_hour=3.6),
)  # fmt: skip


def _calls(n: int, seed: int = 1) -> list[Call]:
    rng = random.Random(seed)
    calls = []
    for ordinal in range(n):
        provider, model = rng.choice(MODELS)
        tokens = rng.choice([0, 50, 4_000, 199_999, 200_000, 200_001, 900_000])
        read, short, long = (rng.randint(0, tokens // 4) for _ in range(3))
        output = rng.randint(0, 5_000)
        machine = "rack-1" if rng.random() < 0.1 else None
        calls.append(
            Call(
                ordinal=ordinal, provider=provider, model=model, input_tokens=tokens, output_tokens=output,
                cache_read_tokens=read, cache_write_5m_tokens=short, cache_write_1h_tokens=long,
                reasoning_tokens=rng.randint(0, output), machine=machine, machine_s=rng.random(),
                started_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=rng.randint(0, 400_000)),
            )
        )  # fmt: skip
    return calls


def _store(folder: Path, calls: list[Call]) -> Store:
    store = open_store(folder / "s.duckdb", create=True)
    configuration = Configuration(model="many")
    trace = making.trace(configuration, making.ITEMS[0], calls=tuple(calls))
    store.ingest([making.run(), configuration, trace])
    return store


def _costs(store: Store) -> list[float | None]:
    return store.sql("SELECT cost_usd FROM call_facts ORDER BY ordinal")["cost_usd"].to_list()


@pytest.mark.parametrize("sheet", [(), SHEET], ids=["bundled", "own-sheet"])
def test_the_view_and_the_price_book_agree_on_every_call(
    tmp_path: Path, sheet: tuple[Price, ...]
) -> None:
    """Two derivations of 600 costs over dates, hours, tiers and machines are one."""
    calls = _calls(600)
    store = _store(tmp_path, calls)
    if sheet:
        store.add_prices(sheet)
    book = PriceBook(sheet)

    expected = [book.cost(call) for call in calls]

    assert any(c is None for c in expected) or sheet
    for found, wanted in zip(_costs(store), expected, strict=True):
        assert found == (None if wanted is None else pytest.approx(wanted, rel=1e-12))


def test_costs_equal_what_genai_prices_says() -> None:
    """The flattened rows price as the library itself, at every size, date and hour."""
    from genai_prices import Usage, calc_price

    for call in _calls(300, seed=2):
        row = PriceBook().row(call)
        if row is None:
            with pytest.raises(LookupError):
                calc_price(Usage(input_tokens=1), call.model or "", provider_id=call.provider)
            continue
        usage = Usage(
            input_tokens=call.input_tokens,
            output_tokens=call.output_tokens,
            cache_read_tokens=call.cache_read_tokens,
            cache_write_tokens=(call.cache_write_5m_tokens or 0)
            + (call.cache_write_1h_tokens or 0),
            cache_write_5m_tokens=call.cache_write_5m_tokens,
            cache_write_1h_tokens=call.cache_write_1h_tokens,
            output_reasoning_tokens=call.reasoning_tokens,
        )
        theirs = calc_price(
            usage,
            call.model or "",
            provider_id=call.provider,
            genai_request_timestamp=call.started_at,
        )
        assert cost(call, row) == pytest.approx(float(theirs.total_price), rel=1e-9), (call, row)


def test_a_price_that_rises_later_leaves_earlier_calls_alone(tmp_path: Path) -> None:
    """Each call pays the price of its own day."""
    day = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
    prices = [
        Price(model="m", sheet="s", input_usd_per_mtok=1.0, output_usd_per_mtok=1.0),
        Price(model="m", sheet="s", input_usd_per_mtok=2.0, output_usd_per_mtok=2.0, starts_at=day),
    ]
    calls = [
        Call(
            ordinal=n,
            model="m",
            input_tokens=10**6,
            output_tokens=0,
            started_at=day + dt.timedelta(days=shift),
        )
        for n, shift in enumerate((-1, 0, 1))
    ]
    store = _store(tmp_path, calls)
    assert _costs(store) == [None, None, None]

    new, moved = store.add_prices(prices)

    assert (new, moved) == (2, 1)
    assert _costs(store) == [1.0, 2.0, 2.0]
    assert store.sql("SELECT cost_usd FROM traces")["cost_usd"][0] == 5.0
    assert store.add_prices(prices) == (0, 0)


def test_an_imported_price_sheet_prices_what_was_there_before(tmp_path: Path) -> None:
    """The order in which calls and prices arrive does not matter."""
    call = Call(model="m", input_tokens=10**6, output_tokens=0)
    store = _store(tmp_path, [call])
    store.ingest(
        [Price(model="m", sheet="imported", input_usd_per_mtok=3.0, output_usd_per_mtok=1.0)]
    )
    assert _costs(store) == [3.0]


def test_a_call_without_a_time_takes_its_traces_or_its_runs(tmp_path: Path) -> None:
    """An undated call is priced as of the run; without any time a dated price is unknown."""
    later = making.START - dt.timedelta(days=1)
    prices = [
        Price(
            model="m", sheet="s", input_usd_per_mtok=1.0, output_usd_per_mtok=1.0, starts_at=later
        )
    ]
    call = Call(model="m", input_tokens=10**6, output_tokens=0)
    store = open_store(tmp_path / "s.duckdb", create=True)
    undated = making.run("undated")
    timeless = type(undated)(run_id="timeless", kind="import", source="test")
    for run in (undated, timeless):
        trace = making.trace(
            making.COT, making.ITEMS[0], run_id=run.run_id, started_at=None, calls=(call,)
        )
        store.ingest([run, making.COT, trace])
    store.add_prices(prices)
    found = dict(store.sql("SELECT run_id, cost_usd FROM traces").iter_rows())
    assert found == {"undated": 1.0, "timeless": None}


def test_an_unknown_model_is_unpriced_not_free(tmp_path: Path) -> None:
    """No price, no tokens or half the tokens: no cost."""
    assert rows_for("local", "nobody-knows-this") == ()
    calls = [
        Call(
            ordinal=0, provider="local", model="nobody-knows-this", input_tokens=1, output_tokens=1
        ),
        Call(ordinal=1, provider="openai", model="gpt-5", input_tokens=1),
        Call(
            ordinal=2,
            provider="openai",
            model="gpt-5",
            input_tokens=0,
            output_tokens=0,
            started_at=making.START,
        ),
    ]
    assert _costs(_store(tmp_path, calls)) == [None, None, 0.0]


def test_the_linter_finds_each_kind_of_contradiction(tmp_path: Path) -> None:
    """One call per rule, and a sound one that breaks none."""
    sound = {
        "provider": "openai",
        "model": "gpt-5",
        "input_tokens": 100,
        "output_tokens": 50,
        "started_at": making.START,
    }
    broken = {
        "negative_count": {"output_tokens": -1},
        "cached_over_input": {"cache_read_tokens": 101},
        "thinking_over_output": {"reasoning_tokens": 51},
        "total_differs": {"total_tokens": 149},
        "half_reported": {"output_tokens": None},
        "no_output_but_text": {"output_tokens": 0, "n_chunks": 3},
        "times_out_of_order": {"ttft_s": 2.0, "e2e_s": 1.0},
        "billed_differs": {"billed_cost_usd": 0.5},
    }
    calls = [Call(ordinal=n, **(sound | change)) for n, change in enumerate(broken.values())]
    calls.append(
        Call(ordinal=99, **sound, total_tokens=150, reasoning_tokens=50, cache_read_tokens=100)
    )
    store = _store(tmp_path, calls)
    faults = store.sql(
        "SELECT c.ordinal, u.fault, u.detail FROM usage_faults u JOIN calls c USING (call_id) ORDER BY 1"
    )
    assert faults["fault"].to_list() == list(broken)
    assert faults["detail"].null_count() == 0
    assert store.overview().n_faults == len(broken)


def test_price_sheets_are_read_from_toml_and_csv(tmp_path: Path) -> None:
    """Both forms give the same rows."""
    toml = tmp_path / "sheet.toml"
    toml.write_text(
        '[[price]]\nmodel = "m"\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 2.5\nstarts_at = 2026-01-01\n'
    )
    table = tmp_path / "sheet.csv"
    table.write_text(
        "model,input_usd_per_mtok,output_usd_per_mtok,starts_at,provider\nm,1,2.5,2026-01-01,\n"
    )
    a, b = read_sheet(toml)[0], read_sheet(table)[0]
    assert (a.input_usd_per_mtok, a.output_usd_per_mtok, a.provider) == (1.0, 2.5, None)
    assert a.starts_at == b.starts_at == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[price]]\nmodle = 'm'", "did you mean model"),
        ("[[price]]\ninput_usd_per_mtok = 1", "names no model"),
        ("[[price]]\nmodel = 'm'", "holds no price"),
        ("[[price]]\nmodel = 'm'\ninput_usd_per_mtok = -1", "at least 0"),
        ("[[price]]\nmodel = 'm'\ninput_usd_per_mtok = nan", "finite"),
        ("[[price]]\nmodel = 'm'\ninput_usd_per_mtok = 1\nstarts_at = 'soon'", "not understood"),
        ("", "no .*price"),
        ("[[price", "cannot read"),
    ],
)
def test_a_wrong_price_sheet_is_refused_with_the_place(
    tmp_path: Path, text: str, message: str
) -> None:
    """The file, the entry and the field are named."""
    path = tmp_path / "sheet.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_sheet(path)
    assert "sheet.toml" in str(caught.value)
