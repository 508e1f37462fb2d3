"""`sterling drain`: run what waits, within the mode table, and say why the rest waits on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sterling.cli import face as faces
from sterling.cli import plain, words
from sterling.cli.face import Face

if TYPE_CHECKING:
    from sterling.runtime.conductor import PassReport

__all__ = ["command"]

_COUNTED = 100_000  # More waiting jobs than this are shown as this many.
_SHOWN = {"completed": "ok", "failed": "failed", "not_admitted": "waiting"}


@click.command("drain")
@click.option("--force", is_flag=True, help="You ask for it now: counts as a question, not as idle work.")
@click.option("--limit", type=click.IntRange(min=1), help="Try at most so many jobs.")
@faces.options
def command(force: bool, limit: int | None, *, face: Face) -> None:
    """Run waiting work once. Where a conductor is up, it does it, and this waits for it.

    Exit 0 if nothing admissible is left, 1 if a job failed, 4 if work is left
    that was not admitted; each job says why.
    """
    from sterling.app import job_sources
    from sterling.runtime.asked_passes import carry_out_pass

    with face.open_home() as home:
        sources = job_sources(home)
        waiting = sum(len(source.due(home, _COUNTED)) for source in sources)
        with face.progress(min(waiting, limit or waiting), "drain") as progress:
            report = carry_out_pass(
                home,
                sources,
                force=force,
                limit=limit,
                overrides=face.settings,
                on_dispatch=lambda dispatch: progress.advance(),
                say=face.say,
            )
    face.present(_document(report), contract="drain.result@1.0", text=_told(report), exit=report.exit_status)


def _document(report: PassReport) -> dict[str, Any]:
    return {
        "counts": report.counts,
        "dispatches": [dispatch.as_json() for dispatch in report.dispatches],
        "forced": report.is_forced,
        "given_up": [
            {"because": end.because, "job": job.key, "reason": end.reason} for job, end in report.given_up
        ],
        "heavy_allowed": report.heavy_allowed,
        "left": report.left,
        "mode": report.mode,
        "pass": report.id,
        "reason": report.reason,
        "window": report.window,
    }


def _told(report: PassReport) -> str:
    from sterling.runtime.reasons import Reason, hint_of, sentence_of

    lines = [f"{report.mode} ({report.reason})"]
    for (end, reason, because), jobs in _grouped(report).items():
        shown = words.state_word(_SHOWN.get(end, "waiting"))
        why = "" if end == "completed" else f"{reason}  {plain.text(because, width=200)}"
        lines.append(f"{shown}  {end.replace('_', ' ')} {len(jobs)}  {why}".rstrip())
        if end == "failed":
            lines += [f"    {plain.text(job)}" for job in jobs]
        elif end != "completed" and reason in set(Reason):
            lines.append(f"    {hint_of(Reason(reason))}")
    for job, end_of in report.given_up:
        lines.append(
            f"{words.state_word('failed')}  given up  {plain.text(job.key)}  {plain.text(end_of.because)}"
        )
    if not report.dispatches and not report.given_up:
        lines.append(
            "nothing waits"
            if report.heavy_allowed
            else f"nothing waits. {sentence_of(Reason(report.reason))}"
        )
    window = report.window
    lines.append(
        f"window {window['index']}: {window['spent_us'] // 1000} of {window['budget_us'] // 1000} ms spent, "
        f"{window['jobs']} jobs started"
    )
    return "\n".join(lines)


def _grouped(report: PassReport) -> dict[tuple[str, str, str], list[str]]:
    """Jobs by end, reason and sentence, in the order in which each first appeared."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for one in report.dispatches:
        because = "" if one.end == "completed" else one.because
        found.setdefault((one.end, one.reason, because), []).append(one.job)
    return found
