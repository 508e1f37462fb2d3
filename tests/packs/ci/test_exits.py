"""Exit classes: every raw end has one class, and an unknown one is never guessed."""

from __future__ import annotations

import signal

import pytest

from sterling.packs.ci.exits import CLASSES, EXIT_RULES, PROFILES, ProcessEnd, classify


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (ProcessEnd(0), "ok"),
        (ProcessEnd(1), "tests_failed"),
        (ProcessEnd(2), "interrupted"),
        (ProcessEnd(3), "internal"),
        (ProcessEnd(4), "usage"),
        (ProcessEnd(5), "none_collected"),
        (ProcessEnd(6), "unknown"),
        (ProcessEnd(77), "unknown"),
        (ProcessEnd(-1), "unknown"),
        (ProcessEnd(126), "not_started"),
        (ProcessEnd(127), "not_started"),
        (ProcessEnd(started=False), "not_started"),
        (ProcessEnd(), "unknown"),
        (ProcessEnd(limit="limit.wall", signal=9), "timed_out"),
        (ProcessEnd(limit="limit.cpu", signal=24), "timed_out"),
        (ProcessEnd(limit="limit.memory", signal=9), "out_of_memory"),
        (ProcessEnd(limit="limit.processes"), "killed"),
        (ProcessEnd(signal=signal.SIGSEGV), "crashed"),
        (ProcessEnd(signal=signal.SIGABRT), "crashed"),
        (ProcessEnd(signal=signal.SIGKILL), "killed"),
        (ProcessEnd(signal=signal.SIGTERM), "killed"),
    ],
)
def test_each_end_of_pytest_has_its_class(end: ProcessEnd, expected: str) -> None:
    assert classify("pytest", end) == expected


def test_status_two_means_broken_files_only_when_a_file_is_broken() -> None:
    assert classify("pytest", ProcessEnd(2), collectors_failed=True) == "collect_failed"
    assert classify("pytest", ProcessEnd(1), collectors_failed=True) == "tests_failed"


def test_a_limit_comes_before_a_status_that_looks_green() -> None:
    assert classify("pytest", ProcessEnd(0, limit="limit.wall")) == "timed_out"


@pytest.mark.parametrize("runner", ["generic", "somebody's own runner"])
def test_a_runner_we_do_not_know_has_only_two_known_statuses(runner: str) -> None:
    classes = {status: classify(runner, ProcessEnd(status)) for status in range(126)}

    assert classes.pop(0) == "ok"
    assert classes.pop(1) == "tests_failed"
    assert set(classes.values()) == {"unknown"}


def test_every_class_of_every_profile_has_a_rule() -> None:
    for profile in PROFILES.values():
        assert set(profile.values()) <= set(CLASSES)


def test_only_two_classes_reach_the_delta() -> None:
    assert {name for name, rule in EXIT_RULES.items() if rule.effect == "delta"} == {"ok", "tests_failed"}
    assert all(rule.code for rule in EXIT_RULES.values() if rule.effect != "delta")
