"""What doctor says of a damaged store, and what it saves of one."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from tests.support import ROOT, making
from workbench import schema, spool
from workbench.cli import main
from workbench.errors import StoreError
from workbench.records import Message
from workbench.store import Store, checks, copies, exports, open_store, reading, repair

BLOCKS_AT = 12288  # three headers come before


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with texts that fill blocks of their own."""
    store = making.small_store(tmp_path_factory.mktemp("sound"))
    texts = random.Random(3)
    long = [
        making.trace(
            making.COT,
            making.ITEMS[n % 5],
            100 + n,
            messages=(
                Message(ordinal=0, role="user", kind="text", text=texts.randbytes(30_000).hex()),
            ),
        )
        for n in range(40)
    ]
    store.ingest(long)
    return store.path


def _reads_whole(path: Path) -> bool:
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            for table in schema.TABLES:
                connection.execute(
                    f"SELECT sum(hash(COLUMNS(*))::HUGEINT % 1000) FROM {table}"
                ).fetchall()
    except duckdb.Error:
        return False
    return True


def _flipped(sound: Path, path: Path, at: int) -> Path:
    data = bytearray(sound.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)
    return path


def _is_damaged(path: Path) -> bool:
    try:
        return any(check.is_damage for check in checks.checks(open_store(path)))
    except StoreError:
        return True


@pytest.mark.slow
def test_doctor_never_says_ok_where_a_column_cannot_be_read(sound: Path, tmp_path: Path) -> None:
    """One bit flipped in a block of data, wherever: who reads everything and doctor agree."""
    places, n_damaged = random.Random(7), 0
    for n in range(24):
        at = places.randrange(BLOCKS_AT, sound.stat().st_size)
        path = _flipped(sound, tmp_path / f"{n}.duckdb", at)
        if not _reads_whole(path):
            n_damaged += 1
            assert _is_damaged(path), f"byte {at}"
        if n_damaged == 4:
            break
    assert n_damaged == 4
    assert not _is_damaged(Path(shutil.copy(sound, tmp_path / "sound.duckdb")))


def _damaged(sound: Path, path: Path, column: str) -> Path:
    """Flip a bit in the first block of a column."""
    table, _, name = column.partition(".")
    with duckdb.connect(str(sound), read_only=True) as connection:
        blocks = connection.execute(
            f"SELECT block_id FROM pragma_storage_info('{table}') WHERE column_name = ?"
            " AND block_id >= 0",
            [name],
        ).fetchall()
        size = connection.execute("SELECT block_size FROM pragma_database_size()").fetchall()
    return _flipped(sound, path, BLOCKS_AT + int(blocks[0][0]) * int(size[0][0]) + 5000)


def test_doctor_names_the_columns_and_what_it_looked_at(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says what cannot be read, what to do, how much was read and in what time."""
    path = _damaged(sound, tmp_path / "s.duckdb", "contents.text")
    assert main(["doctor", "--store", str(path), "--format", "json"]) == 1
    out, err = capsys.readouterr()
    assert "contents.text" in out
    assert "doctor --repair" in out
    assert "blocks (" in out
    assert "the store is damaged" in err

    assert main(["doctor", "--store", str(sound), "--quick"]) == 0
    assert "nothing is damaged as far as --quick checks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("DELETE FROM calls", "traces that count calls and have none"),
        ("DELETE FROM messages", "traces that do not have as many messages as they count"),
        ("INSERT INTO runs FROM runs", "runs that are there more than once"),
        ("INSERT INTO scores (trace_id, scorer) VALUES ('x', 'y')", "scores of no trace"),
        ("ALTER TABLE calls DROP COLUMN error_message", "tables and columns that are missing"),
        ("CREATE OR REPLACE VIEW result_facts AS SELECT 1 AS n", "views that ask something else"),
    ],
)
def test_what_does_not_fit_is_damage(
    sound: Path, tmp_path: Path, statement: str, name: str
) -> None:
    """Counts, references, keys, the layout and the views are looked at."""
    store = open_store(shutil.copy(sound, tmp_path / "s.duckdb"))
    with duckdb.connect(str(store.path)) as connection:
        for view in schema.VIEWS if "DROP COLUMN" in statement else ():
            connection.execute(f"DROP VIEW {view}")
        connection.execute(statement)
    broken = [check.name for check in checks.checks(store) if check.is_damage]
    assert any(check.startswith(name) for check in broken), broken


def test_what_is_not_ours_is_named_and_no_damage(sound: Path, tmp_path: Path) -> None:
    """A table of the user's own beside the store's."""
    store = open_store(shutil.copy(sound, tmp_path / "s.duckdb"))
    with duckdb.connect(str(store.path)) as connection:
        connection.execute("CREATE TABLE notes (n INT)")
    assert reading.read_all(store).foreign == ["notes"]
    assert not any(check.is_damage for check in checks.checks(store))


def test_a_damaged_spool_line_is_damage_and_a_torn_one_is_not(tmp_path: Path) -> None:
    """A writer that is killed tears its last line; a line that is whole and does not fit was
    changed later."""
    store = making.small_store(tmp_path)
    with spool.SpoolWriter(store.spool_dir, "run-2") as writer:
        writer.append(making.run("run-2"))
        writer.append(making.trace(making.COT, making.ITEMS[0], 7, run_id="run-2"))
    (segment,) = spool.segments(store.spool_dir)
    segment.path.write_bytes(segment.path.read_bytes()[:-9])
    store.ingest_spool()
    found = {c.name: c.n for c in checks.checks(store)}
    assert found["torn spool lines of writers that were killed"] == 1
    assert found["damaged spool lines"] == 0

    with spool.SpoolWriter(store.spool_dir, "run-3") as writer:
        writer.append(making.run("run-3"))
    (segment,) = spool.segments(store.spool_dir)
    segment.path.write_bytes(segment.path.read_bytes().replace(b"run-3", b"run-4"))
    store.ingest_spool()
    assert {c.name: c.n for c in checks.checks(store)}["damaged spool lines"] == 1


@pytest.mark.parametrize("column", ["contents.text", "messages.content_id", "calls.call_id"])
def test_repair_saves_what_can_be_read_and_the_rest_from_a_backup(
    sound: Path, tmp_path: Path, column: str
) -> None:
    """With a backup beside it nothing is lost; the damaged file stays as it was."""
    path = _damaged(sound, tmp_path / "s.duckdb", column)
    shutil.copy(sound, tmp_path / "s.v3.backup")
    before = path.read_bytes()

    done = repair.repair(path, tmp_path / "copy.duckdb")

    copy = open_store(tmp_path / "copy.duckdb")
    assert copy.count() == Store(sound).count() == sum(done.traces_from.values())
    assert not any(check.is_damage for check in checks.checks(copy))
    assert not any("cannot be read" in note for note in done.notes)
    assert path.read_bytes() == before
    for what in ("count(*)", "sum(cost_usd)", "sum(n_messages)", "count(passed)"):
        query = f"SELECT {what} AS n FROM traces"
        assert copy.sql(query)["n"][0] == pytest.approx(Store(sound).sql(query)["n"][0])


def test_repair_without_a_backup_keeps_what_a_trace_cost_and_says_what_is_lost(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Messages whose texts are gone are left out, and their traces count those that are left."""
    path = _damaged(sound, tmp_path / "s.duckdb", "contents.text")
    copy = tmp_path / "copy.duckdb"

    assert main(["doctor", "--store", str(path), "--repair", str(copy), "--format", "json"]) == 0

    out = capsys.readouterr().out
    assert "rows of contents cannot be read" in out
    assert "without messages that are lost" in out
    assert Store(copy).count() == Store(sound).count()
    total = "SELECT sum(cost_usd) AS n FROM traces"
    assert Store(copy).sql(total)["n"][0] == pytest.approx(Store(sound).sql(total)["n"][0])


def test_a_repair_that_saves_nothing_says_so_last_and_exits_with_1(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty store is sound, and no success; the sentence names what brings the traces back."""
    path = _flipped(sound, tmp_path / "s.duckdb", 100)
    copy = tmp_path / "copy.duckdb"

    assert main(["doctor", str(path), "--repair", str(copy), "--format", "json"]) == 1

    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "has 0 traces" in last
    assert "--from" in last


def test_repair_takes_the_spool_and_another_store(sound: Path, tmp_path: Path) -> None:
    """Even where nothing of the file can be opened; the spool stays where it is."""
    path = _flipped(sound, tmp_path / "s.duckdb", 100)
    spool_dir = Store(path).spool_dir
    with spool.SpoolWriter(spool_dir, "run-2") as writer:
        for record in making.records():
            writer.append(record)
        writer.append(making.run("run-2"))
        writer.append(making.trace(making.COT, making.ITEMS[0], 7, run_id="run-2"))

    done = repair.repair(path, tmp_path / "copy.duckdb", [sound])

    copy = open_store(tmp_path / "copy.duckdb")
    assert copy.count() == Store(sound).count() + 1
    assert any("nothing could be taken from" in note for note in done.notes)
    assert len(spool.segments(spool_dir)) == 1
    assert not any(check.is_damage for check in checks.checks(copy))


def test_repair_never_writes_over_a_file(sound: Path, tmp_path: Path) -> None:
    """Not even over the store itself."""
    with pytest.raises(StoreError, match="is there already"):
        repair.repair(sound, sound)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """An export of a small store, readable by its user alone."""
    store = making.small_store(tmp_path)
    store.export(tmp_path / "out")
    for file in (tmp_path / "out").iterdir():
        file.chmod(0o600)
    return tmp_path / "out"


def _cut(folder: Path) -> None:
    file = folder / "calls.parquet"
    file.write_bytes(file.read_bytes()[:-100])


def _one_byte(folder: Path) -> None:
    file = folder / "calls.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _other_rows(folder: Path) -> None:
    manifest = exports.read_manifest(folder)
    assert manifest is not None
    manifest.tables["calls"].rows += 1
    exports.write_manifest(folder, manifest)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / exports.MANIFEST).unlink(), "manifests that are missing"),
        (lambda folder: (folder / "calls.parquet").unlink(), "calls.parquet is missing"),
        (lambda folder: shutil.copy(folder / "runs.parquet", folder / "calls.parquet"), "another"),
        (_cut, "tables that cannot be read"),
        (_one_byte, "calls.parquet is damaged"),
        (_other_rows, "its manifest says"),
    ],
    ids=["no manifest", "no file", "another file", "cut", "one bit", "rows"],
)
def test_doctor_finds_damage_in_an_export(
    exported: Path,
    damage: Callable[[Path], object],
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Manifest, hashes, rows; a sound one is in order, and others' eyes are no damage."""
    assert main(["doctor", str(exported)]) == 0
    (exported / "runs.parquet").chmod(0o644)
    assert main(["doctor", str(exported), "--format", "json"]) == 0
    assert "chmod go-rwx" in capsys.readouterr().out

    damage(exported)

    assert main(["doctor", str(exported), "--format", "json"]) == 1
    out, err = capsys.readouterr()
    assert says in out
    assert "the export is damaged" in err


def test_doctor_finds_damage_in_a_backup_and_leaves_it_as_it_is(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backup of an older layout is no store of today's that lacks columns."""
    backup = Path(shutil.copy(sound, tmp_path / "s.duckdb.v3.backup"))
    before = backup.read_bytes()
    assert main(["doctor", str(backup)]) == 0
    assert backup.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [backup.name]

    _damaged(sound, backup, "contents.text")
    assert main(["doctor", str(backup), "--format", "json"]) == 1
    out, err = capsys.readouterr()
    assert "contents.text" in out
    assert "the backup is damaged" in err


def test_doctor_takes_a_backup_of_an_older_layout_for_what_it_is(tmp_path: Path) -> None:
    backup = tmp_path / "s.duckdb.v2.backup"
    with duckdb.connect(str(backup)) as connection:
        connection.execute((ROOT / "tests" / "layouts" / "layout_2.sql").read_text())

    copy = copies.inspect(backup)

    assert copy.layout == 2
    assert [check.name for check in copy.checks if check.is_damage] == []


def test_repair_finds_its_sources_by_the_id_of_the_store_and_takes_of_no_other(
    sound: Path, tmp_path: Path
) -> None:
    """A backup and an export under other names are found; a stranger's in the right place is not
    taken. The copy has the id of the store whose place it takes."""
    path = _damaged(sound, tmp_path / "s.duckdb", "calls.call_id")
    Store(sound).export(tmp_path / "monday")
    (strange := tmp_path / "strange").mkdir()
    other = open_store(strange / "s.duckdb", create=True)
    other.ingest([*making.records(), making.trace(making.COT, making.ITEMS[0], 7_000)])
    shutil.copy(other.path, tmp_path / "s.duckdb.v3.backup")

    done = repair.repair(path, tmp_path / "copy.duckdb", [other.path])

    copy = open_store(tmp_path / "copy.duckdb")
    assert copy.id == open_store(sound).id
    assert copy.count() == Store(sound).count()
    assert done.traces_from[str(tmp_path / "monday")] > 0
    assert sum("is of another store" in note for note in done.notes) == 2
    assert not any(check.is_damage for check in checks.checks(copy))


def test_repair_names_what_is_lost_with_a_trace(tmp_path: Path) -> None:
    """A score, a message and a mark that could be read went with the calls, without a word."""
    store = making.small_store(tmp_path)
    (trace_id,) = store.sql("SELECT trace_id FROM scores LIMIT 1")["trace_id"]
    with store.lease() as connection:
        connection.execute("DELETE FROM calls WHERE trace_id = ?", [trace_id])
        connection.execute(
            "INSERT INTO annotations VALUES (?, 'me', now()::TIMESTAMP, 'x', NULL)", [trace_id]
        )

    done = repair.repair(store.path, tmp_path / "copy.duckdb")

    said = "; ".join(done.notes)
    assert f"lost: 1 trace whose calls, or what they refer to, is damaged: {trace_id}" in said
    assert "2 rows of scores" in said
    assert f"1 row of annotations (of {trace_id})" in said
    assert "2 rows of messages" in said
    assert open_store(tmp_path / "copy.duckdb").sql("FROM annotations").is_empty()


_SCORED = """UPDATE runs SET kind = 'collect', source = 'runner';
    INSERT INTO scores BY NAME SELECT trace_id, 'exact' AS scorer, score, passed FROM traces
    ANTI JOIN scores USING (trace_id);
    UPDATE configurations SET settings = '{"seed":1}';
    INSERT INTO parameters SELECT configuration_id, 'settings.seed', 'int', '1', 1
    FROM configurations;"""


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("DELETE FROM scores", "collected traces that were scored and have no scores"),
        ("UPDATE traces SET passed = NOT passed", "is that of none of their scores"),
        ("DELETE FROM parameters", "configurations whose list of parameters is not theirs"),
        ("UPDATE parameters SET value = '2'", "configurations whose list of parameters"),
        ("UPDATE contents SET text = text || '!'", "texts that are not those that they are named"),
        (
            "UPDATE traces SET n_messages = NULL; DELETE FROM messages",
            "traces without a value that is never missing",
        ),
        ("INSERT INTO identity (store_id) VALUES ('b')", "identities too many or too few"),
        ("UPDATE calls SET run_id = 'run-2'", "calls of another run, configuration, task or item"),
        ("UPDATE traces SET cache_read_tokens = 7", "are not the sum of their calls"),
    ],
)
def test_doctor_sees_what_was_changed_by_hand(tmp_path: Path, sql: str, name: str) -> None:
    """And nothing before; every one of these was "ok"."""
    store = making.small_store(tmp_path)
    with store.lease() as connection:
        connection.execute(_SCORED)
    assert [check.name for check in checks.checks(store) if check.is_damage] == []

    with store.lease() as connection:
        connection.execute(sql)

    assert any(name in check.name for check in checks.checks(store) if check.is_damage)


def test_doctor_names_schemas_functions_and_types_that_are_not_ours(tmp_path: Path) -> None:
    """A table that has a name of ours in another schema is none of ours."""
    store = making.small_store(tmp_path)
    with duckdb.connect(str(store.path)) as connection:
        connection.execute(
            """CREATE SCHEMA other; CREATE TABLE other.traces AS SELECT 1 AS x;
            CREATE VIEW other.trace_facts AS SELECT 1 AS x; CREATE MACRO plus(a) AS a + 1;
            CREATE TYPE mood AS ENUM ('well'); CREATE SEQUENCE numbers"""
        )

    found = reading.read_all(Store(store.path))

    assert found.foreign == [
        "function plus",
        "other.trace_facts",
        "other.traces",
        "schema other",
        "sequence numbers",
        "type mood",
    ]
    assert found.missing == found.altered == []


def test_a_note_that_was_edited_since_does_not_keep_a_backup_from_a_repair(
    sound: Path, tmp_path: Path
) -> None:
    """The store's own row is the newer one; what it lost comes from the backup all the same."""
    path = Path(shutil.copy(sound, tmp_path / "s.duckdb"))
    mark = (
        "INSERT INTO annotations SELECT trace_id, 'me', now()::TIMESTAMP, 'odd', ? "
        "FROM messages WHERE rowid = 0"
    )
    with duckdb.connect(str(path)) as connection:
        connection.execute(mark, ["old"])
    shutil.copy(path, tmp_path / "backup.duckdb")
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE annotations SET note = 'new'")
        connection.execute("DELETE FROM messages WHERE rowid < 2")

    done = repair.repair(path, tmp_path / "copy.duckdb", [tmp_path / "backup.duckdb"])

    copy, count = Store(tmp_path / "copy.duckdb"), "SELECT count(*) AS n FROM messages"
    assert copy.sql(count)["n"][0] == Store(sound).sql(count)["n"][0], done
    assert copy.sql("SELECT note FROM annotations")["note"].to_list() == ["new"]


def test_the_command_finds_a_text_that_was_altered(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its id is its hash; --quick does not read texts."""
    path = Path(shutil.copy(sound, tmp_path / "s.duckdb"))
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE contents SET text = 'zzz' WHERE rowid = 0")

    assert main(["doctor", "--store", str(path)]) == 1
    assert "texts that are not those that they are named after" in capsys.readouterr().out
    assert main(["doctor", "--store", str(path), "--quick"]) == 0
