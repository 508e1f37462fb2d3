"""Ctrl-C and SIGTERM in the middle of a command: steps close, the process ends by the signal itself."""

from __future__ import annotations

import signal
from random import Random
from typing import Any

import pytest

NAMES = ("ingest", "drain", "ci", "analyze", "task")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
@pytest.mark.parametrize("name", NAMES)
def test_a_stopped_command_closes_its_steps_and_ends_by_the_signal(
    world: Any, name: str, number: signal.Signals
) -> None:
    gained = Random(f"{name}/{number}").randrange(2, world.case.entries // 2)
    child = world.start_case()
    acknowledged = world.stop_after(child, gained, number)

    ended = world.finish(child)

    assert ended == -number, (gained, ended, world.said())
    world.assert_nobody_left()
    world.assert_whole(acknowledged)
    runs = world.runs()
    assert [run.id for run in runs if run.state == "open" or run.planned != run.settled] == []
    assert "Traceback" not in world.said()
    if name != "drain":
        last = runs[-1]
        assert last.state == "failed", last
        assert "run.interrupted" in {row["reason"] for row in last.outcomes}, last.outcomes
