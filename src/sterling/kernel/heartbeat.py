"""A heartbeat: a thread that renews a lease while its work makes progress.

The work calls `progress()`. A beat comes every third of the ttl and renews only
if there was progress since the one before, so a hung worker loses its lease. A
store that cannot answer is asked again until the lease has run out; a lease is
lost when somebody says so or when its time is over, never kept on a guess. The
thread ends with the process and holds nothing up.

What to do about a lost lease is the owner's business: it looks at `is_lost`, or
gives a function. Its writes are refused by their fence in any case.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from sterling.kernel.clock import Clock
from sterling.kernel.errors import SterlingError
from sterling.kernel.lease_table import LeaseExpired, LeaseLost
from sterling.kernel.leases import Lease, Leases

__all__ = ["Heartbeat"]


class Heartbeat:
    """Keeps one lease alive; use it as a context manager around the work.

    `on_lost` is called once, in the heartbeat's thread, with the reason's code.
    """

    def __init__(
        self, leases: Leases, lease: Lease, clock: Clock, on_lost: Callable[[str], None] | None = None
    ) -> None:
        self._leases, self._clock, self._on_lost = leases, clock, on_lost
        self.lease = lease
        self._progressed = threading.Event()
        self._ending = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat {lease.name}", daemon=True)

    @property
    def is_lost(self) -> bool:
        """Whether the lease is gone, so that the work under it must stop."""
        return self._lost.is_set()

    def progress(self) -> None:
        """The work has moved on; without this the next beat does not renew."""
        self._progressed.set()

    def beat(self) -> bool:
        """Renew if the work progressed. Whether the lease is still ours; a refusal counts at once."""
        if self._clock.boot_us() >= self.lease.expires_us:
            return self._lose(LeaseExpired.code)
        if self._progressed.is_set():
            self._progressed.clear()
            try:
                self.lease = self._leases.renew(self.lease)
            except (LeaseExpired, LeaseLost) as refusal:
                return self._lose(refusal.code)
            except SterlingError:
                # No answer, or the cap: what was reported still counts, and the time goes on.
                self._progressed.set()
        return True

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop beating; the lease stays as it is, for its owner to give back."""
        self._ending.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(self._pause_us() / 1_000_000):
            if not self.beat():
                return

    def _pause_us(self) -> int:
        """A third of the ttl, or less when the lease ends before that."""
        return max(1, min(self.lease.ttl_us // 3, self.lease.expires_us - self._clock.boot_us()))

    def _lose(self, code: str) -> bool:
        self._lost.set()
        if self._on_lost is not None:
            self._on_lost(code)
        return False
