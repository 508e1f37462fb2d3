"""What becomes of a probe: a row of its own, or one that names the root."""

from __future__ import annotations

from pathlib import Path

import pytest

from sterling.kernel import integrity, keys  # noqa: F401 - they declare the codes
from sterling.runtime.doctor import Patient, Probe, ProbeFailed, Row, examine, exit_of
from sterling.testing.clock import FakeClock


def probe(name: str, *, needs: tuple[str, ...] = (), error: Exception | None = None) -> Probe:
    def act(_: Patient) -> str:
        if error is not None:
            raise error
        return "done"

    return Probe(name, "a probe", act, needs)


def test_the_root_is_named_through_a_chain_of_rows() -> None:
    patient = Patient(Path("x"), FakeClock())

    rows = examine(
        [
            probe("a", error=ProbeFailed("bad")),
            probe("b", needs=("a",)),
            probe("c", needs=("b",)),
            probe("d"),
        ],
        patient,
    )

    assert [(row.id, row.state, row.root) for row in rows] == [
        ("a", "failed", ""),
        ("b", "na", "a"),
        ("c", "na", "a"),
        ("d", "ok", ""),
    ]


def test_a_probe_that_crashes_is_a_failed_row_and_the_others_go_on() -> None:
    rows = examine([probe("a", error=ZeroDivisionError("x")), probe("b")], Patient(Path("x"), FakeClock()))

    assert [(row.state, row.code) for row in rows] == [("failed", "doctor.probe-failed"), ("ok", "")]


def test_a_row_that_stands_on_one_not_tried_yet_is_a_defect() -> None:
    with pytest.raises(AssertionError):
        examine([probe("a", needs=("b",)), probe("b")], Patient(Path("x"), FakeClock()))


def test_the_worst_exit_wins() -> None:
    def row(code: str) -> Row:
        return Row(code, "failed", "x", code)

    broken, no, cannot = row("integrity.forked"), row("keys.unusable"), row("integrity.no-anchor")
    assert exit_of([cannot]) == 4
    assert exit_of([cannot, no]) == 1
    assert exit_of([cannot, no, broken]) == 3
    assert exit_of([Row("a", "ok", "x"), Row("b", "na", "y")]) == 0
