"""Values and the way back: every raw cell can be rebuilt from what is kept."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sterling.packs.insight.engine import identifier
from sterling.packs.insight.normalize import Normalized, normalize, rebuilt_sql
from sterling.packs.insight.read.model import RawTable, ReadOptions
from sterling.packs.insight.read.source import read_source
from sterling.packs.insight.rules import ColumnRule


def normalized(tmp_path: Path, columns: dict[str, list[str]]) -> tuple[RawTable, Normalized]:
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([list(columns), *zip(*columns.values(), strict=True)])
    path = tmp_path / "t.csv"
    path.write_bytes(file.getvalue().encode())
    return taken(tmp_path, path, ReadOptions(header=True, delimiter=","))


def taken(tmp_path: Path, path: Path, options: ReadOptions) -> tuple[RawTable, Normalized]:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    raw = read_source(path, path.name, scratch, options)
    return raw, normalize(raw, scratch)


def rebuilt(found: Normalized, place: int = 0) -> list[Any]:
    rule = found.columns[place].rule
    stored = ColumnRule.parse(rule.name, str(rule.type), rule.document())
    sql = rebuilt_sql(stored, f"read_parquet('{found.path}')", f"read_parquet('{found.exceptions}')")
    with duckdb.connect() as connection:
        return [row[1] for row in connection.execute(sql).fetchall()]


def values(found: Normalized, name: str) -> list[Any]:
    with duckdb.connect() as connection:
        sql = f"SELECT {identifier(name)} FROM read_parquet('{found.path}') ORDER BY _row"
        return [row[0] for row in connection.execute(sql).fetchall()]


HOSTILE = json.loads((Path(__file__).parent / "hostile_columns.json").read_text())


@pytest.mark.parametrize("rows", sorted({len(column["cells"]) for column in HOSTILE}))
def test_every_raw_cell_of_the_hostile_columns_is_rebuilt(tmp_path: Path, rows: int) -> None:
    columns = [column for column in HOSTILE if len(column["cells"]) == rows]
    together = {f"{column['name']} {place}": column["cells"] for place, column in enumerate(columns)}

    _, found = normalized(tmp_path, {**together, "other": ["x"] * rows})

    for place, column in enumerate(columns):
        assert rebuilt(found, place) == column["cells"]


CELLS = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=8),
    st.integers(-(10**20), 10**20).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
    st.floats().map(repr),
    st.dates().map(str),
    st.datetimes().map(lambda moment: moment.isoformat(timespec="seconds")),
    st.sampled_from(
        ["", "NA", "yes", "No", " 1 ", "007", "1,234", "$5", "50%", "13/04/2024", "1e3", "-0", "+1"]
    ),
)
KINDS = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.decimals(-1000, 1000, places=2).map(str),
    st.sampled_from(["yes", "Yes", "no", ""]),
    st.dates().map(lambda day: f"{day.day}/{day.month}/{day.year:04}"),
    st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat()),
    st.sampled_from(["red", "Red", "blue", " red"]),
    st.integers(0, 9999).map(lambda number: f"{number:04}"),
    st.integers(0, 10**9).map(lambda number: f"{number:,}"),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(CELLS, min_size=1, max_size=8))
def test_every_raw_cell_of_a_mixed_column_is_rebuilt(tmp_path: Path, cells: list[str]) -> None:
    _, found = normalized(tmp_path, {"x": cells, "other": ["y"] * len(cells)})

    assert rebuilt(found) == cells


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_raw_cell_of_a_column_of_one_kind_is_rebuilt(tmp_path: Path, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS.original_strategies))
    cells = data.draw(st.lists(kind, min_size=1, max_size=12))

    _, found = normalized(tmp_path, {"x": cells, "other": ["y"] * len(cells)})

    assert rebuilt(found) == cells


def test_what_must_survive_survives_as_it_was(tmp_path: Path) -> None:
    columns = {
        "account": ["0012", "0340", "9999"],
        "big": ["9223372036854775807", "9223372036854775806", "1"],
        "long": ["1234567890123456789012345678901234567890"] * 3,
        "mood": ["😀", "é", "日本"],
    }

    _, found = normalized(tmp_path, columns)

    for name, cells in columns.items():
        assert values(found, name) == cells


def test_decimals_stay_exact(tmp_path: Path) -> None:
    cells = ["1000000000000.4", "1000000000000.3", "0.00000000000000001"]

    _, found = normalized(tmp_path, {"x": cells, "other": ["y"] * 3})

    assert [f"{value:f}".rstrip("0") for value in values(found, "x")] == [
        "1000000000000.4",
        "1000000000000.3",
        "0.00000000000000001",
    ]


def test_offsets_are_taken_off_and_the_moment_is_kept(tmp_path: Path) -> None:
    cells = ["2024-01-01T01:30:00+02:00", "2023-12-31T18:00:00-05:30", "2023-12-31T23:30:00Z"]

    _, found = normalized(tmp_path, {"t": cells, "other": ["y"] * 3})

    assert [str(value) for value in values(found, "t")] == ["2023-12-31 23:30:00"] * 3


def test_a_cell_that_does_not_fit_its_column_becomes_missing_and_is_kept(tmp_path: Path) -> None:
    cells = [str(n) for n in range(99)] + ["many"]

    _, found = normalized(tmp_path, {"n": cells, "other": ["y"] * 100})

    assert values(found, "n")[-1] is None
    assert found.columns[0].unparsed == 1


def test_every_exception_says_why(tmp_path: Path) -> None:
    cells = [*(str(n) for n in range(97)), " ", "NA", "many"]

    _, found = normalized(tmp_path, {"n": cells, "other": ["y"] * 100})

    (column, _) = found.columns
    assert (column.spelled, column.blank, column.missing_word, column.unparsed) == (0, 1, 1, 1)
    with duckdb.connect() as connection:
        kept = connection.execute(f"SELECT raw, why FROM read_parquet('{found.exceptions}')").fetchall()
    assert kept == [(" ", "blank"), ("NA", "missing-word"), ("many", "unparsed")]


def test_spellings_are_folded_to_the_most_frequent_one_and_counted(tmp_path: Path) -> None:
    cells = ["Red", "red", "Red", "blue", "BLUE", "blue", " Red ", "blue"]

    _, found = normalized(tmp_path, {"c": cells, "other": ["y"] * 8})

    assert values(found, "c") == ["Red", "Red", "Red", "blue", "blue", "blue", "Red", "blue"]
    assert found.columns[0].spelled == 3


def test_ids_are_never_folded(tmp_path: Path) -> None:
    cells = ["ab1", "AB1", "ab1", "AB1"]

    _, found = normalized(tmp_path, {"part_id": cells, "other": ["y"] * 4})

    assert values(found, "part_id") == cells


def test_words_for_nothing_are_missing_in_numbers_and_kept_in_words(tmp_path: Path) -> None:
    _, found = normalized(
        tmp_path,
        {"n": ["1", "NA", "2", "None"], "c": ["NA", "NA", "DE", "DE"], "d": ["N/A", "x", "x", "N/A"]},
    )

    assert values(found, "n") == [1, None, 2, None]
    assert values(found, "c") == ["NA", "NA", "DE", "DE"]
    assert values(found, "d") == [None, "x", "x", None]


def test_infinity_is_a_value_and_overflow_is_not(tmp_path: Path) -> None:
    _, found = normalized(tmp_path, {"x": ["inf", "-inf", "1.5"], "y": ["1e999", "2.5e0", "3.5e0"]})

    assert values(found, "x") == [float("inf"), float("-inf"), 1.5]
    assert values(found, "y") == ["1e999", "2.5e0", "3.5e0"]


def test_sentinels_are_values_and_stay(tmp_path: Path) -> None:
    _, found = normalized(
        tmp_path, {"n": ["999", "1", "-1"], "d": ["1900-01-01", "9999-12-31", "2024-01-01"]}
    )

    assert values(found, "n") == [999, 1, -1]
    assert None not in values(found, "d")


def test_parquet_cells_are_rebuilt_from_typed_columns(tmp_path: Path) -> None:
    table = pa.table(
        {
            "n": [1, None, 3],
            "x": [1.5, float("nan"), float("inf")],
            "s": [" a", "", None],
            "user_id": [1, 2, 2**60],
            "t": pa.array([0, None, 1_500_000], pa.timestamp("us", tz="Europe/Oslo")),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")

    raw, found = taken(tmp_path, tmp_path / "t.parquet", ReadOptions())

    with duckdb.connect() as connection:
        for place, column in enumerate(found.columns):
            cell = f"{identifier(column.rule.name)}::VARCHAR"
            sql = f"SELECT {cell} FROM read_parquet('{raw.path}') ORDER BY _row"
            assert rebuilt(found, place) == [row[0] for row in connection.execute(sql).fetchall()]
    assert values(found, "user_id") == ["1", "2", str(2**60)]
    assert values(found, "x") == [1.5, None, float("inf")]
    assert str(values(found, "t")[2]) == "1970-01-01 00:00:01.500000"


@pytest.mark.parametrize(
    "cells", [["1"], ["x"], ["", ""], ["5"] * 50, ["inf"], ["9" * 400], ["2024-01-01"], ["yes"]]
)
def test_degenerate_columns_are_read_and_rebuilt(tmp_path: Path, cells: list[str]) -> None:
    _, found = normalized(tmp_path, {"x": cells, "other": ["y"] * len(cells)})

    assert rebuilt(found) == cells


def test_the_same_table_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    columns = {"n": ["1", "x", "3"] * 50, "c": ["Red", "red", "blue"] * 50}
    _, first = normalized(tmp_path, columns)
    before = first.path.read_bytes(), first.exceptions.read_bytes()

    _, second = normalized(tmp_path, columns)

    assert (second.path.read_bytes(), second.exceptions.read_bytes()) == before
