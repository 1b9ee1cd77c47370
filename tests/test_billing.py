"""Bills of providers beside the stored calls: every format, every verdict, and a real run."""

import csv
import datetime as dt
import itertools
import json
import zoneinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from tests.support import making, runner_stub
from workbench.billing import read_bill
from workbench.cli import main
from workbench.errors import ImportFormatError
from workbench.records import Call, Configuration
from workbench.store import Store, open_store

DAY = dt.date(2026, 11, 2)
NOON = dt.datetime(2026, 11, 2, 12, tzinfo=dt.UTC)
OPENAI = Configuration(model="gpt-5", provider="openai", strategy="direct")


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


def read(path: Path) -> list[tuple[Any, ...]]:
    """Read a bill as (start, model, known amounts)."""
    rows = read_bill(path).rows
    return [
        (r.start, r.model, {k: float(v) for k, v in r.amounts.items() if v is not None})
        for r in rows
    ]


def call(**given: Any) -> Call:
    """A priced call of gpt-5 with known counts."""
    known = {
        "provider": "openai",
        "model": "gpt-5",
        "response_model": "gpt-5-2025-08-07",
        "started_at": NOON,
        "input_tokens": 1000,
        "cache_read_tokens": 400,
        "output_tokens": 300,
    }
    return Call(**(known | given))


def store_of(folder: Path, *calls: Call, configuration: Configuration = OPENAI) -> Store:
    """A store whose every call is a trace of its own."""
    store = open_store(folder / "s.duckdb", create=True)
    traces = [
        making.trace(configuration, making.ITEMS[0], n, calls=(one,)) for n, one in enumerate(calls)
    ]
    store.ingest([making.run(), making.TASK, *making.ITEMS, configuration, *traces])
    return store


USAGE = (
    "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,api_key_id,"
    "model,input_tokens,output_tokens,input_cached_tokens"
)
BUCKET = "1793577600,1793664000,2026-11-02T00:00:00+00:00,2026-11-03T00:00:00+00:00"
COSTS = (
    "start_time,end_time,start_time_iso,end_time_iso,"
    "amount_value,amount_currency,line_item,project_id"
)
ANTHROPIC = (
    "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,"
    "usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,"
    "usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens"
)
LOG = (
    "generation_id,created_at,cost_total,byok_usage_inference,tokens_prompt,tokens_completion,"
    "tokens_cached,model_permaslug,provider_name,api_key_name"
)


def usage_line(
    n: int,
    given: int,
    made: int,
    cached: int,
    *,
    model: str = "gpt-5-2025-08-07",
    project: str = "p1",
) -> str:
    return f"{BUCKET},{project},{n}.0,key_1,{model},{given},{made},{cached}"


# -- formats -------------------------------------------------------------------------------------


def test_openai_usage_is_read_from_the_console_and_the_api(tmp_path: Path) -> None:
    """Counts written "3.0", a byte-order mark, and buckets within pages; an empty one is no row."""
    empty = "1793491200,1793577600,2026-11-01T00:00:00+00:00,2026-11-02T00:00:00+00:00" + "," * 7
    table = write(tmp_path / "usage.csv", USAGE, empty, usage_line(3, 1000, 300, 400))
    result = {
        "object": "organization.usage.completions.result",
        "input_tokens": 1000,
        "output_tokens": 300,
        "input_cached_tokens": 400,
        "num_model_requests": 3,
        "model": "gpt-5-2025-08-07",
        "project_id": None,
    }
    buckets = [
        {"object": "bucket", "start_time": 1793491200, "end_time": 1793577600, "results": []},
        {"object": "bucket", "start_time": 1793577600, "end_time": 1793664000, "results": [result]},
    ]
    page = {"object": "page", "data": buckets, "has_more": False, "next_page": None}
    (tmp_path / "page.json").write_text(json.dumps(page))
    (tmp_path / "pages.json").write_text(json.dumps([page]))

    counts = {
        "requests": 3,
        "input_tokens": 1000,
        "cache_read_tokens": 400,
        "output_tokens": 300,
    }
    midnight = dt.datetime(2026, 11, 2, tzinfo=dt.UTC)
    for path in (table, tmp_path / "page.json", tmp_path / "pages.json"):
        assert read(path) == [(midnight, "gpt-5-2025-08-07", counts)]
        assert read_bill(path).days(dt.UTC) == (dt.date(2026, 11, 1), DAY)


def test_openai_costs_name_the_model_in_their_line_items(tmp_path: Path) -> None:
    """Dollars alone; what is charged for stands after the model; other money is unknown."""
    table = write(
        tmp_path / "costs.csv",
        COSTS,
        f'{BUCKET},0.8958740000,usd,"gpt-5-2025-08-07, cached input",p1',
        f"{BUCKET},1.5,eur,web search,p1",
        f"{BUCKET},,,,",
    )
    amount = {"value": 0.895874, "currency": "usd"}
    result = {"object": "organization.costs.result", "amount": amount, "line_item": None}
    bucket = {
        "object": "bucket",
        "start_time": 1793577600,
        "end_time": 1793664000,
        "results": [result],
    }
    (tmp_path / "page.json").write_text(json.dumps({"data": [bucket]}))
    midnight = dt.datetime(2026, 11, 2, tzinfo=dt.UTC)

    assert read(table) == [
        (midnight, "gpt-5-2025-08-07", {"usd": 0.895874}),
        (midnight, "web search", {}),
    ]
    assert read_bill(table).decimals == 10
    assert "amounts in eur" in next(iter(read_bill(table).notes))
    assert read(tmp_path / "page.json") == [(midnight, None, {"usd": 0.895874})]


def test_anthropics_input_is_what_was_cached_and_what_was_not(tmp_path: Path) -> None:
    """Its buckets are disjoint; the API nests the writes."""
    row = f"{DAY},claude-sonnet-4-20250514,team,Default,standard,≤ 200k,100,20,3,400,50"
    table = write(tmp_path / "usage.csv", ANTHROPIC, row)
    writes = {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 3}
    result = {
        "uncached_input_tokens": 100,
        "cache_creation": writes,
        "cache_read_input_tokens": 400,
        "output_tokens": 50,
        "model": "claude-sonnet-4-20250514",
    }
    times = {"starting_at": "2026-11-02T00:00:00Z", "ending_at": "2026-11-03T00:00:00Z"}
    page = {"data": [{**times, "results": [result]}], "has_more": False}
    (tmp_path / "page.json").write_text(json.dumps(page))

    counts = {
        "input_tokens": 523,
        "cache_read_tokens": 400,
        "cache_write_tokens": 23,
        "output_tokens": 50,
    }
    midnight = dt.datetime(2026, 11, 2, tzinfo=dt.UTC)
    assert read(table) == [(DAY, "claude-sonnet-4-20250514", counts)]
    assert read(tmp_path / "page.json") == [(midnight, "claude-sonnet-4-20250514", counts)]
    assert [row.key for row in read_bill(table).rows] == ["team"]


def test_anthropics_costs_are_cents_in_the_api_and_dollars_in_the_console(tmp_path: Path) -> None:
    """The console has display names of models."""
    head = "usage_date_utc,model,workspace,api_key,token_type,cost_usd,list_price_usd,cost_type"
    table = write(
        tmp_path / "cost.csv", head, f"{DAY},Claude Haiku 4.5,Default,k,output,0.05,0.05,token"
    )
    times = {"starting_at": "2026-11-02T00:00:00Z", "ending_at": "2026-11-03T00:00:00Z"}
    cost = {"amount": "123.45", "currency": "USD", "model": "claude-haiku-4-5-20251001"}
    (tmp_path / "page.json").write_text(json.dumps({"data": [{**times, "results": [cost]}]}))

    assert read(table) == [(DAY, "claude-haiku-4-5", {"usd": 0.05})]
    [(_, model, amounts)] = read(tmp_path / "page.json")
    assert (model, amounts) == ("claude-haiku-4-5-20251001", {"usd": 1.2345})


def test_openrouters_log_names_each_generation_and_its_activity_sums_days(tmp_path: Path) -> None:
    """Native counts are what is billed, where the file has them."""
    log = write(
        tmp_path / "log.csv",
        LOG + ",native_tokens_prompt",
        "gen-1,2026-11-02 12:00:00.5,0.0123,0.001,9,3,0,openai/gpt-5-2025-08-07,OpenAI,k1,10",
    )
    day = {
        "date": str(DAY),
        "model": "openai/gpt-5",
        "model_permaslug": "openai/gpt-5-2025-08-07",
        "usage": 0.5,
        "byok_usage_inference": 0,
        "requests": 4,
        "prompt_tokens": 40,
        "completion_tokens": 8,
        "reasoning_tokens": 2,
    }
    (tmp_path / "activity.json").write_text(json.dumps({"data": [day]}))

    [row] = read_bill(log).rows
    assert (row.id, row.key, row.amounts["input_tokens"]) == ("gen-1", "k1", Decimal(10))
    assert row.amounts["usd"] == Decimal("0.0133")
    sums = {"requests": 4, "input_tokens": 40, "output_tokens": 8, "usd": 0.5}
    assert read(tmp_path / "activity.json") == [(DAY, "openai/gpt-5-2025-08-07", sums)]


def test_litellms_rows_that_reached_no_provider_are_passed_over(tmp_path: Path) -> None:
    """Its own cache, and failures that cost nothing; the cached tokens are in the metadata."""
    more = {"additional_usage_values": {"cache_read_input_tokens": 5}, "user_api_key_alias": "me"}
    common = {
        "startTime": "2026-11-02T12:00:00Z",
        "model": "gpt-5",
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "total_tokens": 11,
        "status": "success",
        "spend": 0.001,
        "metadata": json.dumps(more),
    }
    rows = [
        {"request_id": "chatcmpl-1", **common},
        {"request_id": "chatcmpl-1_cache_hit99", **common, "cache_hit": "True"},
        {"request_id": "x", **common, "status": "failure", "spend": 0, "total_tokens": 0},
    ]
    path = tmp_path / "logs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))

    bill = read_bill(path)

    [row] = bill.rows
    assert (row.id, row.key, row.amounts["cache_read_tokens"]) == ("chatcmpl-1", "me", Decimal(5))
    assert sum(bill.skipped.values()) == 2


def test_deepseeks_amounts_come_one_kind_a_row(tmp_path: Path) -> None:
    """Hits and misses of the cache are the input together; yuan are no dollars."""
    times = "2026-11-02T00:00:00+00:00,2026-11-03T00:00:00+00:00"
    head = "user_id,start_time_iso,end_time_iso,model,api_key_name,api_key,type,price,amount"
    kinds = {
        "input_cache_hit_tokens": 6,
        "input_cache_miss_tokens": 4,
        "output_tokens": 3,
        "request_count": 1,
    }
    lines = [f"u,{times},deepseek-chat,k,sk,{kind},1,{n}" for kind, n in kinds.items()]
    amounts = write(tmp_path / "amount.csv", head, *lines)
    head = "user_id,start_time_iso,end_time_iso,model,wallet_type,cost,currency"
    costs = write(tmp_path / "cost.csv", head, f"u,{times},deepseek-chat,granted,0.5,CNY")

    store = store_of(
        tmp_path,
        call(
            provider="deepseek",
            model="deepseek-chat",
            response_model=None,
            input_tokens=10,
            cache_read_tokens=6,
            output_tokens=3,
        ),
    )
    found = wb.reconcile(store, amounts, costs)

    [row] = found.frame.rows(named=True)
    assert (row["verdict"], row["billed_input_tokens"], row["billed_usd"]) == ("agrees", 10, None)


def test_a_row_without_dollars_and_tokens_agrees_with_nothing(tmp_path: Path) -> None:
    """That there is a request on either side says nothing of what it cost."""
    store = store_of(tmp_path, call(provider="openrouter", response_id="g"))
    bill = write(tmp_path / "log.csv", LOG, f"g,{NOON},,,,,,m,P,k")

    found = wb.reconcile(store, bill)

    assert set(found.frame["verdict"]) == {"cannot be compared"}
    assert not found.agrees


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["a,b", "1,2"], "not a bill of a known format .OpenAI usage export"),
        ([LOG], "has no rows"),
        (
            [USAGE, usage_line(1, 5, 2, 1).replace(",5,", ",five,")],
            "line 2: input_tokens is 'five'",
        ),
        ([USAGE, usage_line(1, -5, 2, 1)], "a count cannot be below 0"),
        ([LOG, "g,yesterday,1,0,1,1,0,m,P,k"], "created_at is 'yesterday', which is not a time"),
        ([LOG, "g,0001-01-01 00:00:00,1,0,1,1,0,m,P,k"], "not a time from 2000 to 2199"),
        ([LOG, "g,99999999999999999999,1,0,1,1,0,m,P,k"], "not a time from 2000"),
        ([LOG, "g,2026-11-02,1e999999999,0,1,1,0,m,P,k"], "too large for a bill"),
        ([LOG, "g,2026-11-02,1,0,1e999999,1,0,m,P,k"], "too large for a bill"),
        ([LOG, "g,2026-11-02,1,0,1.5,1,0,m,P,k"], "a count is a whole number"),
        ([LOG, "g,2026-11-02,inf,0,1,1,0,m,P,k"], "which is not a number"),
        ([LOG, 'g,2026-11-02,"0,001",0,1,1,0,m,P,k'], "which is not a number"),
    ],
)
def test_a_bill_that_cannot_be_read_says_where_and_why(
    tmp_path: Path, lines: list[str], says: str
) -> None:
    """No cell is taken for 0, and no file for another."""
    with pytest.raises(ImportFormatError, match=says):
        read_bill(write(tmp_path / "bill.csv", *lines))


def test_an_archive_and_bills_of_two_providers_are_refused(tmp_path: Path) -> None:
    """With what to do instead."""
    archive = tmp_path / "usage.zip"
    archive.write_bytes(b"PK\x03\x04rest")
    with pytest.raises(ImportFormatError, match="unpack it"):
        read_bill(archive)
    usage = write(tmp_path / "usage.csv", USAGE, usage_line(1, 1, 1, 1))
    log = write(tmp_path / "log.csv", LOG, f"g,{NOON},1,0,1,1,0,m,P,k")
    with pytest.raises(ImportFormatError, match="openai and of openrouter; compare one provider"):
        wb.reconcile(store_of(tmp_path), usage, log)


# -- sums ----------------------------------------------------------------------------------------


def test_usage_and_costs_of_a_day_agree_with_the_calls(tmp_path: Path) -> None:
    """Names as billed and as asked mean one model; dollars come from tokens and prices."""
    store = store_of(tmp_path, call(), call(started_at=NOON + dt.timedelta(hours=11)))
    usage = write(tmp_path / "usage.csv", USAGE, usage_line(2, 2000, 600, 800))
    usd = 2 * (600 * 1.25 + 400 * 0.125 + 300 * 10) / 1e6
    costs = write(
        tmp_path / "costs.csv", COSTS, f'{BUCKET},{usd!r},usd,"gpt-5-2025-08-07, output",p1'
    )

    found = wb.reconcile(store, usage, costs)

    [row] = found.frame.rows(named=True)
    assert (row["day"], row["model"], row["verdict"]) == (DAY, "gpt-5", "agrees")
    assert (row["billed_usd"], row["stored_usd"]) == (pytest.approx(usd), pytest.approx(usd))
    assert found.agrees
    assert found.calls is None
    assert "compared: 2026-11-02, in days of UTC" in found.notes
    assert any("0 calls as the provider reported them, of 2 from tokens" in n for n in found.notes)


def test_what_is_on_one_side_only_is_named_and_differences_are_told(tmp_path: Path) -> None:
    """A model that only the bill has, one that only the store has, and a count that is off."""
    store = store_of(tmp_path, call(), call(model="gpt-4o", response_model=None))
    lines = usage_line(1, 1007, 300, 400), usage_line(5, 9, 9, 0, model="o3")
    found = wb.reconcile(store, write(tmp_path / "u.csv", USAGE, *lines))

    verdicts = dict(found.frame.select("model", "verdict").iter_rows())
    assert verdicts == {
        "gpt-5": "differs: input_tokens +7",
        "gpt-4o": "only in the store",
        "o3": "only in the bill",
    }
    only = found.frame.filter(model="gpt-4o").row(0, named=True)
    assert (only["billed_requests"], only["stored_requests"], only["requests_difference"]) == (
        None,
        1,
        None,
    )
    assert not found.agrees


def test_a_call_of_unknown_size_makes_the_sum_unknown(tmp_path: Path) -> None:
    """Requests are compared all the same, and an unknown sum is no 0."""
    store = store_of(tmp_path, call(), call(input_tokens=None, cache_read_tokens=None))
    found = wb.reconcile(store, write(tmp_path / "u.csv", USAGE, usage_line(2, 2000, 600, 800)))

    [row] = found.frame.rows(named=True)
    assert (row["stored_input_tokens"], row["input_tokens_difference"]) == (None, None)
    assert (row["stored_output_tokens"], row["verdict"]) == (600, "agrees")
    bare = store_of(
        tmp_path / "bare",
        call(n_requests=None, input_tokens=None, cache_read_tokens=None, output_tokens=None),
    )
    assert wb.reconcile(bare, tmp_path / "u.csv").frame["verdict"].to_list() == [
        "cannot be compared"
    ]


def test_failed_requests_of_unknown_charge_are_counted_apart(tmp_path: Path) -> None:
    """A server's error may have been charged; what was not sent, or was refused, was not."""
    failed = {
        "input_tokens": None,
        "cache_read_tokens": None,
        "output_tokens": None,
        "error_type": "http_500",
    }
    store = store_of(
        tmp_path,
        call(),
        call(**failed),
        *(call(**failed | {"error_type": kind}) for kind in ("connect", "dns", "http_429")),
        call(**failed | {"error_type": "http_408"}),
        call(n_requests=0, input_tokens=0, cache_read_tokens=0, output_tokens=0),
    )
    found = wb.reconcile(store, write(tmp_path / "u.csv", USAGE, usage_line(1, 1000, 300, 400)))

    [row] = found.frame.rows(named=True)
    assert (row["verdict"], row["stored_requests"], row["n_uncertain"]) == ("agrees", 1, 2)
    assert any("2 failed requests without a reply" in note for note in found.notes)


def test_a_request_that_broke_off_and_told_its_usage_is_in_the_sums(tmp_path: Path) -> None:
    """It was charged, though it is no turn of the attempt."""
    store = store_of(tmp_path, call(error_type="stream_error", retried_as=1, output_tokens=20))
    found = wb.reconcile(store, write(tmp_path / "u.csv", USAGE, usage_line(1, 1000, 20, 400)))

    assert found.agrees


def test_dollars_may_differ_by_the_rounding_of_the_bill(tmp_path: Path) -> None:
    """Half a cent a row where it prints cents; what is asked for where it is given."""
    store = store_of(tmp_path, call(billed_cost_usd=0.0149))
    costs = write(tmp_path / "c.csv", COSTS, f"{BUCKET},0.01,usd,gpt-5,p1")

    assert wb.reconcile(store, costs).frame["verdict"].to_list() == ["agrees"]
    cheaper = write(tmp_path / "d.csv", COSTS, f"{BUCKET},0.00,usd,gpt-5,p1")
    usage = write(
        tmp_path / "u.csv", USAGE, *[usage_line(0, 0, 0, 0)] * 9, usage_line(1, 1000, 300, 400)
    )
    [verdict] = wb.reconcile(store, cheaper, usage, tolerance_usd=None).frame["verdict"]
    assert verdict == "differs: usd −0.0149"  # only rows with dollars are rounded
    strict = wb.reconcile(store, costs, tolerance_usd=0.001)
    assert strict.frame["verdict"].to_list() == ["differs: usd −0.0049"]
    assert any("at most 0.005 for each row" in note for note in wb.reconcile(store, costs).notes)


@pytest.mark.parametrize(("usage", "agrees"), [(0.5, False), (1, False), (0.4951, True)], ids=str)
def test_numbers_of_json_are_not_rounded(tmp_path: Path, usage: float, *, agrees: bool) -> None:
    """0.5 is no half that was printed with one decimal: half a cent off is a difference."""
    store = store_of(tmp_path, call(billed_cost_usd=0.4951))
    counts = {"requests": 1, "prompt_tokens": 1000, "completion_tokens": 300}
    path = tmp_path / "activity.json"
    row = {"date": str(DAY), "model": "gpt-5", "usage": usage, **counts}
    path.write_text(json.dumps({"data": [row]}))

    assert wb.reconcile(store, path, providers=["openai"]).agrees is agrees


def test_whole_cents_of_anthropics_api_are_cents(tmp_path: Path) -> None:
    """The text 100 is a dollar to the cent, not to the dollar."""
    times = {"starting_at": "2026-11-02T00:00:00Z", "ending_at": "2026-11-03T00:00:00Z"}
    cost = {"amount": "100", "currency": "USD", "model": "claude-haiku-4-5-20251001"}
    path = tmp_path / "page.json"
    path.write_text(json.dumps({"data": [{**times, "results": [cost]}]}))

    assert read_bill(path).decimals == 2


def test_days_are_those_of_the_bills_zone(tmp_path: Path) -> None:
    """23:30 UTC is the next day in Berlin; a bill of dates says nothing of its zone."""
    store = store_of(tmp_path, call(started_at=NOON.replace(hour=23, minute=30)))
    day = {"date": "2026-11-03", "model": "gpt-5", "usage": 1.0, "requests": 1}
    counts = {"prompt_tokens": 1000, "completion_tokens": 300}
    path = tmp_path / "activity.json"
    path.write_text(json.dumps({"data": [day | counts]}))

    utc = wb.reconcile(store, path, providers=["openai"])
    berlin = wb.reconcile(
        store, path, providers=["openai"], zone=zoneinfo.ZoneInfo("Europe/Berlin"), tolerance_usd=2
    )

    assert utc.frame["verdict"].to_list() == ["only in the bill"]
    assert berlin.frame["verdict"].to_list() == ["agrees"]


def test_requests_around_midnight_are_told_from_what_is_missing(tmp_path: Path) -> None:
    """They began on one day and were charged on the next: the differences cancel."""
    store = store_of(tmp_path, call(), call(started_at=NOON.replace(hour=23, minute=59)))
    row = {"model": "gpt-5", "requests": 1, "prompt_tokens": 1000, "completion_tokens": 300}
    days = [{**row, "date": f"2026-11-0{n}", "usage": 1e-30} for n in (2, 3)]
    path = tmp_path / "activity.json"
    path.write_text(json.dumps({"data": days}))

    def notes(rows: list[dict[str, Any]]) -> list[str]:
        path.write_text(json.dumps({"data": rows}))
        found = wb.reconcile(store, path, providers=["openai"], tolerance_usd=1)
        return [note for note in found.notes if "midnight" in note]

    assert notes(days) == []  # the store has nothing on the second day
    store.ingest(
        [
            making.trace(
                OPENAI, making.ITEMS[1], calls=(call(started_at=NOON + dt.timedelta(days=1)),)
            )
        ]
    )
    [note] = notes(
        [days[0], {**days[1], "requests": 2, "prompt_tokens": 2000, "completion_tokens": 600}]
    )
    assert note.startswith("gpt-5: the differences of 2026-11-02 and 2026-11-03 cancel")
    assert notes(days) == []


def test_an_export_that_does_not_tell_models_apart_is_compared_by_days(tmp_path: Path) -> None:
    """It was not grouped by model; all models of a day are one row."""
    store = store_of(tmp_path, call(), call(model="gpt-4o", response_model=None))
    found = wb.reconcile(
        store, write(tmp_path / "u.csv", USAGE, usage_line(2, 2000, 600, 800, model=""))
    )

    [row] = found.frame.rows(named=True)
    assert (row["day"], row["model"], row["verdict"]) == (DAY, None, "agrees")


def test_rows_of_exports_that_overlap_count_once_and_projects_can_be_kept_apart(
    tmp_path: Path,
) -> None:
    """Two projects with equal figures are two rows."""
    store = store_of(tmp_path, call())
    rows = usage_line(1, 1000, 300, 400), usage_line(1, 1000, 300, 400, project="p2")
    first, second = (write(tmp_path / f"{n}.csv", USAGE, *rows) for n in "ab")

    both = wb.reconcile(store, first, second)
    assert both.total["billed_requests"].to_list() == [2]
    assert "2 rows in two of the files: counted once" in both.notes
    assert any("2 projects (p1, p2)" in note for note in both.notes)
    assert wb.reconcile(store, first, projects=["p2"]).agrees
    with pytest.raises(ImportFormatError, match="has no project p3; it has: p1, p2"):
        wb.reconcile(store, first, projects=["p3"])


def test_a_store_without_calls_of_the_provider_says_whose_it_has(tmp_path: Path) -> None:
    """A server of one's own that passes requests on has another name."""
    store = store_of(tmp_path, call(provider="proxy"))
    usage = write(tmp_path / "u.csv", USAGE, usage_line(1, 1000, 300, 400))

    assert any("it has calls of: proxy" in note for note in wb.reconcile(store, usage).notes)
    assert wb.reconcile(store, usage, providers=["proxy"]).agrees


# -- requests ------------------------------------------------------------------------------------


def test_requests_are_matched_by_id_across_midnight_and_names(tmp_path: Path) -> None:
    """The bill's day and model count; either id of the call may be the bill's."""
    late = NOON.replace(hour=23, minute=59)
    counts = {"provider": "openrouter", "cache_read_tokens": 0, "billed_cost_usd": 0.25}
    store = store_of(
        tmp_path,
        call(response_id="gen-1", started_at=late, **counts),
        call(request_id="gen-2", response_model="odd", **counts),
    )
    log = write(
        tmp_path / "log.csv",
        LOG,
        *(f"gen-{n},2026-11-03 00:00:01,0.25,0,1000,300,0,openai/gpt-5,OpenAI,k" for n in (1, 2)),
    )

    found = wb.reconcile(store, log, every=True)

    assert found.frame.select("day", "model", "verdict").rows() == [
        (dt.date(2026, 11, 3), "gpt-5", "agrees")
    ]
    assert found.calls is not None
    assert found.calls.select("id", "verdict").rows() == [("gen-1", "agrees"), ("gen-2", "agrees")]


def test_what_stands_twice_is_named(tmp_path: Path) -> None:
    """A log imported beside the run that made it; a row that a gateway wrote twice."""
    same = {"response_id": "gen-1", "provider": "openrouter", "cache_read_tokens": 0}
    row = "gen-1,2026-11-02 12:00:00,0.25,0,1000,300,0,openai/gpt-5,OpenAI,k"
    once, twice = write(tmp_path / "1.csv", LOG, row), write(tmp_path / "2.csv", LOG, row, row)
    charged = call(billed_cost_usd=0.25, **same)

    doubled = wb.reconcile(store_of(tmp_path / "a", charged, charged), once).calls
    repeated = wb.reconcile(store_of(tmp_path / "b", charged), twice).calls

    assert doubled is not None
    assert doubled.select("id", "verdict").rows() == [("gen-1", "twice in the store")]
    assert repeated is not None
    assert repeated.select("id", "verdict").rows() == [("gen-1", "twice in the bill")]


class Router:
    """A server that charges for each request, and keeps its own ledger of them."""

    def __init__(self) -> None:
        self.ledger: list[dict[str, Any]] = []
        self._numbers = itertools.count()

    def __call__(self, seen: runner_stub.Seen) -> Any:
        number = next(self._numbers)
        counts = {"prompt_tokens": 20 + number, "completion_tokens": 3 + number}
        cost = 0.001 + number / 1e5
        self.ledger.append(
            {
                "generation_id": f"gen-{number}",
                "created_at": dt.datetime.now(dt.UTC).isoformat(),
                "cost_total": repr(cost),
                "tokens_prompt": counts["prompt_tokens"],
                "tokens_completion": counts["completion_tokens"],
                "tokens_cached": 4,
                "model_permaslug": "openai/gpt-5",
                "api_key_name": "k",
            }
        )
        details = {"prompt_tokens_details": {"cached_tokens": 4}}
        fields = {"id": f"gen-{number}", "model": "openai/gpt-5"}
        text = {"choices": [{"index": 0, "delta": {"content": "Answer: 4"}}]}
        stop = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        usage = {"choices": [], "usage": {**counts, **details, "cost": cost}}
        first = [runner_stub.data(fields | text), runner_stub.data(fields | usage)]
        if number == 1:  # a host goes away after it has told what it charges
            return runner_stub.stream(*first, end=False)
        last = [runner_stub.data(fields | stop), runner_stub.DONE]
        return runner_stub.stream(*first, *last)

    def bill(self, path: Path) -> Path:
        """Write the ledger as the service exports it."""
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.ledger[0]))
            writer.writeheader()
            writer.writerows(self.ledger)
        return path


def test_a_run_reconciles_with_its_servers_ledger_to_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also for the request that broke off; a row taken out and one altered are named by id."""
    router, store = Router(), str(tmp_path / "s.duckdb")
    plan = tmp_path / "plan.toml"
    with runner_stub.Stub(router) as server:
        plan.write_text(
            'models = ["openai/gpt-5"]\ntasks = ["arithmetic"]\nlimit = 5\n'
            'provider = "openrouter"\n'
            f'base_url = "{server.url}"\n'
        )
        assert main(["collect", str(plan), "--store", store]) == 0
    assert len(router.ledger) == 6
    bill = str(router.bill(tmp_path / "bill.csv"))
    capsys.readouterr()

    assert main(["reconcile", bill, "--store", store, "--check", "--format", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {row["verdict"] for row in said["rows"]} == {"agrees"}
    assert said["more"]["total"][0]["billed_requests"] == 6
    assert "calls" not in said["more"]

    lost = router.ledger.pop(2)
    router.ledger[0]["tokens_completion"] += 5
    router.bill(tmp_path / "bill.csv")
    assert main(["reconcile", bill, "--store", store, "--check", "--format", "json"]) == 1
    said = json.loads(capsys.readouterr().out)
    named = {row["id"]: row["verdict"] for row in said["more"]["calls"]}
    assert named == {
        "gen-0": "differs: output_tokens +5",
        lost["generation_id"]: "only in the store",
    }

    assert main(["reconcile", bill, "--store", store]) == 0
    shown = capsys.readouterr().out
    assert "8 / 3" in shown
    assert "only in the store" in shown
    assert main(["reconcile", bill, "--store", store, "--timezone", "Mars/Olympus"]) == 2
