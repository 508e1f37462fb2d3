"""The states of a task: a random walk against a reference written out by hand."""

from __future__ import annotations

import random

import pytest

from sterling.packs.autopilot.process.machine import Role
from sterling.packs.autopilot.process.states import TaskState, task_move_allowed

# Written from the process's words: who may bring a task from where to where.
REFERENCE = {
    ("open", "waiting-human"): {"authority", "person"},
    ("waiting-human", "open"): {"person"},
    ("open", "blocked"): {"authority", "person"},
    ("blocked", "open"): {"person"},
    ("open", "done"): {"authority"},
    ("open", "abandoned"): {"authority", "person"},
}


@pytest.mark.parametrize("seed", range(5))
def test_a_random_walk_agrees_with_the_reference(seed: int) -> None:
    chance = random.Random(seed)
    state = TaskState.OPEN
    for _ in range(2000):
        wanted, role = chance.choice(list(TaskState)), chance.choice(list(Role))
        allowed = str(role) in REFERENCE.get((str(state), str(wanted)), set())
        assert task_move_allowed(state, wanted, role) == allowed
        if allowed:
            state = wanted
        if state in (TaskState.DONE, TaskState.ABANDONED):
            state = TaskState.OPEN


@pytest.mark.parametrize("final", [TaskState.DONE, TaskState.ABANDONED])
@pytest.mark.parametrize("to", list(TaskState))
@pytest.mark.parametrize("role", list(Role))
def test_what_is_done_or_abandoned_stays_so(final: TaskState, to: TaskState, role: Role) -> None:
    assert not task_move_allowed(final, to, role)


@pytest.mark.parametrize("before", list(TaskState))
@pytest.mark.parametrize("to", list(TaskState))
def test_an_agent_moves_no_state(before: TaskState, to: TaskState) -> None:
    assert not task_move_allowed(before, to, Role.AGENT)
