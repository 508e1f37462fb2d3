"""Scene `home`: a home, its key and the copy outside."""

from __future__ import annotations

from sterling.cli.tour.stage import Scene, Stage

__all__ = ["SCENE"]


def play(stage: Stage) -> None:
    stage.command("ledger", "head")
    head = stage.run("ledger", "head").data
    verified = stage.run("verify").data
    stage.demand(verified["verdict"] == "ok", f"expected a ledger that holds, found {verified['verdict']}")
    stage.tell(f"The ledger has {head['size']} entries; its head is {head['head'][:16]}…")
    stage.tell(
        f"A signed checkpoint covers {verified['anchored_to']} of them and has a copy outside the home,"
    )
    stage.tell("because a log cannot see its own missing tail.")
    stage.look = str(stage.home / "README.txt")


SCENE = Scene("home", "Where is the record kept, and who vouches for it?", play)
