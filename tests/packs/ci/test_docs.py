"""The reference page holds the tables of the code, and every code is raised and described."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import sterling.packs.ci
from sterling.kernel.errors import all_errors
from sterling.packs.ci.codes import REASONS
from sterling.packs.ci.delta import CODES, KINDS, MATRIX, SEVERITIES, SIDES
from sterling.packs.ci.exits import CLASS_WORDS, EXIT_RULES, PROFILES
from sterling.packs.ci.facts import FACETS
from sterling.packs.ci.gates import GATES

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/reference/ci-codes.md").read_text(encoding="utf-8")
SOURCES = sorted((ROOT / "src/sterling/packs/ci").rglob("*.py"))
CONTRACT_NAMES = {
    "ci.baseline",
    "ci.decision",
    "ci.delta",
    "ci.environment",
    "ci.facts",
    "ci.run",
    "ci.snapshot",
}


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_matrix_on_the_page_is_the_matrix_in_the_code() -> None:
    found = {
        row[0]: [cell.rstrip("*") for cell in row[1:]] for row in rows() if row[0] in SIDES and len(row) == 8
    }

    assert found == {base: [MATRIX[base][head] for head in SIDES] for base in SIDES}
    starred = re.findall(r"(\w+)\*", PAGE)
    assert sorted(starred) == ["same", "still_fail", "still_fail"]


def test_states_kinds_and_codes_are_those_of_the_code() -> None:
    found = {row[0]: (row[1], row[2] if len(row) > 2 else "") for row in rows() if row[0] in KINDS}

    assert found == {state: (kind, CODES.get(state, "")) for state, kind in KINDS.items()}


def test_severity_bands_are_those_of_the_code() -> None:
    found = {
        row[0]: row[1]
        for row in rows()
        if len(row) == 2 and row[0] in ("none", "low", "medium", "high", "critical")
    }

    assert [name for _, name in SEVERITIES] == list(found)[:-1]
    assert found == {"none": "0", "low": "1", "medium": "2 to 4", "high": "5 to 9", "critical": "10 and more"}


def test_exit_tables_are_those_of_the_code() -> None:
    heads = next(row for row in rows() if row[0] == "status")[1:]
    statuses = {int(row[0]): row[1:] for row in rows() if row[0].isdecimal()}
    classes = {row[0]: row[1:] for row in rows() if row[0] in EXIT_RULES}

    assert heads == list(PROFILES)
    for status, cells in statuses.items():
        assert cells == [PROFILES[name].get(status, "") for name in heads]
    assert set(statuses) == {status for profile in PROFILES.values() for status in profile}
    for name, rule in EXIT_RULES.items():
        effect = "goes on to the delta" if rule.effect == "delta" else rule.effect
        assert classes[name] == [effect, rule.code, CLASS_WORDS[name]]


def test_facets_and_gates_are_listed_in_order() -> None:
    assert ", ".join(f"`{name}`" for name in FACETS) in PAGE
    assert ", ".join(f"`{name}`" for name in GATES) in PAGE


def test_every_reason_code_is_described() -> None:
    found = {row[0]: row[1] for row in rows() if row[0] in REASONS and len(row) == 2}

    assert found == dict(REASONS)


def test_every_code_in_the_source_is_in_the_closed_list_and_the_other_way_round() -> None:
    written = set()
    for path in SOURCES:
        if path.name != "codes.py":
            written |= set(re.findall(r'"(ci\.[a-z-]+)"', path.read_text(encoding="utf-8")))
    made = set(CODES.values())

    assert (written | made) - CONTRACT_NAMES == set(REASONS)


def test_every_error_of_the_pack_is_described() -> None:
    for module in pkgutil.walk_packages(sterling.packs.ci.__path__, "sterling.packs.ci."):
        importlib.import_module(module.name)
    ours = {
        code: error
        for code, error in all_errors().items()
        if error.__module__.startswith("sterling.packs.ci")
    }
    found = {row[0]: row[1] for row in rows() if len(row) == 3}

    for code, error in ours.items():
        assert error.hint, code
        assert code in REASONS or found[code] == str(error.exit), code


@pytest.mark.parametrize("code", sorted(REASONS))
def test_every_reason_code_is_raised_by_a_test(code: str) -> None:
    tests = [
        *(ROOT / "tests/packs/ci").rglob("test_*.py"),
        *(ROOT / "tests/acceptance/ci").rglob("test_*.py"),
    ]
    texts = [path.read_text(encoding="utf-8") for path in tests if path.name != "test_docs.py"]

    assert any(code in text for text in texts), "no test names this code"


def test_the_concept_page_names_only_commands_and_states_that_exist() -> None:
    page = (ROOT / "docs/concepts/ci.md").read_text(encoding="utf-8")

    assert set(re.findall(r"`(ci\.[a-z-]+)`", page)) <= set(REASONS)
    assert "eighteen states" in page
    assert len(KINDS) == 18
    assert set(re.findall(r"sterling ci (\w+)", page)) <= {"run", "ingest", "baseline", "verdict", "explain"}
