"""`sterling scan`: what a repository admits to be unfinished."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sterling.cli import face as faces
from sterling.cli import plain
from sterling.cli.face import Face
from sterling.kernel.errors import EXIT_NO

if TYPE_CHECKING:
    from sterling.runtime.unfinished import Report

__all__ = ["command"]


@click.group("scan")
def command() -> None:
    """Find unfinished work in what git tracks."""


@command.command("unfinished")
@click.option("--repo", type=click.Path(path_type=Path), default=".", help="A folder of the repository.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["json", "md"]),
    default="md",
    help="The same as --json, or Markdown.",
)
@faces.options
def unfinished(repo: Path, style: str, *, face: Face) -> None:
    """Tracked files alone, whole, wherever you stand. Exit 0 none, 1 found, 4 outside git."""
    import datetime

    from sterling.kernel.clock import SystemClock
    from sterling.runtime.unfinished import scan_repository

    face.as_json = face.as_json or style == "json"
    now_s = SystemClock().wall_us() // 1_000_000
    today = datetime.datetime.fromtimestamp(now_s, datetime.UTC).date()
    report = scan_repository(repo, today)
    exit = EXIT_NO if report.findings else 0
    face.present(report.as_json(), contract="scan.unfinished@1.0", text=_table(report), exit=exit)


def _table(report: Report) -> str:
    """Markdown: a table of findings, then the counts."""
    lines = []
    if report.findings:
        lines = ["| place | rule | line |", "| --- | --- | --- |"]
    for one in report.findings:
        place, text = plain.text(f"{one.shown}:{one.line}"), plain.text(one.text, width=100)
        lines.append(f"| {_cell(place)} | {one.rule} | {_cell(text)} |")
    if lines:
        lines.append("")
    lines.append(f"{len(report.findings)} unfinished, {report.excused} excused, {report.files} files read")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Words in a cell of a table: nothing in them may end it."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`").replace("<", "\\<")
