"""The states of a task: one table of moves, everything else is refused.

The state says where a task is, the outcome says why; they are separate fields.
`done` and `abandoned` are final. Nothing here leads from a crash or an exhausted
retry to `done`: only the finish of MONITOR does.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from sterling.packs.autopilot.process.machine import Role

__all__ = ["TASK_MOVES", "TaskState", "task_move_allowed"]


class TaskState(StrEnum):
    OPEN = "open"
    WAITING = "waiting-human"
    BLOCKED = "blocked"
    DONE = "done"
    ABANDONED = "abandoned"


_EITHER = frozenset({Role.AUTHORITY, Role.PERSON})
_PERSON = frozenset({Role.PERSON})
_AUTHORITY = frozenset({Role.AUTHORITY})

TASK_MOVES: Mapping[tuple[TaskState, TaskState], frozenset[Role]] = MappingProxyType(
    {
        (TaskState.OPEN, TaskState.WAITING): _EITHER,
        (TaskState.WAITING, TaskState.OPEN): _PERSON,
        (TaskState.OPEN, TaskState.BLOCKED): _EITHER,
        (TaskState.BLOCKED, TaskState.OPEN): _PERSON,
        (TaskState.OPEN, TaskState.DONE): _AUTHORITY,
        (TaskState.OPEN, TaskState.ABANDONED): _EITHER,
    }
)


def task_move_allowed(before: TaskState, after: TaskState, role: Role) -> bool:
    """Whether this role may bring a task from one state to the other. Agents may bring none."""
    return role in TASK_MOVES.get((before, after), frozenset())
