"""Dispatches: one try to run one job in one pass, how each ended, and what history forbids.

Every job that a pass finds gets exactly one dispatch with an end and a reason.
What earlier dispatches say decides whether a job waits: after an error it waits
one, two and four windows, after the third it is given up until a person asks
again; after eight stops without an end it has failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from sterling.kernel.canonical import Json
from sterling.kernel.home import Home
from sterling.runtime.engine import Task, TaskEnd

__all__ = [
    "BACKOFF_WINDOWS",
    "DISPATCH_ENDS",
    "Dispatch",
    "History",
    "Job",
    "JobEnd",
    "JobSource",
    "after_stop",
    "fold_history",
    "held_back",
]

DISPATCH_ENDS: Mapping[str, str] = {
    "not_admitted": "It got no lease.",
    "preempted_before_start": "It got a lease, but a cause to stop came before it began.",
    "yielded": "It was stopped and is queued again.",
    "failed": "It ended with an error.",
    "completed": "It settled.",
}
BACKOFF_WINDOWS = (1, 2, 4)
STOPS_MAX = 8


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of work that waits. `key` names it for good: the same work has the same key."""

    key: str
    kind: str
    pack: str
    title: str = ""
    weight: str = "heavy"
    estimate_ms: int = 0
    least_slice_ms: int = 0
    memory_bytes: int = 0
    gpu: bool = False


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended: completed or failed, with a reason and a sentence."""

    end: str
    reason: str
    because: str


class JobSource(Protocol):
    """Where work comes from. A source finds it by an index, never by looking at everything."""

    @property
    def kind(self) -> str: ...

    def due(self, home: Home, limit: int) -> list[Job]: ...

    def start(self, job: Job) -> Task: ...

    def accept(self, home: Home, job: Job, end: TaskEnd) -> JobEnd: ...


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One try, as the ledger keeps it. `window` is the index of the budget window it ended in."""

    run_pass: str
    job: str
    kind: str
    flow: str
    origin: str
    weight: str
    end: str
    reason: str
    because: str
    mode: str
    window: int
    granted_ms: int = 0
    charged_ms: int = 0
    forced: bool = False
    walls: tuple[str, ...] = ()
    rss_max: int = 0

    def as_json(self) -> dict[str, Json]:
        """The `runtime.dispatch` document."""
        document = asdict(self)
        document["pass"] = document.pop("run_pass")
        document["walls"] = list(self.walls)
        return document


@dataclass(frozen=True, slots=True)
class History:
    """What earlier dispatches of a job add up to, since it last completed."""

    errors: int = 0
    stops: int = 0
    error_window: int = 0
    error_reason: str = ""
    has_yielded: bool = False


def fold_history(dispatches: Iterable[Mapping[str, Any]]) -> History:
    """The history of one job, from its dispatch documents in order."""
    errors = stops = error_window = 0
    reason, yielded = "", False
    for document in dispatches:
        end = document["end"]
        if end == "completed":
            errors = stops = 0
        elif end == "failed":
            final = document["reason"] == "job.no-progress"
            errors = len(BACKOFF_WINDOWS) if final else errors + 1
            error_window, reason = document["window"], document["reason"]
        elif end == "yielded":
            stops += 1
        if end in ("completed", "failed", "yielded"):
            yielded = end == "yielded"
    return History(errors, stops, error_window, reason, yielded)


def held_back(history: History, window: int, *, asked: bool) -> JobEnd | None:
    """Why history keeps a job from running in this window, or None.

    The end is `not_admitted` for a job that waits, and `given_up` for one that
    failed for good and is queued no more. `asked`: a person forces the pass; then
    an error holds no job back, because the person may have mended its cause.
    """
    if not history.errors or asked:
        return None
    if history.errors >= len(BACKOFF_WINDOWS):
        because = f"It failed for good with {history.error_reason}; a forced pass tries it again."
        return JobEnd("given_up", history.error_reason, because)
    until = history.error_window + BACKOFF_WINDOWS[history.errors - 1]
    if window <= until:
        because = f"It failed with {history.error_reason} and waits until budget window {until + 1}."
        return JobEnd("not_admitted", "job.backoff", because)
    return None


def after_stop(history: History, reason: str) -> JobEnd:
    """What a stop makes of a job: it yields and is queued again, and after the eighth it has failed."""
    if history.stops + 1 >= STOPS_MAX:
        because = f"It was stopped {history.stops + 1} times without coming to an end."
        return JobEnd("failed", "job.no-progress", because)
    return JobEnd("yielded", reason, "It was stopped and is queued again.")
