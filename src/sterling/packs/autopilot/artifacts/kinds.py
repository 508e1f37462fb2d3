"""The artifacts of each phase: file, author, form and contract, as one table.

`KINDS` says what a gate demands now. `NOT_DEMANDED` says what the process will
demand and this build cannot judge yet; it is printed in every receipt, so that
nothing looks checked that was not. `docs/reference/phases.md` holds the same
tables under test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sterling.packs.autopilot.process.machine import Phase

__all__ = ["KINDS", "KINDS_BY_NAME", "NOT_DEMANDED", "Kind", "kinds_of", "not_demanded_at"]

ARTIFACT_BYTES_MAX = 5 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Kind:
    """One artifact. `form` is `json` (contract, shown as JSON), `page` (contract, shown as text) or `raw`.

    `binds_tree`: it speaks about one exact tree and is stale for any other.
    """

    name: str
    phase: Phase
    file: str
    author: str
    form: str
    contract: str = ""
    binds_tree: bool = False


_S, _P, _T = Phase.STRATEGIZE, Phase.PLAN, Phase.THINK
_I, _V, _R = Phase.IMPLEMENT, Phase.VERIFY, Phase.REVIEW

KINDS: tuple[Kind, ...] = (
    Kind("strategy", _S, "strategy.md", "agent", "page", "autopilot.strategy"),
    Kind("worthiness", _S, "worthiness.md", "agent", "page", "autopilot.worthiness"),
    Kind("priority", _S, "priority.json", "authority", "json", "autopilot.priority"),
    Kind("spec", Phase.SPEC, "spec.md", "agent", "page", "autopilot.spec"),
    Kind("plan", _P, "plan.md", "agent", "page", "autopilot.plan"),
    Kind("file_map", _P, "file_map.json", "agent", "json", "autopilot.file-map"),
    Kind("change_budget", _P, "change_budget.json", "agent", "json", "autopilot.change-budget"),
    Kind("rollback", _P, "rollback.md", "agent", "page", "autopilot.rollback"),
    Kind("edge_cases", _T, "edge_cases.md", "agent", "page", "autopilot.edge-cases"),
    Kind("risk_oracle_map", _T, "risk_oracle_map.json", "agent", "json", "autopilot.risk-oracles"),
    Kind("git_diff", _I, "git_diff.patch", "authority", "raw", binds_tree=True),
    Kind("modified_files", _I, "modified_files.json", "authority", "json", "autopilot.modified-files", True),
    Kind("apply_stats", _I, "apply_stats.json", "authority", "json", "autopilot.apply-stats", True),
    Kind("build_output", _I, "build_output.log", "authority", "raw", binds_tree=True),
    Kind("test_results", _V, "test_results.json", "authority", "json", "autopilot.test-results", True),
    Kind("verify_build", _V, "build_output.log", "authority", "raw", binds_tree=True),
    Kind(
        "oracle_coverage", _V, "oracle_coverage.json", "authority", "json", "autopilot.oracle-coverage", True
    ),
    Kind("review_rubric", _R, "review_rubric.json", "reviewer", "json", "autopilot.review-rubric", True),
    Kind("pr_body", Phase.PR, "pr_template_filled.md", "authority", "raw", binds_tree=True),
    Kind("why_now", Phase.PR, "why_now.txt", "agent", "page", "autopilot.why-now"),
    Kind("pr_risk_label", Phase.PR, "pr_risk_label.txt", "authority", "page", "autopilot.risk-label", True),
    Kind("ci_results", Phase.PR, "ci_results.json", "authority", "json", "autopilot.test-results", True),
    Kind(
        "smoke_test_results",
        Phase.MONITOR,
        "smoke_test_results.json",
        "authority",
        "json",
        "autopilot.smoke",
        True,
    ),
)

KINDS_BY_NAME: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in KINDS})

NOT_DEMANDED: tuple[tuple[Phase, str, str], ...] = (
    (_S, "preflight", "moderation rules and a secret scan of the task's text (A-59)"),
    (_P, "code graph", "that cited symbols are reachable from the files to change (A-60)"),
    (_I, "policy", "the policy pack and the change classes (A-61, A-64, A-71)"),
    (_V, "coverage_report.json", "coverage of changed lines (A-72)"),
    (_V, "semantic_scan.json", "the integrity scan of added lines (A-15)"),
    (_V, "never-failed", "that an oracle which passes on the base fails on a planted fault (A-13)"),
    (_V, "security", "secrets, advisories and licences (A-68 to A-70)"),
    (_R, "code_quality_score.json", "a score from a model's rubric (A-43)"),
    (Phase.PR, "pr_url.txt", "an opened pull request; the patch and a local branch are handed over (A-73)"),
    (Phase.PR, "approvals", "code owners and signed approvals (A-63, A-75)"),
    (Phase.MONITOR, "deployment_status.json", "a deployment; nothing is deployed from here (A-43)"),
    (Phase.MONITOR, "negative_oracles.json", "what must not happen after delivery (A-43)"),
)


def kinds_of(phase: Phase) -> tuple[Kind, ...]:
    """What the gate of a phase demands, in the table's order."""
    return tuple(kind for kind in KINDS if kind.phase is phase)


def not_demanded_at(phase: Phase) -> tuple[str, ...]:
    """What the process will demand here and this build does not."""
    return tuple(name for each, name, _ in NOT_DEMANDED if each is phase)
