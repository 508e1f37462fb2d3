"""Connections to the query engine, opened the same way everywhere.

One thread, insertion order kept: the same query over the same bytes gives the
same bytes. A *sealed* connection sees the named Parquet files as views and
nothing else of the machine: no other file, no setting, no extension.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

__all__ = ["identifier", "literal", "one", "opened", "sealed"]


def identifier(name: str) -> str:
    """The name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """The text quoted for SQL."""
    return "'" + text.replace("'", "''") + "'"


def one(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    """The single row that a query gives."""
    (row,) = connection.execute(sql).fetchall()
    return tuple(row)


@contextmanager
def opened(scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """An ordinary connection whose temporary files stay in `scratch`."""
    connection = _connect()
    try:
        connection.execute(f"SET temp_directory={literal(str(scratch / 'spill'))}")
        # Both rewrites cost the square of the number of columns and win nothing for queries like ours:
        # they look for expressions that columns share, and make a join of every list of words.
        connection.execute("SET disabled_optimizers='common_subexpressions,in_clause'")
        yield connection
    finally:
        connection.close()


@contextmanager
def sealed(views: Mapping[str, Path], *, memory_bytes: int = 0) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that can read these views and nothing else; `memory_bytes` 0 sets no bound."""
    connection = _connect()
    try:
        if memory_bytes:
            connection.execute(f"SET memory_limit='{memory_bytes}B'")
        for name, path in sorted(views.items()):
            source = f"read_parquet({literal(str(path))})"
            connection.execute(f"CREATE VIEW {identifier(name)} AS SELECT * FROM {source}")
        paths = ", ".join(literal(str(path)) for _, path in sorted(views.items()))
        connection.execute(f"SET allowed_paths=[{paths}]")
        connection.execute("SET enable_external_access=false")
        connection.execute("SET lock_configuration=true")
        yield connection
    finally:
        connection.close()


def _connect() -> duckdb.DuckDBPyConnection:
    import duckdb

    return duckdb.connect(
        config={
            "threads": 1,
            "preserve_insertion_order": True,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
