"""Evidence: a query, what it gave, and the hash of that; and executing it again.

Queries run sealed (`engine.sealed`), on one thread, over views named after what
they read: `t` is the normalized table. The same bytes give the same value, bit
for bit, so a stored value that a query no longer gives proves a change.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sterling.kernel.canonical import Json, canonical_bytes
from sterling.kernel.hashing import address_of
from sterling.packs.insight.engine import identifier
from sterling.packs.insight.read.model import ROW

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["TABLE_VIEW", "EvidenceTooLarge", "cite", "encode", "reexecute", "row_of"]

TABLE_VIEW = "t"
_VALUE_BYTES_MAX = 128 * 1024
_FIRST_ROWS = 10
_CELL_ROWS = 5
_CELL_LETTERS = 60
_INTEGER_MAX = 2**53 - 1
_FETCH_ROWS = 10_000


class EvidenceTooLarge(Exception):
    """A query was cited that gives more than evidence may hold; ours to mend."""


def encode(value: Any) -> Json:
    """A value of the engine as JSON: integers as such, all other figures as exact text."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _INTEGER_MAX else str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ("nan" if math.isnan(value) else f"{value:+}")
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dt.date | dt.datetime | dt.timedelta):
        return str(value)
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {str(name): encode(item) for name, item in value.items()}
    raise TypeError(f"expected a value that evidence can hold, found {type(value).__name__}")


def cite(
    connection: DuckDBPyConnection,
    query: str,
    *,
    columns: tuple[str, ...],
    rows: str | None = None,
    shown: tuple[str, ...] = (),
) -> dict[str, Json]:
    """Execute a query that gives one row, and give the evidence of it.

    `rows` is a query that gives the numbers of the rows the claim is about, in
    order; the cells of the columns `shown` are kept for the first of them.

    Raises:
        EvidenceTooLarge: more than one row, or a value over 128 KiB.
    """
    names, value = _execute(connection, query)
    if len(value) != 1:
        raise EvidenceTooLarge(f"expected one row of evidence, found {len(value)}")
    data = canonical_bytes(value)
    if len(data) > _VALUE_BYTES_MAX:
        raise EvidenceTooLarge(f"expected at most {_VALUE_BYTES_MAX} bytes of evidence, found {len(data)}")
    return {
        "query": query,
        "columns": list(columns),
        "names": names,
        "value": value,
        "value_sha256": address_of(data),
        "row_set": None if rows is None else _row_set(connection, rows, shown),
    }


def row_of(evidence: Mapping[str, Json]) -> dict[str, Json]:
    """The one row of the evidence, by name."""
    return dict(zip(evidence["names"], evidence["value"][0], strict=True))


def reexecute(connection: DuckDBPyConnection, evidence: Mapping[str, Json]) -> str:
    """What differs when the evidence is executed again, in words; empty when nothing does."""
    import duckdb

    try:
        names, value = _execute(connection, str(evidence["query"]))
        again = address_of(canonical_bytes(value))
        stored = address_of(canonical_bytes(evidence["value"]))
        row_set = evidence["row_set"]
        shown = () if row_set is None else tuple(row_set["shown"])
        rows = None if row_set is None else _row_set(connection, str(row_set["query"]), shown)
    except duckdb.Error as problem:
        return f"the query no longer runs: {str(problem).splitlines()[0][:200]}"
    if names != evidence["names"] or again != stored:
        return f"expected value {stored[:12]}, found {again[:12]}"
    if stored != evidence["value_sha256"]:
        return f"expected value hash {evidence['value_sha256'][:12]}, found {stored[:12]}"
    if rows != row_set:
        return "the rows it names are others now"
    return ""


def _execute(connection: DuckDBPyConnection, query: str) -> tuple[list[str], list[list[Json]]]:
    found = connection.execute(query)
    names = [str(column[0]) for column in found.description or ()]
    return names, [[encode(cell) for cell in row] for row in found.fetchall()]


def _row_set(connection: DuckDBPyConnection, query: str, shown: tuple[str, ...]) -> dict[str, Json]:
    """The rows a query names: how many, the hash of their numbers in order, and the first few with cells."""
    digest = hashlib.sha256()
    first: list[int] = []
    count = 0
    found = connection.execute(query)
    while batch := found.fetchmany(_FETCH_ROWS):
        count += len(batch)
        first.extend(int(row[0]) for row in batch[: _FIRST_ROWS - len(first)])
        digest.update("".join(f"{row[0]}\n" for row in batch).encode())
    return {
        "query": query,
        "rows": count,
        "sha256": digest.hexdigest(),
        "first": first,
        "shown": list(shown),
        "cells": _cells(connection, first[:_CELL_ROWS], shown),
    }


def _cells(connection: DuckDBPyConnection, rows: list[int], shown: tuple[str, ...]) -> list[list[Json]]:
    """The cells of these columns in these rows, each as text."""
    if not rows or not shown:
        return []
    cells = ", ".join(f"CAST({identifier(name)} AS VARCHAR)" for name in shown)
    numbers = ", ".join(str(number) for number in rows)
    row = identifier(ROW)
    found = connection.execute(
        f"SELECT {cells} FROM {TABLE_VIEW} WHERE {row} IN ({numbers}) ORDER BY {row}"
    ).fetchall()
    return [["" if cell is None else str(cell)[:_CELL_LETTERS] for cell in line] for line in found]
