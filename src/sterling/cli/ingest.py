"""`sterling ingest`: pictures into the home, without loss, once each."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sterling.cli import face as faces
from sterling.cli import plain
from sterling.cli.face import Face
from sterling.kernel.errors import EXIT_NO, EXIT_OK, EXIT_USAGE

if TYPE_CHECKING:
    from sterling.cli.progress import Progress

__all__ = ["Following", "command", "render"]

_SHOWN_MAX = 10


@click.command("ingest")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--as", "kind", type=click.Choice(["images", "set"]), help="What the path is (default: look at it)."
)
@click.option(
    "--zone", default="UTC", show_default=True, help="IANA zone of times that are given without an offset."
)
@faces.options
def command(path: Path, kind: str | None, zone: str, *, face: Face) -> None:
    """Store a folder of images, a set, or one image, without loss.

    A picture NAME.png may have a NAME.json beside it with ts, zone, app, title,
    url and monitor. Taking the same path again adds nothing. Exit 0 if all came
    in, 1 if some were refused, 2 if there is nothing that can be taken.
    """
    from sterling.packs.recall import door

    with face.open_home(create=True) as home, Following(face, "ingest") as following:
        report = door.ingest(path, home, kind=kind, zone=zone, on_item=following.step)
    result = report.as_json()
    face.present(result, contract="ingest.result@1.0", text=render(result), exit=_exit(result))


class Following:
    """Progress of work that says how much there is only when it begins."""

    def __init__(self, face: Face, label: str) -> None:
        self._face, self._label = face, label
        self._stack = ExitStack()
        self._progress: Progress | None = None
        self._done = 0

    def step(self, done: int, total: int) -> None:
        """`done` of `total` are finished."""
        if self._progress is None:
            self._progress = self._stack.enter_context(self._face.progress(total, self._label))
        self._progress.advance(max(0, done - self._done))
        self._done = max(done, self._done)

    def __enter__(self) -> Following:
        return self

    def __exit__(self, *problem: object) -> None:
        self._stack.close()


def render(result: dict[str, Any]) -> str:
    """What came in, in one line, and what was refused, each with its reason."""
    lines = [
        f"{result['accepted']} taken, {result['repeated']} here already, {len(result['refused'])} refused: "
        f"{result['frames']} new pictures, {result['pixel_bytes']} bytes of pixels",
    ]
    for item in result["refused"][:_SHOWN_MAX]:
        lines.append(f"  {item['code']} {plain.text(item['item'])}: {plain.text(item['message'])}")
    if len(result["refused"]) > _SHOWN_MAX:
        lines.append(f"  and {len(result['refused']) - _SHOWN_MAX} more; --json lists them all")
    if result["refused"]:
        lines.append("next: mend what is named, then `sterling ingest` again; what came in stays in")
    elif result["frames"]:
        lines.append("next: sterling drain --force")
    return "\n".join(lines)


def _exit(result: dict[str, Any]) -> int:
    if not result["refused"]:
        return EXIT_OK
    return EXIT_NO if result["accepted"] or result["repeated"] else EXIT_USAGE
