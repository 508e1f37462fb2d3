"""`sterling recall`: look into what was recorded."""

from __future__ import annotations

from typing import Any

import click

from sterling.cli import face as faces
from sterling.cli import plain
from sterling.cli.face import Face
from sterling.kernel.errors import EXIT_BROKEN, EXIT_OK

__all__ = ["command"]


@click.group("recall")
def command() -> None:
    """Look into what was recorded: trace an answer to its pixels, check the index."""


@command.command("trace")
@click.argument("answer", metavar="ANSWER")
@faces.options
def trace(answer: str, *, face: Face) -> None:
    """Walk an answer's citations down to the pixels and recompute every hash.

    ANSWER is the record that `sterling ask --json` names. Exit 0 if everything
    holds, 3 if something is broken; the first broken step is named.
    """
    from sterling.packs.recall import door

    with face.open_home(read_only=True) as home:
        walks = door.trace_answer(home, answer)
    holds = not any(step.because for _, steps in walks for step in steps)
    result: dict[str, Any] = {
        "answer": answer,
        "citations": [
            {"claim": claim, "steps": [step.as_json() for step in steps]} for claim, steps in walks
        ],
        "holds": holds,
    }
    face.present(
        result,
        contract="recall.trace-report@1.0",
        text=_walks(result),
        exit=EXIT_OK if holds else EXIT_BROKEN,
    )


@command.group("index")
def index() -> None:
    """The index that questions are looked up in; it can always be made anew."""


@index.command("check")
@faces.options
def check_index(*, face: Face) -> None:
    """Compare the index with one made anew. Exit 4 if it differs; the first row is named."""
    from sterling.packs.recall import door

    with face.open_home() as home:
        result = door.check_index(home)
    _present_index(face, result)


@index.command("rebuild")
@faces.options
def rebuild_index(*, face: Face) -> None:
    """Make the index anew from the records and swap it in whole."""
    from sterling.packs.recall import door

    with face.open_home() as home:
        result = door.rebuild_index(home)
    _present_index(face, result)


def _present_index(face: Face, result: dict[str, Any]) -> None:
    text = f"ok {result['records']} records of {result['entries']} entries, digest {result['digest']}"
    face.present(result, contract="recall.index-report@1.0", text=text)


def _walks(result: dict[str, Any]) -> str:
    lines: list[str] = []
    for walk in result["citations"]:
        lines.append(plain.text(walk["claim"]))
        for step in walk["steps"]:
            what = plain.text(step["because"] or step["what"], width=100)
            lines.append(f"  {step['state']} {step['step']}: {what}")
    lines.append("ok" if result["holds"] else "broken")
    if not result["citations"]:
        lines.insert(0, "this answer makes no claim")
    return "\n".join(lines)
