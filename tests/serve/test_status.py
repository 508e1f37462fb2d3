"""The status view: every waiting job in one row, and the command that helps most."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sterling.kernel.contracts import load_contracts
from sterling.serve.views.status import LeaseFact, RunFact, StatusFacts, WaitingFact, status

EMPTY = StatusFacts(
    home="/somewhere",
    home_id="home-x",
    size=3,
    head="a" * 64,
    anchored_to=3,
    mode="ACTIVE_CAPTURE_ONLY",
    mode_reason="mode.user-active",
    mode_sentence="You are at the keyboard.",
    runs=(),
    waiting=(),
    leases=(),
    open_tasks=(),
    refusals=0,
)
RUN = RunFact("run-a", "ci", "tests", "open", "", 1, 3, 1, alive=True)
JOBS = WaitingFact("recall.text", 4, "mode", "You are at the keyboard.", "sterling drain --force")


@pytest.mark.parametrize(
    ("change", "command"),
    [
        ({"anchored_to": None}, "sterling ledger checkpoint"),
        ({"runs": (replace(RUN, alive=False),)}, "sterling drain"),
        ({"waiting": (JOBS,), "dead_effects": ("e-1",)}, "sterling outbox show e-1"),
        ({"waiting": (JOBS,)}, "sterling drain --force"),
        ({"open_tasks": ("t-1",)}, "sterling task status t-1"),
        ({}, "sterling analyze DATA"),
        ({"runs": (replace(RUN, state="ok"),)}, "sterling verify"),
    ],
)
def test_the_next_command_follows_the_published_order(change: dict[str, object], command: str) -> None:
    assert status(replace(EMPTY, **change))["next"] == command  # type: ignore[arg-type]


def test_a_live_run_is_running_and_a_dead_one_needs_you() -> None:
    view = status(replace(EMPTY, runs=(RUN, replace(RUN, id="run-b", alive=False))))

    assert [run["run"] for run in view["running"]] == ["run-a"]
    assert [item["id"] for item in view["needs_you"]] == ["run-b"]


def test_what_is_newer_than_the_anchor_is_counted() -> None:
    assert status(replace(EMPTY, size=9, anchored_to=4))["ledger"]["unanchored"] == 5
    assert status(replace(EMPTY, size=9, anchored_to=None))["ledger"]["unanchored"] == 9


def test_the_view_keeps_its_contract() -> None:
    full = replace(
        EMPTY,
        runs=(RUN,),
        waiting=(JOBS,),
        leases=(LeaseFact("task/a", "me", 5),),
        open_tasks=("t",),
        dead_effects=("e",),
    )

    load_contracts().validate("view.status@1.0", {"contract": "view.status@1.0", **status(full)})


def test_a_disk_that_is_short_of_room_and_a_spool_that_waits_need_you() -> None:
    view = status(replace(EMPTY, room="spooling", spooled=7))

    assert [(item["what"], item["id"]) for item in view["needs_you"]] == [
        ("home's disk is short of room:", "spooling"),
        ("batches wait in the spool:", "7"),
    ]
