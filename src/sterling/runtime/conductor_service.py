"""Starting the conductor behind the terminal, and bringing it down with all that it left.

A start is a new session with its output in `run/conductor.log` of the home; it is
done when the new process holds the lease, or when it turned out that another one
is up. Bringing it down asks that very process, ends its tree at the deadline, and
then closes what stands open in the ledger, so nothing is left for the next start.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.batch import Batch
from sterling.kernel.clock import Clock, SystemClock
from sterling.kernel.errors import EXIT_DEFECT, SterlingError
from sterling.kernel.home import Home, open_home
from sterling.runtime import budgets
from sterling.runtime.conductor import CONDUCTOR_LEASE
from sterling.runtime.conductor_process import Standing, end_conductor, end_orphans, who_is_up
from sterling.runtime.dispatches import JobSource
from sterling.runtime.governor_settings import GovernorSettings, SettingRefused
from sterling.runtime.left_open import close_left_open
from sterling.runtime.runs import recover_runs
from sterling.runtime.safe_mode import PROCESS_SUBJECT
from sterling.runtime.window_store import read_window

__all__ = ["ConductorNotStarted", "Down", "bring_down", "fence_of", "start_detached", "unit_text"]

DOWN_DEADLINE_MS = 10_000
_START_WAIT_S = 30.0
_LOOK_S = 0.05
_LOG_TAIL_LETTERS = 500


class ConductorNotStarted(SterlingError):
    """The process that should become the conductor ended, and no other one is up."""

    code = "conductor.not-started"
    hint = "See what is wrong with the home: `sterling doctor`; or watch it: `sterling up --foreground`."
    exit = EXIT_DEFECT


@dataclass(frozen=True, slots=True)
class Down:
    """What bringing it down did. `ended` are (what, id); `state` is ended, down (it was killed) or not-up."""

    state: str
    pid: int | None
    ended: tuple[tuple[str, str], ...]


def start_detached(home: Path, settings: Sequence[str], clock: Clock | None = None) -> tuple[Standing, bool]:
    """(the conductor that is up, whether it is the one started here).

    Raises:
        ConductorNotStarted: with the end of its log.
    """
    ticking = clock or SystemClock()
    log = home / "run" / "conductor.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with log.open("ab") as output:
        from_here = output.tell()
        child = subprocess.Popen(
            [*_words(home), *(f"--set={setting}" for setting in settings)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    until = time.monotonic() + _START_WAIT_S
    while True:
        ended = child.poll() is not None
        standing = who_is_up(home, ticking.boot_id())
        if standing is not None and standing.pid != child.pid:
            child.terminate()  # Else it would come up in the moment in which the other one goes.
            child.wait()
            return standing, False
        if standing is not None and fence_of(home, standing) is not None:
            return standing, True
        if ended or time.monotonic() > until:
            break
        time.sleep(_LOOK_S)
    if standing is not None:
        return standing, True  # Up, and waiting for a pass that somebody started by hand.
    said = log.read_bytes()[from_here:].decode("utf-8", "replace").strip()[-_LOG_TAIL_LETTERS:]
    raise ConductorNotStarted(f"expected the conductor to come up, found it ended: {said or 'no word'}")


def bring_down(
    home: Path,
    jobs_of: Callable[[Home], Sequence[JobSource]],
    *,
    deadline_ms: int = DOWN_DEADLINE_MS,
    orphans: bool = False,
    clock: Clock | None = None,
) -> Down:
    """End the conductor of a home, if one is up, and close what it left open.

    With `orphans` also end what earlier conductors left; their leases and runs are closed in any case.
    """
    ticking = clock or SystemClock()
    standing = who_is_up(home, ticking.boot_id())
    ended: list[tuple[str, str]] = []
    state = "not-up"
    if standing is not None:
        gone, in_order = end_conductor(standing, ticking.boot_id(), deadline_ms=deadline_ms)
        state = "ended" if in_order else "down"
        ended += [("conductor" if pid == standing.pid else "process", str(pid)) for pid in gone]
    with open_home(home, clock=clock) as opened:
        if orphans:
            ended += [("orphan", str(pid)) for pid in end_orphans(opened.id, ticking.boot_id())]
        if who_is_up(home, ticking.boot_id()) is None:
            ended += _close_what_stands_open(opened, jobs_of(opened), was_killed=state == "down")
    return Down(state, None if standing is None else standing.pid, tuple(ended))


def fence_of(home: Path, standing: Standing) -> int | None:
    """The fence of the lease that this conductor holds, or None."""
    with open_home(home, read_only=True) as opened:
        row = opened.leases.read(CONDUCTOR_LEASE)
    if row is None or (row.pid, row.pid_started, row.boot_id) != (
        standing.pid,
        standing.started_ticks,
        standing.boot_id,
    ):
        return None
    return row.token


def unit_text(home: Path) -> str:
    """A unit for a user's service manager that keeps the conductor of this home up."""
    return "\n".join(
        [
            "[Unit]",
            "Description=Sterling conductor",
            "",
            "[Service]",
            f"ExecStart={shlex.join(_words(home))}",
            "Restart=on-failure",
            "RestartSec=5",
            "KillMode=mixed",
            f"TimeoutStopSec={DOWN_DEADLINE_MS // 1000}",
            "",
            "[Install]",
            "WantedBy=default.target",
            "",
        ]
    )


def _close_what_stands_open(
    home: Home, jobs: Sequence[JobSource], *, was_killed: bool
) -> list[tuple[str, str]]:
    """Close the jobs and runs of dead processes; where a pass runs by hand, its jobs are its own."""
    closed = [("run", run) for run in recover_runs(home)]
    row = home.leases.read(CONDUCTOR_LEASE)
    is_held = row is not None and row.is_live(home.clock.boot_us(), home.clock.boot_id())
    is_left = row is not None and bool(row.holder) and not is_held
    if is_left or (not is_held and read_window(home.ledger, _limits(home), home.clock)[0].leases):
        lease = home.leases.acquire(CONDUCTOR_LEASE)
        keys = close_left_open(home, jobs, _limits(home), lease)[2]
        closed += [("dispatch", key) for key in keys]
        home.leases.release(lease)
    if was_killed:
        batch = Batch(closing=True)
        ended = {"command": "conductor", "exit": -int(signal.SIGKILL)}
        batch.append("process.ended", ended, subject=PROCESS_SUBJECT)
        home.ledger.commit(batch)
    return closed


def _limits(home: Home) -> budgets.Limits:
    try:
        return budgets.limits_of(GovernorSettings.from_config(home.config))
    except SettingRefused:
        return budgets.limits_of(GovernorSettings())


def _words(home: Path) -> list[str]:
    return [sys.executable, "-P", "-m", "sterling", "up", "--foreground", "--home", str(home.resolve())]
