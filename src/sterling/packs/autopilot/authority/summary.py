"""The text of a pull request, made from evidence: nothing in it is an agent's free word.

What an agent wrote (purpose, rollback) is quoted from its artifact and named as
such; what the authority measured stands apart. Same evidence, same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sterling.packs.autopilot.artifacts.kinds import NOT_DEMANDED
from sterling.packs.autopilot.artifacts.scope import Change
from sterling.packs.autopilot.process.view import TaskView

__all__ = ["pr_body"]


def pr_body(view: TaskView, documents: Mapping[str, Any], change: Change, tree: str, risk: str) -> str:
    """The body: purpose, criteria, what changed, what was run, risk, rollback, what nobody checked."""
    strategy, spec = documents.get("strategy") or {}, documents.get("spec") or {}
    lines = [
        f"Task {view.task}, tree {tree}, epoch {view.epoch}",
        "",
        "## Purpose (from strategy.md)",
        str(strategy.get("purpose", "")),
        "",
        "## Criteria (from spec.md)",
        *(
            f"- {each['id']}: {each['predicate']} (proof: {each['proof']})"
            for each in spec.get("criteria", [])
        ),
        "",
        "## Changed files (measured)",
        *(f"- {each.path}: {each.change}, +{each.added} -{each.removed}" for each in change.files),
        "",
        "## Checks (run by the authority)",
        *(
            f"- {name}: {check.state}. {check.because} Record {check.record}."
            for name, check in sorted(view.checks.items())
            if check.tree == tree
        ),
        "",
        f"## Risk: {risk}",
        "",
        "## Rollback (from rollback.md)",
        str((documents.get("rollback") or {}).get("how", "")),
        "",
        "## Not checked in this build",
        *(f"- {phase}: {because}" for phase, _, because in NOT_DEMANDED),
    ]
    return "\n".join(lines).rstrip() + "\n"
