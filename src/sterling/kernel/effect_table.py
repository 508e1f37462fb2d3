"""Effects inside a transaction: what is to be done outside, and which steps it may take.

Every step is an entry, and a row is nothing but the fold of its effect's
entries (`fold`), so the table can be made again from them.
A step that is not in `STEPS`, starts from another state than the row's, or is
not written under the fence of its order key, is refused.

Which step to take is decided in `outbox.py`; nothing here sends anything.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from operator import attrgetter
from types import MappingProxyType

from sterling.kernel.backoff import DELAY_US_MAX
from sterling.kernel.batch import Actor, Draft, EffectOperation, Fence
from sterling.kernel.canonical import Json, canonical_bytes
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.hashing import EFFECT_TAG, tagged_hash, u64
from sterling.kernel.ids import id_from_hash
from sterling.kernel.store_sqlite import newest_row

__all__ = [
    "ATTEMPTS_MAX",
    "COLUMNS",
    "FINAL",
    "STEPS",
    "EffectAbsent",
    "EffectMoved",
    "EffectRow",
    "EffectState",
    "Why",
    "count_open",
    "due_order_keys",
    "effect_id",
    "effect_key",
    "execute",
    "fold",
    "head_of",
    "is_due",
    "lease_of",
    "read_effect",
    "read_effects",
]

ATTEMPTS_MAX = 8


class EffectState(StrEnum):
    QUEUED = "queued"
    SENDING = "sending"
    DONE = "done"
    RETRY = "retry"
    UNKNOWN = "unknown"
    DEAD = "dead"
    ABANDONED = "abandoned"


class Why(StrEnum):
    """Why a step was taken; it stands in the step's entry."""

    DUE = "due"
    ANSWERED = "answered"
    FOUND = "found"
    NOT_NOW = "not-now"
    ANSWER_LOST = "answer-lost"
    SENDER_ENDED = "sender-ended"
    LOOK_FAILED = "look-failed"
    UNPROVABLE = "effect.unprovable"
    REFUSED = "effect.refused"
    EXHAUSTED = "effect.exhausted"
    NOT_APPROVED = "effect.not-approved"
    ADAPTER_UNKNOWN = "effect.adapter-unknown"
    PERSON = "person"


FINAL = frozenset((EffectState.DONE, EffectState.ABANDONED))

_S = EffectState
STEPS: Mapping[tuple[EffectState, EffectState], frozenset[Why]] = MappingProxyType(
    {
        (_S.QUEUED, _S.SENDING): frozenset((Why.DUE,)),
        (_S.QUEUED, _S.DEAD): frozenset((Why.ADAPTER_UNKNOWN,)),
        (_S.QUEUED, _S.ABANDONED): frozenset((Why.NOT_APPROVED, Why.PERSON)),
        (_S.SENDING, _S.DONE): frozenset((Why.ANSWERED,)),
        (_S.SENDING, _S.RETRY): frozenset((Why.NOT_NOW,)),
        (_S.SENDING, _S.UNKNOWN): frozenset((Why.ANSWER_LOST, Why.SENDER_ENDED)),
        (_S.SENDING, _S.DEAD): frozenset((Why.REFUSED, Why.EXHAUSTED)),
        (_S.RETRY, _S.SENDING): frozenset((Why.DUE,)),
        (_S.RETRY, _S.DONE): frozenset((Why.FOUND,)),
        (_S.RETRY, _S.UNKNOWN): frozenset((Why.LOOK_FAILED,)),
        (_S.RETRY, _S.DEAD): frozenset((Why.ADAPTER_UNKNOWN,)),
        (_S.RETRY, _S.ABANDONED): frozenset((Why.NOT_APPROVED, Why.PERSON)),
        (_S.UNKNOWN, _S.SENDING): frozenset((Why.DUE,)),
        (_S.UNKNOWN, _S.DONE): frozenset((Why.FOUND,)),
        (_S.UNKNOWN, _S.UNKNOWN): frozenset((Why.LOOK_FAILED,)),
        (_S.UNKNOWN, _S.DEAD): frozenset((Why.UNPROVABLE, Why.EXHAUSTED, Why.ADAPTER_UNKNOWN)),
        (_S.UNKNOWN, _S.ABANDONED): frozenset((Why.NOT_APPROVED, Why.PERSON)),
        (_S.DEAD, _S.RETRY): frozenset((Why.PERSON,)),
        (_S.DEAD, _S.ABANDONED): frozenset((Why.PERSON,)),
    }
)


class EffectAbsent(SterlingError):
    """No effect has this id."""

    code = "effect.absent"
    hint = "See which there are: `sterling outbox list`."
    exit = EXIT_USAGE


class EffectMoved(SterlingError):
    """An effect cannot take this step from where it stands, or not by this writer."""

    code = "effect.moved"
    hint = "Look at where it stands now: `sterling outbox list`."


@dataclass(frozen=True, slots=True)
class EffectRow:
    """One effect as it stands. `position` and `newest` are its first and newest entry."""

    id: str
    key: str
    subject: str
    adapter: str
    order_key: str
    blob: str
    requires: str
    position: int
    state: EffectState
    why: str
    attempts: int
    attempts_max: int
    due_us: int
    newest: int


_NAMES = tuple(field.name for field in fields(EffectRow))
COLUMNS = ", ".join(_NAMES)
_VALUES = attrgetter(*_NAMES)
_MARKS = ", ".join("?" * len(_NAMES))
_OPEN = "state NOT IN ('done', 'abandoned')"


def effect_key(subject: str, adapter: str, payload: bytes) -> str:
    """Same subject, adapter and canonical payload, same key; lengths keep the fields apart."""
    names = (subject.encode("utf-8"), adapter.encode("utf-8"))
    parts = [piece for name in names for piece in (u64(len(name)), name)]
    return tagged_hash(EFFECT_TAG, *parts, payload).hex()


def effect_id(key: str) -> str:
    return id_from_hash("e", bytes.fromhex(key))


def lease_of(order_key: str) -> str:
    return f"outbox/{order_key}"


def is_due(row: EffectRow, now_us: int) -> bool:
    """Whether its time has come. A retry further off than any delay means that the clock was set back."""
    set_back = row.state is not EffectState.QUEUED and row.due_us > now_us + DELAY_US_MAX
    return row.due_us <= now_us or set_back


def fold(row: EffectRow | None, index: int, state: EffectState, effect: str, payload: Json) -> EffectRow:
    """The row after one more entry of its effect."""
    if row is None:
        who = (effect, payload["key"], payload["subject"], payload["adapter"], payload["order_key"])
        requires = canonical_bytes(payload["requires"]).decode("utf-8")
        what = (payload["payload"]["blob"], requires, index, state, "")
        return EffectRow(*who, *what, 0, ATTEMPTS_MAX, payload["not_before_us"], index)
    return replace(
        row,
        state=state,
        why=payload["why"],
        attempts=payload["attempts"],
        attempts_max=payload.get("attempts_max", row.attempts_max),
        due_us=payload.get("due_us", 0),
        newest=index,
    )


def execute(
    connection: sqlite3.Connection,
    operation: EffectOperation,
    actor: Actor,
    fences: tuple[Fence, ...],
    index: int,
    now_us: int,
) -> Draft | None:
    """Take one step; returns the entry to append at `index` (none for an effect that is there already).

    Errors: EffectAbsent, EffectMoved (also for a payload that is no step at all).
    """
    try:
        row = read_effect(connection, operation.id)
        state, payload = EffectState(operation.to), operation.payload
        if state is EffectState.QUEUED:
            if operation.id != effect_id(payload["key"]):
                raise EffectMoved(f"expected the id of key {payload['key']}, found {operation.id}")
            if row is not None:
                return None
        else:
            if row is None:
                raise EffectAbsent(f"expected an effect {operation.id}, found none", id=operation.id)
            _check_step(row, state, payload, actor, fences)
            if state is EffectState.SENDING:
                broken = _check_sending(connection, row, now_us)
                if broken:
                    state = EffectState.ABANDONED
                    why = Why.NOT_APPROVED.value
                    payload = {
                        "from": row.state.value,
                        "attempts": row.attempts,
                        "why": why,
                        "message": broken,
                    }
        _store(connection, fold(row, index, state, operation.id, payload))
        return Draft(f"effect.{state}", payload, subject=operation.id, actor=actor)
    except (KeyError, TypeError, ValueError, sqlite3.IntegrityError) as problem:
        raise EffectMoved(f"effect {operation.id}: expected a step, found {problem!r:.200}") from problem


def _check_step(
    row: EffectRow, state: EffectState, payload: Json, actor: Actor, fences: tuple[Fence, ...]
) -> None:
    why = Why(payload["why"])
    if payload["from"] != row.state or why not in STEPS.get((row.state, state), ()):
        raise EffectMoved(
            f"effect {row.id}: expected a step from {row.state}, found {payload['from']} to {state} ({why})",
            id=row.id,
            state=row.state.value,
        )
    counted = state is EffectState.SENDING or why is Why.LOOK_FAILED
    if payload["attempts"] != row.attempts + counted:
        raise EffectMoved(
            f"effect {row.id}: expected attempt {row.attempts + counted} in the step", id=row.id
        )
    if why is Why.PERSON:
        if actor.type != "person":
            raise EffectMoved(f"effect {row.id}: expected a person, found a {actor.type}", id=row.id)
        return
    lease = lease_of(row.order_key)
    if not any(fence.lease == lease for fence in fences):
        raise EffectMoved(f"effect {row.id}: expected a step under the fence of lease {lease}", id=row.id)


def _check_sending(connection: sqlite3.Connection, row: EffectRow, now_us: int) -> str:
    """Refuse to send out of turn; returns which approval does not hold any more, or nothing."""
    head = head_of(connection, row.order_key)
    if head is None or head.id != row.id:
        raise EffectMoved(f"effect {row.id}: expected the first of {row.order_key}, found one before it")
    if not is_due(row, now_us) or row.attempts >= row.attempts_max:
        raise EffectMoved(f"effect {row.id}: expected it due with attempts left, found {row.attempts} made")
    for approval in json.loads(row.requires):
        newest = newest_row(connection, approval["subject"])
        found = None if newest is None else newest[0]
        if found != approval["index"]:
            return f"expected entry {approval['index']} as the newest of {approval['subject']}, found {found}"
    return ""


def read_effect(connection: sqlite3.Connection, effect: str) -> EffectRow | None:
    return next(_rows(connection, "WHERE id = ?", (effect,)), None)


def read_effects(connection: sqlite3.Connection) -> list[EffectRow]:
    """Every effect, in the order in which they were put."""
    return list(_rows(connection, "ORDER BY position", ()))


def head_of(connection: sqlite3.Connection, order_key: str) -> EffectRow | None:
    """The first effect of an order key that is not settled; those after it wait."""
    where = f"WHERE order_key = ? AND {_OPEN} ORDER BY position LIMIT 1"
    return next(_rows(connection, where, (order_key,)), None)


def count_open(connection: sqlite3.Connection, order_key: str) -> int:
    """How many effects of an order key are not settled."""
    query = f"SELECT count(*) FROM effects WHERE order_key = ? AND {_OPEN}"
    return int(connection.execute(query, (order_key,)).fetchone()[0])


def due_order_keys(connection: sqlite3.Connection, now_us: int) -> list[str]:
    """The order keys whose first open effect may be sent now, in the order in which they were put."""
    firsts = f"SELECT min(position) FROM effects WHERE {_OPEN} GROUP BY order_key"
    heads = _rows(connection, f"WHERE {_OPEN} AND position IN ({firsts}) ORDER BY position", ())
    return [row.order_key for row in heads if row.state is not EffectState.DEAD and is_due(row, now_us)]


def _rows(connection: sqlite3.Connection, where: str, values: tuple[str, ...]) -> Iterator[EffectRow]:
    for row in connection.execute(f"SELECT {COLUMNS} FROM effects {where}", values).fetchall():
        known = EffectRow(*row)
        yield replace(known, state=EffectState(known.state))


def _store(connection: sqlite3.Connection, row: EffectRow) -> None:
    connection.execute(f"INSERT OR REPLACE INTO effects ({COLUMNS}) VALUES ({_MARKS})", _VALUES(row))
