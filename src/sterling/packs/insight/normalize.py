"""From raw cells to values, with the way back.

Plugins see only what is written here. For every raw column the mapping says
which rule read it, how many cells it changed, and which cells are exceptions;
`rebuilt_sql` gives every raw cell again from the normalized file, the rules and
the exceptions. Sentinel values (999, 1900-01-01) are values and stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sterling.packs.insight.engine import identifier, literal, one, opened
from sterling.packs.insight.read.model import ROW, RawColumn, RawTable
from sterling.packs.insight.rules import (
    ColumnRule,
    cell_sql,
    raw_text_sql,
    value_sql,
    why_sql,
    written_sql,
)
from sterling.packs.insight.shapes import Shape, clean_sql, matches_sql
from sterling.packs.insight.tally import tally_column
from sterling.packs.insight.types import Decision, Question, Reading, decide, decide_stored

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["WHYS", "MappedColumn", "Normalized", "normalize", "rebuilt_sql"]

WHYS = ("spelled", "blank", "missing-word", "unparsed")
_ROW_GROUP_ROWS = 122_880
_FOLDS_MAX = 1_000
_COLUMNS_AT_ONCE = 40


@dataclass(frozen=True, slots=True)
class MappedColumn:
    """One line of the mapping: a raw column, its rule and its exceptions by reason."""

    raw: RawColumn
    rule: ColumnRule
    notes: tuple[str, ...]
    spelled: int
    blank: int
    missing_word: int
    unparsed: int


@dataclass(frozen=True, slots=True)
class Normalized:
    """The normalized table and all that was decided on the way."""

    path: Path
    exceptions: Path
    columns: tuple[MappedColumn, ...]
    questions: tuple[Question, ...]


def normalize(raw: RawTable, scratch: Path) -> Normalized:
    """Type every column by a full scan, write the normalized Parquet and the exceptions."""
    source = f"read_parquet({literal(str(raw.path))})"
    path, exceptions = scratch / "normalized.parquet", scratch / "exceptions.parquet"
    questions: list[Question] = []
    rules: list[ColumnRule] = []
    notes: list[tuple[str, ...]] = []
    with opened(scratch) as connection:
        for column in raw.columns:
            decision = _decide(connection, source, column, raw.format)
            questions.extend(decision.questions)
            notes.append(decision.notes)
            rules.append(_styled(connection, source, _rule(column, decision, raw.format)))
        _write_values(connection, source, rules, path)
        counts = _write_exceptions(connection, source, rules, exceptions)
    columns = tuple(
        MappedColumn(column, rule, note, *(counts[rule.name].get(why, 0) for why in WHYS))
        for column, rule, note in zip(raw.columns, rules, notes, strict=True)
    )
    return Normalized(path, exceptions, columns, tuple(questions))


def rebuilt_sql(rule: ColumnRule, normalized: str, exceptions: str) -> str:
    """SQL that gives `_row` and the raw cell (as text) again, in row order."""
    row, value = f"n.{identifier(ROW)}", f"n.{identifier(rule.name)}"
    return (
        f"SELECT {row}, CASE WHEN e.raw IS NOT NULL THEN e.raw ELSE {written_sql(rule, value)} END"
        f" FROM {normalized} n LEFT JOIN (SELECT * FROM {exceptions}"
        f' WHERE "column" = {literal(rule.name)}) e ON e.{identifier(ROW)} = {row} ORDER BY {row}'
    )


def _decide(connection: DuckDBPyConnection, source: str, column: RawColumn, format_: str) -> Decision:
    tally = tally_column(connection, source, column.name) if column.stored == "VARCHAR" else None
    if format_ == "parquet":
        return decide_stored(column.name, column.stored, tally)
    assert tally is not None, "text sources hold text columns"
    return decide(column.name, tally)


def _rule(column: RawColumn, decision: Decision, format_: str) -> ColumnRule:
    return ColumnRule(
        name=column.name,
        stored=column.stored,
        type=decision.type,
        reading=decision.reading,
        scale=decision.scale,
        precision=decision.precision,
        trimmed=decision.trimmed,
        format=decision.format,
        unit=decision.unit,
        written="null" if format_ == "parquet" else "",
    )


def _styled(connection: DuckDBPyConnection, source: str, rule: ColumnRule) -> ColumnRule:
    """The rule with the usual way in which this column's cells are written."""
    cell = clean_sql(identifier(rule.name))
    if rule.reading == Reading.BOOL_WORDS:
        return replace(
            rule,
            true_word=_usual(connection, source, cell, f"lower({cell}) IN ('true','yes','y','t')", "true"),
            false_word=_usual(connection, source, cell, f"lower({cell}) IN ('false','no','n','f')", "false"),
        )
    if rule.reading == Reading.CATEGORY_FOLD:
        return replace(rule, folds=_folds(connection, source, cell))
    if rule.reading in (Reading.DATE_FORMAT, Reading.TIME_FORMAT):
        return replace(rule, written=_usual_format(connection, source, rule, cell))
    if rule.reading in (Reading.TIME_ISO, Reading.TIME_ISO_ZONED):
        return _usual_iso(connection, source, rule, cell)
    return rule


def _usual(connection: DuckDBPyConnection, source: str, shown: str, where: str, default: str) -> str:
    """The most frequent text of `shown`; ties go to the first in byte order."""
    found = connection.execute(
        f"SELECT {shown} AS v, count(*) AS n FROM {source} WHERE {where} GROUP BY 1"
        " ORDER BY n DESC, v LIMIT 1"
    ).fetchall()
    return str(found[0][0]) if found else default


def _folds(connection: DuckDBPyConnection, source: str, cell: str) -> tuple[tuple[str, str], ...]:
    """Spellings that differ from a more frequent one in case alone."""
    found = connection.execute(
        f"WITH spellings AS (SELECT {cell} AS v, count(*) AS n FROM {source} GROUP BY 1),"
        " ranked AS (SELECT v, first_value(v) OVER (PARTITION BY lower(v) ORDER BY n DESC, v) AS usual"
        f" FROM spellings) SELECT v, usual FROM ranked WHERE v <> usual ORDER BY v LIMIT {_FOLDS_MAX + 1}"
    ).fetchall()
    return tuple((str(old), str(new)) for old, new in found) if len(found) <= _FOLDS_MAX else ()


def _usual_format(connection: DuckDBPyConnection, source: str, rule: ColumnRule, cell: str) -> str:
    """The format with or without leading zeros, whichever writes more cells back."""
    short = rule.format.replace("%d", "%-d").replace("%m", "%-m").replace("%H", "%-H")
    parsed = f"try_strptime({cell}, {literal(rule.format)})"
    sums = ", ".join(
        f"count(*) FILTER (strftime({parsed}, {literal(format_)}) = {cell})"
        for format_ in (rule.format, short)
    )
    ((padded, bare),) = connection.execute(f"SELECT {sums} FROM {source}").fetchall()
    return rule.format if padded >= bare else short


def _usual_iso(connection: DuckDBPyConnection, source: str, rule: ColumnRule, cell: str) -> ColumnRule:
    zone = f"regexp_extract({cell}, '( ?(Z|z|[+-][0-9]{{2}}(:?[0-9]{{2}})?))$', 1)"
    zoned = rule.reading == Reading.TIME_ISO_ZONED
    where = matches_sql(cell, Shape.ISO_TIME_ZONED if zoned else Shape.ISO_TIME)
    local = f"left({cell}, length({cell}) - length({zone}))" if zoned else cell
    shape = _usual(connection, source, f"regexp_replace({local}, '[0-9]', '0', 'g')", where, "")
    seconds = ":%S" if len(shape) > len("0000-00-00T00:00") else ""
    places = len(shape.partition(".")[2])
    fraction = {3: ".%g", 6: ".%f"}.get(places, "")
    written = f"%Y-%m-%d{'T' if 'T' in shape else ' '}%H:%M{seconds}{fraction}"
    return replace(rule, written=written, zone=_usual(connection, source, zone, where, "Z") if zoned else "")


def _write_values(
    connection: DuckDBPyConnection, source: str, rules: Sequence[ColumnRule], path: Path
) -> None:
    cells = ", ".join(f"{cell_sql(rule)} AS {identifier(rule.name)}" for rule in rules)
    values = ", ".join(
        f"{value_sql(rule, name)} AS {name}" for rule in rules if (name := identifier(rule.name))
    )
    connection.execute(
        f"COPY (SELECT {identifier(ROW)}, {values} FROM (SELECT {identifier(ROW)}, {cells} FROM {source}))"
        f" TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP_ROWS})"
    )


def _write_exceptions(
    connection: DuckDBPyConnection, source: str, rules: Sequence[ColumnRule], path: Path
) -> dict[str, dict[str, int]]:
    """Keep every cell that its value does not give back; count them by column and reason."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [(ROW, pa.int64()), ("column", pa.string()), ("raw", pa.string()), ("why", pa.string())]
    )
    counts: dict[str, dict[str, int]] = {rule.name: {} for rule in rules}
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        writer.write_table(schema.empty_table())
        for rule in _with_exceptions(connection, source, rules):
            for batch in connection.sql(_exceptions_sql(source, rule)).to_arrow_reader(_ROW_GROUP_ROWS):
                table = pa.Table.from_batches([batch]).cast(schema)
                writer.write_table(table)
                for why in table.column("why").to_pylist():
                    counts[rule.name][why] = counts[rule.name].get(why, 0) + 1
    return counts


def _with_exceptions(
    connection: DuckDBPyConnection, source: str, rules: Sequence[ColumnRule]
) -> list[ColumnRule]:
    """The rules that have exceptions, found a few columns at a time; most have none."""
    found: list[ColumnRule] = []
    for start in range(0, len(rules), _COLUMNS_AT_ONCE):
        part = rules[start : start + _COLUMNS_AT_ONCE]
        raws = ", ".join(f"{raw_text_sql(rule)} AS r{place}" for place, rule in enumerate(part))
        cells = ", ".join(f"{cell_sql(rule)} AS c{place}" for place, rule in enumerate(part))
        values = ", ".join(
            f"r{place}, {value_sql(rule, f'c{place}')} AS v{place}" for place, rule in enumerate(part)
        )
        sums = ", ".join(
            f"count(*) FILTER (r{place} IS DISTINCT FROM {written_sql(rule, f'v{place}')})"
            for place, rule in enumerate(part)
        )
        counted = one(
            connection, f"SELECT {sums} FROM (SELECT {values} FROM (SELECT {raws}, {cells} FROM {source}))"
        )
        found.extend(rule for rule, count in zip(part, counted, strict=True) if count)
    return found


def _exceptions_sql(source: str, rule: ColumnRule) -> str:
    row = identifier(ROW)
    return (
        f"WITH cells AS (SELECT {row}, {raw_text_sql(rule)} AS raw, {cell_sql(rule)} AS cell FROM {source}),"
        f" found AS (SELECT {row}, raw, {value_sql(rule, 'cell')} AS value FROM cells)"
        f' SELECT {row}, {literal(rule.name)} AS "column", raw, {why_sql("raw", "value")} AS why FROM found'
        f" WHERE raw IS DISTINCT FROM {written_sql(rule, 'value')} ORDER BY {row}"
    )
