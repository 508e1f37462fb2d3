"""SIGKILL in the middle of a command, then the same command again.

Promises 1 and 5: no step stays open, nothing acknowledged is lost, no process
outlives its owner, and the second try completes.
"""

from __future__ import annotations

import signal
from random import Random
from typing import Any

import pytest

MOMENTS = [("ingest", 3), ("drain", 2), ("ci", 2), ("analyze", 2), ("task", 2)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "moment"), [(name, moment) for name, count in MOMENTS for moment in range(count)]
)
def test_a_killed_command_completes_the_next_time_and_nothing_is_lost(
    world: Any, name: str, moment: int
) -> None:
    gained = 1 if moment == 0 else Random(f"{name}/{moment}").randrange(2, world.case.entries)
    child = world.start_case()
    acknowledged = world.stop_after(child, gained, signal.SIGKILL)
    first = world.finish(child)
    assert first == -signal.SIGKILL or (moment > 0 and first == world.case.exit), world.said()
    world.assert_nobody_left()
    world.assert_whole(acknowledged)
    left_open = {run.id for run in world.runs() if run.state == "open"}

    again = world.finish(world.start_case())

    assert again == world.case.exit, world.said()
    world.assert_nobody_left()
    world.assert_whole(acknowledged)
    runs = world.runs()
    assert [run.id for run in runs if run.state == "open"] == []
    assert [run.id for run in runs if run.planned != run.settled] == []
    for run in runs:
        if run.id in left_open:
            assert run.state == "failed"
            assert "run.abandoned" in {row["reason"] for row in run.outcomes}, run
