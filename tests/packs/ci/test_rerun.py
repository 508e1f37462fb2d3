"""Re-runs: only a pass can turn a block into a warning, and the question stays the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sterling.packs.ci.delta import compare
from sterling.packs.ci.facts import Facts
from sterling.packs.ci.rerun import ARGUMENT_BYTES_MAX, rerun_argv, settle_reruns, to_run_again

MakeFacts = Callable[..., Facts]
TREE = {"tests", "tests/test_a.py", "src", "."}


def exists(path: str) -> bool:
    return path in TREE


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["python", "-m", "pytest"], ["python", "-m", "pytest", "ID"]),
        (["python", "-m", "pytest", "-q", "tests"], ["python", "-m", "pytest", "-q", "ID"]),
        (["/v/bin/pytest", "tests/test_a.py::x", "-x"], ["/v/bin/pytest", "-x", "ID"]),
        (["pytest", "-k", "tests", "tests"], ["pytest", "-k", "tests", "ID"]),
        (
            ["pytest", "--tb=short", "-p", "no:cacheprovider", "."],
            ["pytest", "--tb=short", "-p", "no:cacheprovider", "ID"],
        ),
        (["pytest", "-n", "2", "--maxfail", "3"], ["pytest", "-n", "2", "--maxfail", "3", "ID"]),
    ],
)
def test_paths_are_replaced_by_ids_where_that_is_certain(argv: list[str], expected: list[str]) -> None:
    assert list(rerun_argv(argv, ["ID"], exists=exists)) == expected


@pytest.mark.parametrize(
    "argv",
    [
        ["pytest", "--cov", "src"],
        ["pytest", "--unknown-option", "tests"],
        ["pytest", "somewhere-else"],
        ["pytest", "--", "tests"],
        ["make", "test"],
        ["npx", "jest"],
    ],
)
def test_anything_doubtful_repeats_the_whole_command(argv: list[str]) -> None:
    assert list(rerun_argv(argv, ["ID"], exists=exists)) == argv


def test_more_ids_than_a_command_line_holds_repeat_the_whole_command() -> None:
    names = ["t.py::" + "x" * 1000] * (ARGUMENT_BYTES_MAX // 1000)

    assert rerun_argv(["pytest"], names, exists=exists) == ("pytest",)


def test_an_id_that_no_argument_can_hold_repeats_the_whole_command() -> None:
    assert rerun_argv(["pytest"], ["t.py::a\x00b"], exists=exists) == ("pytest",)


def test_what_ran_and_blocks_is_asked_again_and_what_did_not_run_is_not(facts: MakeFacts) -> None:
    head = facts({"a::f": "failed", "a::s": "skipped", "a::x": "xfailed"}, collectors={"b.py": "c"})
    blocking = {"a::f": "new_fail", "a::s": "new_skip", "a::x": "new_xfail", "a::gone": "vanished"}

    assert to_run_again(blocking, head) == ("a::f", "a::x", "b.py")


def test_a_pass_in_any_re_run_makes_it_flaky(facts: MakeFacts) -> None:
    base, head = facts({"a::f": "passed"}), facts({"a::f": "failed"})

    reruns = [facts({"a::f": "failed"}), facts({"a::f": "passed"})]

    delta = compare(base, head, reruns)
    assert delta.states["a::f"].state == "flaky"
    assert delta.severity == "none"


@pytest.mark.parametrize(
    "again",
    [{"a::other": "passed"}, {"a::f": "failed"}, {"a::f": "error"}, {"a::f": "skipped"}, {"a::f": "xpassed"}],
)
def test_anything_but_a_pass_in_the_re_run_stays_a_failure(facts: MakeFacts, again: dict[str, str]) -> None:
    delta = compare(facts({"a::f": "passed"}), facts({"a::f": "failed"}), [facts(again)])

    assert delta.states["a::f"].state == "new_fail"


def test_a_re_run_that_timed_out_heals_nothing(facts: MakeFacts) -> None:
    head = facts({"a::f": "passed"}, collectors={"b.py": "c"})
    again = facts({"b.py::x": "passed"}, exit_class="timed_out")

    settled = settle_reruns(head, [again])

    assert settled.healed == ()
    assert settled.facts == head


def test_a_file_that_loads_on_the_second_try_brings_its_tests_along(facts: MakeFacts) -> None:
    base = facts({"a.py::f": "passed", "b.py::x": "passed", "b.py::y": "passed"})
    head = facts({"nothing::ran": "passed"}, status=2, collectors={"b.py": "c"})
    again = facts({"a.py::f": "passed", "b.py::x": "failed", "b.py::y": "passed"}, status=1)

    settled = settle_reruns(head, [again])
    delta = compare(base, head, [again])

    assert settled.healed == ("b.py",)
    assert settled.facts.exit_class == "tests_failed"
    assert delta.states["b.py::x"].state == "new_fail", "it failed the only time it ran"
    assert delta.counts["flaky"] == 1


def test_a_file_still_broken_after_the_re_run_stays_broken(facts: MakeFacts) -> None:
    head = facts({"a::f": "passed"}, collectors={"b.py": "c"})

    settled = settle_reruns(head, [facts({"a::f": "passed"}, collectors={"b.py": "c"})])

    assert (settled.healed, list(settled.facts.collectors)) == ((), ["b.py"])


def test_a_re_run_that_does_not_tell_about_collection_heals_nothing(facts: MakeFacts) -> None:
    head = facts({"a::f": "passed"}, collectors={"b.py": "c"})

    settled = settle_reruns(head, [facts({"a::f": "passed"}, facets={"collectors": "absent"})])

    assert settled.healed == ()
