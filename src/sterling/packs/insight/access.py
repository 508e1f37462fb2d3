"""What a plugin may do with the table: only what its manifest declares, and all of it is written down.

`sql` runs aggregate queries over the view `t` of the normalized table; `rows`
walks every row. The connection is sealed, so no other file of the machine can
be reached through it. A plugin that asks for more is refused, and the refusal
stands in the journal even if the plugin swallows the error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sterling.kernel.canonical import Json
from sterling.packs.insight.codes import Reason, sentence
from sterling.packs.insight.engine import identifier
from sterling.packs.insight.evidence import TABLE_VIEW, cite
from sterling.packs.insight.journal import Journal
from sterling.packs.insight.read.model import ROW

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["ACCESS", "AccessRefused", "ColumnView", "TableAccess"]

ACCESS = ("sql", "rows")
_ROWS_MAX = 1_000_000
_EXACT_DIGITS = 18
_SHOWN_MAX = 6


class AccessRefused(Exception):
    """The plugin asked for something that it may not have."""


@dataclass(frozen=True, slots=True)
class ColumnView:
    """What a plugin knows of a column before it reads a cell."""

    name: str
    type: str
    scale: int
    precision: int
    unit: str

    @property
    def sql(self) -> str:
        """The name as it stands in a query."""
        return identifier(self.name)

    @property
    def number(self) -> str:
        """A whole number or decimal in a query, wide enough that sums and products stay exact."""
        return f"CAST({self.sql} AS HUGEINT)" if self.type == "int" else self.sql

    @property
    def exact(self) -> bool:
        """Whether sums and products of this column with another such one stay exact."""
        return self.type == "int" or (self.type == "decimal" and self.precision <= _EXACT_DIGITS)


class TableAccess:
    """The injected `table`. Queries read the view `t`; `_row` numbers the rows from 1."""

    def __init__(
        self,
        connection: DuckDBPyConnection,
        journal: Journal,
        *,
        declared: Sequence[str],
        columns: Sequence[ColumnView],
        row_count: int,
    ) -> None:
        self._connection, self._journal = connection, journal
        self._declared = frozenset(declared)
        self._views = tuple(columns)
        self._row_count = row_count

    @property
    def row_count(self) -> int:
        return self._row_count

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(view.name for view in self._views)

    @property
    def views(self) -> tuple[ColumnView, ...]:
        """Every granted column with its type."""
        return self._views

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """The rows that a query over `t` gives, at most 1,000,000."""
        self._need("sql")
        with self._sealed(query):
            found = self._connection.execute(query).fetchmany(_ROWS_MAX + 1)
        if len(found) > _ROWS_MAX:
            self._refuse(Reason.ACCESS_DENIED, f"over {_ROWS_MAX:,} rows from one query")
        return [tuple(row) for row in found]

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Every row in order, without its number."""
        self._need("rows")
        shown = ", ".join(view.sql for view in self._views)
        found = self._connection.execute(f"SELECT {shown} FROM {TABLE_VIEW} ORDER BY {identifier(ROW)}")
        while batch := found.fetchmany(10_000):
            yield from (tuple(row) for row in batch)

    def cite(self, query: str, *, columns: Sequence[str], rows: str | None = None) -> dict[str, Json]:
        """Evidence: the query, the one row it gives, and the rows of the table it is about."""
        self._need("sql")
        with self._sealed(query):
            shown = self._shown(columns) if rows is not None else ()
            return cite(self._connection, query, columns=tuple(columns), rows=rows, shown=shown)

    def _shown(self, columns: Sequence[str]) -> tuple[str, ...]:
        """The columns of a finding whose cells may stand in a report: never text, never ids."""
        hidden = {view.name for view in self._views if view.type in ("text", "id")}
        return tuple(name for name in columns if name not in hidden)[:_SHOWN_MAX]

    def _need(self, access: str) -> None:
        if access not in self._declared:
            self._refuse(Reason.ACCESS_DENIED, access)
        self._journal.write("used", access=access, times=1)

    def _refuse(self, reason: Reason, asked: str) -> None:
        self._journal.write("denied", code=str(reason), asked=asked)
        raise AccessRefused(sentence(reason, asked=asked))

    def _sealed(self, query: str) -> _Sealed:
        return _Sealed(self, query)


class _Sealed:
    """Turns the engine's refusal to leave the sealed views into the pack's own."""

    def __init__(self, table: TableAccess, query: str) -> None:
        self._table, self._query = table, query

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, _: object) -> None:
        import duckdb

        if isinstance(problem, duckdb.PermissionException | duckdb.CatalogException):
            self._table._refuse(Reason.RAW_ACCESS, self._query[:200])
