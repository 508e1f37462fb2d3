"""Writing a task's story: who decided on an older line writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sterling.kernel.append import PreconditionFailed
from sterling.kernel.batch import Batch
from sterling.kernel.lease_table import LeaseLost
from sterling.packs.autopilot.process.commit import put_state
from sterling.packs.autopilot.process.machine import Role
from sterling.packs.autopilot.process.states import TaskState
from sterling.packs.autopilot.process.story import read_story, read_view, write

Walking = Callable[..., Any]


def block(walk: Any, view: Any, fence: Any) -> None:
    batch = Batch()
    ref = put_state(walk.home, batch, view, TaskState.BLOCKED, Role.AUTHORITY, "x.y", "because")
    write(walk.home, batch, view, [ref], "state", fence=fence)


def test_a_decision_on_an_older_line_is_refused_by_the_ledger(walking: Walking) -> None:
    walk = walking()
    stale = read_view(walk.home, walk.view.task)
    walk.to("STRATEGIZE")
    size = len(list(read_story(walk.home, walk.view.task)))

    with pytest.raises(PreconditionFailed):
        block(walk, stale, walk.authority.site.fence)

    assert len(list(read_story(walk.home, walk.view.task))) == size


def test_a_write_under_another_token_is_refused_by_the_ledger(walking: Walking) -> None:
    walk = walking()
    fence = walk.authority.site.fence

    with pytest.raises(LeaseLost):
        block(walk, walk.view, replace(fence, token=fence.token + 1))

    assert walk.view.state is TaskState.OPEN


def test_a_write_brings_the_view_up_to_date(walking: Walking) -> None:
    walk = walking()

    block(walk, walk.view, walk.authority.site.fence)

    assert walk.view.state is TaskState.BLOCKED and walk.view == read_view(walk.home, walk.view.task)


def test_no_task_has_no_view(walking: Walking) -> None:
    assert read_view(walking().home, "task-nobody") is None
