"""Counters: figures about a home that are folded from its ledger, never incremented by hand.

A rule says which entries count, by how much and under which labels. The same
entries give the same counters, so anybody can compute them again at any size of
the ledger and compare exactly. No event is 0. A source that could not be read
makes its counters na, which is not 0.

Pure: entries in, counters out. `telemetry.py` reads the ledger; packs bring
rules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sterling.kernel.canonical import Json
from sterling.kernel.ledger import StoredEntry

__all__ = [
    "KERNEL_COUNTERS",
    "Count",
    "CounterFold",
    "CounterRule",
    "Counters",
    "document_of",
    "fold_counters",
]

Labels = tuple[tuple[str, str], ...]


def _one(_: Mapping[str, Json]) -> int:
    return 1


def _contended_phases(refusal: Mapping[str, Json]) -> int:
    return int(refusal["code"] == "lease.held" and str(refusal["name"]).startswith("task/"))


@dataclass(frozen=True, slots=True)
class CounterRule:
    """One counter. `contract` names a record's type, without version, when `kind` is record.put.

    `amount` is what a document adds (0: it does not count); `labels` are fields
    of the document that split the count; with `distinct`, documents with one
    value of that field count once.
    """

    name: str
    sentence: str
    kind: str
    contract: str = ""
    amount: Callable[[Mapping[str, Json]], int] = _one
    labels: tuple[str, ...] = ()
    distinct: str = ""

    @property
    def source(self) -> tuple[str, str]:
        """Kind and contract of the entries that it reads."""
        return self.kind, self.contract


@dataclass(frozen=True, slots=True)
class Count:
    """One counter's figure: a total and its split, or None with the reason."""

    value: int | None
    split: Mapping[Labels, int] = field(default_factory=dict)
    because: str = ""

    def as_json(self) -> dict[str, Json]:
        """Value, reason, and one row a set of labels."""
        rows: list[Json] = [
            {"labels": dict(labels), "value": value} for labels, value in sorted(self.split.items()) if labels
        ]
        return {"value": self.value, "because": self.because, "split": rows}


@dataclass(frozen=True, slots=True)
class Counters:
    """Every counter over the first `size` entries."""

    size: int
    counts: Mapping[str, Count]


KERNEL_COUNTERS = (
    CounterRule("writes_refused", "Batches that were refused whole.", "write.refused", labels=("code",)),
    CounterRule("outbox_dead", "Effects given up until a person decides.", "effect.dead", labels=("why",)),
    CounterRule(
        "phase_lease_contention",
        "Phases of a task that were refused because another holder was in one.",
        "lease.refused",
        amount=_contended_phases,
    ),
    CounterRule("lease_takeovers", "Leases taken from a dead owner.", "lease.taken-over", labels=("why",)),
    CounterRule("clock_steps", "Times the wall clock fell behind the ledger.", "clock.stepped"),
    CounterRule(
        "spans_dropped",
        "Spans that were not written.",
        "telemetry.dropped",
        amount=lambda payload: int(payload["spans"]),
    ),
)


class CounterFold:
    """The fold, one entry at a time, in the order of the ledger within each source."""

    def __init__(self, rules: Sequence[CounterRule]) -> None:
        assert len({rule.name for rule in rules}) == len(rules), "two counters share a name"
        self._rules: dict[tuple[str, str], list[CounterRule]] = {}
        for rule in rules:
            self._rules.setdefault(rule.source, []).append(rule)
        self._split: dict[str, dict[Labels, int]] = {rule.name: {} for rule in rules}
        self._seen: dict[str, set[str]] = {rule.name: set() for rule in rules}
        self._lost: dict[tuple[str, str], str] = {}

    @property
    def sources(self) -> list[tuple[str, str]]:
        """The kinds and contracts that are read, sorted."""
        return sorted(self._rules)

    def add(self, entry: StoredEntry) -> None:
        """Count one entry; one that no rule reads changes nothing."""
        source = (entry.kind, entry.contract)
        if source in self._rules:
            document = document_of(entry)
            if document is None:
                self.lose(source, f"the document of entry {entry.index} could not be read")
            else:
                self.add_document(source, document)

    def add_document(self, source: tuple[str, str], document: Mapping[str, Json]) -> None:
        """Count one document of a source."""
        try:
            for rule in self._rules[source]:
                self._count(rule, document)
        except (KeyError, TypeError, ValueError) as problem:
            self.lose(source, f"a document is not what its rule reads: {problem!r:.100}")

    def _count(self, rule: CounterRule, document: Mapping[str, Json]) -> None:
        amount = int(rule.amount(document))
        if not amount:
            return
        if rule.distinct:
            value = str(document[rule.distinct])
            if value in self._seen[rule.name]:
                return
            self._seen[rule.name].add(value)
        labels = tuple((label, str(document[label])) for label in rule.labels)
        split = self._split[rule.name]
        split[labels] = split.get(labels, 0) + amount

    def lose(self, source: tuple[str, str], because: str) -> None:
        """This source could not be read: its counters are na from here on."""
        self._lost.setdefault(source, because)

    def counters(self, size: int) -> Counters:
        """The figures after what was added, as those of the first `size` entries."""
        counts: dict[str, Count] = {}
        for source, rules in self._rules.items():
            for rule in rules:
                split = self._split[rule.name]
                if source in self._lost:
                    counts[rule.name] = Count(None, {}, self._lost[source])
                else:
                    counts[rule.name] = Count(sum(split.values()), dict(split))
        return Counters(size, dict(sorted(counts.items())))


def fold_counters(
    entries: Iterable[StoredEntry], rules: Sequence[CounterRule] = KERNEL_COUNTERS, *, size: int = -1
) -> Counters:
    """The counters over these entries, as those of a ledger of `size` entries (default: the last + 1)."""
    fold, last = CounterFold(rules), -1
    for entry in entries:
        fold.add(entry)
        last = entry.index
    return fold.counters(last + 1 if size < 0 else size)


def document_of(entry: StoredEntry) -> Mapping[str, Json] | None:
    """What an entry says: its payload, or the document of the record it put; None when that is not here."""
    found = entry.payload.get("document") if entry.kind == "record.put" else entry.payload
    return found if isinstance(found, dict) else None
