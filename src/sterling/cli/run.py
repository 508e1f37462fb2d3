"""`sterling run`: what ran, how each step ended, and why. One shape for every pack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sterling.cli import face as faces
from sterling.cli import plain, words
from sterling.cli.face import Face

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sterling.runtime.runs import RunView

__all__ = ["command"]

_HOTSPOTS = 5
_ID_SHOWN = 16


@click.group("run")
def command() -> None:
    """Runs of every pack, one shape."""


@command.command("list")
@click.option("--pack", help="Only this pack's runs.")
@click.option("--state", type=click.Choice(["open", "ok", "failed"]), help="Only runs in this state.")
@click.option(
    "--origin", type=click.Choice(["drain", "forced", "attended"]), help="Only runs of this origin."
)
@click.option("--code", help="Only runs that ended with this code.")
@click.option("--limit", type=click.IntRange(min=1), help="Only so many, the newest.")
@faces.options
def list_command(
    pack: str | None,
    state: str | None,
    origin: str | None,
    code: str | None,
    limit: int | None,
    *,
    face: Face,
) -> None:
    """Every run, oldest first."""
    from sterling.runtime.runs import list_runs

    wanted = {"pack": pack, "state": state, "origin": origin, "code": code}
    with face.open_home(read_only=True) as home:
        found = [
            view
            for view in list_runs(home)
            if all(value is None or getattr(view, name) == value for name, value in wanted.items())
        ]
    shown = found if limit is None else found[-limit:]
    rows = [
        [
            view.id[:_ID_SHOWN],
            view.pack,
            view.origin,
            _state(view),
            f"{view.settled}/{view.planned}",
            words.local_time(view.started_us),
            plain.text(view.title, width=60),
        ]
        for view in shown
    ]
    heads = ["run", "pack", "origin", "state", "steps", "started", "title"]
    text = words.table(rows, heads) if rows else "no runs"
    result = {"runs": [_summary(view) for view in shown], "total": len(found)}
    face.present(result, contract="run.list@1.0", text=text)


@command.command("show")
@click.argument("run")
@faces.options
def show(run: str, *, face: Face) -> None:
    """One run: its outcomes by lane, each with its sentence and the next step. RUN may be a prefix."""
    from sterling.runtime.runs import read_run

    with face.open_home(read_only=True) as home:
        view = read_run(home, run)
    result = {
        **_summary(view),
        "hotspots": _hotspots(view),
        "inputs": list(view.inputs),
        "lanes": dict(view.lanes),
        "outcomes": [{**_shown(row), "hint": _hint(str(row["reason"]))} for row in view.outcomes],
    }
    face.present(result, contract="view.run@1.0", text=_told(view, result))


@command.command("explain")
@click.argument("names", nargs=-1, required=True, metavar="[RUN] STEP")
@faces.options
def explain(names: tuple[str, ...], *, face: Face) -> None:
    """Why a step ran or was reused, with every reason. Without RUN: in the newest run that settled it."""
    from sterling.runtime.explain_step import explain_step

    if len(names) > 2:
        raise click.UsageError(f"expected a run and a step, found {len(names)} names")
    with face.open_home(read_only=True) as home:
        result = explain_step(home, names[-1], names[0] if len(names) == 2 else "")
    lines = [
        f"{plain.text(result['step'])}  {words.state_word(result['state'])}  {plain.text(result['run'])}",
        plain.text(result["sentence"], width=400),
    ]
    lines += [f"  {row['reason']}  {row['sentence']}" for row in result["reasons"]]
    lines += [f"  {plain.text(result['detail'], width=400)}"] if result["detail"] else []
    face.present(result, contract="run.explain@1.0", text="\n".join(lines))


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """An outcome without what `run explain` tells."""
    return {name: value for name, value in row.items() if not name.startswith("cache")}


def _summary(view: RunView) -> dict[str, Any]:
    names = ("code", "ended_us", "mode", "origin", "pack", "plan_sha256", "planned", "seed", "settled")
    document: dict[str, Any] = {name: getattr(view, name) for name in names}
    return {
        **document,
        "run": view.id,
        "started_us": view.started_us,
        "state": view.state,
        "title": view.title,
    }


def _hotspots(view: RunView) -> list[dict[str, Any]]:
    """The steps that took longest, longest first."""
    timed = sorted(view.outcomes, key=lambda row: (-int(row["wall_us"]), str(row["step"])))
    return [{"step": row["step"], "wall_us": row["wall_us"]} for row in timed[:_HOTSPOTS] if row["wall_us"]]


def _hint(reason: str) -> str:
    """What to do about a reason of the runtime; empty for ok and for a pack's own codes."""
    from sterling.runtime.reasons import Reason, hint_of

    return hint_of(Reason(reason)) if reason in set(Reason) else ""


def _state(view: RunView) -> str:
    if view.state == "open":
        return words.state_word("running")
    return words.state_word(view.state) + (f" {view.code}" if view.state == "failed" else "")


def _told(view: RunView, result: dict[str, Any]) -> str:
    lines = [
        f"{view.id}  {plain.text(view.title, width=100)}",
        f"{_state(view)}  {view.pack}, {view.origin}, {view.mode}, seed {view.seed}, "
        f"{view.settled} of {view.planned} steps, started {words.local_time(view.started_us)}",
        f"plan {view.plan_sha256}",
    ]
    for lane in ("decision", "explanation"):
        rows = [row for row in result["outcomes"] if row["lane"] == lane]
        if rows:
            lines += ["", f"{lane} ({len(rows)})"]
        for row in rows:
            lines.append(
                f"  {words.state_word(row['state'])}  {plain.text(row['step'])}  {_why(row)}".rstrip()
            )
            if row["state"] != "ok" and row["hint"]:
                lines.append(f"      {row['hint']}")
    if result["hotspots"]:
        slow = ", ".join(
            f"{plain.text(row['step'])} {row['wall_us'] // 1000} ms" for row in result["hotspots"]
        )
        lines += ["", f"longest: {slow}"]
    return "\n".join(lines)


def _why(row: dict[str, Any]) -> str:
    because = plain.text(str(row["because"]), width=200)
    return because if row["state"] == "ok" else f"{row['reason']}: {because}"
