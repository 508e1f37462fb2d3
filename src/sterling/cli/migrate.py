"""`sterling migrate`: move a home to the version of this program."""

from __future__ import annotations

import click

from sterling.cli import face as faces
from sterling.cli import plain
from sterling.cli.face import Face

__all__ = ["command"]


@click.command("migrate")
@faces.options
def command(*, face: Face) -> None:
    """Move the home to this version. Exit 0 moved or nothing to do, 3 if its ledger does not hold.

    The old database stays beside the new one, verified. Killed at any point,
    run it again.
    """
    from sterling.kernel.anchors import Anchors
    from sterling.kernel.migrate import migrate_home

    done = migrate_home(face.home_path)
    result = {
        "status": "current" if done.entry < 0 else "migrated",
        "home": str(face.home_path),
        "home_id": done.home_id,
        "from": done.before,
        "to": done.after,
        "head_before": done.head_before,
        "head": done.head,
        "size": done.size,
        "backup": done.backup,
        "backup_sha256": done.backup_sha256,
        "entry": done.entry,
        "anchor": str(Anchors.open(done.home_id).folder),
    }
    moved = (
        f"moved {plain.text(str(face.home_path))} from version {done.before} to {done.after}\n"
        f"  head    {done.head_before}, the same before and after; entry {done.entry} tells of it\n"
        f"  backup  {plain.text(done.backup)}"
    )
    current = f"{plain.text(str(face.home_path))} is of version {done.after} already"
    face.present(result, contract="home.migration@1.0", text=current if done.entry < 0 else moved)
