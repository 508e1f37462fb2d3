"""Console blocks in documents: find them, run them, compare what they print.

A block is fenced as `console`. A line that starts with `$ ` is a command; the
lines up to the next command are what it prints, on either stream, in a terminal
of 110 columns without colours. Ids, hashes, times, durations and sizes are
masked on both sides, and a line `...` stands for any number of lines.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Example", "compare", "examples", "mask", "run"]

_FENCE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_MASKS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b(run|home|r|task|t)-[a-z2-7]{6,26}\b…?"), r"\1-ID"),
    (re.compile(r"\b[0-9a-f]{10,64}\b…?"), "HASH"),
    (re.compile(r"\b[A-Za-z0-9+/]{43}="), "HASH"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?( ?[A-Z]{2,5}|Z)?"), "TIME"),
    (re.compile(r"\b\d+(\.\d+)? ?(ms|s|min)\b"), "DURATION"),
    (re.compile(r"(/[\w.-]+)*/(tmp|pytest-[\w-]+|var)(/[\w.-]+)+"), "PATH"),
    (re.compile(r"\b\d+ (entries|blobs|claims)\b"), r"N \1"),
    (re.compile(r"\banchored to \d+\b"), "anchored to N"),
    (re.compile(r"\bpid \d+\b"), "pid N"),
)


@dataclass(frozen=True, slots=True)
class Example:
    """One command of a document, with the lines it is said to print."""

    line: int
    command: str
    expected: tuple[str, ...]


def examples(text: str) -> Iterator[Example]:
    """Every command in the console blocks of a document, in order."""
    for block in _FENCE.finditer(text):
        first = text[: block.start(1)].count("\n") + 1
        command, expected, line = "", list[str](), first
        for number, row in enumerate(block.group(1).splitlines(), start=first):
            if row.startswith("$ "):
                if command:
                    yield Example(line, command, tuple(expected))
                command, expected, line = row[2:], [], number
            else:
                expected.append(row)
        if command:
            yield Example(line, command, tuple(expected))


def run(example: Example, *, folder: Path, environment: dict[str, str]) -> str:
    """What the command prints, in a shell in `folder`, both streams as they come."""
    done = subprocess.run(
        ["bash", "-c", example.command],
        cwd=folder,
        env={**os.environ, **environment, "COLUMNS": "110", "NO_COLOR": "1", "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout


def mask(text: str) -> str:
    """The text with everything that differs from run to run replaced by a word."""
    for pattern, word in _MASKS:
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def compare(expected: Sequence[str], printed: str) -> str:
    """Empty when the masked lines agree (`...` matches any lines), else the first difference."""
    wanted = [mask(line) for line in expected]
    found = mask(printed).splitlines()
    return _match(wanted, found)


def _match(wanted: list[str], found: list[str]) -> str:
    if not wanted:
        return "" if not found else f"expected no more lines, found {found[0]!r}"
    if wanted[0] == "...":
        tails = [_match(wanted[1:], found[skip:]) for skip in range(len(found) + 1)]
        return "" if "" in tails else tails[0]
    if not found:
        return f"expected {wanted[0]!r}, found no more lines"
    if wanted[0] != found[0]:
        return f"expected {wanted[0]!r}, found {found[0]!r}"
    return _match(wanted[1:], found[1:])
