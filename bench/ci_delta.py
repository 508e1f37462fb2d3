"""The delta of two large runs, beside the bare set arithmetic it cannot do without.

The floor compares the same ids as sets: which are gone, which are new, which
differ. Ours gives every id its state, with signatures, counts and severity.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

from report import line, parse_arguments

from sterling.packs.ci.delta import compare
from sterling.packs.ci.facts import COMPLETE, FACETS, Facts, Result, tally_of


def main() -> None:
    arguments = parse_arguments("the delta against bare set arithmetic")
    size = 20_000 if arguments.quick else 100_000
    rounds = 7 if arguments.quick else 15
    base, head = sides(size)
    times: dict[str, list[float]] = {"ours": [], "floor": []}
    accepted = 0
    for _ in range(rounds):
        times["floor"].append(timed(lambda: floor(base, head)))
        times["ours"].append(timed(lambda: compare(base, head)))
        accepted += sum(compare(base, head).counts.values())
    line(bench="ci_delta", case="states of two runs", ours=statistics.median(times["ours"]),
         against=statistics.median(times["floor"]), rival="bare set arithmetic", unit="ms", must="<= 4",
         accepted=accepted, history=size, runs=rounds)  # fmt: skip


def sides(size: int) -> tuple[Facts, Facts]:
    """Two runs that differ in one test of a hundred."""
    rng = random.Random(7)
    base = {
        f"tests/p{n % 50}/test_m{n % 500}.py::TestK::test_case[{n}]": Result("passed") for n in range(size)
    }
    head = dict(base)
    for name in rng.sample(sorted(base), size // 100):
        choice = rng.randrange(3)
        if choice == 0:
            del head[name]
        else:
            head[name] = Result("failed", signature="s") if choice == 1 else Result("skipped")
    return facts_of(base), facts_of(head)


def facts_of(tests: dict[str, Result]) -> Facts:
    facets = dict.fromkeys(FACETS, COMPLETE)
    return Facts("pytest", 1, None, "tests_failed", tests, {}, facets, tally=tally_of(tests))


def floor(base: Facts, head: Facts) -> int:
    """Ids that are gone, new, or ended otherwise, as sets of (id, outcome)."""
    before = {(name, result.outcome) for name, result in base.tests.items()}
    after = {(name, result.outcome) for name, result in head.tests.items()}
    gone = base.tests.keys() - head.tests.keys()
    new = head.tests.keys() - base.tests.keys()
    return len(before - after) + len(after - before) + len(gone) + len(new)


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    main()
