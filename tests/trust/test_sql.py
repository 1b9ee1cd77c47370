"""A query, and a store that came from somebody else, read the store and nothing else."""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest

import workbench as wb
from tests.support import making
from workbench.cli import main
from workbench.errors import QueryCancelled, QueryError, StoreVersionError, WorkbenchError
from workbench.store import Cancel, Store, database, genuine, memory, open_store
from workbench.tui.sql import _run


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return making.small_store(tmp_path)


def _other(tmp_path: Path) -> Path:
    path = tmp_path / "other.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS i")
    return path


REFUSED = {
    "reads a file": "FROM read_text('{secret}')",
    "reads a file as a table": "FROM '{csv}'",
    "lists a folder": "FROM glob('{folder}/*')",
    "writes a file": "COPY (SELECT 1) TO '{out}'",
    "exports": "EXPORT DATABASE '{out}'",
    "attaches a database": "ATTACH '{other}'",
    "drops a table of another store": "ATTACH '{other}' AS o; DROP TABLE o.kept",
    "two statements": "SELECT 1; SELECT 2",
    "changes a setting": "SET enable_external_access = true",
    "changes a setting by a function": "FROM enable_logging()",
    "loads an extension": "LOAD '{out}'",
    "installs an extension": "INSTALL httpfs",
    "creates a table": "CREATE TEMP TABLE x AS SELECT 1",
    "a variable of Python": "FROM frame",
    "explains a copy": "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}'",
}


@pytest.mark.parametrize("query", REFUSED.values(), ids=REFUSED)
def test_a_query_permissionses_nothing_but_the_store(
    store: Store, tmp_path: Path, query: str
) -> None:
    """Neither by a statement nor by a function."""
    frame = pl.DataFrame({"x": [1]})
    (secret := tmp_path / "secret.txt").write_text("secret")
    (csv := tmp_path / "t.csv").write_text("a,b\n1,2\n")
    other, out = _other(tmp_path), tmp_path / "out"
    asked = query.format(secret=secret, csv=csv, folder=tmp_path, other=other, out=out)

    with pytest.raises(WorkbenchError):
        store.sql(asked)
    assert main(["sql", asked, "--store", str(store.path)]) == 1
    with pytest.raises(WorkbenchError), store.relation(asked) as relation:
        relation.fetchall()

    assert frame.height == 1
    assert not out.exists()
    with duckdb.connect(str(other), read_only=True) as connection:
        assert connection.execute("FROM kept").fetchall() == [(1,)]


@pytest.mark.parametrize(
    "query",
    [
        "FROM runs",
        "DESCRIBE traces",
        "SHOW TABLES",
        "SUMMARIZE runs",
        "EXPLAIN SELECT 1",
        "PIVOT traces ON passed USING count(*)",
        "WITH a AS (SELECT 1 AS x) FROM a",
    ],
)
def test_what_reads_is_answered(store: Store, query: str) -> None:
    assert store.sql(query).height


def test_files_are_allowed_to_who_asks_for_them(store: Store, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    query = f"SELECT b FROM read_csv('{tmp_path / 't.csv'}')"

    assert wb.open(store.path, allow_files=True).sql(query)["b"].to_list() == [2]
    assert main(["sql", query, "--store", str(store.path), "--allow-files"]) == 0
    with pytest.raises(QueryError):
        wb.open(store.path).sql(query)


def test_a_query_ends_at_its_time_limit(store: Store) -> None:
    with pytest.raises(QueryCancelled, match=r"longer than the 0\.2 s"):
        store.sql(
            "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b",
            time_limit_s=0.2,
        )


def test_a_result_that_is_too_large_is_refused_while_it_is_fetched(store: Store) -> None:
    with database.reading(store.path) as connection:
        relation = database.select(connection, "SELECT repeat('x', 1000) AS x FROM range(10000000)")
        with pytest.raises(QueryError, match=r"larger than the 0\.01 GB"):
            database.fetch(relation, most_bytes=10_000_000)


@pytest.mark.parametrize(
    "face",
    [
        "main(['sql', query, '--store', path])",
        "wb.open(path).sql(query)",
        "_run(wb.open(path), query, Cancel())",
    ],
    ids=["command line", "Python and notebooks", "app"],
)
def test_memory_that_duckdb_does_not_count_is_bounded_by_the_system(
    store: Store, face: str
) -> None:
    """`repeat` passes the engine's own limit by; in a process of its own, as the limit is one of a
    process."""
    query = "SELECT max(length(repeat(chr(65 + (range % 2)::INT), 1000000000))) FROM range(200)"
    done = subprocess.run(
        [sys.executable, "-c", _SMALL.format(face=face), query, str(store.path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 1, done.stderr
    assert "the query needs more memory than it may have" in done.stderr
    assert done.stderr.count("\n") == 1


_SMALL = """
import os, sys
real = os.sysconf
pages = (3 << 30) // real("SC_PAGE_SIZE")
os.sysconf = lambda name: pages if name == "SC_PHYS_PAGES" else real(name)
import workbench as wb
from workbench.cli import main
from workbench.errors import QueryError
from workbench.store import Cancel
from workbench.tui.sql import _run
query, path = sys.argv[1:]
try:
    status = {face}
except QueryError as error:
    sys.exit(str(error))
sys.exit(status)
"""


def test_the_bound_on_memory_ends_with_the_last_query_of_those_that_overlap() -> None:
    """The first to end gives back no limit that another still needs, and the last one all."""
    resource = pytest.importorskip("resource", reason="limits of memory are POSIX's")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    first, second = contextlib.ExitStack(), contextlib.ExitStack()

    first.enter_context(memory.limited())
    within = resource.getrlimit(resource.RLIMIT_DATA)
    second.enter_context(memory.limited())
    first.close()
    still = resource.getrlimit(resource.RLIMIT_DATA)
    second.close()

    assert within == still != before
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_queries_of_the_user_have_a_time_limit_that_is_not_asked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default is 600 s; here it is shorter."""
    assert Store.sql.__kwdefaults__["time_limit_s"] == 600
    monkeypatch.setitem(Store.sql.__kwdefaults__, "time_limit_s", 0.2)
    long = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"

    with pytest.raises(QueryCancelled, match=r"longer than the 0\.2 s"):
        _run(store, long, Cancel())
    with (
        pytest.raises(QueryCancelled, match=r"longer than the 0\.3 s"),
        store.relation(long, time_limit_s=0.3) as relation,
    ):
        relation.fetchall()


def _strange(store: Store, tmp_path: Path, *statements: str) -> Path:
    path = Path(shutil.copy(store.path, tmp_path / "strange.duckdb"))
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


def test_views_of_a_stranger_are_replaced_whatever_their_comment_says(
    store: Store, tmp_path: Path
) -> None:
    """A digest in a comment can be copied; the text cannot."""
    with duckdb.connect(str(store.path)) as connection:
        (comment,) = connection.execute(
            "SELECT comment FROM duckdb_views() WHERE view_name = 'trace_facts'"
        ).fetchone()
    path = _strange(
        store,
        tmp_path,
        "CREATE VIEW mine AS SELECT * FROM (" + genuine.view_query("trace_facts") + ")",
        "CREATE OR REPLACE VIEW trace_facts AS SELECT * REPLACE ('theirs' AS model) FROM mine",
        f"COMMENT ON VIEW trace_facts IS '{comment}'",
    )

    models = open_store(path).sql("SELECT DISTINCT model FROM trace_facts")["model"]

    assert "theirs" not in models.to_list()
    assert models.to_list()


def test_a_store_of_ours_is_not_written_when_it_is_opened(store: Store) -> None:
    """The comparison by text finds its own views, also in a new process with its cache."""
    before = store.path.stat().st_mtime_ns
    open_store(store.path)
    genuine._expected.cache_clear()
    open_store(store.path)

    assert store.path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (
            (
                "ALTER TABLE contents RENAME TO c2",
                "CREATE VIEW contents AS SELECT content_id, n_bytes,"
                " (SELECT content FROM read_text('{secret}')) AS text FROM c2",
            ),
            "contents is a view",
        ),
        (
            ("DROP VIEW tool_uses", "CREATE TABLE tool_uses AS SELECT 1 AS x"),
            "tool_uses is a table",
        ),
        (("CREATE MACRO lower(a) AS 'x'",), "lower"),
    ],
    ids=["table that is a view", "view that is a table", "function"],
)
def test_a_file_that_pretends_is_refused_in_words(
    store: Store, tmp_path: Path, statements: tuple[str, ...], said: str
) -> None:
    """Opened or merged."""
    (secret := tmp_path / "secret.txt").write_text("secret")
    path = _strange(store, tmp_path, *(s.format(secret=secret) for s in statements))

    with pytest.raises(StoreVersionError, match=said):
        open_store(path)
    with pytest.raises(StoreVersionError, match=said):
        store.merge(path)
    assert store.sql("SELECT count(*) AS n FROM contents WHERE text LIKE '%secret%'")["n"][0] == 0


def test_a_view_permissionses_no_file_even_where_it_is_read(store: Store, tmp_path: Path) -> None:
    """Other views of the file are not ours to remove, and can do nothing."""
    (secret := tmp_path / "secret.txt").write_text("secret")
    path = _strange(store, tmp_path, f"CREATE VIEW extra AS FROM read_text('{secret}')")

    with pytest.raises(QueryError, match="disabled"):
        open_store(path).sql("FROM extra")


def test_the_database_to_merge_is_attached_when_files_are_out_of_permissions(
    store: Store, tmp_path: Path
) -> None:
    """And the store that takes it in can be written then."""
    target = open_store(tmp_path / "new.duckdb", create=True)

    target.merge(store.path)

    assert target.count() == store.count()
    permissions = database.Permissions(attached=("workbench_merged", store.path))
    with (
        pytest.raises(QueryError, match="disabled"),
        database.lease(target.path, permissions=permissions) as c,
    ):
        c.execute("FROM read_text('/etc/hostname')")


def test_csv_holds_no_formulas_where_that_is_asked(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers stay numbers, and without the option texts are as they are."""
    query = "SELECT '=1+1' AS a, '-x' AS \"@b\", -5 AS c, 'plain = text' AS d"
    command = ["sql", query, "--format", "csv", "--store", str(store.path)]

    assert main([*command, "--excel-safe"]) == 0
    assert capsys.readouterr().out == "a,'@b,c,d\n'=1+1,'-x,-5,plain = text\n"
    assert main(command) == 0
    assert capsys.readouterr().out == "a,@b,c,d\n=1+1,-x,-5,plain = text\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("INTERVAL 1 DAY", "1 day"),
        ("[INTERVAL 1 DAY]", "[1 day]"),
        ("{'interval': INTERVAL 1 DAY}", "{'interval': 1 day}"),
        ("map {'a': INTERVAL 1 DAY}", "{a=1 day}"),
        ("union_value(a := 1)", "1"),
        ("'101'::BIT", "101"),
        ("'00:00:00+05:30'::TIMETZ", "00:00:00+05:30"),
        ("340282366920938463463374607431768211455::UHUGEINT", f"{2**128 - 1}"),
    ],
)
def test_a_value_that_polars_has_no_type_for_comes_as_text(
    store: Store, capsys: pytest.CaptureFixture[str], value: str, text: str
) -> None:
    """They ended in a traceback, or were other values; what stands beside them keeps its type."""
    query = f"SELECT 7 AS n, {value} AS v"

    assert store.sql(query).row(0) == (7, text)
    assert main(["sql", query, "--store", str(store.path)]) == 0
    assert text in capsys.readouterr().out


@pytest.mark.parametrize(
    "value",
    ["DATE '300000-01-01'", "[TIMESTAMP 'infinity']", "{'d': DATE '-infinity'}"],
)
def test_a_time_that_python_cannot_name_is_an_error_in_words(store: Store, value: str) -> None:
    """It was a panic at the first look at the value; as text it can be shown."""
    with pytest.raises(QueryError, match=r"'v' holds a time outside .*\"v\"::VARCHAR"):
        store.sql(f"SELECT {value} AS v")
    assert store.sql(f"SELECT ({value})::VARCHAR AS v").height


def test_the_first_and_the_last_time_of_the_calendar_are_answered(store: Store) -> None:
    """Dates, times to the microsecond, and none at all."""
    first, last = store.sql(
        "SELECT DATE '0001-01-01' AS first, TIMESTAMP '9999-12-31 23:59:59.999999' AS last"
    ).row(0)

    assert (first.year, last.year) == (1, 9999)
    assert store.sql("SELECT NULL::DATE AS d, []::DATE[] AS e").row(0) == (None, [])


def test_two_columns_of_one_name_are_an_error_in_words(store: Store) -> None:
    with pytest.raises(QueryError, match="two columns of the result are named 'a'"):
        store.sql("SELECT 1 AS a, 2 AS a")


def test_a_query_for_a_file_names_the_option(store: Store) -> None:
    with pytest.raises(QueryError, match="workbench sql --allow-files"):
        store.sql("FROM read_csv('any.csv')")
