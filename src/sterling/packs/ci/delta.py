"""The delta: what became of every test between the baseline and the head.

`MATRIX` gives one state for each pair of outcomes, and `KINDS` says what a state
does to the verdict. Both stand in `docs/reference/ci-codes.md` under test.
Deleting a red test is `gone_quiet`, not a fix; `fixed` needs a pass.

Pure, total and sorted: the same sides give the same delta, whatever their order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from sterling.kernel.canonical import Json
from sterling.packs.ci.collect import CollectGroup, group_by_cause, label_of
from sterling.packs.ci.facts import Facts, Result
from sterling.packs.ci.identity import is_under
from sterling.packs.ci.rerun import settle_reruns

__all__ = [
    "BLOCKS",
    "CODES",
    "KINDS",
    "MATRIX",
    "SEVERITIES",
    "SIDES",
    "WARNS",
    "Delta",
    "State",
    "collectors_alone",
    "compare",
    "severity_of",
    "state_of",
]

SIDES = ("absent", "passed", "xpassed", "skipped", "xfailed", "failed", "error")


def _row(*states: str) -> Mapping[str, str]:
    return dict(zip(SIDES, states, strict=True))


# Rows are the baseline, columns the head, in the order of SIDES.
MATRIX: Final[Mapping[str, Mapping[str, str]]] = {
    "absent": _row("-", "new_pass", "new_pass", "added_muted", "added_muted", "new_fail", "new_fail"),
    "passed": _row("vanished", "same", "same", "new_skip", "new_xfail", "new_fail", "new_fail"),
    "xpassed": _row("vanished", "same", "same", "new_skip", "new_xfail", "new_fail", "new_fail"),
    "skipped": _row("gone_quiet", "unskipped", "unskipped", "same", "added_muted", "new_fail", "new_fail"),
    "xfailed": _row("gone_quiet", "xpass", "xpass", "hidden", "same", "new_fail", "new_fail"),
    "failed": _row("gone_quiet", "fixed", "fixed", "hidden", "hidden", "still_fail", "worse"),
    "error": _row("gone_quiet", "fixed", "fixed", "hidden", "hidden", "changed_signature", "still_fail"),
}
# In these cells a signature known on both sides and different gives `changed_signature`.
_SIGNED = frozenset({("xfailed", "xfailed"), ("failed", "failed"), ("error", "error")})

KINDS: Final[Mapping[str, str]] = {
    "new_fail": "blocks",
    "worse": "blocks",
    "vanished": "blocks",
    "new_skip": "blocks",
    "new_xfail": "blocks",
    "collect_error": "blocks",
    "changed_signature": "warns",
    "hidden": "warns",
    "gone_quiet": "warns",
    "xpass": "warns",
    "added_muted": "warns",
    "flaky": "warns",
    "new_pass": "notes",
    "fixed": "notes",
    "still_fail": "notes",
    "unskipped": "notes",
    "under_collector": "notes",
    "same": "notes",
}
BLOCKS = tuple(state for state, kind in KINDS.items() if kind == "blocks")
WARNS = tuple(state for state, kind in KINDS.items() if kind == "warns")
CODES: Final[Mapping[str, str]] = {
    "new_fail": "ci.new-failure",
    "worse": "ci.worse-failure",
    "collect_error": "ci.collect-error",
} | {state: f"ci.{state.replace('_', '-')}" for state in ("vanished", "new_skip", "new_xfail", *WARNS)}

SEVERITIES: Final = ((0, "none"), (1, "low"), (4, "medium"), (9, "high"))


@dataclass(frozen=True, slots=True)
class State:
    """What became of one id, with the signatures of both sides where they are known."""

    state: str
    base: str
    head: str
    base_signature: str = ""
    head_signature: str = ""
    unstable: bool = False

    def as_json(self) -> dict[str, Json]:
        document: dict[str, Json] = {"state": self.state, "base": self.base, "head": self.head}
        if self.base_signature or self.head_signature:
            document["signatures"] = [self.base_signature, self.head_signature]
        if self.unstable:
            document["unstable"] = True
        return document


@dataclass(frozen=True, slots=True)
class Delta:
    """Every id's state; ids that stayed the same are counted, not listed."""

    states: Mapping[str, State]
    collectors: Mapping[str, str]
    groups: tuple[CollectGroup, ...]
    healed: tuple[str, ...]
    counts: Mapping[str, int]
    severity: str
    notes: tuple[str, ...] = ()

    def of_state(self, state: str) -> list[str]:
        """Ids in this state, sorted."""
        return [name for name, found in self.states.items() if found.state == state]

    def as_json(self) -> dict[str, Json]:
        return {
            "states": {name: found.as_json() for name, found in self.states.items()},
            "collectors": dict(self.collectors),
            "groups": [group.as_json() for group in self.groups],
            "healed": list(self.healed),
            "counts": dict(self.counts),
            "severity": self.severity,
            "notes": list(self.notes),
        }


def compare(
    base: Facts, head: Facts, reruns: Sequence[Facts] = (), *, unstable: AbstractSet[str] = frozenset()
) -> Delta:
    """The delta between two runs, after the re-runs of the second."""
    settled = settle_reruns(head, reruns)
    after = settled.facts
    states: dict[str, State] = {}
    marked = 0
    for name in _differing(base.tests, after.tests):
        first, second = base.tests.get(name), after.tests.get(name)
        state = state_of(first, second)
        if state == "same":
            marked += 1
            continue
        if second is None and is_under(name, after.collectors):
            state = "under_collector"
        elif state in BLOCKS and second is not None and name in settled.passed_again:
            # A pass anywhere beside a failure of the same tree: both attempts are evidence.
            state = "flaky" if second.outcome != "skipped" else state
        states[name] = _state(state, first, second, unstable=name in unstable)
    labels = {
        name: label_of(name, after.collectors[name], base.collectors) for name in sorted(after.collectors)
    }
    counts = Counter(found.state for found in states.values())
    counts["same"] = len(base.tests.keys() | after.tests.keys()) - len(states)
    counts["flaky"] += len(settled.healed)
    counts["collect_error"] = len(labels)
    fresh = sum(label != "debt" for label in labels.values())
    notes = [f"{marked} tests differ from the baseline by a marker only."] if marked else []
    if shaky := sorted(name for name, found in states.items() if found.unstable):
        notes.append(
            f"{len(shaky)} of these ids were unstable in the baseline already, {shaky[0]} among them."
        )
    return Delta(
        states=states,
        collectors=labels,
        groups=group_by_cause(after.collectors),
        healed=settled.healed,
        counts={state: counts[state] for state in KINDS if counts[state]},
        severity=severity_of(counts["new_fail"] + counts["worse"] + fresh),
        notes=tuple(notes),
    )


def collectors_alone(base: Facts | None, head: Facts) -> Delta:
    """The delta of a run that never reached its tests: broken files by label and cause, no test states."""
    known = {} if base is None else base.collectors
    labels = {name: label_of(name, head.collectors[name], known) for name in sorted(head.collectors)}
    counts = {"collect_error": len(labels)} if labels else {}
    fresh = sum(label != "debt" for label in labels.values())
    return Delta({}, labels, group_by_cause(head.collectors), (), counts, severity_of(fresh))


def state_of(base: Result | None, head: Result | None) -> str:
    """The state of one id from its result on either side."""
    before = "absent" if base is None else base.outcome
    after = "absent" if head is None else head.outcome
    if (before, after) in _SIGNED and base is not None and head is not None:
        first, second = base.signature, head.signature
        if first and second and first != second:
            return "changed_signature"
    return MATRIX[before][after]


def severity_of(count: int) -> str:
    """The band of a number of lasting regressions."""
    return next((name for limit, name in SEVERITIES if count <= limit), "critical")


def _differing(base: Mapping[str, Result], head: Mapping[str, Result]) -> list[str]:
    """Ids that need a look, sorted: all but those with the same quiet outcome on both sides."""
    looked = [name for name, result in base.items() if not _is_quiet(result, head.get(name))]
    looked += [name for name in head if name not in base]
    return sorted(looked)


def _is_quiet(first: Result, second: Result | None) -> bool:
    return (
        second is not None
        and first.outcome == second.outcome
        and first.signature == second.signature
        and (first.outcome in ("passed", "skipped", "xfailed"))
    )


def _state(state: str, base: Result | None, head: Result | None, *, unstable: bool) -> State:
    return State(
        state,
        "absent" if base is None else base.outcome,
        "absent" if head is None else head.outcome,
        "" if base is None else base.signature,
        "" if head is None else head.signature,
        unstable,
    )
