"""Parquet: types kept, rows numbered, torn files refused."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sterling.packs.insight.errors import LimitExceeded, UnreadableSource
from sterling.packs.insight.read.model import Limits, RawTable, ReadOptions
from sterling.packs.insight.read.source import read_source


def read(tmp_path: Path, table: pa.Table | bytes, **options: Any) -> RawTable:
    path = tmp_path / "t.parquet"
    if isinstance(table, bytes):
        path.write_bytes(table)
    else:
        pq.write_table(table, path)
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return read_source(path, "t.parquet", scratch, ReadOptions(**options))


def stored(table: RawTable) -> dict[str, str]:
    return {column.name: column.stored for column in table.columns}


def values(table: RawTable, column: str) -> list[Any]:
    sql = f"""SELECT "{column}" FROM read_parquet('{table.path}') ORDER BY _row"""
    return [row[0] for row in duckdb.sql(sql).fetchall()]


def test_every_cut_of_a_file_is_refused_as_torn(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": list(range(5000))}), tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()

    for size in (4, 8, 100, len(whole) // 2, len(whole) - 1):
        with pytest.raises(UnreadableSource):
            read(tmp_path, whole[:size])


def test_a_damaged_page_is_refused_and_not_read_in_part(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [f"value {n}" for n in range(5000)]}), tmp_path / "whole.parquet")
    whole = bytearray((tmp_path / "whole.parquet").read_bytes())
    whole[20:60] = b"\xff" * 40

    with pytest.raises(UnreadableSource):
        read(tmp_path, bytes(whole))


def test_no_rows_no_columns_and_too_many_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSource, match="rows"):
        read(tmp_path, pa.table({"a": pa.array([], pa.int64())}))
    with pytest.raises(UnreadableSource):
        read(tmp_path, pa.table({}))
    with pytest.raises(LimitExceeded):
        read(tmp_path, pa.table({"a": [1], "b": [1]}), limits=Limits(columns=1))


def test_types_are_kept_and_rows_are_numbered_from_one(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        pa.table(
            {
                "whole": pa.array([1, None], pa.int32()),
                "huge": pa.array([2**64 - 1, 0], pa.uint64()),
                "exact": pa.array([Decimal("1.10"), Decimal("2.25")], pa.decimal128(10, 2)),
                "real": [1.5, float("inf")],
                "truth": [True, None],
                "day": [dt.date(2024, 2, 29), None],
                "at": pa.array([dt.datetime(2024, 1, 1, 12), None], pa.timestamp("ms")),
                "word": pa.array(["a", "b"]).dictionary_encode(),
            }
        ),
    )

    assert stored(table) == {
        "whole": "BIGINT",
        "huge": "DECIMAL(20,0)",
        "exact": "DECIMAL(10,2)",
        "real": "DOUBLE",
        "truth": "BOOLEAN",
        "day": "DATE",
        "at": "TIMESTAMP",
        "word": "VARCHAR",
    }
    assert values(table, "_row") == [1, 2]
    assert values(table, "huge")[0] == 2**64 - 1


def test_what_a_column_cannot_hold_becomes_text_that_says_the_same_with_a_note(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        pa.table(
            {
                "nested": [{"b": 2, "a": [1, None]}, None],
                "bytes": [b"\x00\xff", None],
                "fine": pa.array([1, 2_000], pa.timestamp("ns")),
                "coarse": pa.array([1_000, 2_000], pa.timestamp("ns")),
            }
        ),
    )

    assert values(table, "nested") == ['{"a":[1,null],"b":2}', None]
    assert values(table, "bytes") == ["00ff", None]
    assert values(table, "fine")[0].endswith("00:00:00.000000001")
    assert stored(table)["coarse"] == "TIMESTAMP"
    assert len(table.notes) == 3


def test_repeated_names_are_suffixed_in_parquet_too(tmp_path: Path) -> None:
    table = read(tmp_path, pa.table([[1], [2]], names=["a", "A"]))

    assert [column.name for column in table.columns] == ["a", "A__2"]


def test_a_parquet_name_on_other_bytes_is_called_torn(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSource, match="mislabelled"):
        read(tmp_path, b"a,b\n1,2\n")
