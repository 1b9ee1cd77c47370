"""Texts of a store: each is named after the hash of its bytes, so that a changed one shows."""

import hashlib

import duckdb

_AT_ONCE = 10_000


def text_id(data: bytes) -> str:
    """Return the id of a text, given in UTF-8."""
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def altered(connection: duckdb.DuckDBPyConnection, contents: str) -> list[str]:
    """List the ids of texts that are not those that they were named after.

    Args:
        connection: in which there is nothing else to fetch.
        contents: a relation with the columns of `contents`.
    """
    altered_ids = []
    rows = connection.execute(f"SELECT content_id, n_bytes, text FROM {contents}")
    while batch := rows.fetchmany(_AT_ONCE):
        for id, n_bytes, text in batch:
            data = (text or "").encode()
            if text is None or len(data) != n_bytes or text_id(data) != id:
                altered_ids.append(str(id))
    return sorted(altered_ids)
