"""Leases inside a transaction: the table of who holds what until when.

A token per name never goes back, also over release and crash, because the row
is kept. Expiry counts on the clock that only goes forward (`boot_us`), so
changing the wall clock neither frees nor prolongs a lease. On this host a dead
owner loses its lease at once, and so does one of another boot; of another host
only the expiry counts. A slash makes a tree: who holds `task/T` keeps others
from everything below it, and who holds a part keeps others from the whole.

A refused operation changes no lease. Its one entry is `lease.refused`, or
`lease.expired` when a holder gives back what it no longer had.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from sterling.kernel.batch import Draft, LeaseOperation, LeaseVerb
from sterling.kernel.clock import Clock
from sterling.kernel.errors import SterlingError
from sterling.kernel.liveness import ProcessName, is_alive, this_host

__all__ = [
    "HOLD_S_MAX",
    "LeaseCapReached",
    "LeaseExpired",
    "LeaseHeld",
    "LeaseLost",
    "LeaseRefusal",
    "LeaseRow",
    "Standing",
    "check_fence",
    "execute",
    "held_names",
    "read_lease",
]

# The longest hold by kind of lease, the first segment of its name; other kinds have none.
HOLD_S_MAX: Mapping[str, int] = MappingProxyType({"outbox": 3_600, "task": 7 * 86_400})

_COLUMNS = "name, token, holder, pid, pid_started, boot_id, acquired_us, expires_us, renewals, host"


class LeaseRefusal(SterlingError):
    """A lease does not allow what was asked. `entry` is what a refused operation leaves in the ledger."""

    entry: Draft | None = None


class LeaseHeld(LeaseRefusal):
    """Somebody else holds the lease."""

    code = "lease.held"
    hint = "Wait until it is released or expires; `sterling status` shows the holder."


class LeaseExpired(LeaseRefusal):
    """The lease has run out, or was never taken."""

    code = "lease.expired"
    hint = "Take the lease again and look at the newest state first. See `sterling status`."


class LeaseLost(LeaseRefusal):
    """Another holder has the lease now."""

    code = "lease.lost"
    hint = "Stop the work that relied on it; `sterling status` shows the holder."


class LeaseCapReached(LeaseRefusal):
    """The lease was held as long as its kind may be held."""

    code = "lease.cap-reached"
    hint = "Bring the work to an end before the lease runs out; `sterling status` shows its age."


class Standing(StrEnum):
    """What is true of a lease now."""

    FREE = "free"
    LIVE = "live"
    EXPIRED = "expired"
    OWNER_DEAD = "owner-dead"


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """One lease. `holder` is empty when it is free. Times are on the boot clock."""

    name: str
    token: int
    holder: str
    pid: int
    pid_started: int
    boot_id: str
    acquired_us: int
    expires_us: int
    renewals: int
    host: str = ""

    def standing(self, now_us: int, boot_id: str) -> Standing:
        """Free, live, run out, or left by an owner that is dead."""
        if not self.holder:
            return Standing.FREE
        is_here = self.host in ("", this_host())
        if is_here and self.boot_id != boot_id:
            return Standing.OWNER_DEAD
        if now_us >= self.expires_us:
            return Standing.EXPIRED
        if is_here and not is_alive(ProcessName(self.pid, self.pid_started, self.boot_id), boot_id):
            return Standing.OWNER_DEAD
        return Standing.LIVE

    def is_live(self, now_us: int, boot_id: str) -> bool:
        """Whether somebody holds it now: not released, not expired, owner not dead."""
        return self.standing(now_us, boot_id) is Standing.LIVE


@dataclass(frozen=True, slots=True)
class _Moment:
    """The lease table at one time of one boot."""

    connection: sqlite3.Connection
    now_us: int
    boot_id: str


def read_lease(connection: sqlite3.Connection, name: str) -> LeaseRow | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM leases WHERE name = ?", (name,)).fetchone()
    return None if row is None else LeaseRow(*row)


def held_names(connection: sqlite3.Connection) -> list[str]:
    """Every lease that is not given back, by name; some may have run out."""
    rows = connection.execute("SELECT name FROM leases WHERE holder <> '' ORDER BY name")
    return [str(row[0]) for row in rows.fetchall()]


def check_fence(connection: sqlite3.Connection, name: str, token: int, clock: Clock) -> None:
    """Refuse unless this token holds the lease, has not expired and its owner lives."""
    row = read_lease(connection, name)
    if row is None or not row.is_live(clock.boot_us(), clock.boot_id()):
        raise LeaseExpired(
            f"expected lease {name} to be held under token {token}, found no such hold", lease=name
        )
    if row.token != token:
        raise LeaseLost(
            f"expected lease {name} under token {token}, found token {row.token}", lease=name, found=row.token
        )


def execute(
    connection: sqlite3.Connection, operation: LeaseOperation, now_us: int, clock: Clock
) -> tuple[LeaseRow, list[Draft]]:
    """Do one operation; returns the row after it and the entries to append (none for a renewal).

    Errors: LeaseRefusal with its entry; the caller rolls back what was done before it.
    """
    moment = _Moment(connection, now_us, clock.boot_id())
    try:
        if operation.verb is LeaseVerb.ACQUIRE:
            return _acquire(moment, operation)
        row = _own(moment, operation)
        if operation.verb is LeaseVerb.RENEW:
            return _store(connection, _renewed(row, operation, now_us)), []
        if operation.verb is LeaseVerb.RELEASE:
            return _release(moment, row)
        assert operation.to and operation.to != operation.name, "a swap names another lease"
        taken, drafts = _acquire(moment, replace(operation, name=operation.to, token=0))
        return taken, _release(moment, row)[1] + drafts
    except LeaseRefusal as refusal:
        refusal.entry = refusal.entry or _refused(operation, refusal)
        raise


def _acquire(moment: _Moment, operation: LeaseOperation) -> tuple[LeaseRow, list[Draft]]:
    row = read_lease(moment.connection, operation.name)
    standing = Standing.FREE if row is None else row.standing(moment.now_us, moment.boot_id)
    if row is not None and standing is Standing.LIVE:
        if row.holder != operation.holder:
            raise _held(operation, row, moment.now_us)
        return _store(moment.connection, _renewed(row, operation, moment.now_us)), []
    for near in _relatives(moment.connection, operation):
        if near.is_live(moment.now_us, moment.boot_id):
            raise _held(operation, near, moment.now_us)
    token = 1 if row is None else row.token + 1
    now_us, cap_us = moment.now_us, _cap_us(operation.name)
    ttl_us = operation.ttl_us if cap_us is None else min(operation.ttl_us, cap_us)
    who = (operation.holder, operation.pid, operation.pid_started, operation.boot_id)
    host = operation.host or this_host()
    taken = LeaseRow(operation.name, token, *who, now_us, now_us + ttl_us, 0, host)
    drafts = [_expired(row)] if row is not None and standing is Standing.EXPIRED else []
    if row is None or standing is Standing.FREE or row.holder == operation.holder:
        payload = {"name": taken.name, "token": token, "holder": operation.holder, "ttl_us": ttl_us}
        drafts.append(Draft("lease.acquired", payload, subject=taken.name))
    else:
        why = {"previous_holder": row.holder, "why": str(standing)}
        payload = {"name": taken.name, "token": token, **why}
        drafts.append(Draft("lease.taken-over", payload, subject=taken.name))
    return _store(moment.connection, taken), drafts


def _release(moment: _Moment, row: LeaseRow) -> tuple[LeaseRow, list[Draft]]:
    freed = LeaseRow(row.name, row.token, "", 0, 0, "", row.acquired_us, moment.now_us, row.renewals)
    return _store(moment.connection, freed), [_ended("lease.released", row, moment.now_us)]


def _own(moment: _Moment, operation: LeaseOperation) -> LeaseRow:
    """The asker's own live hold. Errors: lease.expired, lease.lost."""
    row = read_lease(moment.connection, operation.name)
    standing = Standing.FREE if row is None else row.standing(moment.now_us, moment.boot_id)
    mine = row is not None and row.holder == operation.holder and operation.token in (0, row.token)
    if row is None or standing is not Standing.LIVE:
        found = LeaseExpired(
            f"expected to hold lease {operation.name}, found it {standing}", lease=operation.name
        )
        if row is not None and mine and standing is Standing.EXPIRED and operation.verb is LeaseVerb.RELEASE:
            found.entry = _expired(row)
        raise found
    if not mine:
        raise LeaseLost(
            f"expected to hold lease {operation.name}, found it held by {row.holder} under token {row.token}",
            lease=operation.name,
            holder=row.holder,
        )
    return row


def _relatives(connection: sqlite3.Connection, operation: LeaseOperation) -> list[LeaseRow]:
    """Other holders' leases above and below a name: point and range look-ups in the index of held leases."""
    name = operation.name
    above = [name[:place] for place, letter in enumerate(name) if letter == "/"]
    held = f"SELECT {_COLUMNS} FROM leases WHERE holder <> '' AND holder <> ? AND name"
    rows = connection.execute(
        f"{held} IN ({', '.join('?' * len(above))}) UNION ALL {held} >= ? AND name < ? ORDER BY name",
        (operation.holder, *above, operation.holder, f"{name}/", f"{name}0"),  # "0" follows "/".
    )
    return [LeaseRow(*row) for row in rows.fetchall()]


def _renewed(row: LeaseRow, operation: LeaseOperation, now_us: int) -> LeaseRow:
    """The same hold with its end at now + ttl, or at the cap of its kind. Errors: lease.cap-reached."""
    cap_us, expires_us = _cap_us(row.name), now_us + operation.ttl_us
    if cap_us is not None and expires_us > row.acquired_us + cap_us:
        expires_us = row.acquired_us + cap_us
        if row.expires_us >= expires_us:
            raise LeaseCapReached(
                f"expected lease {row.name} to end {cap_us} us after it was taken, found that end reached",
                lease=row.name,
                expires_in_us=row.expires_us - now_us,
            )
    return replace(row, expires_us=expires_us, renewals=row.renewals + 1)


def _cap_us(name: str) -> int | None:
    cap_s = HOLD_S_MAX.get(name.partition("/")[0])
    return None if cap_s is None else cap_s * 1_000_000


def _held(operation: LeaseOperation, row: LeaseRow, now_us: int) -> LeaseHeld:
    other = "it" if row.name == operation.name else row.name
    return LeaseHeld(
        f"expected lease {operation.name} to be free, found {other} held by {row.holder}",
        lease=row.name,
        holder=row.holder,
        expires_in_us=row.expires_us - now_us,
    )


def _refused(operation: LeaseOperation, refusal: LeaseRefusal) -> Draft:
    payload = {
        "name": operation.to or operation.name,
        "verb": str(operation.verb),
        "holder": operation.holder,
        "code": refusal.code,
        "found": str(refusal.details["lease"]),
        "found_holder": str(refusal.details.get("holder", "")),
    }
    return Draft("lease.refused", payload, subject=payload["name"])


def _expired(row: LeaseRow) -> Draft:
    return _ended("lease.expired", row, row.expires_us)


def _ended(kind: str, row: LeaseRow, end_us: int) -> Draft:
    payload = {"name": row.name, "token": row.token, "renewals": row.renewals}
    return Draft(kind, payload | {"held_us": end_us - row.acquired_us}, subject=row.name)


def _store(connection: sqlite3.Connection, row: LeaseRow) -> LeaseRow:
    values = (*(getattr(row, name) for name in _COLUMNS.split(", ")),)
    marks = ", ".join("?" * len(values))
    connection.execute(f"INSERT OR REPLACE INTO leases ({_COLUMNS}) VALUES ({marks})", values)
    return row
