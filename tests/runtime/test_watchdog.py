from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from mutants import Mutant, run_mutants

from sterling.runtime import watchdog
from sterling.runtime.watchdog import (
    CRASH_WINDOW_US,
    FAILURES_MAX,
    STALL_US,
    TELL_AGAIN_US,
    Progress,
    Started,
    Told,
    WatchState,
    crashes_of_late,
    delay_after_failures_us,
    watch,
    worth_telling,
)

MOVED = Progress(started_us=0, progress_us=1_000)


@pytest.mark.parametrize(
    ("progress", "now_us", "state"),
    [
        (replace(MOVED, is_enabled=False, failures=9), 0, "disabled"),
        (replace(MOVED, failures=FAILURES_MAX, is_paused=True), 0, "error"),
        (replace(MOVED, failures=FAILURES_MAX - 1), 2_000, "ok"),
        (replace(MOVED, is_paused=True), STALL_US * 9, "paused"),
        (Progress(started_us=5), 5, "pending"),
        (Progress(started_us=5), 5 + STALL_US, "stalled"),
        (MOVED, 1_000 + STALL_US - 1, "ok"),
        (MOVED, 1_000 + STALL_US, "stalled"),
    ],
)
def test_the_state_follows_from_the_times_of_progress(progress: Progress, now_us: int, state: str) -> None:
    assert watch(progress, now_us) == state


def test_trouble_is_told_at_once_and_then_once_a_minute() -> None:
    told = worth_telling(Told(), WatchState.STALLED, 100)
    assert told is not None

    assert worth_telling(told, WatchState.STALLED, 100 + TELL_AGAIN_US - 1) is None
    assert worth_telling(told, WatchState.ERROR, 100 + TELL_AGAIN_US - 1) is None
    assert worth_telling(told, WatchState.STALLED, 100 + TELL_AGAIN_US) is not None


def test_the_end_of_trouble_is_told_once_and_flapping_does_not_make_trouble_loud() -> None:
    told = worth_telling(Told(), WatchState.ERROR, 0)
    assert told is not None
    restored = worth_telling(told, WatchState.OK, 1)
    assert restored is not None

    assert worth_telling(restored, WatchState.OK, 2) is None
    assert worth_telling(restored, WatchState.ERROR, 3) is None


@pytest.mark.parametrize("state", ["ok", "paused", "pending", "disabled"])
def test_what_is_no_trouble_is_not_told(state: str) -> None:
    assert worth_telling(Told(), WatchState(state), 0) is None


def test_waits_double_and_end_at_half_a_minute() -> None:
    waits = [delay_after_failures_us(failures) for failures in range(1, 9)]

    assert waits == [500_000, 1_000_000, 2_000_000, 4_000_000, 8_000_000, 16_000_000, 30_000_000, 30_000_000]
    assert delay_after_failures_us(10_000) == 30_000_000


def test_a_crash_is_a_start_of_the_last_ten_minutes_without_an_end() -> None:
    now_us = 2 * CRASH_WINDOW_US
    starts = [
        Started(now_us - CRASH_WINDOW_US, False),
        Started(now_us - CRASH_WINDOW_US + 1, False),
        Started(now_us - 5, True),
        Started(now_us - 1, False),
    ]

    assert crashes_of_late(starts, now_us) == 2


MUTANTS: tuple[Mutant, ...] = (
    ("errors never count", "progress.failures >= FAILURES_MAX", "progress.failures > 10**9"),
    ("a sixth error is needed", "progress.failures >= FAILURES_MAX", "progress.failures > FAILURES_MAX"),
    ("a paused service stalls", "if progress.is_paused:", "if False:"),
    (
        "without progress it never stalls",
        "progress.started_us if progress.progress_us is None",
        "now_us if 1",
    ),
    ("every look is told", "now_us - told.trouble_us < TELL_AGAIN_US", "False"),
    ("the end of trouble is silent", "if told.state in _TROUBLE:", "if False:"),
    ("recovery forgets when trouble was told", "return Told(state, told.trouble_us)", "return Told(state)"),
    ("an end in order is a crash", "if not one.has_ended and now_us", "if now_us"),
    ("old crashes count", "now_us - one.at_us < CRASH_WINDOW_US", "True"),
)


def _states(module: ModuleType) -> None:
    moved = module.Progress(started_us=0, progress_us=1_000)
    assert module.watch(replace(moved, failures=5), 0) == "error"
    assert module.watch(replace(moved, is_paused=True), 10**12) == "paused"
    assert module.watch(module.Progress(started_us=0), 10**12) == "stalled"


def _telling(module: ModuleType) -> None:
    told = module.worth_telling(module.Told(), module.WatchState.ERROR, 0)
    assert module.worth_telling(told, module.WatchState.ERROR, 1) is None
    restored = module.worth_telling(told, module.WatchState.OK, 1)
    assert restored is not None
    assert module.worth_telling(restored, module.WatchState.ERROR, 2) is None


def _crashes(module: ModuleType) -> None:
    starts = [module.Started(10**12, True), module.Started(10**12, False), module.Started(0, False)]
    assert module.crashes_of_late(starts, 10**12 + 1) == 1


def test_each_broken_rule_is_noticed() -> None:
    path = Path(watchdog.__file__)

    found = run_mutants(path, MUTANTS, (_states, _telling, _crashes))

    assert len(found) == len(MUTANTS)
