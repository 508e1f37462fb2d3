"""Which paths a task may touch, and how large its change may be.

Paths are relative to the tree, with forward slashes. A pattern is a path, or
holds `*` (within one part), `**` (any number of parts) and `?`. Exact equality
with a bound passes, one over refuses.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sterling.packs.autopilot.refusal import Refusal

__all__ = ["Change", "FileChange", "check_change", "is_inside", "is_safe_path", "risk_of"]

_RISKS = ("low", "medium", "high")
_LOW_FILES_MAX, _LOW_LINES_MAX = 3, 40


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file of a patch. `change` is added, modified or deleted; blob is empty when deleted."""

    path: str
    change: str
    added: int
    removed: int
    blob: str = ""
    mode: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What a patch does to the base tree."""

    files: tuple[FileChange, ...]
    patch_sha256: str = ""

    @property
    def lines(self) -> int:
        return sum(each.added + each.removed for each in self.files)

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(each.path for each in self.files)


def is_safe_path(path: str) -> bool:
    """Whether a path stays inside the tree: relative, no `..`, no `.git`, no NUL or backslash."""
    parts = path.split("/")
    if not path or path.startswith("/") or "\\" in path or "\x00" in path:
        return False
    return all(part not in ("", ".", "..") and part.lower() != ".git" for part in parts)


def is_inside(path: str, patterns: Iterable[str]) -> bool:
    """Whether any pattern covers the path."""
    return is_safe_path(path) and any(_compiled(pattern).fullmatch(path) for pattern in patterns)


def check_change(
    change: Change,
    *,
    file_map: Mapping[str, Any],
    budget: Mapping[str, Any],
    scope: Sequence[str],
    protected: Sequence[str],
) -> list[Refusal]:
    """Why a patch is larger or elsewhere than it was planned."""
    return [*_check_paths(change, file_map, budget, scope, protected), *_check_size(change, budget)]


def risk_of(change: Change, protected: Sequence[str], stated: str) -> str:
    """The risk of a patch: its size and places decide, and the task's own word may only raise it."""
    computed = "low"
    if len(change.files) > _LOW_FILES_MAX or change.lines > _LOW_LINES_MAX:
        computed = "medium"
    if any(is_inside(path, protected) for path in change.paths):
        computed = "high"
    return max(computed, stated, key=_RISKS.index)


def _check_paths(
    change: Change,
    file_map: Mapping[str, Any],
    budget: Mapping[str, Any],
    scope: Sequence[str],
    protected: Sequence[str],
) -> Iterator[Refusal]:
    planned = {str(each["path"]) for each in file_map["files"]}
    for path in change.paths:
        if not is_inside(path, scope) or is_inside(path, protected):
            yield _refusal("patch.out-of-scope", "a path in scope and not protected", path, path)
        elif path not in planned:
            yield _refusal("patch.out-of-scope", "a path of the file map", path, path)
        elif not is_inside(path, budget["paths"]):
            yield _refusal("budget.paths", f"paths {', '.join(budget['paths'])}", path, path)


def _check_size(change: Change, budget: Mapping[str, Any]) -> Iterator[Refusal]:
    if len(change.files) > budget["files"]:
        yield _refusal("budget.files", f"at most {budget['files']} files", str(len(change.files)), "files")
    if change.lines > budget["lines"]:
        yield _refusal("budget.lines", f"at most {budget['lines']} lines", str(change.lines), "lines")


def _refusal(code: str, expected: str, found: str, where: str) -> Refusal:
    how = "shrink the patch, or go back to PLAN for another budget or map"
    return Refusal(code, "A-14 change budget", expected, found, how, where=where)


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    pieces: list[str] = []
    place = 0
    while place < len(pattern):
        if pattern.startswith("**/", place):
            pieces.append("(?:[^/]+/)*")
            place += 3
        elif pattern.startswith("**", place):
            pieces.append(".*")
            place += 2
        elif pattern[place] == "*":
            pieces.append("[^/]*")
            place += 1
        elif pattern[place] == "?":
            pieces.append("[^/]")
            place += 1
        else:
            pieces.append(re.escape(pattern[place]))
            place += 1
    return re.compile("".join(pieces), re.DOTALL)
