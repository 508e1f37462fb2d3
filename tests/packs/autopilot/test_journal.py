"""The counters, against transitions counted by hand."""

from __future__ import annotations

from typing import Any

from sterling.packs.autopilot.journal import COUNTERS, count


def moved(task: str, *codes: str, direction: str = "forward") -> dict[str, Any]:
    severe = {"transition.skip", "artifact.changed"}
    return {
        "task": task,
        "direction": direction,
        "decision": "refuse" if codes else "allow",
        "refusals": [{"code": code, "severity": "critical" if code in severe else "low"} for code in codes],
    }


def test_nothing_is_zero_everywhere() -> None:
    assert count([]) == dict.fromkeys(COUNTERS, 0)


def test_each_counter_counts_its_own() -> None:
    found = count(
        [
            moved("t1", "transition.skip"),
            moved("t1", "transition.skip"),
            moved("t1", "artifact.missing", "artifact.missing", "check.failed"),
            moved("t2", "level.too-low"),
            moved("t3", "artifact.changed"),
            moved("t3", "lease.held"),
            moved("t3", direction="back"),
            moved("t3"),
        ]
    )

    assert found == {
        "phase_skips_attempted": 2,
        "phase_validations_failed": 3,
        "evidence_gate_failed": 2,
        "tasks_rejected_for_process_violation": 2,
        "phase_backtracks": 1,
    }
