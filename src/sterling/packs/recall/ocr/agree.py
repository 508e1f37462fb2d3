"""Two readings of the same pixels: where they agree and where they differ.

Letters may differ in case, ligatures and the curl of quotes. Digits, and the
points, signs and slashes inside a word that holds a digit, must be equal: a
wrong digit is a wrong answer. Pure.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

__all__ = ["Agreement", "Pair", "agree", "same_token"]

_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "−": "-", "‐": "-"})
_EDGES = " .,;:!?'\"()[]{}<>|*_~"


@dataclass(frozen=True, slots=True)
class Pair:
    """One place in the two readings: both texts ('' where one has nothing) and agreed, differs or only."""

    first: str
    second: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """The readings side by side; `agreed` holds when every place does."""

    agreed: bool
    pairs: tuple[Pair, ...]


def agree(first: Sequence[str], second: Sequence[str]) -> Agreement:
    """Compare the tokens of the cited text with those of a second reading of its pixels.

    The second reading may hold more than was cited (a crop has edges): tokens
    before and after the best match are left out of the comparison.
    """
    left, right = [token for token in first if _bare(token)], [token for token in second if _bare(token)]
    if not left:
        return Agreement(False, tuple(Pair("", token, "only") for token in right))
    right = _best_window(left, right)
    if _joined(left) == _joined(right):
        return Agreement(True, tuple(_zip(left, right)))
    pairs: list[Pair] = []
    matcher = SequenceMatcher(
        None, [_bare(token) for token in left], [_bare(token) for token in right], False
    )
    for _, first_from, first_to, second_from, second_to in matcher.get_opcodes():
        pairs += _zip(left[first_from:first_to], right[second_from:second_to])
    return Agreement(all(pair.verdict == "agreed" for pair in pairs), tuple(pairs))


def same_token(one: str, other: str) -> bool:
    """Whether two readings of one word count as equal."""
    return _bare(one) == _bare(other)


def _zip(left: Sequence[str], right: Sequence[str]) -> list[Pair]:
    if len(left) != len(right):
        if _joined(left) == _joined(right):
            return [Pair(" ".join(left), " ".join(right), "agreed")]
        if left and right:
            return [Pair(" ".join(left), " ".join(right), "differs")]
    pairs = []
    for number in range(max(len(left), len(right))):
        one = left[number] if number < len(left) else ""
        other = right[number] if number < len(right) else ""
        if one and other:
            pairs.append(Pair(one, other, "agreed" if same_token(one, other) else "differs"))
        else:
            pairs.append(Pair(one, other, "only"))
    return pairs


def _best_window(left: Sequence[str], right: Sequence[str]) -> list[str]:
    """The run of the second reading that is most like the first one."""
    wanted = _joined(left)
    best: tuple[float, int, int] = (-1.0, 0, 0)
    for start in range(len(right)):
        for length in range(max(1, len(left) - 2), len(left) + 3):
            end = start + length
            if end > len(right):
                break
            found = _joined(right[start:end])
            score = 2.0 if found == wanted else SequenceMatcher(None, wanted, found, False).ratio()
            if score > best[0]:
                best = (score, start, end)
        if best[0] == 2.0:
            break
    return list(right[best[1] : best[2]]) if best[0] >= 0 else list(right)


def _joined(tokens: Sequence[str]) -> str:
    return "".join(_bare(token) for token in tokens)


def _bare(token: str) -> str:
    """What must be equal: compatibility form (ligatures), plain quotes, case folded, edge marks dropped."""
    plain = unicodedata.normalize("NFKC", token).translate(_QUOTES)
    return plain.strip(_EDGES).casefold()
