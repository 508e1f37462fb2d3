"""A played day: the same deciders, the same bytes, and clear refusals of bad input."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sterling.kernel.canonical import canonical_bytes
from sterling.kernel.contracts import load_contracts
from sterling.kernel.errors import SterlingError
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.modes import choose_mode
from sterling.runtime.signals import Reading, Signal, State, fuse, signals_document
from sterling.runtime.simulate import Report, SpanTooLong, simulate
from sterling.runtime.simulate_input import InputEmpty, InputUnreadable, LineInvalid, read_jobs, read_signals

SETTINGS = GovernorSettings(cores=2)
SECOND = 1_000_000
IDLE = {
    "idle_ms": 60_000,
    "active": False,
    "fullscreen": False,
    "cpu_other_bp": 0,
    "ram_used_bp": 1_000,
    "power": "mains",
}


def _save(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _play(
    folder: Path,
    lines: list[dict[str, Any]],
    jobs: list[dict[str, Any]] | None = None,
    settings: GovernorSettings = SETTINGS,
) -> Report:
    signals = read_signals(_save(folder / "signals.jsonl", lines))
    wanted = read_jobs(_save(folder / "jobs.jsonl", jobs)) if jobs else []
    return simulate(signals, settings, wanted)


def _only(report: Report, *kinds: str) -> list[dict[str, Any]]:
    return [event for event in report.events if event["event"] in kinds]


def _brief(report: Report, *kinds: str) -> list[tuple[Any, ...]]:
    return [(e["at_us"], e["event"], e.get("job", ""), e.get("reason", "")) for e in _only(report, *kinds)]


def test_idle_time_grows_between_lines_until_work_may_start(tmp_path: Path) -> None:
    lines = [{"at_us": 0, **IDLE, "idle_ms": 0}, {"at_us": 60 * SECOND}]

    report = _play(tmp_path, lines)

    modes = [(e["at_us"], e["to"], e["reason"]) for e in _only(report, "mode")]
    assert modes == [
        (0, "ACTIVE_CAPTURE_ONLY", "mode.user-active"),
        (3 * SECOND, "ACTIVE_CAPTURE_ONLY", "mode.idle-threshold"),
        (45 * SECOND, "IDLE_DRAIN", "mode.idle-window"),
    ]
    assert report.summary["mode_us"] == {"ACTIVE_CAPTURE_ONLY": 45 * SECOND, "IDLE_DRAIN": 15 * SECOND}
    assert report.summary["ticks"] == 241


def test_a_line_takes_effect_at_the_first_look_after_it(tmp_path: Path) -> None:
    lines = [{"at_us": 0, **IDLE}, {"at_us": 1_000_001, "fullscreen": True}]

    assert [e["at_us"] for e in _only(_play(tmp_path, lines), "mode")] == [0, 1_250_000]


def test_a_job_that_obeys_is_asked_stops_and_goes_on_later(tmp_path: Path) -> None:
    lines = [
        {"at_us": 0, **IDLE},
        {"at_us": 10 * SECOND, "idle_ms": 0},
        {"at_us": 100 * SECOND},
    ]
    jobs = [{"id": "a", "run_ms": 20_000, "stops_in_ms": 40}]

    report = _play(tmp_path, lines, jobs)

    back = 10 * SECOND
    again = 56 * SECOND  # Idle again at 55 s; queued jobs are looked at every two seconds.
    assert _brief(report, "lease", "ask", "end") == [
        (0, "lease", "a", "mode.idle-window"),
        (back + 150_000, "ask", "a", "mode.user-active"),
        (back + 190_000, "end", "a", "mode.user-active"),
        (again, "lease", "a", "mode.idle-window"),
        (again + 9_810_000, "end", "a", "ok"),
    ]


def test_a_job_that_ignores_asking_is_killed_at_the_deadline_and_completes_once(tmp_path: Path) -> None:
    lines = [{"at_us": 0, **IDLE}, {"at_us": 10 * SECOND, "idle_ms": 0}, {"at_us": 100 * SECOND}]
    jobs = [{"id": "a", "run_ms": 20_000, "stops_in_ms": None}]

    report = _play(tmp_path, lines, jobs)

    ends = _only(report, "end")
    assert [(e["at_us"], e["end"], e["forced"]) for e in ends] == [
        (10 * SECOND + 500_000, "yielded", True),
        (76 * SECOND, "completed", False),
    ]


def test_full_screen_asks_at_once(tmp_path: Path) -> None:
    lines = [{"at_us": 0, **IDLE}, {"at_us": 4 * SECOND, "fullscreen": True}, {"at_us": 9 * SECOND}]

    report = _play(tmp_path, lines, [{"id": "a", "run_ms": 20_000, "stops_in_ms": None}])

    assert _brief(report, "ask", "end") == [
        (4 * SECOND, "ask", "a", "mode.fullscreen"),
        (4 * SECOND + 500_000, "end", "a", "mode.fullscreen"),
    ]


def test_a_job_longer_than_its_grant_is_stopped_at_the_end_of_it(tmp_path: Path) -> None:
    jobs = [{"id": "a", "run_ms": 40_000, "stops_in_ms": None}]

    report = _play(tmp_path, [{"at_us": 0, **IDLE}, {"at_us": 31 * SECOND}], jobs)

    assert _brief(report, "ask", "end")[:2] == [
        (30 * SECOND + 150_000, "ask", "a", "budget.grant-used"),
        (30 * SECOND + 500_000, "end", "a", "budget.grant-used"),
    ]


def test_forty_jobs_in_a_window_for_two_start_at_most_two(tmp_path: Path) -> None:
    tight = replace(SETTINGS, budget_ms=120, jobs_max=2, workers_max=1)
    jobs = [{"id": f"j{n:02}", "run_ms": 900, "estimate_ms": 900} for n in range(40)]

    report = _play(tmp_path, [{"at_us": 0, **IDLE}, {"at_us": 290 * SECOND}], jobs, tight)

    started = {e["job"] for e in _only(report, "lease")}
    refused = {e["job"] for e in _only(report, "not_admitted")}
    assert 1 <= len(started) <= 2
    assert refused >= {job["id"] for job in jobs} - started
    window = _only(report, "window")[0]
    assert window["spent_us"] <= 120_000 + 500_000 + 250_000


def test_flipping_the_mode_ten_times_does_not_refill(tmp_path: Path) -> None:
    lines = [{"at_us": 0, **IDLE}]
    for flip in range(1, 11):
        lines += [
            {"at_us": flip * 20 * SECOND, "fullscreen": True},
            {"at_us": flip * 20 * SECOND + SECOND, "fullscreen": False},
        ]
    lines.append({"at_us": 299 * SECOND})
    jobs = [{"id": f"j{n:02}", "run_ms": 60_000, "stops_in_ms": 0} for n in range(20)]

    report = _play(tmp_path, lines, jobs)

    window = _only(report, "window")[0]
    assert window["budget_us"] == 240 * SECOND
    assert window["spent_us"] <= 180 * SECOND + 150_000


def test_a_question_is_answered_inside_the_reserve(tmp_path: Path) -> None:
    # An idle drain to its limit, then somebody asks.
    tight = replace(SETTINGS, budget_ms=20_000)
    lines = [{"at_us": 0, **IDLE}, {"at_us": 40 * SECOND, "query_intent": True}, {"at_us": 60 * SECOND}]
    jobs = [
        {"id": "idle", "run_ms": 90_000, "stops_in_ms": 0},
        {"id": "asked", "at_us": 40 * SECOND, "run_ms": 2_000, "origin": "forced", "estimate_ms": 2_000},
    ]

    report = _play(tmp_path, lines, jobs, tight)

    assert (15 * SECOND + 150_000, "end", "idle", "budget.reserved") in _brief(report, "end")
    assert "budget.reserved" in {e["reason"] for e in _only(report, "not_admitted") if e["job"] == "idle"}
    assert (42 * SECOND, "end", "asked", "ok") in _brief(report, "end")


def test_attended_and_light_work_runs_beside_an_active_person(tmp_path: Path) -> None:
    jobs = [
        {"id": "typed", "run_ms": 700, "origin": "attended"},
        {"id": "frame", "run_ms": 0, "weight": "light", "kind": "capture"},
        {"id": "other", "run_ms": 0, "weight": "light", "kind": "reindex"},
        {"id": "heavy", "run_ms": 5},
    ]

    report = _play(tmp_path, [{"at_us": 0, **IDLE, "idle_ms": 0}, {"at_us": 2 * SECOND}], jobs)

    assert {e["job"] for e in _only(report, "end")} == {"typed", "frame"}
    assert {e["job"] for e in _only(report, "not_admitted")} == {"other", "heavy"}
    assert _only(report, "window")[0]["attended_us"] == 700_000


def test_a_whole_job_is_frozen_and_thawed_and_its_time_counts_running_only(tmp_path: Path) -> None:
    lines = [{"at_us": 0, **IDLE}, {"at_us": 10 * SECOND, "idle_ms": 0}, {"at_us": 100 * SECOND}]
    jobs = [{"id": "agent", "run_ms": 20_500, "suspend": "freeze"}]

    report = _play(tmp_path, lines, jobs)

    assert _brief(report, "freeze", "thaw", "end") == [
        (10 * SECOND + 500_000, "freeze", "agent", "mode.user-active"),
        (55 * SECOND, "thaw", "agent", ""),
        (65 * SECOND, "end", "agent", "ok"),
    ]


def test_a_whole_job_renews_its_grant_in_place(tmp_path: Path) -> None:
    jobs = [{"id": "agent", "run_ms": 70_000, "suspend": "freeze"}]

    report = _play(tmp_path, [{"at_us": 0, **IDLE}, {"at_us": 80 * SECOND}], jobs)

    assert [e["at_us"] for e in _only(report, "renew")] == [30 * SECOND, 60 * SECOND]
    assert _brief(report, "end") == [(70 * SECOND, "end", "agent", "ok")]


def test_a_job_that_can_never_fit_fails_at_once(tmp_path: Path) -> None:
    jobs = [{"id": "a", "run_ms": 5, "least_slice_ms": 30_001}]

    report = _play(tmp_path, [{"at_us": 0, **IDLE}], jobs)

    assert _brief(report, "end") == [(0, "end", "a", "budget.never-fits")]


def test_every_closed_window_is_reported_and_the_books_close(tmp_path: Path) -> None:
    jobs = [{"id": f"j{n}", "run_ms": 9_000, "at_us": n * 50 * SECOND} for n in range(20)]

    report = _play(tmp_path, [{"at_us": 0, **IDLE}, {"at_us": 1_000 * SECOND}], jobs)

    windows = _only(report, "window")
    assert [w["index"] for w in windows] == [0, 1, 2, 3]
    ran = sum(e["charged_us"] for e in _only(report, "end"))
    assert sum(w["spent_us"] for w in windows) == ran == 20 * 9 * SECOND


def test_an_hour_gives_the_same_bytes_every_time_and_keeps_its_contract(tmp_path: Path) -> None:
    lines = [
        {"at_us": n * 250_000, **IDLE, "idle_ms": (n % 700) * 250, "cpu_other_bp": (n * 37) % 6_000}
        for n in range(14_400)
    ]
    jobs = [{"id": f"j{n}", "run_ms": 1_000 + n * 311, "at_us": n * 60 * SECOND} for n in range(50)]

    first, second = (_play(tmp_path, lines, jobs) for _ in range(2))

    assert canonical_bytes(list(first.events)) == canonical_bytes(list(second.events))
    assert first.summary == second.summary
    load_contracts().validate("governor.simulate", {"events": list(first.events), "summary": first.summary})
    assert first.summary["ends"]["completed"] > 0


@st.composite
def _sampled(draw: st.DrawFn) -> list[Reading]:
    kinds: dict[Signal, st.SearchStrategy[int | bool | str]] = {
        Signal.IDLE_MS: st.integers(0, 90_000),
        Signal.ACTIVE: st.booleans(),
        Signal.FULLSCREEN: st.booleans(),
        Signal.CPU_OTHER_BP: st.integers(0, 10_000),
        Signal.RAM_USED_BP: st.integers(0, 10_000),
        Signal.POWER: st.sampled_from(["mains", "battery"]),
        Signal.CHARGE_BP: st.integers(0, 10_000),
    }
    return [
        Reading(signal, draw(values), "s", 5 * SECOND, draw(st.sampled_from(list(State))))
        for signal, values in kinds.items()
        if draw(st.booleans())
    ]


@settings(max_examples=80, deadline=None)
@given(readings=_sampled(), intent=st.booleans())
def test_what_a_conductor_stored_decides_the_same_when_it_is_replayed(
    readings: list[Reading], intent: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    signals = fuse(readings, 5 * SECOND, SETTINGS, query_intent=intent)
    document = signals_document(signals)
    load_contracts().validate("runtime.signals", document)

    report = _play(tmp_path_factory.mktemp("replay"), [document])

    live = choose_mode(signals, SETTINGS)
    (event,) = _only(report, "mode")
    assert (event["to"], event["reason"], event["row"]) == (live.mode, live.reason, live.row)


# Bad input


def _signals_error(path: Path) -> SterlingError:
    with pytest.raises(SterlingError) as caught:
        simulate(read_signals(path), SETTINGS)
    assert caught.value.exit == 2 and "`sterling governor simulate --help`" in caught.value.hint
    return caught.value


def test_a_path_that_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    for path in (tmp_path, tmp_path / "none", tmp_path / "pipe", Path("/dev/zero")):
        assert isinstance(_signals_error(path), InputUnreadable)


@pytest.mark.parametrize("text", [b"", b"\n\n", b"  \n"])
def test_a_file_without_a_line_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "f").write_bytes(text)

    assert isinstance(_signals_error(tmp_path / "f"), InputEmpty)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\x7fELF\0\0\1")

    assert isinstance(_signals_error(tmp_path / "f"), InputUnreadable)


BAD_LINES = [
    b'{"at_us": 5, "idle_ms"',
    b"[1]",
    b'"text"',
    b"\xff\xfe",
    b'{"idle_ms": 5}',
    b'{"at_us": "5"}',
    b'{"at_us": -1}',
    b'{"at_us": 1.5}',
    b'{"at_us": true}',
    b'{"at_us": 9007199254740993}',
    b'{"at_us": 5, "at_us": 6}',
    b'{"at_us": 5, "idle": 5}',
    b'{"at_us": 5, "idle_ms": "5"}',
    b'{"at_us": 5, "idle_ms": true}',
    b'{"at_us": 5, "idle_ms": -1}',
    b'{"at_us": 5, "cpu_other_bp": 10001}',
    b'{"at_us": 5, "fullscreen": 1}',
    b'{"at_us": 5, "power": "coal"}',
    b'{"at_us": 5, "query_intent": null}',
    b'{"at_us": 5, "states": []}',
    b'{"at_us": 5, "states": {"idle_ms": "fresh"}}',
    b'{"at_us": 5, "states": {"nothing": "stale"}}',
    b'{"at_us": 5, "idle_ms": 1, "states": {"idle_ms": "stale"}}',
    b'{"at_us": 5, "idle_ms": NaN}',
    b'{"at_us": 5, "x": "' + b"x" * 70_000 + b'"}',
    b"[" * 2_000,
]


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "f").write_bytes(b'{"at_us": 1}\n' + line + b"\n")

    error = _signals_error(tmp_path / "f")

    assert isinstance(error, LineInvalid) and error.line == 2
    assert "line 2" in error.message


def test_time_that_goes_back_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "f", [{"at_us": 500}, {"at_us": 499}])

    assert isinstance(_signals_error(path), LineInvalid)


def test_a_gap_of_years_is_refused_and_not_played(tmp_path: Path) -> None:
    path = _save(tmp_path / "f", [{"at_us": 0}, {"at_us": 2**53 - 1}])

    assert isinstance(_signals_error(path), SpanTooLong)


@pytest.mark.parametrize(
    "job",
    [
        {"run_ms": 5},
        {"id": "", "run_ms": 5},
        {"id": 5, "run_ms": 5},
        {"id": "a"},
        {"id": "a", "run_ms": -1},
        {"id": "a", "run_ms": 1.5},
        {"id": "a", "run_ms": True},
        {"id": "a", "run_ms": 2**53 - 1},
        {"id": "a", "run_ms": 5, "weight": "huge"},
        {"id": "a", "run_ms": 5, "origin": "cron"},
        {"id": "a", "run_ms": 5, "origin": []},
        {"id": "a", "run_ms": 5, "gpu": 1},
        {"id": "a", "run_ms": 5, "kind": 1},
        {"id": "a", "run_ms": 5, "suspend": "never"},
        {"id": "a", "run_ms": 5, "more": 1},
    ],
)
def test_a_bad_job_is_named_by_its_line(tmp_path: Path, job: dict[str, Any]) -> None:
    path = _save(tmp_path / "jobs", [{"id": "first", "run_ms": 1}, job])

    with pytest.raises(LineInvalid) as caught:
        read_jobs(path)
    assert caught.value.line == 2


def test_two_jobs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LineInvalid):
        read_jobs(_save(tmp_path / "jobs", [{"id": "a", "run_ms": 1}] * 2))
