"""The scorer: predictions against a set's truth. It shares no code with the answering side.

An answer is right when an accepted string stands in it, bounded by tokens, and
it has at most 40 words; a citation is right when it names an accepted frame; a
box is right when it overlaps a true box of that frame and is smaller than 15 %
of the screen. Nothing is given for a page quoted whole. Pure.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["MEASURES", "Rate", "Scores", "score"]

ANSWER_WORDS_MAX = 40
_SCREEN_SHARE_MAX = 0.15
_RESAMPLES = 500
MEASURES = ("answer", "citation_1", "citation_5", "both", "box", "abstention", "false_refusal", "state")


class Question(Protocol):
    """What the scorer needs of a question."""

    @property
    def id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def answers(self) -> tuple[str, ...]: ...
    @property
    def frames(self) -> tuple[str, ...]: ...
    @property
    def boxes(self) -> Mapping[str, Sequence[Sequence[int]]]: ...
    @property
    def state(self) -> str: ...
    @property
    def is_answerable(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Rate:
    """Right out of asked, with a bootstrap interval of 95 %, in basis points."""

    right: int
    of: int
    share_bp: int
    low_bp: int
    high_bp: int

    def as_json(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("right", "of", "share_bp", "low_bp", "high_bp")}


@dataclass(frozen=True, slots=True)
class Scores:
    """Every measure over all questions and by type, and how many answers had each state."""

    all: dict[str, Rate]
    types: dict[str, dict[str, Rate]]
    states: dict[str, int]


def score(
    questions: Sequence[Question],
    predictions: Mapping[str, Mapping[str, Any]],
    *,
    sizes: Mapping[str, tuple[int, int]],
    same_as: Mapping[str, str],
) -> Scores:
    """Score predictions. `sizes`: frame sizes where known; `same_as`: the frame that another repeats."""
    marks = [_mark(question, predictions.get(question.id, {}), sizes, same_as) for question in questions]
    types = sorted({question.type for question in questions})
    by_type = {
        name: _rates([mark for mark, question in zip(marks, questions, strict=True) if question.type == name])
        for name in types
    }
    states: dict[str, int] = {}
    for question in questions:
        state = _state(predictions.get(question.id, {}))
        states[state] = states.get(state, 0) + 1
    return Scores(_rates(marks), by_type, dict(sorted(states.items())))


def _mark(
    question: Question,
    prediction: Mapping[str, Any],
    sizes: Mapping[str, tuple[int, int]],
    same_as: Mapping[str, str],
) -> dict[str, bool]:
    """Which measures apply to this question, and whether each is right."""
    answer = prediction.get("answer")
    abstained = answer is None or not str(answer).strip()
    marks: dict[str, bool] = {}
    if question.state:
        marks["state"] = _state(prediction) == question.state
    if not question.is_answerable:
        marks["abstention"] = abstained
        return marks
    marks["false_refusal"] = abstained
    marks["answer"] = not abstained and _is_right(str(answer), question.answers)
    cited = [_root(str(item.get("frame", "")), same_as) for item in prediction.get("citations") or []]
    accepted = {_root(frame, same_as) for frame in question.frames}
    if accepted:
        marks["citation_1"] = bool(cited[:1]) and cited[0] in accepted
        marks["citation_5"] = any(frame in accepted for frame in cited[:5])
        marks["both"] = marks["answer"] and marks["citation_1"]
    if question.boxes and marks["answer"] and marks.get("citation_1", False):
        marks["box"] = _box_fits(question, prediction["citations"][0], sizes, same_as)
    return marks


def _is_right(answer: str, accepted: Iterable[str]) -> bool:
    if len(answer.split()) > ANSWER_WORDS_MAX:
        return False
    said = _plain(answer)
    return any(_stands_in(_plain(wanted), said) for wanted in accepted if wanted.strip())


def _plain(text: str) -> str:
    """Case folded, compatibility form, accents dropped, spaces single."""
    flat = unicodedata.normalize("NFKD", text).casefold()
    bare = "".join(letter for letter in flat if not unicodedata.combining(letter))
    return " ".join(bare.split())


def _stands_in(wanted: str, said: str) -> bool:
    """Whether the wanted text stands in what was said, with no letter or digit going on at either end."""
    start = said.find(wanted)
    while wanted and start >= 0:
        end = start + len(wanted)
        before = said[start - 1] if start else " "
        after = said[end] if end < len(said) else " "
        beyond = said[end + 1] if end + 1 < len(said) else " "
        inside_number = after in ".,:" and beyond.isdigit() and wanted[-1].isdigit()
        into_number = start >= 2 and before in ".,:" and said[start - 2].isdigit() and wanted[0].isdigit()
        open_left = not (before.isalnum() and wanted[0].isalnum())
        open_right = not (after.isalnum() and wanted[-1].isalnum())
        if open_left and open_right and not inside_number and not into_number:
            return True
        start = said.find(wanted, start + 1)
    return False


def _root(frame: str, same_as: Mapping[str, str]) -> str:
    seen = {frame}
    while same_as.get(frame) and same_as[frame] not in seen:
        frame = same_as[frame]
        seen.add(frame)
    return frame


def _box_fits(
    question: Question,
    citation: Mapping[str, Any],
    sizes: Mapping[str, tuple[int, int]],
    same_as: Mapping[str, str],
) -> bool:
    box = citation.get("box")
    if not (isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box)):
        return False
    left, top, right, bottom = box
    if left >= right or top >= bottom:
        return False
    frame = str(citation.get("frame", ""))
    width, height = sizes.get(frame, (0, 0))
    if width and height and (right - left) * (bottom - top) >= _SCREEN_SHARE_MAX * width * height:
        return False
    root = _root(frame, same_as)
    true = [box for named, boxes in question.boxes.items() if _root(named, same_as) == root for box in boxes]
    return any(
        left < other[2] and other[0] < right and top < other[3] and other[1] < bottom for other in true
    )


def _state(prediction: Mapping[str, Any]) -> str:
    state = str(prediction.get("state") or "")
    if state:
        return state
    return "answered" if prediction.get("answer") else "no_evidence"


def _rates(marks: Sequence[Mapping[str, bool]]) -> dict[str, Rate]:
    return {name: _rate([mark[name] for mark in marks if name in mark]) for name in MEASURES}


def _rate(outcomes: Sequence[bool]) -> Rate:
    if not outcomes:
        return Rate(0, 0, 0, 0, 0)
    right, of = sum(outcomes), len(outcomes)
    dice = random.Random(20_260_101)
    means = sorted(sum(dice.choices(outcomes, k=of)) * 10_000 // of for _ in range(_RESAMPLES))
    return Rate(right, of, right * 10_000 // of, means[_RESAMPLES // 40], means[-1 - _RESAMPLES // 40])
