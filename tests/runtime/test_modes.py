"""The mode table against one written again by hand, and every mutant of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.contracts import load_contracts
from sterling.runtime.budgets import BUDGET_RULES
from sterling.runtime.governor import ADMISSION_CUTS, LIGHT_IN_ACTIVE, STOP_TABLE
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.modes import (
    MODE_TABLE,
    MODE_TABLE_VERSION,
    ModeRow,
    choose_mode,
    mode_document,
    mode_table_version,
)
from sterling.runtime.reasons import Reason
from sterling.runtime.signals import FUSION, Signals

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "modes.md"

Case = tuple[Signals, GovernorSettings]


def _cases() -> Iterator[Case]:
    """All combinations of the eight choices, with values at, below and beside every bound."""
    settings = [
        GovernorSettings(
            user_query_heavy=query,
            suspend_workers=suspend,
            heavy_while_active=beside,
            heavy_on_battery=battery,
            cpu_limit_bp=cpu,
            ram_limit_bp=ram,
        )
        for query, suspend, beside, battery in itertools.product((False, True), repeat=4)
        for cpu, ram in ((5_000, 8_500), (0, 8_500), (5_000, 0))
    ]
    signals = [
        Signals(
            at_us=0,
            idle_ms=idle,
            active=active,
            fullscreen=screen,
            cpu_other_bp=cpu,
            ram_used_bp=ram,
            stall_bp=None,
            gpu_busy_bp=None,
            on_battery=battery,
            charge_bp=charge,
            query_intent=intent,
        )
        for active, screen, battery, intent in itertools.product((False, True), repeat=4)
        for idle in (44_999, 45_000)
        for cpu in (4_999, 5_000)
        for ram in (8_499, 8_500)
        for charge in (2_999, 3_000)
    ]
    return itertools.product(signals, settings)


def _by_hand(s: Signals, g: GovernorSettings) -> tuple[str, str]:
    """The table again, told as a person would, sharing no code with it."""
    blocked = "ACTIVE_CAPTURE_ONLY"
    if s.fullscreen:
        return blocked, "mode.fullscreen"
    if g.cpu_limit_bp and not s.cpu_other_bp < g.cpu_limit_bp:
        return blocked, "mode.cpu-pressure"
    if g.ram_limit_bp and not s.ram_used_bp < g.ram_limit_bp:
        return blocked, "mode.ram-pressure"
    if s.on_battery and not s.charge_bp >= g.charge_min_bp:
        return blocked, "mode.power-low"
    if s.query_intent and g.user_query_heavy:
        return "USER_QUERY", "mode.query-intent"
    if s.active and g.suspend_workers and not g.heavy_while_active:
        return blocked, "mode.user-active"
    if s.on_battery and not g.heavy_on_battery:
        return blocked, "mode.on-battery"
    if not s.idle_ms < g.idle_ms_min:
        return "IDLE_DRAIN", "mode.idle-window"
    if s.active and g.heavy_while_active and not g.suspend_workers:
        return "IDLE_DRAIN", "mode.active-allowed"
    return blocked, "mode.idle-threshold"


CASES = list(_cases())


def _differences(table: Sequence[ModeRow], limit: int = 1) -> int:
    found = 0
    for signals, settings in CASES:
        try:
            verdict = choose_mode(signals, settings, table)
            same = (str(verdict.mode), str(verdict.reason)) == _by_hand(signals, settings)
        except AssertionError:
            same = False
        found += not same
        if found >= limit:
            break
    return found


def test_the_table_equals_the_one_written_by_hand_on_every_combination() -> None:
    assert len(CASES) == 48 * 256

    assert _differences(MODE_TABLE, limit=len(CASES)) == 0


@pytest.mark.parametrize("place", range(10))
def test_deleting_a_row_is_noticed(place: int) -> None:
    assert _differences([row for index, row in enumerate(MODE_TABLE) if index != place])


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(range(10), 2)))
def test_swapping_two_rows_is_noticed(one: int, other: int) -> None:
    table = list(MODE_TABLE)
    table[one], table[other] = table[other], table[one]

    assert _differences(table)


def test_a_limit_of_zero_switches_its_row_off_even_for_a_lost_reading() -> None:
    lost = Signals(0, 60_000, False, False, 10_000, 10_000, None, None, False, 10_000)

    assert choose_mode(lost, GovernorSettings()).reason is Reason.MODE_CPU_PRESSURE
    assert choose_mode(lost, GovernorSettings(cpu_limit_bp=0)).reason is Reason.MODE_RAM_PRESSURE
    both_off = GovernorSettings(cpu_limit_bp=0, ram_limit_bp=0)
    assert choose_mode(lost, both_off).reason is Reason.MODE_IDLE_WINDOW


def test_a_forced_run_with_its_switch_off_falls_to_the_rows_below() -> None:
    asked = Signals(0, 0, True, False, 0, 0, None, None, False, 10_000, query_intent=True)

    assert choose_mode(asked, GovernorSettings()).row == 5
    assert choose_mode(asked, GovernorSettings(user_query_heavy=False)).row == 6


def test_a_mode_change_keeps_its_contract_and_names_the_table_version() -> None:
    before, (signals, settings) = None, CASES[0]

    document = mode_document(before, choose_mode(signals, settings), at_us=5, signals="00")

    assert load_contracts().validate("runtime.mode", document) == "runtime.mode@1.0"
    assert document["mode_table_version"] == mode_table_version() == MODE_TABLE_VERSION


# The documentation


def _tables() -> dict[str, list[list[str]]]:
    """Each table of the page by its first heading cell, without its head."""
    found: dict[str, list[list[str]]] = {}
    rows: list[list[str]] = []
    for line in [*DOCS.read_text("utf-8").splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip().replace("`", "") for cell in line.strip().strip("|").split(" | ")])
        elif rows:
            found[" ".join(rows[0])] = rows[2:]
            rows = []
    return found


def _expected() -> dict[str, list[list[Any]]]:
    return {
        "# condition mode reason": [[row.number, row.condition, row.mode, row.reason] for row in MODE_TABLE],
        "reason modes condition": [
            [cut.reason, ", ".join(cut.modes), cut.condition] for cut in ADMISSION_CUTS
        ],
        "modes causes new heavy lease ask to stop kill": [
            [", ".join(row.modes), ", ".join(row.causes), "yes" if row.lease else "no", row.ask, row.kill]
            for row in STOP_TABLE
        ],
        "rule exact": [[rule.name, rule.exact] for rule in BUDGET_RULES],
        "signal fusion when none is fresh": [[row.signal, row.rule, row.not_fresh] for row in FUSION],
    }


@pytest.mark.parametrize("name", list(_expected()))
def test_the_documented_table_is_the_table_in_the_code(name: str) -> None:
    assert _tables()[name] == [[str(cell) for cell in row] for row in _expected()[name]]


def test_the_documented_list_of_light_work_and_the_table_version_are_those_of_the_code() -> None:
    text = DOCS.read_text("utf-8")

    assert ", ".join(f"`{kind}`" for kind in LIGHT_IN_ACTIVE) in text
    assert f"Version {MODE_TABLE_VERSION}." in text
    versions = _tables()["version decides otherwise than the one before it"]
    assert versions[-1][0] == MODE_TABLE_VERSION
