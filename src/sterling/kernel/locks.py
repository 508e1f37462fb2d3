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

__all__ = ["Role", "RoleTaken"]

_POLL_S = 0.02


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

    @property
    def is_held(self) -> bool:
        return self._descriptor is not None

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
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the role back; nothing happens when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _describe(self, descriptor: int) -> None:
        words = " ".join([Path(sys.argv[0] or "python").name, *sys.argv[1:]])[:200]
        text = f"pid {os.getpid()} (start tick {started_ticks(os.getpid())}): {words}\n"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode("utf-8", "replace"), 0)
