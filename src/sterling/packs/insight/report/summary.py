"""What `sterling analyze --json` prints: of a report that was written, or of a plan that was only made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sterling.kernel.canonical import Json
from sterling.packs.insight.normalize import Normalized
from sterling.packs.insight.read.model import RawTable
from sterling.packs.insight.read.source import spoken
from sterling.packs.insight.report.model import question_rows
from sterling.runtime.plan import LANES, Plan

__all__ = ["exit_of", "planned", "summary"]

_STATES = ("ok", "failed", "na")


def exit_of(report: Mapping[str, Json]) -> int:
    """0 when no step failed and every counter is zero, else 1."""
    return 0 if report["body"]["status"] == "ok" else 1


def summary(report: Mapping[str, Json], files: Mapping[str, Path]) -> dict[str, Json]:
    """The result document of a finished run."""
    body = report["body"]
    figures = {row["id"]: row["value"] for row in body["figures"]}
    paths = {path.suffix[1:]: spoken(path) for name, path in files.items() if name.startswith("report.")}
    return {
        "run": report["telemetry"]["run"],
        "status": body["status"],
        "mode": body["lineage"]["mode"],
        "seed": body["lineage"]["seed"],
        "body_sha256": report["body_sha256"],
        "plan_sha256": body["lineage"]["plan_sha256"],
        "rows": figures["rows"],
        "rejected": figures["rejected"],
        "columns": [{"name": row["name"], "type": row["type"]} for row in body["mapping"]],
        "lanes": {lane: {state: row[state] for state in _STATES} for lane, row in body["lanes"].items()},
        "decisions": body["decisions"],
        "findings": [
            {part: row[part] for part in ("id", "kind", "strength", "claim")} for row in body["findings"]
        ],
        "questions": body["questions"],
        "preflight": body["preflight"],
        "outcomes": [
            {part: row[part] for part in ("step", "state", "reason", "because")} for row in body["outcomes"]
        ],
        "counters": body["counters"],
        "files": {**paths, "manifest": spoken(files["run_manifest.json"])},
    }


def planned(
    plan: Plan, raw: RawTable, normalized: Normalized, verdicts: Sequence[Mapping[str, Json]]
) -> dict[str, Json]:
    """The result document of a dry run."""
    return {
        "run": None,
        "status": "planned",
        "mode": plan.mode,
        "seed": plan.seed,
        "body_sha256": None,
        "plan_sha256": plan.sha256,
        "rows": raw.rows,
        "rejected": raw.rejected,
        "columns": [
            {"name": column.rule.name, "type": str(column.rule.type)} for column in normalized.columns
        ],
        "lanes": {lane: dict.fromkeys(_STATES, 0) for lane in LANES},
        "decisions": [],
        "findings": [],
        "questions": question_rows(normalized),
        "preflight": [dict(row) for row in verdicts],
        "outcomes": [],
        "counters": {},
        "files": {},
    }
