"""Tool `sql`: queries the shipped database, read-only, in memory and without file access."""

import asyncio
import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from workbench import datasets
from workbench.decoding import UNDECODABLE
from workbench.runner.providers.protocol import ToolSpec
from workbench.runner.tools import sql_worker
from workbench.runner.tools.base import Example, ToolResult

_MOST_ROWS = 50
_CELL = 200  # characters
_QUERY_S = 5
_MEMORY_BYTES = 1 << 30
_TABLES = (
    "products(product_id, name, category, price_cents), customers(customer_id, name, town),"
    " orders(order_id, customer_id, ordered_on, status: delivered, returned or open),"
    " order_lines(order_id, product_id, quantity)"
)


class _Answer(msgspec.Struct):
    columns: list[str] = []
    rows: list[list[str]] = []
    error: str | None = None


class Sql:
    """Runs one SELECT."""

    timeout_s: ClassVar[float] = 4.0 * _QUERY_S
    spec: ClassVar[ToolSpec] = ToolSpec(
        "sql",
        f"Ask the database of the shop with one SELECT statement (DuckDB). Its tables: {_TABLES}."
        f" Shows {_MOST_ROWS} rows at most.",
        {
            "type": "object",
            "required": ["query"],
            "additionalProperties": False,
            "properties": {
                "query": {
                    "type": "string",
                    "maxLength": 2000,
                    "description": "one SELECT statement",
                },
            },
        },
    )
    example: ClassVar[Example] = Example(
        "How many products belong to the category desk?",
        "I should count them in the table of products.",
        {"query": "SELECT count(*) AS n FROM products WHERE category = 'desk'"},
        "5",
    )

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Return the rows as text; error "sql" (refused statement), "limit" or "timeout"."""
        query = {
            "database": str(datasets.data_dir() / "tools" / "database.sql"),
            "query": arguments["query"],
            "rows": _MOST_ROWS,
            "cell": _CELL,
            "memory_bytes": _MEMORY_BYTES,
            "cpu_s": _QUERY_S,
        }
        try:
            response = await _ask(msgspec.json.encode(query))
        except TimeoutError:
            return ToolResult(f"Error: the query was ended after {_QUERY_S} seconds.", "timeout")
        try:
            answer = msgspec.json.decode(response, type=_Answer)
        except UNDECODABLE:
            return ToolResult("Error: the query took more memory or time than it may.", "limit")
        if answer.error is not None:
            return ToolResult(f"Error: {answer.error}", "sql")
        return ToolResult(_table(answer.columns, answer.rows))


async def _ask(query: bytes) -> bytes:
    """Have a query answered in a process of its own, without our environment."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(Path(sql_worker.__file__)),
        env={},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_QUERY_S + 2):  # its start included
            return (await process.communicate(query))[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _table(columns: list[str], rows: list[list[str]]) -> str:
    """Write rows with bars between the cells, and say how many there are."""
    lines = [" | ".join(columns)]
    lines += [" | ".join(" ".join(cell.split()) for cell in row) for row in rows[:_MOST_ROWS]]
    if len(rows) > _MOST_ROWS:
        lines.append(f"(the first {_MOST_ROWS} rows; there are more)")
    elif len(rows) != 1:
        lines.append(f"({len(rows)} rows)")
    return "\n".join(lines)
