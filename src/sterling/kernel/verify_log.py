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
from sterling.kernel.anchors import Mark
from sterling.kernel.canonical import ENTRY_BYTES_MAX, Json, parse_canonical
from sterling.kernel.chain import GENESIS, seal
from sterling.kernel.checkpoint import Checkpoint, NoteMalformed, note_checkpoint, open_note, origin_of
from sterling.kernel.errors import SterlingError
from sterling.kernel.integrity import KeyUnknown
from sterling.kernel.key_history import KeyHistory
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
_INDEX_MAX = 2**63
_INTEGER_MAX = 2**53 - 1
_ASTRAL = re.compile(rb"[\xf0-\xff]")
_TEXTS = ("contract", "subject", "run", "step")


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

    def entry(self, index: int) -> Row | None: ...

    def node_count(self) -> int: ...

    def checkpoints(self) -> Iterator[Row]: ...


@dataclass(frozen=True, slots=True)
class Outside:
    """What is known from outside the log.

    `verifier` is the first key; rotations lead on from it (None: nobody knows the key).
    `anchored` are notes that the anchor folder remembers, `brought` are notes
    somebody brought along. `marks` say where the folder goes on after a loss that was
    accepted. Notes larger than `up_to` are left out: a recovery asks what holds
    without them.
    """

    verifier: Verifier | None = None
    anchored: Sequence[str] = ()
    brought: Sequence[str] = ()
    marks: Sequence[Mark] = ()
    up_to: int = _INDEX_MAX


@dataclass(slots=True)
class Progress:
    """How far a pass has come; complete when the pass has ended.

    `losses` are accepted losses, `restored_at` where the outside copies began anew,
    `compared` the sizes of the outside copies that agreed.
    """

    size: int = 0
    head: bytes = GENESIS
    checkpoints: int = 0
    anchored_to: int | None = None
    unread_anchors: list[str] = field(default_factory=list)
    losses: list[Json] = field(default_factory=list)
    restored_at: list[int] = field(default_factory=list)
    compared: list[int] = field(default_factory=list)
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
        self._verifier, self._keys = outside.verifier, None
        if outside.verifier is not None:
            self._keys = KeyHistory(home_id, {"ledger": outside.verifier.public_key})
        self._anchors: dict[int, list[tuple[str, bool]]] = {}
        self._strangers: list[tuple[str, str]] = []
        self._admitting: set[str] = set()  # Notes whose mark leaves others out.

    def run(self) -> Progress:
        """Make the pass."""
        try:
            self._pass()
        except Broken as found:
            self.progress.first_bad = found.first_bad
        return self.progress

    def _pass(self) -> None:
        self._read_anchors()
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
        elif kind.startswith("key."):
            self._check_keys(index, body)
        self._tree.add(index, digest)
        progress.size, progress.head = index + 1, digest
        if kind == "ledger.recovered" and isinstance(body["payload"], dict):
            progress.losses.append({"entry": index} | body["payload"])
        elif kind == "anchor.restored":
            progress.restored_at.append(index)
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

    def _check_keys(self, index: int, body: dict[str, Json]) -> None:
        """A change of keys counts only when the keys before it allow it."""
        if self._keys is None or self._verifier is None:
            return
        try:
            self._keys.observe(index, body["kind"], body.get("subject", ""), body["payload"])
        except KeyUnknown as problem:
            raise Broken(index, index, "integrity.key-unknown", problem.message) from problem
        self._verifier = Verifier(self._verifier.name, self._keys.current("ledger") or b"")

    def _open(self, note: str) -> Checkpoint:
        """A note by the key that signs for the size that the pass has reached."""
        return note_checkpoint(note) if self._verifier is None else open_note(note, [self._verifier])

    def _check_checkpoint(self, note: Any) -> None:
        size = self.progress.size
        try:
            if not isinstance(note, str):
                raise NoteMalformed("expected text, found bytes")
            checkpoint = self._open(note)
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
        """Sort the outside notes by size, without those of an admitted loss; their keys are judged there."""
        notes = [*self._outside.anchored, *self._outside.brought]
        count, known = len(self._outside.anchored), dict[int, Checkpoint]()
        for at, note in enumerate(notes):
            try:
                known[at] = note_checkpoint(note)
            except SterlingError as problem:
                self.progress.unread_anchors.append(problem.message)
        lost = self._lost_history({at: known[at] for at in known if at < count})
        for at, checkpoint in known.items():
            is_lost = at in lost if at < count else checkpoint in lost.values()
            if not is_lost and checkpoint.size <= self._outside.up_to:
                self._anchors.setdefault(checkpoint.size, []).append((notes[at], at < count))

    def _judge_anchors(self, size: int) -> list[tuple[Checkpoint, bool]]:
        """The outside notes of a size by the key of that size; those of other keys or logs, apart.

        Beyond the end of the log, where a rotation may have been cut off, a note of the
        anchor folder counts whoever signed it: it was checked when it came there.
        """
        judged, is_beyond = [], size > self.progress.size
        for note, stored_in_log in self._anchors.pop(size, []):
            try:
                checkpoint = self._open(note)
            except KeyUnknown as problem:
                checkpoint = note_checkpoint(note)
                if not (is_beyond and stored_in_log):
                    self._strangers.append(("integrity.key-unknown", f"an outside copy: {problem.message}"))
                    continue
            except SterlingError as problem:
                if note in self._admitting:
                    self._strangers.append(("integrity.key-unknown", f"an admitted loss: {problem.message}"))
                else:
                    self.progress.unread_anchors.append(problem.message)
                continue
            if checkpoint.origin == origin_of(self._home_id):
                judged.append((checkpoint, stored_in_log))
            else:
                message = (
                    f"an outside copy is of {checkpoint.origin:.100}, expected {origin_of(self._home_id)}"
                )
                self._strangers.append(("integrity.forked", message))
        return judged

    def _lost_history(self, known: dict[int, Checkpoint]) -> dict[int, Checkpoint]:
        """The notes of entries whose loss the log admits, which it therefore need not agree with.

        A mark counts where its own note is signed over the entry that admits the loss.
        That entry and that note are checked by the pass like all others.
        """
        lost: dict[int, Checkpoint] = {}
        for mark in self._outside.marks:
            admits = known.get(mark.position)
            row = self._source.entry(mark.entry) if 0 <= mark.entry < _INDEX_MAX else None
            if admits is None or row is None or admits.size <= mark.entry:
                continue
            first, size, root = _admitted_loss(row, mark.hash)
            self._admitting.add(self._outside.anchored[mark.position])
            for at, checkpoint in known.items():
                named = checkpoint.size < size or checkpoint.root.hex() == root
                if at < mark.position and first < checkpoint.size <= size and named:
                    lost[at] = checkpoint
        return lost

    def _check_anchors(self, note: Any) -> None:
        """Compare with what is remembered of this size; `note` is the log's own checkpoint of it."""
        size = self.progress.size
        anchors = self._judge_anchors(size) if size in self._anchors else []
        low, high = self.progress.anchored_to or 0, max(0, size - 1)
        for checkpoint, stored_in_log in anchors:
            if checkpoint.root != self._tree.root():
                raise Broken(low, high, "integrity.forked", f"the anchor of size {size} saw other entries")
            if stored_in_log and note is None:
                message = f"checkpoint {size} is anchored, and the log does not hold it"
                raise Broken(low, high, "integrity.checkpoint-order", message)
        if anchors:
            self.progress.anchored_to = self._good = size
            self.progress.compared.append(size)

    def _check_end(self, waiting: Row | None) -> None:
        size, anchored_to = self.progress.size, self.progress.anchored_to
        extra_nodes = self._source.node_count() != self._tree.node_count
        beyond = [beyond for beyond in sorted(self._anchors) if self._judge_anchors(beyond)]
        if self._strangers:
            code, message = self._strangers[0]
            raise Broken(anchored_to or 0, max(anchored_to or 0, size - 1), code, message)
        if beyond:
            newest = beyond[-1]
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


def _admitted_loss(row: Row, expected_hash: str) -> tuple[int, int, str]:
    """Where an accepted loss begins, and the size and root that were lost; nothing for any other entry."""
    digest, kind, data = row[1], row[3], row[8]
    if isinstance(digest, bytes) and digest.hex() == expected_hash and kind == "ledger.recovered":
        try:
            payload = read_canonical(data)["payload"]
            first, anchored = payload["lost"]["from"], payload["anchored"]
            if type(first) is int and type(anchored["size"]) is int:
                return first, anchored["size"], anchored["root"]
        except (SterlingError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass  # The pass will find it altered.
    return 0, 0, ""


def parse_entry(index: int, data: bytes) -> dict[str, Json]:
    """The body, if it is canonical and has the shape of an entry."""
    try:
        body = read_canonical(data)
    except (SterlingError, ValueError, RecursionError) as problem:
        raise Broken(index, index, "integrity.entry-altered", str(problem)) from problem
    if not isinstance(body, dict) or not _ENVELOPE.issuperset(body) or body.get("v") != 1:
        raise Broken(index, index, "integrity.entry-altered", "its body is no entry of version 1")
    texts = all(isinstance(body.get(name, ""), str) for name in _TEXTS)
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
        and (data.isascii() or not _ASTRAL.search(data))
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


def _integer(text: str) -> int:
    value = int(text)
    return value if -_INTEGER_MAX <= value <= _INTEGER_MAX else _refuse(text)


_DECODER = json.JSONDecoder(parse_float=_refuse, parse_constant=_refuse, parse_int=_integer)
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False)
