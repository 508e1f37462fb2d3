"""Running a command of somebody else: bounded, watched, and ended with everything it started.

The command is an argument array, never a line for a shell. It runs in a new
session below a guard process (guard.py) that is the subreaper of its whole tree,
so that a daemon it leaves behind ends with it, and so does it when we die.
Output goes to files; what passes a limit is ended, first asked and then killed.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.shipped import package_root
from sterling.runtime.frames import FrameInvalid, FrameTooLarge, read_frame, send_frame
from sterling.runtime.limits import BodyLimits

__all__ = ["CommandEnd", "CommandGuardLost", "CommandLimits", "CommandNotStarted", "run_command"]

GRACE_MS = 2_000
_LAUNCH = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from sterling.runtime.body import command_main; sys.exit(command_main(int(sys.argv[2])))"
)


class CommandNotStarted(SterlingError):
    """The command could not be started at all."""

    code = "command.not-started"
    hint = "Name a program that exists, and an existing folder. See `sterling ci run --help`."
    exit = EXIT_USAGE


class CommandGuardLost(SterlingError):
    """The guard of a command went away before it reported."""

    code = "command.guard-lost"
    hint = (
        "Something killed the guard, and with it the command. Look with `sterling status`, then run it again."
    )


@dataclass(frozen=True, slots=True)
class CommandLimits:
    """Bounds over the command's whole tree; 0 means none."""

    wall_ms: int = 0
    cpu_ms: int = 0
    memory_bytes: int = 0
    file_bytes: int = 0
    output_bytes: int = 0
    processes: int = 0


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """How a command ended. Exactly one of status and signal is set; `limit` says which bound it passed."""

    status: int | None
    signal: int | None
    limit: str | None
    wall_us: int
    rss_max: int
    walls: tuple[str, ...]
    cpu_us: int = 0
    output_bytes: int = 0
    left_behind: int = 0


def run_command(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    limits: CommandLimits,
    stdout: Path,
    stderr: Path,
    grace_ms: int = GRACE_MS,
) -> CommandEnd:
    """Run a command to its end and return how it ended. Its whole tree is gone when this returns.

    An exception here, Ctrl-C included, ends the tree before it goes on. One path
    for stdout and stderr keeps their lines in order.

    Raises:
        CommandNotStarted: no such program or folder, or the arguments are too long.
        CommandGuardLost: something killed the guard.
    """
    if not argv:
        raise CommandNotStarted("expected a command, found no words")
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            guard = _start_guard(theirs)
        order = {
            "argv": list(argv),
            "cwd": str(cwd),
            "env": dict(env),
            "limits": _body_limits(limits, grace_ms).as_json(),
            "stdout": str(stdout),
            "stderr": str(stderr),
        }
        try:
            return _await_end(ours, order)
        finally:
            ours.close()  # The guard kills what is left when its owner goes away.
            _await_guard(guard)


def _start_guard(theirs: socket.socket) -> subprocess.Popen[bytes]:
    # Isolated and without site: the guard is standard library alone, and starts in a few milliseconds.
    words = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(package_root().parent), str(theirs.fileno())]
    return subprocess.Popen(
        words,
        pass_fds=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={},
    )


def _body_limits(limits: CommandLimits, grace_ms: int) -> BodyLimits:
    return BodyLimits(
        wall_ms=limits.wall_ms,
        cpu_ms=limits.cpu_ms,
        memory_bytes=limits.memory_bytes,
        file_bytes=limits.file_bytes,
        output_bytes=limits.output_bytes,
        processes=limits.processes,
        grace_ms=grace_ms,
    )


def _await_end(ours: socket.socket, order: dict[str, Any]) -> CommandEnd:
    try:
        send_frame(ours, order)
        frame = read_frame(ours)
    except FrameTooLarge as problem:
        raise CommandNotStarted(f"expected words and environment within a frame: {problem}") from problem
    except (FrameInvalid, OSError) as problem:
        raise CommandGuardLost(f"expected the end of the command, found {problem}") from problem
    if frame is None:
        raise CommandGuardLost("expected the end of the command, found that its guard is gone")
    if frame["type"] == "not-started":
        raise CommandNotStarted(f"expected {order['argv'][0]!r} to start, found {frame['message']}")
    return CommandEnd(
        status=frame["status"],
        signal=frame["signal"] or None,
        limit=frame["limit"] or None,
        wall_us=frame["wall_us"],
        rss_max=frame["rss_max"],
        walls=tuple(frame["walls"]),
        cpu_us=frame["cpu_us"],
        output_bytes=frame["output_bytes"],
        left_behind=frame["left_behind"],
    )


def _await_guard(guard: subprocess.Popen[bytes]) -> None:
    """The guard ends its tree and then itself; a second Ctrl-C must not leave it half done."""
    while True:
        try:
            guard.wait()
            return
        except KeyboardInterrupt:
            continue
