"""Which file systems can hold a home: those whose locks and shared memory SQLite and `flock` can rely on.

Over a network two machines may each believe to hold a lock, so a home there is
refused for writing. Reading and verifying need no lock and still work.
"""

from __future__ import annotations

import os
from pathlib import Path

from sterling.kernel.errors import EXIT_USAGE, SterlingError

__all__ = ["FilesystemUnsupported", "filesystem_of", "require_local"]

_NETWORK = frozenset(
    (
        "9p",
        "afs",
        "ceph",
        "cifs",
        "davfs",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
        "sshfs",
    )
)


class FilesystemUnsupported(SterlingError):
    """The home lies on a file system of another machine."""

    code = "home.filesystem-unsupported"
    hint = "Put the home on a disk of this machine: `sterling init --home FOLDER`."
    exit = EXIT_USAGE


def require_local(path: Path) -> None:
    """Refuse a home on a network file system. Errors: FilesystemUnsupported."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return  # Not Linux, or no /proc: nothing to go by.
    kind = filesystem_of(os.path.realpath(path), mounts)
    if kind.removeprefix("fuse.") in _NETWORK:
        raise FilesystemUnsupported(f"expected a disk of this machine under {path}, found {kind}", found=kind)


def filesystem_of(path: str, mounts: str) -> str:
    """The type of the file system that a real path lies on, from the text of `mountinfo`; '' when unknown."""
    found, length = "", -1
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = _plain(fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= length:  # Of two mounts on one point the later hides the earlier.
            found, length = after.split(" ")[0], len(point)
    return found


def _plain(field: str) -> str:
    """A mount point as it is; the kernel writes blanks and backslashes in octal."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
