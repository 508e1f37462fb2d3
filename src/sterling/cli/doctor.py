"""`sterling doctor`: try everything that a home and its machine must be able to do."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from sterling.cli import face as faces
from sterling.cli import plain
from sterling.cli.face import Face
from sterling.cli.words import state_word, table

if TYPE_CHECKING:
    from sterling.kernel.counters import Counters

__all__ = ["command"]


@click.command("doctor")
@click.option("--counters", is_flag=True, help="Show the counters, folded from the ledger now.")
@click.option("--telemetry", is_flag=True, help="First write the telemetry that is due; cut off torn lines.")
@faces.options
def command(counters: bool, telemetry: bool, *, face: Face) -> None:
    """Probe by acting; each row is ok, failed with its cause and cure, or na with its reason.

    Takes no entry into the ledger. Exit 0 if nothing failed, 1 if a row did, 3
    if integrity is broken, 4 if there is nothing to judge.
    """
    from sterling.app import examine_home
    from sterling.runtime.doctor import exit_of

    if telemetry:
        _write_telemetry(face)
    if counters:
        _show_counters(face)
    rows = examine_home(face.home_path, face.settings)
    status, counts = exit_of(rows), Counter(row.state for row in rows)
    result: dict[str, Any] = {
        "home": str(face.home_path),
        "exit": status,
        "counts": {state: counts[state] for state in ("ok", "failed", "na")},
        "rows": [row.as_json() for row in rows],
    }
    face.present(result, contract="doctor.result@1.0", text=render(result), exit=status)


def render(result: dict[str, Any]) -> str:
    """One line a row; under a row that failed or could not be tried, the next step."""
    lines = []
    for row in result["rows"]:
        code = f"{row['code']}: " if row["code"] else ""
        lines.append(f"{state_word(row['state']):<9} {row['id']:<18} {code}{plain.text(row['because'])}")
        if row["cure"]:
            lines.append(f"{'':<28} next: {plain.text(row['cure'])}")
    counts = result["counts"]
    return "\n".join([*lines, f"{counts['ok']} ok, {counts['failed']} failed, {counts['na']} na"])


def _show_counters(face: Face) -> None:
    from sterling.app import counter_rules
    from sterling.kernel.telemetry import read_counters

    with face.open_home(read_only=True) as home:
        found = read_counters(home, counter_rules())
    counters = {name: count.as_json() for name, count in found.counts.items()}
    face.present(
        {"size": found.size, "counters": counters}, contract="doctor.counters@1.0", text=_told(found)
    )


def _told(found: Counters) -> str:
    rows = []
    for name, count in found.counts.items():
        rows.append([name, "na" if count.value is None else str(count.value), plain.text(count.because)])
        for labels, value in sorted(count.split.items()):
            if labels:
                rows.append(["", str(value), plain.text(" ".join(text for _, text in labels))])
    return table(rows, ["counter", f"at {found.size}", ""])


def _write_telemetry(face: Face) -> None:
    from sterling.app import counter_rules, span_rules
    from sterling.kernel.telemetry import record_telemetry

    with face.open_home() as home:
        size, recount, done = home.ledger.size(), True, None
        while done is None or done.size < size:
            done = record_telemetry(home, span_rules(), counter_rules(), recount=recount)
            if done is None:
                face.say("another process is writing telemetry")
                return
            recount = False
            dropped = ", ".join(f"{count} {cause}" for cause, count in done.dropped.items()) or "0"
            face.say(
                f"{done.spans} spans made, {dropped} lines dropped, {done.torn_lines} torn lines moved aside"
            )
