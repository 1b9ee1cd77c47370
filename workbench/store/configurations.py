"""Derived data of the configurations in a store: their unique names, and their parameters."""

import duckdb
import polars as pl

from workbench import parameters, schema
from workbench.records import derived_name
from workbench.store.frames import polars_schema

_ABOUT = ("model", "strategy", "effort", "thinking_budget_tokens")


def prefer_bases(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    """Where a known configuration comes again with another base name, keep the better of the two.

    Args:
        connection: inside a lease.
        relation: rows with the columns of `configurations`.

    Returns:
        How many base names were changed.
    """
    about = ", ".join(f"old.{name}" for name in _ABOUT)
    both = connection.execute(
        f"""SELECT DISTINCT old.configuration_id, old.base_name,
          coalesce(n.base_name, n.configuration), {about}
        FROM {relation} n JOIN configurations old USING (configuration_id)
        WHERE old.base_name <> coalesce(n.base_name, n.configuration)"""
    ).fetchall()
    changed = 0
    for id, old, new, *values in both:
        if parameters.better_base(old, new, derived_name(*values)) != old:
            connection.execute(
                "UPDATE configurations SET base_name = ? WHERE configuration_id = ?", [new, id]
            )
            changed += 1
    return changed


def settle(connection: duckdb.DuckDBPyConnection) -> None:
    """Give every configuration its unique name, and list their parameters.

    A function of the configurations alone, independent of the order in which they came; running it
    twice changes nothing. It is called where configurations were added.
    """
    connection.execute(
        "UPDATE configurations SET base_name = configuration WHERE base_name IS NULL"
    )
    rows: pl.DataFrame = connection.sql("FROM configurations").pl()
    names = parameters.unique_names(map(parameters.naming_input, rows.iter_rows(named=True)))
    moved = [
        (id, names[id])
        for id, name in rows.select("configuration_id", "configuration").iter_rows()
        if names[id] != name
    ]
    _rename(connection, moved)
    _list_parameters(connection, rows)


def _rename(connection: duckdb.DuckDBPyConnection, moved: list[tuple[str, str]]) -> None:
    if not moved:
        return
    frame = pl.DataFrame(moved, schema=["id", "name"], orient="row")
    connection.register("renamed", frame)
    connection.execute(
        "UPDATE configurations SET configuration = renamed.name "
        "FROM renamed WHERE renamed.id = configuration_id"
    )
    connection.unregister("renamed")


def parameters_of(rows: pl.DataFrame) -> pl.DataFrame:
    """List the parameters of configurations: the rows of `parameters` that belong to them."""
    listed = [
        (id, *parameter)
        for id, params, settings in rows.select(
            "configuration_id", "strategy_params", "settings"
        ).iter_rows()
        for parameter in parameters.parameters(params, settings)
    ]
    return pl.DataFrame(listed, schema=polars_schema(schema.TABLES["parameters"]), orient="row")


def count_unlisted(connection: duckdb.DuckDBPyConnection) -> int:
    """Count the configurations whose rows of `parameters` are not those of their settings."""
    listed = [
        set(frame.select(schema.TABLES["parameters"].names).iter_rows())
        for frame in (
            connection.sql("FROM parameters").pl(),
            parameters_of(connection.sql("FROM configurations").pl()),
        )
    ]
    return len({row[0] for row in listed[0] ^ listed[1]})


def _list_parameters(connection: duckdb.DuckDBPyConnection, rows: pl.DataFrame) -> None:
    """Write the parameters that are not there as the configurations have them."""
    wanted = parameters_of(rows)
    key = list(schema.TABLES["parameters"].key)
    known: pl.DataFrame = connection.sql("FROM parameters").pl()
    if wanted.sort(key).equals(known.select(wanted.columns).sort(key)):
        return
    connection.register("new_parameters", wanted)
    connection.execute("DELETE FROM parameters")
    connection.execute("INSERT INTO parameters BY NAME FROM new_parameters")
    connection.unregister("new_parameters")
