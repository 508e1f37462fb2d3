"""Judging what a step gave: only registered facts, in the words of their kind, become findings.

The worker is not believed. A finding whose hypothesis is not in the step's
journal, whose kind its manifest does not name, or whose claim is not its kind's
sentence over its evidence, fails the step; so does any access that the manifest
does not declare, also when the plugin swallowed the refusal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sterling.kernel.batch import Batch
from sterling.kernel.canonical import Json
from sterling.kernel.home import Home
from sterling.kernel.records import RecordRef, Source
from sterling.packs.insight.codes import Reason, sentence
from sterling.packs.insight.evidence import row_of
from sterling.packs.insight.journal import Told, read_journal
from sterling.packs.insight.kinds import KINDS, claim_of, next_step_of, share_text
from sterling.packs.insight.registry import Hypothesis, Registered
from sterling.runtime.engine import TaskEnd
from sterling.runtime.manifest import Manifest
from sterling.runtime.outcomes import Settled
from sterling.runtime.plan import Step

__all__ = ["Acceptance", "Found"]


@dataclass(frozen=True, slots=True)
class Found:
    """A finding that was accepted: its record and the document in it."""

    ref: RecordRef
    document: Mapping[str, Json]


@dataclass(slots=True)
class StepCost:
    """What a step took; telemetry, never part of the report's body."""

    wall_us: int = 0
    cpu_us: int = 0
    rss_max: int = 0


@dataclass(slots=True)
class Acceptance:
    """Collects what the steps of one run gave."""

    home: Home
    manifests: Mapping[str, Manifest]
    table: RecordRef
    rows: int
    journals: Path
    findings: list[Found] = field(default_factory=list)
    registered: list[Registered] = field(default_factory=list)
    metrics: dict[str, Mapping[str, Json]] = field(default_factory=dict)
    costs: dict[str, StepCost] = field(default_factory=dict)
    access: dict[str, dict[str, int]] = field(default_factory=dict)
    unregistered: int = 0
    blank_kinds: int = 0

    def journal_path(self, step: str) -> Path:
        return self.journals / f"{step}.jsonl"

    def accept(self, step: Step, end: TaskEnd, settled: Settled, batch: Batch) -> Settled | None:
        """Add the step's findings to its batch; what it returns replaces the outcome."""
        manifest = self.manifests[step.id]
        told = read_journal(self.journal_path(step.id))
        self.costs[step.id] = StepCost(end.wall_us, end.cpu_us, end.rss_max)
        self.access[step.id] = dict(sorted(told.used.items()))
        refusal = _access_refusal(manifest, told)
        reported: set[str] = set()
        if refusal is None and settled.state == "ok":
            result = end.result or {}
            documents = [*result.get("findings", ()), *told.findings]
            refusal = self._accept_findings(manifest, told, documents, batch, reported)
            self.metrics[step.id] = dict(result.get("metrics", {}))
        if refusal is not None:
            reported.clear()
        self.registered.extend(
            Registered(Hypothesis.parse(key), manifest.lane, "exact", name in reported)
            for name, key in sorted(told.registered.items())
        )
        return refusal

    def _accept_findings(
        self,
        manifest: Manifest,
        told: Told,
        documents: list[Mapping[str, Json]],
        batch: Batch,
        reported: set[str],
    ) -> Settled | None:
        for document in documents:
            refusal = self._refusal(manifest, told, document)
            if refusal is not None:
                return refusal
        source = [Source("table", record=self.table.id)]
        accepted: list[Found] = []
        for document in documents:
            finding = _document(manifest, told, document, self.rows)
            accepted.append(Found(self.home.records.put(batch, "insight.finding", finding, source), finding))
            reported.add(str(finding["id"]))
        self.findings.extend(accepted)
        return None

    def _refusal(self, manifest: Manifest, told: Told, document: Mapping[str, Json]) -> Settled | None:
        """Why a finding is not accepted, or None."""
        kind = document["kind"]
        if kind not in KINDS or kind not in manifest.own.get("kinds", ()):
            self.blank_kinds += 1
            return _broken(f"kind {kind!r}, which its manifest does not name")
        values = document["values"]
        hypothesis = values.get("hypothesis")
        if hypothesis not in told.registered:
            self.unregistered += 1
            words = sentence(Reason.UNREGISTERED_HYPOTHESIS, found=f"{kind} {hypothesis}")
            return Settled("failed", Reason.UNREGISTERED_HYPOTHESIS, words)
        try:
            claim = claim_of(kind, row_of(document["evidence"]), values["names"])
        except (KeyError, ValueError, TypeError, IndexError) as problem:
            return _broken(f"{kind}: its sentence cannot be filled ({problem})")
        if claim != document["claim"]:
            return _broken(f"{kind}: expected the claim {claim!r}, found {document['claim']!r}")
        return None


def _access_refusal(manifest: Manifest, told: Told) -> Settled | None:
    declared = set(manifest.own.get("table", ()))
    for code, asked in told.denied[:1]:
        reason = Reason(code)
        return Settled("failed", reason, sentence(reason, asked=asked))
    wider = sorted(set(told.used) - declared)
    if wider:
        words = sentence(Reason.ACCESS_MISMATCH, used=", ".join(wider), declared=", ".join(sorted(declared)))
        return Settled("failed", Reason.ACCESS_MISMATCH, words)
    return None


def _broken(found: str) -> Settled:
    return Settled("failed", Reason.CONTRACT_BROKEN, sentence(Reason.CONTRACT_BROKEN, found=found))


def _document(manifest: Manifest, told: Told, found: Mapping[str, Json], rows: int) -> dict[str, Json]:
    """The finding as the contract wants it: every field, null where it does not apply."""
    values = found["values"]
    key = Hypothesis.parse(told.registered[values["hypothesis"]])
    row = row_of(found["evidence"])
    kind = KINDS[found["kind"]]
    return {
        "id": key.id,
        "kind": found["kind"],
        "plugin": manifest.id,
        "lane": manifest.lane,
        "claim": found["claim"],
        "names": dict(values["names"]),
        "target": list(key.target),
        "unit": kind.unit,
        "estimate": _estimate(row.get("count"), row.get("of")),
        "interval": None,
        "test": "exact",
        "p": None,
        "q": None,
        "family": str(manifest.own.get("test_family", "facts")),
        "dependence": None,
        "n": rows,
        "n_effective": None,
        "split": "all",
        "window": key.window,
        "direction": key.direction,
        "strength": kind.rank.name.lower(),
        "measurement": "measured",
        "evidence": found["evidence"],
        "supports": [],
        "conflicts": [],
        "assumptions": [],
        "scope": "every row of the normalized table",
        "next_step": next_step_of(found["kind"], row, values["names"]),
        "feeds": list(manifest.feeds),
    }


def _estimate(count: Json, of: Json) -> dict[str, Json]:
    if not isinstance(count, int) or not isinstance(of, int):
        return {"count": None, "of": None, "share_percent": None}
    return {"count": count, "of": of, "share_percent": share_text(count, of)}
