"""Writing a decision down: one batch holds the transition, what it links and what it changes.

A refusal is a transition too, with its code and every reason, so nothing that
was asked is lost. The task's state moves in the same batch when the decision
blocks, finishes or abandons it. If the ledger refuses the batch, nothing
happened and the phase is what it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sterling.kernel.batch import Actor, Batch, Fence
from sterling.kernel.canonical import Json
from sterling.kernel.home import Home
from sterling.kernel.records import RecordRef, Source
from sterling.packs.autopilot.process.machine import Role
from sterling.packs.autopilot.process.order import Decision
from sterling.packs.autopilot.process.states import TaskState, task_move_allowed
from sterling.packs.autopilot.process.story import write
from sterling.packs.autopilot.process.view import TaskView

__all__ = ["Grounds", "commit", "ledger_identity", "put_state"]


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a decision rests on besides the request: hashes, artifacts and what nobody asked for yet."""

    ledger: str
    tree: str = ""
    patch_sha256: str = ""
    plan_sha256: str = ""
    level: int = 0
    ring: str = "uncontained"
    artifacts: tuple[Mapping[str, Json], ...] = ()
    not_demanded: tuple[str, ...] = ()
    state: TaskState | None = None
    state_code: str = ""
    state_because: str = ""
    extra: tuple[tuple[str, Json, tuple[Source, ...]], ...] = field(default=())


def ledger_identity(home: Home) -> str:
    """The hash of the first entry: it names this ledger and no other."""
    first = home.ledger.entry(0)
    assert first is not None, "a home has its first entry"
    return first.hash.hex()


def commit(
    home: Home,
    view: TaskView,
    decision: Decision,
    grounds: Grounds,
    *,
    fence: Fence | None,
    run: str = "",
    claim: str = "",
) -> RecordRef:
    """Write a decision durably and bring the view up to date. Returns the transition's record.

    `claim` is what the asker says about its own work: kept as commentary, never used.

    Errors: as `story.write`.
    """
    asker = decision.request.asker
    batch = Batch(actor=_actor(asker.role, asker.id), run=run, step=str(decision.before or ""))
    document = transition(view, decision, grounds, fence) | {"claim": claim}
    ref = home.records.put(batch, "autopilot.transition", document, _sources(decision, grounds))
    records = [ref]
    for contract, each, sources in grounds.extra:
        records.append(home.records.put(batch, contract, each, sources))
    state = TaskState.BLOCKED if decision.blocks_task else grounds.state
    if state is not None and view.state is not state:
        leading = decision.leading
        code = leading.code if decision.blocks_task and leading else grounds.state_code
        because = leading.found if decision.blocks_task and leading else grounds.state_because
        records.append(put_state(home, batch, view, state, Role.AUTHORITY, code, because))
    write(home, batch, view, records, "transition", fence=fence)
    return ref


def put_state(
    home: Home, batch: Batch, view: TaskView, state: TaskState, role: Role, code: str, because: str
) -> RecordRef:
    """Add a move of the task's state to a batch. Only moves of the table can be added."""
    assert task_move_allowed(view.state, state, role), f"{view.state} to {state} by {role}"
    document: Json = {
        "task": view.task,
        "seen": view.newest,
        "from": str(view.state),
        "to": str(state),
        "by": str(role),
        "code": code,
        "because": because,
    }
    return home.records.put(batch, "autopilot.state", document)


def transition(view: TaskView, decision: Decision, grounds: Grounds, fence: Fence | None) -> dict[str, Json]:
    """The document of a transition, accepted or refused."""
    request, leading = decision.request, decision.leading
    cause = request.cause
    document: dict[str, Json] = {
        "request": request.id,
        "task": view.task,
        "run": view.run,
        "epoch": view.epoch,
        "attempt": view.attempt,
        "from": str(decision.before or ""),
        "to": request.to,
        "actor": {"role": str(request.asker.role), "id": request.asker.id},
        "direction": str(decision.direction),
        "decision": "allow" if decision.allowed else "refuse",
        "code": leading.code if leading else "ok",
        "severity": leading.severity if leading else "",
        "refusals": [refusal.as_json() for refusal in decision.refusals],
        "seen": -1 if request.seen is None else request.seen,
        "newest": view.newest,
        "ledger": grounds.ledger,
        "artifacts": [dict(artifact) for artifact in grounds.artifacts],
        "tree": grounds.tree,
        "patch_sha256": grounds.patch_sha256,
        "plan_sha256": grounds.plan_sha256,
        "level": grounds.level,
        "ring": grounds.ring,
        "not_demanded": list(grounds.not_demanded),
        "charged": decision.charged and decision.allowed,
        "cause": {"code": cause.code, "words": cause.words} if cause else {"code": "", "words": ""},
        "cites": [cited.record for cited in decision.cited],
        "profile_sha256": str(view.facts.get("profile_sha256", "")),
    }
    if fence is not None:
        document["fence"] = {"lease": fence.lease, "token": fence.token}
    return document


def _sources(decision: Decision, grounds: Grounds) -> Sequence[Source]:
    cited = [Source("cause", record=each.record) for each in decision.cited]
    return [*cited, *(Source("artifact", record=str(each["record"])) for each in grounds.artifacts)]


def _actor(role: Role, name: str) -> Actor:
    types = {Role.AGENT: "agent", Role.PERSON: "person", Role.AUTHORITY: "program"}
    return Actor(types[role], name or "sterling")
