"""A question becomes a plan: what to do, what kind of thing to look for, which words to look for.

Refused here: a question without a word to look for, one that is too long, and
one that is not about the record. Pure; the words are data in `lexicon.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sterling.packs.recall.ask.lexicon import (
    KIND_PHRASES,
    LIGHT,
    NOT_ABOUT,
    OPERATOR_PHRASES,
    STOPWORDS,
    words_from,
)
from sterling.packs.recall.ask.same import SAME
from sterling.packs.recall.reasons import Reason
from sterling.packs.recall.search.screens import keys_of, kin_of
from sterling.packs.recall.search.words import Word, normal, stem, words_of

__all__ = ["PLAN_VERSION", "QUESTION_CHARACTERS_MAX", "Plan", "Wanted", "plan_question"]

PLAN_VERSION = "plan/1"
QUESTION_CHARACTERS_MAX = 1000
_TERMS_MAX = 24
_UNIT_KINDS = words_from("length mass heat measure")
_UNIT_NOUNS = words_from(
    "size weight height width depth length distance capacity temperature resolution speed"
)
_ABBREVIATED_LEAST = 8  # A word this long may stand on a screen as its first four or five letters.
_LIGHT_STEMS = frozenset(stem(word) for word in LIGHT)
_BEING = words_from("is was are were s")
_DETERMINERS = words_from("the a an my our his her its their")
_GROUP_ENDS = words_from(
    "of on in at to for from by with about as is was are were that which who when where does did do has "
    "have had shown displayed listed mentioned written given called named and between during per"
)
_QUOTED = re.compile(r"[\"“‘']([^\"”’']{2,120})[\"”’'](?!\w)")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A word to look for.

    `must`: it has to stand on the answer's screen; `soft`: it counts only where a screen holds it;
    `follows`: it stands right behind the word before it, as in one name; `weak`: keys that count
    less; `head`: it names what is asked for, and counts more.
    """

    text: str
    keys: tuple[str, ...]
    must: bool
    soft: bool
    follows: bool = False
    weak: tuple[str, ...] = ()
    head: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with a question. `refusal` is set when there is nothing to do."""

    operator: str
    kind: str
    wanted: tuple[Wanted, ...]
    phrases: tuple[str, ...] = ()
    remainder: tuple[str, ...] = ()
    refusal: Reason | None = None


def plan_question(question: str, taken: Sequence[tuple[int, int]] = ()) -> Plan:
    """The plan of a question. `taken` are the characters that its time words cover."""
    if not words_of(question):
        return _refused(Reason.QUESTION_EMPTY)
    if len(question) > QUESTION_CHARACTERS_MAX:
        return _refused(Reason.QUESTION_TOO_LONG)
    folded = " ".join(normal(question).split())
    if NOT_ABOUT.search(folded):
        return _refused(Reason.NOT_ABOUT_RECORD)
    rest = _blank(question, taken)
    operator = _first(OPERATOR_PHRASES, folded, "lookup")
    kind = _first(KIND_PHRASES, folded, "any") if operator in ("lookup", "list") else "any"
    wanted, remainder = _wanted(rest, kind)
    if not wanted:
        return _refused(Reason.QUESTION_EMPTY)
    return Plan(operator, kind, tuple(wanted), tuple(_QUOTED.findall(rest)), tuple(remainder))


def _refused(reason: Reason) -> Plan:
    return Plan("none", "any", (), refusal=reason)


def _first(table: Sequence[tuple[re.Pattern[str], str]], text: str, otherwise: str) -> str:
    return next((name for pattern, name in table if pattern.search(text)), otherwise)


def _blank(text: str, spans: Sequence[tuple[int, int]]) -> str:
    letters = list(text)
    for start, end in spans:
        letters[start:end] = " " * (end - start)
    return "".join(letters)


def _wanted(text: str, kind: str) -> tuple[list[Wanted], list[str]]:
    quoted = [match.span(1) for match in _QUOTED.finditer(text)]
    words = words_of(text, parts=False)
    shouting = all(word.text.isupper() for word in words if word.text.isalpha())
    head = _head(words)
    last = -2
    found: dict[tuple[str, ...], Wanted] = {}
    remainder: list[str] = []
    for number, word in enumerate(words):
        in_quotes = any(start <= word.start and word.end <= end for start, end in quoted)
        bare = _without_possessive(word.normal)
        if bare in STOPWORDS and not in_quotes:
            continue
        if len(found) >= _TERMS_MAX:
            remainder.append(word.text)
            continue
        must = (
            (in_quotes and bare not in STOPWORDS)
            or number == head
            or _stands_out(word, first=number == 0, shouting=shouting)
        )
        keys = _keys(bare)
        follows = last == number - 1 and text[words[number - 1].end : word.start] == " "
        if kind in _UNIT_KINDS and bare in _UNIT_NOUNS:
            must = False  # A weight is told by its unit; the word need not stand beside it.
        soft = not must and (_is_light(bare) or (kind in _UNIT_KINDS and bare in _UNIT_NOUNS))
        found.setdefault(keys, Wanted(word.text, keys, must, soft, follows, _weak_keys(bare), number == head))
        last = number
    if found and all(item.soft for item in found.values()):
        found = {keys: replace(item, soft=False) for keys, item in found.items()}
    return list(found.values()), remainder


def _head(words: Sequence[Word]) -> int:
    """The number of the word that names what is asked for (the `total` of what total), or -1.

    It is the last word before a preposition or verb after `what is the`, or the
    first one after `which`. Words that only name a kind are no heads.
    """
    texts = [_without_possessive(word.normal) for word in words]
    for number, text in enumerate(texts[:-1]):
        counted = text in ("much", "many") and number > 0 and texts[number - 1] == "how"
        if counted or text == "which" or (text == "what" and texts[number + 1] not in _BEING):
            here = texts[number + 1]
            return number + 1 if here not in STOPWORDS and not _is_light(here) else -1
        if text in ("what", "what's", "who") and texts[number + 1] in _BEING:
            group = []
            for later in range(number + 2, len(texts)):
                if texts[later] in _GROUP_ENDS:
                    break
                group.append(later)
            named = [later for later in group if texts[later] not in STOPWORDS]
            if (
                len(group) > 0
                and texts[group[0]] in _DETERMINERS
                and named
                and not _is_light(texts[named[-1]])
            ):
                return named[-1]
            return -1
    return -1


def _is_light(word: str) -> bool:
    return word in LIGHT or stem(word) in _LIGHT_STEMS


def _keys(word: str) -> tuple[str, ...]:
    """All keys of a word and of the words that mean the same."""
    stemmed = stem(word)
    same = sorted(
        {other for group in SAME if any(stem(member) == stemmed for member in group) for other in group}
    )
    keys = [key for form in (word, *same) for key in keys_of(form)]
    return tuple(dict.fromkeys(keys))


def _weak_keys(word: str) -> tuple[str, ...]:
    """The key of words made from this one, and its usual abbreviations."""
    if not word.isalpha():
        return ()
    short = [word[:4], word[:5]] if len(word) >= _ABBREVIATED_LEAST else []
    return (kin_of(word), *short)


def _stands_out(word: Word, *, first: bool, shouting: bool) -> bool:
    """Whether the word names something: it holds a digit, or capitals that a sentence does not ask for."""
    text = word.text
    if any(letter.isdigit() for letter in text):
        return True
    if shouting:
        return False
    return (text[0].isupper() and not first) or (len(text) > 1 and text.isupper())


def _without_possessive(word: str) -> str:
    for ending in ("'s", "’s", "'", "’"):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word[: -len(ending)]
    return word
