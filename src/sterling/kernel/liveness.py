"""Which process is this, and is that one still alive?

A pid alone proves nothing, because pids are used again. A process is named by
its pid, the tick at which it started, and the boot it belongs to. What cannot be
seen is taken for alive: a right is never given away on a guess.
"""

from __future__ import annotations

import functools
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ProcessName", "holder_name", "is_alive", "process_name", "started_ticks", "this_host"]


@dataclass(frozen=True, slots=True)
class ProcessName:
    """A process beyond doubt: its pid, its start in clock ticks since boot, and the boot."""

    pid: int
    started_ticks: int
    boot_id: str


def started_ticks(pid: int) -> int | None:
    """The tick at which this pid started, or None when there is no such process, or a dead one.

    The command's name stands in brackets and may hold anything, brackets and
    newlines too; after the last closing bracket come only a letter and numbers.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(b")")[2].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19])


def process_name(boot_id: str, pid: int | None = None) -> ProcessName:
    """This process, or the one with this pid (which must exist)."""
    number = os.getpid() if pid is None else pid
    ticks = _own_ticks(number) if pid is None else started_ticks(number)
    assert ticks is not None, f"no process {number}"
    return ProcessName(number, ticks, boot_id)


def is_alive(process: ProcessName, boot_id: str) -> bool:
    """Whether that very process still runs in this boot; one that hides from us is alive."""
    if process.boot_id == boot_id and process.pid == os.getpid():
        return _own_ticks(process.pid) == process.started_ticks
    try:
        return process.boot_id == boot_id and started_ticks(process.pid) == process.started_ticks
    except (PermissionError, IndexError):
        return True


def this_host() -> str:
    """The name of this machine as it stands in a lease."""
    return socket.gethostname()


def holder_name(process: ProcessName) -> str:
    """A name for a lease holder that never repeats: host, pid, start and 64 random bits."""
    return f"{this_host()}/{process.pid}/{process.started_ticks}/{secrets.token_hex(8)}"


@functools.cache
def _own_ticks(pid: int) -> int | None:
    """This process's own start never changes; a forked child has another pid, so it looks again."""
    return started_ticks(pid)
