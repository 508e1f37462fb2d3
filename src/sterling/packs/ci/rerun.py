"""Re-runs: which tests are asked a second time, how, and what their answer changes.

A test that blocks and ran, and a file that did not load, are run again at the
same tree. A pass makes it `flaky`: a warning with both attempts as evidence. An
absence or a time-out in the re-run counts as failed, so a re-run can only turn a
block into a warning by showing a pass.

Pure: facts in, a plan or settled facts out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sterling.packs.ci.facts import FAILING, Collector, Facts, Result, tally_of

__all__ = ["ARGUMENT_BYTES_MAX", "Settled", "rerun_argv", "settle_reruns", "to_run_again"]

ARGUMENT_BYTES_MAX = 96 * 1024
_RAN_AND_BLOCKS = FAILING | {"xfailed"}
_HEALTHY = ("ok", "tests_failed")

# Options of pytest that take the next word as their value.
_WITH_VALUE = frozenset(
    {"-k", "-m", "-p", "-c", "-o", "-W", "-n", "--rootdir", "--ignore", "--ignore-glob", "--deselect", "--tb"}
    | {
        "--maxfail",
        "--durations",
        "--timeout",
        "--dist",
        "--confcutdir",
        "--basetemp",
        "--color",
        "--log-level",
    }
    | {"--junitxml", "--json-report-file", "--override-ini", "--import-mode", "--capture", "--config-file"}
)
_LONG_FLAGS = frozenset(
    {
        "--verbose",
        "--quiet",
        "--exitfirst",
        "--strict-markers",
        "--strict-config",
        "--runxfail",
        "--no-header",
    }
    | {
        "--no-summary",
        "--showlocals",
        "--full-trace",
        "--json-report",
        "--continue-on-collection-errors",
        "--noconftest",
    }
    | {
        "--disable-warnings",
        "--disable-pytest-warnings",
        "--ff",
        "--nf",
        "--cache-clear",
        "--doctest-modules",
    }
)


@dataclass(frozen=True, slots=True)
class Settled:
    """Head facts after the re-runs: what is flaky, which files loaded in the end."""

    facts: Facts
    passed_again: frozenset[str]
    healed: tuple[str, ...]


def to_run_again(blocking: Mapping[str, str], head: Facts) -> tuple[str, ...]:
    """Ids and collectors to ask again, sorted: those that block and ran, and every broken file."""
    ran = [name for name in blocking if name in head.tests and head.tests[name].outcome in _RAN_AND_BLOCKS]
    return tuple(sorted({*ran, *head.collectors}))


def rerun_argv(
    argv: Sequence[str], names: Sequence[str], *, exists: Callable[[str], bool]
) -> tuple[str, ...]:
    """The same command for these ids only, where that can be said for certain; else the same command.

    For pytest the paths among the arguments are replaced by the ids. As soon as
    one word could be an option's value or a path (`exists` answers for the tree),
    the whole command is repeated: slower, never another question.
    """
    start = next(
        (at for at, word in enumerate(argv) if word.rpartition("/")[2] in ("pytest", "py.test")), None
    )
    size = sum(len(name.encode("utf-8", "replace")) + 1 for name in names)
    if start is None or not names or size > ARGUMENT_BYTES_MAX or any("\x00" in name for name in names):
        return tuple(argv)
    kept: list[str] = list(argv[: start + 1])
    words = iter(argv[start + 1 :])
    for word in words:
        if word == "--":
            return tuple(argv)
        if not word.startswith("-"):
            if not exists(word.partition("::")[0]):
                return tuple(argv)
            continue
        kept.append(word)
        if word in _WITH_VALUE:
            kept.append(next(words, ""))
        elif word.startswith("--") and "=" not in word and word not in _LONG_FLAGS:
            return tuple(argv)
    return (*kept, *names)


def settle_reruns(head: Facts, reruns: Sequence[Facts]) -> Settled:
    """What is known after the re-runs.

    A broken file that loads in a re-run is healed: the tests seen there join the
    head's, and if nothing else is broken the re-run's exit class counts.
    """
    tests: dict[str, Result] = dict(head.tests)
    collectors: dict[str, Collector] = dict(head.collectors)
    passed: set[str] = set()
    healed: set[str] = set()
    exit_class = head.exit_class
    for run in reruns:
        passed.update(name for name, result in run.tests.items() if result.outcome == "passed")
        if run.fault or run.exit_class not in _HEALTHY or not run.complete("collectors", "all_ids"):
            continue
        loaded = [name for name in collectors if name not in run.collectors]
        for name in loaded:
            healed.add(name)
            del collectors[name]
        if loaded:
            for name, result in run.tests.items():
                tests.setdefault(name, result)
            if head.exit_class == "collect_failed" and not collectors:
                exit_class = run.exit_class
    if not healed:
        return Settled(head, frozenset(passed), ())
    settled = replace(head, tests=tests, collectors=collectors, exit_class=exit_class, tally=tally_of(tests))
    return Settled(settled, frozenset(passed), tuple(sorted(healed)))
