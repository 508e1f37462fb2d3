"""Each rule of admission, stopping and charging is broken once; the gating half of the gate turns red."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sterling.kernel.shipped import package_root

MUTANTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "governor",
        "a full screen waits for its grace",
        "wait_us = 0 if row.ask is Ask.AT_ONCE else min(settings.grace_ms * 1000, deadline_us)",
        "wait_us = min(settings.grace_ms * 1000, deadline_us)",
    ),
    ("governor", "no grace at all", "else min(settings.grace_ms * 1000, deadline_us)", "else 0"),
    (
        "governor",
        "the deadline counts from asking",
        "cause_us + deadline_us)",
        "cause_us + wait_us + deadline_us)",
    ),
    (
        "governor",
        "a stop goes with its cause",
        "(held.asked or _goes_on(held, stops))",
        "_goes_on(held, stops)",
    ),
    (
        "governor",
        "each row starts the time again",
        "(held.asked or _goes_on(held, stops))",
        "held.asked",
    ),
    (
        "governor",
        "unreadable settings admit",
        "if not settings.readable:\n        return Adm",
        "if False:\n        return Adm",
    ),
    (
        "governor",
        "unreadable settings stop nothing",
        "if not settings.readable:\n        causes",
        "if False:\n        causes",
    ),
    (
        "governor",
        "an empty budget admits",
        "query_remaining(question.window) <= 0",
        "query_remaining(question.window) < -10**9",
    ),
    (
        "governor",
        "idle work spends the floor",
        "idle_remaining(question.window, question.limits) <= 0",
        "idle_remaining(question.window, question.limits) < -10**9",
    ),
    ("governor", "one more than the cap", "in_flight >= question.limits", "in_flight > question.limits"),
    ("governor", "memory is not counted", "return limit > 0 and declared > limit", "return False"),
    ("governor", "the graphics slot is given twice", "any(lease.gpu for lease in question.running)", "False"),
    (
        "governor",
        "a used grant goes on",
        "if window.charged_us >= lease.started_us + lease.granted_us:",
        "if False:",
    ),
    ("governor", "an exhausted budget goes on", "if window.exhausted_us is not None:", "if False:"),
    ("governor", "the switch is not named", "(*refused.because, Reason.SWITCH_OFF)", "refused.because"),
    (
        "governor",
        "a small grant is given",
        "_grant(question) < max(1, question.request.least_slice_us)",
        "_grant(question) < 1",
    ),
    ("governor", "every light job runs", "verdict.is_heavy or request.kind in LIGHT_IN_ACTIVE", "True"),
    (
        "governor",
        "nothing is stopped for its mode",
        "if not mode.is_heavy:\n        causes",
        "if False:\n        causes",
    ),
    (
        "modes",
        "a full screen is not seen",
        "lambda signals, settings: signals.fullscreen,",
        "lambda signals, settings: False,",
    ),
    (
        "modes",
        "the switch is not asked",
        "signals.query_intent and settings.user_query_heavy,",
        "signals.query_intent,",
    ),
    (
        "modes",
        "idle starts one later",
        "signals.idle_ms >= settings.idle_ms_min",
        "signals.idle_ms > settings.idle_ms_min",
    ),
    ("modes", "a limit is passed once reached", "value_bp >= limit_bp", "value_bp > limit_bp"),
    ("modes", "a battery works like mains", "signals.on_battery and not settings.heavy_on_battery", "False"),
    (
        "modes",
        "a low battery is not seen",
        "signals.on_battery and signals.charge_bp < settings.charge_min_bp",
        "False",
    ),
    ("modes", "a person is not seen", "signals.active and settings.suspend_workers and not", "False and not"),
    (
        "budgets",
        "one worker is charged for all",
        "spent_us=window.spent_us + (idle + query) * elapsed",
        "spent_us=window.spent_us + elapsed",
    ),
    (
        "budgets",
        "grants are not reserved",
        "self.budget_us - self.debt_us - self.spent_us - self.reserved_us",
        "self.budget_us - self.debt_us - self.spent_us",
    ),
    (
        "budgets",
        "debt is forgiven",
        "self.budget_us - self.debt_us - self.spent_us - self.reserved_us",
        "self.budget_us - self.spent_us - self.reserved_us",
    ),
    (
        "budgets",
        "an unused lease keeps its slot",
        "slot = 0 if used or lease.account",
        "slot = 0 if True or lease.account",
    ),
    (
        "budgets",
        "no slot is kept for questions",
        "return max(1, self.jobs_max * self.query_floor_bp // _FULL_BP)",
        "return 0",
    ),
    ("budgets", "a grant has no upper bound", "(limits.job_us_max, estimate_us)", "(estimate_us,)"),
    ("budgets", "the estimate is not looked at", "(limits.job_us_max, estimate_us)", "(limits.job_us_max,)"),
    (
        "budgets",
        "the floor is not reached while running",
        "early = _until(left - floor_left, idle)",
        "early = _until(left, idle)",
    ),
    ("scheduler", "nobody is asked to stop", "self._engine.ask_stop(running.job.key)", "pass"),
    ("scheduler", "nobody is killed", "self._engine.kill(running.job.key)", "pass"),
    ("scheduler", "no look before the start", "self._tick(look=True)", "self._tick()"),
    ("scheduler", "settings of the start rule on", "if self._terms.settings_now is not None:", "if False:"),
    (
        "scheduler",
        "a stop is forgotten",
        "self._books.window = governor.remember(self._books.window, lease.id, verdict)",
        "pass",
    ),
    (
        "scheduler",
        "the grant is not written before the start",
        "self._save()\n            self._start(",
        "self._start(",
    ),
    (
        "scheduler",
        "an unused lease counts as used",
        "self._close_lease(admission, used=False)",
        "self._close_lease(admission, used=True)",
    ),
    (
        "scheduler",
        "a forced pass says it drains",
        'return "forced" if self._terms.is_forced else "drain"',
        'return "drain"',
    ),
)

JUDGE = """
import sys, pathlib
sys.path.insert(0, sys.argv[1])
import sterling
assert sterling.__file__.startswith(sys.argv[1]), sterling.__file__
from sterling.runtime.heavy_gate import judge_gating
red = [row.id for row in judge_gating(pathlib.Path(sys.argv[2]), really=False) if row.state == "failed"]
print(" ".join(red))
sys.exit(1 if red else 0)
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(package_root(), root / "sterling", ignore=shutil.ignore_patterns("__pycache__"))
    return root


def judged(copy: Path, scratch: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-B", "-c", JUDGE, str(copy), str(scratch)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_unbroken_copy_is_green(copy: Path, tmp_path: Path) -> None:
    status, words = judged(copy, tmp_path)

    assert status == 0, words


@pytest.mark.slow
@pytest.mark.parametrize(("module", "name", "old", "new"), MUTANTS, ids=[f"{m[0]}: {m[1]}" for m in MUTANTS])
def test_a_broken_rule_turns_the_gate_red(
    copy: Path, tmp_path: Path, module: str, name: str, old: str, new: str
) -> None:
    path = copy / "sterling" / "runtime" / f"{module}.py"
    source = path.read_text(encoding="utf-8")
    assert source.count(old) == 1, f"expected the snippet once, found it {source.count(old)} times"
    path.write_text(source.replace(old, new), encoding="utf-8")
    try:
        status, words = judged(copy, tmp_path)
    finally:
        path.write_text(source, encoding="utf-8")

    assert status == 1, f"{name}: nothing turned red"
    assert words.startswith("gating."), words
