"""The body of the report: what the same data and seed give again, byte for byte.

Nothing volatile stands here: no run id, no time, no path, no worker count.
Findings are ranked by what they mean (rows to look at first), then by the share of the
table they touch, then by kind and id, so the order is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from sterling.kernel.canonical import Json
from sterling.kernel.records import RecordRef
from sterling.packs.insight.acceptance import Acceptance, Found
from sterling.packs.insight.codes import REASONS, Reason
from sterling.packs.insight.evidence import row_of
from sterling.packs.insight.kinds import KINDS, share_text
from sterling.packs.insight.normalize import Normalized
from sterling.packs.insight.read.model import RawTable
from sterling.packs.insight.registry import Registered
from sterling.packs.insight.report.answer import answer
from sterling.packs.insight.table import Stored, TableRecords
from sterling.runtime.manifest import Manifest
from sterling.runtime.plan import LANES, Plan

__all__ = ["FINDINGS_SHOWN", "PROFILES_SHOWN", "BodyParts", "body", "counters", "question_rows", "ranked"]

FINDINGS_SHOWN = 300
PROFILES_SHOWN = 200
_PROFILE = "column-profile"


@dataclass(frozen=True, slots=True)
class BodyParts:
    """Everything the body is made of."""

    plan: Plan
    manifests: Mapping[str, Manifest]
    outcomes: Sequence[Mapping[str, Json]]
    preflight: Sequence[Mapping[str, Json]]
    acceptance: Acceptance
    figures: Sequence[Mapping[str, Json]]
    rejects: Sequence[Mapping[str, Json]]
    raw: RawTable
    normalized: Normalized
    stored: Stored
    records: TableRecords
    registry_blob: str
    versions: Mapping[str, str]


def ranked(found: Sequence[Found]) -> list[Found]:
    """Findings in the order in which a person should read them."""

    def key(item: Found) -> tuple[int, Fraction, str, str]:
        document = item.document
        count, of = document["estimate"]["count"], document["estimate"]["of"]
        share = Fraction(count, of) if count and of else Fraction(0)
        return (KINDS[document["kind"]].rank, -share, str(document["kind"]), str(document["id"]))

    return sorted(found, key=key)


def body(parts: BodyParts) -> dict[str, Json]:
    """The body of report.json."""
    everything = ranked(parts.acceptance.findings)
    claims = [item for item in everything if item.document["kind"] != _PROFILE]
    profiles = _profiles(parts, everything)
    failed = any(row["state"] == "failed" for row in parts.outcomes)
    counts = counters(parts)
    registered: Sequence[Registered] = parts.acceptance.registered
    return {
        "status": "failed" if failed or any(counts.values()) else "ok",
        "answer": answer(
            {str(row["id"]): int(row["value"]) for row in parts.figures},
            [item.document for item in claims],
            [str(row["step"]) for row in parts.outcomes if row["state"] == "failed"],
            len(parts.normalized.questions),
        ),
        "figures": [dict(figure) for figure in parts.figures],
        "decisions": [],
        "findings": [
            _finding_row(place, item) for place, item in enumerate(claims[:FINDINGS_SHOWN], start=1)
        ],
        "findings_total": len(claims),
        "findings_left_out": max(0, len(claims) - FINDINGS_SHOWN),
        "profiles": profiles[:PROFILES_SHOWN],
        "profiles_left_out": max(0, len(profiles) - PROFILES_SHOWN),
        "watch": [],
        "questions": question_rows(parts.normalized),
        "preflight": [dict(row) for row in parts.preflight],
        "outcomes": [_outcome_row(parts, row) for row in parts.outcomes],
        "lanes": _lanes(parts),
        "counters": counts,
        "mapping": _mapping(parts.normalized),
        "rejects": [dict(row) for row in parts.rejects],
        "source": {
            "sha256": parts.stored.source,
            "size_bytes": parts.stored.size_bytes,
            "format": parts.raw.format,
            "dialect": dict(parts.raw.dialect),
            "notes": list(parts.raw.notes),
        },
        "table": {
            "raw": parts.stored.raw,
            "normalized": parts.stored.normalized,
            "exceptions": parts.stored.exceptions,
            "rejects": parts.stored.rejects,
            "registry": parts.registry_blob,
        },
        "registry": {
            "tests": len(registered),
            "reported": sum(row.reported for row in registered),
        },
        "lineage": _lineage(parts),
    }


def counters(parts: BodyParts) -> dict[str, int]:
    """What must be zero; anything else fails the run."""
    by_plugin: dict[str, int] = {}
    for item in parts.acceptance.findings:
        plugin = str(item.document["plugin"])
        by_plugin[plugin] = by_plugin.get(plugin, 0) + 1
    rows = parts.outcomes
    return {
        "blank_kind": parts.acceptance.blank_kinds,
        "missing_feeds": sum(
            manifest.lane == "explanation" and not manifest.feeds and not manifest.terminal_context
            for manifest in parts.manifests.values()
        ),
        "na_without_sentence": sum(row["state"] == "na" and not str(row["because"]).strip() for row in rows),
        "ok_without_findings": sum(
            row["state"] == "ok" and not by_plugin.get(str(row["step"]), 0) for row in rows
        ),
        "planned_minus_settled": len(parts.plan.steps) - len(rows),
        "unexplained": sum(not str(row["reason"]).strip() for row in rows),
        "unregistered": parts.acceptance.unregistered,
    }


def _finding_row(place: int, item: Found) -> dict[str, Json]:
    document = item.document
    kept = (
        "id",
        "kind",
        "plugin",
        "lane",
        "strength",
        "claim",
        "target",
        "unit",
        "estimate",
        "n",
        "next_step",
        "evidence",
    )
    return {"place": place, **_reference(item.ref), **{name: document[name] for name in kept}}


def _reference(ref: RecordRef) -> dict[str, Json]:
    return {"record": ref.id, "record_hash": ref.hash}


def _profiles(parts: BodyParts, everything: Sequence[Found]) -> list[dict[str, Json]]:
    """Column profiles in the order of the table."""
    by_column = {
        str(item.document["names"]["column"]): item
        for item in everything
        if item.document["kind"] == _PROFILE
    }
    profiles: list[dict[str, Json]] = []
    for column in parts.normalized.columns:
        item = by_column.get(column.rule.name)
        if item is None:
            continue
        facts = row_of(item.document["evidence"])
        rows, filled = int(facts["rows"]), int(facts["filled"])
        profiles.append(
            {
                **_reference(item.ref),
                "id": item.document["id"],
                "name": column.rule.name,
                "type": str(column.rule.type),
                "facts": facts,
                "missing_percent": share_text(rows - filled, rows),
                "claim": item.document["claim"],
                "evidence": item.document["evidence"],
            }
        )
    return profiles


def _outcome_row(parts: BodyParts, row: Mapping[str, Json]) -> dict[str, Json]:
    step, reason = str(row["step"]), str(row["reason"])
    known = {str(code): text.next_step for code, text in REASONS.items() if code in set(Reason)}
    default = "See why with `sterling run show`." if row["state"] == "failed" else ""
    return {
        "step": step,
        "title": parts.manifests[step].title,
        "lane": row["lane"],
        "state": row["state"],
        "reason": reason,
        "because": row["because"],
        "next_step": known.get(reason, default),
        "metrics": dict(sorted(parts.acceptance.metrics.get(step, {}).items())),
    }


def _lanes(parts: BodyParts) -> dict[str, Json]:
    lanes: dict[str, Json] = {}
    for lane in LANES:
        rows = [row for row in parts.outcomes if row["lane"] == lane]
        lanes[lane] = {
            "planned": len(parts.plan.lanes[lane]),
            **{state: sum(row["state"] == state for row in rows) for state in ("ok", "failed", "na")},
            "findings": sum(item.document["lane"] == lane for item in parts.acceptance.findings),
        }
    return lanes


def question_rows(normalized: Normalized) -> list[Json]:
    """Open questions as the report and the result list them."""
    return [
        {
            "column": question.column,
            "topic": question.topic,
            "text": question.text,
            "options": list(question.options),
        }
        for question in normalized.questions
    ]


def _mapping(normalized: Normalized) -> list[Json]:
    return [
        {
            "name": column.rule.name,
            "original": column.raw.original,
            "type": str(column.rule.type),
            "reading": str(column.rule.reading),
            "unit": column.rule.unit,
            "changed": column.spelled,
            "blank": column.blank,
            "missing_word": column.missing_word,
            "unparsed": column.unparsed,
            "notes": list(column.notes),
        }
        for column in normalized.columns
    ]


def _lineage(parts: BodyParts) -> dict[str, Json]:
    plan = parts.plan
    return {
        "mode": plan.mode,
        "seed": plan.seed,
        "plan_sha256": plan.sha256,
        "plugins": [
            {"id": step.id, "version": step.version, "lane": step.lane, "lock_sha256": step.lock_sha256}
            for step in plan.steps
        ],
        "versions": dict(sorted(parts.versions.items())),
        "source_record": parts.records.source.id,
        "table_record": parts.records.table.id,
        "mapping_record": parts.records.mapping.id,
    }
