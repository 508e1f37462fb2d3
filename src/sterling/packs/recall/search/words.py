"""Words of text and of questions: normal forms under which they are the same.

`normal` folds case and width, `stem` strips the commonest English endings, and
`skeleton` folds characters that screens and engines confuse (O and 0, l and 1,
rn and m), but never inside a plain number. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["NORMALIZER", "Word", "normal", "root", "skeleton", "stem", "words_of"]

NORMALIZER = "nfkc-casefold/1"

_WORD = re.compile(r"[^\W_]+(?:[.\-_/:@'’&+#,][^\W_]+)*[+#]*", re.UNICODE)
_PART = re.compile(r"[^\W_]+", re.UNICODE)
_IRREGULAR_LINES = """
begin began begun | break broke broken | bring brought | build built | buy bought | catch caught
choose chose chosen | draw drew drawn | drive drove driven | fall fell fallen | fly flew flown
grow grew grown | hold held | keep kept | know knew known | lead led | leave left | lend lent
lose lost | mean meant | meet met | pay paid | ride rode ridden | rise rose risen | run ran
sell sold | send sent | speak spoke spoken | spend spent | steal stole stolen | take took taken
teach taught | tell told | think thought | win won | write wrote written | child children
person people | man men | woman women | foot feet
"""
_IRREGULAR = {
    form: group.split()[0]
    for group in _IRREGULAR_LINES.replace("\n", "|").split("|")
    for form in group.split()[1:]
}
# Endings of derived words, and how many letters have to be left in front of them.
_DERIVED = (
    ("ization", 4),
    ("ation", 4),
    ("ition", 4),
    ("ator", 4),
    ("ance", 4),
    ("ence", 4),
    ("ness", 4),
    ("able", 4),
    ("ible", 4),
    ("ion", 4),
    ("ity", 4),
    ("ive", 4),
    ("ate", 4),
    ("at", 5),
    ("al", 4),
    ("er", 3),
    ("or", 4),
    ("ee", 4),
    ("ly", 4),
    ("y", 4),
)
_CONFUSED = str.maketrans({"0": "o", "1": "l", "i": "l", "|": "l", "5": "s", "8": "b"})


@dataclass(frozen=True, slots=True)
class Word:
    """A word as written, its place in the text, and its normal form."""

    text: str
    start: int
    end: int
    normal: str


def normal(text: str) -> str:
    """Compatibility form, case folded, accents kept."""
    return unicodedata.normalize("NFKC", text).casefold()


def words_of(text: str, *, parts: bool = True) -> list[Word]:
    """Words with their places. With `parts`, `feature/login` gives its two parts as well as itself."""
    found: list[Word] = []
    for match in _WORD.finditer(text):
        whole = match.group()
        found.append(Word(whole, match.start(), match.end(), normal(whole)))
        pieces = list(_PART.finditer(whole)) if parts else []
        if len(pieces) > 1:
            for piece in pieces:
                start = match.start() + piece.start()
                found.append(Word(piece.group(), start, start + len(piece.group()), normal(piece.group())))
    return found


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A word without its commonest English endings; words with digits stay as they are."""
    word = _IRREGULAR.get(word, word)
    if len(word) < 4 or not word.isalpha() or not word.isascii():
        return word
    for ending, left, instead in (
        ("ments", 3, ""),
        ("ment", 3, ""),
        ("ies", 2, "y"),
        ("sses", 2, "ss"),
        ("ing", 3, ""),
        ("ed", 3, ""),
        ("es", 3, "e"),
        ("s", 3, ""),
    ):
        if word.endswith(ending) and len(word) - len(ending) >= left and not word.endswith("ss"):
            return _undoubled(word[: -len(ending)] + instead)
    return _undoubled(word)


@lru_cache(maxsize=65536)
def root(word: str) -> str:
    """What a word shares with the words made from it: assigned, assignee and assignment give one root."""
    found = stem(word[:-2] if word.endswith("ee") and len(word) > 5 else word)
    if not found.isalpha() or not found.isascii():
        return found
    before = ""
    while found != before:
        before = found
        for ending, left in _DERIVED:
            if found.endswith(ending) and len(found) - len(ending) >= left:
                found = _undoubled(found[: -len(ending)])
                break
    return found


@lru_cache(maxsize=65536)
def skeleton(word: str) -> str:
    """The word with accents dropped and easily confused characters folded; plain numbers stay."""
    if not any(letter.isalpha() for letter in word):
        return word
    flat = "".join(
        letter for letter in unicodedata.normalize("NFKD", word) if not unicodedata.combining(letter)
    )
    return flat.translate(_CONFUSED).replace("rn", "m").replace("vv", "w")


def _undoubled(word: str) -> str:
    if len(word) > 3 and word.endswith("e"):
        word = word[:-1]
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]
    return word
