"""What an agent is told when its process starts: the task, the phase, what is missing and how to ask.

Plain text made from the task's facts. The task's own words are fenced and named
as such. Same facts, same text.
"""

from __future__ import annotations

from sterling.packs.autopilot.artifacts.kinds import kinds_of
from sterling.packs.autopilot.authority.loop import Authority

__all__ = ["brief_text"]


def brief_text(authority: Authority) -> str:
    """The brief of the present phase."""
    site = authority.site
    view = site.view
    words = site.home.blobs.get(str(view.facts["text"]["blob"])).decode("utf-8")
    wanted = [kind for kind in kinds_of(view.phase) if kind.author != "authority"] if view.phase else []
    lines = [
        f"You work on task {view.task}, phase {view.phase}, epoch {view.epoch}.",
        "",
        "The task, in the words of the person who gave it:",
        "<<<",
        words,
        ">>>",
        "",
        "Hand in for this phase (JSON under its contract):",
        *(
            [f"  {kind.name}: contract {kind.contract}" for kind in wanted]
            or ["  nothing; the authority makes it"]
        ),
        "",
        "Ask the authority through the command line:",
        f"  sterling task status {view.task}",
        f"  sterling task submit {view.task} KIND FILE",
        f"  sterling task advance {view.task} --to PHASE",
        f"  sterling task back {view.task} --to PHASE --cause CODE --cite RECORD",
        "",
        "Source files may change in IMPLEMENT only. The authority runs the tests itself.",
        "End your process when the phase has moved on.",
    ]
    return "\n".join(lines) + "\n"
