"""How a step ended, and how a run did: the outcome rules as a table and two pure functions.

A step ends `ok`, `failed` or `na`, with a reason code and a sentence. There is
no fourth state and no empty `ok`: what a worker sent is believed only when it
keeps the rules. Exhausted time or memory is `failed`, never `na`. A run is
`failed` when any step failed, and it may close only when every planned step has
exactly one outcome.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sterling.kernel.canonical import Json
from sterling.runtime.plan import LANES, Plan

__all__ = [
    "OUTCOME_RULES",
    "STATES",
    "LaneMetrics",
    "Rule",
    "RunStatus",
    "Settled",
    "StepEnd",
    "StepRow",
    "run_status",
    "settle",
    "upstream",
]

STATES = ("ok", "failed", "na")
_CODE = re.compile(r"^([a-z]+)\.[a-z0-9-]+$")
_RUNTIME_AREAS = frozenset({"need", "step", "budget", "mode", "signal"})


@dataclass(frozen=True, slots=True)
class Rule:
    """What an end means. An empty reason stands for the end's own."""

    state: str
    reason: str
    sentence: str


OUTCOME_RULES: Mapping[str, Rule] = {
    "returned": Rule("", "", "The step returned; its result decides."),
    "raised": Rule("failed", "step.raised", "The step raised an error."),
    "invalid": Rule("failed", "step.invalid-result", "The step gave something that is not a result."),
    "died": Rule("failed", "worker.died", "The worker process died before it gave a result."),
    "limit": Rule("failed", "", "The step used more than it may."),
    "hung": Rule("failed", "step.hung", "The step made no progress for too long and was ended."),
    "protocol": Rule("failed", "worker.protocol", "The worker sent something that is not a message."),
    "refused": Rule("failed", "", "The step was refused before it started."),
    "stopped": Rule("failed", "run.interrupted", "The run was stopped before the step ended."),
    "interrupted": Rule("failed", "run.interrupted", "The run was stopped before the step ended."),
    "abandoned": Rule("failed", "run.abandoned", "The program that ran this died before the step ended."),
    "unsettled": Rule("failed", "run.unsettled", "The run ended while this step had no outcome."),
    "upstream-failed": Rule("na", "step.upstream-failed", "A step that this one needs failed."),
    "upstream-na": Rule("na", "step.upstream-na", "A step that this one needs could not be applied."),
}


@dataclass(frozen=True, slots=True)
class StepEnd:
    """How the supervisor saw a step end. `kind` is a key of OUTCOME_RULES."""

    kind: str
    reason: str = ""
    message: str = ""
    signal: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """The outcome of a step."""

    state: str
    reason: str
    because: str


class _Judged(Exception):
    """Carries a verdict out of a nested check."""

    def __init__(self, reason: str, because: str) -> None:
        super().__init__(because)
        self.settled = Settled("failed", reason, because)


def settle(
    manifest: Any,
    result: Mapping[str, Json] | None,
    end: StepEnd,
    *,
    known_reasons: Container[str] | None = None,
) -> Settled:
    """The outcome that an end and a result give.

    `manifest` needs `pack`, `lane`, `requires_downstream_mapping` and `feeds`.
    A code of `Na` must belong to the pack or to the runtime, and be in
    `known_reasons` where the pack hands those in.
    """
    rule = OUTCOME_RULES[end.kind]
    if end.kind != "returned":
        return Settled(rule.state, end.reason or rule.reason, end.message or rule.sentence)
    try:
        return _judge(manifest, result, known_reasons)
    except _Judged as verdict:
        return verdict.settled


def upstream(needs: Iterable[str], tolerates: Container[str], states: Mapping[str, str]) -> StepEnd | None:
    """Why a step cannot run because of what it needs, or None. A failure counts before an na."""
    settled = [(need, states[need]) for need in sorted(needs) if need not in tolerates]
    for state, kind in (("failed", "upstream-failed"), ("na", "upstream-na")):
        names = [need for need, found in settled if found == state]
        if names:
            word = "failed" if state == "failed" else "was na"
            return StepEnd(kind, message=f"Needs {', '.join(names)}, which {word}.")
    return None


def _judge(manifest: Any, result: Mapping[str, Json] | None, known: Container[str] | None) -> Settled:
    if not isinstance(result, Mapping):
        raise _Judged("step.invalid-result", f"Expected a result, found {type(result).__name__}.")
    status = result.get("status")
    if status == "na":
        return _judge_na(manifest, result, known)
    if status != "ok":
        raise _Judged("step.invalid-result", f"Expected ok or na, found status {status!r}.")
    findings = _list(result, "findings")
    artifacts = _list(result, "artifacts")
    for place, finding in enumerate(findings):
        _check_finding(place, finding)
    for place, artifact in enumerate(artifacts):
        _check_artifact(place, artifact)
    metrics = result.get("metrics", {})
    if not isinstance(metrics, Mapping):
        raise _Judged("step.invalid-result", "Expected metrics as a table, found something else.")
    if not findings and not artifacts and (manifest.lane == "decision" or not metrics):
        raise _Judged("step.empty-ok", "The step said ok but gave no finding and no artifact.")
    return Settled("ok", "ok", _count_words(len(findings), len(artifacts)))


def _judge_na(manifest: Any, result: Mapping[str, Json], known: Container[str] | None) -> Settled:
    reason, because = result.get("reason"), result.get("because")
    if not isinstance(because, str) or not because.strip():
        raise _Judged("step.invalid-result", f"Expected a sentence with na {reason!r}, found none.")
    match = _CODE.match(reason) if isinstance(reason, str) else None
    belongs = match is not None and (match[1] == manifest.pack or match[1] in _RUNTIME_AREAS)
    if not isinstance(reason, str) or not belongs or (known is not None and reason not in known):
        raise _Judged("step.invalid-result", f"Expected a known reason code with na, found {reason!r}.")
    return Settled("na", reason, because)


def _list(result: Mapping[str, Json], name: str) -> list[Any]:
    value = result.get(name, [])
    if not isinstance(value, list):
        raise _Judged("step.invalid-result", f"Expected {name} as a list, found {type(value).__name__}.")
    return value


def _check_finding(place: int, finding: Any) -> None:
    if not isinstance(finding, Mapping):
        raise _Judged("step.invalid-result", f"Expected finding {place} as a table, found something else.")
    kind = finding.get("kind")
    if not isinstance(kind, str) or not kind.strip():
        raise _Judged("step.empty-ok", f"Finding {place} has a blank kind.")
    claim = finding.get("claim")
    if not isinstance(claim, str) or not claim.strip():
        raise _Judged("step.invalid-result", f"Expected a claim in finding {place}, found none.")
    evidence = finding.get("evidence")
    if not isinstance(evidence, Mapping) or not evidence:
        raise _Judged("step.invalid-result", f"Expected evidence for finding {place} ({kind}), found none.")


def _check_artifact(place: int, artifact: Any) -> None:
    fields = ("name", "path", "media")
    if not isinstance(artifact, Mapping) or any(not isinstance(artifact.get(name), str) for name in fields):
        raise _Judged(
            "step.invalid-result", f"Expected name, path and media of artifact {place}, found less."
        )
    path = artifact["path"]
    if not path or path.startswith("/") or "\\" in path or ".." in path.split("/"):
        raise _Judged(
            "step.invalid-result", f"Expected artifact {place} inside the step's folder, found {path!r}."
        )


def _count_words(findings: int, artifacts: int) -> str:
    parts = [
        f"{count} {word}{'' if count == 1 else 's'}"
        for count, word in ((findings, "finding"), (artifacts, "artifact"))
        if count
    ]
    return f"{' and '.join(parts) or 'Metrics only'}."


@dataclass(frozen=True, slots=True)
class StepRow:
    """A settled step as the run status counts it. `wall_us` and `findings` are 0 when the pack gave none."""

    step: str
    state: str
    reason: str
    because: str
    lane: str
    wall_us: int = 0
    findings: int = 0


@dataclass(slots=True)
class LaneMetrics:
    """What a lane did. Every figure is present on an empty lane too; the last four must be 0."""

    planned: int = 0
    ok: int = 0
    failed: int = 0
    na: int = 0
    wall_us: int = 0
    findings: int = 0
    actionable_bp: int = 0
    downstream_bp: int = 0
    empty_ok: int = 0
    blank_kind: int = 0
    unexplained: int = 0
    missing_mapping: int = 0

    def as_json(self) -> Json:
        return {name: getattr(self, name) for name in sorted(self.__slots__)}


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How a run ended. `code` is "ok", or the first reason for failure in plan order."""

    state: str
    code: str
    planned: int
    settled: int
    lanes: Mapping[str, LaneMetrics] = field(default_factory=dict)


def run_status(plan: Plan, rows: Sequence[StepRow]) -> RunStatus:
    """The state of a run, from its plan and its outcomes; `failed run.unsettled` when they do not match."""
    by_step = {row.step: row for row in rows}
    planned = [step.id for step in plan.steps]
    matches = len(by_step) == len(rows) and set(by_step) == set(planned)
    lanes = {lane: _lane_metrics(plan, lane, by_step) for lane in LANES}
    failed = [by_step[name].reason for name in planned if name in by_step and by_step[name].state == "failed"]
    if not matches or "run.unsettled" in failed:
        return RunStatus("failed", "run.unsettled", len(planned), len(rows), lanes)
    if failed:
        return RunStatus("failed", failed[0], len(planned), len(rows), lanes)
    return RunStatus("ok", "ok", len(planned), len(rows), lanes)


def _lane_metrics(plan: Plan, lane: str, by_step: Mapping[str, StepRow]) -> LaneMetrics:
    metrics = LaneMetrics()
    used = with_findings = mapped = 0
    for step in plan.steps:
        if step.lane != lane:
            continue
        metrics.planned += 1
        row = by_step.get(step.id)
        if row is None:
            continue
        setattr(metrics, row.state, getattr(metrics, row.state) + 1)
        metrics.wall_us += row.wall_us
        metrics.findings += row.findings
        metrics.unexplained += 0 if row.because.strip() else 1
        if row.state == "ok":
            with_findings += 1 if row.findings else 0
            if step.feeds:
                mapped += 1
                used += any(by_step[name].state == "ok" for name in step.feeds if name in by_step)
    if metrics.ok:
        metrics.actionable_bp = 10_000 * with_findings // metrics.ok
    if mapped:
        metrics.downstream_bp = 10_000 * used // mapped
    return metrics
