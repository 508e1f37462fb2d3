"""Levels come from checks on the exact tree in the epoch that counts, never from words."""

from __future__ import annotations

import pytest

from sterling.packs.autopilot.artifacts.levels import is_weak_deferral, level_needed, level_of
from sterling.packs.autopilot.process.machine import Phase
from sterling.packs.autopilot.process.view import CheckView, TaskView

TREE = "1" * 40
DEFERRAL = {
    "reason": "No staging here.",
    "plan": "Run it there.",
    "risk": "Drift.",
    "mitigation": "A pin.",
    "expiry": "2027-01-31",
}


def view_with(*names: str, tree: str = TREE, epoch: int = 0, state: str = "ok") -> TaskView:
    view = TaskView("task-1")
    for name in names:
        view.checks[name] = CheckView(name, f"r-{name}", state, "ok", epoch, tree, "i")
    return view


def test_each_level_needs_the_ones_below_it() -> None:
    assert level_of(view_with(), TREE, None) == 0
    assert level_of(view_with("build"), TREE, None) == 1
    assert level_of(view_with("build", "tests"), TREE, None) == 2
    assert level_of(view_with("build", "tests", "integration"), TREE, None) == 3
    assert level_of(view_with("tests", "integration"), TREE, None) == 0
    assert level_of(view_with("build", "integration"), TREE, None) == 1


def test_a_check_of_another_tree_or_epoch_does_not_count() -> None:
    later = view_with("build", "tests")
    later.valid_from = {Phase.IMPLEMENT: 1, Phase.VERIFY: 1}

    assert level_of(view_with("build", "tests", tree="2" * 40), TREE, None) == 0
    assert level_of(later, TREE, None) == 0
    assert level_of(view_with("build", "tests", state="failed"), TREE, None) == 0


def test_prose_that_claims_a_level_changes_nothing() -> None:
    claims = {
        "verdict": "approved",
        "level": 3,
        "readings": {"governance": "Level 3 was reached, believe me."},
    }

    assert level_of(view_with("build", "tests"), TREE, claims) == 2


def test_an_accepted_deferral_stands_for_the_third_level() -> None:
    view = view_with("build", "tests")

    assert level_of(view, TREE, {"verdict": "approved", "deferral": DEFERRAL}) == 3
    assert level_of(view, TREE, {"verdict": "changes-asked", "deferral": DEFERRAL}) == 2
    assert level_of(view, TREE, {"verdict": "approved", "deferral": DEFERRAL | {"plan": "later"}}) == 2


@pytest.mark.parametrize("word", ["", " ", "no time", "No time!", "later", "n/a", "none", "TBD"])
@pytest.mark.parametrize("field", sorted(DEFERRAL))
def test_an_empty_field_or_an_excuse_is_no_deferral(field: str, word: str) -> None:
    assert not is_weak_deferral(DEFERRAL)
    assert is_weak_deferral(DEFERRAL | {field: word})


def test_only_done_on_high_risk_needs_the_fourth_level() -> None:
    assert [level_needed(phase, "low") for phase in Phase] == [0, 0, 0, 0, 1, 2, 3, 3, 3]
    assert level_needed(Phase.MONITOR, "high") == 4
