"""Ballast: room that is kept for the worst moment.

A file of 16 MiB is allocated when a home is made. When the disk is full it is
cut to nothing, so that open work can still be closed and the refusal be written.
It is allocated again once there is room.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["Ballast"]

_SPARE = 4  # Refilled when this many times its size is free, so that it does not flap.


class Ballast:
    """The ballast of one home. A home without the file has none and asks for none."""

    size_bytes = 16 * 1024 * 1024

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def is_released(self) -> bool:
        """Whether it was given up and is not back yet."""
        return self._size() == 0

    def fill(self) -> bool:
        """Allocate it; False when the disk has no room for it."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self.size_bytes)
            return True
        except OSError:
            os.ftruncate(descriptor, 0)
            return False
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Give its room to whoever must write now."""
        if self._size() > 0:
            os.truncate(self.path, 0)

    def refill(self) -> bool:
        """Allocate it again where it was released and there is room; whether that happened."""
        if not self.is_released:
            return False
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize >= _SPARE * self.size_bytes and self.fill()

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return -1
