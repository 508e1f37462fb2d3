"""Files that are there whole or not at all, also when the power goes.

A file grows under another name, is synced, and takes its name; the folder that
holds the name is synced last. What a disk refuses comes out as OSError, for the
caller knows what it means.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["append_synced", "cut_torn_line", "replace_file", "sync_folder", "write_new", "write_synced"]

_TAIL_BYTES = 64 * 1024
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW


def replace_file(path: Path, data: bytes, *, growing: Path | None = None, mode: int = 0o600) -> None:
    """Put these bytes in the place of what has this name, if anything. `growing` is one writer's alone."""
    beside = growing or path.with_name(f".{path.name}.{os.getpid()}.incoming")
    write_synced(beside, data, mode=mode)
    beside.replace(path)
    sync_folder(path.parent)


def write_synced(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write over a file or make it, and sync it."""
    _write(os.open(path, _WRITE | os.O_TRUNC, mode), data)


def append_synced(path: Path, data: bytes) -> None:
    """Add to the end of a file, or make it, and sync it."""
    _write(os.open(path, _WRITE | os.O_APPEND, 0o600), data)


def write_new(path: Path, text: str) -> None:
    """Write a file that only its owner can read, durably; one that is there already is never replaced."""
    descriptor = os.open(path, _WRITE | os.O_EXCL, 0o600)
    os.fchmod(descriptor, 0o600)
    _write(descriptor, text.encode("ascii"))


def cut_torn_line(path: Path) -> int:
    """Move a last line without its newline to `<path>.torn`; 1 when there was one, else 0."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    with os.fdopen(descriptor, "r+b") as file:
        end = file.seek(0, os.SEEK_END)
        start, whole = end, -1
        while start and whole < 0:
            start = file.seek(max(0, start - _TAIL_BYTES))
            whole = file.read(_TAIL_BYTES).rfind(b"\n")
        cut = start + whole + 1
        if cut == end:
            return 0
        file.seek(cut)
        with path.with_name(path.name + ".torn").open("ab") as torn:
            torn.write(file.read() + b"\n")
            torn.flush()
            os.fsync(torn.fileno())
        file.truncate(cut)
    return 1


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
