"""Checking a log: every hash, every spelling, every signature, in one pass.

`check_log` reads entries, tree nodes and checkpoints in the order in which they
came to be, beside what outside copies remember, and stops at the first thing
that disagrees. After the entry at index i come the tree nodes that it
completes, the checkpoint of size i + 1, and the outside copies of that size.

Where stored hashes disagree the first bad index is exact. After a clean re-seal
it is the interval between the last good and the first bad checkpoint.

Nothing here does I/O: rows come from iterators, and a row may hold anything.
`standalone_verify.py` does the same with other code; docs/reference/ledger-format.md
states the rules that both follow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from sterling.kernel import merkle
from sterling.kernel.canonical import ENTRY_BYTES_MAX, Json, parse_canonical
from sterling.kernel.chain import GENESIS, seal
from sterling.kernel.checkpoint import Checkpoint, NoteMalformed, note_checkpoint, open_note, origin_of
from sterling.kernel.errors import SterlingError
from sterling.kernel.integrity import KeyUnknown
from sterling.kernel.signing import Verifier, fingerprint_of

__all__ = [
    "Broken",
    "FirstBad",
    "LogCheck",
    "LogSource",
    "Outside",
    "Progress",
    "Row",
    "check_log",
    "parse_entry",
    "read_canonical",
]

Row = tuple[Any, ...]  # index, hash, previous, kind, contract, subject, run, at_us, body

_ENVELOPE = frozenset(
    ("v", "kind", "at_us", "actor", "payload", "contract", "subject", "run", "step", "fence", "trace")
)
_DEPTH_QUICK = 60
_SLOW = re.compile(rb"[\xf0-\xff]|[0-9]{17}|9[0-9]{15}")


@dataclass(frozen=True, slots=True)
class FirstBad:
    """Where a log stops being believable: entries `low` to `high` (None: not known) and why."""

    low: int | None
    high: int | None
    code: str
    message: str


class Broken(Exception):
    """Carries the first bad place out of the pass; never leaves this package."""

    def __init__(self, low: int | None, high: int | None, code: str, message: str) -> None:
        super().__init__(message)
        self.first_bad = FirstBad(low, high, code, message)


class LogSource(Protocol):
    """The tables of one ledger, seen at one moment."""

    def entries(self) -> Iterator[Row]: ...

    def nodes(self, level: int) -> Iterator[Row]: ...

    def node_count(self) -> int: ...

    def checkpoints(self) -> Iterator[Row]: ...


@dataclass(frozen=True, slots=True)
class Outside:
    """What is known from outside the log.

    `verifier` checks signatures (None: nobody knows the key). `anchored` are notes
    that the anchor folder remembers, `brought` are notes somebody brought along.
    """

    verifier: Verifier | None = None
    anchored: Sequence[str] = ()
    brought: Sequence[str] = ()


@dataclass(slots=True)
class Progress:
    """How far a pass has come; complete when the pass has ended."""

    size: int = 0
    head: bytes = GENESIS
    checkpoints: int = 0
    anchored_to: int | None = None
    unread_anchors: list[str] = field(default_factory=list)
    losses: list[Json] = field(default_factory=list)
    first_bad: FirstBad | None = None


def check_log(
    source: LogSource,
    home_id: str,
    outside: Outside,
    observe: Callable[[int, dict[str, Json]], None] | None = None,
) -> Progress:
    """Check everything; the result names the first bad place, or none.

    `observe` sees the index and body of every entry that holds.
    Cost: one pass, memory O(log n) beside the outside notes.
    """
    return LogCheck(source, home_id, outside, observe).run()


class LogCheck:
    """One pass over one log. Made and used by `check_log`; `progress` is readable when a source fails."""

    def __init__(
        self,
        source: LogSource,
        home_id: str,
        outside: Outside,
        observe: Callable[[int, dict[str, Json]], None] | None = None,
    ) -> None:
        self.progress = Progress()
        self._source, self._home_id, self._outside, self._observe = source, home_id, outside, observe
        self._tree = _Tree(source.nodes)
        self._at_us = 0
        self._good = 0  # The size that the last good checkpoint or anchor covers.
        self._anchors: dict[int, list[tuple[Checkpoint, bool]]] = {}
        self._strangers: list[tuple[str, str]] = []
        self._read_anchors()

    def run(self) -> Progress:
        """Make the pass."""
        try:
            self._pass()
        except Broken as found:
            self.progress.first_bad = found.first_bad
        return self.progress

    def _pass(self) -> None:
        checkpoints = self._source.checkpoints()
        waiting = next(checkpoints, None)
        if waiting is not None and (type(waiting[0]) is not int or waiting[0] < 1):
            raise Broken(0, 0, "integrity.checkpoint-order", f"checkpoint of size {waiting[0]!r:.40}")
        self._check_anchors(None)
        for row in self._source.entries():
            self._check_entry(row)
            size = self.progress.size
            note = waiting[1] if waiting is not None and waiting[0] == size else None
            if note is not None:
                self._check_checkpoint(note)
                waiting = next(checkpoints, None)
            self._check_anchors(note)
        self._check_end(waiting)

    def _check_entry(self, row: Row) -> None:
        index, progress = self.progress.size, self.progress
        stored, digest, previous, kind, contract, subject, run, at_us, data = row
        if type(stored) is not int or stored != index:
            raise Broken(
                index, index, "integrity.chain-broken", f"expected index {index}, found {stored!r:.40}"
            )
        if not isinstance(data, bytes) or not isinstance(digest, bytes):
            raise Broken(
                index, index, "integrity.entry-altered", "expected bytes as hash and body, found others"
            )
        sealed = seal(index, progress.head, data)
        if previous != progress.head:
            # With the true previous the stored hash fits: then only that column was edited.
            code = "integrity.entry-altered" if sealed.hash == digest else "integrity.chain-broken"
            raise Broken(index, index, code, "its previous hash is not the hash of the entry before it")
        if sealed.hash != digest:
            raise Broken(index, index, "integrity.entry-altered", "its bytes do not give its stored hash")
        body = parse_entry(index, data)
        twins = (body["kind"], body.get("contract", ""), body.get("subject", ""), body.get("run", ""))
        if twins != (kind, contract, subject, run) or type(at_us) is not int or body["at_us"] != at_us:
            raise Broken(index, index, "integrity.entry-altered", "a column does not say what its body says")
        self._check_time(index, body)
        if index == 0:
            self._check_created(body)
        self._tree.add(index, digest)
        progress.size, progress.head = index + 1, digest
        if kind == "ledger.recovered":
            progress.losses.append(body["payload"])
        if self._observe is not None:
            self._observe(index, body)

    def _check_time(self, index: int, body: dict[str, Json]) -> None:
        at_us, before_us = body["at_us"], self._at_us
        if at_us < before_us and (
            body["kind"] != "clock.stepped" or body["payload"] != {"before_us": before_us, "after_us": at_us}
        ):
            message = f"time falls from {before_us} to {at_us} and no clock.stepped says so"
            raise Broken(index, index, "integrity.time-unexplained", message)
        self._at_us = at_us

    def _check_created(self, body: dict[str, Json]) -> None:
        """The first entry says which home this is and which key it began with."""
        payload, verifier = body["payload"], self._outside.verifier
        if body["kind"] != "home.created" or not isinstance(payload, dict):
            raise Broken(0, 0, "integrity.forked", f"expected home.created first, found {body['kind']:.80}")
        if payload.get("home_id") != self._home_id:
            raise Broken(0, 0, "integrity.forked", f"expected the log of {self._home_id}, found another's")
        if verifier is not None and payload.get("key") != fingerprint_of(verifier.public_key):
            raise Broken(0, 0, "integrity.key-unknown", "the home began with another key than the pinned one")

    def _check_checkpoint(self, note: Any) -> None:
        size = self.progress.size
        try:
            if not isinstance(note, str):
                raise NoteMalformed("expected text, found bytes")
            verifier = self._outside.verifier
            checkpoint = note_checkpoint(note) if verifier is None else open_note(note, [verifier])
        except KeyUnknown as problem:
            raise Broken(self._good, size - 1, "integrity.key-unknown", problem.message) from problem
        except SterlingError as problem:
            message = f"checkpoint {size}: {problem.message}"
            raise Broken(self._good, size - 1, "integrity.root-mismatch", message) from problem
        if checkpoint.size != size:
            message = f"the checkpoint stored for size {size} speaks of size {checkpoint.size}"
            raise Broken(self._good, size - 1, "integrity.checkpoint-order", message)
        if checkpoint.origin != origin_of(self._home_id):
            message = f"checkpoint {size} is of {checkpoint.origin:.100}"
            raise Broken(self._good, size - 1, "integrity.forked", message)
        if checkpoint.root != self._tree.root():
            message = f"checkpoint {size} was signed over other entries"
            raise Broken(self._good, size - 1, "integrity.root-mismatch", message)
        self.progress.checkpoints += 1
        self._good = size

    def _read_anchors(self) -> None:
        """Sort the outside notes by size; those of other keys or logs, and unreadable ones, apart."""
        verifier, origin = self._outside.verifier, origin_of(self._home_id)
        notes = [(note, True) for note in self._outside.anchored]
        for note, stored_in_log in notes + [(note, False) for note in self._outside.brought]:
            try:
                checkpoint = note_checkpoint(note)
                if verifier is not None:
                    open_note(note, [verifier])
            except KeyUnknown as problem:
                self._strangers.append(("integrity.key-unknown", f"an outside copy: {problem.message}"))
                continue
            except SterlingError as problem:
                self.progress.unread_anchors.append(problem.message)
                continue
            if checkpoint.origin != origin:
                message = f"an outside copy is of {checkpoint.origin:.100}, expected {origin}"
                self._strangers.append(("integrity.forked", message))
            else:
                self._anchors.setdefault(checkpoint.size, []).append((checkpoint, stored_in_log))

    def _check_anchors(self, note: Any) -> None:
        """Compare with what is remembered of this size; `note` is the log's own checkpoint of it."""
        size, anchors = self.progress.size, self._anchors.pop(self.progress.size, [])
        low, high = self.progress.anchored_to or 0, max(0, size - 1)
        for checkpoint, stored_in_log in anchors:
            if checkpoint.root != self._tree.root():
                raise Broken(low, high, "integrity.forked", f"the anchor of size {size} saw other entries")
            if stored_in_log and note is None:
                message = f"checkpoint {size} is anchored, and the log does not hold it"
                raise Broken(low, high, "integrity.checkpoint-order", message)
        if anchors:
            self.progress.anchored_to = self._good = size

    def _check_end(self, waiting: Row | None) -> None:
        size, anchored_to = self.progress.size, self.progress.anchored_to
        extra_nodes = self._source.node_count() != self._tree.node_count
        if self._strangers:
            code, message = self._strangers[0]
            raise Broken(anchored_to or 0, max(anchored_to or 0, size - 1), code, message)
        if self._anchors:
            newest = max(self._anchors)
            message = f"the newest anchor is of size {newest}, the log has {size} entries"
            complete = waiting is None and not extra_nodes and anchored_to == size
            code = "integrity.rolled-back" if complete else "integrity.tail-missing"
            raise Broken(size, newest - 1, code, message)
        if waiting is not None:
            message = f"there is a checkpoint of size {waiting[0]!r:.40}, the log has {size} entries"
            raise Broken(size, None, "integrity.checkpoint-order", message)
        if extra_nodes:
            raise Broken(size, None, "integrity.root-mismatch", "the tree has nodes beyond the last entry")


class _Tree:
    """The tree grown again from the entries, compared with the stored nodes as they complete."""

    def __init__(self, stored: Callable[[int], Iterator[Row]]) -> None:
        self._stored = stored
        self._cursors: dict[int, Iterator[Row]] = {}
        self._frontier: dict[int, bytes] = {}
        self._size = 0
        self.node_count = 0

    def add(self, index: int, digest: bytes) -> None:
        for level, position, node in merkle.grow(index, merkle.leaf_hash(digest), self._get):
            if level not in self._cursors:
                self._cursors[level] = iter(self._stored(level))
            if next(self._cursors[level], None) != (position, node):
                message = f"tree node {level}/{position} is not what the entries give"
                raise Broken(position << level, index, "integrity.root-mismatch", message)
            self._frontier[level] = node
            self.node_count += 1
        self._size = index + 1

    def root(self) -> bytes:
        return merkle.root(self._size, self._get)

    def _get(self, level: int, position: int) -> bytes:
        """Only ever asked for the newest full subtree of a level."""
        return self._frontier[level]


def parse_entry(index: int, data: bytes) -> dict[str, Json]:
    """The body, if it is canonical and has the shape of an entry."""
    try:
        body = read_canonical(data)
    except (SterlingError, ValueError, RecursionError) as problem:
        raise Broken(index, index, "integrity.entry-altered", str(problem)) from problem
    if not isinstance(body, dict) or not _ENVELOPE.issuperset(body) or body.get("v") != 1:
        raise Broken(index, index, "integrity.entry-altered", "its body is no entry of version 1")
    texts = all(isinstance(body.get(name, ""), str) for name in ("contract", "subject", "run", "step"))
    shaped = isinstance(body.get("kind"), str) and type(body.get("at_us")) is int and "payload" in body
    if not texts or not shaped or not isinstance(body.get("actor"), dict) or type(body["v"]) is not int:
        raise Broken(index, index, "integrity.entry-altered", "a field of its body has another type")
    return body


def read_canonical(data: bytes) -> Json:
    """What `parse_canonical` gives or raises, three times as fast for the common case.

    Python's own writer gives RFC 8785's bytes unless there are floats, integers
    beyond 2^53, characters beyond the basic plane, or deep nesting; those take
    the slow way. Duplicate keys and other spellings do not survive rewriting, so
    they take it too and are refused there.
    """
    if (
        len(data) <= ENTRY_BYTES_MAX
        and not _SLOW.search(data)
        and data.count(b"[") + data.count(b"{") < _DEPTH_QUICK
    ):
        try:
            value = _DECODER.decode(data.decode("utf-8"))
            if _ENCODER.encode(value).encode("utf-8") == data:
                return value
        except (ValueError, RecursionError):
            pass  # The slow way below says what is wrong, or that nothing is.
    return parse_canonical(data)


def _refuse(text: str) -> NoReturn:
    raise ValueError(text)


_DECODER = json.JSONDecoder(parse_float=_refuse, parse_constant=_refuse)
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False)
