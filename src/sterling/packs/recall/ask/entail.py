"""Whether a cited span really says what a claim says. Pure.

Every word and figure of the claim must stand in the quoted characters; every
word that the question insists on must stand on the cited screen or in its
title.
"""

from __future__ import annotations

from collections.abc import Sequence

from sterling.packs.recall.search.screens import Screen
from sterling.packs.recall.search.support import Term
from sterling.packs.recall.search.words import words_of

__all__ = ["is_entailed", "is_said"]


def is_said(claim: str, quote: str) -> bool:
    """Whether every word of the claim stands in the quote."""
    said = [word.normal for word in words_of(quote, parts=False)]
    wanted = [word.normal for word in words_of(claim, parts=False)]
    if not wanted:
        return bool(claim.strip()) and claim.strip() in quote
    return all(word in said for word in wanted)


def is_entailed(claim: str, screen: Screen, spans: Sequence[tuple[int, int]], terms: Sequence[Term]) -> bool:
    """Whether the spans say the claim and the screen holds what the question insists on."""
    if not spans or any(not 0 <= start < end <= len(screen.body) for start, end in spans):
        return False
    quote = " ".join(screen.body[start:end] for start, end in spans)
    held = all(
        any(key in screen.keys or key in screen.surroundings for key in term.keys)
        for term in terms
        if term.must
    )
    return held and is_said(claim, quote)
