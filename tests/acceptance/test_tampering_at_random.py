"""Promise 4 again: logs of every awkward size, edits that nobody chose, and a writer at work meanwhile.

The rows of the tamper table stand in test_tampering.py. Here a seed picks what is
done, and the one rule is that nothing is called `ok` that is not what it was.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sterling.kernel import standalone_verify
from sterling.kernel.batch import Batch
from sterling.kernel.chain import seal
from sterling.kernel.home import init_home
from sterling.kernel.verify import verify_home
from sterling.testing.clock import FakeClock
from sterling.testing.forged_ledgers import Forge, both, copy_home, generate

AWKWARD = [1, 2, 3, 255, 256, 257, 1000]


def generate_plain(path: Path, size: int) -> None:
    """A home of `size` entries, a hundred a batch."""
    clock = FakeClock()
    with init_home(path, clock=clock) as home:
        while home.ledger.size() < size:
            clock.advance(1_000_000)
            batch = Batch(run=f"run-{home.ledger.size() // 50}")
            for number in range(home.ledger.size(), min(size, home.ledger.size() + 100)):
                batch.append(
                    "process.ended", {"command": "tool", "exit": number % 200}, subject=f"n/{number}"
                )
            home.ledger.commit(batch)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Gives the folder of a generated home of a size, made once."""
    root = tmp_path_factory.mktemp("plain")

    def of(size: int) -> Path:
        folder = root / str(size)
        if not folder.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("XDG_STATE_HOME", str(folder / "state"))
                generate_plain(folder / "home", size)
        return folder

    return of


def edit_first(forge: Forge, size: int) -> None:
    forge.edit(0, "body", forge.value(0, "body").replace(b'"version":', b'"version":9'))


def edit_last(forge: Forge, size: int) -> None:
    forge.edit(size - 1, "at_us", forge.value(size - 1, "at_us") + 1)


def cut_one(forge: Forge, size: int) -> None:
    forge.forget_after(size - 1)


def cut_half(forge: Forge, size: int) -> None:
    forge.forget_after(size // 2)


def cut_entries_alone(forge: Forge, size: int) -> None:
    forge.delete(size - 1)


def delete_middle(forge: Forge, size: int) -> None:
    bodies = forge.bodies()
    forge.reseal([*bodies[: size // 2], *bodies[size // 2 + 1 :]])


def swap_last_two(forge: Forge, size: int) -> None:
    bodies = forge.bodies()
    forge.reseal([*bodies[:-2], bodies[-1], bodies[-2]])


def repeat_last(forge: Forge, size: int) -> None:
    forge.insert(seal(size, forge.value(size - 1, "hash"), forge.value(size - 1, "body")))


def reseal_last(forge: Forge, size: int) -> None:
    bodies = forge.bodies()
    bodies[-1] = bodies[-1].replace(b'"actor":{"id":"sterling"', b'"actor":{"id":"stirling"')
    forge.reseal(bodies)


def reseal_and_sign_last(forge: Forge, size: int) -> None:
    reseal_last(forge, size)
    forge.sign(forge.key, [size])


def drop_last_checkpoint(forge: Forge, size: int) -> None:
    forge.database.execute("DELETE FROM checkpoints WHERE size = ?", (size,))


def drop_last_node(forge: Forge, size: int) -> None:
    forge.database.execute("DELETE FROM nodes WHERE level = 0 AND position = ?", (size - 1,))


def drop_highest_node(forge: Forge, size: int) -> None:
    forge.database.execute("DELETE FROM nodes WHERE level = (SELECT max(level) FROM nodes)")


ATTACKS = [
    edit_first, edit_last, cut_one, cut_half, cut_entries_alone, delete_middle, swap_last_two, repeat_last,
    reseal_last, reseal_and_sign_last, drop_last_checkpoint, drop_last_node, drop_highest_node,
]  # fmt: skip


@pytest.mark.parametrize("size", AWKWARD)
def test_every_size_holds_untouched_and_shows_every_attack(
    plain: Callable[[int], Path], tmp_path: Path, size: int
) -> None:
    folder = plain(size)
    copy_home(folder / "home", folder / "state", tmp_path / "twin")
    whole = both(tmp_path / "twin", blobs=True)
    assert (whole.exit, whole.size, whole.anchored_to) == (0, size, size)
    assert verify_home(tmp_path / "twin", deep=True).exit == 0
    untouched = (tmp_path / "twin" / "ledger.db").read_bytes()

    for attack in ATTACKS:
        if size == 1 and attack in (swap_last_two,):
            continue
        (tmp_path / "twin" / "ledger.db").write_bytes(untouched)
        forge = Forge(tmp_path / "twin")
        attack(forge, size)
        forge.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        forge.database.close()
        assert both(tmp_path / "twin").exit == 3, attack.__name__
    (tmp_path / "twin" / "ledger.db").write_bytes(untouched)
    assert both(tmp_path / "twin").exit == 0


# What a seed picks

# Working state that no entry implies: docs/reference/ledger-format.md says so. Everything else is watched.
NOT_EVIDENCE = {
    ("meta", "home_version"), ("meta", "demo"), ("submissions", ""),
    ("leases", "holder"), ("leases", "pid"), ("leases", "pid_started"), ("leases", "boot_id"),
    ("leases", "acquired_us"), ("leases", "expires_us"), ("leases", "renewals"), ("leases", "host"),
    ("effects", ""),
}  # fmt: skip
WATCHED = ["entries", "entries", "entries", "nodes", "checkpoints", "records", "meta"]


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("varied")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        generate(folder / "home")
    return folder


def flipped(value: object, chance: random.Random) -> object:
    if isinstance(value, int):
        return value ^ (1 << chance.randrange(48))
    raw = bytearray(value.encode() if isinstance(value, str) else bytes(value))  # type: ignore[call-overload]
    if not raw:
        return "x" if isinstance(value, str) else b"x"
    raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    return raw.decode("latin-1") if isinstance(value, str) else bytes(raw)


def meddle(database: sqlite3.Connection, chance: random.Random) -> str:
    """Do one thing to one table; says what, for whoever reads a failure."""
    table = chance.choice(WATCHED)
    where = " WHERE name = 'home_id'" if table == "meta" else ""
    described = database.execute(f"PRAGMA table_info({table})").fetchall()
    columns, keys = [row[1] for row in described], [row[1] for row in described if row[5]]
    rows = database.execute(f"SELECT * FROM {table}{where} ORDER BY 1").fetchall()
    if not rows:
        return f"nothing left in {table}"
    row, other, column = chance.choice(rows), chance.choice(rows), chance.choice(columns)
    cell, named = columns.index(column), [row[columns.index(key)] for key in keys]
    match = " AND ".join(f'"{key}" = ?' for key in keys)
    what = chance.choice(["flip", "flip", "flip", "swap", "delete", "repeat", "truncate"])
    if what in ("flip", "swap"):
        value = flipped(row[cell], chance) if what == "flip" else other[cell]
        database.execute(f'UPDATE OR REPLACE {table} SET "{column}" = ? WHERE {match}', [value, *named])
    elif what == "repeat":
        places = ("index", "size", "position")
        copy = [chance.randrange(60) if name in places else at for name, at in zip(columns, row, strict=True)]
        database.execute(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(copy))})", copy)
    elif what == "truncate" and table in ("entries", "checkpoints"):
        database.execute(f"DELETE FROM {table} WHERE rowid >= ?", [chance.randrange(1, 20)])
    else:
        database.execute(f"DELETE FROM {table} WHERE {match}", named)
    return f"{what} {table}.{column} at {named}"


def content(database: sqlite3.Connection) -> list[object]:
    return [
        database.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in sorted(set(WATCHED))
    ]


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_called_ok_that_is_not_what_it_was(varied: Path, tmp_path: Path, seed: int) -> None:
    copy_home(varied / "home", varied / "state", tmp_path / "home")
    file = tmp_path / "home" / "ledger.db"
    untouched, chance, changed = file.read_bytes(), random.Random(seed), 0
    for _ in range(40):
        file.write_bytes(untouched)
        forge = Forge(tmp_path / "home")
        before = content(forge.database)
        done = [meddle(forge.database, chance) for _ in range(chance.choice([1, 1, 1, 2, 4]))]
        is_same = content(forge.database) == before
        forge.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        forge.database.close()

        found = both(tmp_path / "home")

        if found.exit == 0:  # The derived tables are for `--deep` to look at.
            found = verify_home(tmp_path / "home", deep=True)
        assert (found.exit == 0) == is_same, (seed, done, found.code)
        changed += not is_same
    assert changed > 30


def test_the_tables_that_are_not_watched_are_named(varied: Path) -> None:
    with sqlite3.connect(varied / "home" / "ledger.db") as database:
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        leases = {row[1] for row in database.execute("PRAGMA table_info(leases)")}

    assert tables - set(WATCHED) == {table for table, _ in NOT_EVIDENCE} - {"meta"}
    assert leases - {column for table, column in NOT_EVIDENCE if table == "leases"} == {"name", "token"}


# A writer at work

WRITER = """
import sys
from pathlib import Path
from sterling.kernel.batch import Batch
from sterling.kernel.home import open_home
import select
with open_home(Path(sys.argv[1])) as home:
    count = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        batch = Batch()
        for _ in range(1 + count % 3):
            batch.append("process.ended", {"command": "tool", "exit": count % 200})
        home.ledger.commit(batch)
        count += 1
        if count % 4 == 0:
            home.ledger.checkpoint()
        if count == 8:
            print("at work", flush=True)
"""


@pytest.fixture
def writer(varied: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    copy_home(varied / "home", varied / "state", tmp_path / "home")
    command = [sys.executable, "-c", WRITER, str(tmp_path / "home")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        if process.poll() is None:
            process.kill()


def test_a_writer_at_work_in_another_process_raises_no_alarm(
    writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert writer.stdout is not None and writer.stdout.readline() == "at work\n"
    sizes = []
    for _ in range(25):
        found = verify_home(tmp_path / "home", deep=True)
        assert (found.verdict, found.code) == ("ok", "")
        theirs = standalone_verify.verify(tmp_path / "home")
        assert (theirs["verdict"], theirs["code"]) == ("ok", "")
        sizes.append(found.size)
    assert writer.stdin is not None
    writer.stdin.write("stop\n")
    writer.stdin.close()
    writer.wait()

    assert writer.returncode == 0 and len(set(sizes)) > 3 and sizes == sorted(sizes)
    assert both(tmp_path / "home", blobs=True).exit == 0
    shutil.rmtree(tmp_path / "home")
