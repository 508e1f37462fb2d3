"""Figures of the whole table: each one a query over the stored files, with its evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sterling.kernel.canonical import Json
from sterling.packs.insight.engine import identifier
from sterling.packs.insight.evidence import cite

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["exception_counts", "figures", "reject_rows"]

_FIRST_LINES = 5


def figures(connection: DuckDBPyConnection, columns: list[str]) -> list[dict[str, Json]]:
    """Rows, columns, missing cells, rejected rows, and cells that were read in a special way."""
    missing = " + ".join(f"count(*) - count({identifier(name)})" for name in columns)
    queries = (
        ("rows", "rows read", "SELECT count(*) AS count FROM t"),
        ("columns", "columns", "SELECT count(*) - 1 AS count FROM (DESCRIBE SELECT * FROM t)"),
        ("missing", "cells missing", f"SELECT CAST({missing} AS BIGINT) AS count FROM t"),
        ("rejected", "rows rejected", "SELECT count(*) AS count FROM rejects"),
        ("unparsed", "cells unreadable", _exceptions_sql("unparsed")),
        ("changed", "cells respelled", _exceptions_sql("spelled")),
    )
    found: list[dict[str, Json]] = []
    for name, label, query in queries:
        evidence = cite(connection, query, columns=())
        found.append({"id": name, "label": label, "value": evidence["value"][0][0], "evidence": evidence})
    return found


def reject_rows(connection: DuckDBPyConnection) -> list[dict[str, Json]]:
    """Rejected rows by reason, each with its first lines."""
    reasons = connection.execute("SELECT DISTINCT reason FROM rejects ORDER BY 1").fetchall()
    found: list[dict[str, Json]] = []
    for (reason,) in reasons:
        query = (
            f"SELECT count(*) AS rows, list(line ORDER BY line)[:{_FIRST_LINES}] AS first_lines"
            f" FROM rejects WHERE reason = '{reason}'"
        )
        evidence = cite(connection, query, columns=())
        rows, lines = evidence["value"][0]
        found.append({"reason": reason, "rows": rows, "first_lines": lines, "evidence": evidence})
    return found


def exception_counts(connection: DuckDBPyConnection) -> dict[tuple[str, str], int]:
    """Exceptions by column and reason, counted in the exceptions file itself."""
    rows = connection.execute(
        'SELECT "column", why, count(*) FROM exceptions GROUP BY 1, 2 ORDER BY 1, 2'
    ).fetchall()
    return {(str(column), str(why)): int(count) for column, why, count in rows}


def _exceptions_sql(why: str) -> str:
    return f"SELECT count(*) AS count FROM exceptions WHERE why = '{why}'"
