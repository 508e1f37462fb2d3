"""`sterling analyze`: what a table really says, every figure with the query that gives it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sterling.cli import face as faces
from sterling.cli import plain
from sterling.cli.face import Face
from sterling.cli.words import paint, state_word, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sterling.cli.progress import Progress

__all__ = ["command", "render", "render_plan"]

_CONTRACT = "analyze.result@1.0"
_SHOWN = 12
_MARKS = {"suspect": ("look", "31"), "notice": ("know", "33"), "structure": ("holds", "32")}


@click.command("analyze")
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--mode",
    default="two_lane_strict",
    show_default=True,
    metavar="MODE",
    help="two_lane_strict, or legacy (one queue).",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**53 - 1),
    default=0,
    show_default=True,
    help="Seed of everything random.",
)
@click.option("--plugins", default="auto", show_default=True, metavar="auto|all|ID,..", help="What to run.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes at a time (default: half the cores).")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the report (default: a new one).")
@click.option(
    "--encoding",
    type=click.Choice(["utf-8", "utf-16", "cp1252", "latin-1"]),
    help="Encoding of a text without a byte-order mark (default: utf-8).",
)
@click.option("--delimiter", metavar="CHAR", help="Character between cells (default: found by looking).")
@click.option("--header/--no-header", default=None, help="Whether the first row holds names.")
@click.option("--no-cache", is_flag=True, help="Run every step, whatever an earlier run kept.")
@click.option("--dry-run", is_flag=True, help="Show types, questions and plan; run and write nothing.")
@faces.options
def command(
    *, face: Face, data: Path, dry_run: bool, plugins: str, delimiter: str | None, **given: Any
) -> None:
    """Say what the table in DATA (CSV, TSV or Parquet) really says.

    Writes report.json, report.md and report.html. Exit 0 when no step failed, 1 when one did, 2 when
    DATA cannot be read.
    """
    from sterling.packs.insight import door

    named = None if plugins in ("auto", "all") else _names(plugins)
    asked: dict[str, Any] = {**given, "plugins": named, "delimiter": _delimiter(delimiter)}
    if dry_run:
        plan = door.inspect(data, door.options(**asked))
        face.present(plan, contract=_CONTRACT, text=render_plan(plan))
    door.check(data)
    with face.open_home(create=True) as home:
        options = door.options(**asked, home=home)
        with face.progress(_steps(options), "analyze") as progress:
            try:
                result = door.analyze(home, data, options, _follow(progress))
            except KeyboardInterrupt as stopped:
                folder = getattr(stopped, "folder", None)
                if folder is not None:
                    face.say(f"stopped; every step is closed and the report so far lies in {folder}")
                raise
        text = render(result.document, result.report)
        face.present(dict(result.document), contract=_CONTRACT, text=text, exit=result.exit)


def render(document: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """The answer, the first findings, what did not run, and where the report lies."""
    body = report["body"]
    lines = [plain.text(sentence) for sentence in body["answer"]]
    if body["findings"]:
        lines.append("")
    for row in body["findings"][:_SHOWN]:
        word, colour = _MARKS[row["strength"]]
        lines.append(f"  {paint(f'{word:<5}', colour)}  {plain.text(row['claim'])}")
    left = body["findings_total"] - _SHOWN
    if left > 0:
        lines.append(f"  ({left:,} more in the report)")
    lines.append("")
    for row in body["outcomes"]:
        lines.append(f"  {state_word(row['state'])}  {row['step']}: {plain.text(row['because'])}")
        if row["state"] != "ok":
            lines.append(f"      {row['reason']}. {row['next_step']}".rstrip())
    for question in body["questions"][:_SHOWN]:
        lines.append(f"  ?  {plain.text(question['text'])}")
    lines += [
        "",
        f"report   {document['files']['html']}",
        f"body     {document['body_sha256']}",
        f"check    sterling verify {document['run']}",
    ]
    return "\n".join(lines)


def render_plan(plan: Mapping[str, Any]) -> str:
    """What a dry run found: types, questions, what could run."""
    lines = [f"{plan['rows']:,} rows, {plan['rejected']:,} rejected. Nothing was run or written.", ""]
    rows = [[plain.text(column["name"], width=50), column["type"]] for column in plan["columns"]]
    lines += [table(rows, ["column", "type"]), ""]
    for row in plan["preflight"]:
        verdict = "would run" if row["verdict"] == "run" else f"{row['verdict']}: {row['because']}"
        lines.append(f"{row['plugin']}  {verdict}")
    for question in plan["questions"]:
        lines.append(f"?  {plain.text(question['text'])}")
    lines += ["", f"plan     {plan['plan_sha256']}  mode {plan['mode']}  seed {plan['seed']}"]
    return "\n".join(lines)


def _names(plugins: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in plugins.split(",") if name.strip())


def _delimiter(text: str | None) -> str | None:
    """One character; `\\t` and `tab` stand for the tab."""
    if text is None:
        return None
    found = {"\\t": "\t", "tab": "\t"}.get(text, text)
    if len(found) != 1 or found in "\r\n\"'":
        raise click.UsageError(f"expected one character for --delimiter, found {text!r}")
    return found


def _steps(options: Any) -> int:
    """Parts of the work that progress counts: reading, then every planned step."""
    from sterling.packs.insight import door

    return 1 + door.planned_steps(options)


def _follow(progress: Progress) -> Any:
    def on_progress(label: str, done: int, total: int) -> None:
        if done:
            progress.advance(1, label)

    return on_progress
