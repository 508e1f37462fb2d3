"""Safe mode: after three crashes of the conductor nothing heavy runs until a person allows it.

A crash is a `process.started` of the conductor without its `process.ended`. Only
starts since safe mode was last left count, so leaving it is a new beginning. The
state is the newest `conductor.safe-mode` entry, so every process reads the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from sterling.kernel.batch import Actor, Batch
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home
from sterling.kernel.ledger import StoredEntry
from sterling.runtime.dispatches import Job, JobEnd, JobSource
from sterling.runtime.engine import Task, TaskEnd
from sterling.runtime.watchdog import CRASHES_MAX, Started, crashes_of_late

__all__ = [
    "PROCESS_SUBJECT",
    "LightOnly",
    "SafeMode",
    "enter_after_crashes",
    "is_safe_mode",
    "leave_safe_mode",
]

PROCESS_SUBJECT = "process/conductor"
_SUBJECT = "conductor.safe-mode"


class SafeMode(SterlingError):
    """Heavy work was asked for while the conductor is in safe mode."""

    code = "conductor.safe-mode"
    hint = "Find the cause, then allow it again: `sterling up --leave-safe-mode --reason TEXT`."


class LightOnly:
    """A source of jobs without its heavy ones."""

    def __init__(self, source: JobSource) -> None:
        self._source = source

    @property
    def kind(self) -> str:
        return self._source.kind

    def due(self, home: Home, limit: int) -> list[Job]:
        """The light jobs among those that are due."""
        return [job for job in self._source.due(home, limit) if job.weight == "light"]

    def start(self, job: Job) -> Task:
        return self._source.start(job)

    def accept(self, home: Home, job: Job, end: TaskEnd) -> JobEnd:
        return self._source.accept(home, job, end)


def is_safe_mode(home: Home) -> bool:
    """Whether heavy work is off."""
    newest = home.ledger.newest(_SUBJECT)
    return newest is not None and newest.payload["state"] == "entered"


def enter_after_crashes(home: Home) -> bool:
    """Enter safe mode when the conductor crashed too often of late; whether it is on now."""
    newest = home.ledger.newest(_SUBJECT)
    if newest is not None and newest.payload["state"] == "entered":
        return True
    crashes = crashes_of_late(_starts(home, -1 if newest is None else newest.index), home.clock.wall_us())
    if crashes < CRASHES_MAX:
        return False
    _write(home, "entered", crashes, f"{crashes} starts of the conductor in ten minutes came to no end")
    return True


def leave_safe_mode(home: Home, reason: str, actor: Actor) -> bool:
    """Allow heavy work again; False when it was allowed already, and nothing is written."""
    if not is_safe_mode(home):
        return False
    _write(home, "left", 0, reason, actor)
    return True


def _starts(home: Home, after: int) -> Sequence[Started]:
    starts: list[StoredEntry] = []
    ended: set[int] = set()
    for entry in home.ledger.read(subject=PROCESS_SUBJECT, after=after):
        if entry.kind == "process.started":
            starts.append(entry)
        elif starts:
            ended.add(starts[-1].index)
    return [Started(entry.at_us, entry.index in ended) for entry in starts]


def _write(home: Home, state: str, crashes: int, reason: str, actor: Actor | None = None) -> None:
    batch = Batch()
    payload = {"state": state, "crashes": crashes, "reason": reason}
    batch.append("conductor.safe-mode", payload, subject=_SUBJECT, actor=actor)
    home.ledger.commit(batch)
