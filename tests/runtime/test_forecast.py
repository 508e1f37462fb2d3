from __future__ import annotations

import pytest

from sterling.runtime.forecast import Waiting, forecast, idle_share, learned_ms
from sterling.runtime.governor_settings import GovernorSettings

SETTINGS = GovernorSettings(workers_max=1, query_floor_bp=0)  # Heavy work may fill 80 % of idle time.
HOUR_US = 3_600_000_000
IDLE, BUSY = "IDLE_DRAIN", "ACTIVE_CAPTURE_ONLY"
DAY_MS = 86_400_000


def test_idle_time_is_the_share_of_what_was_looked_at() -> None:
    looks = [(0, BUSY, True), (3 * HOUR_US, IDLE, False), (4 * HOUR_US, "", False)]

    assert idle_share(looks) == (4 * HOUR_US, 2_500)


def test_hours_without_a_look_count_as_neither() -> None:
    looks = [
        (0, IDLE, True),
        (HOUR_US, "", False),
        (9 * HOUR_US, BUSY, True),
        (10 * HOUR_US, "", False),
    ]

    assert idle_share(looks) == (2 * HOUR_US, 5_000)


def test_passes_close_together_are_one_look() -> None:
    looks = [
        (0, IDLE, True),
        (1_000_000, "", False),
        (31_000_000, IDLE, True),
        (32_000_000, "", False),
    ]

    assert idle_share(looks) == (32_000_000, 10_000)


def test_a_pass_that_was_killed_did_not_look_until_the_next_one() -> None:
    assert idle_share([(0, IDLE, True), (9 * HOUR_US, BUSY, True), (10 * HOUR_US, "", False)]) == (HOUR_US, 0)


def test_a_wall_clock_that_went_back_adds_nothing() -> None:
    assert idle_share([(HOUR_US, IDLE, True), (0, BUSY, False), (10, "", False)]) == (10, 0)
    assert idle_share([]) == (0, 0)


def test_time_is_learned_from_completed_jobs_alone() -> None:
    rows = [("a", "completed", 10), ("a", "completed", 30), ("a", "failed", 9_000), ("b", "yielded", 5)]

    learned = learned_ms({"kind": kind, "end": end, "charged_ms": ms} for kind, end, ms in rows)

    assert learned == {"a": (2, 10)}


@pytest.mark.parametrize(
    ("count", "state", "hours"),
    [(0, "ok", 0), (1, "ok", 1), (4 * 8, "ok", 20), (4 * 24, "warn", 60), (6 * 24, "late", 90)],
)
def test_the_horizon_warns_at_four_fifths(count: int, state: str, hours: int) -> None:
    # Idle all day: 0.8 of it, so an hour of work takes five quarters of an hour.
    found = forecast([Waiting("a", count, 0)], {"a": (3, HOUR_US // 2_000)}, (HOUR_US, 10_000), SETTINGS, 3)

    assert (found.state, found.needed_hours, found.day_ms) == (state, hours, DAY_MS * 8 // 10)


def test_without_a_learned_time_the_estimate_counts_and_without_either_nothing_is_said() -> None:
    seen = (HOUR_US, 10_000)

    assert forecast([Waiting("a", 2, 4_000)], {}, seen, SETTINGS, 1).work_ms == 4_000
    assert forecast([Waiting("a", 2, 0)], {}, seen, SETTINGS, 1).state == "na"


def test_too_little_seen_is_no_forecast_and_never_idle_is_late() -> None:
    waiting = [Waiting("a", 1, 1_000)]

    assert forecast(waiting, {}, (HOUR_US - 1, 10_000), SETTINGS, 1).state == "na"
    found = forecast(waiting, {}, (HOUR_US, 0), SETTINGS, 1)
    assert (found.state, found.needed_hours) == ("late", None)
