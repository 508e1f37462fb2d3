from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sterling.kernel.batch import Batch
from sterling.kernel.canonical import canonical_bytes
from sterling.kernel.errors import SterlingError
from sterling.kernel.hashing import address_of
from sterling.runtime.explain_at import explain_at, parse_moment, signals_of
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.modes import choose_mode, rows_that_hold
from sterling.runtime.rehearsal import IDLE, ProbeJob, Rehearsal, rehearse
from sterling.runtime.signals import Reading, Signal, State, fuse, signals_document
from sterling.runtime.switches import set_switch

HERE = {Signal.IDLE_MS: 0, Signal.ACTIVE: True}
SETTINGS = GovernorSettings(workers_max=2)
MINUTE_US = 60_000_000


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Rehearsal]:
    with rehearse(tmp_path) as stage:
        yield stage


def test_before_the_first_pass_nothing_could_have_run(stage: Rehearsal) -> None:
    seen = explain_at(stage.home, stage.clock.wall_us(), SETTINGS)

    assert (seen["when"], seen["rows"], seen["looked_us"]) == ("before-the-first", [], None)


def test_a_moment_in_a_pass_is_answered_by_what_it_saw_then(stage: Rehearsal) -> None:
    stage.play([ProbeJob("a", 3_000)], ((0, {}), (1_000_000, HERE)))
    end_us = stage.clock.wall_us()
    before, after = (explain_at(stage.home, end_us - gone_us, SETTINGS) for gone_us in (650_000, 0))

    assert (before["mode"], before["row"], before["when"]) == ("IDLE_DRAIN", 8, "between-passes")
    assert (after["mode"], after["reason"]) == ("ACTIVE_CAPTURE_ONLY", "mode.user-active")
    assert [row["row"] for row in before["rows"] if row["matched"]] == [8]
    assert [row["row"] for row in after["rows"] if row["matched"]] == [6]


def test_between_passes_nobody_looked_and_the_next_one_is_named(stage: Rehearsal) -> None:
    stage.play([ProbeJob("a")], ((0, HERE),))
    pass_end(stage)
    stage.clock.advance(MINUTE_US)
    asked_us = stage.clock.wall_us()
    stage.clock.advance(MINUTE_US)
    stage.play([ProbeJob("b")])

    seen = explain_at(stage.home, asked_us, SETTINGS)

    assert (seen["when"], seen["reason"]) == ("between-passes", "mode.user-active")
    assert seen["looked_us"] < asked_us < seen["next_pass_us"]


def test_a_pass_that_ended_later_was_running(stage: Rehearsal) -> None:
    stage.play([ProbeJob("a", 2_000)])
    pass_end(stage)

    seen = explain_at(stage.home, stage.clock.wall_us() - 1_000_000, SETTINGS)

    assert (seen["when"], seen["mode"], seen["settings_changed"]) == ("during-a-pass", "IDLE_DRAIN", False)


def test_changed_settings_are_said(stage: Rehearsal) -> None:
    stage.play([ProbeJob("a")], ((0, HERE),))
    at_us = stage.clock.wall_us()
    stage.clock.advance(MINUTE_US)
    path = stage.home.path / "sterling.toml"
    set_switch(
        path, "heavy_while_active", True, who="a", reason="b", open_home=lambda: nullcontext(stage.home)
    )

    seen = explain_at(stage.home, at_us, replace(SETTINGS, heavy_while_active=True))

    assert seen["settings_changed"]
    assert (seen["row"], [row["row"] for row in seen["rows"] if row["matched"]]) == (6, [10])


def test_signals_are_kept_only_when_another_row_holds(stage: Rehearsal) -> None:
    moving = [(step * 250_000, {Signal.CPU_OTHER_BP: step * 100}) for step in range(12)]
    stage.play([ProbeJob("a", 4_000)], moving)

    kept = [entry.payload for entry in stage.home.ledger.read(kind="runtime.signals")]
    assert len(kept) == 1
    stage.play([ProbeJob("b", 4_000)], [*moving, (3_000_000, {Signal.FULLSCREEN: True})])
    kept = [entry.payload for entry in stage.home.ledger.read(kind="runtime.signals")]
    assert [one["fullscreen"] for one in kept] == [False, False, True]


def test_a_change_of_the_mode_names_the_signals_that_made_it(stage: Rehearsal) -> None:
    stage.play([ProbeJob("a", 3_000)], ((0, {}), (1_000_000, HERE)))

    entries = [entry.payload for entry in stage.home.ledger.read(subject="runtime.signals")]
    modes = [entry.payload["signals"] for entry in stage.home.ledger.read(kind="runtime.mode")]
    assert modes == [address_of(canonical_bytes(document)) for document in entries]
    assert len(modes) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {},
        HERE,
        {Signal.FULLSCREEN: True},
        {Signal.CPU_OTHER_BP: 9_000},
        {Signal.POWER: "battery", Signal.CHARGE_BP: 100},
        {Signal.IDLE_MS: None},
        {Signal.FULLSCREEN: None},
        {Signal.CPU_OTHER_BP: None},
    ],
)
def test_signals_that_were_kept_decide_as_they_did(changes: dict[Signal, object]) -> None:
    values = {**IDLE, **changes}
    seen = fuse(
        [
            Reading(name, value, "fed", 5, State.MISSING if value is None else State.FRESH)  # type: ignore[arg-type]
            for name, value in values.items()
        ],
        5,
        SETTINGS,
    )

    again = signals_of(signals_document(seen), SETTINGS)

    assert choose_mode(again, SETTINGS) == choose_mode(seen, SETTINGS)
    assert rows_that_hold(again, SETTINGS) == rows_that_hold(seen, SETTINGS)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01", "9999-12-31T23:59:59", "0001-01-01", "12:00"]
)
def test_what_is_no_moment_of_the_past_is_refused(text: str) -> None:
    with pytest.raises(SterlingError) as caught:
        parse_moment(text, 1_700_000_000_000_000)

    assert (caught.value.code, caught.value.exit) == ("governor.moment-refused", 2)


def test_a_moment_with_an_offset_is_itself() -> None:
    at = datetime(2023, 11, 1, 3, 0, tzinfo=UTC)

    assert parse_moment("2023-11-01T04:00:00+01:00", 1_700_000_000_000_000) == at.timestamp() * 1_000_000


def pass_end(stage: Rehearsal) -> None:
    """The entry with which the conductor ends a pass."""
    batch = Batch()
    payload = {
        "counts": {},
        "flows": {},
        "forced": False,
        "given_up": 0,
        "heavy_allowed": False,
        "left": 0,
        "mode": "IDLE_DRAIN",
        "mode_table_version": "1",
        "pass": "pass-1",
        "queued": 0,
        "reason": "mode.idle-window",
        "window": 0,
    }
    batch.append("runtime.pass", payload, subject="runtime.pass")
    stage.home.ledger.commit(batch)
