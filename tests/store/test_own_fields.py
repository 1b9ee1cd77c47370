"""What an ablation varied and what a scorer measured can be sliced, grouped and listed by name."""

from pathlib import Path

import polars as pl
import pytest

from tests.support import making
from workbench.errors import QueryError, SliceError
from workbench.records import Configuration, Score, json_text
from workbench.slice import Slice, complete, names
from workbench.store import Store, open_store

WEIRD = 'a "b", it\'s; DROP TABLE traces--.ü/1'
GIVEN: tuple[dict[str, object], ...] = (
    {"docs": 0, "mode": "fast", "top": 0.5, "cot": True, "mixed": 3},
    {"docs": 3, "mode": "slow", "top": 1, "cot": False, "mixed": "three"},
    {"docs": 10, "mode": "fast lane", WEIRD: "x"},
)
CONFIGURATIONS = (
    *(
        Configuration(
            model="m",
            strategy="rag",
            strategy_params=json_text(given),
            settings=json_text({"batch_size": n}),
        )
        for n, given in enumerate(GIVEN)
    ),
    Configuration(model="m", strategy="rag"),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Four configurations on five items; a rubric of 0 to 10 and a loss of which less is better."""
    found = open_store(tmp_path_factory.mktemp("own") / "s.duckdb", create=True)
    rows = [making.run(), making.TASK, *making.ITEMS, *CONFIGURATIONS]
    for place, configuration in enumerate(CONFIGURATIONS):
        for item in making.ITEMS:
            scores = (
                Score(
                    scorer="rubric",
                    metric=2.0 * place + int(item.item) / 2,
                    scale_low=0,
                    scale_high=10,
                    direction="higher",
                    unit="points",
                ),
                Score(scorer="loss", metric=4.0 - place, direction="lower"),
                Score(scorer="exact", score=float(int(item.item) % 2 == 0)),
            )
            rows.append(making.trace(configuration, item, scores=scores if place < 3 else ()))
    found.ingest(rows)
    return found


def test_the_store_lists_its_own_fields_with_their_types(store: Store) -> None:
    """Types are those of the values; scales and directions those that scorers say."""
    found = store.fields()
    assert {n: c.type for n, c in found.items()} == {
        "params.docs": "int",
        "params.mode": "text",
        "params.top": "float",
        "params.cot": "bool",
        "params.mixed": "text",
        f"params.{WEIRD}": "text",
        "settings.batch_size": "int",
        "metrics.rubric": "float",
        "metrics.loss": "float",
        "metrics.exact": "float",
    }
    rubric, loss, exact = (found[f"metrics.{n}"] for n in ("rubric", "loss", "exact"))
    assert (rubric.scale, rubric.direction, rubric.unit) == ((0, 10), "higher", "points")
    assert (loss.scale, loss.direction) == ((None, None), "lower")
    assert (exact.scale, exact.direction) == ((0, 1), "higher")
    assert store.fields(["params.docs", "metrics.nope", "model"]).keys() == {"params.docs"}


KEPT = [
    ("params.docs:3", {1}),
    ("params.docs=3.0", {1}),
    ("params.docs:3,10", {1, 2}),
    ("params.docs!=3", {0, 2}),
    ("params.docs>0", {1, 2}),
    ("params.docs<=0", {0}),
    ("params.docs:none", {3}),
    ("-params.docs:none", {0, 1, 2}),
    ("-params.docs>0", {0, 3}),
    ("params.mode:fast*", {0, 2}),
    ('params.mode:"FAST lane",none', {2, 3}),
    ('params.mode="fast lane"', {2}),
    ("params.top>=0.5", {0, 1}),
    ("params.cot:true", {0}),
    ("params.cot=false", {1}),
    ("params.mixed:3", {0}),
    ("params.mixed:three", {1}),
    ("params.mixed>1", {0}),
    ("settings.batch_size>0 params.docs:any", {1, 2}),
    (str(Slice().where(**{f"params.{WEIRD}": "x"})), {2}),
    ("metrics.loss<3", {2}),
    ("metrics.loss:4", {0}),
    ("metrics.rubric>5.9 -metrics.loss:none", {2}),
    ("metrics.rubric:none", {3}),
]


@pytest.mark.parametrize(("text", "kept"), [pytest.param(t, k, id=t) for t, k in KEPT])
def test_slices_by_own_fields_keep_the_same_rows_in_both_engines(
    store: Store, text: str, kept: set[int]
) -> None:
    """As SQL, as Polars, as Polars source; and the text is canonical."""
    slice_ = Slice.parse(text)
    assert Slice.parse(str(slice_)) == slice_
    ids = {CONFIGURATIONS[n].configuration_id for n in kept}

    by_sql = store.traces(text).collect()
    by_polars = store.traces().collect().filter(slice_.polars())
    by_code = store.traces().filter(eval(slice_.polars_code(), {"pl": pl, "store": store}))

    assert set(by_sql["configuration_id"]) == ids
    assert by_polars.equals(by_sql)
    assert by_code.collect().equals(by_sql)
    assert store.count(text) == by_sql.height
    with store.facts(text) as facts:
        assert facts.collect("polars").to_native().height == by_sql.height
    with store.facts(text, "call_facts") as facts:
        assert facts.collect("polars").to_native().height == by_sql.height


def test_own_fields_are_columns_of_the_lazy_frame(store: Store) -> None:
    """Typed, null where not set, for any key; joined only if used."""
    frame = store.traces().select("configuration", "params.docs", f"params.{WEIRD}", "metrics.loss")
    rows = frame.unique().sort("params.docs", nulls_last=True).collect()
    assert rows["params.docs"].to_list() == [0, 3, 10, None]
    assert rows[f"params.{WEIRD}"].to_list() == [None, None, "x", None]
    assert rows["metrics.loss"].to_list() == [4.0, 3.0, 2.0, None]
    assert store.traces().filter(pl.col("params.docs") > 3).select("item").collect().height == 5
    assert store.calls().select("params.mode").collect().height == 20


def test_own_fields_are_facets_columns_and_values(store: Store) -> None:
    """What the terminal app and the notebook ask for."""
    assert store.facet("params.docs", "params.docs:any")["value"].sort().to_list() == [0, 3, 10]
    assert store.values("params.mode", "fa") == ["fast", "fast lane"]
    page = store.page(
        columns=("item", "metrics.rubric"), order_by="metrics.rubric", descending=True
    )
    assert page["metrics.rubric"].to_list()[0] == 6.0


def test_a_name_that_the_store_lacks_is_an_error_with_the_nearest(store: Store) -> None:
    """A slip of the hand is no empty answer."""
    with pytest.raises(QueryError, match=r"sets 'dosc' \(params\.dosc\); try params\.docs"):
        store.count("params.dosc:3")
    with pytest.raises(QueryError, match=r"no scorer of the store is called 'rubrik'"):
        store.facet("metrics.rubrik")
    with (
        pytest.raises(QueryError, match="run_summary has no configuration_id"),
        store.facts("", "run_summary", fields=["params.docs"]),
    ):
        pass


def test_names_that_differ_in_case_alone_are_refused_together(tmp_path: Path) -> None:
    """The engine takes them for one; alone each is right, and so are both in a lazy frame."""
    twins = Configuration(model="m", strategy_params=json_text({"k": 1, "K": 2}))
    store = open_store(tmp_path / "s.duckdb", create=True)
    store.ingest(
        [making.run(), making.TASK, *making.ITEMS, twins, making.trace(twins, making.ITEMS[0])]
    )
    assert store.facet("params.K")["value"].to_list() == [2]
    assert store.traces("params.k:1").select("params.k", "params.K").collect().row(0) == (1, 2)
    with (
        pytest.raises(QueryError, match="differ in case alone"),
        store.facts(fields=["params.k", "params.K"]),
    ):
        pass


def test_completion_offers_own_fields_and_their_values(store: Store) -> None:
    """Names first, in quotes where they need them; then values."""
    names = [c.text for c in complete("params.", 7, store.values, store.fields())]
    assert "params.docs:" in names
    assert any(name.startswith('params."a \\"b\\"') for name in names)
    assert [c.text for c in complete("params.mode:", 12, store.values, store.fields())][:3] == [
        "fast",
        '"fast lane"',
        "slow",
    ]
    assert [c.text for c in complete("rubr", 4, store.values, store.fields())] == [
        "metrics.rubric>"
    ]


@pytest.mark.parametrize(
    "text", ["params.docs", 'params."x', "params.docs>fast", "params.:3", "metrics.loss:low"]
)
def test_faults_in_own_fields_are_pointed_at(text: str) -> None:
    """As with any other field."""
    with pytest.raises(SliceError):
        Slice.parse(text)


@pytest.mark.parametrize("ask", ["facet", "values"])
def test_the_store_takes_names_as_its_own_hints_write_them(store: Store, ask: str) -> None:
    """In quotes where they need them, and where they do not."""
    written = names.written(f"params.{WEIRD}")
    assert written.startswith('params."')

    assert str(getattr(store, ask)('params."docs"')) == str(getattr(store, ask)("params.docs"))
    assert str(getattr(store, ask)(written)) == str(getattr(store, ask)(f"params.{WEIRD}"))
    page = store.page(columns=["trace_id", 'params."docs"'], order_by='params."docs"')
    assert page.columns == ["trace_id", "params.docs"]


@pytest.mark.parametrize("text", ['params."":3', "params.:3", "settings.=1", "metrics."])
def test_a_name_without_a_key_is_refused_in_words(text: str) -> None:
    with pytest.raises(SliceError, match="needs a name after the point"):
        Slice.parse(text)


@pytest.mark.parametrize("key", ["two\nlines", "a\tb\r", "\\n", '"', "\\"])
def test_every_key_can_be_written_on_one_line(key: str) -> None:
    """And is read back as it was, by filters and by --by."""
    written = names.written(f"params.{key}")

    assert not set(written) & set("\n\r\t")
    assert names.entry(written) == f"params.{key}"
    assert names.columns(written) == (f"params.{key}",)
    assert Slice.parse(f"{written}:3").terms[0].field.column == f"params.{key}"
