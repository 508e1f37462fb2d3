"""Is it really something else this time? The identity of a plan and of a patch.

After a failure the next plan must differ in its steps or files, and a patch that
was rejected once is known again, however its hunks are ordered or shifted. Both
identities are hashes over a normal form: ids, whitespace, line numbers, context,
blank lines and file order do not count; one changed word does.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sterling.kernel.canonical import Json, canonical_bytes
from sterling.kernel.hashing import address_of

__all__ = ["added_lines", "patch_identity", "plan_identity"]

_HUNK = re.compile(rb"^@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_MODES = (b"new file mode", b"deleted file mode", b"old mode", b"new mode")


def plan_identity(plan: Mapping[str, Any], file_map: Mapping[str, Any]) -> str:
    """The hash of a plan's steps and files, whatever their ids, spacing and order."""
    steps = sorted(
        canonical_bytes({"text": _plain(str(step["text"])), "covers": sorted(step["covers"])})
        for step in plan["steps"]
    )
    files = sorted((str(each["path"]), str(each["state"])) for each in file_map["files"])
    form: Json = {
        "files": [list(pair) for pair in files],
        "steps": [step.decode("utf-8") for step in steps],
    }
    return address_of(canonical_bytes(form))


def patch_identity(diff: bytes) -> str:
    """The hash of what a git diff changes, without where and in which order it changes it."""
    files: dict[str, list[str]] = {}
    name = ""
    lines = diff.split(b"\n")
    place = 0
    while place < len(lines):
        line = lines[place]
        place += 1
        if line.startswith(b"diff --git "):
            name = line[len(b"diff --git ") :].decode("utf-8", "backslashreplace")
            files[name] = []
        elif line.startswith(_MODES) or line.startswith((b"literal ", b"delta ")):
            files.setdefault(name, []).append(_text(line))
        elif match := _HUNK.match(line):
            hunk, place = _read_hunk(lines, place, int(match[1] or 1), int(match[3] or 1))
            if hunk:
                files.setdefault(name, []).append(hunk)
        elif line and not line.startswith((b"index ", b"--- ", b"+++ ", b"similarity ", b"GIT binary")):
            files.setdefault(name, []).append(_text(line))
    form = [[name, sorted(files[name])] for name in sorted(files)]
    return address_of(canonical_bytes(form))


def added_lines(diff: bytes) -> dict[str, frozenset[int]]:
    """For each file of a git diff the numbers of the lines that it adds or changes."""
    found: dict[str, set[int]] = {}
    name, number, left = "", 0, 0
    for line in diff.split(b"\n"):
        if left <= 0:
            if line.startswith(b"+++ b/"):
                name = line[len(b"+++ b/") :].decode("utf-8", "backslashreplace").rstrip("\t")
            elif match := _HUNK.match(line):
                number, left = int(match[2]), int(match[3] or 1)
        elif line.startswith(b"+"):
            found.setdefault(name, set()).add(number)
            number, left = number + 1, left - 1
        elif line.startswith(b" "):
            number, left = number + 1, left - 1
    return {path: frozenset(lines) for path, lines in sorted(found.items())}


def _read_hunk(lines: list[bytes], place: int, removed: int, added: int) -> tuple[str, int]:
    """The changed lines of one hunk, blank-only ones left out, and the place after it."""
    changed: list[bytes] = []
    while place < len(lines) and (removed > 0 or added > 0):
        line = lines[place]
        place += 1
        sign = line[:1]
        if sign == b"-":
            removed -= 1
        elif sign == b"+":
            added -= 1
        elif sign == b"\\":
            continue
        else:
            removed, added = removed - 1, added - 1
            continue
        if line[1:].strip():
            changed.append(line)
    return _text(b"\n".join(changed)), place


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _plain(text: str) -> str:
    return " ".join(text.split()).lower()
