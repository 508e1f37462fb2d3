"""Sixty hostile columns: the type each one gets, and what is asked about it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sterling.packs.insight.engine import literal, opened
from sterling.packs.insight.tally import tally_column
from sterling.packs.insight.types import Decision, decide, is_id_name

COLUMNS: list[tuple[str, list[str], str, str]] = [
    (column["name"], column["cells"], column["type"], column["asks"])
    for column in json.loads((Path(__file__).parent / "hostile_columns.json").read_text())
]


def decided(tmp_path: Path, name: str, cells: list[str]) -> Decision:
    table = pa.table({"_row": list(range(1, len(cells) + 1)), name: cells})
    pq.write_table(table, tmp_path / "t.parquet")
    with opened(tmp_path) as connection:
        return decide(
            name, tally_column(connection, f"read_parquet({literal(str(tmp_path / 't.parquet'))})", name)
        )


@pytest.mark.parametrize(("name", "cells", "kind", "topic"), COLUMNS)
def test_each_hostile_column_gets_its_type_or_a_question(
    tmp_path: Path, name: str, cells: list[str], kind: str, topic: str
) -> None:
    decision = decided(tmp_path, name, cells)

    assert decision.type == kind
    assert [question.topic for question in decision.questions] == ([topic] if topic else [])


def test_there_are_at_least_sixty_hostile_columns() -> None:
    assert len(COLUMNS) >= 60


def test_98_of_100_numbers_make_a_number_and_97_do_not(tmp_path: Path) -> None:
    assert decided(tmp_path, "n", ["5"] * 98 + ["x", "y"]).type == "int"
    assert decided(tmp_path, "n", ["5"] * 97 + ["x", "y", "z"]).type != "int"


def test_two_late_days_do_not_settle_the_order_of_day_and_month_in_a_long_column(tmp_path: Path) -> None:
    cells = [f"{day:02}/{month:02}/2024" for month in range(1, 13) for day in range(1, 13)]

    assert decided(tmp_path, "d", [*cells, "13/04/2024", "14/04/2024"]).questions
    assert decided(tmp_path, "d", [*cells, *(f"{day}/04/2024" for day in range(13, 20))]).format == "%d/%m/%Y"


def test_every_question_names_its_column_and_its_options(tmp_path: Path) -> None:
    for name, cells, _, topic in [column for column in COLUMNS if column[3]]:
        for question in decided(tmp_path, name, cells).questions:
            assert topic == question.topic and name in question.text and len(question.options) == 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("id", True),
        ("customerId", True),
        ("host id", True),
        ("paid", False),
        ("idle", False),
        ("id_count", False),
    ],
)
def test_only_a_last_word_makes_a_name_an_id_name(name: str, expected: bool) -> None:
    assert is_id_name(name) is expected
