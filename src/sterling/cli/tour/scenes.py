"""The scenes of the demo, in order."""

from __future__ import annotations

from sterling.cli.tour import autopilot, ci, home, insight, recall, tamper
from sterling.cli.tour.stage import Scene

__all__ = ["SCENES"]

SCENES: tuple[Scene, ...] = (
    home.SCENE,
    recall.SCENE,
    insight.SCENE,
    ci.SCENE,
    autopilot.SCENE,
    tamper.SCENE,
)
