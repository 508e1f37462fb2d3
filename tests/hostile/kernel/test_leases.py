"""Leases among real processes: many at once, one that is stopped past its time, one that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sterling.kernel.home import init_home, open_home
from sterling.kernel.lease_table import LeaseHeld
from sterling.kernel.leases import lease_figures
from sterling.kernel.verify import verify_home

CONTENDERS = int(os.environ.get("STERLING_CONTENDERS", "100"))
ROUNDS = 20
LIMIT_S = 120

# Tries each round once, when it is told to; says what came of it.
CONTENDER = """
import sys
from pathlib import Path
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import open_home

with open_home(Path(sys.argv[1]), settings=["store.wait_ms_max=120000"]) as home:
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            print("won", home.leases.acquire("round/" + line.strip()).token, flush=True)
        except SterlingError as refusal:
            print(refusal.code, flush=True)
"""

# Takes a lease, says so, and writes under its fence when it is told to.
HOLDER = """
import sys
from pathlib import Path
from sterling.kernel.batch import Batch, FenceHolds
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import open_home

with open_home(Path(sys.argv[1])) as home:
    lease = home.leases.acquire("task/a", ttl_s=int(sys.argv[2]))
    print(lease.token, flush=True)
    sys.stdin.readline()
    batch = Batch()
    batch.append("process.ended", {"command": "late", "exit": 0})
    batch.require(FenceHolds(lease.name, lease.token))
    try:
        home.ledger.commit(batch)
        print("written", flush=True)
    except SterlingError as refusal:
        print(refusal.code, flush=True)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    init_home(tmp_path / "home").close()
    return tmp_path / "home"


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def hear(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def tell(child: subprocess.Popen[str], word: str) -> None:
    assert child.stdin is not None
    child.stdin.write(f"{word}\n")
    child.stdin.flush()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_of_many_processes_one_wins_each_round_and_the_others_are_refused(place: Path) -> None:
    children = [start(CONTENDER, place) for _ in range(CONTENDERS)]
    try:
        assert {hear(child) for child in children} == {"ready"}
        for number in range(ROUNDS):
            for child in children:
                tell(child, str(number))
            said = sorted(hear(child) for child in children)
            assert said == ["lease.held"] * (CONTENDERS - 1) + ["won 1"]
    finally:
        for child in children:
            child.communicate()

    assert {child.returncode for child in children} == {0}
    with open_home(place, read_only=True) as home:
        figures = lease_figures(home.ledger.read())
        # A refusal whose answer was lost on the way is asked for again, and is then two entries.
        assert figures.holds == ROUNDS and figures.contentions >= ROUNDS * (CONTENDERS - 1)
    assert verify_home(place, deep=True).exit == 0


def test_a_holder_stopped_past_its_time_cannot_write_over_the_next(place: Path) -> None:
    holder = start(HOLDER, place, 1)
    assert hear(holder) == "1"
    holder.send_signal(signal.SIGSTOP)
    try:
        with open_home(place) as home:
            row = home.leases.read("task/a")
            assert row is not None
            while home.clock.boot_us() < row.expires_us:
                time.sleep(0.01)
            assert home.leases.acquire("task/a").token == 2

            holder.send_signal(signal.SIGCONT)
            tell(holder, "write")

            assert hear(holder) == "lease.lost"
            assert [entry.payload["why"] for entry in home.ledger.read(kind="lease.taken-over")] == [
                "expired"
            ]
            assert [entry.payload["code"] for entry in home.ledger.read(kind="write.refused")] == [
                "lease.lost"
            ]
            assert list(home.ledger.read(kind="process.ended")) == []
    finally:
        holder.send_signal(signal.SIGCONT)
        holder.communicate(timeout=LIMIT_S)


def test_a_stopped_holder_within_its_time_keeps_its_lease(place: Path) -> None:
    holder = start(HOLDER, place, 3_600)
    assert hear(holder) == "1"
    holder.send_signal(signal.SIGSTOP)
    try:
        with open_home(place) as home, pytest.raises(LeaseHeld):
            home.leases.acquire("task/a")
    finally:
        holder.send_signal(signal.SIGCONT)
    tell(holder, "write")
    assert hear(holder) == "written"
    holder.communicate(timeout=LIMIT_S)


def test_a_killed_holder_loses_its_lease_without_a_wait(place: Path) -> None:
    holder = start(HOLDER, place, 3_600)
    assert hear(holder) == "1"
    holder.kill()
    holder.communicate()

    with open_home(place) as home:
        assert home.leases.held() == []
        assert home.leases.acquire("task/a").token == 2
        assert [entry.payload["why"] for entry in home.ledger.read(kind="lease.taken-over")] == ["owner-dead"]
    assert verify_home(place, deep=True).exit == 0


def test_a_killed_holder_that_nobody_waited_for_has_nothing_either(place: Path) -> None:
    holder = start(HOLDER, place, 3_600)
    assert hear(holder) == "1"
    holder.kill()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # It is dead now, and still in the table.
    try:
        with open_home(place) as home:
            assert home.leases.acquire("task/a").token == 2
    finally:
        holder.communicate()
