"""The status view: what is running, what waits and why, and the one command that helps most.

Pure: facts in, view out. A number shown anywhere for status comes from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sterling.kernel.canonical import Json

__all__ = ["LeaseFact", "RunFact", "StatusFacts", "WaitingFact", "status"]


@dataclass(frozen=True, slots=True)
class RunFact:
    """A run as the ledger knows it. `alive` is whether its process still runs."""

    id: str
    pack: str
    title: str
    state: str
    code: str
    started_us: int
    planned: int
    settled: int
    alive: bool


@dataclass(frozen=True, slots=True)
class WaitingFact:
    """Jobs that wait for one reason, and what would let them run."""

    kind: str
    count: int
    reason: str
    because: str
    cure: str


@dataclass(frozen=True, slots=True)
class LeaseFact:
    """A lease that is held now."""

    name: str
    holder: str
    age_us: int


@dataclass(frozen=True, slots=True)
class StatusFacts:
    """Everything the view is made of. Times are microseconds, UTC."""

    home: str
    home_id: str
    size: int
    head: str
    anchored_to: int | None
    mode: str
    mode_reason: str
    mode_sentence: str
    runs: Sequence[RunFact]
    waiting: Sequence[WaitingFact]
    leases: Sequence[LeaseFact]
    open_tasks: Sequence[str]
    refusals: int
    dead_effects: Sequence[str] = ()
    room: str = "ok"
    spooled: int = 0
    conductor_trouble: Sequence[str] = ()


def status(facts: StatusFacts) -> dict[str, Json]:
    """The `view.status` object."""
    running = [run for run in facts.runs if run.state == "open" and run.alive]
    stale = [run for run in facts.runs if run.state == "open" and not run.alive]
    failed = [run for run in facts.runs if run.state == "failed"]
    anchored = 0 if facts.anchored_to is None else facts.anchored_to
    return {
        "home": {"path": facts.home, "id": facts.home_id},
        "ledger": {
            "size": facts.size,
            "head": facts.head,
            "anchored_to": facts.anchored_to,
            "unanchored": max(0, facts.size - anchored),
        },
        "running": [_run(run) for run in running],
        "waiting": [
            {"kind": w.kind, "count": w.count, "reason": w.reason, "because": w.because, "cure": w.cure}
            for w in facts.waiting
        ],
        "leases": [{"name": row.name, "holder": row.holder, "age_us": row.age_us} for row in facts.leases],
        "needs_you": [
            *({"what": "conductor", "id": state, "pack": "runtime"} for state in facts.conductor_trouble),
            *({"what": "abandoned run", "id": run.id, "pack": run.pack} for run in stale),
            *({"what": "dead effect", "id": effect, "pack": "kernel"} for effect in facts.dead_effects),
            *_short_of_room(facts),
            *({"what": "open task", "id": task, "pack": "autopilot"} for task in facts.open_tasks),
        ],
        "failed_runs": [_run(run) for run in failed[-5:]],
        "health": {
            "mode": facts.mode,
            "reason": facts.mode_reason,
            "because": facts.mode_sentence,
            "writes_refused": facts.refusals,
        },
        "runs": len(facts.runs),
        "next": _next(facts, stale),
    }


def _short_of_room(facts: StatusFacts) -> list[dict[str, Json]]:
    """What a disk that is nearly full asks of a person."""
    rows: list[dict[str, Json]] = []
    if facts.room in ("spooling", "full"):
        rows.append({"what": "home's disk is short of room:", "id": facts.room, "pack": "kernel"})
    if facts.spooled:
        rows.append({"what": "batches wait in the spool:", "id": str(facts.spooled), "pack": "kernel"})
    return rows


def _run(run: RunFact) -> dict[str, Json]:
    return {
        "run": run.id,
        "pack": run.pack,
        "title": run.title,
        "state": run.state,
        "code": run.code,
        "started_us": run.started_us,
        "planned": run.planned,
        "settled": run.settled,
    }


def _next(facts: StatusFacts, stale: Sequence[RunFact]) -> str:
    """The published order: an unanchored log, abandoned runs, the conductor, effects, waiting work, tasks."""
    if facts.anchored_to is None:
        return "sterling ledger checkpoint"
    if stale:
        return "sterling drain"
    if "safe-mode" in facts.conductor_trouble:
        return "sterling up --leave-safe-mode --reason TEXT"
    if facts.conductor_trouble:
        return "sterling down"
    if facts.dead_effects:
        return f"sterling outbox show {facts.dead_effects[0]}"
    if facts.waiting:
        return facts.waiting[0].cure
    if facts.open_tasks:
        return f"sterling task status {facts.open_tasks[0]}"
    if not facts.runs:
        return "sterling analyze DATA"
    return "sterling verify"
