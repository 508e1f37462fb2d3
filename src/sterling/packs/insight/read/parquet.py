"""Parquet: read with pyarrow, types kept, rows numbered in the order of the file.

Every value is carried over exactly or as text that says the same: nested values
become JSON text, bytes become hexadecimal, times finer than a microsecond
become text when the fine part is not zero.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sterling.kernel.canonical import canonical_bytes
from sterling.packs.insight.engine import literal, one, opened
from sterling.packs.insight.errors import LimitExceeded, UnreadableSource
from sterling.packs.insight.read.model import ROW, RawColumn, RawTable, ReadOptions, name_columns
from sterling.packs.insight.read.rejects import Rejects

__all__ = ["read_parquet"]

_BATCH_ROWS = 122_880
_DECIMAL_DIGITS_MAX = 38


def read_parquet(path: Path, scratch: Path, options: ReadOptions) -> RawTable:
    """Read the Parquet file at `path` into a raw Parquet table in `scratch`.

    Errors: UnreadableSource (torn, damaged, without rows or columns), LimitExceeded (columns).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as source:
            originals = list(source.schema_arrow.names)
            counted = int(source.metadata.num_rows)
            _check_shape(len(originals), counted, options)
            names = name_columns(originals)
            notes = _copy(source, names, scratch / "raw.parquet")
    except (pa.ArrowException, OSError, ValueError, KeyError) as problem:
        raise UnreadableSource(
            f"expected a whole Parquet file, found one that cannot be read: {_first_line(problem)}",
            reason="torn",
        ) from problem
    with opened(scratch) as connection:
        source_sql = f"read_parquet({literal(str(scratch / 'raw.parquet'))})"
        kinds = connection.execute(f"DESCRIBE SELECT * FROM {source_sql}").fetchall()
        rows = int(one(connection, f"SELECT count(*) FROM {source_sql}")[0])
    if rows != counted:
        raise UnreadableSource(
            f"expected {counted:,} rows as the file's footer says, found {rows:,}", reason="counts-differ"
        )
    stored = {str(name): str(kind) for name, kind, *_ in kinds}
    columns = tuple(
        RawColumn(name, original, stored[name]) for name, original in zip(names, originals, strict=True)
    )
    rejects = Rejects(scratch)
    return RawTable(
        scratch / "raw.parquet", rejects.close(), columns, rows, 0, counted, "parquet", {}, tuple(notes)
    )


def _check_shape(columns: int, rows: int, options: ReadOptions) -> None:
    if not columns:
        raise UnreadableSource("expected columns, found a Parquet file with none", reason="no-columns")
    if columns > options.limits.columns:
        raise LimitExceeded(
            f"expected at most {options.limits.columns:,} columns, found {columns:,}", columns=columns
        )
    if not rows:
        raise UnreadableSource("expected rows, found a Parquet file with none", reason="empty")


def _copy(source: Any, names: list[str], target: Path) -> list[str]:
    """Write the numbered rows; give the notes on columns that changed their form."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = list(source.schema_arrow)
    fine = _fine_times(source, fields)
    kept = [_kept_type(field.type, field.name in fine) for field in fields]
    schema = pa.schema([(ROW, pa.int64()), *zip(names, kept, strict=True)])
    done = 0
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for batch in source.iter_batches(batch_size=_BATCH_ROWS):
            numbers = pa.array(range(done + 1, done + 1 + batch.num_rows), pa.int64())
            arrays = [
                _converted(batch.column(place), field.type, kind)
                for place, (field, kind) in enumerate(zip(fields, kept, strict=True))
            ]
            writer.write_table(pa.table([numbers, *arrays], schema=schema))
            done += batch.num_rows
    notes = [_note(name, field.type, kind) for name, field, kind in zip(names, fields, kept, strict=True)]
    return [note for note in notes if note]


def _note(name: str, kind: Any, kept: Any) -> str:
    """What changed in the form of a column, or nothing."""
    import pyarrow as pa

    if pa.types.is_string(kept) and not _is_text(kind):
        return f"{name}: {kind} is kept as text"
    if pa.types.is_timestamp(kept) and kind.tz:
        return f"{name}: times of zone {kind.tz} are kept in UTC"
    return ""


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _kept_type(kind: Any, fine: bool) -> Any:
    """The type a column has in the raw table."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        return _kept_type(kind.value_type, fine)
    if types.is_boolean(kind) or types.is_date(kind):
        return pa.bool_() if types.is_boolean(kind) else pa.date32()
    if types.is_uint64(kind):
        return pa.decimal128(20, 0)
    if types.is_integer(kind):
        return pa.int64()
    if types.is_floating(kind):
        return pa.float64()
    if types.is_decimal(kind) and kind.precision <= _DECIMAL_DIGITS_MAX:
        return pa.decimal128(kind.precision, max(0, kind.scale))
    if types.is_timestamp(kind) and not fine:
        return pa.timestamp("us")
    return pa.string()


def _converted(array: Any, kind: Any, kept: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(kind):
        array, kind = array.dictionary_decode(), kind.value_type
    if pa.types.is_null(kind):
        return pa.nulls(len(array), kept)
    if pa.types.is_timestamp(kind) and kind.tz:
        return pc.cast(pc.cast(pc.cast(array, pa.timestamp("us", tz="UTC")), pa.int64()), kept)
    if not pa.types.is_string(kept) or _is_text(kind):
        return pc.cast(array, kept)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.array([None if value is None else value.hex() for value in array.to_pylist()], kept)
    if pa.types.is_nested(kind):
        return pa.array([_json(value) for value in array.to_pylist()], kept)
    return pc.cast(array, kept)


def _json(value: Any) -> str | None:
    return None if value is None else canonical_bytes(_plain(value), floats=True).decode()


def _plain(value: Any) -> Any:
    """A nested value as JSON; what JSON lacks becomes text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int) and abs(value) < 2**53:
        return value
    return str(value)


def _fine_times(source: Any, fields: list[Any]) -> frozenset[str]:
    """Names of the nanosecond columns that hold a time finer than a microsecond."""
    import pyarrow as pa
    import pyarrow.compute as pc

    fine: set[str] = set()
    suspects = [
        field.name for field in fields if pa.types.is_timestamp(field.type) and field.type.unit == "ns"
    ]
    if not suspects:
        return frozenset()
    for batch in source.iter_batches(batch_size=_BATCH_ROWS, columns=suspects):
        for name in suspects:
            ticks = pc.cast(batch.column(name), pa.int64())
            coarse = pc.multiply(pc.divide(ticks, 1_000), 1_000)
            if pc.any(pc.not_equal(ticks, coarse)).as_py():
                fine.add(name)
    return frozenset(fine)


def _first_line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or ["no reason given"])[0][:200]
