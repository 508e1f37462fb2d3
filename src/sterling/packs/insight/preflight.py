"""Which plugins can say something about this table, decided before any of their code is loaded.

Pure: a manifest and the table's counts in, a verdict out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sterling.kernel.canonical import Json
from sterling.packs.insight.access import ACCESS
from sterling.packs.insight.codes import Reason, sentence
from sterling.runtime.manifest import Manifest
from sterling.runtime.outcomes import Settled

__all__ = ["TableFacts", "preflight", "verdict_row"]


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What preflight knows of a table."""

    rows: int
    columns: int


def preflight(manifest: Manifest, facts: TableFacts) -> Settled | None:
    """The outcome of a plugin that cannot run here, or None for one that can."""
    unknown = sorted(set(manifest.own.get("table", ())) - set(ACCESS))
    if unknown:
        words = sentence(
            Reason.ACCESS_MISMATCH, used="nothing yet", declared=f"unknown access {', '.join(unknown)}"
        )
        return Settled("failed", Reason.ACCESS_MISMATCH, words)
    if facts.rows < manifest.needs.rows_min:
        words = sentence(Reason.TOO_FEW_ROWS, found=f"{facts.rows:,}", least=f"{manifest.needs.rows_min:,}")
        return Settled("na", Reason.TOO_FEW_ROWS, words)
    least = int(manifest.own.get("columns_min", 1))
    if facts.columns < least:
        words = sentence(Reason.TOO_FEW_COLUMNS, found=f"{facts.columns:,}", least=f"{least:,}")
        return Settled("na", Reason.TOO_FEW_COLUMNS, words)
    return None


def verdict_row(manifest: Manifest, verdict: Settled | None) -> Mapping[str, Json]:
    """A line of the report's preflight section."""
    return {
        "plugin": manifest.id,
        "verdict": "run" if verdict is None else verdict.state,
        "reason": "" if verdict is None else str(verdict.reason),
        "because": "" if verdict is None else verdict.because,
    }
