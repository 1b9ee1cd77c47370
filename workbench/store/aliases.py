"""Aliases of models: the model that a configuration's name means, by rule or by the user."""

import dataclasses
from collections.abc import Iterable, Mapping

import duckdb
import msgspec
import polars as pl

from workbench import models, prices
from workbench.models import Alias
from workbench.records import Price

_SHEET = "aliases in "  # and the file's name: the sheet of the prices that aliases give


@dataclasses.dataclass(frozen=True, slots=True)
class Aliases:
    """The aliases of a store; one for a provider takes precedence over one for all providers."""

    rows: Mapping[tuple[str, str | None], Alias]

    def find(self, provider: str | None, model: str) -> Alias | None:
        """Find the alias of a model; None where the user gave none."""
        name = model.lower()
        service = provider.lower() if provider else None
        return self.rows.get((name, service)) or self.rows.get((name, None))

    def canonical(self, provider: str | None, model: str) -> models.Name:
        """Return the model that a name means, and the rules or the alias that say so."""
        alias = self.find(provider, model)
        if alias is None:
            return models.canonical(model)
        return models.Name(alias.canonical_model, (f"alias of {alias.sheet}",))

    def prices(self, provider: str | None, model: str) -> tuple[Price, ...]:
        """List the prices of a name that has an alias: those of the name that it is priced as.

        They count as a sheet of the user's, so that they take precedence over the name's own.
        """
        alias = self.find(provider, model)
        if alias is None:
            return ()
        price_rows = prices.rows_for(alias.price_provider, alias.price_model)
        sheet = f"{_SHEET}{alias.sheet}"
        given = {"model": model, "provider": provider, "sheet": sheet, "price_id": ""}
        return tuple(msgspec.structs.replace(row, **given) for row in price_rows)


def known(connection: duckdb.DuckDBPyConnection) -> Aliases:
    """Read the aliases of a store."""
    rows = connection.execute(
        "SELECT model, provider, canonical_model, priced_as, sheet FROM model_aliases ORDER BY ALL"
    ).fetchall()
    aliases = [Alias(*row) for row in rows]
    return Aliases({alias.key: alias for alias in aliases})


def add(connection: duckdb.DuckDBPyConnection, rows: Iterable[Alias]) -> None:
    """Write aliases in place of those of the same names."""
    for alias in rows:
        connection.execute(
            "DELETE FROM model_aliases WHERE lower(model) = lower($1) "
            "AND lower(provider) IS NOT DISTINCT FROM lower($2)",
            [alias.model, alias.provider],
        )
        connection.execute(
            f"DELETE FROM prices WHERE lower(model) = lower($1) AND starts_with(sheet, '{_SHEET}')",
            [alias.model],
        )
        connection.execute(
            "INSERT INTO model_aliases BY NAME SELECT $1 AS model, $2 AS provider, "
            "$3 AS canonical_model, $4 AS priced_as, $5 AS sheet",
            list(dataclasses.astuple(alias)),
        )


def read_names(connection: duckdb.DuckDBPyConnection, *, every: bool = False) -> None:
    """Fill `configurations.canonical_model`.

    Args:
        connection: inside a lease.
        every: read all names again, as after a new alias or a change of the rules.
    """
    new = "" if every else "WHERE canonical_model IS NULL"
    note_names(connection, f"(FROM configurations {new})", "names")
    connection.execute(
        """UPDATE configurations c SET canonical_model = n.meant FROM names n
        WHERE n.model = c.model AND n.provider IS NOT DISTINCT FROM c.provider
        AND n.meant IS DISTINCT FROM c.canonical_model"""
    )
    connection.execute("DROP TABLE names")


def note_names(connection: duckdb.DuckDBPyConnection, rows: str, into: str) -> None:
    """Make a temporary table (provider, model, meant) of the models that a relation names.

    Args:
        connection: inside a lease.
        rows: a relation with `provider` and `model`.
        into: what to call the table.
    """
    pairs = connection.execute(
        f"SELECT DISTINCT provider, model FROM {rows} WHERE model IS NOT NULL"
    ).fetchall()
    explained = known(connection)
    named = pl.DataFrame(
        [(*pair, explained.canonical(*pair).model) for pair in pairs],
        schema=dict.fromkeys(("provider", "model", "meant"), pl.String),
        orient="row",
    )
    connection.register("named", named)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {into} AS FROM named")
    connection.unregister("named")
