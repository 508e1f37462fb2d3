"""The heartbeat: work that moves keeps its lease, work that hangs loses it and is told."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sterling.kernel.group import LedgerIo
from sterling.kernel.heartbeat import Heartbeat
from sterling.kernel.home import Home, init_home
from sterling.kernel.lease_table import HOLD_S_MAX
from sterling.kernel.leases import LeaseUnavailable
from sterling.testing.clock import FakeClock

TTL_S = 300
THIRD_US = TTL_S * 1_000_000 // 3


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def home(tmp_path: Path, clock: FakeClock) -> Iterator[Home]:
    with init_home(tmp_path / "home", clock=clock) as made:
        yield made


@pytest.fixture
def beat(home: Home, clock: FakeClock) -> Heartbeat:
    return Heartbeat(home.leases, home.leases.acquire("task/a", TTL_S, holder="me"), clock)


def test_work_that_moves_keeps_its_lease(clock: FakeClock, beat: Heartbeat) -> None:
    for _ in range(10):
        beat.progress()
        clock.advance(THIRD_US)
        assert beat.beat()

    assert beat.lease.expires_us == clock.boot_us() + TTL_S * 1_000_000 and not beat.is_lost


def test_work_that_hangs_loses_its_lease_to_another(home: Home, clock: FakeClock, beat: Heartbeat) -> None:
    beat.progress()
    assert [beat.beat() for _ in range(2)] == [True, True]
    for _ in range(3):
        clock.advance(THIRD_US)
        alive = beat.beat()

    assert not alive and beat.is_lost
    assert home.leases.acquire("task/a", TTL_S, holder="other").token == 2


def test_progress_that_comes_late_but_not_too_late_counts(clock: FakeClock, beat: Heartbeat) -> None:
    clock.advance(2 * THIRD_US)
    assert beat.beat()

    beat.progress()
    clock.advance(THIRD_US - 1)

    assert beat.beat() and beat.lease.expires_us > clock.boot_us() + THIRD_US


def test_progress_after_the_end_brings_nothing_back(clock: FakeClock, beat: Heartbeat) -> None:
    clock.advance(3 * THIRD_US)
    beat.progress()

    assert not beat.beat() and beat.is_lost


def test_a_lease_that_somebody_else_got_is_lost_at_once_and_said_once(home: Home, clock: FakeClock) -> None:
    told: list[str] = []
    lease = home.leases.acquire("task/a", TTL_S, holder="me")
    beat = Heartbeat(home.leases, lease, clock, told.append)
    home.leases.release(lease)
    home.leases.acquire("task/a", TTL_S, holder="other")
    beat.progress()

    assert not beat.beat()

    assert told == ["lease.lost"] and beat.is_lost


def test_a_store_that_does_not_answer_is_asked_again_but_never_believed(
    clock: FakeClock, beat: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise LeaseUnavailable("no answer")

    beat.progress()
    with monkeypatch.context() as patch:
        patch.setattr(beat._leases, "renew", fail)
        clock.advance(THIRD_US)
        assert beat.beat()
    clock.advance(THIRD_US)
    assert beat.beat() and beat.lease.expires_us == clock.boot_us() + 3 * THIRD_US

    monkeypatch.setattr(beat._leases, "renew", fail)
    beat.progress()
    for _ in range(3):
        clock.advance(THIRD_US)
        alive = beat.beat()
    assert not alive and beat.is_lost


def test_an_io_error_of_the_ledger_is_no_renewal(
    home: Home, clock: FakeClock, beat: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise LedgerIo("disk gone")

    beat.progress()
    with monkeypatch.context() as patch:
        patch.setattr(home.ledger, "commit", fail)
        clock.advance(THIRD_US)

        assert beat.beat() and beat.lease.expires_us == clock.boot_us() + 2 * THIRD_US


def test_at_the_cap_the_lease_runs_out(home: Home, clock: FakeClock) -> None:
    beat = Heartbeat(home.leases, home.leases.acquire("outbox/a", TTL_S), clock)
    for _ in range(3 * HOLD_S_MAX["outbox"] // TTL_S):
        beat.progress()
        assert beat.beat()
        clock.advance(THIRD_US)

    assert not beat.beat() and beat.is_lost


def test_the_thread_tells_its_owner_and_ends(home: Home, clock: FakeClock) -> None:
    told, codes = threading.Event(), list[str]()
    lease = home.leases.acquire("task/a", TTL_S, holder="me")

    def on_lost(code: str) -> None:
        codes.append(code)
        told.set()

    clock.advance(TTL_S * 1_000_000)
    with Heartbeat(home.leases, lease, clock, on_lost) as beat:
        assert told.wait(20)

    assert codes == ["lease.expired"] and beat.is_lost and not beat._thread.is_alive()


def test_the_end_of_the_work_ends_the_thread_and_keeps_the_lease(home: Home, clock: FakeClock) -> None:
    with Heartbeat(home.leases, home.leases.acquire("task/a", TTL_S), clock) as beat:
        assert beat._thread.is_alive()

    assert not beat._thread.is_alive() and not beat.is_lost
    home.leases.release(beat.lease)


def test_a_heartbeat_keeps_no_process_alive(tmp_path: Path) -> None:
    init_home(tmp_path / "home").close()
    program = (
        "import sys; from pathlib import Path\n"
        "from sterling.kernel.home import open_home\n"
        "from sterling.kernel.heartbeat import Heartbeat\n"
        "home = open_home(Path(sys.argv[1]))\n"
        "Heartbeat(home.leases, home.leases.acquire('task/a'), home.clock).__enter__()\n"
    )

    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "home")], timeout=60, check=False)

    assert done.returncode == 0
