"""Starting a body under a guard: fork, walls, then a task's code or a command.

What bounds the body is set after the fork and before it runs anything of its
own. It gets a new session, an empty standard input, pipes for its output and no
other open descriptor; it dies when its guard dies. A command is executed from an
argument array, never through a shell.

`python -c` starts `command_main` for one command (commands.py). A family's
parent (family.py) calls `guard_task` in a fork of itself.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from sterling.runtime.cgroup import Group
from sterling.runtime.frames import read_frame, send_frame
from sterling.runtime.guard import Guard, Sink, Stream
from sterling.runtime.launch import CHANNEL, Launch
from sterling.runtime.limits import BodyLimits, apply_rlimits
from sterling.runtime.process_tree import become_subreaper, die_with_parent

__all__ = ["command_main", "guard_task"]

_STATUS_NOT_STARTED = 127
_DESCRIPTORS_MAX = 1 << 20
_RESTORED = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGXCPU, signal.SIGCHLD)


def guard_task(control: socket.socket, order: dict[str, Any], body: Callable[[socket.socket], None]) -> None:
    """Guard one task: fork `body` with its own channel, watch it, report. Runs in a process of its own.

    An order with a launch is for code that nobody vouches for: instead of `body`, that is executed.
    """
    become_subreaper()
    limits = BodyLimits(**order["limits"])
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()

    launch = Launch.from_json(order["launch"]) if order["launch"] else None

    def run() -> None:
        if launch is None:
            body(theirs)
        else:
            os.dup2(theirs.fileno(), CHANNEL)
            os.set_inheritable(CHANNEL, True)
            launch.execute()

    pid, walls = _fork(
        run, limits, stdout=writing, stderr=writing, keep=theirs.fileno(), bound_data=True, group=None
    )
    theirs.close()
    os.close(writing)
    ours.setblocking(False)
    control.setblocking(False)
    guard = Guard(
        pid,
        limits,
        control,
        [Stream(reading, Sink())],
        walls=walls if launch is None else [*walls, *launch.held],
        channel=ours,
        folder=order["out_dir"],
        stall_ms=order["stall_ms"],
        shares_memory=launch is None,
    )
    guard.report(guard.watch())


def command_main(descriptor: int) -> int:
    """Guard one command, read from the control socket; returns the exit status of this process."""
    control = socket.socket(fileno=descriptor)
    order = read_frame(control)
    if order is None:
        return 0
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the owner, which decides.
    become_subreaper()
    limits, group = BodyLimits(**order["limits"]), Group.make()
    try:
        streams, stdout, stderr = _output_pipes(order["stdout"], order["stderr"])
        pid, walls = _fork(
            lambda: _execute(order),
            limits,
            stdout=stdout,
            stderr=stderr,
            keep=-1,
            bound_data=False,
            group=group,
        )
    except OSError as problem:
        if group is not None:
            group.close()
        send_frame(control, {"type": "not-started", "message": str(problem)})
        return 0
    for end in {stdout, stderr}:
        os.close(end)
    control.setblocking(False)
    guard = Guard(pid, limits, control, streams, walls=walls, group=group)
    guard.report(guard.watch())
    return 0


def _output_pipes(stdout: str, stderr: str) -> tuple[list[Stream], int, int]:
    """A pipe a file; one pipe when both names are one file, so that lines keep their order."""
    streams: list[Stream] = []
    writing: list[int] = []
    for path in (stdout,) if stdout == stderr else (stdout, stderr):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        reading, end = os.pipe()
        streams.append(Stream(reading, Sink(file)))
        writing.append(end)
    return streams, writing[0], writing[-1]


def _execute(order: dict[str, Any]) -> None:
    os.chdir(order["cwd"])
    os.execvpe(order["argv"][0], order["argv"], order["env"])


def _fork(
    run: Callable[[], None],
    limits: BodyLimits,
    *,
    stdout: int,
    stderr: int,
    keep: int,
    bound_data: bool,
    group: Group | None,
) -> tuple[int, list[str]]:
    """Fork the body behind its walls; returns its pid and the walls that hold.

    Raises:
        OSError: `run` failed before it could execute a command.
    """
    guard = os.getpid()
    telling_read, telling_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(telling_read)
        _be_body(guard, run, limits, (stdout, stderr, keep, telling_write), bound_data, group)
    os.close(telling_write)
    words = bytearray()
    while piece := os.read(telling_read, 65536):
        words += piece
    os.close(telling_read)
    told = [json.loads(line) for line in words.splitlines()]
    if len(told) > 1:
        os.waitpid(pid, 0)
        raise OSError(told[1]["errno"], told[1]["message"])
    return pid, told[0]["walls"] if told else []


def _be_body(
    guard: int,
    run: Callable[[], None],
    limits: BodyLimits,
    descriptors: tuple[int, int, int, int],
    bound_data: bool,
    group: Group | None,
) -> NoReturn:
    """The child's side. It never returns, and runs no exit handler of its parent."""
    stdout, stderr, keep, telling = descriptors
    status = 1
    try:
        die_with_parent(guard)
        os.setsid()
        for number in _RESTORED:
            signal.signal(number, signal.SIG_DFL)
        empty = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((empty, 0), (stdout, 1), (stderr, 2)):
            os.dup2(source, target)
        _close_except({0, 1, 2, keep, telling})
        walls = apply_rlimits(limits, bound_data=bound_data)
        if group is not None and group.enter():
            walls.append("tree:cgroup-kill")
        os.write(telling, json.dumps({"walls": walls}).encode() + b"\n")
        if keep >= 0:
            os.close(telling)  # A task's own code starts now; a command's exec closes it.
        run()
        status = 0
    except OSError as problem:
        status = _STATUS_NOT_STARTED
        if keep < 0:
            words = {"errno": problem.errno or 0, "message": f"{problem.strerror}: {problem.filename}"}
            os.write(telling, json.dumps(words).encode() + b"\n")
    finally:
        os._exit(status)


def _close_except(kept: set[int]) -> None:
    """Close every descriptor but these. Empty ranges are left out: closerange(0, 0) closes everything."""
    last = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    start = 0
    for descriptor in [*sorted(number for number in kept if number >= 0), min(last, _DESCRIPTORS_MAX)]:
        if start < descriptor:
            os.closerange(start, descriptor)
        start = descriptor + 1
