"""Leases against a small model: any order of moves by any holder gives what the model says."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sterling.kernel import lease_table
from sterling.kernel.batch import LeaseOperation, LeaseVerb
from sterling.kernel.errors import SterlingError
from sterling.testing.clock import FakeClock

SCHEMA = (Path(lease_table.__file__).parent / "schema.sql").read_text(encoding="utf-8")
TTL_US = 1_000_000
NAMES = st.sampled_from(["t", "t/1", "t/1/build", "t/1/test", "t/10", "u"])
HOLDERS = st.sampled_from([1, 2, 3])


@dataclass
class Hold:
    """What the model knows of one live or late hold."""

    owner: int
    token: int
    ends_us: int


class LeaseMachine(RuleBasedStateMachine):
    """Three owners with a process each. A killed owner comes back as a new process under its old pid."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(
            lease_table,
            "is_alive",
            lambda process, boot: self.starts.get(process.pid) == process.started_ticks,
        )
        self.clock, self.starts = FakeClock(), {1: 1, 2: 1, 3: 1}
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.executescript(SCHEMA)
        self.holds: dict[str, Hold] = {}
        self.tokens: dict[str, int] = {}
        self.dead: set[tuple[str, int]] = set()

    def teardown(self) -> None:
        self.patch.undo()
        self.connection.close()

    # What the model says

    def is_live(self, name: str) -> bool:
        hold = self.holds.get(name)
        dead = hold is not None and (name, hold.token) in self.dead
        return hold is not None and not dead and self.clock.boot_us() < hold.ends_us

    def is_open(self, name: str, owner: int) -> bool:
        """Whether no other owner has it, a part of it, or a whole that it is part of."""
        return not any(
            self.is_live(other)
            and self.holds[other].owner != owner
            and (name == other or name.startswith(f"{other}/") or other.startswith(f"{name}/"))
            for other in self.holds
        )

    def own_refusal(self, name: str, owner: int) -> str:
        if not self.is_live(name):
            return "lease.expired"
        return "" if self.holds[name].owner == owner else "lease.lost"

    def take(self, name: str, owner: int) -> None:
        if not self.is_live(name):
            self.tokens[name] = self.tokens.get(name, 0) + 1
        self.holds[name] = Hold(owner, self.tokens[name], self.clock.boot_us() + TTL_US)

    # Moves

    def ask(self, verb: LeaseVerb, name: str, owner: int, to: str = "") -> str:
        """The code of the refusal, or nothing."""
        process = (owner, self.starts[owner], self.clock.boot_id())
        operation = LeaseOperation(verb, name, f"{owner}/{self.starts[owner]}", TTL_US, *process, to=to)
        before = self.rows()
        try:
            row, _ = lease_table.execute(self.connection, operation, self.clock.boot_us(), self.clock)
        except SterlingError as refusal:
            assert self.rows() == before
            return refusal.code
        assert row.token == self.tokens.get(row.name, 0) + (not self.is_live(row.name))
        return ""

    def rows(self) -> list[tuple[object, ...]]:
        return self.connection.execute("SELECT * FROM leases ORDER BY name").fetchall()

    @rule(name=NAMES, owner=HOLDERS)
    def acquire(self, name: str, owner: int) -> None:
        expected = "" if self.is_open(name, owner) else "lease.held"
        assert self.ask(LeaseVerb.ACQUIRE, name, owner) == expected
        if not expected:
            self.take(name, owner)

    @rule(name=NAMES, owner=HOLDERS)
    def renew(self, name: str, owner: int) -> None:
        expected = self.own_refusal(name, owner)
        assert self.ask(LeaseVerb.RENEW, name, owner) == expected
        if not expected:
            self.take(name, owner)

    @rule(name=NAMES, owner=HOLDERS)
    def release(self, name: str, owner: int) -> None:
        expected = self.own_refusal(name, owner)
        assert self.ask(LeaseVerb.RELEASE, name, owner) == expected
        if not expected:
            del self.holds[name]

    @rule(name=NAMES, to=NAMES, owner=HOLDERS)
    def swap(self, name: str, to: str, owner: int) -> None:
        if name == to:
            return
        expected = self.own_refusal(name, owner) or ("" if self.is_open(to, owner) else "lease.held")
        assert self.ask(LeaseVerb.SWAP, name, owner, to) == expected
        if not expected:
            self.take(to, owner)
            del self.holds[name]

    @rule(name=NAMES, back=st.integers(0, 2))
    def write_under_a_fence(self, name: str, back: int) -> None:
        token = self.tokens.get(name, 0) - back
        allowed = self.is_live(name) and back == 0
        try:
            lease_table.check_fence(self.connection, name, token, self.clock)
        except lease_table.LeaseRefusal:
            assert not allowed
        else:
            assert allowed

    # What happens around them

    @rule(share=st.sampled_from([0.3, 0.99, 1.0]))
    def time_goes_on(self, share: float) -> None:
        self.clock.advance(int(TTL_US * share))

    @rule(step_us=st.integers(-(10**15), 10**15))
    def somebody_sets_the_wall_clock(self, step_us: int) -> None:
        self.clock.step_wall(step_us)

    @precondition(lambda self: bool(self.holds))
    @rule(owner=HOLDERS)
    def an_owner_dies_and_its_pid_is_used_again(self, owner: int) -> None:
        self.starts[owner] += 1
        self.dead |= {(name, hold.token) for name, hold in self.holds.items() if hold.owner == owner}

    @invariant()
    def no_two_owners_hold_one_tree(self) -> None:
        live = [name for name in self.holds if self.is_live(name)]
        assert all(self.is_open(name, self.holds[name].owner) for name in live)

    @invariant()
    def the_table_says_what_the_model_says(self) -> None:
        now_us, boot_id = self.clock.boot_us(), self.clock.boot_id()
        for name, token in self.tokens.items():
            row = lease_table.read_lease(self.connection, name)
            assert row is not None and row.token == token
            assert row.is_live(now_us, boot_id) == self.is_live(name)


LeaseMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True
)
TestLeasesFollowTheModel = LeaseMachine.TestCase
