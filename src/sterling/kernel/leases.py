"""Leases: the right to do one thing until a time, with a fence token.

Every write under a lease names its fence (`batch.require(FenceHolds(...))`) and
is checked in the same transaction, so a holder that was paused past its time
cannot write. The rules are in `lease_table.py`; this is the public face.
"""

from __future__ import annotations

from dataclasses import dataclass

from sterling.kernel.batch import Batch, Fence, LeaseOperation, LeaseVerb
from sterling.kernel.clock import Clock
from sterling.kernel.lease_table import LeaseRow, read_lease
from sterling.kernel.ledger import Ledger
from sterling.kernel.liveness import holder_name, process_name

__all__ = ["Lease", "LeaseRow", "Leases"]


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
    """The leases of one home."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger, self._clock = ledger, clock

    def acquire(self, name: str, ttl_s: int = 300, holder: str = "", *, batch: Batch | None = None) -> Lease:
        """Take a free, expired or dead owner's lease; taking one's own again renews it.

        A batch that is given is written in the same transaction, under the lease.

        Errors: lease.held (the refusal is an entry too).
        """
        owner = holder or holder_name(process_name(self._clock.boot_id()))
        row = self._operate(LeaseVerb.ACQUIRE, name, owner, ttl_s * 1_000_000, batch)
        return Lease(name, owner, row.token, ttl_s * 1_000_000, row.expires_us)

    def renew(self, lease: Lease) -> Lease:
        """Move the end to now + ttl. Errors: lease.expired, lease.lost."""
        row = self._operate(LeaseVerb.RENEW, lease.name, lease.holder, lease.ttl_us)
        return Lease(lease.name, lease.holder, row.token, lease.ttl_us, row.expires_us)

    def release(self, lease: Lease) -> None:
        """Give it back. Errors: lease.expired, lease.lost."""
        self._operate(LeaseVerb.RELEASE, lease.name, lease.holder, 0)

    def read(self, name: str) -> LeaseRow | None:
        """The row of a lease, held or free, or None when nobody ever took it."""
        return read_lease(self._ledger.connection(), name)

    def held(self) -> list[LeaseRow]:
        """Every lease with a live holder, by name."""
        rows = self._ledger.connection().execute("SELECT name FROM leases WHERE holder <> '' ORDER BY name")
        now_us, boot_id = self._clock.boot_us(), self._clock.boot_id()
        found = [read_lease(self._ledger.connection(), str(row[0])) for row in rows.fetchall()]
        return [row for row in found if row is not None and row.is_live(now_us, boot_id)]

    def _operate(
        self, verb: LeaseVerb, name: str, holder: str, ttl_us: int, batch: Batch | None = None
    ) -> LeaseRow:
        me = process_name(self._clock.boot_id())
        batch = batch or Batch()
        operation = LeaseOperation(verb, name, holder, ttl_us, me.pid, me.started_ticks, me.boot_id)
        batch.operations.insert(0, operation)
        return self._ledger.commit(batch).leases[0]
