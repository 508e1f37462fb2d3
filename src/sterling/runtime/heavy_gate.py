"""The heavy-path gate: does heavy work still run when it may, and only then; does it still give anything?

The gating half plays passes over a scratch home (`gating_checks.py`) and then
runs the built-in probe in real workers; it needs no service. The production half
is handed in: a forced run over the shipped sample must leave a derived record,
and a question must get an answer that cites or says what is missing.

A broken gating half is `failed` whatever else is missing; `na` is left for the
case in which only services are missing. Nothing of a person's home is touched
but the one entry that says what was found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sterling.kernel.batch import Batch
from sterling.kernel.canonical import Json
from sterling.kernel.config_edit import edit_text
from sterling.kernel.errors import EXIT_CANNOT_JUDGE, EXIT_NO, EXIT_OK, SterlingError
from sterling.kernel.home import Home, scratch_home
from sterling.runtime.gating_checks import AWAY, GATING_CHECKS, HERE, Regressed
from sterling.runtime.reasons import Reason, hint_of
from sterling.runtime.rehearsal import Played, ProbeJob, rehearse, run_really
from sterling.runtime.signals import Signal

__all__ = ["GATE_SUBJECT", "GateReport", "GateRow", "Produced", "judge", "judge_gating", "write_report"]

GATE_SUBJECT = "runtime.gate"
_GRACE_MS = 1_000  # Real workers on a busy machine answer late; three times this is the deadline.
_SLOW_MS = 60_000
_LATER_US = 500_000  # The second look after the start.
_BASELINE_BYTES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class GateRow:
    """One row: ok, failed or na; `because` says what was seen, or what was expected and found."""

    id: str
    state: str
    because: str
    code: str = ""

    def as_json(self) -> dict[str, Json]:
        """Every field, with the next step for a code."""
        hint = hint_of(Reason(self.code)) if self.code else ""
        return {
            "id": self.id,
            "state": self.state,
            "code": self.code,
            "because": self.because,
            "hint": hint,
        }


@dataclass(frozen=True, slots=True)
class Produced:
    """What the production half did. `missing` names a service that is not there, `failed` what went wrong."""

    derived: int = 0
    answers: int = 0
    citations: int = 0
    state: str = ""
    missing: str = ""
    failed: str = ""


@dataclass(frozen=True, slots=True)
class GateReport:
    """The rows and their verdict. `before` counts the baseline's answers that stood, if one was given."""

    rows: tuple[GateRow, ...]
    answered: int
    before: int | None

    @property
    def verdict(self) -> str:
        """failed if a row failed, else na if one could not be judged, else ok."""
        states = {row.state for row in self.rows}
        return next((state for state in ("failed", "na") if state in states), "ok")

    @property
    def exit_status(self) -> int:
        return {"ok": EXIT_OK, "failed": EXIT_NO, "na": EXIT_CANNOT_JUDGE}[self.verdict]

    def as_json(self) -> dict[str, Json]:
        """The `runtime.gate` document."""
        return {
            "verdict": self.verdict,
            "answered_after": self.answered,
            "answered_before": self.before,
            "rows": [row.as_json() for row in self.rows],
        }


def judge(beside: Path, produce: Callable[[Home], Produced], baseline: Path | None = None) -> GateReport:
    """Both halves, in scratch homes below a folder."""
    rows = judge_gating(beside)
    with scratch_home(beside) as home:
        made = _produced(home, produce)
    rows += _production_rows(made)
    before = None
    if baseline is not None:
        before, row = _compared(baseline, made)
        rows.append(row)
    return GateReport(tuple(rows), made.answers, before)


def judge_gating(beside: Path, *, really: bool = True) -> list[GateRow]:
    """The gating half; `really` also runs the probe in workers. A check that breaks has failed."""
    with rehearse(beside) as stage:
        rows = [_row(check.id, check.sentence, partial(check.look, stage)) for check in GATING_CHECKS]
    if really:
        with scratch_home(beside) as home:
            _widen(home)
            rows += [_row(name, sentence, partial(look, home)) for name, sentence, look in _REAL]
    return rows


def write_report(home: Home, report: GateReport) -> int:
    """Write the verdict down; returns the entry's index."""
    batch = Batch()
    batch.append("runtime.gate", report.as_json(), subject=GATE_SUBJECT)
    return home.ledger.commit(batch).last


def _row(name: str, sentence: str, look: Callable[[], None]) -> GateRow:
    try:
        look()
    except Regressed as found:
        return GateRow(name, "failed", str(found), str(Reason.GATE_GATING_REGRESSED))
    except Exception as problem:  # noqa: BLE001 - however a check breaks, the gate is closed
        because = f"expected the check to end, found {type(problem).__name__}: {problem}"
        return GateRow(name, "failed", because[:1000], str(Reason.GATE_GATING_REGRESSED))
    return GateRow(name, "ok", " ".join(sentence.split()))


def _widen(home: Home) -> None:
    """Give real workers time, in the scratch home's own file."""
    path = home.path / "sterling.toml"
    text = path.read_text(encoding="utf-8")
    for name, value in (("grace_ms", _GRACE_MS), ("suspend_deadline_ms", 3 * _GRACE_MS), ("workers_max", 1)):
        text = edit_text(text, f"governor.{name}", value)
    path.write_text(text, encoding="utf-8")


def _forced_completes(home: Home) -> None:
    played = run_really(home, ProbeJob("a", 20), ((0, HERE),), forced=True)
    _expect(played, "completed", "ok")
    if not played.dispatches["a"].walls:
        raise Regressed("expected the walls that held to be named, found none")


def _idle_is_denied(home: Home) -> None:
    _expect(
        run_really(home, ProbeJob("a", 20), ((0, HERE),), forced=False), "not_admitted", "mode.user-active"
    )


def _person_comes_back(home: Home) -> None:
    line = ((0, AWAY), (_LATER_US, HERE))
    played = run_really(home, ProbeJob("a", _SLOW_MS), line, forced=False)
    _expect(played, "yielded", "mode.user-active")
    _not_forced(played)


def _screen_fills(home: Home) -> None:
    line = ((0, HERE), (_LATER_US, {**HERE, Signal.FULLSCREEN: True}))
    played = run_really(home, ProbeJob("a", _SLOW_MS), line, forced=True)
    _expect(played, "yielded", "mode.fullscreen")
    _not_forced(played)


def _expect(played: Played, end: str, reason: str) -> None:
    if played.end_of("a") != (end, reason):
        raise Regressed(f"expected {end} {reason}, found {' '.join(played.end_of('a'))}")


def _not_forced(played: Played) -> None:
    if played.dispatches["a"].forced:
        raise Regressed(
            f"expected the worker to stop within {3 * _GRACE_MS} ms, found that it had to be killed"
        )


_REAL: Sequence[tuple[str, str, Callable[[Home], None]]] = (
    (
        "workers.forced-while-active",
        "A forced probe completes in a worker while a person works.",
        _forced_completes,
    ),
    ("workers.idle-denied", "The same probe found by the conductor waits.", _idle_is_denied),
    (
        "workers.person-comes-back",
        "A worker stops by itself within three times the grace.",
        _person_comes_back,
    ),
    ("workers.fullscreen", "A full screen stops a forced probe in its worker.", _screen_fills),
)


def _produced(home: Home, produce: Callable[[Home], Produced]) -> Produced:
    try:
        return produce(home)
    except SterlingError as problem:
        words = f"{problem.code}: {problem.message}"
        return Produced(missing=words) if problem.exit == EXIT_CANNOT_JUDGE else Produced(failed=words)
    except Exception as problem:  # noqa: BLE001 - however it breaks, nothing was produced
        return Produced(failed=f"expected the run to end, found {type(problem).__name__}: {problem}"[:1000])


def _production_rows(made: Produced) -> list[GateRow]:
    names = ("production.forced-run", "production.answer")
    if made.missing:
        return [GateRow(name, "na", made.missing, str(Reason.GATE_SERVICE_MISSING)) for name in names]
    stands = made.citations > 0 or made.state == "indeterminate"
    found = made.failed or f"{made.derived} derived records from a forced run over the sample"
    answer = made.failed or f"the answer is {made.state}, with {made.citations} citations"
    return [
        _judged(names[0], made.derived > 0 and not made.failed, found),
        _judged(names[1], stands and not made.failed, answer),
    ]


def _judged(name: str, good: bool, because: str) -> GateRow:
    return (
        GateRow(name, "ok", because)
        if good
        else GateRow(name, "failed", because, str(Reason.GATE_NOTHING_DERIVED))
    )


def _compared(baseline: Path, made: Produced) -> tuple[int | None, GateRow]:
    """The answers that stood before and stand now. Fewer than before is failed, no baseline is na."""
    before, why = _read_baseline(baseline)
    name = "production.baseline"
    if before is None:
        return None, GateRow(name, "na", why, str(Reason.GATE_NO_BASELINE))
    if made.missing:
        return before, GateRow(name, "na", made.missing, str(Reason.GATE_SERVICE_MISSING))
    words = f"{before} answers stood before, {made.answers} stand now"
    return before, _judged(name, made.answers >= before, words)


def _read_baseline(path: Path) -> tuple[int | None, str]:
    try:
        with path.open("rb") as file:
            document: Any = json.loads(file.read(_BASELINE_BYTES_MAX))
        before = document["answered_after"]
    except OSError as problem:
        return None, f"expected a baseline in {path.name}, found: {problem.strerror}"
    except (ValueError, KeyError, TypeError):
        return (
            None,
            f"expected what this command printed before with --json, found something else in {path.name}",
        )
    if type(before) is not int or before < 0:
        return None, f"expected a count of answers in {path.name}, found {str(before)[:50]}"
    return before, ""
