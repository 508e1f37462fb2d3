"""Counting the shapes of every cell of a column: a full scan, never a sample.

One query a column gives all that `types.decide` needs; a second one, for
columns that look like days or times, counts which formats read them. A Parquet
column of another type than text needs only its counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sterling.packs.insight.engine import identifier, literal, one
from sterling.packs.insight.shapes import (
    Shape,
    bare_sql,
    clean_sql,
    date_shapes,
    number_shapes,
    shape_sql,
    unit_sql,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["DATE_FORMATS", "ColumnTally", "ShapeTally", "tally_column"]

DATE_FORMATS: dict[str, str] = {
    "year-month-day": "%Y-%m-%d",
    "year/month/day": "%Y/%m/%d",
    "year.month.day": "%Y.%m.%d",
    "day.month.year": "%d.%m.%Y",
    "day/month/year": "%d/%m/%Y",
    "month/day/year": "%m/%d/%Y",
    "day-month-year": "%d-%m-%Y",
    "month-day-year": "%m-%d-%Y",
    "day month-name year": "%d %b %Y",
    "day-month-name-year": "%d-%b-%Y",
    "month-name day, year": "%b %d, %Y",
    "day long-month-name year": "%d %B %Y",
    "long-month-name day, year": "%B %d, %Y",
}
CLOCKS = ("", " %H:%M", " %H:%M:%S")
_EXACT_INT = 2**53
_COMMA_PLACES = (Shape.COMMA_DECIMAL, Shape.COMMA_THREE, Shape.DOT_THOUSANDS)


@dataclass(frozen=True, slots=True)
class ShapeTally:
    """The cells of one shape: how many, how many different, and how large they get."""

    cells: int = 0
    distinct: int = 0
    digits_max: int = 0  # Significant digits: leading zeros do not count.
    whole_max: int = 0  # Digits before the decimal mark.
    scale_min: int = 0
    scale_max: int = 0
    big: int = 0  # Whole numbers beyond 2^53.
    spaced: int = 0  # Cells with a space in them.
    digited: int = 0  # Cells with a digit in them.
    length_max: int = 0
    overflow: int = 0  # Numbers too large for floating point.


@dataclass(frozen=True, slots=True)
class ColumnTally:
    """All that is known of a column of text before its type is decided."""

    rows: int
    shapes: Mapping[Shape, ShapeTally]
    units: Mapping[str, int] = field(default_factory=dict)
    words: Sequence[tuple[str, int]] = ()  # What the cells that may mean "missing" say, and how often.
    formats: Mapping[str, int] = field(default_factory=dict)  # Date format -> cells it reads.
    distinct: int = 0
    zones: int = 0  # Cells that name a time zone.

    def cells(self, *shapes: Shape) -> int:
        return sum(self.shapes[shape].cells for shape in shapes if shape in self.shapes)

    def largest(self, name: str, *shapes: Shape) -> int:
        return max((getattr(self.shapes[shape], name) for shape in shapes if shape in self.shapes), default=0)


def tally_column(connection: DuckDBPyConnection, source: str, column: str) -> ColumnTally:
    """Count the shapes of one text column of `source` (SQL for a table)."""
    cell = identifier(column)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE shaped AS"
        f" WITH cells AS (SELECT {cell} AS raw, count(*) AS n FROM {source} GROUP BY 1),"
        f" cleaned AS (SELECT {clean_sql('coalesce(raw, {})'.format(literal('')))} AS v, sum(n) AS n"
        " FROM cells GROUP BY 1),"
        f" united AS (SELECT v, n, {unit_sql('v')} AS unit FROM cleaned),"
        f" bared AS (SELECT v, n, unit, {bare_sql('v', 'unit')} AS s FROM united)"
        f" SELECT v, n, unit, s, {shape_sql('s')} AS shape FROM bared"
    )
    shapes = _shapes(connection)
    units = connection.execute(
        "SELECT unit, sum(n) FROM shaped WHERE unit <> '' GROUP BY 1 ORDER BY 1"
    ).fetchall()
    words = connection.execute(
        f"SELECT v, n FROM shaped WHERE shape = {literal(Shape.MAYBE_MISSING)} ORDER BY n DESC, v"
    ).fetchall()
    rows, distinct = one(connection, "SELECT coalesce(sum(n), 0), count(*) FILTER (v <> '') FROM shaped")
    looks_dated = sum(tally.cells for shape, tally in shapes.items() if shape in date_shapes())
    formats = _formats(connection) if looks_dated * 2 > int(rows) - _blank(shapes) else {}
    connection.execute("DROP TABLE shaped")
    zoned = shapes[Shape.ISO_TIME_ZONED].cells if Shape.ISO_TIME_ZONED in shapes else 0
    return ColumnTally(
        rows=int(rows),
        shapes=shapes,
        units={str(unit): int(n) for unit, n in units},
        words=[(str(word), int(n)) for word, n in words],
        formats=formats,
        distinct=int(distinct),
        zones=zoned,
    )


def _blank(shapes: Mapping[Shape, ShapeTally]) -> int:
    return sum(
        tally.cells
        for shape, tally in shapes.items()
        if shape in (Shape.BLANK, Shape.MISSING, Shape.MAYBE_MISSING)
    )


def _shapes(connection: DuckDBPyConnection) -> dict[Shape, ShapeTally]:
    figures = r"ltrim(regexp_replace(s, '[^0-9]', '', 'g'), '0')"  # Leading zeros do not count.
    commas = ", ".join(literal(shape) for shape in _COMMA_PLACES)
    mark = f"CASE WHEN shape IN ({commas}) THEN ',' ELSE '.' END"
    whole = f"length(regexp_replace(split_part(s, {mark}, 1), '[^0-9]', '', 'g'))"
    scale = f"length(split_part(s, {mark}, 2))"
    exponents = ", ".join(literal(shape) for shape in (Shape.EXPONENT, Shape.CODE_EXPONENT))
    numeric = f"shape IN ({', '.join(literal(shape) for shape in sorted(number_shapes()))})"
    found = connection.execute(
        f"""SELECT shape, sum(n), count(*),
          coalesce(max(length({figures})) FILTER ({numeric}), 0),
          coalesce(max({whole}) FILTER ({numeric}), 0),
          coalesce(min({scale}) FILTER ({numeric}), 0),
          coalesce(max({scale}) FILTER ({numeric}), 0),
          coalesce(sum(n) FILTER (shape = {literal(Shape.INT)} AND length(s) > 15
            AND coalesce(abs(TRY_CAST(s AS HUGEINT)) > {_EXACT_INT}, true)), 0),
          coalesce(sum(n) FILTER (contains(v, ' ')), 0),
          coalesce(sum(n) FILTER (regexp_matches(v, '[0-9]')), 0),
          max(length(v)),
          coalesce(sum(n) FILTER (shape IN ({exponents}) AND isinf(TRY_CAST(s AS DOUBLE))), 0)
        FROM shaped GROUP BY shape ORDER BY shape"""
    ).fetchall()
    return {Shape(row[0]): ShapeTally(*(int(number) for number in row[1:])) for row in found}


def _formats(connection: DuckDBPyConnection) -> dict[str, int]:
    """How many cells each date format reads, with and without a time of day."""
    names = [(name, format_ + clock) for name, format_ in DATE_FORMATS.items() for clock in CLOCKS]
    dated = ", ".join(
        literal(shape) for shape in sorted(date_shapes() - {Shape.ISO_TIME, Shape.ISO_TIME_ZONED})
    )
    sums = ", ".join(
        f"coalesce(sum(n) FILTER (shape IN ({dated}) AND try_strptime(s, {literal(format_)}) IS NOT NULL), 0)"
        for _, format_ in names
    )
    iso = (
        f"coalesce(sum(n) FILTER (shape IN ({literal(Shape.ISO_TIME)}, {literal(Shape.ISO_TIME_ZONED)})"
        " AND TRY_CAST(s AS TIMESTAMP) IS NOT NULL), 0)"
    )
    counted = one(connection, f"SELECT {iso}, {sums} FROM shaped")
    found = {"iso-time": int(counted[0])}
    for (_, format_), cells in zip(names, counted[1:], strict=True):
        found[format_] = int(cells)
    return {format_: cells for format_, cells in found.items() if cells}
