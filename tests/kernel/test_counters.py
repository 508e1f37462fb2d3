"""Counters are a fold over entries: zero is a count, na is not, and a second way to count agrees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterling import app
from sterling.kernel.adapters import Ability
from sterling.kernel.batch import Batch, NewestIs
from sterling.kernel.canonical import Json
from sterling.kernel.contracts import load_contracts
from sterling.kernel.counters import KERNEL_COUNTERS, CounterFold, CounterRule, fold_counters
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home, init_home
from sterling.kernel.lease_table import LeaseHeld
from sterling.kernel.ledger import StoredEntry
from sterling.kernel.outbox import Effect
from sterling.kernel.telemetry import read_counters
from sterling.testing.clock import FakeClock
from sterling.testing.receiver import FakeReceiver


def entry(index: int, kind: str, payload: Json, contract: str = "") -> StoredEntry:
    return StoredEntry(index, bytes(32), bytes(32), kind, contract, "", "", 0, b"", payload=payload)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def home(tmp_path: Path, clock: FakeClock) -> Iterator[Home]:
    with init_home(tmp_path / "home", clock=clock) as made:
        yield made


def refuse(home: Home) -> None:
    batch = Batch()
    batch.append("process.ended", {"command": "work", "exit": 0}, subject="a")
    batch.require(NewestIs("a", 999))
    with pytest.raises(SterlingError):
        home.ledger.commit(batch)


def test_no_event_is_zero_and_not_na() -> None:
    found = fold_counters([], app.counter_rules())

    assert found.counts and {count.value for count in found.counts.values()} == {0}


def test_every_counter_reads_a_contract_that_exists() -> None:
    known = load_contracts()

    for rule in app.counter_rules():
        assert known.has(rule.kind) and (not rule.contract or known.has(rule.contract)), rule.name


def test_every_label_and_distinct_field_is_a_field_of_its_contract() -> None:
    known = load_contracts()

    for rule in app.counter_rules():
        fields = known.get(rule.contract or rule.kind).schema["properties"]
        assert {*rule.labels, *([rule.distinct] if rule.distinct else [])} <= set(fields), rule.name


def test_refusals_are_counted_by_their_code(home: Home) -> None:
    too_large = Batch()
    too_large.append("process.ended", {"command": "work", "exit": 0}, step="s" * 70_000)
    with pytest.raises(SterlingError):
        home.ledger.commit(too_large)
    refuse(home)
    refuse(home)

    found = read_counters(home, KERNEL_COUNTERS).counts["writes_refused"]

    assert found.value == 3
    assert found.split == {(("code", "ledger.precondition"),): 2, (("code", "canonical.too-large"),): 1}


def test_a_takeover_and_a_step_of_the_clock_are_counted(home: Home, clock: FakeClock) -> None:
    home.leases.acquire("task/a", 1, holder="first")
    clock.advance(2_000_000)
    home.leases.acquire("task/a", 1, holder="second")
    clock.step_wall(-5_000_000)
    refuse(home)

    counts = read_counters(home, KERNEL_COUNTERS).counts

    assert counts["lease_takeovers"].split == {(("why", "expired"),): 1}
    assert counts["clock_steps"].value == 1


def test_an_effect_given_up_is_counted_by_its_reason(home: Home) -> None:
    receiver, batch = FakeReceiver(Ability.FINDS), Batch()
    receiver.default = "refused"
    home.outbox.put(batch, Effect("a", "file", "notes", {"n": 1}))
    home.ledger.commit(batch)
    home.outbox.run_once({"file": receiver})

    found = read_counters(home, KERNEL_COUNTERS).counts["outbox_dead"]

    assert found.value == 1 and found.split == {(("why", "effect.refused"),): 1}


def test_only_a_phase_that_another_holder_kept_counts_as_contention(home: Home) -> None:
    for name in ("task/a/phase", "outbox/notes"):
        home.leases.acquire(name, 60, holder="first")
        with pytest.raises(LeaseHeld):
            home.leases.acquire(name, 60, holder="second")
    lost = home.leases.acquire("task/b", 60, holder="first")
    home.leases.release(lost)
    with pytest.raises(SterlingError):
        home.leases.renew(lost)

    counts = read_counters(home, KERNEL_COUNTERS).counts

    assert counts["phase_lease_contention"].value == 1
    assert len(list(home.ledger.read(kind="lease.refused"))) == 3


def test_the_figures_of_an_earlier_size_are_those_of_then(home: Home) -> None:
    refuse(home)
    size = home.ledger.size()
    refuse(home)

    assert read_counters(home, KERNEL_COUNTERS, size=size).counts["writes_refused"].value == 1
    assert read_counters(home, KERNEL_COUNTERS).counts["writes_refused"].value == 2


def test_a_source_that_cannot_be_read_is_na_and_the_others_stand() -> None:
    fold = CounterFold(KERNEL_COUNTERS)
    fold.add(entry(0, "clock.stepped", {"before_us": 2, "after_us": 1}))
    fold.lose(("write.refused", ""), "the disk is gone")

    counts = fold.counters(1).counts

    assert counts["writes_refused"].value is None and "disk" in counts["writes_refused"].because
    assert counts["clock_steps"].value == 1


def test_a_record_whose_document_is_not_there_makes_its_counters_na() -> None:
    rule = CounterRule("verdicts", "x", "record.put", "ci.decision", labels=("verdict",))
    put = {"contract": "ci.decision@1.0", "id": "r-x", "document": {"verdict": "ok"}}
    lacking = {"contract": "ci.decision@1.0", "id": "r-y", "blob": "0" * 64}

    found = fold_counters(
        [entry(0, "record.put", put, "ci.decision"), entry(1, "record.put", lacking, "ci.decision")], [rule]
    )

    assert found.counts["verdicts"].value is None and "entry 1" in found.counts["verdicts"].because


def test_a_document_that_a_rule_cannot_read_is_na_and_no_crash() -> None:
    found = fold_counters([entry(0, "write.refused", {"no": "code"})], KERNEL_COUNTERS)

    assert found.counts["writes_refused"].value is None


def test_a_blob_that_is_gone_makes_only_its_counters_na(home: Home, tmp_path: Path) -> None:
    batch = Batch()
    batch.append("run.opened", _opened())
    home.ledger.commit(batch)
    refuse(home)
    spilled = next(iter(home.blobs.addresses()))
    home.blobs.path(spilled).rename(tmp_path / "gone")
    rules = (*KERNEL_COUNTERS, CounterRule("runs", "x", "run.opened"))

    counts = read_counters(home, rules).counts

    assert counts["runs"].value is None and counts["writes_refused"].value == 1


def test_distinct_counts_a_value_once() -> None:
    rule = CounterRule("tasks", "x", "k", distinct="task")

    found = fold_counters([entry(i, "k", {"task": name}) for i, name in enumerate("aabca")], [rule])

    assert found.counts["tasks"].value == 3


def test_two_counters_of_one_name_are_a_defect() -> None:
    with pytest.raises(AssertionError):
        CounterFold([*KERNEL_COUNTERS, KERNEL_COUNTERS[0]])


@given(st.lists(st.tuples(st.sampled_from(["ok", "failed", "na"]), st.sampled_from(["a", "b"]))))
def test_the_fold_agrees_with_counting_by_hand(steps: list[tuple[str, str]]) -> None:
    rule = CounterRule("steps", "x", "runtime.outcome", labels=("state", "reason"))
    entries = [
        entry(i, "runtime.outcome", {"state": state, "reason": why}) for i, (state, why) in enumerate(steps)
    ]

    found = fold_counters(entries, [rule]).counts["steps"]

    by_hand = Counter((("state", state), ("reason", why)) for state, why in steps)
    assert found.value == len(steps) and found.split == by_hand


def _opened() -> Json:
    """The payload of a run with so many inputs that it lies in a blob."""
    return {
        "pack": "insight",
        "origin": "attended",
        "mode_requested": "legacy",
        "mode_effective": "legacy",
        "seed": 0,
        "plan_sha256": "0" * 64,
        "config_sha256": "0" * 64,
        "inputs": ["i" * 60] * 1000,
        "planned": 0,
        "title": "",
        "pid": 1,
        "started_ticks": 1,
        "boot_id": "00000000-0000-4000-8000-000000000001",
    }
