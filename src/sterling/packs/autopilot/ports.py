"""What the autopilot asks of others: a verdict on a change from test evidence.

The app fills this port with ci's decision. The autopilot has no second opinion
on test reports: without an answer here the gate of VERIFY stays shut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sterling.kernel.home import Home

__all__ = ["TestCase", "TestEvidence", "TestVerdict"]


@dataclass(frozen=True, slots=True)
class TestCase:
    """A change to be judged by its tests: a repository with two commits, and the command that runs them."""

    __test__ = False

    repository: Path
    base: str
    head: str
    argv: tuple[str, ...]
    wall_s: int


@dataclass(frozen=True, slots=True)
class TestVerdict:
    """The answer. `state` is ok, failed or na; `records` are ci's, `outcomes` maps test ids to outcomes."""

    __test__ = False

    state: str
    code: str
    because: str
    records: tuple[str, ...] = ()
    outcomes: Mapping[str, str] = field(default_factory=dict)
    base_outcomes: Mapping[str, str] = field(default_factory=dict)


class TestEvidence(Protocol):
    """Runs the tests of base and head and compares them."""

    def __call__(self, home: Home, case: TestCase) -> TestVerdict: ...
