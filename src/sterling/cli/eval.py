"""`sterling eval`: score answers against a set with known truth."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from sterling.cli import face as faces
from sterling.cli import plain
from sterling.cli.face import Face
from sterling.cli.ingest import Following
from sterling.kernel.errors import EXIT_NO, EXIT_OK

__all__ = ["command", "render"]


@click.group("eval")
def command() -> None:
    """Score answers against a set with known truth."""


@command.command("recall")
@click.argument("set_path", metavar="SET", type=click.Path(path_type=Path))
@click.option(
    "--require",
    "require_bp",
    type=click.IntRange(0, 10_000),
    metavar="BP",
    help="Exit 1 if fewer answers are right and rightly cited, in basis points.",
)
@click.option(
    "--predictions", type=click.Path(path_type=Path), help="Score these predictions instead of answering."
)
@click.option("--out", type=click.Path(path_type=Path), help="Keep the predictions in this new file.")
@click.option("--before", is_flag=True, help="Ask before any picture is read.")
@faces.options
def recall(
    set_path: Path,
    require_bp: int | None,
    predictions: Path | None,
    out: Path | None,
    before: bool,
    *,
    face: Face,
) -> None:
    """Answer a set of questions about screen pictures and score the answers.

    Answering happens in a process of its own with a scratch home; it sees the
    pictures and the questions, never the truth. Exit 0 scored, 1 below
    --require, 2 the set is not in its format, 4 the reading engine is missing.
    """
    from sterling.packs.recall import door

    with ExitStack() as stack:
        phases: dict[str, Following] = {}

        def on_step(phase: str, done: int, total: int) -> None:
            if phase not in phases:
                stack.pop_all().close()
                phases[phase] = stack.enter_context(Following(face, phase))
            phases[phase].step(done, total)

        found = door.evaluate(set_path, predictions=predictions, out=out, before=before, on_step=on_step)
    result = found.as_json(require_bp)
    face.present(
        result, contract="eval.recall@1.0", text=render(result), exit=EXIT_OK if result["passed"] else EXIT_NO
    )


def render(result: dict[str, Any]) -> str:
    """One row a measure for all questions, then right and rightly cited by type."""
    lines = [
        f"{plain.text(result['set'])}: {result['questions']} questions, {result['answerable']} answerable, "
        f"{result['frames']} frames"
    ]
    for name, rate in result["all"].items():
        if rate["of"]:
            lines.append(f"  {name.replace('_', ' '):<14} {_rate(rate)}")
    for kind, rates in result["types"].items():
        name = "both" if rates["both"]["of"] else "abstention"
        if rates[name]["of"]:
            lines.append(f"  type {plain.text(kind)}: {name} {_rate(rates[name])}")
    states = ", ".join(f"{count} {state}" for state, count in result["states"].items())
    lines.append(f"  states: {plain.text(states)}")
    if result["require_bp"] is not None:
        verdict = "reached" if result["passed"] else "not reached"
        lines.append(f"{verdict}: at least {result['require_bp'] / 100:.2f} % right and rightly cited")
    return "\n".join(lines)


def _rate(rate: dict[str, int]) -> str:
    return (
        f"{rate['right']} of {rate['of']} = {rate['share_bp'] / 100:.2f} % "
        f"[{rate['low_bp'] / 100:.2f}, {rate['high_bp'] / 100:.2f}]"
    )
