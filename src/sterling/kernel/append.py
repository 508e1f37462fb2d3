"""One transaction: checking a batch and appending its entries.

The caller holds the writer role and an open `BEGIN IMMEDIATE`. This module does
what the batch says inside a savepoint, so that a refused batch leaves nothing
but the entry that says it was refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from sterling.kernel import effect_table, lease_table, merkle
from sterling.kernel.batch import (
    Actor,
    Batch,
    ConfigIs,
    ContractsAre,
    Draft,
    EffectOperation,
    Fence,
    FenceHolds,
    NewestIs,
    Precondition,
    RecordAbsent,
    SizeIs,
)
from sterling.kernel.canonical import TooLarge, canonical_bytes
from sterling.kernel.chain import GENESIS, seal
from sterling.kernel.clock import Clock
from sterling.kernel.errors import SterlingError
from sterling.kernel.key_history import KEY_KINDS
from sterling.kernel.lease_table import LeaseRefusal, LeaseRow
from sterling.kernel.store_sqlite import (
    insert_entry,
    newest_row,
    read_node,
    read_size,
    record_row,
    submission_row,
)

__all__ = ["Appender", "InForce", "PreconditionFailed", "Prepared", "Receipt"]

# The hashes of what is in force, asked when a batch is written.
InForce = Mapping[type[ConfigIs | ContractsAre], Callable[[], str]]

ENTRY_BODY_BYTES_MAX = 64 * 1024
_NAME_LETTERS_MAX = 200  # In a refusal, which must have room whatever was refused.


class PreconditionFailed(SterlingError):
    """A batch named a condition that did not hold when it was written."""

    code = "ledger.precondition"
    hint = "Read the newest state and decide again; nothing was written. See `sterling status`."


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a durable batch got: its first and last index, the head after it, and its leases.

    A batch that waits in the spool is durable there, and has no place in the log yet.
    """

    first: int
    last: int
    head: bytes
    leases: tuple[LeaseRow, ...] = ()
    durable: str = "ledger"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch whose payloads were validated: drafts with the canonical bytes of their payloads."""

    batch: Batch
    drafts: tuple[tuple[Draft, bytes], ...]


@dataclass(slots=True)
class _State:
    size: int
    head: bytes
    last_us: int


class Appender:
    """Appends batches through one connection; keeps size, head and the tree's frontier in memory.

    `check_keys` refuses a change of keys that does not count at an index: with it every verifier
    would call the log broken there.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        clock: Clock,
        in_force: InForce | None = None,
        check_keys: Callable[[int, Draft], None] | None = None,
    ) -> None:
        self._connection, self._clock, self._check_keys = connection, clock, check_keys
        self._in_force: InForce = {} if in_force is None else in_force
        size, head, last_us = read_size(connection)
        self._state = _State(size, head if size else GENESIS, last_us)
        self._frontier: dict[int, tuple[int, bytes]] = {}

    @property
    def size(self) -> int:
        return self._state.size

    @property
    def head(self) -> bytes:
        return self._state.head

    def node(self, level: int, position: int) -> bytes:
        """A stored full subtree; the newest of each level comes from memory."""
        known = self._frontier.get(level)
        if known is not None and known[0] == position:
            return known[1]
        return read_node(self._connection, level, position)

    def apply(self, prepared: Prepared, *, alone: bool = False) -> Receipt:
        """Write one batch inside the open transaction, or refuse it and write only the refusal.

        `alone` says that the transaction holds nothing else, so that it needs no savepoint.
        Errors: PreconditionFailed, lease errors, TooLarge; the transaction stays usable.
        """
        before = None if alone else self._save()
        try:
            receipt = self._write(prepared)
        except (SterlingError, sqlite3.IntegrityError) as refusal:
            self._go_back(before)
            earlier = submission_row(self._connection, prepared.batch.submission)
            if earlier is not None:
                return Receipt(earlier[0], earlier[1], self._state.head)
            if isinstance(refusal, sqlite3.IntegrityError):
                raise
            self._write_refusal(prepared.batch, refusal)
            raise
        if not alone:
            self._connection.execute("RELEASE batch")
        return receipt

    def _save(self) -> tuple[_State, dict[int, tuple[int, bytes]]]:
        self._connection.execute("SAVEPOINT batch")
        return replace(self._state), dict(self._frontier)

    def _go_back(self, before: tuple[_State, dict[int, tuple[int, bytes]]] | None) -> None:
        """Leave nothing of the batch that was refused."""
        if before is None:
            self._connection.execute("ROLLBACK")
            self._connection.execute("BEGIN IMMEDIATE")
            self.reload()
        else:
            self._connection.execute("ROLLBACK TO batch")
            self._connection.execute("RELEASE batch")
            self._state, self._frontier = before

    def reload(self) -> None:
        """Forget what memory holds and read it again, after a transaction that did not commit."""
        size, head, last_us = read_size(self._connection)
        self._state, self._frontier = _State(size, head if size else GENESIS, last_us), {}

    def _write(self, prepared: Prepared) -> Receipt:
        batch = prepared.batch
        for condition in batch.conditions:
            self._check(condition)
        first, now_us = self._state.size, self._now_us()
        fences = tuple(Fence(c.lease, c.token) for c in batch.conditions if isinstance(c, FenceHolds))
        leases: list[LeaseRow] = []
        for operation in batch.operations:
            if isinstance(operation, EffectOperation):
                held = (*fences, *(Fence(row.name, row.token) for row in leases if row.holder))
                where = (self._state.size, now_us)
                step = effect_table.execute(self._connection, operation, batch.actor, held, *where)
                if step is not None:
                    self._append(replace(step, run=batch.run), canonical_bytes(step.payload), now_us, held)
                continue
            row, drafts = lease_table.execute(self._connection, operation, self._clock.boot_us(), self._clock)
            leases.append(row)
            for draft in drafts:
                self._append_own(replace(draft, run=batch.run, actor=batch.actor), now_us)
        for condition in batch.conditions:
            # Asked last: a clock that fell and a lease put entries of their own before the drafts.
            if isinstance(condition, SizeIs) and condition.size != self._state.size:
                found = self._state.size
                raise PreconditionFailed(f"expected {condition.size} entries, found {found}", found=found)
        for draft, payload in prepared.drafts:
            if draft.kind in KEY_KINDS and self._check_keys is not None:
                self._check_keys(self._state.size, draft)
            self._append(draft, payload, now_us, fences)
        last = self._state.size - 1
        if last >= first:
            self._connection.execute(
                "INSERT INTO submissions (id, first, last) VALUES (?, ?, ?)", (batch.submission, first, last)
            )
        return Receipt(first, last, self._state.head, tuple(leases))

    def _check(self, condition: Precondition) -> None:
        if isinstance(condition, FenceHolds):
            lease_table.check_fence(self._connection, condition.lease, condition.token, self._clock)
        elif isinstance(condition, NewestIs):
            row = newest_row(self._connection, condition.subject)
            found = None if row is None else row[0]
            if found != condition.index:
                raise PreconditionFailed(
                    f"expected {condition.index} as the newest entry of {condition.subject}, found {found}",
                    subject=condition.subject,
                    expected=condition.index,
                    found=found,
                )
        elif isinstance(condition, RecordAbsent) and record_row(self._connection, condition.id):
            raise PreconditionFailed(f"expected no record {condition.id}, found it", id=condition.id)
        elif isinstance(condition, ConfigIs | ContractsAre):
            asked = self._in_force.get(type(condition))
            now, what = "" if asked is None else asked(), type(condition).__name__
            if now != condition.sha256:
                raise PreconditionFailed(
                    f"expected {what} {condition.sha256}, found {now or 'nothing in force'}",
                    expected=condition.sha256,
                    found=now,
                )

    def _now_us(self) -> int:
        """The wall time of the next entries; a fall since the last entry is itself an entry."""
        now_us = self._clock.wall_us()
        if now_us < self._state.last_us:
            payload = {"before_us": self._state.last_us, "after_us": now_us}
            self._append_own(Draft("clock.stepped", payload), now_us)
        return now_us

    def _append_own(self, draft: Draft, at_us: int) -> None:
        """An entry that the kernel itself writes, whose payload nobody prepared."""
        self._append(draft, canonical_bytes(draft.payload), at_us, ())

    def _append(self, draft: Draft, payload: bytes, at_us: int, fences: tuple[Fence, ...]) -> None:
        record: tuple[str, str] | None = None
        contract = ""
        if draft.kind == "record.put":
            record_id = str(draft.payload["id"])
            contract = str(draft.payload["contract"]).partition("@")[0]
            if record_row(self._connection, record_id) is not None:
                again = {"contract": draft.payload["contract"], "id": record_id}
                draft, payload, contract = replace(draft, kind="record.again"), canonical_bytes(again), ""
            else:
                record = (record_id, str(draft.payload["hash"]))
        body = _body(draft, contract, payload, at_us, fences)
        if len(body) > ENTRY_BODY_BYTES_MAX:
            raise TooLarge(
                f"expected an entry of at most {ENTRY_BODY_BYTES_MAX} bytes, found {len(body)}",
                kind=draft.kind,
            )
        entry = seal(self._state.size, self._state.head, body)
        insert_entry(self._connection, entry, (draft.kind, contract, draft.subject, draft.run, at_us))
        nodes = merkle.grow(entry.index, merkle.leaf_hash(entry.hash), self.node)
        self._connection.executemany("INSERT INTO nodes (level, position, hash) VALUES (?, ?, ?)", nodes)
        for level, position, digest in nodes:
            self._frontier[level] = (position, digest)
        if record is not None:
            self._connection.execute(
                "INSERT INTO records (id, hash, contract, entry) VALUES (?, ?, ?, ?)",
                (record[0], bytes.fromhex(record[1]), contract, entry.index),
            )
        self._state.size += 1
        self._state.head = entry.hash
        self._state.last_us = at_us

    def _write_refusal(self, batch: Batch, refusal: SterlingError) -> None:
        """One entry a refusal: a lease operation names its own, everything else is `write.refused`."""
        if isinstance(refusal, LeaseRefusal) and refusal.entry is not None:
            self._append_own(replace(refusal.entry, run=batch.run, actor=batch.actor), self._now_us())
            return
        subject = next((draft.subject for draft in batch.drafts if draft.subject), "")
        payload = {
            "code": refusal.code,
            "message": refusal.message[:1000],
            "subject": subject[:_NAME_LETTERS_MAX],
            "submission": batch.submission,
        }
        run = batch.run[:_NAME_LETTERS_MAX]
        draft = Draft("write.refused", payload, subject="", run=run, actor=batch.actor)
        self._append_own(draft, self._now_us())


def _body(draft: Draft, contract: str, payload: bytes, at_us: int, fences: tuple[Fence, ...]) -> bytes:
    """The canonical body: keys in order, canonical parts inside (so canonical as a whole)."""
    parts = [b'{"actor":', _actor(draft.actor), b',"at_us":%d' % at_us]
    if contract:
        parts += [b',"contract":', _quoted(contract)]
    if fences:
        named = [{"lease": fence.lease, "token": fence.token} for fence in fences]
        parts += [b',"fence":', canonical_bytes(named)]
    parts += [b',"kind":', _quoted(draft.kind), b',"payload":', payload]
    if draft.run:
        parts += [b',"run":', _quoted(draft.run)]
    if draft.step:
        parts += [b',"step":', _quoted(draft.step)]
    if draft.subject:
        parts += [b',"subject":', _quoted(draft.subject)]
    parts.append(b',"v":1}')
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _quoted(text: str) -> bytes:
    return canonical_bytes(text)


@lru_cache(maxsize=64)
def _actor(actor: Actor) -> bytes:
    return canonical_bytes(actor.as_json())
