"""Facts: what one test run is known to have done, and how far each source could tell.

A facet that a source could not state is `absent` or `partial`. It is never read
as zero or as an empty set: asking `Facts` for a hash whose facets are not
complete gives an empty string, and the gates ask the facets before the counts.

Pure: readers of reports build `Reading`s, `reports/reconcile.py` makes one
`Facts` of them, and nothing here opens a file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from sterling.kernel.canonical import Json
from sterling.kernel.hashing import tagged_hash

__all__ = [
    "ABSENT",
    "COMPLETE",
    "EXCERPT_LETTERS",
    "FACETS",
    "FAILING",
    "OUTCOMES",
    "PARTIAL",
    "Collector",
    "Facts",
    "Pointer",
    "Reading",
    "Result",
    "clean_text",
    "excerpt",
    "facts_from_json",
    "fold",
    "tally_of",
    "with_fault",
    "worst",
]

# Worst first: results that share an id fold to the first of these that occurs.
OUTCOMES = ("error", "failed", "xfailed", "skipped", "xpassed", "passed")
FAILING = frozenset({"error", "failed"})
_PASSES = frozenset({"passed", "xpassed"})
_RANK = {outcome: rank for rank, outcome in enumerate(OUTCOMES)}

COMPLETE, PARTIAL, ABSENT = "complete", "partial", "absent"
FACETS = ("exit", "tally", "failing_ids", "all_ids", "collectors", "skip_ids", "xpass", "signatures")

EXCERPT_LETTERS = 200

_GATE_TAG = b"sterling/ci.gate/1"
_CORE_TAG = b"sterling/ci.core/1"
_DETAIL_TAG = b"sterling/ci.detail/1"


@dataclass(frozen=True, slots=True)
class Result:
    """What one test did. `occurrences` lists the outcomes that were folded, worst first, if several."""

    outcome: str
    signature: str = ""
    cause: str = ""
    message: str = ""
    duration_us: int | None = None
    attempts: int = 1
    occurrences: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Json]:
        document: dict[str, Json] = {"outcome": self.outcome}
        for name in ("signature", "cause", "message"):
            if value := getattr(self, name):
                document[name] = value
        if self.duration_us is not None:
            document["duration_us"] = self.duration_us
        if self.attempts != 1:
            document["attempts"] = self.attempts
        if self.occurrences:
            document["occurrences"] = list(self.occurrences)
        return document


@dataclass(frozen=True, slots=True)
class Collector:
    """A file or package the runner could not load."""

    signature: str = ""
    cause: str = ""
    message: str = ""

    def as_json(self) -> dict[str, Json]:
        return {"signature": self.signature, "cause": self.cause, "message": self.message}


@dataclass(frozen=True, slots=True)
class Pointer:
    """Where something was read: the bytes, and the name they were found under."""

    name: str
    blob: str
    shape: str
    size_bytes: int

    def as_json(self) -> dict[str, Json]:
        return {"name": self.name, "blob": self.blob, "shape": self.shape, "size_bytes": self.size_bytes}


@dataclass(frozen=True, slots=True)
class Reading:
    """What one report states. `fault` is a reason code when the report carries no verdict."""

    shape: str
    runner: str
    exit_raw: int | None
    tests: Mapping[str, Result]
    collectors: Mapping[str, Collector]
    facets: Mapping[str, str]
    notes: tuple[str, ...] = ()
    fault: str = ""
    because: str = ""


@dataclass(frozen=True)
class Facts:
    """One run, as far as it is known. `fault` is a reason code when nothing may be judged on it."""

    runner: str
    exit_raw: int | None
    exit_signal: int | None
    exit_class: str
    tests: Mapping[str, Result]
    collectors: Mapping[str, Collector]
    facets: Mapping[str, str]
    sources: tuple[Pointer, ...] = ()
    notes: tuple[str, ...] = ()
    fault: str = ""
    because: str = ""
    tally: Mapping[str, int] = field(default_factory=dict)

    def complete(self, *names: str) -> bool:
        """Whether every one of these facets is complete and no fault stands."""
        return not self.fault and all(self.facets.get(name) == COMPLETE for name in names)

    @cached_property
    def failing(self) -> list[str]:
        """Ids that failed or broke, sorted."""
        return sorted(name for name, result in self.tests.items() if result.outcome in FAILING)

    @cached_property
    def gate_hash(self) -> str:
        """Hash of exit class, folded tally, failing ids and failed collectors; empty unless all are known."""
        if not self.complete("exit", "tally", "failing_ids", "collectors"):
            return ""
        tally = sorted(_without_xpass(self.tally).items())
        return _hash(_GATE_TAG, [self.exit_class, tally, self.failing, sorted(self.collectors)])

    @cached_property
    def core_hash(self) -> str:
        """Hash of every id with its outcome, an unexpected pass being a pass; empty unless all are known."""
        if not self.complete("all_ids", "skip_ids", "failing_ids"):
            return ""
        names = sorted(self.tests)
        # Naming only what did not pass says the same as naming everything, at half the cost.
        other = [
            (name, self.tests[name].outcome) for name in names if self.tests[name].outcome not in _PASSES
        ]
        return _hash(_CORE_TAG, [names, other])

    @cached_property
    def detail_hash(self) -> str:
        """The core hash with the signatures of what failed; empty unless those are known too."""
        if not self.core_hash or not self.complete("collectors", "signatures"):
            return ""
        tests = sorted((name, result.signature) for name, result in self.tests.items() if result.signature)
        collectors = sorted((name, found.signature) for name, found in self.collectors.items())
        return _hash(_DETAIL_TAG, [self.core_hash, tests, collectors])

    def results_json(self) -> dict[str, Json]:
        """The part that grows with the suite: every test and every failed collector."""
        return {
            "tests": {name: result.as_json() for name, result in sorted(self.tests.items())},
            "collectors": {name: found.as_json() for name, found in sorted(self.collectors.items())},
        }

    def summary_json(self) -> dict[str, Json]:
        """Everything but the results: what a record holds inline."""
        return {
            "runner": self.runner,
            "exit": {"raw": self.exit_raw, "signal": self.exit_signal, "class": self.exit_class},
            "facets": {name: self.facets.get(name, ABSENT) for name in FACETS},
            "tally": {name: self.tally[name] for name in sorted(self.tally)},
            "gate_hash": self.gate_hash,
            "core_hash": self.core_hash,
            "detail_hash": self.detail_hash,
            "sources": [source.as_json() for source in self.sources],
            "notes": list(self.notes),
            "fault": self.fault,
            "because": self.because,
        }


def facts_from_json(summary: Json, results: Json) -> Facts:
    """The facts that `summary_json` and `results_json` were made from."""
    return Facts(
        runner=summary["runner"],
        exit_raw=summary["exit"]["raw"],
        exit_signal=summary["exit"]["signal"],
        exit_class=summary["exit"]["class"],
        tests={name: _result(value) for name, value in results["tests"].items()},
        collectors={name: Collector(**value) for name, value in results["collectors"].items()},
        facets=dict(summary["facets"]),
        sources=tuple(Pointer(**source) for source in summary["sources"]),
        notes=tuple(summary["notes"]),
        fault=summary["fault"],
        because=summary["because"],
        tally=dict(summary["tally"]),
    )


def with_fault(facts: Facts, code: str, because: str) -> Facts:
    """The facts with a fault put on them: what was complete is partial now."""
    facets = {name: PARTIAL if state == COMPLETE else state for name, state in facts.facets.items()}
    return replace(facts, facets=facets, fault=code, because=because)


def worst(outcomes: Iterable[str]) -> str:
    """The worst of these outcomes."""
    return min(outcomes, key=_RANK.__getitem__)


def fold(first: Result, second: Result) -> Result:
    """Two results under one id as one; the worse speaks, and what was folded stays listed.

    Among equals the later one gives signature and message, as a runner's last
    word on a test is its own summary of it.
    """
    speaker = first if _RANK[first.outcome] < _RANK[second.outcome] else second
    listed = [*(first.occurrences or (first.outcome,)), *(second.occurrences or (second.outcome,))]
    times = [value for value in (first.duration_us, second.duration_us) if value is not None]
    return replace(
        speaker,
        occurrences=tuple(sorted(listed, key=_RANK.__getitem__)),
        duration_us=sum(times) if times else None,
        attempts=max(first.attempts, second.attempts),
    )


def tally_of(tests: Mapping[str, Result]) -> dict[str, int]:
    """How many ids ended in each outcome; outcomes that did not occur are left out."""
    return dict(sorted(Counter(result.outcome for result in tests.values()).items()))


def clean_text(text: str) -> str:
    """The text with lone surrogates spelled out, so that every id can be hashed and written."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def excerpt(text: str, letters: int = EXCERPT_LETTERS) -> str:
    """The first letters of a message on one line; the whole stays in the report's blob."""
    line = " ".join(clean_text(text[: letters * 8]).split())
    return line if len(line) <= letters else line[: letters - 1] + "…"


def _result(value: Json) -> Result:
    return Result(**{**value, "occurrences": tuple(value.get("occurrences", ()))})


def _without_xpass(tally: Mapping[str, int]) -> dict[str, int]:
    folded = {name: count for name, count in tally.items() if name != "xpassed"}
    if extra := tally.get("xpassed", 0):
        folded["passed"] = folded.get("passed", 0) + extra
    return folded


def _hash(tag: bytes, value: Json) -> str:
    # For lists of text and integers this equals the RFC 8785 form (a property
    # test compares them) at a third of its cost.
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    return tagged_hash(tag, data).hex()
