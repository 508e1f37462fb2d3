"""Scene `autopilot`: a coding agent that tries to cheat, and the honest way to a receipt."""

from __future__ import annotations

from sterling.cli.tour.stage import Scene, Stage

__all__ = ["SCENE"]


def play(stage: Stage) -> None:
    stage.demand(False, "not yet")


SCENE = Scene("autopilot", "Did the agent do the work, or does it only say so?", play)
