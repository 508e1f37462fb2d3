"""How often a phase may fail before the task is blocked.

A retry is charged to the phase whose failure caused a back move. Epochs never
reset the count. Going back on a person's words, or because the agent's process
died, is free: neither says that the work was wrong.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sterling.packs.autopilot.process.machine import Phase

__all__ = ["ENVIRONMENT_CODES", "RETRY_LIMITS", "is_exhausted"]

RETRY_LIMITS: Mapping[Phase, int] = MappingProxyType(
    {
        Phase.STRATEGIZE: 2,
        Phase.SPEC: 2,
        Phase.PLAN: 2,
        Phase.THINK: 1,
        Phase.IMPLEMENT: 3,
        Phase.VERIFY: 2,
        Phase.REVIEW: 2,
        Phase.PR: 1,
        Phase.MONITOR: 1,
    }
)

ENVIRONMENT_CODES = frozenset({"agent.crashed", "agent.silent", "agent.unreachable", "check.not-run"})


def is_exhausted(charged: Mapping[Phase, int], phase: Phase) -> bool:
    """Whether one more failure of this phase is more than its limit."""
    return charged.get(phase, 0) + 1 > RETRY_LIMITS[phase]
