from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.batch import Batch
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home, init_home
from sterling.runtime.engine import TaskEnd
from sterling.runtime.execute import run_plan
from sterling.runtime.interrupts import Terminated, terminate_as_interrupt
from sterling.runtime.outcomes import Settled
from sterling.runtime.plan import Plan, PlanRequest, Step, build
from sterling.runtime.runs import RunView, open_run, read_run
from sterling.testing.fleet import Fleet

Carry = Callable[..., RunView]
BAD = "def run():\n    raise ValueError('bad')\n"
NA = "def run():\n    return Na('insight.role-missing', 'No column tells a time.')\n"


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with init_home(tmp_path / "home") as home:
        yield home


@pytest.fixture
def carry(fleet: Fleet, home: Home) -> Carry:
    def carry(request: PlanRequest | None = None, **more: Any) -> RunView:
        registry = fleet.registry()
        plan = build(registry.manifests("insight"), request or PlanRequest("insight"))
        with open_run(home, pack="insight", plan=plan, origin="attended") as run:
            terms: dict[str, Any] = {
                "provider": "",
                "inputs_for": no_inputs,
                "accept": keep,
                "workers": 2,
                **more,
            }
            run_plan(home, run, plan, registry, **terms)
        return read_run(home, run.id)

    return carry


def no_inputs(step: Step) -> Mapping[str, Any]:
    return {}


def keep(step: Step, end: TaskEnd, settled: Settled, batch: Batch) -> None:
    return None


def states(view: RunView) -> dict[str, tuple[str, str]]:
    return {row["step"]: (row["state"], row["reason"]) for row in view.outcomes}


def test_a_fleet_gives_ok_failed_and_na_and_the_run_closes_by_counts(fleet: Fleet, carry: Carry) -> None:
    fleet.add("good")
    fleet.add("bad", BAD)
    fleet.add("absent", NA)

    view = carry()

    assert states(view) == {
        "absent": ("na", "insight.role-missing"),
        "bad": ("failed", "step.raised"),
        "good": ("ok", "ok"),
    }
    assert (view.state, view.code, view.planned, view.settled) == ("failed", "step.raised", 3, 3)
    assert view.lanes["explanation"]["findings"] == 1


def test_what_follows_a_bad_need_is_na_without_running(fleet: Fleet, carry: Carry) -> None:
    ran = fleet.root / "ran"
    touch = f"def run():\n    open({str(ran)!r}, 'w').close()\n    return Ok(metrics={{'n': 1}})\n"
    fleet.add("a_bad", BAD)
    fleet.add("a_absent", NA)
    fleet.add("after_bad", touch, needs={"plugins": ["a_bad", "a_absent"]})
    fleet.add("after_absent", touch, needs={"plugins": ["a_absent"]})
    fleet.add("after_after", touch, needs={"plugins": ["after_absent"]})

    view = carry()

    assert states(view)["after_bad"] == ("na", "step.upstream-failed")
    assert states(view)["after_absent"] == ("na", "step.upstream-na")
    assert states(view)["after_after"] == ("na", "step.upstream-na")
    assert not ran.exists()


def test_a_tolerated_need_lets_the_step_run(fleet: Fleet, carry: Carry) -> None:
    fleet.add("a_bad", BAD)
    fleet.add("hardy", needs={"plugins": ["a_bad"], "tolerates": ["a_bad"]})

    assert states(carry())["hardy"] == ("ok", "ok")


def test_decision_steps_start_before_explanation_steps(fleet: Fleet, carry: Carry) -> None:
    started: list[str] = []

    def inputs(step: Step) -> Mapping[str, Any]:
        started.append(step.id)
        return {}

    fleet.add("a_explains")
    fleet.decision("z_decides")
    fleet.decision("y_decides", needs={"plugins": ["z_decides"]})
    carry(inputs_for=inputs, workers=1)

    assert started == ["z_decides", "y_decides", "a_explains"]


@pytest.mark.parametrize("workers", [1, 3])
def test_outcomes_and_findings_do_not_depend_on_workers_or_mode(
    fleet: Fleet, carry: Carry, workers: int
) -> None:
    found: dict[str, Any] = {}

    def accept(step: Step, end: TaskEnd, settled: Settled, batch: Batch) -> None:
        found[step.id] = end.result

    for n in range(5):
        code = f"def run(seed):\n    return Ok([Finding('toy', 'Seen.', {{'n': {n}, 'seed': seed}})])\n"
        fleet.add(f"toy_{n}", code)
    for mode in ("two_lane_strict", "legacy"):
        carry(PlanRequest("insight", mode=mode, seed=9), accept=accept, workers=workers)

    assert {name: result["findings"][0]["evidence"] for name, result in found.items()} == {
        f"toy_{n}": {"n": n, "seed": 9} for n in range(5)
    }


def test_what_the_pack_adds_is_durable_with_the_outcome(fleet: Fleet, home: Home, carry: Carry) -> None:
    def accept(step: Step, end: TaskEnd, settled: Settled, batch: Batch) -> None:
        payload = {"boot_id": "b", "end": "", "family": step.id, "pid": 1, "started_ticks": 1, "walls": []}
        batch.append("runtime.host", payload, subject="from-the-pack")

    fleet.add("good")
    view = carry(accept=accept)

    assert [entry.payload["family"] for entry in home.ledger.read(subject="from-the-pack")] == ["good"]
    assert view.state == "ok"


def test_an_outcome_that_the_pack_returns_replaces_the_one_given(fleet: Fleet, carry: Carry) -> None:
    fleet.add("good")
    view = carry(
        accept=lambda *given: Settled("failed", "insight.access-mismatch", "It read more than it said.")
    )

    assert states(view)["good"] == ("failed", "insight.access-mismatch")


class PackRefuses(SterlingError):
    """What a pack may raise."""


def refuse(*given: Any) -> Any:
    raise PackRefuses("no such column")


@pytest.mark.parametrize("part", ["accept", "inputs_for"])
def test_an_error_of_the_pack_fails_that_step_alone(fleet: Fleet, carry: Carry, part: str) -> None:
    fleet.add("one")
    fleet.add("two")
    calls: list[str] = []

    def sometimes(step: Step, *given: Any) -> Any:
        calls.append(step.id)
        return refuse() if step.id == "one" else ({} if part == "inputs_for" else None)

    view = carry(**{part: sometimes})

    assert states(view)["one"][0] == "failed"
    assert states(view)["two"] == ("ok", "ok")
    assert "no such column" in next(row["because"] for row in view.outcomes if row["step"] == "one")


def test_a_record_that_its_contract_refuses_fails_the_step_and_writes_nothing_of_it(
    fleet: Fleet, home: Home, carry: Carry
) -> None:
    def accept(step: Step, end: TaskEnd, settled: Settled, batch: Batch) -> None:
        batch.append("runtime.host", {"nonsense": True}, subject="from-the-pack")

    fleet.add("good")
    view = carry(accept=accept)

    assert states(view)["good"] == ("failed", "step.invalid-result")
    assert list(home.ledger.read(subject="from-the-pack")) == []


def test_a_step_that_preflight_refuses_is_settled_without_running(fleet: Fleet, carry: Carry) -> None:
    fleet.add("good")
    fleet.add("needy", needs={"libraries": ["nonesuch-library"]})
    fleet.add("shy")
    absent = Settled("na", "insight.role-missing", "No column tells a time.")
    view = carry(pack_check=lambda manifest: absent if manifest.id == "shy" else None)

    assert states(view) == {
        "good": ("ok", "ok"),
        "needy": ("failed", "need.library-missing"),
        "shy": ("na", "insight.role-missing"),
    }


def test_a_worker_host_is_recorded_once_with_the_walls_that_held(
    fleet: Fleet, home: Home, carry: Carry
) -> None:
    fleet.add("one")
    fleet.add("two")
    carry()

    hosts = [entry.payload for entry in home.ledger.read(kind="runtime.host")]
    assert [host["family"] for host in hosts] == ["plain"]
    assert "tree:subreaper" in hosts[0]["walls"]


def test_ctrl_c_ends_the_workers_and_closes_every_open_step(fleet: Fleet, home: Home) -> None:
    fleet.add("a_good")
    fleet.add("b_slow", "import time\ndef run():\n    time.sleep(300)\n")
    fleet.add("c_after", needs={"plugins": ["b_slow"]})
    registry = fleet.registry()
    plan: Plan = build(registry.manifests("insight"), PlanRequest("insight"))
    run = open_run(home, pack="insight", plan=plan, origin="attended")

    def interrupt(step: Step, settled: Settled) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def work() -> None:
        with run:
            run_plan(
                home,
                run,
                plan,
                registry,
                provider="",
                inputs_for=no_inputs,
                accept=keep,
                workers=2,
                on_settled=interrupt,
            )

    with pytest.raises(Terminated):
        work()

    view = read_run(home, run.id)
    assert states(view) == {
        "a_good": ("ok", "ok"),
        "b_slow": ("failed", "run.interrupted"),
        "c_after": ("failed", "run.interrupted"),
    }
    assert (view.state, view.settled) == ("failed", 3)


def test_sigterm_raises_only_while_it_is_asked_to() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def terminated() -> None:
        with terminate_as_interrupt():
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(5)

    with pytest.raises(Terminated):
        terminated()
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_leaves_the_programs_signals_alone() -> None:
    seen: list[Any] = []

    def look() -> None:
        with terminate_as_interrupt():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()

    assert seen == [signal.getsignal(signal.SIGTERM)]
