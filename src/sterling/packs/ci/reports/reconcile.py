"""One run, told several times: several readings become one `Facts`, or a conflict.

Readings of the same shape are parts of one report and are joined. Readings of
different shapes are renderings of the same run and must agree wherever both are
complete; where they differ the facts carry `ci.rendering-conflict`, both names
and the first difference, and no verdict can be built on them.

Pure: readings in, facts out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sterling.packs.ci.exits import ProcessEnd, classify
from sterling.packs.ci.facts import (
    ABSENT,
    COMPLETE,
    FACETS,
    FAILING,
    PARTIAL,
    Collector,
    Facts,
    Pointer,
    Reading,
    Result,
    fold,
    tally_of,
)

__all__ = ["reconcile"]

_RICHEST_FIRST = ("pytest_json", "junit")
_CONFLICT = "ci.rendering-conflict"


def reconcile(
    readings: Sequence[tuple[Pointer, Reading]], end: ProcessEnd | None, *, runner: str = ""
) -> Facts:
    """The facts that these readings and this end of the process give.

    Without an `end` the exit is what a report states, and absent if none does:
    it is never inferred from counts.
    """
    ordered = sorted(readings, key=lambda pair: (_rank(pair[1].shape), pair[0].name, pair[0].blob))
    merged = _merged(ordered)
    stated = [reading for _, reading in merged]
    runner = runner or next((reading.runner for reading in stated if reading.runner), "generic")
    fault, because = _fault(ordered, merged, end)
    tests = _with_signatures(stated)
    collectors = next((reading.collectors for reading in _by_facet(stated, "collectors")), {})
    facets = {name: _facet(stated, name) for name in FACETS}
    facets["signatures"] = _signed(tests, collectors, facets)
    exit_raw = (
        end.status if end is not None else next((r.exit_raw for r in stated if r.exit_raw is not None), None)
    )
    exit_class = ""
    if end is not None or exit_raw is not None:
        facets["exit"] = COMPLETE
        exit_class = classify(runner, end or ProcessEnd(exit_raw), collectors_failed=bool(collectors))
    return Facts(
        runner=runner,
        exit_raw=exit_raw,
        exit_signal=end.signal if end is not None else None,
        exit_class=exit_class,
        tests=tests,
        collectors=collectors,
        # Facts with a fault know nothing completely.
        facets={name: PARTIAL if fault and state == COMPLETE else state for name, state in facets.items()},
        sources=tuple(pointer for pointer, _ in ordered),
        notes=tuple(f"{pointer.name}: {note}" for pointer, reading in ordered for note in reading.notes),
        fault=fault,
        because=because,
        tally=tally_of(tests),
    )


def _rank(shape: str) -> int:
    return _RICHEST_FIRST.index(shape) if shape in _RICHEST_FIRST else len(_RICHEST_FIRST)


def _merged(ordered: Sequence[tuple[Pointer, Reading]]) -> list[tuple[str, Reading]]:
    """One reading a shape, with the names it came from."""
    merged: dict[str, tuple[str, Reading]] = {}
    seen: set[str] = set()
    for pointer, reading in ordered:
        if pointer.blob in seen:
            continue  # The same bytes under two names are one report.
        seen.add(pointer.blob)
        if reading.shape in merged:
            names, known = merged[reading.shape]
            merged[reading.shape] = (f"{names}, {pointer.name}", _joined(known, reading))
        else:
            merged[reading.shape] = (pointer.name, reading)
    return list(merged.values())


def _joined(first: Reading, second: Reading) -> Reading:
    tests = dict(first.tests)
    for name, result in second.tests.items():
        tests[name] = fold(tests[name], result) if name in tests else result
    facets = {
        name: _weaker(first.facets.get(name, ABSENT), second.facets.get(name, ABSENT)) for name in FACETS
    }
    exits = [status for status in (first.exit_raw, second.exit_raw) if status is not None]
    return replace(
        first,
        runner=first.runner or second.runner,
        exit_raw=max(exits, key=bool) if exits else None,
        tests=tests,
        collectors={**first.collectors, **second.collectors},
        facets=facets,
    )


def _weaker(first: str, second: str) -> str:
    return first if first == second else PARTIAL


def _facet(stated: Sequence[Reading], name: str) -> str:
    states = [reading.facets.get(name, ABSENT) for reading in stated]
    return COMPLETE if COMPLETE in states else PARTIAL if PARTIAL in states else ABSENT


def _by_facet(stated: Sequence[Reading], name: str) -> list[Reading]:
    """Readings that know this facet, those that know it completely first."""
    order = {COMPLETE: 0, PARTIAL: 1}
    known = [reading for reading in stated if reading.facets.get(name) in order]
    return sorted(known, key=lambda reading: order[reading.facets[name]])


def _with_signatures(stated: Sequence[Reading]) -> Mapping[str, Result]:
    """The tests of the reading that knows most, signatures filled in from the others."""
    ordered = _by_facet(stated, "all_ids")
    if not ordered:
        return {}
    best, *others = ordered
    if not others:
        return best.tests
    tests = dict(best.tests)
    for other in others:
        for name, result in other.tests.items():
            known = tests.get(name)
            if (
                known is not None
                and not known.signature
                and known.outcome == result.outcome
                and result.signature
            ):
                tests[name] = replace(
                    known,
                    signature=result.signature,
                    cause=result.cause,
                    message=known.message or result.message,
                )
    return tests


def _signed(
    tests: Mapping[str, Result], collectors: Mapping[str, Collector], facets: Mapping[str, str]
) -> str:
    if facets["failing_ids"] != COMPLETE:
        return facets["signatures"]
    failing = [result for result in tests.values() if result.outcome in FAILING]
    signed = all(result.signature for result in failing)
    return COMPLETE if signed and all(found.signature for found in collectors.values()) else PARTIAL


def _fault(
    ordered: Sequence[tuple[Pointer, Reading]], merged: Sequence[tuple[str, Reading]], end: ProcessEnd | None
) -> tuple[str, str]:
    for pointer, reading in ordered:
        if reading.fault:
            return reading.fault, f"{pointer.name}: {reading.because}"
    if not ordered:
        return "ci.report-missing", "The run left no report where one was asked for."
    blobs: dict[str, str] = {}
    for pointer, _ in ordered:
        if blobs.setdefault(pointer.name, pointer.blob) != pointer.blob:
            return _CONFLICT, f"Two different reports claim the name {pointer.name}."
    for name, reading in merged:
        if end is not None and end.status is not None and reading.exit_raw not in (None, end.status):
            return _CONFLICT, f"{name} states exit {reading.exit_raw}, the process ended with {end.status}."
    for at, (name, reading) in enumerate(merged):
        for other_name, other in merged[at + 1 :]:
            if difference := _difference(reading, other):
                return _CONFLICT, f"{name} and {other_name} disagree: {difference}"
    return "", ""


def _difference(first: Reading, second: Reading) -> str:
    """Where two complete renderings part, in one sentence; empty if they agree."""
    if _both(first, second, "collectors") and set(first.collectors) != set(second.collectors):
        name = min(set(first.collectors) ^ set(second.collectors))
        return f"{name} failed to load in one of them only."
    folded = not _both(first, second, "xpass")
    if _both(first, second, "all_ids", "skip_ids"):
        mine, theirs = _outcomes(first, folded=folded), _outcomes(second, folded=folded)
    elif _both(first, second, "failing_ids"):
        mine = {name: known for name, known in _outcomes(first, folded=folded).items() if known in FAILING}
        theirs = {name: known for name, known in _outcomes(second, folded=folded).items() if known in FAILING}
    else:
        return ""
    differing = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
    if not differing:
        return ""
    name = differing[0]
    more = f", and {len(differing) - 1} more ids" if len(differing) > 1 else ""
    said, other = mine.get(name, "absent"), theirs.get(name, "absent")
    return f"{name} is {said} in the first and {other} in the second{more}."


def _both(first: Reading, second: Reading, *names: str) -> bool:
    return all(one.facets.get(name) == COMPLETE for name in names for one in (first, second))


def _outcomes(reading: Reading, *, folded: bool) -> dict[str, str]:
    if not folded:
        return {name: result.outcome for name, result in reading.tests.items()}
    return {
        name: "passed" if result.outcome == "xpassed" else result.outcome
        for name, result in reading.tests.items()
    }
