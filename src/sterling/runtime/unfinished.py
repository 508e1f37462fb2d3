"""Unfinished work in a repository: what git tracks, read as it lies on the disk.

Python goes through `unfinished_python`; other text is searched for the words,
line by line, except that Markdown may quote them in code spans. Links, other
repositories inside, files that hold a zero byte and files that are gone are not
read. A folder that is no git repository cannot be judged.

`unfinished.toml` at the top of the repository excuses findings, one row for one
finding, with an owner, a reason, an issue and a last day. A row that is
incomplete, too old or matches nothing is a finding itself. The order is the
path's bytes, then the line, wherever the command is run.
"""

from __future__ import annotations

import datetime
import os
import re
import stat
import subprocess
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sterling.kernel.canonical import Json
from sterling.kernel.errors import EXIT_CANNOT_JUDGE, EXIT_USAGE, SterlingError
from sterling.kernel.hashing import address_of
from sterling.runtime.reasons import Reason
from sterling.runtime.unfinished_python import WORDS, is_suspect, read_python

__all__ = [
    "LIST_NAME",
    "Report",
    "Unfinished",
    "UnfinishedListUnreadable",
    "UnfinishedNoRepository",
    "excuse",
    "line_sha256",
    "scan_repository",
]

LIST_NAME = "unfinished.toml"
_KEYS = ("path", "rule", "line_sha256", "owner", "reason", "issue", "expires")
_TEXT_CHARACTERS_MAX = 200
_BINARY_BYTES = 8000  # As far as git looks for a zero byte.
_WORD = re.compile(rb"\b(?:" + b"|".join(WORDS) + rb")\b")
_CODE_SPAN = re.compile(rb"(`+)[^`].*?\1")
_REGULAR = (b"100644", b"100755")


class UnfinishedNoRepository(SterlingError):
    """There is no git repository here, or no git, so nobody can say what is tracked."""

    code = "scan.no-repository"
    hint = "Run it inside a git repository, or name one: `sterling scan unfinished --repo FOLDER`."
    exit = EXIT_CANNOT_JUDGE


class UnfinishedListUnreadable(SterlingError):
    """The list of excused findings is not TOML of rows."""

    code = "scan.list-unreadable"
    hint = "Mend unfinished.toml as docs/reference/unfinished.md says, then run `sterling scan unfinished`."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Unfinished:
    """One place. `text` is its line without the space around it, cut to a readable length."""

    path: str
    line: int
    rule: str
    text: str
    line_sha256: str
    code: Reason = Reason.SCAN_FOUND

    @property
    def shown(self) -> str:
        """The path for people and programs; bytes that are no UTF-8 become visible escapes."""
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")

    def as_json(self) -> Json:
        return {
            "code": str(self.code),
            "line": self.line,
            "line_sha256": self.line_sha256,
            "path": self.shown,
            "rule": self.rule,
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What stands, and how much was read and excused."""

    findings: tuple[Unfinished, ...]
    files: int
    excused: int

    def as_json(self) -> dict[str, Any]:
        return {
            "excused": self.excused,
            "files": self.files,
            "findings": [finding.as_json() for finding in self.findings],
            "verdict": "found" if self.findings else "ok",
        }


def scan_repository(folder: Path, today: datetime.date) -> Report:
    """Read every tracked file of the repository that holds `folder`.

    Raises:
        UnfinishedNoRepository: git is missing, or knows no repository here.
        UnfinishedListUnreadable: the list of excuses cannot be read.
    """
    top = os.fsencode(_git(folder, "rev-parse", "--show-toplevel").removesuffix(b"\n"))
    found: list[Unfinished] = []
    files = 0
    excuses = b""
    for path in _tracked(Path(os.fsdecode(top))):
        try:
            raw = _content(top + b"/" + path)
        except OSError as problem:
            found.append(_place(path, 1, "unreadable", str(problem.strerror).encode()))
            continue
        if raw is None:
            continue
        files += 1
        if path == LIST_NAME.encode():
            excuses = raw
        found.extend(_read(path, raw))
    left, excused = excuse(found, _rows(excuses), today)
    return Report(tuple(left), files, excused)


def excuse(
    found: Sequence[Unfinished], rows: Sequence[tuple[int, Mapping[str, Any]]], today: datetime.date
) -> tuple[list[Unfinished], int]:
    """(what stands with the rows that excuse nothing, how many were excused). One row excuses one finding."""
    waiting: Counter[tuple[str, str, str]] = Counter(_key(one) for one in found)
    excused: Counter[tuple[str, str, str]] = Counter()
    about_rows = []
    for line, row in rows:
        lacking = [key for key in _KEYS if not _is_said(row, key)]
        if lacking:
            about_rows.append(_about(line, "row-incomplete", f"expected {', '.join(lacking)}", row))
            continue
        key = (row["path"], row["rule"], row["line_sha256"])
        if row["expires"] < today:
            about_rows.append(
                _about(line, "row-expired", f"expected a day to come, found {row['expires']}", row)
            )
        elif excused[key] < waiting[key]:
            excused[key] += 1
        else:
            about_rows.append(_about(line, "row-unmatched", "expected a finding that it excuses", row))
    left = []
    used: Counter[tuple[str, str, str]] = Counter()
    for one in found:
        used[_key(one)] += 1
        if used[_key(one)] > excused[_key(one)]:
            left.append(one)
    left.extend(about_rows)
    return sorted(left, key=lambda one: (os.fsencode(one.path), one.line, one.rule)), excused.total()


def line_sha256(line: bytes) -> str:
    """The hash that a row names: of the line without the space around it."""
    return address_of(line.strip())


def _key(one: Unfinished) -> tuple[str, str, str]:
    return one.shown, one.rule, one.line_sha256


def _is_said(row: Mapping[str, Any], key: str) -> bool:
    value = row.get(key)
    if key == "expires":
        return isinstance(value, datetime.date) and not isinstance(value, datetime.datetime)
    return isinstance(value, str) and bool(value.strip())


_ROW_CODES = {
    "row-expired": Reason.SCAN_EXPIRED,
    "row-incomplete": Reason.SCAN_UNMATCHED,
    "row-unmatched": Reason.SCAN_UNMATCHED,
}


def _about(line: int, rule: str, because: str, row: Mapping[str, Any]) -> Unfinished:
    text = f"{because}: {row.get('path', '')} {row.get('rule', '')}"[:_TEXT_CHARACTERS_MAX]
    return Unfinished(LIST_NAME, line, rule, text, line_sha256(text.encode()), _ROW_CODES[rule])


def _rows(raw: bytes) -> list[tuple[int, Mapping[str, Any]]]:
    """(line, row) of the list; a row's line is that of its `[[excused]]`."""
    try:
        document = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as problem:
        raise UnfinishedListUnreadable(f"expected TOML in {LIST_NAME}, found {problem}") from problem
    rows = document.pop("excused", [])
    if document or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UnfinishedListUnreadable(f"expected only rows [[excused]] in {LIST_NAME}, found other keys")
    lines = [
        number
        for number, line in enumerate(raw.splitlines(), 1)
        if re.match(rb"\s*\[\[\s*excused\s*\]\]", line)
    ]
    return list(zip([*lines, *[1] * len(rows)], rows, strict=False))


def _tracked(top: Path) -> list[bytes]:
    """Regular files that git tracks, by path bytes."""
    rows = _git(top, "ls-files", "-z", "--stage").split(b"\0")
    return sorted({row.partition(b"\t")[2] for row in rows if row.startswith(_REGULAR)})


def _git(folder: Path, *words: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=False)
    except OSError as problem:
        raise UnfinishedNoRepository(f"expected git, found {problem}") from problem
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise UnfinishedNoRepository(f"expected a git repository at {folder}, found: {said[:300]}")
    return done.stdout


def _content(path: bytes) -> bytes | None:
    """The file, or None for what is gone, is no regular file any more, or is not text."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        if os.path.islink(path):
            return None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        return None
    with os.fdopen(handle, "rb", buffering=0) as file:
        raw = file.readall()
    return None if b"\0" in raw[:_BINARY_BYTES] else raw


def _read(path: bytes, raw: bytes) -> list[Unfinished]:
    first = raw[: raw.find(b"\n")] if raw.startswith(b"#!") else b""
    if path.endswith((b".py", b".pyi")) or b"python" in first:
        places = read_python(raw) if is_suspect(raw) else []
    elif any(word in raw for word in WORDS):
        places = _words(raw, quotes=path.endswith(b".md"))
    else:
        return []
    lines = raw.split(b"\n") if places else []
    return [_place(path, line, rule, lines[line - 1] if line <= len(lines) else b"") for line, rule in places]


def _place(path: bytes, line: int, rule: str, words: bytes) -> Unfinished:
    text = words.strip().decode("utf-8", "backslashreplace")[:_TEXT_CHARACTERS_MAX]
    return Unfinished(os.fsdecode(path), line, rule, text, line_sha256(words))


def _words(raw: bytes, *, quotes: bool) -> list[tuple[int, str]]:
    places = set()
    for number, line in enumerate(raw.split(b"\n"), 1):
        for word in _WORD.findall(_CODE_SPAN.sub(b"", line) if quotes else line):
            places.add((number, WORDS[word]))
    return sorted(places)
