"""The phase machine: all 81 pairs of phases, decided before any gate is asked.

`PAIRS` is the only place that says which move a pair is and who may ask for it.
Evidence plays no part here: a skip is a skip even when its evidence is missing
too. The finish (`--to DONE`) is no pair; only MONITOR leads to it.

Pure: values in, verdict out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

__all__ = [
    "DONE",
    "PAIRS",
    "PHASES",
    "Direction",
    "PairRule",
    "PairVerdict",
    "Phase",
    "Role",
    "decide_pair",
    "place_of",
]

DONE = "DONE"


class Phase(StrEnum):
    """The nine phases, in the order a task walks them."""

    STRATEGIZE = "STRATEGIZE"
    SPEC = "SPEC"
    PLAN = "PLAN"
    THINK = "THINK"
    IMPLEMENT = "IMPLEMENT"
    VERIFY = "VERIFY"
    REVIEW = "REVIEW"
    PR = "PR"
    MONITOR = "MONITOR"


PHASES: tuple[Phase, ...] = tuple(Phase)


class Role(StrEnum):
    """Who asks for a move."""

    AGENT = "agent"
    AUTHORITY = "authority"
    PERSON = "person"


class Direction(StrEnum):
    """What a move is."""

    START = "start"
    FORWARD = "forward"
    BACK = "back"
    SAME = "same"
    SKIP = "skip"
    FINISH = "finish"
    NONE = "none"


_EVERYBODY = frozenset(Role)
_NOT_AGENTS = frozenset({Role.AUTHORITY, Role.PERSON})
_NOBODY: frozenset[Role] = frozenset()
_LATE = (Phase.VERIFY, Phase.REVIEW, Phase.PR, Phase.MONITOR)


@dataclass(frozen=True, slots=True)
class PairRule:
    """One pair: what the move is and who may ask for it."""

    direction: Direction
    who: frozenset[Role]


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """Whether a pair is open to the asker. `code` is empty when it is."""

    direction: Direction
    code: str

    @property
    def is_open(self) -> bool:
        return not self.code


def place_of(phase: Phase) -> int:
    """0 for STRATEGIZE, 8 for MONITOR."""
    return PHASES.index(phase)


def _rule(before: Phase, to: Phase) -> PairRule:
    distance = place_of(to) - place_of(before)
    if distance == 0:
        return PairRule(Direction.SAME, _NOBODY)
    if distance == 1:
        return PairRule(Direction.FORWARD, _EVERYBODY)
    if distance > 1:
        return PairRule(Direction.SKIP, _NOBODY)
    return PairRule(Direction.BACK, _EVERYBODY if before in _LATE else _NOT_AGENTS)


PAIRS: Mapping[tuple[Phase, Phase], PairRule] = MappingProxyType(
    {(before, to): _rule(before, to) for before in PHASES for to in PHASES}
)
_REFUSALS = {
    Direction.SAME: "transition.same-phase",
    Direction.SKIP: "transition.skip",
    Direction.BACK: "transition.back-not-allowed",
}


def decide_pair(before: Phase | None, to: str, role: Role) -> PairVerdict:
    """Whether this role may ask to go from one phase to another; `before` None means not started.

    `to` is a phase's name or DONE; any other text is `transition.unknown-phase`.
    """
    if to == DONE:
        if before is Phase.MONITOR:
            return PairVerdict(Direction.FINISH, "")
        return PairVerdict(Direction.SKIP, "transition.skip")
    if to not in Phase.__members__:
        return PairVerdict(Direction.NONE, "transition.unknown-phase")
    if before is None:
        if to == Phase.STRATEGIZE:
            return PairVerdict(Direction.START, "")
        return PairVerdict(Direction.SKIP, "transition.skip")
    rule = PAIRS[before, Phase(to)]
    return PairVerdict(rule.direction, "" if role in rule.who else _REFUSALS[rule.direction])
