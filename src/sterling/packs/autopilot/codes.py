"""Every reason code the autopilot gives, and how severe each one is.

Closed: a code that is not in this table cannot enter a transition. A code comes
into the table together with the rule that gives it. The order of severities is
critical, high, medium, low.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["CODES", "SEVERITIES", "is_known", "severity_of"]

SEVERITIES = ("critical", "high", "medium", "low")

CODES: Mapping[str, str] = MappingProxyType(
    {
        "transition.skip": "critical",
        "transition.unknown-phase": "critical",
        "transition.same-phase": "low",
        "transition.back-not-allowed": "low",
        "transition.stale-view": "low",
        "transition.no-such-task": "low",
        "transition.task-closed": "low",
        "artifact.missing": "medium",
        "artifact.stale": "medium",
        "artifact.wrong-epoch": "medium",
        "artifact.changed": "critical",
        "artifact.wrong-author": "critical",
        "artifact.malformed": "high",
        "artifact.empty": "high",
        "artifact.placeholder": "high",
        "artifact.uncited": "high",
        "check.failed": "high",
        "check.timed-out": "high",
        "check.not-run": "high",
        "check.unlisted": "low",
        "level.too-low": "high",
        "level.deferral-weak": "high",
        "oracle.unmapped": "high",
        "oracle.not-run": "high",
        "budget.files": "low",
        "budget.lines": "low",
        "budget.paths": "low",
        "budget.minutes": "low",
        "plan.no-delta": "low",
        "plan.bad-citation": "low",
        "patch.duplicate": "low",
        "patch.out-of-scope": "low",
        "patch.empty": "low",
        "retry.exhausted": "low",
        "tool.out-of-phase": "high",
        "deliverable.missing": "high",
        "agent.unreachable": "low",
        "agent.crashed": "low",
        "agent.silent": "low",
        "agent.bad-output": "low",
        "identity.mismatch": "low",
        "approval.needed": "low",
        "lease.held": "medium",
        "lease.expired": "medium",
        "lease.lost": "medium",
        "lease.unavailable": "medium",
        "ledger.unavailable": "high",
        "blob.unavailable": "high",
        "profile.unavailable": "high",
    }
)


def is_known(code: str) -> bool:
    """Whether a refusal may carry this code."""
    return code in CODES


def severity_of(code: str) -> str:
    """The severity of a code of the table. KeyError for any other."""
    return CODES[code]
