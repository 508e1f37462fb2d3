from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path

import pytest

from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home, init_home, open_home
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.switches import SWITCHES, Switch, find_switch, set_switch, verify

NAMES = [switch.name for switch in SWITCHES]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with init_home(tmp_path / "home") as home:
        yield home


def turn(home: Home, name: str, value: bool, reason: str = "a test") -> int:
    path = home.path / "sterling.toml"
    change = set_switch(path, name, value, who="somebody", reason=reason, open_home=lambda: nullcontext(home))
    return change.entry


def test_the_list_holds_every_yes_or_no_of_the_governor_and_nothing_else() -> None:
    flags = {field.name for field in fields(GovernorSettings) if field.type == "bool"} - {"readable"}

    assert set(NAMES) == flags


def test_a_turn_changes_the_file_and_says_who_and_why_in_one_batch(home: Home) -> None:
    before = (home.path / "sterling.toml").read_text(encoding="utf-8")

    last = turn(home, "heavy_on_battery", True, "long flight")

    told = next(home.ledger.read(kind="runtime.switch"))
    changed = next(home.ledger.read(kind="config.changed"))
    after = (home.path / "sterling.toml").read_text(encoding="utf-8")
    assert told.payload == {
        "name": "heavy_on_battery",
        "old": False,
        "new": True,
        "who": "somebody",
        "reason": "long flight",
        "config_sha256": changed.payload["after"],
    }
    assert (changed.index, told.index) == (last - 1, last)
    assert after == before.replace("heavy_on_battery = false", "heavy_on_battery = true") != before


def test_turning_back_gives_the_first_bytes(home: Home) -> None:
    before = (home.path / "sterling.toml").read_bytes()

    for value in (False, True):
        turn(home, "user_query_heavy", value)

    assert (home.path / "sterling.toml").read_bytes() == before
    assert sum(1 for _ in home.ledger.read(kind="runtime.switch")) == 2


def test_a_switch_that_stands_there_already_writes_nothing(home: Home) -> None:
    size = home.ledger.size()

    assert turn(home, "user_query_heavy", True) == -1
    assert home.ledger.size() == size


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_no_reason_no_turn(home: Home, reason: str) -> None:
    before = (home.path / "sterling.toml").read_bytes()

    with pytest.raises(SterlingError) as caught:
        turn(home, "user_query_heavy", False, reason)

    assert caught.value.code == "governor.reason-missing"
    assert (home.path / "sterling.toml").read_bytes() == before


@pytest.mark.parametrize(
    "name", ["", "cache", "USER_QUERY_HEAVY", "governor.user_query_heavy", "idle_ms_min"]
)
def test_what_is_no_switch_is_refused_by_name(home: Home, name: str) -> None:
    with pytest.raises(SterlingError) as caught:
        turn(home, name, True)

    assert (caught.value.code, caught.value.exit) == ("governor.switch-unknown", 2)


def test_a_ledger_that_refuses_leaves_the_file_as_it_was(home: Home) -> None:
    path = home.path / "sterling.toml"
    before = path.read_bytes()

    def refuse() -> Home:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        set_switch(path, "user_query_heavy", False, who="a", reason="b", open_home=refuse)

    assert path.read_bytes() == before


def test_a_bad_file_is_not_turned(home: Home) -> None:
    path = home.path / "sterling.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("grace_ms = 150", "grace_ms = 'long'"))

    with pytest.raises(SterlingError) as caught:
        set_switch(
            path, "user_query_heavy", False, who="a", reason="b", open_home=lambda: open_home(home.path)
        )

    assert caught.value.code.startswith("config.")


@pytest.mark.parametrize("switch", SWITCHES, ids=NAMES)
def test_each_switch_flips_lease_stop_and_entries_both_ways(tmp_path: Path, switch: Switch) -> None:
    (proof,) = verify(tmp_path, [switch], really=False)

    assert proof.problems == ()
    assert proof.stop["asked_us"] == 150_000
    assert [side["lease"] for side in proof.sides].count("completed") in (1, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_each_switch_flips_in_real_workers_too(tmp_path: Path) -> None:
    for proof in verify(tmp_path):
        assert proof.problems == ()
        assert [side["worker"] for side in proof.sides] == [side["lease"] for side in proof.sides]


@pytest.mark.parametrize(
    "wrong",
    [
        {"opens": False},
        {"closed": ("ACTIVE_CAPTURE_ONLY", "mode.on-battery")},
        {"opened": ("IDLE_DRAIN", "mode.idle-window")},
        {"forced": False},
        {"signals": {}},
    ],
)
def test_a_switch_that_does_other_than_its_row_says_is_caught(
    tmp_path: Path, wrong: dict[str, object]
) -> None:
    switch = replace(find_switch("user_query_heavy"), **wrong)  # type: ignore[arg-type]

    (proof,) = verify(tmp_path, [switch], really=False)

    assert proof.problems and proof.as_json()["state"] == "failed"
