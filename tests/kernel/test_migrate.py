"""Moving a home to this version: entries stay, tables change, and a kill anywhere leaves a whole home."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sterling.cli.main import main
from sterling.kernel import migrate, store_sqlite
from sterling.kernel.anchors import anchors_root
from sterling.kernel.contracts import load_contracts
from sterling.kernel.hashing import hash_file
from sterling.kernel.home import HomeTooNew, HomeTooOld, init_home, open_home
from sterling.kernel.locks import Role, RoleTaken
from sterling.kernel.migrate import NotMigrated, migrate_home, statements_of
from sterling.kernel.store_sqlite import HOME_VERSION
from sterling.kernel.verify import verify_home

GOLDEN = Path(__file__).parent.parent / "golden" / "homes"
HEAD = "2e6784fa165e74a3d0ceefd428accf697235e15c87cc5c12330624f52137d5c3"
SIZE = 23


def unpack(folder: Path) -> Path:
    """The golden home of version 1 with the anchors that remember it."""
    with tarfile.open(GOLDEN / "v1.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    (folder / "home").chmod(0o700)
    anchors_root().parent.mkdir(parents=True, exist_ok=True)
    for found in folder.glob("state/**/anchors"):
        found.rename(anchors_root())
    return folder / "home"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return unpack(tmp_path)


def rows(database: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute('SELECT * FROM entries ORDER BY "index"').fetchall()


def shape(database: Path) -> dict[str, Any]:
    """Every table, index and trigger with its columns, however its SQL is spelt."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        found = {}
        for kind, name, table, sql in connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_master"
        ):
            if kind == "table":
                options = connection.execute(
                    "SELECT wr, strict FROM pragma_table_list(?)", (name,)
                ).fetchall()
                found[name] = (kind, options, connection.execute(f"PRAGMA table_xinfo({name})").fetchall())
            else:
                found[name] = (kind, table, " ".join(str(sql).split()))
        return found


def version(database: Path) -> str:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return str(connection.execute("SELECT value FROM meta WHERE name = 'home_version'").fetchone()[0])


def test_the_golden_home_is_what_its_page_says(old: Path) -> None:
    entries = rows(old / "ledger.db")

    assert (len(entries), entries[-1][1].hex(), version(old / "ledger.db")) == (SIZE, HEAD, "1")


def test_an_old_home_is_readable_and_verifiable_without_being_moved(old: Path) -> None:
    before = hash_file(old / "ledger.db")

    with open_home(old, read_only=True) as home:
        assert (home.ledger.size(), home.ledger.head().hex()) == (SIZE, HEAD)
        assert len(list(home.ledger.read())) == SIZE
        home.leases.held()
        for entry in home.ledger.read(kind="record.put"):
            assert home.records.get(str(entry.payload["id"])).entry == entry.index

    assert verify_home(old, deep=True, blobs=True).exit == 0
    assert hash_file(old / "ledger.db") == before


def test_an_old_home_is_read_through_tables_that_it_does_not_have(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wider = "renewals INTEGER NOT NULL,\n    later TEXT NOT NULL DEFAULT 'unknown'"
    schema = store_sqlite._schema().replace("renewals INTEGER NOT NULL", wider)
    monkeypatch.setattr(
        store_sqlite,
        "_schema",
        lambda: schema + "CREATE TABLE effects_of_later (id TEXT PRIMARY KEY) STRICT;",
    )

    with closing(store_sqlite.connect_reader(old / "ledger.db")) as connection:
        leases = connection.execute("SELECT name, token, later FROM leases").fetchall()
        effects = connection.execute("SELECT count(*) FROM effects_of_later").fetchone()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("INSERT INTO effects_of_later VALUES ('a')")

    assert leases and {row[2] for row in leases} == {"unknown"}
    assert effects == (0,)
    assert "effects_of_later" not in shape(old / "ledger.db")


def test_an_old_home_refuses_writers_and_names_the_command(old: Path) -> None:
    with pytest.raises(HomeTooOld) as caught:
        open_home(old)

    assert "sterling migrate" in caught.value.hint
    assert version(old / "ledger.db") == "1"


def test_the_golden_home_moves_with_its_entries_as_they_were(old: Path) -> None:
    before = rows(old / "ledger.db")

    done = migrate_home(old)

    after = rows(old / "ledger.db")
    assert after[:SIZE] == before
    assert (done.before, done.after, done.head_before) == (1, HOME_VERSION, HEAD)
    with open_home(old) as home:
        told = home.ledger.entry(done.entry)
        assert told is not None and told.kind == "home.migrated"
        assert told.payload == {
            "from": 1,
            "to": HOME_VERSION,
            "head_before": HEAD,
            "backup_sha256": hash_file(old / "ledger.db.v1"),
        }
    found = verify_home(old, deep=True, blobs=True)
    assert (found.exit, found.unanchored) == (0, 0)


def test_a_moved_home_has_the_tables_of_a_new_one(old: Path, tmp_path: Path) -> None:
    migrate_home(old)
    init_home(tmp_path / "new").close()

    assert shape(old / "ledger.db") == shape(tmp_path / "new" / "ledger.db")
    assert version(tmp_path / "new" / "ledger.db") == str(HOME_VERSION)


def test_a_moved_home_takes_writes_and_its_copy_is_the_old_home(old: Path) -> None:
    done = migrate_home(old)

    with open_home(old) as home:
        home.leases.release(home.leases.acquire("test"))
    backup = Path(done.backup)
    assert (version(backup), len(rows(backup))) == ("1", SIZE)
    assert hash_file(backup) == done.backup_sha256
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert sorted(path.name for path in old.glob("ledger.db*.v1*")) == ["ledger.db.v1"]


def test_a_second_move_finds_nothing_to_do(old: Path) -> None:
    migrate_home(old)
    size = len(rows(old / "ledger.db"))

    again = migrate_home(old)

    assert (again.before, again.after, again.entry) == (HOME_VERSION, HOME_VERSION, -1)
    assert len(rows(old / "ledger.db")) == size


def test_a_newer_home_is_neither_opened_nor_moved_and_still_verified(tmp_path: Path) -> None:
    path = tmp_path / "home"
    init_home(path).close()
    with closing(sqlite3.connect(path / "ledger.db")) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE name = 'home_version'")
        connection.commit()

    for attempt in (
        lambda: open_home(path, read_only=True),
        lambda: open_home(path),
        lambda: migrate_home(path),
    ):
        with pytest.raises(HomeTooNew) as caught:
            attempt()
        assert "sterling verify" in caught.value.hint
    assert verify_home(path).exit == 0


@pytest.mark.parametrize("name", ["migrate", "writer"])
def test_a_home_that_somebody_works_on_is_not_moved(old: Path, name: str) -> None:
    text = (old / "sterling.toml").read_text(encoding="utf-8")
    (old / "sterling.toml").write_text(
        text.replace("wait_ms_max = 5000", "wait_ms_max = 0"), encoding="utf-8"
    )
    role = Role(old / "run", name)
    role.take()

    with pytest.raises(RoleTaken, match=name):
        migrate_home(old)
    role.release()

    assert version(old / "ledger.db") == "1"
    assert migrate_home(old).after == HOME_VERSION


def edit(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        for name in ("entries_are_never_updated", "entries_are_never_deleted"):
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET body = CAST(replace(body, '1', '2') AS BLOB) WHERE \"index\" = 5",
        'DELETE FROM entries WHERE "index" >= 20',
        'DELETE FROM entries WHERE "index" = 3',
    ],
)
def test_a_broken_home_is_not_moved(old: Path, statement: str) -> None:
    edit(old / "ledger.db", statement)

    with pytest.raises(NotMigrated) as caught:
        migrate_home(old)

    assert caught.value.exit == 3
    assert version(old / "ledger.db") == "1"
    assert not (old / "ledger.db.v1").exists()


HARMFUL = {
    "an edited entry": "UPDATE entries SET body = CAST('{}' AS BLOB) WHERE \"index\" = 5",
    "a cut tail": 'DELETE FROM entries WHERE "index" > 20',
    "a statement that is no SQL": "ALTER TABLE nowhere ADD COLUMN host TEXT",
}
GUARDS = ["DROP TRIGGER entries_are_never_updated", "DROP TRIGGER entries_are_never_deleted"]


@pytest.mark.parametrize("name", HARMFUL)
def test_statements_that_touch_entries_do_not_count(
    old: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(old / "ledger.db")
    monkeypatch.setattr(migrate, "statements_of", lambda number: [*GUARDS, HARMFUL[name]])

    with pytest.raises(NotMigrated):
        migrate_home(old)

    assert (version(old / "ledger.db"), rows(old / "ledger.db")) == ("1", before)
    assert "entries_are_never_updated" in shape(old / "ledger.db")


def test_a_full_disk_leaves_the_old_home(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(migrate.os, "replace", full)

    with pytest.raises(NotMigrated, match="No space left"):
        migrate_home(old)

    assert version(old / "ledger.db") == "1"


def test_a_home_that_cannot_be_written_is_not_moved(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(migrate.Role, "take", closed)

    with pytest.raises(NotMigrated, match="Read-only"):
        migrate_home(old)


def test_a_home_whose_anchors_are_lost_moves_and_still_says_that_nothing_vouched_for_it(old: Path) -> None:
    anchors_root().rename(anchors_root().with_name("lost"))

    done = migrate_home(old)

    assert (done.after, done.head_before) == (HOME_VERSION, HEAD)
    with open_home(old, read_only=True) as home:
        kinds = [entry.kind for entry in home.ledger.read(after=SIZE - 1)]
    assert kinds == ["home.migrated", "anchor.restored"]


# Ends the process before its n-th statement, over all connections, or before its n-th rename or sync.
KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path

left = [int(sys.argv[2])]

def tick(name):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

class Counted(sqlite3.Connection):
    def execute(self, *given):
        tick(given[0])
        return super().execute(*given)
    def backup(self, target):
        def grown(*_):
            tick("page")
        return super().backup(target, pages=4, progress=grown)

connect = sqlite3.connect
sqlite3.connect = lambda *given, **named: connect(*given, factory=Counted, **named)
for name in ("replace", "fsync"):
    def counted(*given, real=getattr(os, name)):
        tick(name)
        return real(*given)
    setattr(os, name, counted)

from sterling.kernel.migrate import migrate_home
migrate_home(Path(sys.argv[1]))
print(left[0])
"""


def killed_at(path: Path, count: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", KILLED, str(path), str(count)], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_killed_at_any_statement_a_second_run_completes_it_or_finds_it_done(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = killed_at(unpack(tmp_path / "whole"), 10_000_000)
    assert whole.returncode == 0, whole.stderr
    steps = 10_000_000 - int(whole.stdout)
    assert steps > 40
    remembered = anchors_root()
    remembered.rename(remembered.with_name("whole"))

    states = set()
    for count in range(1, steps + 1):
        folder = tmp_path / str(count)
        folder.mkdir()
        home = unpack(folder)
        assert killed_at(home, count).returncode == -9
        states.add(version(home / "ledger.db"))
        assert verify_home(home, deep=True, blobs=True).exit == 0, count

        done = migrate_home(home)

        assert (done.after, version(home / "ledger.db")) == (HOME_VERSION, str(HOME_VERSION))
        entries = rows(home / "ledger.db")
        assert (entries[SIZE - 1][1].hex(), [entry[3] for entry in entries[SIZE:]]) == (
            HEAD,
            ["home.migrated"],
        )
        assert version(home / "ledger.db.v1") == "1"
        assert verify_home(home, deep=True, blobs=True).exit == 0
        remembered.rename(remembered.with_name(str(count)))
    assert states == {"1", str(HOME_VERSION)}


def test_every_version_has_its_file_of_whole_statements() -> None:
    for number in range(2, HOME_VERSION + 1):
        for statement in statements_of(number):
            assert sqlite3.complete_statement(statement)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_the_command_moves_once_and_then_says_so(old: Path, run: Run) -> None:
    answers = []
    for _ in range(2):
        status, out, _ = run("migrate", "--home", str(old), "--json")
        document = json.loads(out)
        assert load_contracts().validate("home.migration@1.0", document) == "home.migration@1.0"
        answers.append((status, document["status"], document["entry"]))

    assert answers == [(0, "migrated", SIZE), (0, "current", -1)]


def test_an_old_home_shows_its_status_and_runs_and_names_the_command_to_writers(old: Path, run: Run) -> None:
    for words in (("status",), ("run", "list"), ("ledger", "head"), ("verify", "--deep", "--blobs")):
        assert run(*words, "--home", str(old))[0] == 0, words

    status, _, err = run("drain", "--home", str(old))

    assert (status, "home.too-old" in err, "sterling migrate" in err) == (2, True, True)


def test_a_move_without_a_home_says_so(tmp_path: Path, run: Run) -> None:
    status, out, _ = run("migrate", "--home", str(tmp_path / "none"), "--json")

    assert (status, json.loads(out)["error"]["code"]) == (2, "home.missing")
    assert os.listdir(tmp_path) == []
