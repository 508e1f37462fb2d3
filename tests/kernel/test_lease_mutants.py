"""The rules of leases, broken one at a time: a scenario notices each."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from mutants import run_mutants

import sterling.kernel.lease_table
from sterling.kernel.batch import LeaseOperation, LeaseVerb
from sterling.kernel.liveness import started_ticks
from sterling.testing.clock import FakeClock

SOURCE = Path(sterling.kernel.lease_table.__file__)
TTL_US = 1_000


class Bench:
    """A lease table in memory, and people who ask it."""

    def __init__(self, table: ModuleType) -> None:
        self.table, self.clock = table, FakeClock()
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.executescript((SOURCE.parent / "schema.sql").read_text(encoding="utf-8"))

    def ask(self, verb: str, name: str, holder: str, **more: Any) -> tuple[Any, list[str]]:
        ticks = started_ticks(os.getpid()) or 0
        values = {"pid": os.getpid(), "pid_started": ticks, "boot_id": self.clock.boot_id()} | more
        operation = LeaseOperation(LeaseVerb(verb), name, holder, **{"ttl_us": TTL_US, **values})
        row, drafts = self.table.execute(self.connection, operation, self.clock.boot_us(), self.clock)
        return row, [draft.kind for draft in drafts]

    def is_refused(self, error: str, verb: str, name: str, holder: str, **more: Any) -> Any:
        before = self.rows()
        with pytest.raises(getattr(self.table, error)) as caught:
            self.ask(verb, name, holder, **more)
        assert self.rows() == before
        return caught.value.entry

    def is_fenced(self, name: str, token: int) -> None:
        with pytest.raises(self.table.LeaseRefusal):
            self.table.check_fence(self.connection, name, token, self.clock)

    def rows(self) -> list[Any]:
        return self.connection.execute("SELECT * FROM leases ORDER BY name").fetchall()


def another_holder_is_refused(table: ModuleType) -> None:
    bench = Bench(table)
    bench.ask("acquire", "a", "first")
    bench.is_refused("LeaseHeld", "acquire", "a", "second")
    bench.is_refused("LeaseLost", "renew", "a", "second")
    bench.is_refused("LeaseLost", "release", "a", "second")


def the_last_moment_is_past_the_end(table: ModuleType) -> None:
    bench = Bench(table)
    bench.ask("acquire", "a", "first")
    bench.clock.advance(TTL_US)
    bench.is_fenced("a", 1)
    bench.is_refused("LeaseExpired", "renew", "a", "first")


def a_token_never_goes_back(table: ModuleType) -> None:
    bench = Bench(table)
    for token in (1, 2, 3):
        row, kinds = bench.ask("acquire", "a", f"holder {token}")
        assert (row.token, kinds) == (token, ["lease.acquired"])
        bench.ask("release", "a", f"holder {token}")
        bench.is_fenced("a", token)


def an_older_token_is_fenced(table: ModuleType) -> None:
    bench = Bench(table)
    bench.ask("acquire", "a", "first")
    bench.ask("release", "a", "first")
    bench.ask("acquire", "a", "first")
    bench.is_fenced("a", 1)
    bench.is_refused("LeaseLost", "renew", "a", "first", token=1)
    bench.table.check_fence(bench.connection, "a", 2, bench.clock)


def a_dead_owner_holds_nothing(table: ModuleType) -> None:
    bench = Bench(table)
    bench.ask("acquire", "a", "dead", pid_started=1)
    bench.is_fenced("a", 1)
    assert bench.ask("acquire", "a", "next")[1] == ["lease.taken-over"]


def another_boot_holds_nothing(table: ModuleType) -> None:
    bench = Bench(table)
    bench.ask("acquire", "a", "first", ttl_us=10**12)
    bench.clock.reboot()
    bench.is_fenced("a", 1)
    bench.clock.advance(10**13)
    assert bench.ask("acquire", "a", "next")[1] == ["lease.taken-over"]


def another_host_holds_until_the_end(table: ModuleType) -> None:
    bench = Bench(table)
    bench.ask("acquire", "a", "far", host="elsewhere", pid_started=1, boot_id="theirs")
    bench.is_refused("LeaseHeld", "acquire", "a", "near")
    bench.clock.advance(TTL_US)
    assert bench.ask("acquire", "a", "near")[1] == ["lease.expired", "lease.taken-over"]


def a_whole_excludes_its_parts_and_a_part_its_whole(table: ModuleType) -> None:
    bench = Bench(table)
    bench.ask("acquire", "t/1/build", "first")
    bench.is_refused("LeaseHeld", "acquire", "t/1", "second")
    bench.is_refused("LeaseHeld", "acquire", "t", "second")
    bench.ask("acquire", "t/1", "first")
    bench.is_refused("LeaseHeld", "acquire", "t/1/test", "second")
    for near in ("t/10", "t/1-", "t/1.", "s"):
        bench.ask("acquire", near, "second")
    bench.ask("release", "t/1", "first")
    bench.ask("acquire", "t/1", "first")


def a_swap_is_both_or_neither(table: ModuleType) -> None:
    bench = Bench(table)
    bench.ask("acquire", "t/a", "first")
    bench.ask("acquire", "u", "second")
    bench.is_refused("LeaseHeld", "swap", "t/a", "first", to="u")
    row, kinds = bench.ask("swap", "t/a", "first", to="t/b")
    assert (row.name, row.holder, kinds) == ("t/b", "first", ["lease.released", "lease.acquired"])
    bench.is_fenced("t/a", 1)
    bench.is_refused("LeaseExpired", "swap", "t/a", "first", to="t/c")


def a_late_release_is_noted(table: ModuleType) -> None:
    bench = Bench(table)
    bench.ask("acquire", "a", "first")
    bench.clock.advance(TTL_US + 5)
    entry = bench.is_refused("LeaseExpired", "release", "a", "first")
    assert (entry.kind, entry.payload["held_us"]) == ("lease.expired", TTL_US)
    assert bench.is_refused("LeaseExpired", "renew", "a", "first").kind == "lease.refused"


def no_hold_outlasts_its_cap(table: ModuleType) -> None:
    bench, cap_us = Bench(table), table.HOLD_S_MAX["outbox"] * 1_000_000
    row, _ = bench.ask("acquire", "outbox/a", "first", ttl_us=cap_us - 10)
    bench.clock.advance(50)
    row, _ = bench.ask("renew", "outbox/a", "first", ttl_us=cap_us)
    assert row.expires_us - row.acquired_us == cap_us
    bench.is_refused("LeaseCapReached", "renew", "outbox/a", "first", ttl_us=cap_us)
    row, _ = bench.ask("acquire", "outbox/b", "first", ttl_us=2 * cap_us)
    assert row.expires_us - row.acquired_us == cap_us


def renewals_are_counted(table: ModuleType) -> None:
    bench = Bench(table)
    bench.ask("acquire", "a", "first")
    bench.ask("acquire", "a", "first")
    row, kinds = bench.ask("renew", "a", "first")
    assert (row.token, row.renewals, kinds) == (1, 2, [])


SCENARIOS = (
    another_holder_is_refused,
    the_last_moment_is_past_the_end,
    a_token_never_goes_back,
    an_older_token_is_fenced,
    a_dead_owner_holds_nothing,
    another_boot_holds_nothing,
    another_host_holds_until_the_end,
    a_whole_excludes_its_parts_and_a_part_its_whole,
    a_swap_is_both_or_neither,
    a_late_release_is_noted,
    no_hold_outlasts_its_cap,
    renewals_are_counted,
)
MUTANTS = (
    ("anyone may take it", "if row.holder != operation.holder:", "if False:"),
    ("the end belongs to the hold", "if now_us >= self.expires_us:", "if now_us > self.expires_us:"),
    ("tokens start again", "1 if row is None else row.token + 1", "1"),
    ("any token passes the fence", "if row.token != token:", "if False:"),
    ("any hold of the holder will do", "and operation.token in (0, row.token)", ""),
    ("the dead keep theirs", "if is_here and not is_alive(", "if False and not is_alive("),
    ("other boots keep theirs", "if is_here and self.boot_id != boot_id:", "if False:"),
    ("other hosts are judged here", 'is_here = self.host in ("", this_host())', "is_here = True"),
    ("no look above", 'if letter == "/"]', "if False]"),
    ("no look below", 'f"{name}/", f"{name}0"', 'f"{name}0", f"{name}/"'),
    ("siblings are below", 'f"{name}/", f"{name}0"', 'name, f"{name}\\uffff"'),
    (
        "the same holder is in its own way",
        "holder <> '' AND holder <> ? AND name",
        "holder <> ? || 'x' AND name",
    ),
    ("a swap keeps both", "_release(moment, row)[1] + drafts", "drafts"),
    (
        "nobody asks whose it is",
        "row = _own(moment, operation)",
        "row = read_lease(connection, operation.name)",
    ),
    (
        "a late release leaves no note",
        "operation.verb is LeaseVerb.RELEASE:\n            found.entry",
        "False:\n            found.entry",
    ),
    ("a hold grows past its cap", "expires_us = row.acquired_us + cap_us", "pass"),
    ("the first ttl knows no cap", "min(operation.ttl_us, cap_us)", "operation.ttl_us"),
    ("renewals are not counted", "renewals=row.renewals + 1", "renewals=row.renewals"),
    ("anybody gives it back", "    if not mine:\n", "    if False:\n"),
    ("a release keeps the holder", 'row.token, "", 0, 0, ""', "row.token, row.holder, 0, 0, row.boot_id"),
)


def test_every_broken_rule_is_noticed() -> None:
    found = run_mutants(SOURCE, MUTANTS, SCENARIOS)

    assert len(found) == len(MUTANTS)
