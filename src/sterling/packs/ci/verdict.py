"""The verdict: all gates, one answer.

`failed` if any gate failed, else `na` if a closing gate is na, else `ok` with
warnings. Exit: 3 when the integrity gate failed, else 1, 4 or 0. Every severity
above `none` blocks; the band is for people.

Pure: `judge(case, policy)` gives the same verdict for the same case, always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sterling.kernel.canonical import Json
from sterling.kernel.errors import EXIT_BROKEN, EXIT_CANNOT_JUDGE, EXIT_NO, EXIT_OK
from sterling.packs.ci.delta import Delta
from sterling.packs.ci.gates import Case, Gate, View, run_gates
from sterling.packs.ci.policy import Policy

__all__ = ["EXITS", "HINTS", "Verdict", "combine", "judge"]

EXITS: Final = {"ok": EXIT_OK, "failed": EXIT_NO, "na": EXIT_CANNOT_JUDGE}

_CAPTURE = "Capture the base now: `sterling ci verdict --base REV --capture-missing -- COMMAND`."
_LOOK = "See every gate and its evidence: `sterling ci explain DECISION`."
_AGAIN = "See what the run left: `sterling run show RUN`, then run `sterling ci verdict` again."
_CAPTURE_AGAIN = "Mend the base or its environment, then `sterling ci baseline capture --at REV -- COMMAND`."
_SEAL = "Take the file from where it was captured; `sterling ci baseline show FILE` checks its seal."
_STATUS = "Say how the runner ended: `sterling ci verdict --report FILES --exit-code N --baseline FILE`."
_NAME_REPORT = "Name the report it writes: `sterling ci verdict --base REV --report 'out/*.xml' -- COMMAND`."
_FULL_REPORT = "Give a report that lists every test: `sterling ci ingest FILES --json` shows what each tells."
_FULL_PATH = (
    "The command is looked up in a clean copy of the tree: give a full path. See `sterling ci run --help`."
)
HINTS: Final = {
    "ci.no-baseline": _CAPTURE,
    "ci.baseline-unhealthy": _CAPTURE_AGAIN,
    "ci.baseline-mismatch": _CAPTURE,
    "ci.baseline-tampered": _SEAL,
    "ci.exit-unknown": _STATUS,
    "ci.report-missing": _NAME_REPORT,
    "ci.facet-incomplete": _FULL_REPORT,
    "ci.not-started": _FULL_PATH,
    "ci.harness-fault": _AGAIN,
    "ci.timed-out": "Give it more time if it needs it: `sterling ci verdict --timeout SECONDS ...`.",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer: verdict, exit status, reasons, and the gates it rests on."""

    verdict: str
    exit: int
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    gates: tuple[Gate, ...]
    delta: Delta
    hint: str

    def as_json(self) -> dict[str, Json]:
        return {
            "verdict": self.verdict,
            "exit": self.exit,
            "reasons": list(self.reasons),
            "warnings": list(self.warnings),
            "gates": [gate.as_json() for gate in self.gates],
            "severity": self.delta.severity,
            "counts": dict(self.delta.counts),
            "hint": self.hint,
        }


def judge(case: Case, policy: Policy) -> Verdict:
    """The verdict on a case under a policy."""
    view = View(case, policy)
    gates = run_gates(view)
    verdict, exit_status = combine(gates)
    reasons = tuple(dict.fromkeys(code for gate in gates if _speaks(gate) for code in gate.codes))
    warnings = tuple(dict.fromkeys(code for gate in gates for code in gate.warnings))
    hint = "" if verdict == "ok" else next((HINTS[code] for code in reasons if code in HINTS), _LOOK)
    return Verdict(verdict, exit_status, reasons, warnings, gates, _delta_of(view, gates), hint)


def combine(gates: Sequence[Gate]) -> tuple[str, int]:
    """The verdict and the exit status that these gates give together."""
    if any(gate.outcome == "failed" for gate in gates):
        broken = any(gate.outcome == "failed" and gate.gate == "integrity" for gate in gates)
        return "failed", EXIT_BROKEN if broken else EXIT_NO
    verdict = "na" if any(gate.outcome == "na" and gate.closes for gate in gates) else "ok"
    return verdict, EXITS[verdict]


def _speaks(gate: Gate) -> bool:
    return gate.outcome == "failed" or (gate.outcome == "na" and gate.closes)


def _delta_of(view: View, gates: Sequence[Gate]) -> Delta:
    """The delta, or an empty one if the gate that builds it crashed: the crash stands in the gates."""
    if any(gate.gate == "delta" and gate.code == "ci.gate-crashed" for gate in gates):
        return Delta({}, {}, (), (), {}, "none", ("The delta could not be built; see the gate.",))
    return view.delta
