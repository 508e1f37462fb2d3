"""Paths and sizes: exact bounds pass, one over refuses, and nothing leads out of the tree."""

from __future__ import annotations

from typing import Any

import pytest

from sterling.packs.autopilot.artifacts.scope import (
    Change,
    FileChange,
    check_change,
    is_inside,
    is_safe_path,
    risk_of,
)

MAP = {"files": [{"path": f"src/{name}.py"} for name in "abcd"]}
BUDGET = {"files": 2, "lines": 10, "paths": ["src/**"]}


def change(*files: tuple[str, int, int]) -> Change:
    return Change(tuple(FileChange(path, "modified", added, removed) for path, added, removed in files))


def codes(found: Change, **more: Any) -> list[str]:
    given: dict[str, Any] = {"file_map": MAP, "budget": BUDGET, "scope": ("src/**",), "protected": ()}
    return [refusal.code for refusal in check_change(found, **(given | more))]


def test_exactly_the_budget_passes_and_one_over_does_not() -> None:
    assert codes(change(("src/a.py", 5, 0), ("src/b.py", 3, 2))) == []
    assert codes(change(("src/a.py", 5, 0), ("src/b.py", 4, 2))) == ["budget.lines"]
    assert codes(change(("src/a.py", 1, 0), ("src/b.py", 1, 0), ("src/c.py", 1, 0))) == ["budget.files"]


def test_a_path_outside_the_map_or_the_budget_is_named() -> None:
    assert codes(change(("src/z.py", 1, 0))) == ["patch.out-of-scope"]
    assert codes(change(("src/a.py", 1, 0)), budget=BUDGET | {"paths": ["lib/**"]}) == ["budget.paths"]


def test_a_protected_path_is_out_of_scope_even_when_the_map_names_it() -> None:
    assert codes(change(("src/a.py", 1, 0)), protected=("src/a.py",)) == ["patch.out-of-scope"]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../up",
        "a/../../up",
        "a/./b",
        "a//b",
        ".git/config",
        "a/.GIT/hooks/x",
        "a\\b",
        "a\x00b",
    ],
)
def test_no_pattern_covers_a_path_that_leads_out(path: str) -> None:
    assert not is_safe_path(path)
    assert not is_inside(path, ["**", "**/*", path])


@pytest.mark.parametrize(
    ("pattern", "path", "inside"),
    [
        ("src/**", "src/a/b/c.py", True),
        ("src/**", "src2/a.py", False),
        ("src/*", "src/a/b.py", False),
        ("**/*.py", "a.py", True),
        ("**/*.py", "a/b/c.py", True),
        ("src/**/test_?.py", "src/x/y/test_1.py", True),
        ("src/**/test_?.py", "src/test_12.py", False),
        ("a.py", "aXpy", False),
        ("[ab].py", "a.py", False),
    ],
)
def test_patterns_mean_what_they_say(pattern: str, path: str, inside: bool) -> None:
    assert is_inside(path, [pattern]) == inside


@pytest.mark.parametrize(
    ("files", "stated", "risk"),
    [
        ((("src/a.py", 20, 20),), "low", "low"),
        ((("src/a.py", 21, 20),), "low", "medium"),
        (tuple((f"src/{n}.py", 1, 0) for n in "abcd"), "low", "medium"),
        ((("ci.toml", 1, 0),), "low", "high"),
        ((("src/a.py", 1, 0),), "high", "high"),
        ((("src/a.py", 41, 0),), "low", "medium"),
    ],
)
def test_the_risk_comes_from_the_change_and_words_only_raise_it(files: Any, stated: str, risk: str) -> None:
    assert risk_of(change(*files), ("ci.toml",), stated) == risk
