"""Leases: the right to do one thing until a time, with a fence token.

Every write under a lease names its fence (`batch.require(FenceHolds(...))`) and
is checked in the same transaction, so a holder that was paused past its time
cannot write. The rules are in `lease_table.py`, keeping a lease alive is in
`heartbeat.py`; this is the public face. A store that cannot answer refuses.
"""

from __future__ import annotations

import sqlite3
import statistics
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sterling.kernel.batch import Batch, Fence, LeaseOperation, LeaseVerb
from sterling.kernel.clock import Clock
from sterling.kernel.errors import SterlingError
from sterling.kernel.group import LedgerBusy, LedgerIo
from sterling.kernel.lease_table import LeaseLost, LeaseRow, held_names, read_lease
from sterling.kernel.ledger import Ledger, StoredEntry
from sterling.kernel.liveness import holder_name, process_name, this_host

__all__ = ["Lease", "LeaseFigures", "LeaseRow", "LeaseUnavailable", "Leases", "lease_figures"]


class LeaseUnavailable(SterlingError):
    """The store cannot say who holds a lease, so nobody gets it."""

    code = "lease.unavailable"
    hint = "Stop the work that needs the lease and look at the home with `sterling status`."


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that this process holds. `expires_us` is on the boot clock."""

    name: str
    holder: str
    token: int
    ttl_us: int
    expires_us: int

    @property
    def fence(self) -> Fence:
        return Fence(self.name, self.token)


class Leases:
    """The leases of one home. Every call may raise lease.unavailable."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger, self._clock = ledger, clock

    def acquire(self, name: str, ttl_s: int = 300, holder: str = "", *, batch: Batch | None = None) -> Lease:
        """Take a free, expired or dead owner's lease; taking one's own again renews it.

        A batch that is given is written in the same transaction, under the lease.

        Errors: lease.held, also for a lease above or below (the refusal is an entry too);
                lease.cap-reached when it is one's own.
        """
        owner = holder or holder_name(process_name(self._clock.boot_id()))
        return self._operate(LeaseVerb.ACQUIRE, Lease(name, owner, 0, ttl_s * 1_000_000, 0), batch=batch)

    def renew(self, lease: Lease) -> Lease:
        """Move the end to now + ttl. Errors: lease.expired, lease.lost, lease.cap-reached."""
        return self._operate(LeaseVerb.RENEW, lease)

    def release(self, lease: Lease) -> None:
        """Give it back. Errors: lease.expired, lease.lost."""
        self._operate(LeaseVerb.RELEASE, lease)

    def swap(self, lease: Lease, to: str) -> Lease:
        """Give one back and take another in one step; refused, the first is kept.

        Errors: lease.expired, lease.lost (of the first), lease.held (of the second).
        """
        return self._operate(LeaseVerb.SWAP, lease, to)

    def read(self, name: str) -> LeaseRow | None:
        """The row of a lease, held or free, or None when nobody ever took it."""
        with _available(name):
            return read_lease(self._ledger.connection(), name)

    def held(self) -> list[LeaseRow]:
        """Every lease with a live holder, by name."""
        with _available("any"):
            connection = self._ledger.connection()
            rows = [read_lease(connection, name) for name in held_names(connection)]
        now_us, boot_id = self._clock.boot_us(), self._clock.boot_id()
        return [row for row in rows if row is not None and row.is_live(now_us, boot_id)]

    def _operate(self, verb: LeaseVerb, lease: Lease, to: str = "", *, batch: Batch | None = None) -> Lease:
        me = process_name(self._clock.boot_id())
        process = (me.pid, me.started_ticks, me.boot_id, this_host())
        batch = batch or Batch()
        operation = LeaseOperation(verb, lease.name, lease.holder, lease.ttl_us, *process, lease.token, to)
        batch.operations.insert(0, operation)
        name = to or lease.name
        with _available(name):
            rows = self._ledger.commit(batch).leases
            if verb is LeaseVerb.RELEASE:
                return lease
            # A batch that was sent twice gets its first receipt, which names no leases: look.
            row = rows[0] if rows else read_lease(self._ledger.connection(), name)
        if row is None or row.holder != lease.holder:
            raise LeaseLost(f"expected to hold lease {name}, found it taken meanwhile", lease=name)
        return replace(lease, name=name, token=row.token, expires_us=row.expires_us)


@contextmanager
def _available(name: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, LedgerBusy, LedgerIo) as problem:
        raise LeaseUnavailable(
            f"expected the store to answer for lease {name}, found: {problem}", lease=name
        ) from problem


@dataclass(frozen=True, slots=True)
class LeaseFigures:
    """What the entries say about leases; times are of holds whose end is known."""

    holds: int
    contentions: int
    takeovers: int
    median_us: int
    max_us: int


def lease_figures(entries: Iterable[StoredEntry]) -> LeaseFigures:
    """Holds, contentions (refused because another held it), takeovers, and how long holds lasted."""
    holds = contentions = takeovers = 0
    lasted_us: dict[tuple[str, int], int] = {}
    for entry in entries:
        holds += entry.kind in ("lease.acquired", "lease.taken-over")
        takeovers += entry.kind == "lease.taken-over"
        contentions += entry.kind == "lease.refused" and entry.payload["code"] == "lease.held"
        if entry.kind in ("lease.released", "lease.expired"):
            lasted_us[(entry.payload["name"], entry.payload["token"])] = entry.payload["held_us"]
    ends = lasted_us.values()
    median_us = int(statistics.median(ends)) if ends else 0
    return LeaseFigures(holds, contentions, takeovers, median_us, max(ends, default=0))
