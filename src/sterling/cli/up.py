"""`sterling up`: start the conductor, which runs what waits when the machine allows it."""

from __future__ import annotations

import getpass
from typing import Any

import click

from sterling.cli import face as faces
from sterling.cli.face import Face

__all__ = ["command"]

CONTRACT = "conductor.result@1.0"


@click.command("up")
@click.option("--foreground", is_flag=True, help="Stay in this terminal until Ctrl-C or SIGTERM.")
@click.option("--print-unit", is_flag=True, help="Print a unit for a user's service manager, start nothing.")
@click.option("--leave-safe-mode", is_flag=True, help="Allow heavy work again after crashes.")
@click.option("--reason", help="Why safe mode may end; kept in the ledger.")
@faces.options
def command(
    foreground: bool, print_unit: bool, leave_safe_mode: bool, reason: str | None, *, face: Face
) -> None:
    """Start the conductor of this home. One a home: a second start names the first.

    Exit 0 if it is up, 70 if it did not come up.
    """
    from sterling.kernel.clock import SystemClock
    from sterling.runtime.conductor_process import who_is_up
    from sterling.runtime.conductor_service import start_detached, unit_text

    if leave_safe_mode != bool(reason):
        raise click.UsageError("expected --leave-safe-mode and --reason TEXT together, found one of them")
    if print_unit:
        text = unit_text(face.home_path)
        face.present(_document("unit", None, None, False) | {"unit": text}, contract=CONTRACT, text=text)
    if leave_safe_mode:
        assert reason is not None
        _leave(face, reason)
    standing = who_is_up(face.home_path, SystemClock().boot_id())
    if standing is not None:
        _present(face, "already-up", standing.pid)
    if foreground:
        _serve(face)
    standing, is_ours = start_detached(face.home_path, face.settings)
    _present(face, "up" if is_ours else "already-up", standing.pid)


def _serve(face: Face) -> None:
    from sterling.app import job_sources
    from sterling.kernel.clock import SystemClock
    from sterling.kernel.locks import RoleTaken
    from sterling.runtime.conductor_loop import serve
    from sterling.runtime.conductor_process import who_is_up

    try:
        with face.open_home() as home:
            serve(home, job_sources(home), say=face.say)
    except RoleTaken:
        standing = who_is_up(face.home_path, SystemClock().boot_id())
        if standing is None:
            raise
        _present(face, "already-up", standing.pid)
    face.present(_document("ended", None, None, False), contract=CONTRACT, text="ended")


def _leave(face: Face, reason: str) -> None:
    from sterling.kernel.batch import Actor
    from sterling.runtime.safe_mode import leave_safe_mode

    with face.open_home() as home:
        was_on = leave_safe_mode(home, reason, Actor("person", getpass.getuser()))
    face.say("left safe mode" if was_on else "it was not in safe mode")


def _present(face: Face, state: str, pid: int) -> None:
    from sterling.kernel.clock import SystemClock
    from sterling.kernel.home import open_home
    from sterling.runtime.conductor_process import who_is_up
    from sterling.runtime.conductor_service import fence_of
    from sterling.runtime.safe_mode import is_safe_mode

    standing = who_is_up(face.home_path, SystemClock().boot_id())
    fence = None if standing is None else fence_of(face.home_path, standing)
    with open_home(face.home_path, read_only=True) as home:
        safe = is_safe_mode(home)
    text = f"{'up' if state == 'up' else 'already up'}, pid {pid}"
    text += "; safe mode: no heavy work" if safe else ""
    shown = state if fence is not None else "starting"
    face.present(_document(shown, pid, fence, safe), contract=CONTRACT, text=text)


def _document(state: str, pid: int | None, fence: int | None, safe: bool) -> dict[str, Any]:
    return {"state": state, "pid": pid, "fence": fence, "safe_mode": safe, "ended": []}
