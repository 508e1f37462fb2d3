"""A task as the ledger tells it: a fold over the task's records, kept nowhere else.

`TaskView.take` adds one record. Phase, epoch, attempts, charges, debts and the
answers already given are all results of this fold, so they cannot disagree with
the ledger. Reading the records is `story.py`'s work.

Pure: a record in, a longer view out. Deciders read a view and never change it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sterling.packs.autopilot.process.machine import PHASES, Direction, Phase, place_of
from sterling.packs.autopilot.process.states import TaskState

__all__ = ["Accepted", "ArtifactView", "CheckView", "SessionView", "TaskView", "Told"]


@dataclass(frozen=True, slots=True)
class Told:
    """One record of a task's story. `name` is its contract without area and version."""

    name: str
    id: str
    document: Mapping[str, Any]
    entry: int
    at_us: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """A phase that was left through its gate, in the epoch that still counts."""

    phase: Phase
    record: str
    epoch: int


@dataclass(frozen=True, slots=True)
class ArtifactView:
    """The newest artifact of one kind."""

    kind: str
    record: str
    blob: str
    author: str
    session: str
    epoch: int
    attempt: int
    tree: str
    path: str
    view_sha256: str


@dataclass(frozen=True, slots=True)
class CheckView:
    """A command the authority ran."""

    name: str
    record: str
    state: str
    code: str
    epoch: int
    tree: str
    inputs_sha256: str
    because: str = ""


@dataclass(frozen=True, slots=True)
class SessionView:
    """One start of an agent process. `ended_us` is 0 while it has not reported its end."""

    id: str
    role: str
    phase: str
    started_us: int
    ended_us: int = 0


@dataclass(slots=True)
class TaskView:
    """Where a task stands. `newest` is the entry that an asker must have looked at."""

    task: str
    run: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    record: str = ""
    newest: int = -1
    state: TaskState = TaskState.OPEN
    reason: str = ""
    because: str = ""
    phase: Phase | None = None
    epoch: int = 0
    attempts: dict[Phase, int] = field(default_factory=dict)
    valid_from: dict[Phase, int] = field(default_factory=dict)
    accepted: dict[Phase, Accepted] = field(default_factory=dict)
    tree: str = ""
    patch: str = ""
    plan: str = ""
    rejected: set[str] = field(default_factory=set)
    owed: list[str] = field(default_factory=list)
    charged: dict[Phase, int] = field(default_factory=dict)
    artifacts: dict[str, ArtifactView] = field(default_factory=dict)
    checks: dict[str, CheckView] = field(default_factory=dict)
    sessions: dict[str, SessionView] = field(default_factory=dict)
    authors: dict[str, str] = field(default_factory=dict)
    answered: dict[str, str] = field(default_factory=dict)
    receipt: str = ""

    @property
    def title(self) -> str:
        """The first words of what was asked."""
        return str(self.facts.get("title", ""))

    @property
    def attempt(self) -> int:
        """How often the present phase was entered; 0 before the first phase."""
        return self.attempts.get(self.phase, 0) if self.phase else 0

    @property
    def implementers(self) -> frozenset[str]:
        """Sessions that wrote anything this task's patch rests on: they may not review it."""
        return frozenset(self.sessions) - frozenset(
            session.id for session in self.sessions.values() if session.role == "reviewer"
        )

    def least_epoch(self, phase: Phase) -> int:
        """Evidence of this phase counts from this epoch on."""
        return self.valid_from.get(phase, 0)

    def minutes_used(self) -> int:
        """Whole minutes that agent processes have run."""
        spent_us = sum(
            session.ended_us - session.started_us
            for session in self.sessions.values()
            if session.ended_us > session.started_us
        )
        return spent_us // 60_000_000

    def take(self, told: Told) -> None:
        """Add the next record of the story. Records of other kinds change nothing here."""
        request = told.document.get("request", "")
        if request:
            self.answered.setdefault(str(request), told.id)
        taker = _TAKERS.get(told.name)
        if taker is not None:
            taker(self, told)


def _take_task(view: TaskView, told: Told) -> None:
    view.facts, view.record = told.document, told.id
    view.run = str(told.document["run"])
    view.tree = str(told.document["base_tree"])


def _take_state(view: TaskView, told: Told) -> None:
    view.state = TaskState(told.document["to"])
    view.reason, view.because = str(told.document["code"]), str(told.document["because"])


def _take_artifact(view: TaskView, told: Told) -> None:
    document = told.document
    view.artifacts[str(document["kind"])] = ArtifactView(
        kind=str(document["kind"]),
        record=told.id,
        blob=str(document["blob"]),
        author=str(document["author"]),
        session=str(document["session"]),
        epoch=int(document["epoch"]),
        attempt=int(document["attempt"]),
        tree=str(document["tree"]),
        path=str(document["path"]),
        view_sha256=str(document["view_sha256"]),
    )


def _take_check(view: TaskView, told: Told) -> None:
    document = told.document
    view.checks[str(document["name"])] = CheckView(
        name=str(document["name"]),
        record=told.id,
        state=str(document["state"]),
        code=str(document["code"]),
        epoch=int(document["epoch"]),
        tree=str(document["tree"]),
        inputs_sha256=str(document["inputs_sha256"]),
        because=str(document["because"]),
    )


def _take_session(view: TaskView, told: Told) -> None:
    document = told.document
    session = str(document["session"])
    before = view.sessions.get(session)
    started_us = before.started_us if before else told.at_us
    ended_us = told.at_us if document["event"] == "ended" else 0
    view.sessions[session] = SessionView(
        session, str(document["role"]), str(document["phase"]), started_us, ended_us
    )


def _take_receipt(view: TaskView, told: Told) -> None:
    view.receipt = told.id


def _take_transition(view: TaskView, told: Told) -> None:
    document = told.document
    if document["decision"] != "allow":
        return
    direction = Direction(document["direction"])
    if direction is Direction.BACK:
        _go_back(view, told)
    elif direction in (Direction.START, Direction.FORWARD):
        _go_forward(view, told)
    elif direction is Direction.FINISH:
        view.accepted[Phase.MONITOR] = Accepted(Phase.MONITOR, told.id, view.epoch)


def _go_forward(view: TaskView, told: Told) -> None:
    document = told.document
    to = Phase(document["to"])
    if view.phase is not None:
        view.accepted[view.phase] = Accepted(view.phase, told.id, view.epoch)
    if view.phase is Phase.IMPLEMENT:
        view.patch = str(document["patch_sha256"])
    if view.phase is Phase.PLAN:
        view.plan, view.owed = str(document["plan_sha256"]), []
    _enter(view, to, str(document["tree"]))


def _go_back(view: TaskView, told: Told) -> None:
    document = told.document
    assert view.phase is not None, "nothing to go back from"
    before, to = view.phase, Phase(document["to"])
    if document["charged"]:
        view.charged[before] = view.charged.get(before, 0) + 1
        if place_of(before) >= place_of(Phase.IMPLEMENT):
            view.owed.append(told.id)
            if view.patch:
                view.rejected.add(view.patch)
    view.epoch += 1
    for phase in PHASES[place_of(to) :]:
        view.valid_from[phase] = view.epoch
        view.accepted.pop(phase, None)
    if place_of(to) <= place_of(Phase.IMPLEMENT):
        view.patch = ""
    _enter(view, to, str(document["tree"]))


def _enter(view: TaskView, to: Phase, tree: str) -> None:
    view.phase = to
    view.attempts[to] = view.attempts.get(to, 0) + 1
    if tree:
        view.tree = tree


_TAKERS = {
    "task": _take_task,
    "state": _take_state,
    "artifact": _take_artifact,
    "check": _take_check,
    "session": _take_session,
    "receipt": _take_receipt,
    "transition": _take_transition,
}
