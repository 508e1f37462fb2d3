"""A disk that lies, fails or is full: nothing acknowledged is lost, and what happened is an entry."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sterling.kernel.anchors import AnchorUnwritable
from sterling.kernel.batch import Batch
from sterling.kernel.errors import SterlingError
from sterling.kernel.group import LedgerIo
from sterling.kernel.home import Home, init_home, open_home
from sterling.kernel.verify import verify_home
from sterling.testing.clock import FakeClock
from sterling.testing.faults import refuse

FAULTS = [
    ("fdatasync", errno.EIO),
    ("pwrite64", errno.EIO),
    ("pwrite64", errno.ENOSPC),
    ("pwrite64", errno.EDQUOT),
    ("pwrite64", 0),
]


def ended(number: int = 0) -> Batch:
    batch = Batch()
    for part in range(3):
        batch.append("process.started", {"command": str(number), "pid": part + 1, "boot": "b"})
    return batch


def numbers(home: Home) -> list[int]:
    return [int(entry.payload["command"]) for entry in home.ledger.read(kind="process.started")]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with init_home(tmp_path / "home") as made:
        yield made


class Faulty(threading.Thread):
    """Commits one batch in a thread in which a system call fails."""

    def __init__(self, home: Home, batch: Batch, fault: tuple[str, int]) -> None:
        super().__init__()
        self.home, self.batch, self.fault = home, batch, fault
        self.problem: SterlingError | None = None

    def run(self) -> None:
        refuse(*self.fault)
        try:
            self.home.ledger.commit(self.batch)
        except SterlingError as problem:
            self.problem = problem


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_after_a_failed_write_the_next_one_recovers_and_says_so(home: Home, fault: tuple[str, int]) -> None:
    home.ledger.commit(ended(0))
    thread = Faulty(home, ended(1), fault)
    thread.start()
    thread.join()
    assert isinstance(thread.problem, LedgerIo)

    home.ledger.commit(ended(2))
    again = home.ledger.commit(thread.batch)

    found = numbers(home)
    assert found.count(0) == found.count(1) == found.count(2) == 3
    assert again == home.ledger.commit(thread.batch)
    recovered = list(home.ledger.read(kind="ledger.io-recovered"))
    assert len(recovered) == 1 and recovered[0].payload["problem"]
    home.ledger.checkpoint()
    assert verify_home(home.path).exit == 0


@pytest.mark.slow
def test_of_many_threads_on_a_failing_disk_no_acknowledged_batch_is_lost(home: Home) -> None:
    acknowledged: set[int] = set()
    for turn in range(40):
        faulty = Faulty(home, ended(1000 + turn), FAULTS[turn % len(FAULTS)])
        others = [threading.Thread(target=lambda n=n: _commit(home, n, acknowledged)) for n in _lanes(turn)]
        for thread in [*others[:2], faulty, *others[2:]]:
            thread.start()
        for thread in [*others, faulty]:
            thread.join()
        if faulty.problem is None:
            acknowledged.add(1000 + turn)

    home.ledger.commit(ended(9999))
    found = numbers(home)
    assert acknowledged and {number for number in acknowledged if found.count(number) != 3} == set()
    assert {number for number in found if found.count(number) != 3} == set()
    home.ledger.checkpoint()
    assert verify_home(home.path).exit == 0


def _lanes(turn: int) -> range:
    return range(10_000 + turn * 10, 10_000 + turn * 10 + 4)


def _commit(home: Home, number: int, acknowledged: set[int]) -> None:
    try:
        home.ledger.commit(ended(number))
    except LedgerIo:
        return
    acknowledged.add(number)


def _commit_all(home: Home, numbers: range) -> None:
    for number in numbers:
        home.ledger.commit(ended(number))


FULL = """
import os, sys
from pathlib import Path
from sterling.kernel.ballast import Ballast
from sterling.kernel.batch import Batch
from sterling.kernel.home import init_home
from sterling.kernel.writer import StorePressure
from sterling.kernel.group import LedgerIo

disk = Path(sys.argv[1])
home = init_home(disk / "home")
assert Ballast(home.path / "ballast").fill()
with open(disk / "filler", "wb") as filler:
    try:
        while True:
            filler.write(b"x" * 65536)
            filler.flush()
    except OSError:
        pass
os.truncate(disk / "filler", os.path.getsize(disk / "filler") - 400_000)

def ended(number, closing=False):
    batch = Batch(closing=closing)
    batch.append("process.started", {"command": f"{number} " + "x" * 2000, "pid": 1, "boot": "b"})
    return batch

acknowledged, refused = 0, ""
for number in range(4000):
    try:
        home.ledger.commit(ended(number))
        acknowledged += 1
    except (StorePressure, LedgerIo) as problem:
        refused = problem.code
        break
closed = home.ledger.commit(ended(-1, closing=True)).last
try:
    home.ledger.commit(ended(-2))
    still = "written"
except StorePressure as problem:
    still = problem.code
os.truncate(disk / "filler", 0)
home.ledger.commit(ended(-3))
kinds = [entry.kind for entry in home.ledger.read()]
exits = [int(entry.payload["command"].split()[0]) for entry in home.ledger.read(kind="process.started")]
home.close()
print(acknowledged, refused, closed > 0, still, kinds.count("ledger.io-recovered"),
      kinds.count("ballast.refilled"), exits == [*range(acknowledged), -1, -3], flush=True)
from sterling.kernel.verify import verify_home
print(verify_home(home.path).exit)
"""


@pytest.mark.slow
def test_a_full_disk_still_closes_what_is_open_and_takes_up_work_when_there_is_room(tmp_path: Path) -> None:
    """On a disk of its own: 96 MiB in memory, mounted in a namespace of its own."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "program.py").write_text(FULL, encoding="utf-8")
    command = 'mount -t tmpfs -o size=96m none "$1" && exec "$2" "$3" "$1"'

    given = [str(tmp_path / "disk"), sys.executable, str(tmp_path / "program.py")]

    ran = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", command, "sh", *given],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    said, verified = ran.stdout.splitlines()
    count, *rest = said.split()
    assert int(count) > 10
    assert rest == ["store.pressure", "True", "store.pressure", "1", "1", "True"]
    assert verified == "0"


def test_an_anchor_that_cannot_be_written_is_caught_up_and_refused_when_it_lags(tmp_path: Path) -> None:
    clock = FakeClock()
    settings = ["anchor.lag_entries_max=20", "anchor.lag_s_max=3600"]
    init_home(tmp_path / "home", clock=clock).close()
    with open_home(tmp_path / "home", clock=clock, settings=settings) as home:
        folder = home.anchors.folder
        kept = folder.rename(folder.with_name("kept"))
        folder.write_text("a file where the folder was", encoding="utf-8")
        home.ledger.commit(ended())
        clock.advance(11_000_000)
        _commit_all(home, range(1, 6))
        with pytest.raises(AnchorUnwritable):
            _commit_all(home, range(6, 20))
        size = home.ledger.size()
        assert 20 < size < 40

        folder.unlink()
        kept.rename(folder)
        home.ledger.commit(ended(99))

        assert home.anchors.latest_size() is not None
    assert verify_home(tmp_path / "home").exit == 0
