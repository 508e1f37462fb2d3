"""The delta: all 49 cells, against a brute-force oracle, in any order."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sterling.packs.ci.delta import BLOCKS, CODES, KINDS, MATRIX, SIDES, compare, severity_of, state_of
from sterling.packs.ci.facts import COMPLETE, FACETS, OUTCOMES, Collector, Facts, Result, tally_of

# The matrix of the specification, typed by hand; "|" separates equal and differing signatures.
CELLS = """
absent - new_pass new_pass added_muted added_muted new_fail new_fail
passed vanished same same new_skip new_xfail new_fail new_fail
xpassed vanished same same new_skip new_xfail new_fail new_fail
skipped gone_quiet unskipped unskipped same added_muted new_fail new_fail
xfailed gone_quiet xpass xpass hidden same|changed_signature new_fail new_fail
failed gone_quiet fixed fixed hidden hidden still_fail|changed_signature worse
error gone_quiet fixed fixed hidden hidden changed_signature still_fail|changed_signature
"""
TABLE = {
    (row.split()[0], head): cell
    for row in CELLS.strip().splitlines()
    for head, cell in zip(SIDES, row.split()[1:], strict=True)
}


def side(outcome: str, signature: str = "") -> Result | None:
    return None if outcome == "absent" else Result(outcome, signature=signature)


@pytest.mark.parametrize(("pair", "cell"), TABLE.items(), ids=lambda value: str(value))
def test_every_cell_gives_its_state(pair: tuple[str, str], cell: str) -> None:
    same, _, changed = cell.partition("|")

    assert state_of(side(pair[0], "s"), side(pair[1], "s")) == same
    assert state_of(side(pair[0], "s"), side(pair[1], "t")) == (changed or same)


def test_there_are_forty_nine_cells_and_every_state_has_a_kind() -> None:
    assert len(TABLE) == 49
    assert {state for row in MATRIX.values() for state in row.values()} - {"-"} <= set(KINDS)
    assert set(CODES) == {state for state, kind in KINDS.items() if kind != "notes"}


@pytest.mark.parametrize(("first", "second"), [("", "t"), ("s", ""), ("", "")])
def test_a_signature_that_is_not_known_is_not_taken_for_a_changed_one(first: str, second: str) -> None:
    assert state_of(side("failed", first), side("failed", second)) == "still_fail"


def make(
    tests: dict[str, Result], collectors: dict[str, Collector] | None = None, exit_class: str = "ok"
) -> Facts:
    facets = dict.fromkeys(FACETS, COMPLETE)
    return Facts("pytest", 0, None, exit_class, tests, collectors or {}, facets, tally=tally_of(tests))


_results = st.builds(Result, st.sampled_from(OUTCOMES), signature=st.sampled_from(["", "s", "t"]))
_ids = st.sampled_from([f"{path}::{name}" for path in ("a.py", "d/b.py", "d/c.py") for name in "uvwxyz"])
_sides = st.dictionaries(_ids, _results, max_size=14)


def oracle(base: Facts, head: Facts, again: Facts | None) -> dict[str, str]:
    """The specification, written as slowly and plainly as possible."""
    broken = set(head.collectors)
    merged = dict(head.tests)
    if again is not None and again.exit_class in ("ok", "tests_failed"):
        healed = {name for name in broken if name not in again.collectors}
        broken -= healed
        if healed:
            for name, result in again.tests.items():
                merged.setdefault(name, result)
    states: dict[str, str] = {}
    for name in set(base.tests) | set(merged):
        before, after = base.tests.get(name), merged.get(name)
        cell = TABLE[before.outcome if before else "absent", after.outcome if after else "absent"]
        same, _, changed = cell.partition("|")
        differ = (
            before and after and before.signature and after.signature and before.signature != after.signature
        )
        state = changed if changed and differ else same
        folder = name.split("::")[0].rsplit("/", 1)[0] if "/" in name else ""
        if after is None and ({name.split("::")[0], folder} & broken):
            state = "under_collector"
        elif state in BLOCKS and after and after.outcome != "skipped" and again and name in again.tests:
            state = "flaky" if again.tests[name].outcome == "passed" else state
        if state != "same":
            states[name] = state
    return states


@given(_sides, _sides, st.none() | _sides, st.sets(st.sampled_from(["a.py", "d/b.py", "d"])), st.booleans())
@settings(max_examples=300, deadline=None)
def test_random_sides_agree_with_the_oracle(
    base: dict[str, Result],
    head: dict[str, Result],
    again: dict[str, Result] | None,
    broken: set[str],
    heals: bool,
) -> None:
    collectors = {name: Collector("s", "cause", "m") for name in sorted(broken)}
    reruns = [] if again is None else [make(again, {} if heals else collectors)]
    first, second = make(base), make(head, collectors)

    delta = compare(first, second, reruns)

    expected = oracle(first, second, reruns[0] if reruns else None)
    assert {name: state.state for name, state in delta.states.items()} == expected
    assert list(delta.states) == sorted(delta.states)
    kept = {name: state for name, state in delta.counts.items() if name not in ("flaky", "collect_error")}
    ids = len(expected) - list(expected.values()).count("flaky")
    assert sum(kept.values()) == ids + delta.counts.get("same", 0)


@given(_sides, _sides, st.randoms())
@settings(max_examples=60, deadline=None)
def test_shuffled_sides_give_an_equal_delta(
    base: dict[str, Result], head: dict[str, Result], rng: random.Random
) -> None:
    def shuffled(tests: dict[str, Result]) -> dict[str, Result]:
        items = list(tests.items())
        rng.shuffle(items)
        return dict(items)

    plain = compare(make(base), make(head))

    assert compare(make(shuffled(base)), make(shuffled(head))).as_json() == plain.as_json()


@pytest.mark.parametrize(
    ("count", "band"),
    [
        (0, "none"),
        (1, "low"),
        (2, "medium"),
        (4, "medium"),
        (5, "high"),
        (9, "high"),
        (10, "critical"),
        (999, "critical"),
    ],
)
def test_severity_has_exact_bounds(count: int, band: str) -> None:
    assert severity_of(count) == band


def test_broken_files_count_for_severity_unless_they_were_broken_the_same_way(
    facts: Callable[..., Facts],
) -> None:
    base = facts({"a.py::x": "passed"}, collectors={"b.py": "c1", "c.py": "c2"})
    head = facts({"a.py::x": "passed"}, collectors={"b.py": "c1", "c.py": "c9", "d.py": "c3"})

    delta = compare(base, head)

    assert delta.collectors == {"b.py": "debt", "c.py": "changed", "d.py": "new"}
    assert delta.severity == "medium"
    assert delta.counts["collect_error"] == 3
    known = compare(base, facts({"a.py::x": "passed"}, collectors={"b.py": "c1", "d.py": "c3"}))
    assert (known.severity, known.counts["collect_error"]) == ("low", 2)


def test_tests_of_a_broken_file_are_not_called_vanished(facts: Callable[..., Facts]) -> None:
    base = facts({"d/a.py::x": "passed", "d/a.py::y": "failed", "e.py::z": "passed"})
    head = facts({"q.py::q": "passed"}, collectors={"d/a.py": "c"})

    delta = compare(base, head)

    assert delta.of_state("under_collector") == ["d/a.py::x", "d/a.py::y"]
    assert delta.of_state("vanished") == ["e.py::z"]


def test_deleting_a_red_test_is_not_a_fix(facts: Callable[..., Facts]) -> None:
    delta = compare(facts({"a::x": "failed", "a::y": "passed"}), facts({"a::y": "passed"}))

    assert delta.states["a::x"].state == "gone_quiet"
    assert "fixed" not in delta.counts


def test_an_id_that_was_unstable_in_the_baseline_says_so(facts: Callable[..., Facts]) -> None:
    delta = compare(facts({"a::x": "passed"}), facts({"a::x": "failed"}), unstable=frozenset({"a::x"}))

    assert delta.states["a::x"].state == "new_fail"
    assert delta.states["a::x"].unstable
    assert "unstable" in delta.notes[0]
