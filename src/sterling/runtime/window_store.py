"""The budget window in the ledger: written after each change, read at every start.

The newest `runtime.window` entry is the window. It carries the position, so a
restart, a reboot or a changed wall clock goes on with the same books. Whoever
starts over leases that a dead process left open calls `budgets.recover` first.
"""

from __future__ import annotations

from sterling.kernel.batch import Batch
from sterling.kernel.clock import Clock
from sterling.kernel.ledger import Ledger
from sterling.runtime import budgets
from sterling.runtime.budgets import Limits, Position, Window

__all__ = ["position_now", "read_window", "write_window"]


def read_window(ledger: Ledger, limits: Limits, clock: Clock) -> tuple[Window, Position]:
    """The window as it was last written, and the position now; an empty window in a new home."""
    entry = ledger.newest(budgets.WINDOW_SUBJECT)
    if entry is None:
        position = position_now(None, clock)
        return budgets.first_window(limits, position.position_us), position
    position = position_now(budgets.position_from_document(entry.payload), clock)
    return budgets.window_from_document(entry.payload), position


def write_window(batch: Batch, window: Window, limits: Limits, position: Position) -> None:
    """Add the window to a batch; the caller commits."""
    document = budgets.window_document(window, limits, position)
    batch.append("runtime.window", document, subject=budgets.WINDOW_SUBJECT)


def position_now(previous: Position | None, clock: Clock) -> Position:
    """The home's position now, from the last one known."""
    return budgets.carry(previous, boot_id=clock.boot_id(), boot_us=clock.boot_us(), wall_us=clock.wall_us())
