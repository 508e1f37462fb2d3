"""The spool: what was accepted is in the log once, or named as corrupt; nothing waits for ever."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sterling.kernel.batch import Batch, NewestIs
from sterling.kernel.blobs import BlobNoSpace
from sterling.kernel.hashing import address_of
from sterling.kernel.home import Home, init_home, open_home
from sterling.kernel.pressure import Pressure, RoomLimits, pressure
from sterling.kernel.spool import Spool, SpoolCollision
from sterling.kernel.verify import verify_home
from sterling.kernel.writer import StorePressure

SHORT = ["store.free_hard_mb=1000000000"]  # More than any disk: the home's disk counts as short.
ROOMY = ["store.free_warn_mb=0", "store.free_soft_mb=0", "store.free_hard_mb=0"]
LIMITS = RoomLimits(warn_bytes=100, soft_bytes=50, hard_bytes=10, spool_bytes=5)


def capture(number: int, data: bytes = b"pixels") -> Batch:
    batch = Batch(submission=f"{number:032x}")
    payload = {"command": f"{number} {address_of(data)}", "pid": 1, "boot": "b"}
    batch.append("process.started", payload)
    return batch


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, str]:
    init_home(tmp_path / "home").close()
    (tmp_path / "second").mkdir()
    return tmp_path / "home", f"spool.path={tmp_path / 'second'}"


@pytest.fixture
def short(paths: tuple[Path, str]) -> Iterator[Home]:
    with open_home(paths[0], settings=[paths[1], *SHORT]) as home:
        yield home


def drained(paths: tuple[Path, str]) -> tuple[list[str], tuple[int, int, int]]:
    with open_home(paths[0], settings=[paths[1], *ROOMY]) as home:
        done = home.drain_spool()
        found = [entry.payload["command"] for entry in home.ledger.read(kind="process.started")]
        for command in found:
            assert home.blobs.quick_check(command.split()[1]) == "ok"
    return found, (done.written, done.quarantined, done.left)


@pytest.mark.parametrize(
    ("free", "spool", "refused", "expected"),
    [
        (100, None, False, Pressure.OK),
        (99, None, False, Pressure.WARN),
        (50, 0, False, Pressure.WARN),
        (49, 1000, False, Pressure.SOFT),
        (10, 1000, False, Pressure.SOFT),
        (9, 1000, False, Pressure.SPOOLING),
        (9, 5, False, Pressure.SPOOLING),
        (9, 4, False, Pressure.FULL),
        (9, None, False, Pressure.SOFT),
        (1000, 1000, True, Pressure.SPOOLING),
        (1000, None, True, Pressure.FULL),
        (1000, 4, True, Pressure.FULL),
    ],
)
def test_room_has_five_states(free: int, spool: int | None, refused: bool, expected: Pressure) -> None:
    assert pressure(free, spool, LIMITS, refused=refused) is expected


def test_what_was_spooled_is_in_the_log_after_relief_in_order_and_once(
    short: Home, paths: tuple[Path, str]
) -> None:
    assert short.spool is not None
    size = short.ledger.size()
    receipts = [short.store(capture(n, b"frame %d" % n), [b"frame %d" % n]) for n in range(20)]
    assert {receipt.durable for receipt in receipts} == {"spool"}
    assert short.ledger.size() == size and len(short.spool.waiting()) == 20

    found, done = drained(paths)

    assert [int(command.split()[0]) for command in found] == list(range(20))
    assert done == (20, 0, 0)
    assert drained(paths)[1] == (0, 0, 0)
    assert list(short.spool.folder.iterdir()) == []
    assert verify_home(paths[0], blobs=True).exit == 0


def test_the_same_batch_again_is_one_item_and_another_under_its_id_is_refused(short: Home) -> None:
    assert short.spool is not None
    short.store(capture(1, b"a"), [b"a"])
    short.store(capture(1, b"a"), [b"a"])

    with pytest.raises(SpoolCollision):
        short.store(capture(1, b"b"), [b"b"])

    assert len(short.spool.waiting()) == 1


def test_a_batch_that_asks_something_of_the_log_does_not_wait(short: Home) -> None:
    batch = capture(1)
    batch.require(NewestIs("x", None))

    with pytest.raises(StorePressure):
        short.store(batch)


def test_without_room_anywhere_the_caller_is_told(paths: tuple[Path, str], tmp_path: Path) -> None:
    away = f"spool.path={tmp_path / 'not-mounted'}"
    with open_home(paths[0], settings=[away, *SHORT]) as home, pytest.raises(BlobNoSpace):
        home.store(capture(1))
    assert not (tmp_path / "not-mounted").exists()


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "other-home"])
def test_a_corrupt_item_is_set_aside_with_an_entry_and_the_others_are_written(
    short: Home, paths: tuple[Path, str], harm: str
) -> None:
    assert short.spool is not None
    for number in range(3):
        short.store(capture(number), [b"pixels"])
    victim = short.spool.waiting()[1]
    data = victim.read_bytes()
    changed = {"flip": data[:-100] + bytes([data[-100] ^ 1]) + data[-99:], "cut": data[:-7], "empty": b""}
    if harm == "other-home":
        Spool(short.spool.folder.parent, "home-elsewhere").accept(capture(1), {}, 5)
        changed[harm] = next((short.spool.folder.parent / "home-elsewhere").iterdir()).read_bytes()
    victim.write_bytes(changed[harm])

    found, done = drained(paths)

    assert [int(command.split()[0]) for command in found] == [0, 2]
    assert done == (2, 1, 0)
    with open_home(paths[0], read_only=True) as home:
        [entry] = home.ledger.read(kind="spool.quarantined")
    kept = short.spool.folder / "quarantine" / entry.payload["item"]
    assert address_of(kept.read_bytes()) == entry.payload["sha256"] == address_of(changed[harm])


def test_a_batch_that_no_contract_allows_is_set_aside_and_does_not_hold_up_the_others(
    short: Home, paths: tuple[Path, str]
) -> None:
    short.store(capture(0), [b"pixels"])
    wrong = Batch(submission="f" * 32)
    wrong.append("no.such-kind", {})
    short.store(wrong)
    short.store(capture(2), [b"pixels"])

    found, done = drained(paths)

    assert [int(command.split()[0]) for command in found] == [0, 2]
    assert done == (2, 1, 0)
    with open_home(paths[0], read_only=True) as home:
        [entry] = home.ledger.read(kind="spool.quarantined")
    assert "no.such-kind" in entry.payload["problem"]


def test_blobs_that_find_no_room_leave_their_item_waiting(short: Home, paths: tuple[Path, str]) -> None:
    short.store(capture(1), [b"pixels"])

    def full(_: bytes) -> str:
        raise BlobNoSpace("expected room for a blob, found none")

    with open_home(paths[0], settings=[paths[1], *ROOMY]) as home:
        assert home.spool is not None
        done = home.spool.drain(full, home.ledger.commit, home.path / "run", 10)

    assert (done.written, done.quarantined, done.left) == (0, 0, 1)


DRAIN = """
import os, sys, signal
from pathlib import Path
from sterling.kernel.home import open_home
from sterling.kernel import spool

moments = int(sys.argv[3])

def maybe_die():
    global moments
    moments -= 1
    if moments == 0:
        os.kill(os.getpid(), signal.SIGKILL)

home = open_home(Path(sys.argv[1]), settings=[sys.argv[2], "store.free_hard_mb=0"])
put, commit, read = home.blobs.put, home.ledger.commit, spool._read
def dying(action):
    def act(*given):
        maybe_die()
        result = action(*given)
        maybe_die()
        return result
    return act
spool._read = dying(read)
home.spool.drain(dying(put), dying(commit), home.path / "run", 256)
home.close()
"""


@pytest.mark.slow
def test_killed_at_any_moment_of_a_drain_each_batch_is_written_once(
    short: Home, paths: tuple[Path, str]
) -> None:
    seed = random.Random(5)
    for number in range(60):
        short.store(capture(number, b"frame %d" % number), [b"frame %d" % number])
    kills = 0
    while short.spool is not None and short.spool.waiting():
        ran = subprocess.run(
            [sys.executable, "-c", DRAIN, str(paths[0]), paths[1], str(seed.randint(1, 16))], check=False
        )
        kills += ran.returncode == -9

    found, _ = drained(paths)

    assert kills > 20
    assert sorted(int(command.split()[0]) for command in found) == list(range(60))
    with open_home(paths[0]) as home:
        home.ledger.checkpoint()
    assert verify_home(paths[0], blobs=True).exit == 0


def test_only_one_process_drains_at_a_time(short: Home, paths: tuple[Path, str]) -> None:
    short.store(capture(1), [b"pixels"])
    seen: list[tuple[int, int, int]] = []
    with open_home(paths[0], settings=[paths[1], *ROOMY]) as home:
        assert home.spool is not None

        def commit_while_another_looks(batch: Batch) -> object:
            assert home.spool is not None
            done = home.spool.drain(home.blobs.put, home.ledger.commit, home.path / "run", 10)
            seen.append((done.written, done.quarantined, done.left))
            return home.ledger.commit(batch)

        home.spool.drain(home.blobs.put, commit_while_another_looks, home.path / "run", 10)  # type: ignore[arg-type]

    assert seen == [(0, 0, 1)]


FULL = """
import os, sys
from pathlib import Path
from sterling.kernel.batch import Batch
from sterling.kernel.hashing import address_of
from sterling.kernel.home import init_home, open_home
from sterling.kernel.verify import verify_home

small, second = Path(sys.argv[1]), sys.argv[2]
with init_home(small / "home") as made:
    made.fill_ballast()
settings = [f"spool.path={second}", "store.free_hard_mb=4", "store.free_soft_mb=8", "store.free_warn_mb=12"]
home = open_home(small / "home", settings=settings)
places = []
for number in range(1200):
    data = b"%d " % number + os.urandom(65536)
    batch = Batch(submission=f"{number:032x}")
    batch.append("process.started", {"command": f"{number} {address_of(data)}", "pid": 1, "boot": "b"})
    places.append(home.store(batch, [data]).durable)
states = {home.room()}
home.close()
print(places.count("ledger"), places.count("spool"), len(places), *states)
os.system(f"mount -o remount,size=300m {small}")
with open_home(small / "home", settings=settings) as home:
    while home.drain_spool().left:
        pass
    home.ledger.checkpoint()
    found = [e.payload["command"].split() for e in home.ledger.read(kind="process.started")]
    whole = sorted(int(n) for n, _ in found) == list(range(1200))
    print(whole, {home.blobs.quick_check(a) for _, a in found})
    print(len(home.spool.waiting()), verify_home(home.path, blobs=True).exit)
"""


@pytest.mark.slow
def test_a_small_disk_overflows_to_the_second_and_everything_is_in_the_log_after_relief(
    tmp_path: Path,
) -> None:
    for name in ("small", "second"):
        (tmp_path / name).mkdir()
    (tmp_path / "program.py").write_text(FULL, encoding="utf-8")
    command = 'mount -t tmpfs -o size=64m none "$1" && exec "$3" "$4" "$1" "$2"'
    given = [str(tmp_path / "small"), str(tmp_path / "second"), sys.executable, str(tmp_path / "program.py")]

    ran = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", command, "sh", *given],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    first, second, third = ran.stdout.splitlines()
    in_ledger, in_spool, whole, state = first.split()
    assert int(in_ledger) > 200 and int(in_spool) > 200 and int(in_ledger) + int(in_spool) == int(whole)
    assert state == "spooling"
    assert second == "True {'ok'}"
    assert third == "0 0"


def test_an_encrypted_home_spools_nothing_that_can_be_read(tmp_path: Path) -> None:
    init_home(tmp_path / "home", encrypt=True).close()
    (tmp_path / "second").mkdir()
    paths, data = (tmp_path / "home", f"spool.path={tmp_path / 'second'}"), b"the heron stands in the reeds"
    with open_home(paths[0], settings=[paths[1], *SHORT]) as home:
        for _ in range(2):  # The second time it is the same item, though other bytes.
            home.store(capture(1, data), [data])
        (item,) = [file for file in (tmp_path / "second").rglob("*") if file.is_file()]
        home.store(capture(2, data), [data])

    sealed = item.read_bytes()
    assert data not in sealed and address_of(data).encode() not in sealed
    item.write_bytes(sealed[:100] + bytes([sealed[100] ^ 1]) + sealed[101:])
    found, counts = drained(paths)
    assert counts == (1, 1, 0) and found == [f"2 {address_of(data)}"]
