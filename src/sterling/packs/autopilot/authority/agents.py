"""Starting an agent's process and saying how it ended.

The command is the user's own, an argument array. `{brief}` and `{brief_file}` in
it stand for the text that says what is asked, `{python}` for Sterling's
interpreter. In this build nothing holds the process (ring `uncontained`): it gets
the user's environment, and where to ask the authority. Its whole tree ends with
it, with us, at its time limit, or when it has been silent for too long.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from sterling.packs.autopilot.errors import AgentUnreachable
from sterling.packs.autopilot.profile import ProfileLimits
from sterling.runtime.commands import CommandLimits, CommandNotStarted, run_command

__all__ = ["AgentEnd", "agent_argv", "run_agent"]

_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class AgentEnd:
    """How an agent's process ended. `code` is ok, or says what went wrong."""

    code: str
    because: str
    exit: int = 0
    signal: int = 0
    wall_us: int = 0


class _Stopped(Exception):
    """Raised in the main thread to end the agent."""


def agent_argv(argv: Sequence[str], brief: str, brief_file: Path) -> list[str]:
    """The command with its placeholders filled in."""
    known = {"{python}": sys.executable, "{brief}": brief, "{brief_file}": str(brief_file)}
    return [known.get(word, word) for word in argv]


def run_agent(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    limits: ProfileLimits,
    wall_s: int,
    output: tuple[Path, Path],
    should_stop: Callable[[], str],
) -> AgentEnd:
    """Run the agent to its end. `should_stop` is asked a few times a second and gives a code or nothing.

    Raises:
        AgentUnreachable: the command could not be started.
    """
    bounds = CommandLimits(
        wall_ms=wall_s * 1000,
        memory_bytes=limits.memory_bytes,
        output_bytes=limits.output_bytes,
        processes=limits.processes,
    )
    started = time.monotonic()
    with _watch(should_stop) as reason:
        try:
            end = run_command(argv, cwd=cwd, env=env, limits=bounds, stdout=output[0], stderr=output[1])
        except CommandNotStarted as problem:
            raise AgentUnreachable(problem.message) from problem
        except _Stopped:
            wall_us = int((time.monotonic() - started) * 1_000_000)
            return AgentEnd(reason[0], _STOPPED.get(reason[0], "The authority ended it."), wall_us=wall_us)
    if end.limit == "limit.wall":
        return AgentEnd("budget.minutes", f"It ran longer than {wall_s} s.", wall_us=end.wall_us)
    if end.limit or end.signal or end.status:
        how = end.limit or (f"signal {end.signal}" if end.signal else f"exit {end.status}")
        return AgentEnd("agent.crashed", f"It ended by {how}.", end.status or 0, end.signal or 0, end.wall_us)
    return AgentEnd("ok", "It ended with exit 0.", wall_us=end.wall_us)


_STOPPED = {
    "agent.silent": "It asked nothing and printed nothing for too long.",
    "transition.task-closed": "The task was no longer open.",
}


@contextmanager
def _watch(should_stop: Callable[[], str]) -> Iterator[list[str]]:
    """Ask `should_stop` from a thread, and interrupt the main thread when it gives a code.

    Outside the main thread nothing can be interrupted; the time limit still holds there.
    """
    reason: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield reason
        return
    done = threading.Event()
    main = threading.get_ident()

    def look() -> None:
        while not done.wait(_LOOK_S):
            code = should_stop()
            if code:
                reason.append(code)
                signal.pthread_kill(main, signal.SIGUSR1)
                return

    before = signal.signal(signal.SIGUSR1, _raise)
    watcher = threading.Thread(target=look, name="agent-watch", daemon=True)
    watcher.start()
    try:
        yield reason
    finally:
        done.set()
        try:
            watcher.join()
        except _Stopped:  # The agent ended by itself at the very moment it was to be stopped.
            watcher.join()
        signal.signal(signal.SIGUSR1, before)


def _raise(number: int, frame: FrameType | None) -> None:
    raise _Stopped
