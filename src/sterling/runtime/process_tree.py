"""A process and everything below it: seen, measured, and ended to the last one.

Signalling a process group misses children that called `setsid`, so this walks
the process table. With the supervisor as subreaper an orphan's parent is the
supervisor, and no descendant can leave the tree. Ending a tree stops what it
finds, looks again, and kills only when a look finds nothing new: a process that
is stopped cannot fork.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

__all__ = [
    "Usage",
    "become_subreaper",
    "children_of",
    "descendants",
    "die_with_parent",
    "end_tree",
    "reap_orphans",
    "signal_all",
    "tree_below",
    "usage",
]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")
_END_ROUNDS_MAX = 200
_END_WAIT_S = 0.005
_HAS_CHILDREN_FILES = os.path.exists(f"/proc/self/task/{os.getpid()}/children")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree uses now. `memory_bytes` counts anonymous and shared memory, `rss_bytes` file pages too."""

    processes: int
    memory_bytes: int
    rss_bytes: int
    cpu_us: int

    def less(self, shared_bytes: int) -> Usage:
        """The same without what each process shares with the one it was forked from."""
        return replace(self, memory_bytes=max(0, self.memory_bytes - shared_bytes * self.processes))


def become_subreaper() -> None:
    """Make this process the parent of every orphan below it."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends. Call it right after a fork."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def descendants(root: int) -> list[int]:
    """Every living process below `root`, without `root`, sorted by pid. Zombies do not count."""
    children: dict[int, list[int]] = {}
    zombies: set[int] = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            found = _parent_and_state(int(name))
            if found is not None:
                children.setdefault(found[0], []).append(int(name))
                if found[1] in "ZX":
                    zombies.add(int(name))
    below: list[int] = []
    waiting = list(children.get(root, ()))
    while waiting:
        pid = waiting.pop()
        below.append(pid)
        waiting.extend(children.get(pid, ()))
    return sorted(pid for pid in below if pid not in zombies)


def tree_below(root: int) -> list[int]:
    """The same for a sampler: from the kernel's lists of children where it has them; may miss a newborn."""
    if not _HAS_CHILDREN_FILES:
        return descendants(root)
    below: list[int] = []
    waiting = [root]
    while waiting:
        parent = waiting.pop()
        try:
            threads = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        for thread in threads:
            try:
                with open(f"/proc/{parent}/task/{thread}/children", "rb") as file:
                    found = [int(word) for word in file.read().split()]
            except OSError:
                continue
            below.extend(found)
            waiting.extend(found)
    return below


def usage(pids: Iterable[int]) -> Usage:
    """What these processes use; one that ends while we look counts for nothing."""
    count = memory = rss = cpu = 0
    for pid in pids:
        status = _memory_of(pid)
        if status is None:
            continue
        count += 1
        memory += status[0]
        rss += status[1]
        cpu += _cpu_of(pid)
    return Usage(count, memory, rss, cpu)


def signal_all(pids: Iterable[int], number: int) -> None:
    """Send a signal to each; one that is gone is no error."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def end_tree(root: int, *, keep: Iterable[int] = ()) -> int:
    """Kill everything below `root`, whatever sessions it made; returns how many were killed.

    The caller is `root` or its supervisor. Stops until a look finds nothing new,
    kills, reaps what are our own children (but leaves the status of those in
    `keep` for whoever wants it), and looks again until nothing is left.
    """
    killed: set[int] = set()
    for _ in range(_END_ROUNDS_MAX):
        stopped: set[int] = set()
        while fresh := set(descendants(root)) - stopped:
            signal_all(fresh, signal.SIGSTOP)
            stopped |= fresh
        if not stopped:
            return len(killed)
        signal_all(stopped, signal.SIGKILL)
        killed |= stopped
        if root == os.getpid():
            reap_orphans(keep)
        time.sleep(_END_WAIT_S)
    return len(killed)


def reap_orphans(keep: Iterable[int] = ()) -> None:
    """Collect dead children of this process, except those in `keep`, whose status somebody wants."""
    kept = set(keep)
    for pid in children_of(os.getpid()):
        if pid not in kept:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue


def children_of(parent: int) -> list[int]:
    """The direct children of a process, zombies included, sorted by pid."""
    found: list[int] = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            seen = _parent_and_state(int(name))
            if seen is not None and seen[0] == parent:
                found.append(int(name))
    return sorted(found)


def _parent_and_state(pid: int) -> tuple[int, str] | None:
    fields = _stat_fields(pid)
    return None if fields is None else (int(fields[1]), fields[0])


def _cpu_of(pid: int) -> int:
    """CPU time of a process and of its children that ended, in microseconds."""
    fields = _stat_fields(pid)
    return 0 if fields is None else sum(int(field) for field in fields[11:15]) * _TICK_US


def _stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat behind the name: state, parent, ..."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split() if ")" in text else None


def _memory_of(pid: int) -> tuple[int, int] | None:
    """(anonymous and shared, all resident) bytes, or None when the process is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            text = file.read()
    except OSError:
        return None
    sizes = {b"RssAnon": 0, b"RssShmem": 0, b"VmRSS": 0}
    for line in text.splitlines():
        name, _, value = line.partition(b":")
        if name in sizes:
            sizes[name] = int(value.split()[0]) * 1024
    return sizes[b"RssAnon"] + sizes[b"RssShmem"], sizes[b"VmRSS"]


def _prctl(option: int, argument: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
