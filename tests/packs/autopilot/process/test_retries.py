"""Retry limits at the limit and one over it."""

from __future__ import annotations

import pytest

from sterling.packs.autopilot.process.machine import Phase
from sterling.packs.autopilot.process.retries import RETRY_LIMITS, is_exhausted

NAMES = ["STRATEGIZE", "SPEC", "PLAN", "THINK", "IMPLEMENT", "VERIFY", "REVIEW", "PR", "MONITOR"]
LIMITS = dict(zip(NAMES, [2, 2, 2, 1, 3, 2, 2, 1, 1], strict=True))


@pytest.mark.parametrize(("phase", "limit"), LIMITS.items())
def test_the_limit_is_free_and_one_more_is_not(phase: str, limit: int) -> None:
    assert RETRY_LIMITS[Phase(phase)] == limit
    assert not is_exhausted({Phase(phase): limit - 1}, Phase(phase))
    assert is_exhausted({Phase(phase): limit}, Phase(phase))


def test_another_phase_has_its_own_count() -> None:
    assert not is_exhausted({Phase.VERIFY: 9}, Phase.REVIEW)
