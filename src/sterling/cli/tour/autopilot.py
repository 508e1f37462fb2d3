"""Scene `autopilot`: a coding agent that tries to cheat, and the honest way to a receipt."""

from __future__ import annotations

from typing import Any

from sterling.cli.tour.stage import Scene, Stage, short_path

__all__ = ["SCENE"]

WORDS = "A book that comes back early must cost nothing"
WHY_UNCONTAINED = "a scripted agent on a throw-away repository"


def play(stage: Stage) -> None:
    from sterling.packs.ci import door as ci

    repository = stage.fresh_folder("agent-repository")
    ci.make_sample(repository)
    stage.command(
        "task", "run", WORDS, "--repo", "REPO", "--profile", "FILE", "--uncontained", "WHY", "--", "AGENT"
    )
    strayed = _run(stage, "stray", expect=1)
    _demand_refused(stage, strayed, "tool.out-of-phase")
    stage.tell(
        "An agent that changes code while it should plan is stopped: tool.out-of-phase, task still open."
    )
    boasted = _run(stage, "boast", expect=0)
    _demand_refused(stage, boasted, "transition.skip")
    counters = boasted["counters"]
    stage.demand(counters["phase_skips_attempted"] > 0, "expected the skip to be counted")
    stage.tell("Another tries to skip four phases: transition.skip, refused and counted.")
    codes = [row["code"] for row in boasted["refused"] if row["from"] == "VERIFY"]
    stage.demand(bool(codes), "expected the false claim of green tests to be refused")
    stage.tell(f"It claims green tests; the authority runs them itself and refuses: {codes[0]}.")
    stage.tell("It goes back, mends the code, and walks all nine phases to a signed receipt.")
    receipt = stage.folder / f"receipt-{boasted['task']}.json"
    stage.run("task", "receipt", "export", boasted["task"], "--out", str(receipt))
    stage.command("task", "receipt", "check", short_path(receipt))
    stage.run("task", "receipt", "check", str(receipt))
    stage.command("task", "why", boasted["task"])
    stage.run("task", "why", boasted["task"])
    stage.tell("The receipt checks: signature, ledger, evidence. It says that no sandbox held the agent.")
    stage.look = str(receipt)


def _run(stage: Stage, script: str, *, expect: int) -> dict[str, Any]:
    samples = stage.samples / "autopilot"
    repository = stage.folder / "agent-repository"
    answer = stage.run(
        *("task", "run", WORDS, "--repo", str(repository), "--profile", str(samples / "profile.toml")),
        *("--uncontained", WHY_UNCONTAINED),
        *("--", "{python}", "-m", "sterling.testing.scripted_agent", str(samples / f"{script}.toml")),
        expect=(expect,),
    )
    result: dict[str, Any] = answer.data["result"]
    return result


def _demand_refused(stage: Stage, result: dict[str, Any], code: str) -> None:
    found = [row["code"] for row in result["refused"]]
    stage.demand(code in found, f"expected the refusal {code}, found {found}")


SCENE = Scene("autopilot", "Did the agent do the work, or does it only say so?", play)
