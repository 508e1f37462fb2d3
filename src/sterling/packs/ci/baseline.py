"""The baseline: what the base of a change did under the same command.

A baseline is used only if it is healthy, and health is a gate of its own: a run
that was cut short, saw no test or cannot name its tests is kept for reading and
never compared with. `key` names what it holds for; `differences` says why two
sides cannot be compared.

Pure: facts and key parts in, judgements out. `baseline_file.py` writes and reads
the one-file form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sterling.kernel.canonical import Json, canonical_bytes
from sterling.kernel.hashing import tagged_hash
from sterling.packs.ci.exits import CLASS_WORDS
from sterling.packs.ci.facts import Facts, facts_from_json

__all__ = [
    "FACTS_VERSION",
    "Baseline",
    "KeyParts",
    "baseline_from_json",
    "differences",
    "health_of",
    "unstable_ids",
]

FACTS_VERSION = 1
_TAG = b"sterling/ci.baseline-key/1"
_HEALTHY_CLASSES = ("ok", "tests_failed")
_NEEDED_FACETS = ("exit", "tally", "failing_ids", "all_ids", "skip_ids", "collectors")


@dataclass(frozen=True, slots=True)
class KeyParts:
    """What a baseline holds for. An empty part is one that nobody stated."""

    tree: str
    lock: str
    argv: tuple[str, ...]
    version: str
    platform: str
    plugins: tuple[str, ...]

    @property
    def key(self) -> str:
        """64 hex digits over all parts and the version of the facts."""
        return tagged_hash(_TAG, canonical_bytes({**self.as_json(), "facts_version": FACTS_VERSION})).hex()

    def as_json(self) -> dict[str, Json]:
        return {
            "tree": self.tree,
            "lock": self.lock,
            "argv": list(self.argv),
            "version": self.version,
            "platform": self.platform,
            "plugins": list(self.plugins),
        }


@dataclass(frozen=True, slots=True)
class Baseline:
    """Facts of a base, whether they may be used, and what they hold for."""

    parts: KeyParts
    facts: Facts
    healthy: bool
    why: str
    unstable: tuple[str, ...] = ()
    commit: str = ""
    dirty: bool = False
    policy_text: str | None = None
    runs: int = 1
    notes: tuple[str, ...] = field(default=())

    @property
    def key(self) -> str:
        return self.parts.key

    def as_json(self) -> dict[str, Json]:
        """The whole baseline, results included: what the one-file form seals."""
        return {
            "key": self.key,
            "parts": self.parts.as_json(),
            "facts_version": FACTS_VERSION,
            "facts": {"summary": self.facts.summary_json(), "results": self.facts.results_json()},
            "healthy": self.healthy,
            "why": self.why,
            "unstable": list(self.unstable),
            "commit": self.commit,
            "dirty": self.dirty,
            "policy_text": self.policy_text,
            "runs": self.runs,
            "notes": list(self.notes),
        }


def baseline_from_json(value: Mapping[str, Json]) -> Baseline:
    """The baseline that `as_json` was made from.

    Raises: KeyError, TypeError or AttributeError for a value of another shape.
    """
    parts = dict(value["parts"])
    parts["argv"], parts["plugins"] = tuple(parts["argv"]), tuple(parts["plugins"])
    return Baseline(
        parts=KeyParts(**parts),
        facts=facts_from_json(value["facts"]["summary"], value["facts"]["results"]),
        healthy=value["healthy"],
        why=value["why"],
        unstable=tuple(value["unstable"]),
        commit=value["commit"],
        dirty=value["dirty"],
        policy_text=value["policy_text"],
        runs=value["runs"],
        notes=tuple(value["notes"]),
    )


def health_of(facts: Facts) -> str:
    """Why these facts cannot serve as a baseline, in one sentence; empty if they can."""
    if facts.fault:
        return facts.because or f"The report carries no verdict: {facts.fault}."
    if facts.exit_class not in _HEALTHY_CLASSES:
        return f"{CLASS_WORDS.get(facts.exit_class, 'Nobody stated how the run ended')}."
    missing = [name for name in _NEEDED_FACETS if not facts.complete(name)]
    if missing:
        return f"The report does not tell {', '.join(missing)}."
    if not any(result.outcome != "skipped" for result in facts.tests.values()):
        return "No test ran."
    red = bool(facts.failing or facts.collectors)
    if red != (facts.exit_class == "tests_failed"):
        return f"{CLASS_WORDS[facts.exit_class]}, and its report says otherwise."
    return ""


def unstable_ids(runs: Sequence[Facts]) -> tuple[str, ...]:
    """Ids whose outcome differs between runs of the same tree, sorted."""
    seen: dict[str, set[str]] = {}
    for facts in runs:
        for name, result in facts.tests.items():
            seen.setdefault(name, set()).add(result.outcome)
    return tuple(
        sorted(
            name
            for name, outcomes in seen.items()
            if len(outcomes) > 1 or any(name not in facts.tests for facts in runs)
        )
    )


def differences(base: KeyParts, head: KeyParts | None) -> tuple[list[str], list[str]]:
    """Why two runs cannot be compared, and what differs without standing in the way.

    Without a head's parts everything is a note: reports made elsewhere do not tell
    their command, and the person who named them answers for it.
    """
    blocking: list[str] = []
    notes: list[str] = []
    names = ("command", "interpreter version", "platform")
    known = (" ".join(base.argv), base.version, base.platform)
    if head is None:
        pairs = zip(names, known, strict=True)
        stated = [
            f"The {name} of this run is not stated; the baseline's is {text}." for name, text in pairs if text
        ]
        return [], stated
    found = (" ".join(head.argv), head.version, head.platform)
    for name, first, second in zip(names, known, found, strict=True):
        if first != second:
            blocking.append(f"{name}: baseline {first or 'none'}, this run {second or 'none'}")
    if base.argv != head.argv and not blocking:
        blocking.append("command: the same words, split otherwise")
    if base.lock != head.lock:
        notes.append("The lock file differs from the baseline's; it is part of this change.")
    if base.plugins != head.plugins:
        changed = sorted(set(base.plugins) ^ set(head.plugins))
        notes.append(f"Runner plugins differ from the baseline's: {', '.join(changed[:5])}.")
    return blocking, notes
