"""How short a disk is of room, and what still may be written there. Values in, verdict out.

| free on the home's disk | state      | what happens                                          |
| at least warn           | `ok`       | everything                                            |
| at least soft           | `warn`     | everything; it is shown                               |
| at least hard           | `soft`     | derived work is refused, capture goes on              |
| less                    | `spooling` | batches go to the spool, where there is one           |
| less, and no spool room | `full`     | refused; who captures counts the gap                  |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Pressure", "RoomLimits", "pressure"]


class Pressure(StrEnum):
    OK = "ok"
    WARN = "warn"
    SOFT = "soft"
    SPOOLING = "spooling"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """Bytes free on the home's disk below which its state changes; `spool` is the spool's own floor."""

    warn_bytes: int
    soft_bytes: int
    hard_bytes: int
    spool_bytes: int = 64 * 1024 * 1024


def pressure(
    free_bytes: int, spool_free_bytes: int | None, limits: RoomLimits, *, refused: bool = False
) -> Pressure:
    """The state of a home's disk. `refused` says that the disk itself said it is full.

    Without a spool a low disk is used to its end: the ballast keeps the last step safe.
    """
    if refused or (free_bytes < limits.hard_bytes and spool_free_bytes is not None):
        has_spool = spool_free_bytes is not None and spool_free_bytes >= limits.spool_bytes
        return Pressure.SPOOLING if has_spool else Pressure.FULL
    if free_bytes < max(limits.soft_bytes, limits.hard_bytes):
        return Pressure.SOFT
    return Pressure.WARN if free_bytes < limits.warn_bytes else Pressure.OK
