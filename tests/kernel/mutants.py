"""Mutants: a module with one guard broken on purpose, and scenarios that must notice.

A scenario is a function that takes the module and fails when it misbehaves. The
original passes all of them; each mutant fails at least one. A snippet that is
no longer in the source fails too, so that a mutant cannot rot unseen.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from sterling.kernel import errors

Mutant = tuple[str, str, str]
Scenario = Callable[[ModuleType], None]


def run_mutants(
    module_path: Path, mutants: Sequence[Mutant], scenarios: Sequence[Scenario]
) -> dict[str, list[str]]:
    """Which scenarios notice which mutant `(name, old, new)`; `old` stands exactly once in the source.

    Fails when a scenario fails on the original, or a mutant is noticed by none.
    """
    source = module_path.read_text(encoding="utf-8")
    assert _noticed(load_source(module_path, source), scenarios) == [], "the original fails a scenario"
    found: dict[str, list[str]] = {}
    for name, old, new in mutants:
        assert source.count(old) == 1, (
            f"{name}: expected its snippet once, found it {source.count(old)} times"
        )
        found[name] = _noticed(load_source(module_path, source.replace(old, new)), scenarios)
    unnoticed = [name for name, scenarios_failed in found.items() if not scenarios_failed]
    assert unnoticed == [], f"nothing notices {unnoticed}"
    return found


def load_source(path: Path, source: str) -> ModuleType:
    """A module of its own from this text; its errors may declare codes that are taken."""
    module = ModuleType(f"mutant_of_{path.stem}")
    module.__file__ = str(path)
    known = dict(errors._REGISTRY)
    sys.modules[module.__name__] = module  # Dataclasses look their module up here.
    try:
        errors._REGISTRY.clear()
        exec(compile(source, str(path), "exec"), module.__dict__)
    finally:
        errors._REGISTRY.clear()
        errors._REGISTRY.update(known)
        del sys.modules[module.__name__]
    return module


def _noticed(module: ModuleType, scenarios: Sequence[Scenario]) -> list[str]:
    failed = []
    for scenario in scenarios:
        try:
            scenario(module)
        except (Exception, pytest.fail.Exception):  # noqa: BLE001 - however it breaks, it is noticed.
            failed.append(scenario.__name__)
    return failed
