"""Cost: dated rows, tiers, sheets of the user's, machine hours; checked against genai-prices."""

import datetime as dt
import random
from pathlib import Path

import duckdb
import msgspec
import pytest

from tests.support import making
from workbench.errors import ConfigError
from workbench.prices import PriceBook, cost, read_sheet, rows_for
from workbench.records import Call, Configuration, Price, as_dict
from workbench.store import Store, open_store
from workbench.store.checks import checks
from workbench.tokens import MEDIA, contradiction

MODELS = (
    ("openai", "gpt-5"),
    ("openai", "o3"),
    ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-2.5-pro"),
    ("deepseek", "deepseek-chat"),
    ("openai", "gpt-4o-2024-08-06"),
    ("local", "my-own-model"),
    ("openai", "gpt-realtime"),
    ("google", "gemini-2.5-flash"),
    ("google", "gemini-2.5-flash-image"),
)
SHEET = (
    Price(
        model="gpt-5",
        sheet="mine.toml",
        input_usd_per_mtok=9.0,
        output_usd_per_mtok=90.0,
        starts_at=dt.datetime(2026, 3, 1, tzinfo=dt.UTC),
        ends_at=dt.datetime(2026, 6, 1, tzinfo=dt.UTC),
    ),
    Price(
        model="my-own-model",
        sheet="mine.toml",
        input_usd_per_mtok=1.0,
        output_usd_per_mtok=2.0,
        request_usd=0.001,
    ),
    Price(model="rack-1", sheet="mine.toml", machine_usd_per_hour=3.6),
    Price(
        model="gemini-2.5-flash-image",
        sheet="mine.toml",
        input_usd_per_mtok=1.0,
        output_usd_per_mtok=2.0,
        input_image_usd_per_mtok=5.0,
        output_image_usd_per_mtok=50.0,
        cache_read_image_usd_per_mtok=0.5,
    ),
)


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
                ordinal=ordinal,
                provider=provider,
                model=model,
                input_tokens=tokens,
                output_tokens=output,
                cache_read_tokens=read,
                cache_write_5m_tokens=short,
                cache_write_1h_tokens=long,
                reasoning_tokens=rng.randint(0, output),
                machine=machine,
                machine_s=rng.random(),
                started_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
                + dt.timedelta(minutes=rng.randint(0, 400_000)),
            )
        )
    return calls


def _media_calls(n: int, seed: int = 3) -> list[Call]:
    """Calls with audio, images and video in them; some contradict themselves, some do not say what
    was cached."""
    rng = random.Random(seed)
    calls = []
    for call in _calls(n, seed):
        given, made = (call.input_tokens or 0) // 4, (call.output_tokens or 0) // 4
        media = {
            f"input_{kind}_tokens": rng.randint(0, given) for kind in MEDIA if rng.random() < 0.5
        }
        for name in list(media):
            if rng.random() < 0.7:
                cached = min(media[name], (call.cache_read_tokens or 0) // 3)
                media[name.replace("input", "cache_read")] = rng.randint(0, cached)
        if rng.random() < 0.5:
            media["reasoning_tokens"] = (call.reasoning_tokens or 0) // 2
            kind = rng.choice(MEDIA)
            media[f"output_{kind}_tokens"] = rng.randint(0, made) - (rng.random() < 0.05)
        calls.append(msgspec.structs.replace(call, **media))
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
    calls = _calls(300) + [
        msgspec.structs.replace(c, ordinal=300 + c.ordinal) for c in _media_calls(300)
    ]
    store = _store(tmp_path, calls)
    if sheet:
        store.add_prices(sheet)
    book = PriceBook(sheet)

    expected = [book.cost(call) for call in calls]

    assert any(c is None for c in expected) or sheet
    for found, wanted in zip(_costs(store), expected, strict=True):
        assert found == (None if wanted is None else pytest.approx(wanted, rel=1e-12))


def test_the_sum_of_many_prompts_is_no_long_prompt(tmp_path: Path) -> None:
    """Twenty prompts of 15,000 tokens are not priced as one of 300,000; what is said of none counts
    as one."""
    sheet = (
        Price(model="m", sheet="s", input_usd_per_mtok=1.0, output_usd_per_mtok=1.0),
        Price(
            model="m",
            sheet="s",
            min_input_tokens=200_000,
            input_usd_per_mtok=2.0,
            output_usd_per_mtok=2.0,
        ),
    )
    calls = [
        Call(ordinal=i, model="m", input_tokens=300_000, output_tokens=0, n_requests=n)
        for i, n in enumerate((1, 20, None, 0))
    ]
    store = _store(tmp_path, calls)
    store.add_prices(sheet)

    found = [PriceBook(sheet).cost(call) for call in calls]

    assert found == _costs(store) == pytest.approx([0.6, 0.3, 0.6, 0.6])


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
        "media_over_whole": {"input_audio_tokens": 60, "input_image_tokens": 50},
        "media_unpriced": {"input_audio_tokens": 60},
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
        "SELECT c.ordinal, u.fault, u.detail FROM usage_faults u JOIN calls c USING (call_id)"
        " ORDER BY 1"
    )
    assert faults["fault"].to_list() == list(broken)
    assert faults["detail"].null_count() == 0
    assert store.overview().n_faults == len(broken)


@pytest.mark.parametrize(
    "counts",
    [
        {"cache_read_tokens": 101},
        {"cache_write_5m_tokens": 60, "cache_write_1h_tokens": 41},
        {"reasoning_tokens": 51},
        {"output_tokens": -1},
        {"cache_read_tokens": -1},
        {"input_image_tokens": 101},
        {"cache_read_tokens": 5, "input_audio_tokens": 9, "cache_read_audio_tokens": 6},
    ],
    ids=str,
)
def test_counts_that_contradict_themselves_have_no_cost(
    tmp_path: Path, counts: dict[str, int]
) -> None:
    """Neither the call, nor its trace, nor the runner's book; a sound call beside it has one."""
    usual = {"provider": "openai", "model": "gpt-5", "input_tokens": 100, "output_tokens": 50}
    sound = Call(**usual, started_at=making.START)
    broken = Call(ordinal=1, **(usual | counts), started_at=making.START)
    store = _store(tmp_path, [sound, broken])

    assert contradiction(as_dict(broken))
    assert PriceBook().cost(broken) is None
    assert _costs(store) == [pytest.approx(0.000625), None]
    assert store.sql("SELECT cost_usd FROM traces")["cost_usd"].to_list() == [None]
    assert store.sql("SELECT reasoning_cost_usd FROM call_facts")["reasoning_cost_usd"][1] is None
    assert store.overview().n_faults >= 1


def test_sound_audio_images_and_video_have_their_own_prices() -> None:
    """By hand, a realtime call: text, audio and an image in, some of it cached, text and audio
    out."""
    call = Call(
        provider="openai",
        model="gpt-realtime",
        started_at=making.START,
        input_tokens=1000,
        cache_read_tokens=300,
        cache_read_audio_tokens=100,
        cache_read_image_tokens=50,
        input_audio_tokens=400,
        input_image_tokens=150,
        output_tokens=200,
        output_audio_tokens=120,
    )
    fresh = 300 * 32 + 100 * 5 + 300 * 4  # audio, image, text
    cached = 100 * 0.4 + 50 * 0.5 + 150 * 0.4

    assert PriceBook().cost(call) == pytest.approx((fresh + cached + 120 * 64 + 80 * 16) / 1e6)


def test_media_without_a_price_of_their_own_make_the_cost_unknown() -> None:
    """Audio always; images where the user's own sheet says nothing of them; not what was free of
    them."""
    own = Price(model="m", sheet="mine.toml", input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
    text = {"model": "m", "input_tokens": 100, "output_tokens": 10}

    assert cost(Call(**text), own) == cost(Call(**text, input_audio_tokens=0), own) is not None
    for name in ("input_audio_tokens", "input_image_tokens", "output_image_tokens"):
        assert cost(Call(**text, **{name: 5}), own) is None
    mixed = {"cache_read_tokens": 50, "input_audio_tokens": 60}  # are they text or audio?
    dear = msgspec.structs.replace(own, input_audio_usd_per_mtok=30.0)
    assert cost(Call(**text, **mixed), dear) is None
    assert cost(Call(**text, **mixed, cache_read_audio_tokens=20), dear) is not None


def test_rows_of_layout_2_give_way_to_those_that_price_media(tmp_path: Path) -> None:
    """The same sheet, once without and once with a price of audio."""
    plain = Price(
        model="m", sheet="genai-prices 0", input_usd_per_mtok=1.0, output_usd_per_mtok=1.0
    )
    dear = Price(
        model="m",
        sheet="genai-prices 0",
        input_usd_per_mtok=1.0,
        output_usd_per_mtok=1.0,
        input_audio_usd_per_mtok=30.0,
    )
    call = Call(model="m", input_tokens=10**6, output_tokens=0, input_audio_tokens=10**6)

    store = _store(tmp_path, [call])
    store.add_prices([plain, dear])

    assert plain.price_id != dear.price_id
    assert _costs(store) == [30.0]


def test_an_older_store_loses_the_costs_of_contradictory_calls(tmp_path: Path) -> None:
    """A negative cost that layout 2 summed is unknown afterwards, and doctor finds the store
    sound."""
    call = Call(provider="openai", model="gpt-5", input_tokens=100, output_tokens=50)
    path = _store(tmp_path, [call]).path
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE calls SET cache_read_tokens = 5000")
        connection.execute("UPDATE traces SET cost_usd = -1.0, cache_read_tokens = 5000")
        connection.execute("DELETE FROM migrations WHERE version > 2")

    store = open_store(path)

    assert store.sql("SELECT cost_usd FROM traces")["cost_usd"].to_list() == [None]
    assert not [c for c in checks(store) if "cost" in c.name and c.n and c.fatal]


def test_price_sheets_are_read_from_toml_and_csv(tmp_path: Path) -> None:
    """Both forms give the same rows."""
    toml = tmp_path / "sheet.toml"
    toml.write_text(
        '[[price]]\nmodel = "m"\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 2.5\n'
        "starts_at = 2026-01-01\n"
    )
    table = tmp_path / "sheet.csv"
    table.write_text(
        "model,input_usd_per_mtok,output_usd_per_mtok,starts_at,provider\nm,1,2.5,2026-01-01,\n"
    )
    a, b = read_sheet(toml)[0], read_sheet(table)[0]
    assert (a.input_usd_per_mtok, a.output_usd_per_mtok, a.provider) == (1.0, 2.5, None)
    assert a.starts_at == b.starts_at == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def test_a_price_sheet_may_have_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    """2,5 is two and a half dollars, 1.024 tokens in the same sheet a thousand."""
    table = tmp_path / "sheet.csv"
    table.write_text(
        "model;input_usd_per_mtok;output_usd_per_mtok;min_input_tokens\nm;0,25;2,5;1.024\n"
    )

    [price] = read_sheet(table)

    assert (price.input_usd_per_mtok, price.output_usd_per_mtok) == (0.25, 2.5)
    assert price.min_input_tokens == 1024


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,input_usd_per_mtok\nm,€5", "not understood"),
        ('model,input_usd_per_mtok\nm,"1,234"', "decimal comma"),
        ("model,input_usd_per_mtok,min_input_tokens\nm,1,1.5", "whole number"),
        ("model,input_usd_per_mtok,model\nm,1,n", "occurs twice"),
        ("model,input_usd_per_mtok\nm,1,2", "more cells"),
    ],
)
def test_a_cell_of_a_price_sheet_is_read_as_every_cell(
    tmp_path: Path, text: str, message: str
) -> None:
    """Nothing is dropped, and nothing is guessed."""
    path = tmp_path / "sheet.csv"
    path.write_text(text)

    with pytest.raises(ConfigError, match=message):
        read_sheet(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[price]]\nmodle = 'm'", "did you mean model"),
        ("[[price]]\ninput_usd_per_mtok = 1", "has no model"),
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


def test_a_sheet_prices_a_model_by_the_name_that_is_meant_and_its_very_name_first(
    tmp_path: Path,
) -> None:
    """A sheet for gpt-5 is of openai/gpt-5 too; in the store and in a budget."""
    calls = [
        Call(
            provider="router",
            model=name,
            ordinal=n,
            input_tokens=1_000_000,
            output_tokens=0,
            started_at=dt.datetime(2026, 9, 1, tzinfo=dt.UTC),
        )
        for n, name in enumerate(("gpt-5", "openai/gpt-5", "openrouter/openai/gpt-5", "gpt-6"))
    ]
    sheet = [
        Price(model="gpt-5", sheet="mine.toml", input_usd_per_mtok=3.0, output_usd_per_mtok=0.0),
        Price(
            model="openrouter/openai/gpt-5",
            sheet="mine.toml",
            input_usd_per_mtok=7.0,
            output_usd_per_mtok=0.0,
        ),
    ]
    store = _store(tmp_path, calls)
    store.add_prices(sheet)

    assert [PriceBook(sheet).cost(call) for call in calls] == [3.0, 3.0, 7.0, None]
    assert _costs(store) == [3.0, 3.0, 7.0, None]


def test_a_point_that_may_set_thousands_apart_is_refused_in_a_sheet_with_semicolons(
    tmp_path: Path,
) -> None:
    """Where cells are apart by commas, it is the decimal mark."""
    sheet = tmp_path / "mine.csv"
    sheet.write_text("model;machine_usd_per_hour\nm;1.234\n")
    with pytest.raises(ConfigError, match="is ambiguous: a thousands separator or a decimal point"):
        read_sheet(sheet)

    sheet.write_text("model,machine_usd_per_hour\nm,1.234\n")
    assert read_sheet(sheet)[0].machine_usd_per_hour == 1.234
