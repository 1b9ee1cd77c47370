"""The worker of tool `sql`: a process for one query, a `Query` on stdin, an answer on stdout.

It imports nothing of this package. DuckDB's memory limit does not hold for every function (`repeat`
is one), so the kernel's limit on this process is set as well.
"""

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

_LOCKS = (
    "SET temp_directory = ''",
    "SET enable_external_access = false",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET memory_limit = '128MB'",
    "SET max_expression_depth = 200",
    "SET lock_configuration = true",
)


def answer(query: dict[str, Any]) -> dict[str, Any]:
    """Answer {"database", "query", "rows", "cell"}: {"columns", "rows"} as text, or {"error"}."""
    import duckdb

    connection = duckdb.connect(":memory:", config={"threads": 1})
    connection.execute(Path(query["database"]).read_text(encoding="utf-8"))
    for lock in _LOCKS:
        connection.execute(lock)
    try:
        statements = connection.extract_statements(query["query"])
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            return {"error": "give one SELECT statement and nothing else."}
        return _select(connection, statements[0], query["rows"], query["cell"])
    except (duckdb.Error, MemoryError) as error:
        return {"error": str(error)[:500] or "out of memory"}


def _select(
    connection: "duckdb.DuckDBPyConnection", statement: "duckdb.Statement", most: int, cell: int
) -> dict[str, Any]:
    # never fetched in one piece: a million rows would be
    connection.execute(statement)
    columns = [column[0] for column in connection.description or ()]
    rows = [[_text(value, cell) for value in row] for row in connection.fetchmany(most + 1)]
    return {"columns": columns, "rows": rows}


def _text(value: object, most: int) -> str:
    text = "NULL" if value is None else str(value)
    return text if len(text) <= most else f"{text[:most]}…"


def _limit(memory_bytes: int, cpu_s: int) -> None:
    """Limit this process; where the system cannot, the caller's time limit is the only one."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return
    wanted = {
        resource.RLIMIT_AS: (memory_bytes, memory_bytes),
        resource.RLIMIT_CPU: (cpu_s, cpu_s + 1),
        resource.RLIMIT_CORE: (0, 0),
    }
    for kind, values in wanted.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, values)


def main() -> None:
    """Answer what stands on stdin."""
    query = json.load(sys.stdin)
    _limit(query["memory_bytes"], query["cpu_s"])
    json.dump(answer(query), sys.stdout)


if __name__ == "__main__":
    main()
