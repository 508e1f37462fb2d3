"""Causes of back moves: who needs which, and how far they lead."""

from __future__ import annotations

import pytest

from sterling.packs.autopilot.process.backtrack import Cause, Cited, check_cause, is_charged, latest_target
from sterling.packs.autopilot.process.machine import PHASES, Phase, Role, place_of

FAILED = Cited("r-failed", "transition", Phase.VERIFY, True, "check.failed")
SPEC = Cited("r-spec", "artifact", Phase.SPEC, False)


def test_a_failure_from_implement_on_leads_to_plan_or_earlier() -> None:
    for before in PHASES[place_of(Phase.IMPLEMENT) :]:
        assert latest_target(before, [FAILED]) is Phase.PLAN


def test_the_earliest_cited_phase_decides() -> None:
    assert latest_target(Phase.VERIFY, [FAILED, SPEC]) is Phase.SPEC
    assert latest_target(Phase.VERIFY, []) is Phase.IMPLEMENT


@pytest.mark.parametrize("to", [Phase.IMPLEMENT, Phase.THINK])
def test_a_later_phase_than_the_cause_touches_is_refused(to: Phase) -> None:
    refusal = check_cause(Phase.VERIFY, to, Role.AGENT, Cause("check.failed", ("r-failed",)), [FAILED])

    assert refusal is not None and refusal.code == "transition.back-not-allowed"
    assert "PLAN or earlier" in refusal.expected


@pytest.mark.parametrize("to", [Phase.PLAN, Phase.SPEC, Phase.STRATEGIZE])
def test_an_earlier_phase_is_free(to: Phase) -> None:
    assert check_cause(Phase.VERIFY, to, Role.AGENT, Cause("check.failed", ("r-failed",)), [FAILED]) is None


@pytest.mark.parametrize("role", [Role.AGENT, Role.AUTHORITY])
@pytest.mark.parametrize("cause", [None, Cause(), Cause("x", ("r-foreign",)), Cause(words="trust me")])
def test_words_are_no_cause_for_an_agent_or_the_authority(role: Role, cause: Cause | None) -> None:
    assert check_cause(Phase.VERIFY, Phase.PLAN, role, cause, []) is not None


def test_a_person_may_give_words_or_a_citation_but_not_nothing() -> None:
    words = Cause(words="The plan forgot the cap.")

    assert check_cause(Phase.VERIFY, Phase.IMPLEMENT, Role.PERSON, words, []) is None
    assert check_cause(Phase.VERIFY, Phase.PLAN, Role.PERSON, Cause(cites=("r-spec",)), [FAILED]) is None
    assert check_cause(Phase.VERIFY, Phase.PLAN, Role.PERSON, Cause(words="  "), []) is not None


def test_the_authority_needs_a_failure() -> None:
    assert check_cause(Phase.THINK, Phase.SPEC, Role.AUTHORITY, Cause("x", ("r-spec",)), [SPEC]) is not None


def test_only_a_failure_of_the_work_is_charged() -> None:
    crashed = Cited("r-1", "transition", Phase.VERIFY, True, "agent.crashed")

    assert is_charged(Role.AGENT, [FAILED])
    assert not is_charged(Role.AGENT, [crashed])
    assert not is_charged(Role.PERSON, [SPEC])
    assert not is_charged(Role.PERSON, [])
