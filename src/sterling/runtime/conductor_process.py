"""Which process is the conductor of a home, is it alive, and how it is ended.

A conductor is believed when it holds the role's lock and its own file names a
process that lives: pid, start tick and boot must all fit, so a pid that was used
again is never signalled. The signal goes through a descriptor of the process,
which cannot come to mean another one in between.

Its workers carry a mark with the home and the owner. Where everything that
watched them was killed, the mark is how the rest is found, and a mark whose owner
lives, or that names another home, protects its process.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from sterling.kernel.home import Home
from sterling.kernel.liveness import ProcessName, is_alive, process_name
from sterling.runtime.host import OWNER_VARIABLE
from sterling.runtime.process_tree import descendants, end_tree
from sterling.runtime.watchdog import Progress, WatchState, watch

__all__ = [
    "CONDUCTOR_ROLE",
    "Standing",
    "end_conductor",
    "end_orphans",
    "owner_mark",
    "watch_standing",
    "who_is_up",
    "write_standing",
]

CONDUCTOR_ROLE = "conductor"
_END_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Standing:
    """What a conductor says of itself, about once a second. Times are on the boot clock."""

    pid: int
    started_ticks: int
    boot_id: str
    started_us: int
    progress_us: int | None = None
    failures: int = 0

    @property
    def process(self) -> ProcessName:
        return ProcessName(self.pid, self.started_ticks, self.boot_id)


def write_standing(home: Path, standing: Standing) -> None:
    """Replace the conductor's file as a whole."""
    path = _file(home)
    fresh = path.with_suffix(".json.fresh")
    fresh.write_text(json.dumps(asdict(standing), sort_keys=True), encoding="ascii")
    os.replace(fresh, path)


def who_is_up(home: Path, boot_id: str) -> Standing | None:
    """The conductor that works on this home now, or None when nobody provably does."""
    try:
        standing = Standing(**json.loads(_file(home).read_text(encoding="ascii")))
    except (OSError, ValueError, TypeError):
        return None
    if not _is_role_held(home) or not is_alive(standing.process, boot_id):
        return None
    return standing


def watch_standing(standing: Standing, now_us: int) -> WatchState:
    """What its own words of progress say about a conductor."""
    return watch(Progress(standing.started_us, standing.progress_us, standing.failures), now_us)


def end_conductor(standing: Standing, boot_id: str, *, deadline_ms: int) -> tuple[list[int], bool]:
    """Ask that very process to end, and end its whole tree at the deadline.

    Returns the pids that were there and are gone, and whether it went by itself.
    A process that is not the named one is not touched.
    """
    try:
        descriptor = os.pidfd_open(standing.pid)
    except ProcessLookupError:
        return [], True
    try:
        if not is_alive(standing.process, boot_id):  # Looked at behind the descriptor: it stays this one.
            return [], True
        below = descendants(standing.pid)
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        in_order = _has_ended(descriptor, deadline_ms / 1000)
        if not in_order:
            signal.pidfd_send_signal(descriptor, signal.SIGSTOP)
            below = sorted({*below, *descendants(standing.pid)})
            end_tree(standing.pid)
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            _has_ended(descriptor, _END_WAIT_S)
    finally:
        os.close(descriptor)
    gone = [pid for pid in (standing.pid, *below) if not os.path.exists(f"/proc/{pid}") or _is_zombie(pid)]
    return gone, in_order


def owner_mark(home: Home) -> str:
    """What the workers of this process carry."""
    me = process_name(home.clock.boot_id())
    return f"{home.id}/{me.pid}/{me.started_ticks}/{me.boot_id}"


def end_orphans(home_id: str, boot_id: str) -> list[int]:
    """End every process that carries this home's mark and whose owner is dead; returns their pids."""
    ended: list[int] = []
    for pid in _orphans(home_id, boot_id):
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if _is_orphan(pid, home_id, boot_id):
                end_tree(pid)
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                _has_ended(descriptor, _END_WAIT_S)
                ended.append(pid)
        except ProcessLookupError:
            continue
        finally:
            os.close(descriptor)
    return ended


def _orphans(home_id: str, boot_id: str) -> Iterator[int]:
    for name in sorted(os.listdir("/proc")):
        if name.isdigit() and int(name) != os.getpid() and _is_orphan(int(name), home_id, boot_id):
            yield int(name)


def _is_orphan(pid: int, home_id: str, boot_id: str) -> bool:
    """Whether a process carries a mark of this home and of an owner that is dead; what hides is not ours."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    wanted = f"{OWNER_VARIABLE}=".encode()
    for variable in variables:
        if variable.startswith(wanted):
            words = variable[len(wanted) :].decode("ascii", "replace").split("/")
            if len(words) != 4 or words[0] != home_id or not (words[1] + words[2]).isdigit():
                return False
            return not is_alive(ProcessName(int(words[1]), int(words[2]), words[3]), boot_id)
    return False


def _is_role_held(home: Path) -> bool:
    """Whether somebody holds the role's lock; looking takes it for a moment, shared with other lookers."""
    try:
        descriptor = os.open(home / "run" / f"{CONDUCTOR_ROLE}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _has_ended(descriptor: int, wait_s: float) -> bool:
    return bool(select.select([descriptor], [], [], wait_s)[0])


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except OSError:
        return True


def _file(home: Path) -> Path:
    return home / "run" / "conductor.json"
