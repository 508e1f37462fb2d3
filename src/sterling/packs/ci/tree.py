"""The listing of a folder and its hash: every file's path, mode, size and content.

Two folders have one hash when they hold the same files with the same bytes, the
same executable bits and the same links. Times, owners, empty folders and `.git`
do not count.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.canonical import Json
from sterling.kernel.hashing import address_of, hash_file, tagged_hash, u64

__all__ = ["TreeFile", "TreeListing", "tree_listing"]

_TAG = b"sterling/tree/1"


@dataclass(frozen=True, slots=True)
class TreeFile:
    """One file or link. `mode` is `100644`, `100755` or `120000`, as git writes them."""

    path: str
    mode: str
    size_bytes: int
    sha256: str

    def as_json(self) -> dict[str, Json]:
        return {"path": self.path, "mode": self.mode, "size_bytes": self.size_bytes, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class TreeListing:
    """Files sorted by their paths' bytes, and the hash over all of them."""

    entries: tuple[TreeFile, ...]
    sha256: str


def tree_listing(root: Path) -> TreeListing:
    """List and hash a folder. Sockets, pipes and devices are left out.

    Cost: reads every byte once.
    """
    entries = tuple(sorted(_walk(root), key=lambda entry: entry.path.encode("utf-8")))
    fields: list[bytes] = []
    for entry in entries:
        path = entry.path.encode("utf-8")
        fields += [u64(len(path)), path, entry.mode.encode("ascii"), bytes.fromhex(entry.sha256)]
    return TreeListing(entries, tagged_hash(_TAG, *fields).hex())


def _walk(root: Path) -> Iterator[TreeFile]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name != ".git"]
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in [*files, *links]:
            path = Path(folder) / name
            state = path.lstat()
            # A path that is no UTF-8 keeps its bytes, spelled out.
            relative = os.fsencode(path.relative_to(root)).decode("utf-8", "backslashreplace")
            if stat.S_ISLNK(state.st_mode):
                target = os.fsencode(os.readlink(path))
                yield TreeFile(relative, "120000", len(target), address_of(target))
            elif stat.S_ISREG(state.st_mode):
                mode = "100755" if state.st_mode & 0o100 else "100644"
                yield TreeFile(relative, mode, state.st_size, hash_file(path))
