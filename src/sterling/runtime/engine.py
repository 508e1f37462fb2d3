"""The engine port: five verbs over tasks, whoever carries them out.

An engine starts a task in a worker process, tells how it goes, can be asked to
stop it and can kill it. It never runs a task in this process and never runs one
twice. What comes back is the end of the task and its result document; what the
result means is decided in `outcomes.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sterling.kernel.canonical import Json
from sterling.runtime.manifest import Manifest
from sterling.runtime.outcomes import StepEnd

__all__ = ["Engine", "Event", "HostRow", "Task", "TaskEnd"]


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work for one worker. `inputs` is JSON; large things are named by path or address.

    `provider` is a module of the pack with `provide(inputs, names) -> dict`;
    empty means that the inputs are the plugin's arguments as they are. `reads`
    are the files and folders that the inputs name: an untrusted plugin sees no other.
    """

    key: str
    plugin: Manifest
    provider: str
    inputs: Mapping[str, Json]
    settings: Mapping[str, Json] = field(default_factory=dict)
    seed: int = 0
    out_dir: Path = Path()
    reads: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How a task ended. `end` is a key of OUTCOME_RULES; `reason` says which limit or refusal it was."""

    key: str
    end: str
    result: Mapping[str, Json] | None = None
    message: str = ""
    signal: int = 0
    rss_max: int = 0
    wall_us: int = 0
    cpu_us: int = 0
    walls: tuple[str, ...] = ()
    reason: str = ""
    output_tail: str = ""

    def step_end(self) -> StepEnd:
        """The part that decides the outcome."""
        return StepEnd(self.end, self.reason, self.message, self.signal)


@dataclass(frozen=True, slots=True)
class Event:
    """`progress` with done and total, or `end` with the end."""

    kind: str
    key: str
    done: int = 0
    total: int = 0
    end: TaskEnd | None = None


@dataclass(frozen=True, slots=True)
class HostRow:
    """A family's parent process, named beyond doubt."""

    pid: int
    started_ticks: int
    family: str


class Engine(Protocol):
    """Carries out tasks, at most `slots()` more at a time."""

    def slots(self) -> int: ...

    def submit(self, task: Task) -> None: ...

    def poll(self, timeout_us: int) -> list[Event]: ...

    def ask_stop(self, key: str) -> None: ...

    def kill(self, key: str) -> None: ...

    def close(self) -> None: ...
