"""The pytest JSON report: stages decide, strange shapes never pass."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from sterling.packs.ci.facts import ABSENT, COMPLETE, PARTIAL
from sterling.packs.ci.identity import PathMap
from sterling.packs.ci.ingest import read_report


def stage(outcome: str = "passed", **more: Any) -> dict[str, Any]:
    return {"duration": 0.1, "outcome": outcome, **more}


def report(**changes: Any) -> dict[str, Any]:
    crash = {"path": "/r/t.py", "lineno": 2, "message": "assert 0"}
    base = {
        "exitcode": 1,
        "root": "/r",
        "summary": {"total": 3},
        "collectors": [
            {"nodeid": "", "outcome": "passed", "result": []},
            {
                "nodeid": "b.py",
                "outcome": "failed",
                "result": [],
                "longrepr": "E   ModuleNotFoundError: No module named 'x'",
            },
        ],
        "tests": [
            {
                "nodeid": "t.py::a",
                "outcome": "passed",
                "setup": stage(),
                "call": stage(),
                "teardown": stage(),
            },
            {
                "nodeid": "t.py::b",
                "outcome": "failed",
                "setup": stage(),
                "call": stage("failed", crash=crash, longrepr="E   assert 0"),
            },
            {"nodeid": "t.py::c", "outcome": "xpassed", "setup": stage(), "call": stage()},
        ],
    }
    return {**base, **changes}


def read(value: Any) -> Any:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return read_report(io.BytesIO(data), PathMap())


def test_exit_ids_and_broken_files_are_read_as_stated() -> None:
    found = read(report())

    assert found.fault == ""
    assert found.exit_raw == 1
    assert {name: result.outcome for name, result in found.tests.items()} == {
        "t.py::a": "passed",
        "t.py::b": "failed",
        "t.py::c": "xpassed",
    }
    assert found.tests["t.py::a"].duration_us == 300_000
    assert found.collectors["b.py"].cause == "missing-module x"
    assert set(found.facets.values()) == {COMPLETE}


def test_a_pass_whose_teardown_broke_is_an_error_even_if_the_report_says_passed() -> None:
    tests = [
        {
            "nodeid": "t.py::a",
            "outcome": "passed",
            "call": stage(),
            "teardown": stage("failed", longrepr="E   x"),
        }
    ]

    assert read(report(tests=tests)).tests["t.py::a"].outcome == "error"


def test_every_cut_of_a_report_is_torn() -> None:
    data = json.dumps(report()).encode()

    for cut in range(len(data)):
        found = read(data[:cut])
        assert found.fault in ("ci.report-torn", "ci.report-empty"), cut
        assert COMPLETE not in found.facets.values(), cut


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"{}", "ci.report-unknown"),
        (b"[]", "ci.report-unknown"),
        (b'{"a": 1}', "ci.report-unknown"),
        (b"{" * 10_000, "ci.report-torn"),
        (b'{"tests": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "ci.report-hostile"),
        (b'{"tests": ' + b"[" * 150 + b"]" * 150 + b"}", "ci.report-hostile"),
        (b'{"exitcode": 0} trailing', "ci.report-torn"),
    ],
)
def test_what_is_no_report_is_told_apart(value: bytes, code: str) -> None:
    assert read(value).fault == code


@pytest.mark.parametrize(
    ("changes", "facet", "state"),
    [
        ({"tests": None}, "all_ids", ABSENT),
        ({"tests": {"a": 1}}, "failing_ids", ABSENT),
        ({"tests": [1, None, "x"]}, "all_ids", PARTIAL),
        ({"tests": [{"nodeid": "t::a", "outcome": "rerun"}]}, "all_ids", PARTIAL),
        ({"tests": [{"nodeid": "t::a", "outcome": ["passed"]}]}, "all_ids", PARTIAL),
        ({"tests": [{"outcome": "passed"}]}, "tally", PARTIAL),
        ({"tests": [{"nodeid": 7, "outcome": "passed"}]}, "tally", PARTIAL),
        ({"collectors": None}, "collectors", ABSENT),
        ({"collectors": [{"nodeid": "a", "outcome": "odd"}]}, "collectors", PARTIAL),
        ({"exitcode": None}, "exit", ABSENT),
        ({"exitcode": "0"}, "exit", ABSENT),
        ({"exitcode": True}, "exit", ABSENT),
        ({"exitcode": 0.0}, "exit", ABSENT),
    ],
)
def test_a_part_of_the_wrong_type_is_missing_and_never_empty(changes: Any, facet: str, state: str) -> None:
    assert read(report(**changes)).facets[facet] == state


def test_a_summary_that_disagrees_is_a_note() -> None:
    assert any("summary" in note for note in read(report(summary={"total": 9})).notes)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_other_encodings_are_read(encoding: str) -> None:
    tests = [{"nodeid": "t.py::é", "outcome": "passed"}]
    data = json.dumps(report(tests=tests), ensure_ascii=False).encode(encoding)

    assert "t.py::é" in read(data).tests


@pytest.mark.parametrize("duration", [float("nan"), float("inf"), -1, "x", None, True, 1e300])
def test_odd_durations_never_stop_the_reading(duration: Any) -> None:
    tests = [{"nodeid": "t.py::a", "outcome": "passed", "call": {"outcome": "passed", "duration": duration}}]

    assert read(report(tests=tests)).tests["t.py::a"].outcome == "passed"


def test_a_lone_surrogate_in_an_id_can_still_be_hashed() -> None:
    data = json.dumps(report(tests=[{"nodeid": "t.py::a\ud800", "outcome": "passed"}])).encode()

    (name,) = read(data).tests
    name.encode("utf-8")
