from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sterling.app import produce_sample
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home, init_home
from sterling.runtime import gating_checks, heavy_gate
from sterling.runtime.gating_checks import GATING_CHECKS, Check, Regressed
from sterling.runtime.heavy_gate import GateReport, GateRow, Produced, judge, judge_gating, write_report
from sterling.runtime.rehearsal import ProbeJob, Rehearsal, rehearse

GOOD = Produced(derived=2, answers=1, citations=1, state="answered")


class Absent(SterlingError):
    code = "recall.test-absent"
    exit = 4


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first check and no workers; the whole is judged elsewhere."""
    monkeypatch.setattr(heavy_gate, "GATING_CHECKS", GATING_CHECKS[:1])
    monkeypatch.setattr(heavy_gate, "_REAL", ())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with init_home(tmp_path / "home") as home:
        yield home


def break_gating(monkeypatch: pytest.MonkeyPatch, problem: Exception) -> None:
    def look(stage: Rehearsal) -> None:
        raise problem

    monkeypatch.setattr(heavy_gate, "GATING_CHECKS", (Check("gating.broken", "It breaks.", look),))


def states(report: GateReport) -> dict[str, str]:
    return {row.id: row.code or row.state for row in report.rows}


def test_the_gating_half_is_green_on_the_virtual_clock(tmp_path: Path) -> None:
    rows = judge_gating(tmp_path, really=False)

    assert [row for row in rows if row.state != "ok"] == []
    assert len(rows) == len(GATING_CHECKS) == 18


@pytest.mark.slow
def test_the_gating_half_is_green_with_real_workers(tmp_path: Path) -> None:
    rows = judge_gating(tmp_path)

    assert [row for row in rows if row.state != "ok"] == []
    assert sum(row.id.startswith("workers.") for row in rows) == 4


def test_the_rehearsal_says_the_same_twice(tmp_path: Path) -> None:
    played = []
    for _ in range(2):
        with rehearse(tmp_path) as stage:
            played.append(stage.play([ProbeJob("a", 3_000, None), ProbeJob("b")], forced=True))

    assert played[0] == played[1]


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    judge_gating(tmp_path, really=False)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_all_good_is_ok(tmp_path: Path) -> None:
    report = judge(tmp_path, lambda home: GOOD)

    assert (report.verdict, report.exit_status, report.answered) == ("ok", 0, 1)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("problem", [Regressed("expected a, found b"), ZeroDivisionError(), AssertionError()])
def test_broken_gating_is_failed_even_with_services_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    break_gating(monkeypatch, problem)

    report = judge(tmp_path, lambda home: Produced(missing="no engine"))

    assert (report.verdict, report.exit_status) == ("failed", 1)
    assert states(report)["gating.broken"] == "gate.gating-regressed"
    assert states(report)["production.answer"] == "gate.service-missing"


@pytest.mark.usefixtures("quick")
def test_only_a_service_missing_is_na_and_never_ok(tmp_path: Path) -> None:
    def absent(home: Home) -> Produced:
        raise Absent("expected an engine, found none")

    for produce in (absent, lambda home: Produced(missing="no engine")):
        report = judge(tmp_path, produce)
        assert (report.verdict, report.exit_status) == ("na", 4)


@pytest.mark.usefixtures("quick")
def test_without_the_reading_engine_the_sample_cannot_be_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tesserocr", None)

    report = judge(tmp_path, produce_sample)

    assert (report.verdict, report.exit_status) == ("na", 4)
    assert "tesserocr" in report.rows[-1].because


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "made",
    [
        Produced(derived=0, answers=1, citations=1, state="answered"),
        Produced(derived=2, answers=0, citations=0, state="answered"),
        Produced(derived=2, answers=0, citations=0, state="no_evidence"),
        Produced(failed="step.raised: bad"),
        Produced(),
    ],
)
def test_nothing_derived_or_nothing_cited_is_failed(tmp_path: Path, made: Produced) -> None:
    report = judge(tmp_path, lambda home: made)

    assert (report.verdict, report.exit_status) == ("failed", 1)
    assert "gate.nothing-derived" in states(report).values()


@pytest.mark.usefixtures("quick")
def test_an_answer_that_says_what_is_missing_stands(tmp_path: Path) -> None:
    made = Produced(derived=1, answers=1, citations=0, state="indeterminate")

    assert judge(tmp_path, lambda home: made).exit_status == 0


@pytest.mark.usefixtures("quick")
def test_a_production_half_that_crashes_is_failed(tmp_path: Path) -> None:
    def crash(home: Home) -> Produced:
        raise RuntimeError("bad")

    assert judge(tmp_path, crash).exit_status == 1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("before", "exit"), [(0, 0), (1, 0), (2, 1)])
def test_fewer_answers_than_the_baseline_are_failed(tmp_path: Path, before: int, exit: int) -> None:
    (tmp_path / "before.json").write_text(json.dumps({"answered_after": before}), encoding="utf-8")

    report = judge(tmp_path, lambda home: GOOD, tmp_path / "before.json")

    assert (report.exit_status, report.before, report.answered) == (exit, before, 1)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "text",
    [None, "", "[]", "{}", '{"answered_after": -1}', '{"answered_after": true}', '{"answered_after": "3"}'],
)
def test_no_usable_baseline_cannot_be_judged(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "before.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")

    report = judge(tmp_path, lambda home: GOOD, path)

    assert (report.exit_status, report.before) == (4, None)
    assert states(report)["production.baseline"] == "gate.no-baseline"


def test_the_verdict_is_written_down(home: Home) -> None:
    report = GateReport(
        (GateRow("gating.a", "failed", "expected a, found b", "gate.gating-regressed"),), 0, None
    )

    entry = write_report(home, report)

    kept = next(home.ledger.read(kind="runtime.gate"))
    assert (kept.index, kept.payload["verdict"]) == (entry, "failed")
    assert kept.payload["rows"][0]["hint"].endswith("`sterling governor gate`.")


def test_every_reason_of_the_mode_table_and_the_cuts_is_named_by_a_check() -> None:
    source = Path(gating_checks.__file__).read_text(encoding="utf-8")

    for reason in ("fullscreen", "cpu-pressure", "ram-pressure", "power-low", "query-intent", "user-active"):
        assert f'"mode.{reason}"' in source
    for code in ("budget.exhausted", "budget.reserved", "budget.jobs-exhausted", "budget.concurrency"):
        assert f'"{code}"' in source
