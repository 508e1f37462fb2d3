"""Keeping an artifact: its bytes as a blob, its record, and the file that people read.

The file is written before the record is committed, so a record never stands
without a file of its own. Reading back gives what the gate compares: whether the
blob is whole, what it holds, and the hash of the file as it is now.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sterling.kernel.batch import Batch
from sterling.kernel.blobs import BlobAbsent, BlobAltered
from sterling.kernel.canonical import CanonicalInvalid, DuplicateKey, Json, canonical_bytes, parse_strict
from sterling.kernel.contracts import RecordInvalid
from sterling.kernel.hashing import address_of, hash_file
from sterling.kernel.home import Home
from sterling.kernel.records import RecordRef, Source
from sterling.packs.autopilot.artifacts.gate import Evidence, Seen
from sterling.packs.autopilot.artifacts.kinds import ARTIFACT_BYTES_MAX, KINDS, KINDS_BY_NAME, Kind
from sterling.packs.autopilot.artifacts.render import render
from sterling.packs.autopilot.errors import ArtifactMalformed
from sterling.packs.autopilot.process.view import ArtifactView, TaskView
from sterling.packs.autopilot.refusal import Refusal

__all__ = [
    "Author",
    "content_of",
    "parse_artifact",
    "put_artifact",
    "read_evidence",
    "restore_files",
    "shape_of",
    "view_path",
]

_EMPTY_RULES = frozenset({"minLength", "minItems", "minProperties"})


@dataclass(frozen=True, slots=True)
class Author:
    """Who made an artifact: agent, authority or person, and the session or name."""

    type: str
    id: str
    request: str = ""


def parse_artifact(kind: Kind, data: bytes) -> Any:
    """The content of a submitted file.

    Raises:
        ArtifactMalformed: too large, not UTF-8, not JSON, nested too deep, a key twice.
    """
    if len(data) > ARTIFACT_BYTES_MAX:
        raise ArtifactMalformed(
            f"expected at most {ARTIFACT_BYTES_MAX} bytes, found {len(data)}", kind=kind.name
        )
    if b"\x00" in data:
        raise ArtifactMalformed("expected text without NUL, found one", kind=kind.name)
    try:
        return parse_strict(data, limit=ARTIFACT_BYTES_MAX)
    except (CanonicalInvalid, DuplicateKey) as problem:
        raise ArtifactMalformed(f"{kind.name}: {problem.message}", kind=kind.name) from problem


def shape_of(home: Home, kind: Kind, document: Any) -> Refusal | None:
    """Why this content breaks its contract, with the JSON pointer; None when it fits."""
    try:
        home.contracts.validate(kind.contract, document)
    except RecordInvalid as problem:
        blank = problem.rule == "pattern" and not problem.found.strip("\"' \\tnr")
        code = "artifact.empty" if problem.rule in _EMPTY_RULES or blank else "artifact.malformed"
        return Refusal(
            code,
            f"A-10 contract {kind.contract}",
            problem.message.partition(": expected ")[2].partition(", found ")[0] or problem.rule,
            problem.found,
            f"mend {problem.pointer or '/'} and submit {kind.name} again",
            where=f"{kind.name}{problem.pointer}",
        )
    return None


def put_artifact(
    home: Home,
    batch: Batch,
    view: TaskView,
    kind: Kind,
    content: bytes | Json,
    author: Author,
    *,
    tree: str = "",
    covers: Sequence[Json] = (),
    problems: Sequence[Refusal] = (),
    sources: Sequence[Source] = (),
) -> RecordRef:
    """Write the file and add the artifact's record to a batch."""
    data = content if isinstance(content, bytes) else canonical_bytes(content)
    document = None if kind.form == "raw" else content
    shown = render(kind, data, document)
    relative = view_path(view, kind)
    _write_file(home.path / relative, shown)
    blob = home.blobs.put(data)
    return home.records.put(
        batch,
        "autopilot.artifact",
        {
            "request": author.request,
            "task": view.task,
            "run": view.run,
            "epoch": view.epoch,
            "attempt": view.attempt,
            "phase": str(kind.phase),
            "seen": view.newest,
            "kind": kind.name,
            "author": author.type,
            "session": author.id,
            "blob": blob,
            "contract": kind.contract,
            "path": relative,
            "view_sha256": address_of(shown),
            "tree": tree,
            "covers": list(covers),
            "problems": [problem.as_json() for problem in problems],
        },
        [Source("content", blob=blob), *sources],
    )


def view_path(view: TaskView, kind: Kind) -> str:
    """Where people find the file, inside the home; a later epoch has a folder of its own."""
    epoch = f"e{view.epoch}/" if view.epoch else ""
    return f"evidence/{view.task}/{epoch}{kind.phase}/{kind.file}"


def read_evidence(home: Home, view: TaskView, tree: str) -> tuple[Evidence, list[Refusal]]:
    """What stands behind every artifact now, and the ones whose content breaks its contract."""
    seen: dict[str, Seen] = {}
    broken: list[Refusal] = []
    for kind in KINDS:
        artifact = view.artifacts.get(kind.name)
        if artifact is None:
            continue
        file_sha256 = _file_hash(home.path / artifact.path)
        try:
            _, document = content_of(home, kind, artifact)
        except (BlobAltered, BlobAbsent) as problem:
            seen[kind.name] = Seen(None, problem.code, file_sha256)
            continue
        refusal = None if kind.form == "raw" else shape_of(home, kind, document)
        if refusal is not None:
            broken.append(refusal)
            document = None
        seen[kind.name] = Seen(document, "ok", file_sha256)
    return Evidence(tree, seen), broken


def restore_files(home: Home, view: TaskView) -> list[str]:
    """Write every evidence file again from its record; returns the paths that were not as recorded."""
    restored: list[str] = []
    for name in sorted(view.artifacts):
        artifact, kind = view.artifacts[name], KINDS_BY_NAME[name]
        if _file_hash(home.path / artifact.path) == artifact.view_sha256:
            continue
        _write_file(home.path / artifact.path, render(kind, *content_of(home, kind, artifact)))
        restored.append(artifact.path)
    return restored


def content_of(home: Home, kind: Kind, artifact: ArtifactView) -> tuple[bytes, Any]:
    """The bytes of an artifact, and what they say where it is no raw one."""
    data = home.blobs.get(artifact.blob)
    return data, None if kind.form == "raw" else parse_strict(data, limit=len(data))


def _file_hash(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        return ""
    return hash_file(path)


def _write_file(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    incoming = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with incoming.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    incoming.replace(path)
