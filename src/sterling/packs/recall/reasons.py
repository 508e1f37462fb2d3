"""Every reason that recall gives for not answering, not reading or not taking something.

One table: the code, a sentence for a person, and the next step. Errors in other
modules use these codes; `docs/concepts/recall.md` prints the same table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["REASONS", "Reason", "Why"]


class Reason(StrEnum):
    """Closed: a reason that is not here is never emitted."""

    IMAGE_UNREADABLE = "recall.image-unreadable"
    NO_PIXELS = "recall.no-pixels"
    SIDECAR_INVALID = "recall.sidecar-invalid"
    STAGE1_INCOMPLETE = "recall.stage1-incomplete"
    LANGUAGE_MISSING = "recall.language-missing"
    ENGINE_MISSING = "recall.engine-missing"
    ENGINE_BLIND = "recall.engine-blind"
    READING_INVALID = "recall.reading-invalid"
    READING_MISSING = "recall.reading-missing"
    READINGS_DISAGREE = "recall.readings-disagree"
    CHECK_PENDING = "recall.check-pending"
    INDEX_BEHIND = "recall.index-behind"
    BELOW_THRESHOLD = "recall.below-threshold"
    NOT_ENTAILED = "recall.not-entailed"
    COVERAGE_GAP = "recall.coverage-gap"
    NOT_ABOUT_RECORD = "recall.not-about-record"
    QUESTION_EMPTY = "recall.question-empty"
    QUESTION_TOO_LONG = "recall.question-too-long"
    CITATION_BROKEN = "recall.citation-broken"
    TIME_NOT_UNDERSTOOD = "time.not-understood"
    TIME_INVALID = "time.invalid"
    TIME_REVERSED = "time.reversed"
    TIME_FUTURE = "time.future"
    TIME_AMBIGUOUS = "time.ambiguous"


@dataclass(frozen=True, slots=True)
class Why:
    """What a reason means to a person, and what to do next."""

    sentence: str
    next: str


_DRAIN = "sterling drain --force"

REASONS: dict[Reason, Why] = {
    Reason.IMAGE_UNREADABLE: Why(
        "This file is not a whole picture that can be opened.", "sterling ingest PATH"
    ),
    Reason.NO_PIXELS: Why(
        "This item has no pixels, so nothing it says can be cited.", "sterling ingest PATH"
    ),
    Reason.SIDECAR_INVALID: Why("The words beside this picture cannot be used.", "sterling ingest PATH"),
    Reason.STAGE1_INCOMPLETE: Why("A frame's stored parts do not fit together.", "sterling verify --blobs"),
    Reason.LANGUAGE_MISSING: Why(
        "The language data of the reading engine is not installed.", "apt-get install tesseract-ocr-eng"
    ),
    Reason.ENGINE_MISSING: Why("The reading engine is not installed.", "pip install tesserocr"),
    Reason.ENGINE_BLIND: Why("The reading engine could not read a known picture.", "sterling doctor"),
    Reason.READING_INVALID: Why("The reading engine gave something that is not a reading.", _DRAIN),
    Reason.READING_MISSING: Why("The text of these frames has not been read yet.", _DRAIN),
    Reason.READINGS_DISAGREE: Why(
        "Two readings of the same pixels differ, so neither is given as an answer.",
        "sterling ask QUESTION --crop FILE",
    ),
    Reason.CHECK_PENDING: Why(
        "Only one reading of the cited pixels exists.", "sterling ask QUESTION --check"
    ),
    Reason.INDEX_BEHIND: Why(
        "The index does not hold everything that was recorded.", "sterling recall index rebuild"
    ),
    Reason.BELOW_THRESHOLD: Why(
        "Nothing that was read supports an answer.", "sterling ask QUESTION --explain"
    ),
    Reason.NOT_ENTAILED: Why(
        "The cited span does not hold what the claim says.", "sterling ask QUESTION --explain"
    ),
    Reason.COVERAGE_GAP: Why(
        "Nothing was captured in this time, or a part of it was not.", "sterling ingest PATH"
    ),
    Reason.NOT_ABOUT_RECORD: Why("Recall answers only about what was on the screen.", "sterling ask --help"),
    Reason.QUESTION_EMPTY: Why("The question holds no word to look for.", "sterling ask --help"),
    Reason.QUESTION_TOO_LONG: Why("The question is longer than recall takes.", "sterling ask --help"),
    Reason.CITATION_BROKEN: Why(
        "A citation does not lead to the pixels it names.", "sterling verify --blobs"
    ),
    Reason.TIME_NOT_UNDERSTOOD: Why("These time words are not understood.", "sterling ask --help"),
    Reason.TIME_INVALID: Why("This time does not exist.", "sterling ask --help"),
    Reason.TIME_REVERSED: Why("This time ends before it starts.", "sterling ask --help"),
    Reason.TIME_FUTURE: Why("This time has not come yet.", "sterling ask --help"),
    Reason.TIME_AMBIGUOUS: Why("This time can be meant in more than one way.", "sterling ask --help"),
}
