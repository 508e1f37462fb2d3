"""Leases: one holder, tokens that never go back, writes that stop when the right is gone."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sterling.kernel import lease_table
from sterling.kernel.append import Receipt
from sterling.kernel.batch import Batch, FenceHolds, LeaseOperation, LeaseVerb
from sterling.kernel.errors import SterlingError
from sterling.kernel.group import LedgerBusy
from sterling.kernel.home import Home, init_home
from sterling.kernel.lease_table import HOLD_S_MAX, LeaseCapReached, LeaseExpired, LeaseHeld, LeaseLost
from sterling.kernel.leases import Lease, LeaseFigures, LeaseUnavailable, lease_figures
from sterling.kernel.liveness import ProcessName, is_alive, started_ticks, this_host
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


# The table of docs/concepts/leases.md

PAGE = Path(__file__).resolve().parents[2] / "docs" / "concepts" / "leases.md"
OPERATIONS = ("acquire", "renew", "release", "swap", "write")
STATES = (
    "free",
    "mine, expired",
    "mine, live",
    "another's, live",
    "another's, expired",
    "another's, dead",
)


def cells(table: int) -> dict[tuple[str, str], str]:
    """The cells of a table of the page, by operation and state."""
    text = PAGE.read_text(encoding="utf-8").split("| operation |")[1 + table]
    rows = [[cell.strip(" `") for cell in row.split("|")[1:-1]] for row in ("|x|" + text).splitlines()]
    head = rows[0][1:]
    body = [row for row in rows[2:] if len(row) == len(STATES) + 1]
    return {(row[0], state): cell for row in body for state, cell in zip(head, row[1:], strict=True)}


def bring_about(home: Home, clock: FakeClock, state: str, monkeypatch: pytest.MonkeyPatch) -> Lease:
    """My lease, and then that state of its name."""
    whose, _, how = state.partition(", ")
    lease = home.leases.acquire("task/a", TTL_S, holder="me")
    if whose != "mine":
        home.leases.release(lease)
    if whose == "another's":
        home.leases.acquire("task/a", TTL_S, holder="other")
    if how == "expired":
        clock.advance(TTL_S * 1_000_000)
    if how == "dead":
        monkeypatch.setattr("sterling.kernel.liveness.started_ticks", lambda pid: 1)
    return lease


def outcome(home: Home, operation: str, lease: Lease) -> str:
    """What the page's first table says of it."""
    try:
        if operation == "acquire":
            before = home.leases.read("task/a")
            assert before is not None
            after = home.leases.acquire("task/a", TTL_S, holder="me")
            assert after.token - before.token in (0, 1)
            return "same token" if after.token == before.token else "new token"
        if operation == "renew":
            return "same token" if home.leases.renew(lease).token == lease.token else "another"
        if operation == "write":
            home.ledger.commit(fenced(lease))
            return "written"
        if operation == "release":
            home.leases.release(lease)
        else:
            assert home.leases.swap(lease, "task/b").name == "task/b"
        row = home.leases.read("task/a")
        return "freed" if row is not None and not row.holder else "kept"
    except SterlingError as refusal:
        return refusal.code


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_cell_of_the_table_in_the_docs_is_true(
    home: Home, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, operation: str, state: str
) -> None:
    if state == "another's, dead":
        monkeypatch.setattr("sterling.kernel.leases.process_name", lambda boot: ProcessName(1, 7, boot))
        monkeypatch.setattr("sterling.kernel.liveness.started_ticks", lambda pid: 7)
    lease = bring_about(home, clock, state, monkeypatch)
    row, size = home.leases.read("task/a"), home.ledger.size()

    found = outcome(home, operation, lease)

    kinds = [entry.kind for entry in home.ledger.read(after=size - 1)]
    assert found == cells(0)[(operation, state)]
    said = ", ".join(kind.removeprefix("lease.") for kind in kinds) or "nothing"
    assert said == cells(1)[(operation, state)]
    if found.startswith("lease."):
        assert home.leases.read("task/a") == row


def test_the_page_has_a_cell_for_every_operation_and_state() -> None:
    expected = {(operation, state) for operation in OPERATIONS for state in STATES}

    assert set(cells(0)) == set(cells(1)) == expected


# Trees, swaps, caps


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ("task/T", "task/T/build"),
        ("task/T", "task/T/build/one"),
        ("task/T/build", "task/T"),
        ("task/T/build/one", "task"),
        ("task", "task/"),
        ("a//b", "a/"),
    ],
)
def test_a_whole_keeps_others_from_its_parts_and_a_part_from_its_whole(
    home: Home, held: str, wanted: str
) -> None:
    home.leases.acquire(held, TTL_S, holder="first")

    with pytest.raises(LeaseHeld) as caught:
        home.leases.acquire(wanted, TTL_S, holder="second")

    assert caught.value.details["lease"] == held and caught.value.details["holder"] == "first"
    assert home.leases.acquire(wanted, TTL_S, holder="first").token == 1
    payload = next(home.ledger.read(kind="lease.refused")).payload
    assert (payload["name"], payload["found"], payload["found_holder"]) == (wanted, held, "first")


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ("task/T", "task/T1"),
        ("task/T", "task/T-"),
        ("task/T/a", "task/T/b"),
        ("task/é", "task/e"),
        ("t%", "t/x"),
    ],
)
def test_neighbours_do_not_exclude_each_other(home: Home, held: str, wanted: str) -> None:
    home.leases.acquire(held, TTL_S, holder="first")

    assert home.leases.acquire(wanted, TTL_S, holder="second").token == 1
    assert home.leases.acquire(held, TTL_S, holder="first").token == 1


def test_an_expired_part_is_in_nobodys_way_and_cannot_be_renewed(home: Home, clock: FakeClock) -> None:
    part = home.leases.acquire("task/T/build", TTL_S, holder="slow")
    clock.advance(TTL_S * 1_000_000)
    home.leases.acquire("task/T", TTL_S, holder="quick")

    with pytest.raises(LeaseExpired):
        home.leases.renew(part)
    with pytest.raises(LeaseHeld):
        home.leases.acquire("task/T/build", TTL_S, holder="slow")


def test_the_look_at_a_tree_scans_no_table(home: Home) -> None:
    seen: list[str] = []
    connection = sqlite3.connect(home.path / "ledger.db")
    connection.set_trace_callback(seen.append)
    operation = LeaseOperation(LeaseVerb.ACQUIRE, "task/T/build", "me")

    lease_table._relatives(connection, operation)

    plan = " ".join(str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {seen[-1]}"))
    connection.close()
    assert "SEARCH" in plan and "SCAN" not in plan


def test_a_refused_swap_keeps_the_first_and_leaves_one_entry(home: Home) -> None:
    first = home.leases.acquire("task/T/build", TTL_S, holder="me")
    home.leases.acquire("task/U", TTL_S, holder="other")
    size = home.ledger.size()

    with pytest.raises(LeaseHeld):
        home.leases.swap(first, "task/U/build")

    home.ledger.commit(fenced(first))
    assert [e.kind for e in home.ledger.read(after=size - 1)] == ["lease.refused", "process.ended"]


def test_a_swap_ends_the_old_fence_and_begins_a_new_one(home: Home) -> None:
    first = home.leases.acquire("task/T/build", TTL_S, holder="me")

    second = home.leases.swap(first, "task/T/test")

    home.ledger.commit(fenced(second))
    with pytest.raises(LeaseExpired):
        home.ledger.commit(fenced(first))
    with pytest.raises(LeaseHeld):
        home.leases.acquire("task/T", TTL_S, holder="other")


def test_a_stale_lease_of_the_same_holder_moves_nothing(home: Home) -> None:
    stale = home.leases.acquire("task/a", TTL_S, holder="me")
    home.leases.release(stale)
    home.leases.acquire("task/a", TTL_S, holder="me")

    for move in (home.leases.renew, home.leases.release):
        with pytest.raises(LeaseLost):
            move(stale)


def test_a_hold_ends_at_the_cap_of_its_kind_however_often_it_is_renewed(home: Home, clock: FakeClock) -> None:
    cap_us = HOLD_S_MAX["outbox"] * 1_000_000
    lease = home.leases.acquire("outbox/a", 3_000)
    end_us = lease.expires_us - lease.ttl_us + cap_us
    clock.advance(2_000_000_000)

    renewed = home.leases.renew(lease)
    with pytest.raises(LeaseCapReached):
        home.leases.renew(renewed)

    assert renewed.expires_us == end_us
    home.ledger.commit(fenced(renewed))
    clock.advance(1_600_000_000)
    with pytest.raises(LeaseExpired):
        home.ledger.commit(fenced(renewed))
    assert home.leases.acquire("outbox/a", holder="me").token == 2


STORE_ERRORS = [sqlite3.OperationalError("disk I/O error"), OSError(5, "I/O error"), LedgerBusy("no turn")]


@pytest.mark.parametrize("problem", STORE_ERRORS, ids=lambda problem: type(problem).__name__)
def test_a_store_that_cannot_answer_gives_nobody_a_lease(
    home: Home, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    lease = home.leases.acquire("task/a", TTL_S)

    def fail(*_: object) -> None:
        raise problem

    with monkeypatch.context() as patch:
        patch.setattr(home.ledger, "commit", fail)
        patch.setattr(home.ledger, "connection", fail)
        for move in (
            lambda: home.leases.acquire("task/b"),
            lambda: home.leases.renew(lease),
            lambda: home.leases.release(lease),
            lambda: home.leases.swap(lease, "task/b"),
            lambda: home.leases.read("task/a"),
            home.leases.held,
        ):
            with pytest.raises(LeaseUnavailable):
                move()


def test_a_batch_that_was_written_by_another_process_gives_its_lease(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = home.ledger.commit

    def taken_since(receipt: Receipt) -> Receipt:
        row = receipt.leases[0]
        batch = Batch()
        batch.operate(LeaseOperation(LeaseVerb.RELEASE, row.name, row.holder))
        batch.operate(LeaseOperation(LeaseVerb.ACQUIRE, row.name, "other", 10**9))
        commit(batch)
        return replace(receipt, leases=())

    with monkeypatch.context() as patch:
        patch.setattr(home.ledger, "commit", lambda batch: replace(commit(batch), leases=()))
        lease = home.leases.acquire("task/a", TTL_S)
        moved = home.leases.swap(lease, "task/b")
        home.leases.release(moved)
        patch.setattr(home.ledger, "commit", lambda batch: taken_since(commit(batch)))
        with pytest.raises(LeaseLost):
            home.leases.acquire("task/c", TTL_S, holder="me")

    assert (lease.token, moved.token, moved.name) == (1, 1, "task/b")
    assert home.leases.held() == []


# Owners


def test_a_process_with_an_odd_name_is_told_by_its_start(tmp_path: Path) -> None:
    name = tmp_path / ") R 1 1\n(\xff)"
    os.symlink(shutil.which("sleep") or "/bin/sleep", name)
    child = subprocess.Popen([name, "60"])
    try:
        while b"R 1 1" not in Path(f"/proc/{child.pid}/comm").read_bytes():
            os.sched_yield()
        ticks = started_ticks(child.pid)

        mine = started_ticks(os.getpid())
        assert ticks is not None and mine is not None and ticks >= mine
    finally:
        child.kill()
        child.wait()
    assert started_ticks(child.pid) is None


def test_a_process_that_hides_counts_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(pid: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sterling.kernel.liveness.started_ticks", hidden)

    assert is_alive(ProcessName(1, 1, "boot"), "boot")
    assert not is_alive(ProcessName(1, 1, "boot"), "another boot")


def test_of_another_host_only_the_end_counts(home: Home, clock: FakeClock) -> None:
    batch = Batch()
    batch.operate(
        LeaseOperation(LeaseVerb.ACQUIRE, "task/a", "far", TTL_S * 1_000_000, 1, 1, "theirs", "elsewhere")
    )
    home.ledger.commit(batch)
    with pytest.raises(LeaseHeld):
        home.leases.acquire("task/a", TTL_S, holder="near")

    clock.advance(TTL_S * 1_000_000)

    assert home.leases.acquire("task/a", TTL_S, holder="near").token == 2
    row = home.leases.read("task/a")
    assert row is not None and row.host == this_host()


def test_figures_come_from_the_entries(home: Home, clock: FakeClock) -> None:
    for held_s in (10, 20, 60):
        lease = home.leases.acquire("task/a", TTL_S, holder="me")
        clock.advance(held_s * 1_000_000)
        home.leases.release(lease)
    lease = home.leases.acquire("task/a", TTL_S, holder="me")
    with pytest.raises(LeaseHeld):
        home.leases.acquire("task/a", TTL_S, holder="other")
    clock.advance(TTL_S * 1_000_000)
    with pytest.raises(LeaseExpired):
        home.leases.release(lease)
    home.leases.acquire("task/a", TTL_S, holder="other")

    assert lease_figures(home.ledger.read()) == LeaseFigures(5, 1, 1, 40_000_000, 300_000_000)
    assert lease_figures([]) == LeaseFigures(0, 0, 0, 0, 0)
