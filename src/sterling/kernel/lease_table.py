"""Leases inside a transaction: the table of who holds what until when.

A token per name never goes back, also over release and crash, because the row
is kept. Expiry counts on the clock that only goes forward (`boot_us`), so
changing the wall clock neither frees nor prolongs a lease. On this host a dead
owner loses its lease at once; a lease of another boot is dead.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from sterling.kernel.batch import Draft, LeaseOperation, LeaseVerb
from sterling.kernel.clock import Clock
from sterling.kernel.errors import SterlingError
from sterling.kernel.liveness import ProcessName, is_alive

__all__ = ["LeaseExpired", "LeaseHeld", "LeaseLost", "LeaseRow", "check_fence", "execute", "read_lease"]

_COLUMNS = "name, token, holder, pid, pid_started, boot_id, acquired_us, expires_us, renewals"


class LeaseHeld(SterlingError):
    """Somebody else holds the lease."""

    code = "lease.held"
    hint = "Wait until it is released or expires; `sterling status` shows the holder."


class LeaseExpired(SterlingError):
    """The lease has run out, or was never taken."""

    code = "lease.expired"
    hint = "Take the lease again and look at the newest state first. See `sterling status`."


class LeaseLost(SterlingError):
    """Another holder has the lease now."""

    code = "lease.lost"
    hint = "Stop the work that relied on it; `sterling status` shows the holder."


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

    def is_live(self, now_us: int, boot_id: str) -> bool:
        """Whether somebody holds it now: not released, not expired, owner not dead."""
        if not self.holder or self.boot_id != boot_id or now_us >= self.expires_us:
            return False
        return is_alive(ProcessName(self.pid, self.pid_started, self.boot_id), boot_id)


def read_lease(connection: sqlite3.Connection, name: str) -> LeaseRow | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM leases WHERE name = ?", (name,)).fetchone()
    return None if row is None else LeaseRow(*row)


def check_fence(connection: sqlite3.Connection, name: str, token: int, now_us: int) -> None:
    """Refuse unless this token holds the lease and has not expired."""
    row = read_lease(connection, name)
    if row is None or not row.holder or now_us >= row.expires_us:
        raise LeaseExpired(f"expected lease {name} to be held under token {token}, found it free", lease=name)
    if row.token != token:
        raise LeaseLost(
            f"expected lease {name} under token {token}, found token {row.token}", lease=name, found=row.token
        )


def execute(
    connection: sqlite3.Connection, operation: LeaseOperation, now_us: int, clock: Clock
) -> tuple[LeaseRow, Draft | None]:
    """Do one operation; returns the row after it and the entry to append (none for a renewal)."""
    row = read_lease(connection, operation.name)
    mine = row is not None and row.holder == operation.holder
    live = row is not None and row.is_live(now_us, clock.boot_id())
    if operation.verb is LeaseVerb.ACQUIRE:
        if row is not None and live and not mine:
            raise LeaseHeld(
                f"expected lease {row.name} to be free, found it held by {row.holder}",
                lease=row.name,
                holder=row.holder,
                expires_in_us=row.expires_us - now_us,
            )
        if row is not None and live:
            return _store(connection, _renewed(row, operation, now_us)), None
        return _acquire(connection, row, operation, now_us)
    if row is None or not row.holder or (mine and not live):
        raise LeaseExpired(f"expected to hold lease {operation.name}, found it expired", lease=operation.name)
    if not mine:
        raise LeaseLost(
            f"expected to hold lease {operation.name}, found it held by {row.holder}", lease=operation.name
        )
    if operation.verb is LeaseVerb.RENEW:
        return _store(connection, _renewed(row, operation, now_us)), None
    held_us = now_us - row.acquired_us
    freed = LeaseRow(row.name, row.token, "", 0, 0, "", row.acquired_us, now_us, row.renewals)
    payload = {"name": row.name, "token": row.token, "renewals": row.renewals, "held_us": held_us}
    return _store(connection, freed), Draft("lease.released", payload)


def _acquire(
    connection: sqlite3.Connection, row: LeaseRow | None, operation: LeaseOperation, now_us: int
) -> tuple[LeaseRow, Draft]:
    token = 1 if row is None else row.token + 1
    taken = LeaseRow(
        operation.name,
        token,
        operation.holder,
        operation.pid,
        operation.pid_started,
        operation.boot_id,
        now_us,
        now_us + operation.ttl_us,
        0,
    )
    if row is not None and row.holder:
        same_boot = row.boot_id == operation.boot_id
        why = "expired" if same_boot and now_us >= row.expires_us else "owner-dead"
        payload = {"name": row.name, "token": token, "previous_holder": row.holder, "why": why}
        return _store(connection, taken), Draft("lease.taken-over", payload)
    payload = {"name": operation.name, "token": token, "holder": operation.holder, "ttl_us": operation.ttl_us}
    return _store(connection, taken), Draft("lease.acquired", payload)


def _renewed(row: LeaseRow, operation: LeaseOperation, now_us: int) -> LeaseRow:
    return LeaseRow(
        row.name,
        row.token,
        row.holder,
        row.pid,
        row.pid_started,
        row.boot_id,
        row.acquired_us,
        now_us + operation.ttl_us,
        row.renewals + 1,
    )


def _store(connection: sqlite3.Connection, row: LeaseRow) -> LeaseRow:
    connection.execute(
        f"INSERT OR REPLACE INTO leases ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.name,
            row.token,
            row.holder,
            row.pid,
            row.pid_started,
            row.boot_id,
            row.acquired_us,
            row.expires_us,
            row.renewals,
        ),
    )
    return row
