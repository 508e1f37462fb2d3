"""What a plugin's step did, written down as it happens, so that a crash does not lose it.

The provider writes one JSON line for each hypothesis registered, each access
used, each access refused, and for findings that do not fit into a message. The
pipeline reads the lines when the step has ended, however it ended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sterling.kernel.canonical import Json

__all__ = ["Journal", "Told", "read_journal"]


class Journal:
    """The worker's end: every line is on its way to the file before the call returns."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, type_: str, **fields: Json) -> None:
        self._file.write(json.dumps({"type": type_, **fields}, ensure_ascii=False, sort_keys=True) + "\n")


@dataclass(slots=True)
class Told:
    """The pipeline's end: what the lines say, taken together."""

    registered: dict[str, Mapping[str, Json]] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    denied: list[tuple[str, str]] = field(default_factory=list)
    findings: list[Mapping[str, Json]] = field(default_factory=list)


def read_journal(path: Path) -> Told:
    """Everything a step wrote; a line that a crash tore is left out."""
    told = Told()
    if not path.exists():
        return told
    for text in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not text.endswith("\n"):
            break
        line = json.loads(text)
        if line["type"] == "registered":
            told.registered[line["id"]] = line["key"]
        elif line["type"] == "used":
            told.used[line["access"]] = told.used.get(line["access"], 0) + line["times"]
        elif line["type"] == "denied":
            told.denied.append((line["code"], line["asked"]))
        elif line["type"] == "finding":
            told.findings.append(line["finding"])
    return told
