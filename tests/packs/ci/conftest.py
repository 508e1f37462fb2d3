"""Builders that the tests of this pack share: facts from short words, and a pytest to run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sterling.packs.ci.exits import ProcessEnd, classify
from sterling.packs.ci.facts import COMPLETE, FACETS, Collector, Facts, Result, tally_of

MakeFacts = Callable[..., Facts]


@pytest.fixture
def facts() -> MakeFacts:
    """Facts from `{id: outcome or (outcome, signature)}`, complete unless told otherwise."""
    return make_facts


def make_facts(
    tests: Mapping[str, str | tuple[str, str]] | None = None,
    *,
    status: int | None = None,
    collectors: Mapping[str, str] | None = None,
    facets: Mapping[str, str] | None = None,
    exit_class: str | None = None,
    fault: str = "",
) -> Facts:
    results = {name: _result(value) for name, value in (tests or {"t.py::a": "passed"}).items()}
    broken = {name: Collector(cause, cause, cause) for name, cause in (collectors or {}).items()}
    red = broken or any(result.outcome in ("failed", "error") for result in results.values())
    raw = status if status is not None else int(bool(red))
    return Facts(
        runner="pytest",
        exit_raw=raw,
        exit_signal=None,
        exit_class=exit_class or classify("pytest", ProcessEnd(raw), collectors_failed=bool(broken)),
        tests=results,
        collectors=broken,
        facets={**dict.fromkeys(FACETS, COMPLETE), **(facets or {})},
        fault=fault,
        because=fault and "made so by the test",
        tally=tally_of(results),
    )


def _result(value: str | tuple[str, str]) -> Result:
    return Result(value) if isinstance(value, str) else Result(value[0], signature=value[1])


@pytest.fixture(scope="session")
def run_pytest() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a real pytest in a folder, without the plugins that would slow a small suite down."""

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)

    return run
