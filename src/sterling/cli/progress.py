"""Progress of long work, on standard error: a bar on a terminal, JSON lines for programs.

Every step that finishes is said exactly once; other lines come at most four
times a second.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Progress", "follow"]

_INTERVAL_S = 0.25


class Progress(Protocol):
    """What work calls as it goes on."""

    def advance(self, count: int = 1, label: str = "") -> None:
        """`count` more of the planned steps are done; `label` names the last of them."""

    def wait(self, because: str) -> None:
        """Nothing moves for now, and this is why."""


@contextmanager
def follow(total: int, label: str, style: str) -> Iterator[Progress]:
    """Show progress in a style: auto, bar, plain, json or none."""
    chosen = _choose(style)
    if chosen == "bar":
        with _bar(total, label) as progress:
            yield progress
    elif chosen == "none":
        yield _Silent()
    else:
        lines = _Lines(total, label, as_json=chosen == "json")
        yield lines
        lines.end()


def _choose(style: str) -> str:
    if style != "auto":
        return style
    if not sys.stderr.isatty():
        return "json"
    return "plain" if os.environ.get("TERM") == "dumb" else "bar"


class _Silent:
    def advance(self, count: int = 1, label: str = "") -> None:
        return None

    def wait(self, because: str) -> None:
        return None


class _Lines:
    def __init__(self, total: int, label: str, *, as_json: bool) -> None:
        self._total, self._label, self._as_json = total, label, as_json
        self._done, self._shown = 0, -1.0

    def advance(self, count: int = 1, label: str = "") -> None:
        self._done += count
        now = time.monotonic()
        if label or now - self._shown >= _INTERVAL_S:
            self._shown = now
            self._write(label, "")

    def wait(self, because: str) -> None:
        self._write("", because)

    def end(self) -> None:
        self._write("", "")

    def _write(self, step: str, waits: str) -> None:
        if self._as_json:
            line = {
                "contract": "cli.progress@1.0",
                "done": self._done,
                "phase": self._label,
                "planned": self._total,
                "step": step,
                "waits": waits,
            }
            print(json.dumps(line, sort_keys=True), file=sys.stderr, flush=True)
        else:
            words = f"{self._label} {self._done}/{self._total} {step}{waits}".rstrip()
            print(words, file=sys.stderr, flush=True)


@contextmanager
def _bar(total: int, label: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(label, total=total)

        class Bar:
            def advance(self, count: int = 1, label: str = "") -> None:
                shown.advance(task, count)

            def wait(self, because: str) -> None:
                shown.update(task, description=f"{label}: waits, {because}")

        yield Bar()
