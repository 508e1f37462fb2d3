"""Walls: what bounds a worker or a command, and which of them hold on this machine.

The kernel's resource limits are set between fork and exec, where they cannot be
taken back by the body. The guard samples what they cannot see: resident memory,
CPU time and process count of the whole tree, elapsed time, output. What held is
recorded by name, so a run never claims a wall that was not there.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from sterling.runtime.process_tree import Usage

__all__ = ["BodyLimits", "apply_rlimits", "breached"]

_MIB = 1024 * 1024
_DATA_FACTOR = (
    2  # Virtual size runs ahead of resident size; the sampler holds the line, this holds the burst.
)
_DATA_SLACK_BYTES = 256 * _MIB
_FILES_MAX = 1024
_PROCESS_SLACK = 64  # Other programs of the same user share this kernel limit.


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Bounds over a whole process tree, the body counted. Zero means no bound."""

    wall_ms: int
    cpu_ms: int
    memory_bytes: int
    file_bytes: int
    output_bytes: int
    processes: int
    grace_ms: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def apply_rlimits(limits: BodyLimits, *, bound_data: bool) -> list[str]:
    """Set the kernel's limits on this process; returns the names of the walls that hold.

    `bound_data` also bounds private memory, which some runtimes reserve without
    using; a body that cannot get it sees a failed allocation.
    """
    walls: list[str] = []
    table: list[tuple[str, int, int]] = [
        ("core:rlimit", resource.RLIMIT_CORE, 0),
        ("files:rlimit", resource.RLIMIT_NOFILE, _FILES_MAX),
    ]
    if limits.cpu_ms:
        table.append(("cpu:rlimit", resource.RLIMIT_CPU, -(-limits.cpu_ms // 1000) + 1))
    if limits.file_bytes:
        table.append(("file-size:rlimit", resource.RLIMIT_FSIZE, limits.file_bytes))
    if limits.memory_bytes and bound_data:
        bytes_max = limits.memory_bytes * _DATA_FACTOR + _DATA_SLACK_BYTES + _data_bytes()
        table.append(("memory:rlimit-data", resource.RLIMIT_DATA, bytes_max))
    if os.getuid() != 0 and limits.processes:
        table.append(
            ("processes:rlimit", resource.RLIMIT_NPROC, _user_processes() + limits.processes + _PROCESS_SLACK)
        )
    for name, which, value in table:
        if _lower(which, value):
            walls.append(name)
    return walls


def breached(limits: BodyLimits, found: Usage, *, cpu_us: int, wall_us: int, output_bytes: int) -> str:
    """The first limit that these figures pass, as its reason code; "" for none."""
    checks: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("limit.memory", lambda: bool(limits.memory_bytes) and found.memory_bytes > limits.memory_bytes),
        ("limit.processes", lambda: bool(limits.processes) and found.processes > limits.processes),
        ("limit.output", lambda: bool(limits.output_bytes) and output_bytes > limits.output_bytes),
        ("limit.cpu", lambda: bool(limits.cpu_ms) and cpu_us > limits.cpu_ms * 1000),
        ("limit.wall", lambda: bool(limits.wall_ms) and wall_us > limits.wall_ms * 1000),
    )
    return next((code for code, is_passed in checks if is_passed()), "")


def _lower(which: int, value: int) -> bool:
    """Lower a limit, hard and soft; CPU keeps a second between the signal and the kill."""
    _, hard = resource.getrlimit(which)
    wanted_hard = value + 1 if which == resource.RLIMIT_CPU else value
    if hard != resource.RLIM_INFINITY:
        wanted_hard = min(hard, wanted_hard)
    try:
        resource.setrlimit(which, (min(value, wanted_hard), wanted_hard))
    except (OSError, ValueError):
        return False
    return True


def _data_bytes() -> int:
    """Private memory this process holds already (loaded libraries of a warm parent)."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"VmData:"):
                return int(line.split()[1]) * 1024
    return 0


def _user_processes() -> int:
    uid, count = os.getuid(), 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == uid:
                    count += len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue
    return count
