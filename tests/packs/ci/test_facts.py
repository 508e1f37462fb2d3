"""Facts: facets that are missing stay missing, and hashes do not depend on order."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sterling.kernel.canonical import canonical_bytes
from sterling.kernel.hashing import tagged_hash
from sterling.packs.ci.facts import (
    ABSENT,
    FACETS,
    OUTCOMES,
    PARTIAL,
    Facts,
    Result,
    excerpt,
    facts_from_json,
    fold,
    worst,
)

TESTS = {"a.py::x": "passed", "a.py::y": ("failed", "s1"), "b.py::é": "skipped", "b.py::z": "xpassed"}


def test_the_same_results_in_another_order_have_the_same_three_hashes(facts: Callable[..., Facts]) -> None:
    first = facts(TESTS, status=1)

    for seed in range(5):
        items = list(TESTS.items())
        random.Random(seed).shuffle(items)
        other = facts(dict(items), status=1)
        assert (first.gate_hash, first.core_hash, first.detail_hash) == (
            other.gate_hash,
            other.core_hash,
            other.detail_hash,
        )


@pytest.mark.parametrize(
    ("facet", "lost"),
    [
        ("exit", {"gate"}),
        ("tally", {"gate"}),
        ("failing_ids", {"gate", "core", "detail"}),
        ("all_ids", {"core", "detail"}),
        ("collectors", {"gate", "detail"}),
        ("skip_ids", {"core", "detail"}),
        ("xpass", set()),
        ("signatures", {"detail"}),
    ],
)
@pytest.mark.parametrize("state", [ABSENT, PARTIAL])
def test_a_facet_that_is_not_complete_takes_its_hashes_away(
    facts: Callable[..., Facts], facet: str, lost: set[str], state: str
) -> None:
    found = facts(TESTS, status=1, facets={facet: state})

    absent = {name for name in ("gate", "core", "detail") if not getattr(found, f"{name}_hash")}
    assert absent == lost
    assert found.tally == facts(TESTS, status=1).tally, "a missing facet never becomes a count"


def test_facts_with_a_fault_have_no_hash_at_all(facts: Callable[..., Facts]) -> None:
    found = facts(TESTS, status=1, fault="ci.report-torn")

    assert (found.gate_hash, found.core_hash, found.detail_hash) == ("", "", "")


def test_an_unexpected_pass_hashes_like_a_pass(facts: Callable[..., Facts]) -> None:
    marked, plain = facts({"t::a": "xpassed"}), facts({"t::a": "passed"})

    assert marked.gate_hash == plain.gate_hash
    assert marked.core_hash == plain.core_hash


@pytest.mark.parametrize("other", ["failed", "error", "skipped", "xfailed"])
def test_any_other_outcome_changes_the_core_hash(facts: Callable[..., Facts], other: str) -> None:
    assert facts({"t::a": other}).core_hash != facts({"t::a": "passed"}).core_hash


def test_the_exit_class_enters_the_gate_hash(facts: Callable[..., Facts]) -> None:
    assert facts(TESTS, exit_class="ok").gate_hash != facts(TESTS, exit_class="tests_failed").gate_hash


_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(st.dictionaries(_names, st.sampled_from(OUTCOMES), max_size=6))
@settings(max_examples=60, deadline=None)
def test_hashes_are_taken_over_the_canonical_form(tests: dict[str, str]) -> None:
    found = Facts(
        "pytest",
        0,
        None,
        "ok",
        {k: Result(v) for k, v in tests.items()},
        {},
        dict.fromkeys(FACETS, "complete"),
    )
    other = [[k, v] for k, v in sorted(tests.items()) if v not in ("passed", "xpassed")]

    expected = tagged_hash(b"sterling/ci.core/1", canonical_bytes([sorted(tests), other]))
    assert found.core_hash == expected.hex()


def test_folding_keeps_the_worst_and_lists_both() -> None:
    failed = Result("failed", signature="s", duration_us=5)
    error = Result("error", signature="t", duration_us=7)

    both = fold(failed, error)

    assert (both.outcome, both.signature, both.duration_us) == ("error", "t", 12)
    assert both.occurrences == fold(error, failed).occurrences == ("error", "failed")


@given(st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=6), st.randoms())
@settings(deadline=None)
def test_folding_does_not_depend_on_order(outcomes: list[str], rng: random.Random) -> None:
    def folded(names: list[str]) -> Result:
        result = Result(names[0])
        for name in names[1:]:
            result = fold(result, Result(name))
        return result

    shuffled = list(outcomes)
    rng.shuffle(shuffled)

    assert folded(outcomes) == folded(shuffled)
    assert folded(outcomes).outcome == worst(outcomes)


def test_facts_survive_their_json(facts: Callable[..., Facts]) -> None:
    found = replace(facts(TESTS, status=1, collectors={"c.py": "missing-module m"}), notes=("n",))

    again = facts_from_json(found.summary_json(), found.results_json())

    assert again == found


def test_an_excerpt_is_one_short_line_that_can_be_written_anywhere() -> None:
    text = "first\nsecond\t" + "x" * 10_000 + "\ud800"

    shown = excerpt(text)

    assert len(shown) == 200
    assert shown.startswith("first second x")
    assert "\n" not in shown
    excerpt("\ud800").encode("utf-8")
