"""`workbench schema`: the tables, views, columns and filter names of a store."""

from pathlib import Path

import click

from workbench import schema as stored
from workbench.cli.examples import examples
from workbench.cli.options import open_store, output_options, store_option


@click.command(
    epilog=examples(
        "workbench schema trace_facts",
        "workbench schema --examples",
    ),
)
@click.argument("table", required=False)
@click.option("--examples", is_flag=True, help="Print example queries for workbench sql.")
@click.option(
    "--filters",
    is_flag=True,
    help="List the names that you can use in --where and --by, your store's own fields included.",
)
@store_option
@output_options
def schema(
    *,
    table: str | None,
    examples: bool,
    filters: bool,
    store_path: str | None,
    format_: str | None,
    output: Path | None,
) -> None:
    """Describe tables and views, with example queries.

    Without TABLE you get the list of all tables and views, with TABLE its columns. The names are
    an interface: your queries keep working in later versions.
    """
    from workbench.cli.output import Document, emit
    from workbench.cli.tables import frame_of

    if examples:
        _examples(format_, output)
        return
    if filters:
        _filters(store_path, format_, output)
        return
    if table is None:
        rows = [
            {
                "table": t.name,
                "kind": "view" if t.name in stored.VIEWS else "table",
                "grain": t.grain,
                "key": ", ".join(t.key),
                "n_columns": len(t.columns),
            }
            for t in stored.RELATIONS.values()
        ]
        frame = frame_of(rows, ["table", "kind", "grain", "key", "n_columns"])
        notes = ["for columns: workbench schema TABLE; for queries: workbench schema --examples"]
        emit(Document("schema", frame, notes=notes), format_, output)
        return
    relation = stored.RELATIONS.get(table)
    if relation is None:
        raise click.BadParameter(_unknown(table), param_hint="'TABLE'")
    described = [
        {"column": c.name, "type": c.sql_type, "unit": c.unit, "about": c.doc, "null means": c.null}
        for c in relation.columns
    ]
    frame = frame_of(described, ["column", "type", "unit", "about", "null means"])
    emit(
        Document(relation.name, frame, notes=[f"{relation.name}: {relation.grain}"]),
        format_,
        output,
    )


def _unknown(table: str) -> str:
    import difflib

    close = difflib.get_close_matches(table, stored.RELATIONS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(stored.RELATIONS)}"
    return f"no table or view {table!r}; {hint}"


def _store_fields(store_path: str | None) -> list[dict[str, str]]:
    """List the fields that only this store has, with types and scales; empty without a store."""
    from workbench.errors import StoreMissing
    from workbench.slice.names import written

    try:
        fields = open_store(store_path).fields()
    except StoreMissing:
        if store_path is not None:
            raise
        return []
    rows = []
    for column in fields.values():
        ends = ["…" if end is None else f"{end:g}" for end in column.scale]
        scale = f" From {ends[0]} to {ends[1]}." if column.scale != (None, None) else ""
        better = f" {column.direction.capitalize()} is better." if column.direction else ""
        rows.append(
            {
                "name": written(column.name),
                "kind": column.type,
                "unit": column.unit,
                "also": "",
                "about": f"{column.doc}{scale}{better}",
            }
        )
    return rows


def _filters(store_path: str | None, format_: str | None, output: Path | None) -> None:
    from workbench.cli.output import Document, emit
    from workbench.cli.tables import frame_of
    from workbench.slice import FIELDS

    aliases: dict[str, list[str]] = {}
    for name, field in FIELDS.items():
        aliases.setdefault(field.name, []).extend([name] if name != field.name else [])
    rows = [
        {
            "name": f.name,
            "kind": f.kind,
            "unit": f.unit,
            "also": ", ".join(aliases[f.name]),
            "about": f.doc,
        }
        for name, f in FIELDS.items()
        if name == f.name
    ] + _store_fields(store_path)
    notes = ['for example: model:gpt* task:gsm8k wrong thinking>2k since:7d "text in transcript"']
    frame = frame_of(rows, ["name", "kind", "unit", "also", "about"])
    emit(Document("filters", frame, notes=notes), format_, output)


def _examples(format_: str | None, output: Path | None) -> None:
    from workbench.cli.output import Document, emit
    from workbench.cli.tables import frame_of
    from workbench.store.examples import EXAMPLES

    if format_ in {None, "table"} and output is None:
        for title, query in EXAMPLES:
            click.echo(f"-- {title}\n{query.strip()};\n")
        return
    rows = [{"title": title, "sql": query} for title, query in EXAMPLES]
    emit(Document("examples", frame_of(rows, ["title", "sql"])), format_, output)
