"""`sterling demo`: the main job of every pack on real samples, then proof."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sterling.cli import face as faces
from sterling.cli.face import Face
from sterling.cli.words import paint, state_word
from sterling.kernel.errors import EXIT_CANNOT_JUDGE, EXIT_NO, EXIT_OK, EXIT_USAGE, SterlingError

if TYPE_CHECKING:
    from sterling.cli.tour.stage import Scene, Told

__all__ = ["command"]


class FolderTaken(SterlingError):
    """The demo's folder holds something else."""

    code = "demo.folder-taken"
    hint = "Name a new folder: `sterling demo --out FOLDER`."
    exit = EXIT_USAGE


class SamplesAltered(SterlingError):
    """A sample is not the file that was shipped."""

    code = "demo.samples-altered"
    hint = "Restore the samples folder, then run `sterling demo` again."


class UnknownScene(SterlingError):
    """There is no such scene."""

    code = "demo.unknown-scene"
    hint = "See `sterling demo --help`."
    exit = EXIT_USAGE


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("sterling-demo"),
    show_default=True,
    help="Folder of the demo home.",
)
@click.option("--only", metavar="SCENE", help="One scene: home, recall, insight, ci, autopilot, tamper.")
@click.option("--pause", is_flag=True, help="Wait for Enter after each scene.")
@faces.options
def command(out: Path, only: str | None, pause: bool, *, face: Face) -> None:
    """The main job of every pack on the shipped samples. About two minutes; needs no network.

    Exit 0 when every scene ended as it must, 1 when one did not, 4 when this machine lacks something.
    """
    from sterling.cli.tour.samples import check_samples
    from sterling.cli.tour.stage import Stage
    from sterling.kernel.shipped import shipped

    samples = shipped("samples")
    altered = check_samples(samples)
    if altered:
        raise SamplesAltered(f"expected the shipped samples, found {len(altered)} altered: {altered[0]}")
    scenes = _chosen(only)
    home = _demo_home(out.resolve())
    stage = Stage(folder=out.resolve(), home=home, samples=samples, say=face.say)
    face.say(f"Sterling plays in {out}. Everything below really runs; nothing leaves this machine.")
    told: list[Told] = []
    for scene in scenes:
        told.append(scene.perform(stage))
        if pause and sys.stdin.isatty():
            click.pause(err=True)
    verified = stage.run("verify", "--blobs", expect=(0, 3, 4))
    _finish(face, out, told, verified.exit, verified.data)


def _demo_home(folder: Path) -> Path:
    from sterling.kernel.home import init_home, is_home, open_home

    home = folder / "home"
    if is_home(home):
        with open_home(home, read_only=True) as opened:
            if not opened.demo:
                raise FolderTaken(f"expected a demo home in {folder}, found another home")
        return home
    try:
        taken = folder.exists() and any(folder.iterdir())
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        found = f"{folder}: {problem.strerror}"
        raise FolderTaken(f"expected a new or empty folder, found {found}", folder=str(folder)) from problem
    if taken:
        raise FolderTaken(f"expected a new or empty folder, found {folder} in use", folder=str(folder))
    init_home(home, demo=True).close()
    return home


def _chosen(only: str | None) -> list[Scene]:
    from sterling.cli.tour.scenes import SCENES

    if only is None:
        return list(SCENES)
    chosen = [scene for scene in SCENES if scene.id == only]
    if not chosen:
        names = ", ".join(scene.id for scene in SCENES)
        raise UnknownScene(f"expected one of {names}, found {only!r}")
    return chosen


def _finish(face: Face, out: Path, told: list[Told], verify_exit: int, verified: dict[str, Any]) -> None:
    from sterling.cli.tour.stage import program, short_path

    typed, home = program(), short_path(out.resolve() / "home")
    failed = [scene for scene in told if scene.state == "failed"]
    lacking = [scene for scene in told if scene.state == "na"]
    exit = EXIT_NO if failed else verify_exit or (EXIT_CANNOT_JUDGE if lacking else EXIT_OK)
    size = verified.get("size", 0)
    lines = ["", paint("What was made", "1")]
    lines += [f"  {state_word(scene.state):<12} {scene.id:<10} {scene.look}" for scene in told]
    lines += [
        "",
        f"One ledger holds it all: {size} entries, every hash recomputed, verdict {verified.get('verdict')}.",
        f"Check it yourself:  {typed} verify --blobs --home {home}",
        f"Your own data:      {typed} analyze DATA",
        f"                    {typed} ingest FOLDER",
        f"                    {typed} ci verdict --base REV -- ARGV",
    ]
    story = {
        "scenes": [
            {"id": s.id, "state": s.state, "code": s.code, "shows": list(s.shows), "look": s.look}
            for s in told
        ],
        "verified_to": size,
        "verdict": verified.get("verdict", "broken"),
    }
    face.present(story, contract="demo.story@1.0", text="\n".join(lines), exit=exit)
