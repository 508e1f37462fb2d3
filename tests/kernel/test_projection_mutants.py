"""Each comparison of a derived table taken out once: a table that says otherwise is then not told."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
from mutants import Scenario, run_mutants
from outbox_room import Room

from sterling.kernel import projections
from sterling.kernel.batch import Batch

FORGERIES = {
    "records": [
        "UPDATE records SET entry = 0",
        "UPDATE records SET hash = zeroblob(32)",
        "INSERT INTO records VALUES ('r-x', zeroblob(32), 'a.b', 1)",
        "DELETE FROM records",
    ],
    "leases": ["UPDATE leases SET token = token + 1", "DELETE FROM leases"],
    "submissions": [
        "UPDATE submissions SET last = 999 WHERE first = (SELECT max(first) FROM submissions)",
        "UPDATE submissions SET first = 0 WHERE first = (SELECT max(first) FROM submissions)",
        "UPDATE submissions SET first = last + 2 WHERE first = 1",
    ],
    "effects": ["UPDATE effects SET attempts = 7", "DELETE FROM effects", "DROP TABLE effects"],
    "nodes": [
        "UPDATE nodes SET hash = zeroblob(32) WHERE level = 1",
        "INSERT INTO nodes VALUES (9, 9, zeroblob(32))",
    ],
}
MUTANTS = [
    ("record row", ' != (bytes.fromhex(payload["hash"]), contract, index):', " is None:"),
    ("record count", 'return _miscounted(connection, "records", expected)', 'return ""'),
    ("any count", 'return "" if count == expected else', 'return "" if count else'),
    ("token", "if held.get(name) != tokens.get(name))", "if name not in held)"),
    ("overlap", "if first < covered or ", "if "),
    ("backwards", "last < first - 1 or ", ""),
    ("beyond", " or last >= size:", ":"),
    ("effect", "if held.get(effect) != said.get(effect))", "if effect not in held)"),
    ("no table", 'return "it is missing" if said else ""', 'return ""'),
    ("node", "if row is None or bytes(row[0]) != digest:", "if row is None:"),
    ("node count", "        growing.compare_count()\n", ""),
]


def forged(home: Path, table: str, forgery: str) -> Scenario:
    """A scenario: in a copy of this home the table is changed, and only that table is named."""

    def scenario(module: ModuleType) -> None:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "ledger.db"
            with closing(sqlite3.connect(home / "ledger.db")) as source, closing(sqlite3.connect(copy)) as to:
                source.backup(to)
                assert to.execute(forgery).rowcount != 0
                to.commit()
                to.execute("PRAGMA journal_mode=DELETE")
            assert list(module.rebuild(copy).different) == [table]

    return scenario


def test_each_comparison_of_a_table_is_needed(tmp_path: Path) -> None:
    room = Room(tmp_path / "home")
    with room.home as home:
        home.leases.acquire("task/a")
        room.begun("lost-before")
        batch = Batch()
        document = {"app": "editor", "title": "a", "url": ""}
        home.records.put(batch, "recall.context", document)
        home.ledger.commit(batch)
    assert projections.rebuild(tmp_path / "home" / "ledger.db").different == {}

    scenarios = [forged(tmp_path / "home", table, each) for table, many in FORGERIES.items() for each in many]

    run_mutants(Path(str(projections.__file__)), MUTANTS, scenarios)


def test_an_entry_that_says_nothing_of_its_table_is_told_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(tmp_path / "home")
    with room.home as home:
        home.leases.acquire("task/a")
        connection = home.ledger.connection()
        monkeypatch.setattr(projections, "_said", lambda *_: iter([(3, "lease.acquired", "", "", {})]))

        found = projections.compare_tables(connection, home.ledger.size())

    assert "an entry does not say" in found["leases"] and "submissions" not in found
