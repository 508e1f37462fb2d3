"""The fold: what each record of a task's story changes, and that nothing else does."""

from __future__ import annotations

from typing import Any

from sterling.packs.autopilot.process.machine import Phase
from sterling.packs.autopilot.process.states import TaskState
from sterling.packs.autopilot.process.view import TaskView, Told


def moved(before: str, to: str, direction: str, **more: Any) -> Told:
    document = {
        "request": f"ask-{before}-{to}",
        "decision": "allow",
        "direction": direction,
        "from": before,
        "to": to,
        "tree": "",
        "patch_sha256": "",
        "plan_sha256": "",
        "charged": False,
    }
    return Told("transition", f"r-{before}-{to}", document | more, 1, 1)


def at_verify() -> TaskView:
    view = TaskView("task-1")
    view.take(moved("", "STRATEGIZE", "start"))
    for before, to in (("STRATEGIZE", "SPEC"), ("SPEC", "PLAN"), ("PLAN", "THINK"), ("THINK", "IMPLEMENT")):
        view.take(moved(before, to, "forward", plan_sha256="p" * 64))
    view.take(moved("IMPLEMENT", "VERIFY", "forward", patch_sha256="d" * 64, tree="1" * 40))
    return view


def test_a_back_move_raises_the_epoch_and_supersedes_what_comes_after() -> None:
    view = at_verify()

    view.take(moved("VERIFY", "PLAN", "back", charged=True))

    assert (view.phase, view.epoch) == (Phase.PLAN, 1)
    assert view.least_epoch(Phase.SPEC) == 0 and view.least_epoch(Phase.PLAN) == 1
    assert view.least_epoch(Phase.MONITOR) == 1
    assert set(view.accepted) == {Phase.STRATEGIZE, Phase.SPEC}


def test_a_charged_back_move_rejects_the_patch_and_is_owed_an_answer() -> None:
    view = at_verify()

    view.take(moved("VERIFY", "PLAN", "back", charged=True))

    assert view.rejected == {"d" * 64} and view.owed == ["r-VERIFY-PLAN"]
    assert view.charged == {Phase.VERIFY: 1} and view.patch == ""


def test_an_uncharged_back_move_rejects_nothing() -> None:
    view = at_verify()

    view.take(moved("VERIFY", "PLAN", "back"))

    assert view.rejected == set() and view.owed == [] and view.charged == {}


def test_the_next_accepted_plan_pays_what_is_owed() -> None:
    view = at_verify()
    view.take(moved("VERIFY", "PLAN", "back", charged=True))

    view.take(moved("PLAN", "THINK", "forward", plan_sha256="q" * 64))

    assert view.owed == [] and view.plan == "q" * 64


def test_attempts_count_entries_and_are_never_reset() -> None:
    view = at_verify()

    view.take(moved("VERIFY", "PLAN", "back"))
    view.take(moved("PLAN", "STRATEGIZE", "back"))

    assert view.attempts[Phase.PLAN] == 2 and view.attempts[Phase.STRATEGIZE] == 2
    assert view.epoch == 2


def test_a_refusal_changes_nothing_but_what_was_answered() -> None:
    view = at_verify()
    before = (view.phase, view.epoch, dict(view.attempts), dict(view.accepted))

    view.take(moved("VERIFY", "DONE", "skip", decision="refuse", request="ask-skip"))

    assert (view.phase, view.epoch, dict(view.attempts), dict(view.accepted)) == before
    assert view.answered["ask-skip"] == "r-VERIFY-DONE"


def test_the_first_answer_to_a_request_stays() -> None:
    view = TaskView("task-1")
    view.take(Told("artifact", "r-1", _artifact("strategy", "ask-1"), 1, 1))
    view.take(Told("artifact", "r-2", _artifact("strategy", "ask-1"), 2, 2))

    assert view.answered["ask-1"] == "r-1"


def test_minutes_count_only_sessions_that_ended() -> None:
    view = TaskView("task-1")
    for event, at_us in (("started", 0), ("ended", 180_000_000)):
        view.take(Told("session", f"r-{at_us}", _session("s1", event), 1, at_us))
    view.take(Told("session", "r-x", _session("s2", "started"), 2, 200_000_000))

    assert view.minutes_used() == 3


def test_a_reviewer_is_no_implementer() -> None:
    view = TaskView("task-1")
    view.take(Told("session", "r-1", _session("s1", "started"), 1, 1))
    view.take(Told("session", "r-2", _session("s2", "started", role="reviewer"), 2, 2))

    assert view.implementers == {"s1"}


def test_the_state_and_its_reason_come_from_the_newest_move() -> None:
    view = TaskView("task-1")
    view.take(Told("state", "r-1", {"to": "blocked", "code": "retry.exhausted", "because": "3"}, 1, 1))

    assert (view.state, view.reason, view.because) == (TaskState.BLOCKED, "retry.exhausted", "3")


def test_a_record_of_another_kind_changes_nothing() -> None:
    view = at_verify()
    phase = view.phase

    view.take(Told("unheard-of", "r-9", {"phase": "MONITOR"}, 9, 9))

    assert view.phase is phase


def _artifact(kind: str, request: str) -> dict[str, Any]:
    return {
        "kind": kind, "request": request, "blob": "b", "author": "agent", "session": "s", "epoch": 0,
        "attempt": 1, "tree": "", "path": "p", "view_sha256": "v",
    }  # fmt: skip


def _session(session: str, event: str, role: str = "implementer") -> dict[str, Any]:
    return {"session": session, "event": event, "role": role, "phase": "PLAN"}
