"""A family's parent: loads the libraries its tasks share, then forks a guard for each task.

It runs no plugin code and holds no thread of its own, so a fork of it is a warm
and clean worker. It is told what to start over a socket that passes each guard's
own control socket along; when that socket ends, it waits for its guards, which
see their owner gone and end their tasks, and then ends itself. Orphans of a
guard that was killed come to it, and it kills them.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from sterling.runtime.body import guard_task
from sterling.runtime.frames import ORDER_BYTES_MAX
from sterling.runtime.process_tree import become_subreaper, children_of, end_tree, signal_all
from sterling.runtime.worker import work

__all__ = ["main"]

_LAST_WAIT_S = 30.0
_POLL_S = 0.005


def main(descriptor: int, modules: Sequence[str]) -> int:
    """Serve one owner until it goes away."""
    owner = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the owner, which decides.
    become_subreaper()
    _preload(modules)
    gc.collect()
    gc.freeze()  # What is loaded is never looked at again, so forks keep sharing its pages.
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    guards: set[int] = set()
    while True:
        ready, _, _ = select.select([owner.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _reap(guards)
        if owner.fileno() in ready:
            order, control = _receive(owner)
            if order is None or control is None:
                break
            guards.add(_fork_guard(owner, control, order, (woken, wake)))
    _end(guards)
    return 0


def _preload(modules: Sequence[str]) -> None:
    """Load what the tasks will import; what cannot load is left to the task that wants it, which says why."""
    for name in modules:
        with suppress(Exception):  # The plugin's own import raises it again, as its outcome.
            importlib.import_module(name)


def _receive(owner: socket.socket) -> tuple[dict[str, Any] | None, socket.socket | None]:
    message, descriptors, _, _ = socket.recv_fds(owner, ORDER_BYTES_MAX, 1)
    if not message or not descriptors:
        return None, None
    return json.loads(message), socket.socket(fileno=descriptors[0])


def _fork_guard(
    owner: socket.socket, control: socket.socket, order: dict[str, Any], pipe: tuple[int, int]
) -> int:
    pid = os.fork()
    if pid == 0:
        _be_guard(owner, control, order, pipe)
    control.close()
    return pid


def _be_guard(
    owner: socket.socket, control: socket.socket, order: dict[str, Any], pipe: tuple[int, int]
) -> NoReturn:
    status = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        owner.close()
        for end in pipe:
            os.close(end)
        guard_task(control, order, work)
        status = 0
    finally:
        os._exit(status)


def _reap(guards: set[int]) -> None:
    """Collect who ended. After a guard that was killed, and after each orphan it left, kill what came to us.

    An orphan's own children come only when it is dead, so each death looks again.
    """
    strays = False
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            break
        strays = strays or pid not in guards or status != 0
        guards.discard(pid)
    if strays:
        for child in children_of(os.getpid()):
            if child not in guards:
                end_tree(child)
                signal_all((child,), signal.SIGKILL)


def _end(guards: set[int]) -> None:
    """Wait for the guards to end their tasks; what still lives after that is killed."""
    deadline = time.monotonic() + _LAST_WAIT_S
    while guards and time.monotonic() < deadline:
        _reap(guards)
        time.sleep(_POLL_S)
    end_tree(os.getpid())
