"""Roles that one process at a time may hold, kept by `flock` on an open file.

The kernel of the operating system frees the lock on any death, so no stale file
can block a start. The text in the file is for people only.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path

from sterling.kernel.errors import SterlingError
from sterling.kernel.liveness import started_ticks

__all__ = ["Role", "RoleTaken", "close_kept", "keep_from_children"]

_POLL_S = 0.02
_held: set[int] = set()


class RoleTaken(SterlingError):
    """Another process holds a role that must be single."""

    code = "home.role-taken"
    hint = "Wait for that process to end, or look at it with `sterling status`."


class Role:
    """A role of one home, held until `release` or the end of the process."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._path = folder / f"{name}.lock"
        self._descriptor: int | None = None

    def take(self, *, wait_ms: int = 0) -> None:
        """Take the role, waiting at most `wait_ms`.

        Errors: RoleTaken, naming the process that holds it.
        """
        assert self._descriptor is None, f"role {self.name} is held already"
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + wait_ms / 1000
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = os.read(descriptor, 400).decode("utf-8", "replace").strip()
                    os.close(descriptor)
                    raise RoleTaken(
                        f"expected role {self.name} to be free, found it held by {holder or 'a process'}",
                        role=self.name,
                        holder=holder,
                        waited_ms=wait_ms,
                    ) from None
                time.sleep(_POLL_S)
        self._describe(descriptor)
        self._descriptor = keep_from_children(descriptor)

    def release(self) -> None:
        """Give the role back; nothing happens when it is not held."""
        if self._descriptor is not None:
            close_kept(self._descriptor)
            self._descriptor = None

    def _describe(self, descriptor: int) -> None:
        words = " ".join([Path(sys.argv[0] or "python").name, *sys.argv[1:]])[:200]
        text = f"pid {os.getpid()} (start tick {started_ticks(os.getpid())}): {words}\n"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode("utf-8", "replace"), 0)


def keep_from_children(descriptor: int) -> int:
    """Close the descriptor of a lock in every forked child: the lock would outlive its holder there."""
    _held.add(descriptor)
    return descriptor


def close_kept(descriptor: int) -> None:
    """Close a descriptor that was kept from children, and with it its lock."""
    if descriptor in _held:  # Not so in a child, where it is closed already.
        _held.remove(descriptor)
        os.close(descriptor)


def _close_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
