"""The evidence of a task for people: what is in force, where its file lies, and copies of it."""

from __future__ import annotations

from pathlib import Path

from sterling.kernel.canonical import Json
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.home import Home
from sterling.packs.autopilot.artifacts.kinds import KINDS, KINDS_BY_NAME
from sterling.packs.autopilot.artifacts.render import render
from sterling.packs.autopilot.artifacts.store import content_of
from sterling.packs.autopilot.process.view import TaskView

__all__ = ["OutTaken", "copy_out", "exhibits"]


class OutTaken(SterlingError):
    """The folder for copies holds something already."""

    code = "task.out-taken"
    hint = "Name a new folder: `sterling task show TASK --out FOLDER`."
    exit = EXIT_USAGE


def exhibits(home: Home, view: TaskView) -> list[Json]:
    """Every artifact in the table's order, with its record, epoch and path."""
    found: list[Json] = []
    for kind in KINDS:
        artifact = view.artifacts.get(kind.name)
        if artifact is None:
            continue
        found.append(
            {
                "kind": kind.name,
                "phase": str(kind.phase),
                "author": artifact.author,
                "epoch": artifact.epoch,
                "counts": artifact.epoch >= view.least_epoch(kind.phase),
                "record": artifact.record,
                "path": str(home.path / artifact.path),
            }
        )
    return found


def copy_out(home: Home, view: TaskView, folder: Path) -> list[Json]:
    """Write each artifact's file into a new folder, from the records and not from the files shown.

    Raises:
        OutTaken: the folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutTaken(f"expected a new folder, found {folder} in use")
    written: list[Json] = []
    for name in sorted(view.artifacts):
        kind = KINDS_BY_NAME[name]
        data, document = content_of(home, kind, view.artifacts[name])
        target = folder / str(kind.phase) / kind.file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(render(kind, data, document))
        written.append(str(target))
    return written
