"""The gate of a phase: is everything there, unchanged, current, by the right author, and does it hold?

For each kind that the phase demands the gate looks at the record, at the blob it
names and at the file under `evidence/`: record and file must both exist and
agree. Then the content rules of `content.py` speak. All reasons are listed at
once; partial evidence gives the same verdict twice, after a restart too.

Pure over what the authority read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sterling.packs.autopilot.artifacts.kinds import KINDS_BY_NAME, Kind, kinds_of
from sterling.packs.autopilot.process.machine import Phase
from sterling.packs.autopilot.process.view import ArtifactView, TaskView
from sterling.packs.autopilot.refusal import Refusal

__all__ = ["Evidence", "GateVerdict", "Seen", "gate", "look_at", "offered"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What stands behind one artifact: its parsed content, and the hash of the file people see."""

    document: Any = None
    blob_state: str = "ok"
    file_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything a gate looks at besides the view. `tree` is the work tree as it stands now."""

    tree: str
    seen: Mapping[str, Seen] = field(default_factory=dict)

    def document(self, kind: str) -> Any:
        """The parsed content of an artifact, or None when it is not there or not readable."""
        found = self.seen.get(kind)
        return found.document if found is not None else None


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """The gate's answer: every reason, and the artifacts that it accepted."""

    phase: Phase
    refusals: tuple[Refusal, ...]
    accepted: tuple[str, ...]

    @property
    def is_open(self) -> bool:
        return not self.refusals

    def named(self, code: str) -> tuple[str, ...]:
        """Which artifacts or fields this code was given for."""
        return tuple(refusal.where for refusal in self.refusals if refusal.code == code)


def gate(view: TaskView, phase: Phase, evidence: Evidence, found: Sequence[Refusal] = ()) -> GateVerdict:
    """The verdict on leaving a phase; `found` holds what the content rules found."""
    refusals: list[Refusal] = []
    accepted: list[str] = []
    for kind in kinds_of(phase):
        refusal = look_at(view, kind, evidence)
        if refusal is None:
            accepted.append(kind.name)
        else:
            refusals.append(refusal)
    return GateVerdict(phase, (*refusals, *found), tuple(accepted))


def look_at(view: TaskView, kind: Kind, evidence: Evidence) -> Refusal | None:
    """Why this artifact cannot count, whatever it says; None when it can."""
    artifact = view.artifacts.get(kind.name)
    if artifact is None:
        return _refusal(kind, "artifact.missing", "a record", "none", _how(kind))
    if artifact.epoch < view.least_epoch(kind.phase):
        least = view.least_epoch(kind.phase)
        return _refusal(
            kind, "artifact.wrong-epoch", f"epoch {least} or later", f"epoch {artifact.epoch}", _how(kind)
        )
    if not _author_fits(view, kind, artifact):
        expected = {"reviewer": "a reviewer who wrote nothing of the patch"}.get(kind.author, kind.author)
        return _refusal(kind, "artifact.wrong-author", expected, artifact.author, _how(kind))
    if kind.binds_tree and artifact.tree != evidence.tree:
        return _refusal(
            kind,
            "artifact.stale",
            f"evidence on tree {evidence.tree[:12]}",
            f"tree {artifact.tree[:12]}",
            _how(kind),
        )
    return _look_at_bytes(kind, artifact, evidence.seen.get(kind.name))


def offered(view: TaskView, records: Sequence[str], told: Mapping[str, tuple[str, int]]) -> list[Refusal]:
    """Why evidence that the asker named cannot count. `told` maps a record to its kind and epoch."""
    refusals = []
    for record in records:
        if record not in told or told[record][0] not in KINDS_BY_NAME:
            refusals.append(
                Refusal(
                    "artifact.missing",
                    "A-10 evidence",
                    "an artifact of this task",
                    record,
                    "name artifacts only",
                )
            )
            continue
        kind, epoch = KINDS_BY_NAME[told[record][0]], told[record][1]
        least = view.least_epoch(kind.phase)
        if epoch < least:
            found = f"epoch {epoch}"
            refusals.append(
                _refusal(kind, "artifact.wrong-epoch", f"epoch {least} or later", found, _how(kind))
            )
    return refusals


def _look_at_bytes(kind: Kind, artifact: ArtifactView, seen: Seen | None) -> Refusal | None:
    if seen is None or not seen.file_sha256:
        return _refusal(kind, "artifact.missing", f"the file {artifact.path}", "no file", _how(kind))
    if seen.blob_state != "ok":
        return _refusal(kind, "artifact.changed", f"blob {artifact.blob}", seen.blob_state, _how(kind))
    if seen.file_sha256 != artifact.view_sha256:
        return _refusal(
            kind,
            "artifact.changed",
            f"file {artifact.view_sha256[:12]}",
            f"file {seen.file_sha256[:12]}",
            _how(kind),
        )
    return None


def _author_fits(view: TaskView, kind: Kind, artifact: ArtifactView) -> bool:
    if kind.author == "reviewer":
        if artifact.author == "person":
            return True
        return artifact.author == "agent" and artifact.session not in view.implementers
    if kind.author == "agent":
        return artifact.author in ("agent", "person")
    return artifact.author == kind.author


def _how(kind: Kind) -> str:
    if kind.author == "authority":
        return "ask to advance: the authority makes it"
    return f"submit {kind.name} ({kind.contract}) again"


def _refusal(kind: Kind, code: str, expected: str, found: str, satisfied_by: str) -> Refusal:
    return Refusal(code, f"A-10 {kind.phase}/{kind.file}", expected, found, satisfied_by, where=kind.name)
