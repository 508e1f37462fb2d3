"""The order of checks, and what no sequence of requests can reach."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sterling.kernel.batch import Fence
from sterling.packs.autopilot.process.backtrack import Cause, Cited
from sterling.packs.autopilot.process.commit import Grounds, transition
from sterling.packs.autopilot.process.machine import DONE, PHASES, Direction, Phase, Role, place_of
from sterling.packs.autopilot.process.order import (
    ORDER,
    Asker,
    Decision,
    Request,
    World,
    decide,
    decide_early,
)
from sterling.packs.autopilot.process.retries import RETRY_LIMITS
from sterling.packs.autopilot.process.states import TaskState
from sterling.packs.autopilot.process.view import TaskView, Told
from sterling.packs.autopilot.refusal import Refusal

LEDGER = "a" * 64
AGENT = Asker(Role.AGENT, "session-1")
FAILED = Cited("r-failed", "transition", Phase.VERIFY, True, "check.failed")
MISSING = Refusal("artifact.missing", "rule", "a record", "none", "submit it")


def view_at(phase: Phase | None, **more: Any) -> TaskView:
    return TaskView("task-1", phase=phase, newest=7, facts={"profile_sha256": "b" * 64}, **more)


def request_of(to: str, **more: Any) -> Request:
    given: dict[str, Any] = {
        "id": "ask-1",
        "task": "task-1",
        "to": to,
        "asker": AGENT,
        "seen": 7,
        "ledger": LEDGER,
    }
    return Request(**(given | more))


WORLD = World(LEDGER, Fence("task/w/task-1", 1))


def test_the_checks_stand_in_the_order_of_the_process() -> None:
    assert [name for name, _ in ORDER] == ["identity", "open", "pair", "seen", "lease", "cause", "retries"]


@pytest.mark.parametrize(
    ("spoilt", "code"),
    [
        (0, "identity.mismatch"),
        (1, "transition.task-closed"),
        (2, "transition.skip"),
        (3, "transition.stale-view"),
        (4, "lease.lost"),
    ],
)
def test_the_first_check_that_refuses_ends_them(spoilt: int, code: str) -> None:
    """Everything from `spoilt` on is wrong, yet only that one is told."""
    view, request, world = view_at(Phase.SPEC), request_of("PLAN"), WORLD
    if spoilt <= 4:
        world = replace(world, lease_refusal="lease.lost")
    if spoilt <= 3:
        request = replace(request, seen=6)
    if spoilt <= 2:
        request = replace(request, to="VERIFY")
    if spoilt <= 1:
        view.state = TaskState.BLOCKED
    if spoilt <= 0:
        request = replace(request, ledger="c" * 64)

    decision = decide_early(view, request, world)

    assert [refusal.code for refusal in decision.refusals] == [code]


def test_no_task_is_a_refusal_and_no_crash() -> None:
    decision = decide_early(None, request_of("PLAN"), WORLD)

    assert [refusal.code for refusal in decision.refusals] == ["transition.no-such-task"]


def test_an_agent_that_did_not_look_is_refused_and_a_person_is_not() -> None:
    agent = decide_early(view_at(Phase.SPEC), request_of("PLAN", seen=None), WORLD)
    person = decide_early(
        view_at(Phase.SPEC), request_of("PLAN", seen=None, asker=Asker(Role.PERSON, "p")), WORLD
    )

    assert agent.leading is not None and agent.leading.code == "transition.stale-view"
    assert person.allowed


def test_no_lease_is_a_refusal() -> None:
    decision = decide_early(view_at(Phase.SPEC), request_of("PLAN"), World(LEDGER))

    assert decision.leading is not None and decision.leading.code == "lease.unavailable"


def test_a_skip_is_a_skip_even_when_evidence_is_missing_too() -> None:
    early = decide_early(view_at(Phase.SPEC), request_of("IMPLEMENT"), WORLD)

    decision = decide(early, [MISSING])

    assert [refusal.code for refusal in decision.refusals] == ["transition.skip"]


def test_all_reasons_of_the_gates_are_told_at_once_and_the_worst_leads() -> None:
    early = decide_early(view_at(Phase.SPEC), request_of("PLAN"), WORLD)
    changed = replace(MISSING, code="artifact.changed")

    decision = decide(early, [MISSING, changed])

    assert not decision.allowed and len(decision.refusals) == 2
    assert decision.leading == changed and changed.severity == "critical"


def test_a_back_move_passes_no_gate() -> None:
    request = request_of("PLAN", cause=Cause("check.failed", ("r-failed",)))
    early = decide_early(view_at(Phase.VERIFY), request, replace(WORLD, cited=(FAILED,)))

    assert decide(early, [MISSING]).allowed


@pytest.mark.parametrize("before", [Phase.VERIFY, Phase.REVIEW, Phase.PR, Phase.MONITOR])
def test_one_retry_over_the_limit_blocks_the_task(before: Phase) -> None:
    world = replace(WORLD, cited=(FAILED,))
    request = request_of("PLAN", cause=Cause("check.failed", ("r-failed",)))
    limit = RETRY_LIMITS[before]

    last = decide_early(view_at(before, charged={before: limit - 1}), request, world)
    over = decide_early(view_at(before, charged={before: limit}), request, world)

    assert last.allowed and last.charged
    assert over.leading is not None and over.leading.code == "retry.exhausted" and over.blocks_task


def told(view: TaskView, decision: Decision, number: int, tree: str) -> Told:
    document = transition(view, decision, Grounds(LEDGER, tree=tree), WORLD.fence)
    return Told("transition", f"r-{number}", document, number, number)


MOVES = st.tuples(
    st.sampled_from([*Phase.__members__, DONE, "NOWHERE"]),
    st.sampled_from(list(Role)),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(MOVES, max_size=60))
def test_no_sequence_reaches_implement_without_four_accepted_predecessors(
    moves: list[tuple[str, Role, bool, bool]],
) -> None:
    view = TaskView("task-1", newest=7, facts={"profile_sha256": "b" * 64})
    standing: list[str] = []  # Phases left through their gates, kept by hand: a back move cuts the list.
    for number, (to, role, gate_open, failed) in enumerate(moves):
        asker = Asker(role, "x")
        request = request_of(to, asker=asker, id=f"ask-{number}", cause=Cause(words="because"))
        world = replace(WORLD, cited=(FAILED,) if failed else ())
        before, epoch = view.phase, view.epoch
        decision = decide(decide_early(view, request, world), [] if gate_open else [MISSING])
        view.take(told(view, decision, number, f"{number:040x}"))
        if not decision.allowed:
            assert (view.phase, view.epoch) == (before, epoch)
            continue
        if decision.direction is Direction.FORWARD:
            standing.append(str(before))
        elif decision.direction is Direction.BACK:
            standing = standing[: place_of(Phase(to))]
            assert view.epoch == epoch + 1
        if decision.direction is Direction.FINISH:
            break
        assert standing == [str(phase) for phase in PHASES[: place_of(view.phase)]]  # type: ignore[arg-type]
        assert set(view.accepted) == set(PHASES[: place_of(view.phase)])  # type: ignore[arg-type]
        for phase, accepted in view.accepted.items():
            assert accepted.epoch >= view.least_epoch(phase)
