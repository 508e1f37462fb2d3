"""Where two histories part: homes, databases and backups of them."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from sterling.kernel.home import open_home
from sterling.kernel.ledger_diff import first_difference
from sterling.kernel.verify import NotALedger
from sterling.testing.forged_ledgers import SIZE, Forge, copy_home, generate, next_batch


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        generate(folder / "home")
    return folder


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    copy_home(original / "home", original / "state", tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def twin(home: Path) -> Path:
    return Path(shutil.copytree(home, home.with_name("twin")))


def test_equal_histories_have_no_difference(home: Path, twin: Path) -> None:
    found = first_difference(home, twin)

    assert (found.index, found.relation, found.columns) == (None, "equal", ())
    assert found.a == found.b and found.a.size == SIZE


def test_a_backup_under_any_name_is_the_beginning_of_what_came_after(home: Path, tmp_path: Path) -> None:
    with sqlite3.connect(home / "ledger.db") as source, sqlite3.connect(tmp_path / "ledger.db.v1") as target:
        source.backup(target)
    with open_home(home) as opened:
        opened.ledger.commit(next_batch(opened))

    forward = first_difference(tmp_path / "ledger.db.v1", home / "ledger.db")
    backward = first_difference(home, tmp_path / "ledger.db.v1")

    assert (forward.index, forward.relation, forward.columns) == (SIZE, "a-begins-b", ())
    assert (backward.index, backward.relation) == (SIZE, "b-begins-a")


@pytest.mark.parametrize("index", [0, 7, SIZE - 1])
def test_a_resealed_history_parts_where_it_was_edited(home: Path, twin: Path, index: int) -> None:
    forge = Forge(twin)
    bodies = forge.bodies()
    bodies[index] = bodies[index].replace(b'"v":1', b'"trace":"x","v":1')
    forge.reseal(bodies)

    found = first_difference(home, twin)

    assert (found.index, found.relation) == (index, "parted")
    assert set(found.columns) == {"hash", "body"}


@pytest.mark.parametrize(
    ("column", "value"), [("subject", "x"), ("at_us", 1), ("body", b""), ("previous", bytes(32))]
)
def test_one_edited_column_is_named(home: Path, twin: Path, column: str, value: object) -> None:
    Forge(twin).edit(7, column, value)

    found = first_difference(home, twin)

    assert (found.index, found.columns) == (7, (column,))


def test_a_deleted_entry_is_where_they_part(home: Path, twin: Path) -> None:
    Forge(twin).delete(7)

    assert first_difference(home, twin).index == first_difference(twin, home).index == 7


def test_two_homes_part_at_their_first_entry(home: Path, tmp_path: Path) -> None:
    generate(tmp_path / "other")

    assert first_difference(home, tmp_path / "other").index == 0


def test_it_changes_neither_file(home: Path, twin: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (home / "ledger.db", twin / "ledger.db")}

    first_difference(home, twin)

    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize("content", [None, b"", b"no database", b"SQLite format 3\x00" + b"\xff" * 8192])
def test_what_holds_no_entries_is_wrong_usage(home: Path, tmp_path: Path, content: bytes | None) -> None:
    other = tmp_path / "other.db"
    if content is not None:
        other.write_bytes(content)

    for pair in ((home, other), (other, home)):
        with pytest.raises(NotALedger):
            first_difference(*pair)


def test_indexes_of_another_type_are_no_defect(home: Path, twin: Path) -> None:
    Forge(twin).database.executescript(
        'CREATE TABLE other ("index" TEXT, hash, previous, kind, contract, subject, run, at_us, body);'
        "INSERT INTO other SELECT * FROM entries; DROP TABLE entries; ALTER TABLE other RENAME TO entries;"
    )

    with pytest.raises(NotALedger):
        first_difference(home, twin)
