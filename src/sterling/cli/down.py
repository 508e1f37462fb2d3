"""`sterling down`: end the conductor and everything it runs, and close what it left open."""

from __future__ import annotations

import click

from sterling.cli import face as faces
from sterling.cli import plain
from sterling.cli.face import Face

__all__ = ["command"]


@click.command("down")
@click.option("--orphans", is_flag=True, help="Also end processes that dead conductors of this home left.")
@click.option(
    "--deadline-ms",
    type=click.IntRange(0, 600_000),
    default=10_000,
    show_default=True,
    help="How long it may take to end in order before it is ended.",
)
@faces.options
def command(orphans: bool, deadline_ms: int, *, face: Face) -> None:
    """End the conductor of this home.

    Exit 0 if none is up any more, 1 if one still is.
    """
    from sterling.app import job_sources
    from sterling.kernel.clock import SystemClock
    from sterling.kernel.home import open_home
    from sterling.runtime.conductor_process import who_is_up
    from sterling.runtime.conductor_service import bring_down
    from sterling.runtime.safe_mode import is_safe_mode

    with open_home(face.home_path, read_only=True, settings=face.settings) as home:
        safe = is_safe_mode(home)
    down = bring_down(face.home_path, job_sources, deadline_ms=deadline_ms, orphans=orphans)
    left = who_is_up(face.home_path, SystemClock().boot_id())
    result = {
        "state": "up" if left is not None else down.state,
        "pid": down.pid if left is None else left.pid,
        "fence": None,
        "safe_mode": safe,
        "ended": [{"what": what, "id": one} for what, one in down.ended],
    }
    words = {
        "ended": "ended in order",
        "down": "did not end in order and was ended",
        "not-up": "no conductor was up",
        "up": "a conductor is up",
    }
    lines = [words[str(result["state"])], *(f"ended {what} {plain.text(one)}" for what, one in down.ended)]
    face.present(
        result, contract="conductor.result@1.0", text="\n".join(lines), exit=0 if left is None else 1
    )
