"""The report's files: written to a folder for the person, and as blobs for whoever checks them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.batch import Batch
from sterling.kernel.canonical import Json, canonical_bytes
from sterling.kernel.hashing import address_of
from sterling.kernel.home import Home
from sterling.kernel.records import RecordRef, Source
from sterling.packs.insight.errors import OutUnwritable
from sterling.packs.insight.read.source import spoken
from sterling.packs.insight.report import html, markdown
from sterling.packs.insight.report.model import BodyParts, body, ranked

__all__ = ["REPORT_CONTRACT", "Written", "body_hash", "check_folder", "default_folder", "write_report"]

REPORT_CONTRACT = "insight.report-file@1.0"
_MANIFEST_CONTRACT = "insight.manifest@1.0"
_MEDIA = {
    "report.json": "application/json",
    "report.md": "text/markdown",
    "report.html": "text/html",
    "findings.jsonl": "application/jsonl",
    "run_manifest.json": "application/json",
}


@dataclass(frozen=True, slots=True)
class Written:
    """A report that has been written: its body, its folder, its record."""

    document: Mapping[str, Json]
    folder: Path
    files: Mapping[str, Path]
    record: RecordRef


def default_folder(run_id: str) -> Path:
    """Where a report goes when nobody says: a new folder here, named after the run."""
    return Path(f"sterling-report-{run_id.removeprefix('run-')[:8]}")


def check_folder(out: Path | None) -> None:
    """Make the report's folder, or see that one can be made here, before any work is done.

    Errors: OutUnwritable.
    """
    folder = out or Path()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise OutUnwritable(f"expected a folder at {folder}, found: {problem.strerror}") from problem
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutUnwritable(f"expected to write in {folder}, found that it may not be written")


def body_hash(document: Mapping[str, Json]) -> str:
    """SHA-256 of the canonical body."""
    return address_of(canonical_bytes(document))


def write_report(
    home: Home,
    run_id: str,
    parts: BodyParts,
    telemetry: Mapping[str, Json],
    *,
    out: Path | None,
    prior_looks: int,
) -> Written:
    """Write every file into the folder, store each as a blob, and record them."""
    content = body(parts)
    report: dict[str, Json] = {
        "contract": REPORT_CONTRACT,
        "body": content,
        "body_sha256": body_hash(content),
        "telemetry": dict(telemetry),
    }
    home.contracts.validate("insight.report-file", report)
    texts = {
        "report.json": _pretty(report),
        "report.md": markdown.render(report),
        "report.html": html.render(report),
        "findings.jsonl": _lines(parts),
    }
    data = {name: text.encode() for name, text in texts.items()}
    manifest = _manifest(report, parts, data, prior_looks)
    home.contracts.validate("insight.manifest", manifest)
    data["run_manifest.json"] = _pretty(manifest).encode()
    folder = out or default_folder(run_id)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content_bytes in data.items():
        (folder / name).write_bytes(content_bytes)
    record = _record(home, run_id, report, parts, data, folder)
    return Written(report, folder, {name: folder / name for name in data}, record)


def _record(
    home: Home,
    run_id: str,
    report: Mapping[str, Json],
    parts: BodyParts,
    data: Mapping[str, bytes],
    folder: Path,
) -> RecordRef:
    files: list[dict[str, Json]] = [
        {
            "name": name,
            "blob": home.blobs.put(content),
            "size_bytes": len(content),
            "media": _MEDIA[name],
        }
        for name, content in sorted(data.items())
    ]
    document = {
        "body_sha256": report["body_sha256"],
        "status": report["body"]["status"],
        "files": files,
    }
    sources = [
        Source("table", record=parts.records.table.id),
        *(Source("file", blob=file["blob"]) for file in files),
    ]
    batch = Batch(run=run_id)
    record = home.records.put(batch, "insight.report", document, sources)
    copies = [{"name": file["name"], "sha256": file["blob"]} for file in files]
    batch.append("insight.report-written", {"folder": spoken(folder.resolve()), "files": copies})
    home.ledger.commit(batch)
    return record


def _manifest(
    report: Mapping[str, Json], parts: BodyParts, data: Mapping[str, bytes], prior_looks: int
) -> dict[str, Json]:
    telemetry, lineage = report["telemetry"], report["body"]["lineage"]
    ends = {str(row["step"]): row for row in parts.outcomes}
    return {
        "contract": _MANIFEST_CONTRACT,
        "run": telemetry["run"],
        "status": report["body"]["status"],
        "body_sha256": report["body_sha256"],
        "mode_requested": lineage["mode"],
        "mode_effective": lineage["mode"],
        "seed": lineage["seed"],
        "input": {
            "name": telemetry["source_name"],
            "sha256": parts.stored.source,
            "size_bytes": parts.stored.size_bytes,
        },
        "plugins": [
            {
                "id": step.id,
                "version": step.version,
                "lane": step.lane,
                "state": ends[step.id]["state"],
                "reason": ends[step.id]["reason"],
                "lock_sha256": step.lock_sha256,
                "access_declared": list(parts.manifests[step.id].own.get("table", ())),
                "access_used": dict(telemetry["access"].get(step.id, {})),
            }
            for step in parts.plan.steps
        ],
        "files": [
            {"name": name, "sha256": address_of(content), "size_bytes": len(content)}
            for name, content in sorted(data.items())
        ],
        "prior_looks": prior_looks,
        "environment": dict(lineage["versions"]),
    }


def _lines(parts: BodyParts) -> str:
    """Every finding, profiles too, in order: record, hash and document on one line each."""
    lines = (
        json.dumps(
            {"record": item.ref.id, "record_hash": item.ref.hash, "finding": item.document},
            sort_keys=True,
            ensure_ascii=False,
        )
        for item in ranked(parts.acceptance.findings)
    )
    return "".join(f"{line}\n" for line in lines)


def _pretty(document: Mapping[str, Json]) -> str:
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
