"""The outbox: changes outside Sterling, written down first, done once, receipt kept.

An effect is put in the batch of the decision that causes it, so there is never
one without the other. `run_once` sends what is due: in order within an order
key, under that key's lease, each step an entry under its fence. What may or may
not have happened is `unknown`, and is looked for before it is sent again.

The limit: a sender that is stopped between its last check and the first byte of
a send, for longer than its lease, can still send. A receiver that honours the
key hides that; one that is only looked up cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from sterling.kernel.adapters import AFTER_ANSWER, ALWAYS_KNOWN, MOVES, Adapter, Answer, Letter, Move, Verdict
from sterling.kernel.backoff import delay_us
from sterling.kernel.batch import (
    Actor,
    Batch,
    EffectOperation,
    FenceHolds,
    LeaseOperation,
    LeaseVerb,
    NewestIs,
)
from sterling.kernel.blobs import Blobs
from sterling.kernel.canonical import Json, canonical_bytes, parse_canonical
from sterling.kernel.clock import Clock
from sterling.kernel.contracts import Contracts
from sterling.kernel.effect_table import (
    ATTEMPTS_MAX,
    FINAL,
    EffectAbsent,
    EffectMoved,
    EffectRow,
    EffectState,
    Why,
    count_open,
    due_order_keys,
    effect_id,
    effect_key,
    head_of,
    is_due,
    lease_of,
    read_effect,
    read_effects,
)
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.lease_table import LeaseExpired, LeaseHeld, LeaseLost
from sterling.kernel.leases import Lease, Leases
from sterling.kernel.ledger import Ledger, StoredEntry

__all__ = [
    "AdapterUnknown",
    "Effect",
    "EffectId",
    "EffectOutcome",
    "EffectReasonRequired",
    "Outbox",
]

LEASE_S = 300
REASON_LETTERS_MIN = 10
_TEXT_LETTERS_MAX = 4_000

EffectId = str


class AdapterUnknown(SterlingError):
    """No adapter of this name may carry an effect out of this home."""

    code = "effect.adapter-unknown"
    hint = "Name it in outbox.adapters: `sterling config set`."
    exit = EXIT_USAGE


class EffectReasonRequired(SterlingError):
    """A person's step in the outbox needs a reason."""

    code = "effect.reason-required"
    hint = 'Say why in at least 10 letters: `sterling outbox retry ID --reason "TEXT"`.'
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Effect:
    """One change outside. `requires` names approvals that must still be the newest of their subject."""

    subject: str
    adapter: str
    order_key: str
    payload: Json
    not_before_us: int = 0
    requires: tuple[NewestIs, ...] = ()


@dataclass(frozen=True, slots=True)
class EffectOutcome:
    """Where one effect stands after a pass, and why."""

    id: EffectId
    state: EffectState
    why: str


@dataclass(slots=True)
class _Turn:
    """A sender's time with one order key, and the lease that its first step took."""

    name: str
    lease: Lease | None = None


class Outbox:
    """The effects of one home. `adapters` are the names that the settings allow."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        blobs: Blobs,
        leases: Leases,
        contracts: Contracts,
        clock: Clock,
        adapters: Iterable[str],
    ) -> None:
        self._ledger, self._blobs, self._leases = ledger, blobs, leases
        self._contracts, self._clock = contracts, clock
        self._allowed = frozenset((*ALWAYS_KNOWN, *adapters))

    def put(self, batch: Batch, effect: Effect) -> EffectId:
        """Add an effect to a batch. One that was put before stays as it was, and its id is returned.

        Errors: effect.adapter-unknown, record.invalid, canonical.*.
        """
        if effect.adapter not in self._allowed:
            expected = ", ".join(sorted(self._allowed))
            raise AdapterUnknown(
                f"expected one of {expected}, found {effect.adapter}", adapter=effect.adapter
            )
        data = canonical_bytes(effect.payload)
        key = effect_key(effect.subject, effect.adapter, data)
        payload = {
            "key": key,
            "subject": effect.subject,
            "adapter": effect.adapter,
            "order_key": effect.order_key,
            "payload": {"blob": self._blobs.put(data), "size_bytes": len(data)},
            "not_before_us": effect.not_before_us,
            "requires": [{"subject": each.subject, "index": each.index} for each in effect.requires],
        }
        return self._operate(batch, effect_id(key), EffectState.QUEUED, payload)

    def run_once(self, adapters: Mapping[str, Adapter], limit: int = 64) -> list[EffectOutcome]:
        """Send what is due, at most `limit` effects; a failed one holds back those behind it.

        Order keys that another sender holds, and adapters that are not given, are left alone.
        """
        outcomes: list[EffectOutcome] = []
        for order_key in due_order_keys(self._ledger.connection(), self._clock.wall_us()):
            if len(outcomes) >= limit:
                break
            outcomes += self._send_in_order(order_key, adapters, limit - len(outcomes))
        return outcomes

    def effects(self) -> list[EffectRow]:
        """Every effect there ever was, in the order in which they were put."""
        return read_effects(self._ledger.connection())

    def read(self, effect: EffectId) -> EffectRow:
        """Where one effect stands. Errors: effect.absent."""
        row = read_effect(self._ledger.connection(), effect)
        if row is None:
            raise EffectAbsent(f"expected an effect {effect}, found none", id=effect)
        return row

    def show(self, effect: EffectId) -> tuple[EffectRow, list[StoredEntry]]:
        """One effect and every entry about it. Errors: effect.absent."""
        return self.read(effect), [*self._ledger.read(subject=effect)]

    def retry(self, effect: EffectId, reason: str, person: str) -> EffectRow:
        """A person gives a dead effect another round of attempts.

        Errors: effect.absent, effect.moved (it is not dead), effect.reason-required.
        """
        row = self.read(effect)
        more = {"attempts_max": row.attempts + ATTEMPTS_MAX, "due_us": self._clock.wall_us()}
        return self._decide(row, EffectState.RETRY, reason, person, more)

    def abandon(self, effect: EffectId, reason: str, person: str) -> EffectRow:
        """A person decides that an effect shall not be sent; those behind it may go.

        Errors: effect.absent, effect.moved (it is settled, or being sent), effect.reason-required.
        """
        return self._decide(self.read(effect), EffectState.ABANDONED, reason, person, {})

    # Inside

    def _decide(
        self, row: EffectRow, to: EffectState, reason: str, person: str, more: dict[str, Json]
    ) -> EffectRow:
        words = reason.strip()
        if not REASON_LETTERS_MIN <= len(words) <= _TEXT_LETTERS_MAX:
            bounds = f"{REASON_LETTERS_MIN} to {_TEXT_LETTERS_MAX}"
            raise EffectReasonRequired(f"expected a reason of {bounds} letters, found {len(words)}")
        batch = Batch(actor=Actor("person", person))
        self._step(batch, row, to, Why.PERSON, {"message": words, **more})
        self._ledger.commit(batch)
        return self.read(row.id)

    def _send_in_order(
        self, order_key: str, adapters: Mapping[str, Adapter], limit: int
    ) -> list[EffectOutcome]:
        turn = _Turn(lease_of(order_key))
        held = self._leases.read(turn.name)
        if held is not None and held.is_live(self._clock.boot_us(), self._clock.boot_id()):
            return []
        outcomes: list[EffectOutcome] = []
        row: EffectRow | None = None
        try:
            while len(outcomes) < limit and (turn.lease is None or self._holds(turn.lease)):
                row = head_of(self._ledger.connection(), order_key)
                if row is None or row.state is EffectState.DEAD or not is_due(row, self._clock.wall_us()):
                    break
                if row.adapter in self._allowed and row.adapter not in adapters:
                    break
                self._keep(turn, row)
                row = self._advance(row, turn, adapters.get(row.adapter))
                outcomes.append(EffectOutcome(row.id, row.state, row.why))
        except (EffectMoved, LeaseExpired, LeaseHeld, LeaseLost) as lost:
            assert row is not None
            outcomes.append(EffectOutcome(row.id, self.read(row.id).state, lost.code))
        finally:
            if turn.lease is not None and self._holds(turn.lease):
                with suppress(LeaseExpired, LeaseLost):
                    self._leases.release(turn.lease)
        return outcomes

    def _keep(self, turn: _Turn, row: EffectRow) -> None:
        """Hold the lease long enough for one more effect; a fresh one's first step takes it on the way."""
        if turn.lease is None and row.state is not EffectState.QUEUED:
            turn.lease = self._leases.acquire(turn.name, LEASE_S)
        elif turn.lease is not None and turn.lease.expires_us - self._clock.boot_us() < LEASE_S * 500_000:
            turn.lease = self._leases.renew(turn.lease)

    def _advance(self, row: EffectRow, turn: _Turn, adapter: Adapter | None) -> EffectRow:
        """Take one effect as far as it goes now."""
        if row.state is EffectState.SENDING:  # Its sender is gone, for its lease was free.
            row = self._fenced(row, turn, EffectState.UNKNOWN, Why.SENDER_ENDED, due_us=self._clock.wall_us())
        if row.adapter not in self._allowed or adapter is None:
            return self._fenced(row, turn, EffectState.DEAD, Why.ADAPTER_UNKNOWN)
        letter = self._letter(row)
        move = MOVES[row.state, adapter.ability]
        if move is Move.GIVE_UP:
            return self._fenced(row, turn, EffectState.DEAD, Why.UNPROVABLE)
        if move is Move.LOOK:
            answer = adapter.look(letter)
            if answer.verdict is Verdict.ACCEPTED:
                return self._fenced(row, turn, EffectState.DONE, Why.FOUND, **self._receipt(answer))
            if answer.verdict is not Verdict.ABSENT:
                return self._wait(row, turn, EffectState.UNKNOWN, Why.LOOK_FAILED, answer)
        if row.attempts >= row.attempts_max:
            return self._fenced(row, turn, EffectState.DEAD, Why.EXHAUSTED)
        row = self._fenced(row, turn, EffectState.SENDING, Why.DUE)
        if row.state is not EffectState.SENDING:
            return row
        if turn.lease is None or self._clock.boot_us() >= turn.lease.expires_us:
            raise LeaseExpired(f"expected to hold lease {turn.name} when sending, found it expired")
        answer = adapter.send(letter)
        state, why = AFTER_ANSWER[answer.verdict]
        if state is EffectState.DONE:
            return self._fenced(row, turn, state, why, **self._receipt(answer))
        if state is EffectState.DEAD:
            return self._fenced(row, turn, state, why, message=_plain(answer.text))
        return self._wait(row, turn, state, why, answer)

    def _wait(self, row: EffectRow, turn: _Turn, state: EffectState, why: Why, answer: Answer) -> EffectRow:
        """Try again later, or not at all when no attempt is left; a lost answer is still looked for."""
        message = _plain(answer.text)
        if row.attempts >= row.attempts_max and why is not Why.ANSWER_LOST:
            return self._fenced(row, turn, EffectState.DEAD, Why.EXHAUSTED, message=message)
        attempt = row.attempts + (why is Why.LOOK_FAILED) + ATTEMPTS_MAX - row.attempts_max
        due_us = self._clock.wall_us() + delay_us(row.key, attempt)
        return self._fenced(row, turn, state, why, message=message, due_us=due_us)

    def _letter(self, row: EffectRow) -> Letter:
        data = self._blobs.get(row.blob)
        return Letter(row.key, row.subject, parse_canonical(data, limit=len(data)))

    def _receipt(self, answer: Answer) -> dict[str, Json]:
        """What the entry keeps of the receiver's answer; a long one is a blob beside its beginning."""
        text = answer.text.encode("utf-8", "replace")
        kept = {"receipt": _plain(answer.text)}
        return kept if len(answer.text) <= _TEXT_LETTERS_MAX else {**kept, "blob": self._blobs.put(text)}

    def _fenced(self, row: EffectRow, turn: _Turn, to: EffectState, why: Why, **more: Json) -> EffectRow:
        """One step under the lease; the last one of a pass gives the lease back in the same transaction."""
        batch = Batch(closing=row.state is EffectState.SENDING)
        self._step(batch, row, to, why, more)
        if turn.lease is None:
            turn.lease = self._leases.acquire(turn.name, LEASE_S, batch=batch)
            return self.read(row.id)
        batch.require(FenceHolds(turn.name, turn.lease.token))
        open_count = count_open(self._ledger.connection(), row.order_key)
        goes_on = open_count > 1 if to in FINAL else to is EffectState.SENDING or why is Why.SENDER_ENDED
        if not goes_on:
            batch.operate(LeaseOperation(LeaseVerb.RELEASE, turn.name, turn.lease.holder))
        self._ledger.commit(batch)
        return self.read(row.id)

    def _holds(self, lease: Lease) -> bool:
        held = self._leases.read(lease.name)
        now_us, boot_id = self._clock.boot_us(), self._clock.boot_id()
        return held is not None and held.holder == lease.holder and held.is_live(now_us, boot_id)

    def _step(self, batch: Batch, row: EffectRow, to: EffectState, why: Why, more: dict[str, Json]) -> None:
        counted = to is EffectState.SENDING or why is Why.LOOK_FAILED
        payload = {"from": row.state.value, "attempts": row.attempts + counted, "why": why.value, **more}
        self._operate(batch, row.id, to, payload)

    def _operate(self, batch: Batch, effect: EffectId, to: EffectState, payload: Json) -> EffectId:
        self._contracts.validate(f"effect.{to}", payload)
        batch.operate(EffectOperation(to.value, effect, payload))
        return effect


def _plain(text: str) -> str:
    """Text that an entry can hold: cut, and without half characters."""
    return text[:_TEXT_LETTERS_MAX].encode("utf-8", "replace").decode("utf-8")
