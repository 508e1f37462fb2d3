"""The activity file: twelve ways to be broken, and freshness by change alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sterling.kernel.contracts import RecordInvalid, load_contracts
from sterling.kernel.errors import SterlingError
from sterling.runtime.activity_writer import Told, write_once
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.signal_file import (
    ACTIVITY_BYTES_MAX,
    ACTIVITY_CONTRACT,
    ActivityFileSource,
    ActivityRefused,
    ActivityUnwritable,
    Fault,
    parse_activity,
    read_activity,
    write_activity,
)
from sterling.runtime.signals import Reading, Signal, State, fuse
from sterling.testing.clock import FakeClock

SETTINGS = GovernorSettings()
GOOD: dict[str, Any] = {
    "schema": ACTIVITY_CONTRACT,
    "seq": 7,
    "machine": "desk",
    "written_us": 1,
    "idle_ms": 60_000,
    "active": False,
    "fullscreen": False,
    "activity_score_bp": 0,
    "power": "mains",
    "charge_bp": None,
}


def _bytes(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def _without(name: str) -> bytes:
    return json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


BROKEN: dict[Fault, Callable[[Path], None]] = {
    Fault.SYMLINK: lambda path: (
        _put(path.with_suffix(".real"), _bytes()),
        path.symlink_to(path.with_suffix(".real")),
    )[1],
    Fault.NOT_REGULAR: lambda path: os.mkfifo(path),
    Fault.TOO_LARGE: lambda path: _put(path, _bytes() + b" " * ACTIVITY_BYTES_MAX),
    Fault.EMPTY: lambda path: _put(path, b""),
    Fault.NOT_TEXT: lambda path: _put(path, b"\xff\xfe" + _bytes()),
    Fault.TORN: lambda path: _put(path, _bytes()[:40]),
    Fault.DUPLICATE_KEY: lambda path: _put(path, b'{"seq": 1, "seq": 2}'),
    Fault.NOT_OBJECT: lambda path: _put(path, b"[1, 2]"),
    Fault.OTHER_SCHEMA: lambda path: _put(path, _bytes(schema="runtime.activity@9.0")),
    Fault.FIELD_MISSING: lambda path: _put(path, _without("idle_ms")),
    Fault.FIELD_UNKNOWN: lambda path: _put(path, _bytes(note="hello")),
    Fault.WRONG_TYPE: lambda path: _put(path, _bytes(idle_ms="60000")),
    Fault.OUT_OF_RANGE: lambda path: _put(path, _bytes(activity_score_bp=10_001)),
}


@pytest.mark.parametrize("fault", list(BROKEN))
def test_each_broken_file_has_its_own_code_is_counted_and_means_active(fault: Fault, tmp_path: Path) -> None:
    path = tmp_path / "activity.json"
    BROKEN[fault](path)
    source, clock = ActivityFileSource(path), FakeClock()
    idle_elsewhere = Reading(Signal.IDLE_MS, 900_000, "x11", clock.boot_us())
    no_screen = Reading(Signal.FULLSCREEN, False, "x11", clock.boot_us())

    readings = list(source.read(clock)) + list(source.read(clock))
    signals = fuse([*readings, idle_elsewhere, no_screen], clock.boot_us(), SETTINGS)

    assert {(reading.state, reading.code) for reading in readings} == {(State.UNREADABLE, fault)}
    assert source.faults == {fault: 2}
    assert signals.active


def test_at_least_twelve_broken_files_are_tried() -> None:
    assert len(BROKEN) >= 12


def test_a_folder_and_a_device_are_not_read(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(ActivityRefused) as caught:
            read_activity(path)
        assert caught.value.fault is Fault.NOT_REGULAR


def test_an_absent_file_is_missing_not_unreadable(tmp_path: Path) -> None:
    source = ActivityFileSource(tmp_path / "none.json")

    assert {r.state for r in source.read(FakeClock())} == {State.MISSING}
    assert source.faults == {Fault.ABSENT: 1}


@pytest.mark.parametrize(
    "data",
    [
        _bytes(seq=-1),
        _bytes(seq=True),
        _bytes(seq=1.0),
        _bytes(machine=""),
        _bytes(machine="x" * 201),
        _bytes(active=None),
        _bytes(active=1),
        _bytes(power="solar"),
        _bytes(charge_bp=-1),
        _bytes(idle_ms=None),
        b"null",
        b"NaN",
        b"\xef\xbb\xbf{}",
        b"[" * 5_000,
        b'{"schema": "\\ud800"}',
        b"\0" * 100,
    ],
)
def test_hostile_bytes_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(ActivityRefused) as caught:
        parse_activity(data)

    assert caught.value.code == "signal.file-unreadable"
    assert caught.value.message.startswith("activity.")


@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "schema": st.sampled_from([ACTIVITY_CONTRACT, "x", None]) | st.just(ACTIVITY_CONTRACT),
            "seq": st.integers(-1, 5) | st.just(2**53 - 1),
            "machine": st.text(max_size=3) | st.just("desk"),
            "written_us": st.integers(-1, 5),
            "idle_ms": st.integers(-1, 5) | st.none() | st.booleans(),
            "active": st.booleans() | st.none(),
            "fullscreen": st.booleans() | st.none(),
            "activity_score_bp": st.sampled_from([-1, 0, 10_000, 10_001]),
            "power": st.sampled_from(["mains", "battery", None, "solar"]),
            "charge_bp": st.sampled_from([None, 0, 10_000, 10_001]),
        },
        optional={"more": st.just(1)},
    )
)
def test_the_reader_allows_exactly_what_the_contract_allows(document: dict[str, Any]) -> None:
    try:
        load_contracts().validate(ACTIVITY_CONTRACT, document)
        allowed = True
    except RecordInvalid:
        allowed = False

    try:
        parse_activity(json.dumps(document).encode())
        read = True
    except ActivityRefused:
        read = False
    assert read == allowed


def _states(source: ActivityFileSource, clock: FakeClock) -> tuple[State, str, object]:
    idle = next(r for r in source.read(clock) if r.signal is Signal.IDLE_MS)
    return idle.state, idle.code, idle.value


def test_on_first_sight_the_file_has_to_change_once(tmp_path: Path) -> None:
    path, clock = tmp_path / "a.json", FakeClock()
    source = ActivityFileSource(path)
    _put(path, _bytes(seq=7))

    first = _states(source, clock)
    clock.advance(200_000)
    same = _states(source, clock)
    _put(path, _bytes(seq=8))
    changed = _states(source, clock)

    assert first[:2] == same[:2] == (State.STALE, Fault.FIRST_SIGHT)
    assert changed == (State.FRESH, "", 60_000)


def test_idle_time_grows_from_the_change_until_the_file_is_stale(tmp_path: Path) -> None:
    path, clock = tmp_path / "a.json", FakeClock()
    source = ActivityFileSource(path, stale_ms=5_000)
    for seq in (7, 8):
        _put(path, _bytes(seq=seq, idle_ms=100))
        source.read(clock)

    clock.advance(5_000_000)
    grown = _states(source, clock)
    clock.advance(1)
    stale = _states(source, clock)

    assert grown == (State.FRESH, "", 5_100)
    assert stale[:2] == (State.STALE, Fault.UNCHANGED)


@pytest.mark.parametrize("days", [-1, 1])
def test_a_writer_whose_clock_is_a_day_off_still_works(tmp_path: Path, days: int) -> None:
    path, here, there = tmp_path / "a.json", FakeClock(), FakeClock()
    there.step_wall(days * 24 * 3600 * 1_000_000)
    source = ActivityFileSource(path)
    for _ in range(2):
        write_activity(
            path, idle_ms=5, active=False, wall_us=there.wall_us(), machine="far", fullscreen=False
        )
        last = source.read(here)

    assert {reading.state for reading in last if reading.value is not None} == {State.FRESH}


def test_a_sequence_that_goes_back_is_refused_once_and_believed_after_a_change(tmp_path: Path) -> None:
    path, clock = tmp_path / "a.json", FakeClock()
    source = ActivityFileSource(path)
    seen = []
    for seq in (7, 8, 3, 3, 4):
        _put(path, _bytes(seq=seq))
        clock.advance(250_000)
        seen.append(_states(source, clock)[:2])

    assert seen == [
        (State.STALE, Fault.FIRST_SIGHT),
        (State.FRESH, ""),
        (State.UNREADABLE, Fault.SEQ_BACK),
        (State.STALE, Fault.FIRST_SIGHT),
        (State.FRESH, ""),
    ]


def test_an_old_file_put_back_does_not_become_fresh(tmp_path: Path) -> None:
    path, clock = tmp_path / "a.json", FakeClock()
    source = ActivityFileSource(path)
    for seq in (7, 8, 2):
        _put(path, _bytes(seq=seq))
        source.read(clock)

    for _ in range(50):
        clock.advance(250_000)
        assert _states(source, clock)[0] is not State.FRESH


# The writer


def test_the_writer_raises_seq_and_what_it_writes_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"

    first = write_activity(path, idle_ms=1, active=True, wall_us=50, machine="m")
    second = write_activity(
        path, idle_ms=2, active=False, wall_us=60, machine="m", power="battery", charge_bp=5
    )

    assert second.seq == first.seq + 1
    assert read_activity(path) == second
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_broken_file_is_replaced_but_a_link_or_a_pipe_is_left_alone(tmp_path: Path) -> None:
    torn, link = tmp_path / "torn", tmp_path / "link"
    _put(torn, b"{")
    link.symlink_to(torn)

    assert write_activity(torn, idle_ms=1, active=True, wall_us=50, machine="m").seq == 50
    with pytest.raises(ActivityRefused):
        write_activity(link, idle_ms=1, active=True, wall_us=50, machine="m")
    assert link.is_symlink()


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ActivityUnwritable) as caught:
        write_activity(tmp_path / "none" / "a", idle_ms=1, active=True, wall_us=50, machine="m")

    assert caught.value.exit == 2 and "none" in caught.value.message


@pytest.mark.parametrize(
    "wrong", [{"idle_ms": -1}, {"machine": ""}, {"charge_bp": 20_000}, {"power": "coal"}]
)
def test_the_writer_never_writes_what_the_reader_refuses(tmp_path: Path, wrong: dict[str, Any]) -> None:
    told: dict[str, Any] = {"idle_ms": 1, "active": True, "wall_us": 5, "machine": "m", **wrong}

    with pytest.raises(SterlingError):
        write_activity(tmp_path / "a", **told)
    assert not (tmp_path / "a").exists()


def test_a_machine_that_reads_nothing_writes_active(tmp_path: Path) -> None:
    clock = FakeClock()

    written = write_once(tmp_path / "a", Told(machine="m"), fuse([], clock.boot_us(), SETTINGS), clock)

    assert (written.idle_ms, written.active, written.fullscreen) == (0, True, None)


def test_what_a_person_tells_the_writer_replaces_what_it_reads(tmp_path: Path) -> None:
    clock = FakeClock()
    told = Told(idle_ms=90_000, fullscreen=False, machine="m")

    written = write_once(tmp_path / "a", told, fuse([], clock.boot_us(), SETTINGS), clock)

    assert (written.idle_ms, written.active, written.fullscreen) == (90_000, False, False)
