"""Hypotheses: ids that are the same everywhere and differ when any part differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from sterling.packs.insight.journal import Journal, read_journal
from sterling.packs.insight.registry import Hypothesis, Registered, write_registry

KEY = Hypothesis("column_profile", ("a", "b"), "order-of-times", "rows")


def test_the_id_of_a_key_is_the_same_on_every_machine() -> None:
    assert KEY.id == "h-7lyzlfx7zhoeuhka3g2o6zuwxo"


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, plugin="other"),
        replace(KEY, target=("b", "a")),
        replace(KEY, target=("a", "b,")),
        replace(KEY, estimand="sum"),
        replace(KEY, unit="cells"),
        replace(KEY, window="month"),
        replace(KEY, direction="greater"),
        replace(KEY, level="x"),
    ],
)
def test_changing_any_part_gives_another_id(other: Hypothesis) -> None:
    assert other.id != KEY.id


def test_a_key_comes_back_from_its_document() -> None:
    assert Hypothesis.parse(KEY.document()) == KEY


def test_the_registry_file_is_sorted_and_the_same_for_every_order(tmp_path: Path) -> None:
    rows = [Registered(replace(KEY, estimand=name), "explanation", "exact", name == "a") for name in "cab"]

    write_registry(rows, tmp_path / "one.parquet")
    write_registry(rows[::-1], tmp_path / "two.parquet")

    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT id, reported FROM '{tmp_path / 'one.parquet'}'").fetchall()
    assert [name for name, _ in found] == sorted(row.hypothesis.id for row in rows)
    assert sum(reported for _, reported in found) == 1


def test_an_empty_registry_is_a_file_too(tmp_path: Path) -> None:
    write_registry([], tmp_path / "none.parquet")

    with duckdb.connect() as connection:
        assert connection.execute(f"SELECT count(*) FROM '{tmp_path / 'none.parquet'}'").fetchall() == [(0,)]


def test_a_journal_survives_a_crash_up_to_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.write("registered", id=KEY.id, key=KEY.document())
    journal.write("used", access="sql", times=1)
    journal.write("denied", code="insight.access-denied", asked="rows")
    with path.open("a") as file:
        file.write('{"type": "used", "acc')

    told = read_journal(path)

    assert list(told.registered) == [KEY.id]
    assert told.used == {"sql": 1}
    assert told.denied == [("insight.access-denied", "rows")]


def test_a_step_that_wrote_nothing_told_nothing(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "absent.jsonl").registered == {}
