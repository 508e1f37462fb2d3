"""The order of checks: what a request must pass before anything is written.

`decide_early` goes through identity, open task, pair, newest view and lease, and
stops at the first that refuses. Only then does the authority spend time on
evidence. `decide` collects every reason from artifacts on, so that one answer
names all there is to mend.

Pure: a view, a request and what the world looked like in, a decision out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from sterling.kernel.batch import Fence
from sterling.packs.autopilot.process.backtrack import Cause, Cited, check_cause, is_charged
from sterling.packs.autopilot.process.machine import Direction, Phase, Role, decide_pair
from sterling.packs.autopilot.process.retries import RETRY_LIMITS, is_exhausted
from sterling.packs.autopilot.process.states import TaskState
from sterling.packs.autopilot.process.view import TaskView
from sterling.packs.autopilot.refusal import Refusal, worst

__all__ = ["ORDER", "Asker", "Decision", "Request", "World", "decide", "decide_early"]


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks. `id` is a session of an agent, or a person's name."""

    role: Role
    id: str


@dataclass(frozen=True, slots=True)
class Request:
    """A wish to move a task. `seen` is the newest entry of the task that the asker knows."""

    id: str
    task: str
    to: str
    asker: Asker
    seen: int | None = None
    ledger: str = ""
    cause: Cause | None = None
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class World:
    """What the authority saw before it asked the decider."""

    ledger: str
    fence: Fence | None = None
    lease_refusal: str = ""
    cited: tuple[Cited, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer. `allowed` exactly when there is no refusal."""

    request: Request
    direction: Direction
    before: Phase | None
    refusals: tuple[Refusal, ...] = ()
    charged: bool = False
    cited: tuple[Cited, ...] = field(default=())

    @property
    def allowed(self) -> bool:
        return not self.refusals

    @property
    def leading(self) -> Refusal | None:
        """The most severe reason, which names the decision."""
        return worst(self.refusals)

    @property
    def blocks_task(self) -> bool:
        """Whether the refusal also blocks the task until a person opens it again."""
        return any(refusal.code == "retry.exhausted" for refusal in self.refusals)


_Stage = Callable[[TaskView | None, Request, World], Refusal | None]


def decide_early(view: TaskView | None, request: Request, world: World) -> Decision:
    """The checks that need no evidence, in order; the first that refuses ends them."""
    before = view.phase if view is not None else None
    direction = decide_pair(before, request.to, request.asker.role).direction
    for _, stage in ORDER:
        refusal = stage(view, request, world)
        if refusal is not None:
            return Decision(request, direction, before, (refusal,), cited=world.cited)
    charged = direction is Direction.BACK and is_charged(request.asker.role, world.cited)
    return Decision(request, direction, before, charged=charged, cited=world.cited)


def decide(early: Decision, found: Sequence[Refusal]) -> Decision:
    """The whole decision: what the early checks said, and then everything that the gates found."""
    if not early.allowed or early.direction not in (Direction.FORWARD, Direction.FINISH):
        return early
    return replace(early, refusals=tuple(found))


def _identity(view: TaskView | None, request: Request, world: World) -> Refusal | None:
    if request.ledger in ("", world.ledger):
        return None
    return Refusal(
        "identity.mismatch",
        "A-53 ledger identity",
        f"ledger {world.ledger}",
        f"ledger {request.ledger}",
        "ask the authority whose ledger you were told",
    )


def _open(view: TaskView | None, request: Request, world: World) -> Refusal | None:
    if view is None:
        return Refusal(
            "transition.no-such-task",
            "A-3 task exists",
            "a task of this home",
            request.task,
            "sterling task new",
        )
    if view.state is TaskState.OPEN:
        return None
    return Refusal(
        "transition.task-closed",
        "A-1 task is open",
        "an open task",
        f"{view.state}: {view.reason or 'no reason'}",
        "a person reopens it where that is allowed"
        if view.state is not TaskState.DONE
        else "nothing; it is done",
    )


def _pair(view: TaskView | None, request: Request, world: World) -> Refusal | None:
    assert view is not None
    verdict = decide_pair(view.phase, request.to, request.asker.role)
    if verdict.is_open:
        return None
    here = str(view.phase or "before STRATEGIZE")
    return Refusal(
        verdict.code,
        "A-2 pairs",
        _legal(view.phase, request.asker.role),
        f"{here} to {request.to[:80]} asked by {request.asker.role}",
        "ask for a move that the table of pairs allows",
    )


def _seen(view: TaskView | None, request: Request, world: World) -> Refusal | None:
    assert view is not None
    if request.seen is None and request.asker.role is not Role.AGENT:
        return None
    if request.seen == view.newest:
        return None
    return Refusal(
        "transition.stale-view",
        "A-3 the newest entry was seen",
        f"seen {view.newest}",
        f"seen {request.seen}",
        "ask for the status, then decide again",
    )


def _lease(view: TaskView | None, request: Request, world: World) -> Refusal | None:
    if world.fence is not None and not world.lease_refusal:
        return None
    return Refusal(
        world.lease_refusal or "lease.unavailable",
        "A-16 lease of the task",
        "the lease of this task to be held",
        world.lease_refusal or "no lease",
        "wait for the holder to end, then ask again",
    )


def _cause(view: TaskView | None, request: Request, world: World) -> Refusal | None:
    assert view is not None
    if decide_pair(view.phase, request.to, request.asker.role).direction is not Direction.BACK:
        return None
    assert view.phase is not None
    return check_cause(view.phase, Phase(request.to), request.asker.role, request.cause, world.cited)


def _retries(view: TaskView | None, request: Request, world: World) -> Refusal | None:
    assert view is not None
    if decide_pair(view.phase, request.to, request.asker.role).direction is not Direction.BACK:
        return None
    assert view.phase is not None
    if not is_charged(request.asker.role, world.cited) or not is_exhausted(view.charged, view.phase):
        return None
    limit = RETRY_LIMITS[view.phase]
    return Refusal(
        "retry.exhausted",
        "A-6 retry limits",
        f"at most {limit} retries charged to {view.phase}",
        f"{limit + 1}",
        "a person looks at the task",
    )


def _legal(before: Phase | None, role: Role) -> str:
    targets = [to for to in (*Phase.__members__, "DONE") if decide_pair(before, to, role).is_open]
    return f"one of {', '.join(targets)}"


ORDER: tuple[tuple[str, _Stage], ...] = (
    ("identity", _identity),
    ("open", _open),
    ("pair", _pair),
    ("seen", _seen),
    ("lease", _lease),
    ("cause", _cause),
    ("retries", _retries),
)
