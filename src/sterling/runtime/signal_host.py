"""Host readings: how busy others keep the processors, how full memory is, how long work stalls.

Our own processes are left out of the processor reading, else our work would
switch itself off and on. Both sides are taken over the same second: the first
reading is `missing` until a second has passed. A tree that loses a process to
another parent counts that process as others' work, which errs to the safe side.

Memory is that of the machine, or of the control group where its limit is lower.
Stalls come from the kernel's pressure files; a kernel without them gives no reading.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sterling.runtime.reasons import Reason
from sterling.runtime.signals import Reading, Signal, State, SteadyClock, missing

__all__ = ["HostSource"]

_SPAN_US_MIN = 1_000_000
_SPAN_US_MAX = 3_000_000  # A longer pause says nothing about the last second.
_TREE_MAX = 4_096
_FULL_BP = 10_000
_PRESSURE = ("cpu", "memory", "io")


@dataclass(frozen=True, slots=True)
class _Ticks:
    """Clock ticks since boot: all, not idle, and our own tree's."""

    at_us: int
    total: int
    busy: int
    own: int


class HostSource:
    """Reads `/proc` and the control groups for one process tree; remembers the last seconds."""

    def __init__(
        self,
        root_pid: int | None = None,
        *,
        proc: Path = Path("/proc"),
        cgroup: Path = Path("/sys/fs/cgroup"),
    ) -> None:
        self._root = os.getpid() if root_pid is None else root_pid
        self._proc = proc
        self._cgroup = cgroup
        self._ticks: deque[_Ticks] = deque()

    def read(self, clock: SteadyClock) -> Sequence[Reading]:
        now_us = clock.boot_us()
        return (self._cpu(now_us), self._ram(now_us), self._stall(now_us))

    def _cpu(self, now_us: int) -> Reading:
        source = str(self._proc / "stat")
        try:
            total, busy = _cpu_ticks((self._proc / "stat").read_text("ascii"))
        except (OSError, ValueError):
            self._ticks.clear()
            return _unreadable(Signal.CPU_OTHER_BP, source, now_us)
        newest = _Ticks(now_us, total, busy, self._own_ticks())
        while self._ticks and now_us - self._ticks[0].at_us > _SPAN_US_MAX:
            self._ticks.popleft()
        # Keep one sample that is a second old, and everything younger.
        while len(self._ticks) > 1 and now_us - self._ticks[1].at_us >= _SPAN_US_MIN:
            self._ticks.popleft()
        self._ticks.append(newest)
        oldest = self._ticks[0]
        if newest.at_us - oldest.at_us < _SPAN_US_MIN or newest.total <= oldest.total:
            return missing(Signal.CPU_OTHER_BP, source, now_us)
        span = newest.total - oldest.total
        own = max(0, newest.own - oldest.own)
        other = max(0, newest.busy - oldest.busy - own)
        return Reading(Signal.CPU_OTHER_BP, min(_FULL_BP, other * _FULL_BP // span), source, now_us)

    def _own_ticks(self) -> int:
        """Processor time of our tree, with that of its children who ended."""
        waiting = [self._root]
        seen: set[int] = set()
        total = 0
        while waiting and len(seen) < _TREE_MAX:
            pid = waiting.pop()
            if pid in seen:
                continue
            seen.add(pid)
            try:
                stat = (self._proc / str(pid) / "stat").read_text("utf-8", "replace")
                fields = stat[stat.rindex(")") + 2 :].split()
                total += sum(int(field) for field in fields[11:15])
                waiting.extend(self._children(pid))
            except (OSError, ValueError):
                continue  # It ended while we looked; its parent counts it from now on.
        return total

    def _children(self, pid: int) -> list[int]:
        found: list[int] = []
        for task in os.scandir(self._proc / str(pid) / "task"):
            try:
                text = (Path(task.path) / "children").read_text("ascii")
            except OSError:
                continue  # The thread ended, or the kernel does not list children.
            found.extend(int(child) for child in text.split())
        return found

    def _ram(self, now_us: int) -> Reading:
        source = str(self._proc / "meminfo")
        try:
            used_bp, total = _memory((self._proc / "meminfo").read_text("ascii"))
        except (OSError, ValueError, KeyError):
            return _unreadable(Signal.RAM_USED_BP, source, now_us)
        for group in self._groups():
            grouped = _group_used_bp(group, total)
            if grouped is not None and grouped > used_bp:
                used_bp, source = grouped, str(group)
        return Reading(Signal.RAM_USED_BP, used_bp, source, now_us)

    def _groups(self) -> list[Path]:
        """Our memory control group and those above it, version 2 or 1."""
        try:
            lines = (self._proc / str(self._root) / "cgroup").read_text("utf-8").splitlines()
        except (OSError, ValueError):
            return []
        found: list[Path] = []
        for line in lines:
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if controllers == "":
                base = self._cgroup
            elif "memory" in controllers.split(","):
                base = self._cgroup / "memory"
            else:
                continue
            parts = [part for part in path.split("/") if part not in ("", "..")]
            found.extend(base.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))
        return found

    def _stall(self, now_us: int) -> Reading:
        folder = self._proc / "pressure"
        values: list[int] = []
        broken = False
        for name in _PRESSURE:
            try:
                values.append(_pressure_bp((folder / name).read_text("ascii")))
            except FileNotFoundError:
                continue
            except (OSError, ValueError):
                broken = True
        if values:
            return Reading(Signal.STALL_BP, max(values), str(folder), now_us)
        if broken:
            return _unreadable(Signal.STALL_BP, str(folder), now_us)
        return missing(Signal.STALL_BP, str(folder), now_us)


def _unreadable(signal: Signal, source: str, now_us: int) -> Reading:
    return Reading(signal, None, source, now_us, State.UNREADABLE, Reason.SIGNAL_UNREADABLE)


def _cpu_ticks(text: str) -> tuple[int, int]:
    """(all ticks, ticks that were not idle); guest time is already inside user time."""
    name, *fields = text.partition("\n")[0].split()
    if name != "cpu" or len(fields) < 4:
        raise ValueError("expected a cpu line")
    ticks = [int(field) for field in fields[:8]]
    idle = ticks[3] + (ticks[4] if len(ticks) > 4 else 0)
    return sum(ticks), sum(ticks) - idle


def _memory(text: str) -> tuple[int, int]:
    """(used basis points, total bytes) from the lines of meminfo."""
    rows: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            rows[name] = int(value.split()[0]) * 1024
    total, available = rows["MemTotal"], rows["MemAvailable"]
    if total <= 0:
        raise ValueError("expected a total above 0")
    return _share_bp(total - available, total), total


def _group_used_bp(group: Path, total_bytes: int) -> int | None:
    """How full a control group is, if its limit is below the machine's memory."""
    for limit_name, used_name, cold_name in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            limit = int((group / limit_name).read_text("ascii"))
            used = int((group / used_name).read_text("ascii"))
            stat = (group / "memory.stat").read_text("ascii")
        except (OSError, ValueError):
            continue  # No such file in this version, or "max": no limit here.
        if not 0 < limit < total_bytes:
            continue
        cold = next((int(line.split()[1]) for line in stat.splitlines() if line.split()[0] == cold_name), 0)
        return _share_bp(used - cold, limit)
    return None


def _pressure_bp(text: str) -> int:
    """`some avg10` of a pressure file, which is a percentage with two decimals."""
    for line in text.splitlines():
        kind, *fields = line.split()
        if kind == "some":
            whole, _, part = dict(field.split("=", 1) for field in fields)["avg10"].partition(".")
            return int(whole) * 100 + int(f"{part}00"[:2])
    raise ValueError("expected a line `some`")


def _share_bp(part: int, whole: int) -> int:
    return max(0, min(_FULL_BP, part * _FULL_BP // whole))
