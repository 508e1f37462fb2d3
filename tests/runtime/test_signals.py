"""Fusion keeps work off wherever a reading is not fresh, and the deciders stay pure."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sterling.runtime
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.modes import Mode, choose_mode
from sterling.runtime.reasons import Reason
from sterling.runtime.signals import (
    FUSION,
    Reading,
    Signal,
    Signals,
    State,
    freshen,
    fuse,
    missing,
    sample,
    signals_document,
)
from sterling.testing.clock import FakeClock

NOW = 10_000_000
SETTINGS = GovernorSettings()
GOOD: dict[Signal, int | bool | str] = {
    Signal.IDLE_MS: 60_000,
    Signal.ACTIVE: False,
    Signal.FULLSCREEN: False,
    Signal.CPU_OTHER_BP: 100,
    Signal.RAM_USED_BP: 3_000,
    Signal.STALL_BP: 10,
    Signal.GPU_BUSY_BP: 20,
    Signal.POWER: "battery",
    Signal.CHARGE_BP: 9_000,
}


def _readings(**changes: Reading | None) -> list[Reading]:
    rows = {str(signal): Reading(signal, value, "test", NOW) for signal, value in GOOD.items()}
    return [reading for reading in {**rows, **changes}.values() if reading is not None]


def _idle_machine() -> Signals:
    return fuse(_readings(), NOW, SETTINGS)


def test_fresh_readings_pass_through_as_they_are() -> None:
    signals = _idle_machine()

    assert (signals.idle_ms, signals.active, signals.fullscreen) == (60_000, False, False)
    assert (signals.cpu_other_bp, signals.ram_used_bp) == (100, 3_000)
    assert (signals.stall_bp, signals.gpu_busy_bp) == (10, 20)
    assert (signals.on_battery, signals.charge_bp) == (True, 9_000)


# What the runtime chapter's table says in its last column, written again by hand.
NOT_FRESH: dict[Signal, dict[str, object]] = {
    Signal.IDLE_MS: {"idle_ms": 0, "active": True},
    Signal.FULLSCREEN: {"fullscreen": False, "active": True},
    Signal.CPU_OTHER_BP: {"cpu_other_bp": 10_000},
    Signal.RAM_USED_BP: {"ram_used_bp": 10_000},
    Signal.STALL_BP: {"stall_bp": None},
    Signal.GPU_BUSY_BP: {"gpu_busy_bp": None},
}


@pytest.mark.parametrize("signal", list(NOT_FRESH))
@pytest.mark.parametrize("how", ["absent", "missing", "stale", "unreadable"])
def test_a_signal_without_a_fresh_reading_takes_the_last_column(signal: Signal, how: str) -> None:
    broken = {
        "absent": None,
        "missing": missing(signal, "test", NOW),
        "stale": Reading(signal, GOOD[signal], "test", NOW - 5_000_001),
        "unreadable": Reading(signal, None, "test", NOW, State.UNREADABLE),
    }[how]

    signals = fuse(_readings(**{str(signal): broken}), NOW, SETTINGS)

    good = _idle_machine()
    for field in (
        "idle_ms",
        "active",
        "fullscreen",
        "cpu_other_bp",
        "ram_used_bp",
        "stall_bp",
        "gpu_busy_bp",
    ):
        expected = NOT_FRESH[signal].get(field, getattr(good, field))
        assert getattr(signals, field) == expected, field


@pytest.mark.parametrize(
    ("how", "on_battery"), [("absent", False), ("missing", False), ("stale", False), ("unreadable", True)]
)
def test_no_power_reading_means_mains_but_an_unreadable_battery_counts_as_low(
    how: str, on_battery: bool
) -> None:
    broken = {
        "absent": None,
        "missing": missing(Signal.POWER, "test", NOW),
        "stale": Reading(Signal.POWER, "battery", "test", NOW - 5_000_001),
        "unreadable": Reading(Signal.POWER, None, "test", NOW, State.UNREADABLE),
    }[how]

    signals = fuse(_readings(power=broken), NOW, SETTINGS)

    assert signals.on_battery is on_battery
    assert not on_battery or signals.charge_bp == 0


@pytest.mark.parametrize("state", [State.MISSING, State.UNREADABLE, State.STALE])
def test_a_battery_whose_charge_nobody_can_read_counts_as_empty(state: State) -> None:
    signals = fuse(_readings(charge_bp=Reading(Signal.CHARGE_BP, 9_000, "test", NOW, state)), NOW, SETTINGS)

    assert signals.on_battery and signals.charge_bp == 0


def test_the_charge_of_another_machine_does_not_speak_for_a_battery_without_one() -> None:
    readings = [
        *_readings(power=None, charge_bp=None),
        Reading(Signal.POWER, "battery", "file", NOW),
        Reading(Signal.POWER, "mains", "sys", NOW),
        Reading(Signal.CHARGE_BP, 10_000, "sys", NOW),
    ]

    signals = fuse(readings, NOW, SETTINGS)

    assert signals.on_battery and signals.charge_bp == 0


def test_without_any_source_nothing_heavy_can_start() -> None:
    signals = fuse([], NOW, SETTINGS)

    assert signals.active and signals.idle_ms == 0
    assert choose_mode(signals, SETTINGS).mode is Mode.ACTIVE


@pytest.mark.parametrize("unplugged", [signal for signal in GOOD if signal is not Signal.ACTIVE])
def test_unplugging_one_source_never_makes_an_active_machine_idle(unplugged: Signal) -> None:
    busy = {**{str(s): Reading(s, v, "test", NOW) for s, v in GOOD.items()}, "power": None, "charge_bp": None}
    busy["active"] = Reading(Signal.ACTIVE, True, "test", NOW)
    rows = [r for name, r in busy.items() if r is not None and name != unplugged]

    assert choose_mode(fuse(rows, NOW, SETTINGS), SETTINGS).mode is Mode.ACTIVE


@pytest.mark.parametrize(
    ("signal", "age_us", "state"),
    [
        (Signal.CPU_OTHER_BP, 1_000_000, State.FRESH),
        (Signal.CPU_OTHER_BP, 1_000_001, State.STALE),
        (Signal.RAM_USED_BP, 1_000_001, State.STALE),
        (Signal.STALL_BP, 1_000_001, State.STALE),
        (Signal.GPU_BUSY_BP, 1_000_001, State.STALE),
        (Signal.IDLE_MS, 5_000_000, State.FRESH),
        (Signal.IDLE_MS, 5_000_001, State.STALE),
        (Signal.POWER, 5_000_001, State.STALE),
        (Signal.IDLE_MS, -1, State.STALE),
    ],
)
def test_a_reading_grows_stale_at_the_exact_microsecond(signal: Signal, age_us: int, state: State) -> None:
    assert freshen(Reading(signal, 1, "test", NOW - age_us), NOW, SETTINGS).state is state


def test_the_least_idle_time_of_all_sources_wins() -> None:
    readings = [
        *_readings(),
        Reading(Signal.IDLE_MS, 7_000, "b", NOW),
        Reading(Signal.IDLE_MS, 9_000, "c", NOW),
    ]

    signals = fuse(readings, NOW, SETTINGS)

    assert signals.idle_ms == 7_000
    assert signals.reading(Signal.IDLE_MS) == Reading(Signal.IDLE_MS, 7_000, "b", NOW)


@pytest.mark.parametrize(
    "extra",
    [
        Reading(Signal.IDLE_MS, 2_999, "b", NOW),
        Reading(Signal.ACTIVE, True, "b", NOW),
        Reading(Signal.ACTIVITY_SCORE_BP, 5_000, "b", NOW),
        Reading(Signal.ACTIVE, None, "b", NOW, State.UNREADABLE, "activity.torn"),
    ],
)
def test_one_source_that_says_active_is_enough(extra: Reading) -> None:
    assert fuse([*_readings(), extra], NOW, SETTINGS).active


@pytest.mark.parametrize(
    "extra",
    [
        Reading(Signal.IDLE_MS, 3_000, "b", NOW),
        Reading(Signal.ACTIVE, False, "b", NOW),
        Reading(Signal.ACTIVE, True, "b", NOW - 5_000_001),
        Reading(Signal.ACTIVITY_SCORE_BP, 4_999, "b", NOW),
    ],
)
def test_what_is_below_the_bound_or_stale_does_not_make_active(extra: Reading) -> None:
    assert not fuse([*_readings(), extra], NOW, SETTINGS).active


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([True, False], True),
        ([False, False], False),
    ],
)
def test_any_fresh_full_screen_counts(states: list[bool], expected: bool) -> None:
    readings = [Reading(Signal.FULLSCREEN, value, str(place), NOW) for place, value in enumerate(states)]

    assert fuse([*_readings(fullscreen=None), *readings], NOW, SETTINGS).fullscreen is expected


def test_a_doubt_about_a_signal_is_named_beside_the_row_that_it_led_to() -> None:
    no_screen = missing(Signal.FULLSCREEN, "x11", NOW, Reason.SIGNAL_NO_FULLSCREEN_SOURCE)

    verdict = choose_mode(fuse(_readings(power=None, fullscreen=no_screen), NOW, SETTINGS), SETTINGS)

    assert verdict.reason is Reason.MODE_USER_ACTIVE
    assert verdict.because == (Reason.SIGNAL_NO_FULLSCREEN_SOURCE,)


@pytest.mark.parametrize(
    ("reading", "doubt"),
    [
        (missing(Signal.IDLE_MS, "a", NOW), Reason.SIGNAL_MISSING),
        (Reading(Signal.IDLE_MS, 1, "a", NOW, State.STALE), Reason.SIGNAL_STALE),
        (Reading(Signal.IDLE_MS, None, "a", NOW, State.UNREADABLE), Reason.SIGNAL_UNREADABLE),
        (
            Reading(Signal.IDLE_MS, None, "a", NOW, State.UNREADABLE, "activity.torn"),
            Reason.SIGNAL_FILE_UNREADABLE,
        ),
    ],
)
def test_each_state_of_a_lost_signal_has_its_own_reason(reading: Reading, doubt: Reason) -> None:
    signals = fuse(_readings(idle_ms=reading), NOW, SETTINGS)

    assert signals.doubts(Signal.ACTIVE) == (doubt,)


def test_sampling_asks_every_source_once() -> None:
    class Counting:
        asked = 0

        def read(self, clock: object) -> list[Reading]:
            self.asked += 1
            return []

    sources = [Counting(), Counting()]

    signals = sample(sources, FakeClock(), SETTINGS, query_intent=True)

    assert [source.asked for source in sources] == [1, 1]
    assert signals.query_intent and signals.active


def test_every_signal_that_is_decided_has_a_row_in_the_fusion_table() -> None:
    decided = [reading.signal for reading in _idle_machine().readings]

    assert [row.signal for row in FUSION] == decided


_STATES = st.sampled_from(list(State))


@st.composite
def _any_readings(draw: st.DrawFn) -> list[Reading]:
    rows: list[Reading] = []
    for signal, value in itertools.product(GOOD, range(2)):
        if draw(st.booleans()):
            kind = type(GOOD[signal])
            made: int | bool | str = (
                draw(st.booleans())
                if kind is bool
                else draw(st.sampled_from(["mains", "battery"]))
                if kind is str
                else draw(st.integers(0, 10_000))
            )
            age = draw(st.sampled_from([0, 900_000, 2_000_000, 6_000_000]))
            rows.append(Reading(signal, made, f"s{value}", NOW - age, draw(_STATES)))
    return rows


@settings(max_examples=150, deadline=None)
@given(_any_readings())
def test_no_combination_of_states_lets_a_lost_signal_allow_work(rows: list[Reading]) -> None:
    signals = fuse(rows, NOW, SETTINGS)

    fresh = {r.signal for r in rows if freshen(r, NOW, SETTINGS).state is State.FRESH}
    if Signal.IDLE_MS not in fresh:
        assert signals.active and signals.idle_ms == 0
    if Signal.FULLSCREEN not in fresh:
        assert signals.active and not signals.fullscreen
    for signal, value in (
        (Signal.CPU_OTHER_BP, signals.cpu_other_bp),
        (Signal.RAM_USED_BP, signals.ram_used_bp),
    ):
        assert signal in fresh or value == 10_000
    document = signals_document(signals)
    assert set(document["states"]) == {n for n in map(str, GOOD) if document[n] is None}


DECIDERS = ("signals", "modes", "budgets", "governor", "governor_settings", "reasons")
ALLOWED = {
    "__future__",
    "collections.abc",
    "dataclasses",
    "enum",
    "typing",
    *(f"sterling.runtime.{name}" for name in DECIDERS),
    "sterling.runtime",
}


@pytest.mark.parametrize("name", ["signals", "modes", "budgets", "governor"])
def test_a_decider_imports_no_clock_file_socket_thread_or_randomness(name: str) -> None:
    source = (Path(sterling.runtime.__file__).parent / f"{name}.py").read_text("utf-8")

    imported = {
        found
        for node in ast.walk(ast.parse(source))
        for found in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= ALLOWED
