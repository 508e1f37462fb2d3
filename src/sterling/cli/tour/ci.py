"""Scene `ci`: three verdicts on a small repository: broken, mended, nothing to compare with."""

from __future__ import annotations

import sys

from sterling.cli.tour.stage import Scene, Stage

__all__ = ["SCENE"]


def play(stage: Stage) -> None:
    from sterling.packs.ci import door as ci

    repository = stage.fresh_folder("repository")
    sample = ci.make_sample(repository)
    tests = ("--", sys.executable, "-m", "pytest", "-q")
    shown = ("--", "python", "-m", "pytest", "-q")
    nothing = stage.run("ci", "verdict", "--at", sample.mended, *tests, expect=(4,), cwd=repository).data
    stage.command("ci", "verdict", "--base", "main", "--at", "broken", *shown)
    broken = stage.run(
        "ci", "verdict", "--base", sample.base, "--at", sample.broken, *tests, expect=(1,), cwd=repository
    ).data
    counts = broken["counts"]
    stage.tell(f"broken: exit 1. {counts['new_fail']} test newly fails although {counts['fixed']} is fixed.")
    mended = stage.run(
        "ci", "verdict", "--base", sample.base, "--at", sample.mended, *tests, cwd=repository
    ).data
    stage.tell(f"mended: exit 0. {mended['counts']['fixed']} fixed, nothing newly fails.")
    codes = ", ".join(str(reason) for reason in nothing["reasons"])
    stage.tell(f"mended, all green, but nothing to compare with: exit 4 ({codes}). No baseline, no pass.")
    stage.command("ci", "explain", broken["decision"])
    explained = stage.run("ci", "explain", broken["decision"]).data
    stage.demand(bool(explained), "expected the decision to be explained from the ledger")
    stage.tell("The decision explains itself from the ledger alone, citations included.")
    stage.look = str(repository)


SCENE = Scene("ci", "Did this change break anything that worked before?", play)
