"""Verification levels, derived from what the authority ran and from nothing else.

1: it builds. 2: its tests ran and ci's verdict on them is ok. 3: it was exercised
against what it really depends on, or a reviewer accepted a deferral. 4: it was
observed after delivery, which this build cannot do. Prose that claims a level
changes nothing.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sterling.packs.autopilot.process.machine import Phase
from sterling.packs.autopilot.process.view import TaskView

__all__ = ["LEVEL_NEEDED", "is_weak_deferral", "level_needed", "level_of"]

LEVEL_NEEDED: Mapping[Phase, int] = MappingProxyType(
    {Phase.IMPLEMENT: 1, Phase.VERIFY: 2, Phase.REVIEW: 3, Phase.PR: 3}
)
_WEAK = re.compile(
    r"^\W*(no time|lack of time|later|not now|no|none|n/?a|tbd|todo|unknown)\W*$", re.IGNORECASE
)
_DEFERRAL_FIELDS = ("reason", "plan", "risk", "mitigation", "expiry")


def level_of(view: TaskView, tree: str, rubric: Mapping[str, Any] | None) -> int:
    """The level that this exact tree has reached in this epoch."""
    if not _passed(view, "build", Phase.IMPLEMENT, tree):
        return 0
    if not _passed(view, "tests", Phase.VERIFY, tree):
        return 1
    if _passed(view, "integration", Phase.REVIEW, tree):
        return 3
    deferral = (rubric or {}).get("deferral")
    accepted = rubric is not None and rubric.get("verdict") == "approved"
    return 3 if accepted and deferral and not is_weak_deferral(deferral) else 2


def level_needed(phase: Phase, risk: str) -> int:
    """The level that leaving a phase needs. Only `done` on high risk needs the fourth."""
    if phase is Phase.MONITOR:
        return 4 if risk == "high" else 3
    return LEVEL_NEEDED.get(phase, 0)


def is_weak_deferral(deferral: Mapping[str, Any]) -> bool:
    """Whether a deferral says nothing: a field is absent, empty, or an excuse such as "no time"."""
    texts = [str(deferral.get(name, "")).strip() for name in _DEFERRAL_FIELDS]
    return any(not text or _WEAK.match(text) for text in texts)


def _passed(view: TaskView, name: str, phase: Phase, tree: str) -> bool:
    check = view.checks.get(name)
    if check is None or check.state != "ok" or check.tree != tree:
        return False
    return check.epoch >= view.least_epoch(phase)
