"""The index: nothing but the records, and found out when it is not."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sterling.kernel.home import Home, init_home, open_home
from sterling.packs.recall.ingest.ingest import ingest
from sterling.packs.recall.search.index import IndexAltered, IndexBehind, check, open_index, rebuild


def change(home: Home, statement: str) -> None:
    with sqlite3.connect(home.path / "index" / "recall.db") as connection:
        connection.execute(statement)
    connection.close()


def digest(home: Home) -> str:
    with open_index(home) as index:
        return index.digest()


def test_rebuilding_gives_the_same_rows_as_growing(read_home: Home) -> None:
    before = digest(read_home)

    rebuild(read_home)

    assert digest(read_home) == before
    assert check(read_home).entries == read_home.ledger.size()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM ticks WHERE n = 1",
        "UPDATE ticks SET at_us = at_us + 1 WHERE n = 0",
        "UPDATE documents SET body = replace(body, '418', '481')",
        "DELETE FROM tiles WHERE place = 0",
        "INSERT INTO stage1 VALUES ('r-forged', 'complete')",
        "UPDATE frames SET frame_hash = 'ff' WHERE entry = (SELECT min(entry) FROM frames)",
        "DELETE FROM sessions",
        "UPDATE contexts SET title = 'x'",
    ],
)
def test_rows_changed_behind_its_back_are_named(read_home: Home, statement: str) -> None:
    digest(read_home)
    change(read_home, statement)

    with pytest.raises(IndexAltered) as caught:
        check(read_home)

    assert caught.value.details["table"] in statement
    rebuild(read_home)
    check(read_home)


def test_words_changed_behind_its_back_are_found(read_home: Home) -> None:
    digest(read_home)
    change(read_home, "DELETE FROM words_data WHERE id > 10")

    with pytest.raises(IndexAltered):
        check(read_home)


@pytest.mark.parametrize("damage", [b"", b"no database", b"SQLite format 3\x00" + b"\x00" * 4000])
def test_a_file_that_is_no_index_is_made_anew(read_home: Home, damage: bytes) -> None:
    before = digest(read_home)
    (read_home.path / "index" / "recall.db").write_bytes(damage)

    assert digest(read_home) == before


def test_an_index_of_another_history_is_made_anew(read_home: Home) -> None:
    before = digest(read_home)
    change(read_home, "UPDATE meta SET value = 'ff' WHERE name = 'head'")
    change(read_home, "DELETE FROM documents")

    assert digest(read_home) == before


def test_a_missing_index_of_a_home_opened_for_reading_is_said(read_home: Home) -> None:
    digest(read_home)
    path = read_home.path
    read_home.close()
    (path / "index" / "recall.db").unlink()

    with open_home(path, read_only=True) as home, pytest.raises(IndexBehind), open_index(home):
        pass


def test_a_copied_index_that_is_behind_catches_up(home: Home, drawn_day: Path, tmp_path: Path) -> None:
    with open_index(home):
        pass
    old = (home.path / "index" / "recall.db").read_bytes()
    ingest(drawn_day, home)
    fresh = digest(home)
    (home.path / "index" / "recall.db").write_bytes(old)

    assert digest(home) == fresh


def test_a_title_can_be_looked_up(read_home: Home) -> None:
    with open_index(read_home) as index:
        rows = index.connection.execute("SELECT title FROM titles WHERE titles MATCH 'ledger'").fetchall()

    assert rows == [("Bill 7702 - Ledger",)]


def test_the_index_of_an_encrypted_home_never_reaches_the_disk(tmp_path: Path, drawn_day: Path) -> None:
    with init_home(tmp_path / "sealed", encrypt=True) as home:
        ingest(drawn_day, home)
        rebuild(home)

        with open_index(home, catch_up=False) as index:
            assert index.manifest().entries == home.ledger.size()
            assert index.connection.execute("SELECT count(*) FROM frames").fetchone()[0] > 0
        assert check(home).entries == home.ledger.size()

    assert list((tmp_path / "sealed" / "index").iterdir()) == []
