"""Leases: one holder, tokens that never go back, writes that stop when the right is gone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sterling.kernel.batch import Batch, FenceHolds, LeaseOperation, LeaseVerb
from sterling.kernel.home import Home, init_home
from sterling.kernel.lease_table import LeaseExpired, LeaseHeld, LeaseLost
from sterling.kernel.leases import Lease
from sterling.kernel.liveness import ProcessName, is_alive, started_ticks
from sterling.testing.clock import FakeClock

TTL_S = 300


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def home(tmp_path: Path, clock: FakeClock) -> Iterator[Home]:
    with init_home(tmp_path / "home", clock=clock) as made:
        yield made


def fenced(lease: Lease) -> Batch:
    batch = Batch()
    batch.append("process.ended", {"command": "work", "exit": 0})
    batch.require(FenceHolds(lease.name, lease.token))
    return batch


def test_a_free_lease_is_granted_and_a_held_one_refused(home: Home) -> None:
    home.leases.acquire("task/a", TTL_S, holder="first")

    with pytest.raises(LeaseHeld) as caught:
        home.leases.acquire("task/a", TTL_S, holder="second")

    assert caught.value.details["holder"] == "first"
    assert [entry.payload["code"] for entry in home.ledger.read(kind="lease.refused")] == ["lease.held"]


def test_taking_ones_own_lease_again_keeps_the_token_and_counts_a_renewal(home: Home) -> None:
    first = home.leases.acquire("task/a", TTL_S, holder="me")

    again = home.leases.acquire("task/a", TTL_S, holder="me")

    row = home.leases.read("task/a")
    assert again.token == first.token and row is not None and row.renewals == 1


def test_tokens_go_up_over_release_expiry_and_takeover(home: Home, clock: FakeClock) -> None:
    tokens = []
    lease = home.leases.acquire("task/a", TTL_S, holder="a")
    tokens.append(lease.token)
    home.leases.release(lease)
    tokens.append(home.leases.acquire("task/a", TTL_S, holder="b").token)
    clock.advance(TTL_S * 1_000_000)
    tokens.append(home.leases.acquire("task/a", TTL_S, holder="c").token)

    assert tokens == [1, 2, 3]
    assert [e.payload["why"] for e in home.ledger.read(kind="lease.taken-over")] == ["expired"]


def test_a_write_under_a_live_fence_goes_through_and_names_it(home: Home) -> None:
    lease = home.leases.acquire("task/a", TTL_S)

    home.ledger.commit(fenced(lease))

    body = list(home.ledger.read(kind="process.ended"))[-1].body
    assert b'"fence":[{"lease":"task/a","token":1}]' in body


def test_an_expired_holder_cannot_write_even_when_nobody_took_over(home: Home, clock: FakeClock) -> None:
    lease = home.leases.acquire("task/a", TTL_S)
    clock.advance(TTL_S * 1_000_000)

    with pytest.raises(LeaseExpired):
        home.ledger.commit(fenced(lease))
    with pytest.raises(LeaseExpired):
        home.leases.renew(lease)


def test_a_paused_holder_that_comes_back_is_fenced_off(home: Home, clock: FakeClock) -> None:
    lease = home.leases.acquire("task/a", TTL_S, holder="slow")
    clock.advance(TTL_S * 1_000_000)
    home.leases.acquire("task/a", TTL_S, holder="quick")

    with pytest.raises(LeaseLost):
        home.ledger.commit(fenced(lease))
    with pytest.raises(LeaseLost):
        home.leases.renew(lease)
    with pytest.raises(LeaseLost):
        home.leases.release(lease)


def test_a_step_of_the_wall_clock_neither_frees_nor_prolongs(home: Home, clock: FakeClock) -> None:
    lease = home.leases.acquire("task/a", TTL_S)
    clock.step_wall(10 * TTL_S * 1_000_000)

    home.ledger.commit(fenced(lease))

    clock.step_wall(-20 * TTL_S * 1_000_000)
    clock.advance(TTL_S * 1_000_000)
    with pytest.raises(LeaseExpired):
        home.ledger.commit(fenced(lease))


def test_a_dead_owner_of_this_host_loses_its_lease_at_once(home: Home, clock: FakeClock) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ticks = started_ticks(child.pid)
    assert ticks is not None
    batch = Batch()
    batch.operate(
        LeaseOperation(LeaseVerb.ACQUIRE, "task/a", "child", 10**9, child.pid, ticks, clock.boot_id())
    )
    home.ledger.commit(batch)
    with pytest.raises(LeaseHeld):
        home.leases.acquire("task/a", TTL_S, holder="me")

    child.kill()
    child.wait()

    assert home.leases.acquire("task/a", TTL_S, holder="me").token == 2
    assert [e.payload["why"] for e in home.ledger.read(kind="lease.taken-over")] == ["owner-dead"]


def test_a_reused_pid_is_not_the_process_that_held_it(clock: FakeClock) -> None:
    ticks = started_ticks(1)
    assert ticks is not None

    assert is_alive(ProcessName(1, ticks, "boot"), "boot")
    assert not is_alive(ProcessName(1, ticks + 1, "boot"), "boot")
    assert not is_alive(ProcessName(1, ticks, "boot"), "another boot")


def test_a_lease_of_another_boot_is_dead(home: Home, clock: FakeClock) -> None:
    home.leases.acquire("task/a", TTL_S, holder="before")
    clock.reboot()

    assert home.leases.acquire("task/a", TTL_S, holder="after").token == 2


def test_a_refused_batch_leaves_its_lease_operation_undone(home: Home) -> None:
    batch = Batch()
    batch.operate(LeaseOperation(LeaseVerb.ACQUIRE, "task/a", "me", 10**9, 1, 1, "x"))
    batch.require(FenceHolds("task/other", 1))

    with pytest.raises(LeaseExpired):
        home.ledger.commit(batch)

    assert home.leases.read("task/a") is None
