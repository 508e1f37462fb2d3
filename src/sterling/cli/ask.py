"""`sterling ask`: what was on the screen, with the pixels that show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sterling.cli import face as faces
from sterling.cli import plain
from sterling.cli.face import Face
from sterling.kernel.errors import EXIT_CANNOT_JUDGE, EXIT_NO, EXIT_OK

__all__ = ["command", "render"]

_EXITS = {
    "answered": EXIT_OK,
    "partial": EXIT_OK,
    "no_evidence": EXIT_NO,
    "refused": EXIT_NO,
    "failed": EXIT_NO,
    "indeterminate": EXIT_CANNOT_JUDGE,
}


@click.command("ask")
@click.argument("question")
@click.option("--at", metavar="TIME", help="The moment that counts as now, in ISO 8601 (default: now).")
@click.option("--zone", help="IANA zone of the question's time words (default: the record's).")
@click.option("--from", "start", metavar="TIME", help="Look only at what was seen from this moment on.")
@click.option("--to", "end", metavar="TIME", help="Look only at what was seen before this moment.")
@click.option(
    "--check/--no-check",
    default=True,
    show_default=True,
    help="Read the cited pixels a second time where that was not done before.",
)
@click.option("--explain", is_flag=True, help="Show how the question was understood.")
@click.option(
    "--crop", type=click.Path(dir_okay=False, path_type=Path), help="Write the cited pixels to this PNG file."
)
@faces.options
def command(
    question: str,
    at: str | None,
    zone: str | None,
    start: str | None,
    end: str | None,
    check: bool,
    explain: bool,
    crop: Path | None,
    *,
    face: Face,
) -> None:
    """Ask what was on the screen; the answer cites pixels, or says why there is none.

    Exit 0 if it is answered or partly answered, 1 if there is no evidence or the
    question is refused, 3 if what it would cite was altered, 4 if something was
    not looked at; then the answer names the gap and the command that closes it.
    """
    from sterling.packs.recall import door

    with face.open_home() as home:
        there = zone or "UTC"
        found = door.ask(
            home,
            question,
            now_us=None if at is None else door.moment_us(at, there),
            zone=zone,
            from_us=None if start is None else door.moment_us(start, there),
            to_us=None if end is None else door.moment_us(end, there),
            check=check,
        )
        document = found.document
        claims = document["claims"] or document["dropped"]
        if crop is not None and claims:
            door.write_crop(home, claims[0]["citations"][0], crop)
    result = {
        **document,
        "record": found.record,
        "record_hash": found.record_hash,
        "run": found.run,
        "recorded_at": found.entry,
        "crop": str(crop) if crop is not None and claims else None,
    }
    text = render(result, explain=explain)
    face.present(result, contract="ask.result@1.0", text=text, exit=_EXITS[document["state"]])


def render(result: dict[str, Any], *, explain: bool = False) -> str:
    """The claims with their first citation, or why there is none; then the gaps."""
    lines: list[str] = []
    for claim in result["claims"]:
        lines.append(plain.text(claim["text"]))
        lines += _citation(claim, result["zone"])
    verdict = result["state"] if result["reason"] is None else f"{result['state']} ({result['reason']})"
    lines.append(f"{verdict}: {plain.text(result['sentence'])}")
    for claim in result["dropped"]:
        second = plain.text(claim["check"]["second"]) or "nothing"
        lines.append(f"  read once as {plain.text(claim['text'])}, and once as {second}")
    for gap in result["gaps"]:
        lines.append(f"  not looked at: {plain.text(gap['sentence'])} {gap['code']}")
    for miss in result["misses"]:
        lines.append(f"  nearest, but no answer: {plain.text(miss['text'], width=80)}")
    if result["crop"]:
        lines.append(f"  pixels in {plain.text(result['crop'])}")
    if explain:
        lines += _explanation(result)
    lines += [f"next: {offer}" for offer in result["offers"]]
    return "\n".join(lines)


def _citation(claim: dict[str, Any], zone: str) -> list[str]:
    from sterling.packs.recall import door

    cited = claim["citations"][0]
    where = ", ".join(plain.text(cited[name]) for name in ("app", "title") if cited[name])
    seen = f"  seen {door.moment_text(cited['at_us'], zone)}" + (f" in {where}" if where else "")
    more = len(claim["citations"]) - 1
    return [
        f"  {plain.text(claim['line'], width=100)}",
        seen + (f", and {more} more looks" if more else ""),
        f"  frame {cited['frame']} pixels {cited['boxes'][0]} hash {cited['frame_hash'][:16]}, "
        f"readings: {claim['check']['verdict']}",
    ]


def _explanation(result: dict[str, Any]) -> list[str]:
    plan, time, seen = result["plan"], result["time"], result["coverage"]
    lines = [f"  understood as: {plan['operator']}, kind {plan['kind']}"]
    for term in plan["terms"]:
        must = ", must stand on the screen" if term["must"] else ""
        lines.append(f"    {plain.text(term['text'])}: on {term['found']} screens{must}")
    if time["words"]:
        lines.append(f"  time words: {plain.text('; '.join(time['words']))} ({time['role']})")
    lines += [f"    {plain.text(note)}" for note in time["notes"]]
    lines.append(
        f"  looked at: {seen['ticks']} looks, {seen['frames']} pictures, {seen['read']} of them read; "
        f"index at entry {result['index']['entries']}"
    )
    return lines
