"""A control group for one body, where the kernel lets us make one: its end is one write for all in it.

Only `cgroup.kill` of version 2 is used, which needs no controller. The body
enters before it runs anything of its own; what it starts is inside by birth,
whatever sessions it makes. Where no group can be made there is none, and the
walk over the tree (process_tree.py) stands alone; it always comes after.

Commands get one. A step does not: entering a group takes the kernel longer than a
warm step takes, and a step's tree is small.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["Group"]

_PREFIX = "sterling-"
_TRIES, _TRY_S = 50, 0.002


class Group:
    """One folder of the control group file system, named after the process that answers for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def make(cls) -> Group | None:
        """A new, empty group below our own, or None. Groups of dead processes there are taken away."""
        try:
            own = _own_folder()
            if own is None:
                return None
            for name in os.listdir(own):
                if name.startswith(_PREFIX) and not os.path.exists(f"/proc/{name.removeprefix(_PREFIX)}"):
                    with suppress(OSError):  # Somebody lives in it, or another process took it away.
                        os.rmdir(own / name)
            folder = own / f"{_PREFIX}{os.getpid()}"
            folder.mkdir()
        except OSError:
            return None
        return cls(folder) if (folder / "cgroup.kill").exists() else None

    def enter(self) -> bool:
        """Put the calling process in; False when that is not allowed."""
        try:
            (self._folder / "cgroup.procs").write_text("0")
        except OSError:
            return False
        return True

    def kill(self) -> int:
        """Kill every process in it at once and see them gone; returns how many there were."""
        count = 0
        with suppress(OSError):
            for _ in range(_TRIES):
                living = len((self._folder / "cgroup.procs").read_text().split())
                if not living:
                    break
                (self._folder / "cgroup.kill").write_text("1")
                count = max(count, living)
                time.sleep(_TRY_S)
        return count

    def close(self) -> None:
        """Take the group away once the kernel has let go of its dead; one that stays is taken by the next."""
        for _ in range(_TRIES):
            try:
                self._folder.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(_TRY_S)


def _own_folder() -> Path | None:
    """Where this process stands in version 2, in the file system."""
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        places = [line.rstrip("\n").split("::", 1)[1] for line in file if line.startswith("0::")]
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            if after.startswith("cgroup2 ") and places:
                root, top = before.split()[3:5]
                inside = os.path.relpath(places[0], root)
                return None if inside.startswith("..") else Path(top, inside)
    return None
