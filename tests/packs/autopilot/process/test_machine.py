"""The 81 pairs against an oracle written from the table in words, not from the code."""

from __future__ import annotations

import pytest

from sterling.packs.autopilot.process.machine import DONE, PAIRS, PHASES, Direction, Phase, Role, decide_pair

NAMES = ["STRATEGIZE", "SPEC", "PLAN", "THINK", "IMPLEMENT", "VERIFY", "REVIEW", "PR", "MONITOR"]
LATE = {"VERIFY", "REVIEW", "PR", "MONITOR"}


def expected(before: str, to: str, role: str) -> tuple[str, str]:
    """Direction and code, from the words of the table."""
    order = {name: number for number, name in enumerate(NAMES, start=1)}
    if before == to:
        return "same", "transition.same-phase"
    if order[to] - order[before] == 1:
        return "forward", ""
    if order[to] > order[before]:
        return "skip", "transition.skip"
    if before in LATE or role != "agent":
        return "back", ""
    return "back", "transition.back-not-allowed"


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("to", NAMES)
@pytest.mark.parametrize("before", NAMES)
def test_every_pair_is_decided_as_the_table_says(before: str, to: str, role: Role) -> None:
    verdict = decide_pair(Phase(before), to, role)

    assert (str(verdict.direction), verdict.code) == expected(before, to, str(role))


def test_the_pairs_are_nine_same_eight_forward_twenty_eight_skips_and_thirty_six_back() -> None:
    found = [rule.direction for rule in PAIRS.values()]
    open_to_agents = [
        rule for rule in PAIRS.values() if rule.direction is Direction.BACK and Role.AGENT in rule.who
    ]

    counts = [
        found.count(each) for each in (Direction.SAME, Direction.FORWARD, Direction.SKIP, Direction.BACK)
    ]
    assert counts == [9, 8, 28, 36]
    assert len(PAIRS) == 81 and len(open_to_agents) == 26


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("to", [*NAMES, DONE])
def test_before_the_first_phase_only_strategize_is_legal(to: str, role: Role) -> None:
    verdict = decide_pair(None, to, role)

    assert verdict.is_open == (to == "STRATEGIZE")
    assert verdict.code == ("" if to == "STRATEGIZE" else "transition.skip")


@pytest.mark.parametrize("before", [None, *PHASES])
def test_only_monitor_leads_to_done(before: Phase | None) -> None:
    verdict = decide_pair(before, DONE, Role.AGENT)

    assert verdict.is_open == (before is Phase.MONITOR)
    assert verdict.direction is (Direction.FINISH if before is Phase.MONITOR else Direction.SKIP)


@pytest.mark.parametrize("to", ["", "done", "strategize", "DEPLOY", "IMPLEMENT ", "../SPEC", "None"])
def test_a_phase_that_does_not_exist_is_no_move(to: str) -> None:
    assert decide_pair(Phase.SPEC, to, Role.PERSON).code == "transition.unknown-phase"
