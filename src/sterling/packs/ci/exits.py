"""Exit classes: what a runner's raw end means, and what each class may lead to.

`PROFILES` maps raw statuses runner by runner; `EXIT_RULES` says what a class
does to the verdict. Both tables stand in `docs/reference/ci-codes.md` under
test. A status that a profile does not list is `unknown`, never a guess.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["CLASSES", "CLASS_WORDS", "EXIT_RULES", "PROFILES", "ExitRule", "ProcessEnd", "classify"]


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """How the runner's process ended: a status, or a signal, or one of our limits, or no start at all."""

    status: int | None = None
    signal: int | None = None
    limit: str = ""
    started: bool = True


@dataclass(frozen=True, slots=True)
class ExitRule:
    """What a class does by itself: on to the delta, or an outcome with its reason code."""

    effect: str
    code: str = ""


PROFILES: Final[Mapping[str, Mapping[int, str]]] = {
    "pytest": {
        0: "ok",
        1: "tests_failed",
        2: "interrupted",
        3: "internal",
        4: "usage",
        5: "none_collected",
    },
    "unittest": {0: "ok", 1: "tests_failed", 2: "usage", 5: "none_collected"},
    "generic": {0: "ok", 1: "tests_failed"},
}

EXIT_RULES: Final[Mapping[str, ExitRule]] = {
    "ok": ExitRule("delta"),
    "tests_failed": ExitRule("delta"),
    "collect_failed": ExitRule("failed", "ci.collect-error"),
    "interrupted": ExitRule("failed", "ci.interrupted"),
    "none_collected": ExitRule("failed", "ci.no-tests-ran"),
    "timed_out": ExitRule("failed", "ci.timed-out"),
    "out_of_memory": ExitRule("failed", "ci.out-of-memory"),
    "crashed": ExitRule("failed", "ci.crashed"),
    "killed": ExitRule("failed", "ci.killed"),
    "internal": ExitRule("na", "ci.harness-fault"),
    "usage": ExitRule("na", "ci.harness-fault"),
    "not_started": ExitRule("na", "ci.not-started"),
    "unknown": ExitRule("na", "ci.exit-unknown"),
}
CLASSES = tuple(EXIT_RULES)
CLASS_WORDS: Final[Mapping[str, str]] = {
    "ok": "The runner reported success",
    "tests_failed": "The runner reported failing tests",
    "collect_failed": "Files could not be loaded, so the run stopped",
    "interrupted": "The run was interrupted",
    "none_collected": "No test was found",
    "timed_out": "The run passed its time limit",
    "out_of_memory": "The run passed its memory limit",
    "crashed": "The runner crashed",
    "killed": "The run was killed",
    "internal": "The runner broke inside",
    "usage": "The runner refused its arguments",
    "not_started": "The command did not start",
    "unknown": "The runner ended in a way that is not known here",
}

_NOT_STARTED = frozenset({126, 127})
_CRASH_SIGNALS = frozenset(
    int(number) for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
)
# Limits by the names the runtime's command runner gives them.
_LIMIT_CLASSES: Final[Mapping[str, str]] = {
    "limit.wall": "timed_out",
    "limit.cpu": "timed_out",
    "limit.memory": "out_of_memory",
}


def classify(runner: str, end: ProcessEnd, *, collectors_failed: bool = False) -> str:
    """The class of an end under this runner's profile.

    A limit of ours comes before the signal it was enforced with, and a signal
    before any status. Status 2 of pytest covers both an interrupt and broken
    files; a failed collector tells them apart.
    """
    if not end.started:
        return "not_started"
    if end.limit:
        return _LIMIT_CLASSES.get(end.limit, "killed")
    if end.signal is not None:
        return "crashed" if end.signal in _CRASH_SIGNALS else "killed"
    if end.status is None:
        return "unknown"
    if end.status in _NOT_STARTED:
        return "not_started"
    found = PROFILES.get(runner, PROFILES["generic"]).get(end.status, "unknown")
    return "collect_failed" if found == "interrupted" and collectors_failed else found
