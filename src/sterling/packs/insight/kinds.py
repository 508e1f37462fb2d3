"""The closed table of finding kinds: what each may claim, in which words, and what to do next.

A claim is its kind's template filled from the row that the evidence query
gives and from the names of its columns; nothing else can be said. `recheck`
fills it again and compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from sterling.kernel.canonical import Json

__all__ = ["KINDS", "Kind", "Rank", "claim_of", "next_step_of", "share_text"]


class Rank(IntEnum):
    """The order in which kinds are shown: rows to look at first, what is merely so last."""

    SUSPECT = 0
    NOTICE = 1
    STRUCTURE = 2
    PROFILE = 3


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: its rank, the unit of its estimate, its sentence, and the next step.

    `one` is the sentence for a count of one, where that reads differently.
    """

    rank: Rank
    unit: str
    many: str
    next_step: str
    one: str = ""


_LOOK = "Look at the rows listed in the evidence and correct them at their source."
_NOTHING = "Nothing to do."
_PLAIN = frozenset({"type", "unit"})  # Names that are words of ours; the others come from the table.

KINDS: dict[str, Kind] = {
    "column-profile": Kind(
        Rank.PROFILE,
        "cells",
        "{column} is {type}: {filled} of {rows} cells hold a value, {distinct} of them different.",
        _NOTHING,
    ),
    "column-empty": Kind(
        Rank.NOTICE,
        "cells",
        "{column} holds no value in any of {of} rows.",
        "Leave the column out, or find out why nothing arrives.",
    ),
    "column-constant": Kind(
        Rank.NOTICE,
        "cells",
        "{column} holds one and the same value in all {of} rows.",
        "Leave the column out of comparisons: it tells no rows apart.",
    ),
    "cells-missing": Kind(
        Rank.NOTICE,
        "cells",
        "{count} of {of} cells of {column} are missing ({share} %).",
        "Find out whether they are missing by chance before averaging over the rest.",
        one="1 of {of} cells of {column} is missing ({share} %).",
    ),
    "rows-repeated": Kind(
        Rank.SUSPECT,
        "rows",
        "{count} of {of} rows repeat an earlier row in every column.",
        "Find out whether something was recorded twice; counts and sums include the repeats.",
        one="1 of {of} rows repeats an earlier row in every column.",
    ),
    "rows-distinct": Kind(
        Rank.STRUCTURE, "rows", "No two of the {of} rows are equal in every column.", _NOTHING
    ),
    "key-kept": Kind(
        Rank.STRUCTURE,
        "rows",
        "{column} names every one of the {of} rows once.",
        "Use it to join this table to others.",
    ),
    "pair-key-kept": Kind(
        Rank.STRUCTURE,
        "rows",
        "{first} with {second} names every one of the {of} rows once.",
        "Use the two together to join this table to others.",
    ),
    "key-but-repeats": Kind(
        Rank.STRUCTURE,
        "rows",
        "{column} names every row once, when rows that repeat exactly are set aside.",
        "Set the repeats aside, then use it to join this table to others.",
    ),
    "key-broken": Kind(
        Rank.SUSPECT,
        "rows",
        "{column} would name every row, but {count} of {of} rows repeat an earlier value of it.",
        _LOOK,
        one="{column} would name every row, but 1 of {of} rows repeats an earlier value of it.",
    ),
    "order-kept": Kind(
        Rank.STRUCTURE,
        "rows",
        "{later} is never before {earlier} in the {of} rows that hold both.",
        _NOTHING,
    ),
    "order-broken": Kind(
        Rank.SUSPECT,
        "rows",
        "{later} is before {earlier} in {count} of the {of} rows that hold both ({share} %).",
        _LOOK,
    ),
    "sign-broken": Kind(
        Rank.NOTICE,
        "cells",
        "{count} of {of} values of {column} are below zero; all others are not.",
        _LOOK,
        one="1 of {of} values of {column} is below zero; all others are not.",
    ),
    "infinite-values": Kind(
        Rank.SUSPECT,
        "cells",
        "{count} of {of} values of {column} are infinite.",
        _LOOK,
        one="1 of {of} values of {column} is infinite.",
    ),
    "dependency-kept": Kind(
        Rank.STRUCTURE,
        "rows",
        "{by} decides {column}: in all {of} rows that hold both, equal {by} means equal {column}.",
        "Treat the two as one piece of knowledge; an association between them is no discovery.",
    ),
    "dependency-broken": Kind(
        Rank.SUSPECT,
        "rows",
        "{by} decides {column} in all but {count} of the {of} rows that hold both.",
        _LOOK,
    ),
    "columns-equal": Kind(
        Rank.STRUCTURE,
        "rows",
        "{second} holds the same as {first} in all {of} rows.",
        "Keep one of the two.",
    ),
    "sum-kept": Kind(
        Rank.STRUCTURE,
        "rows",
        "{total} = {first} + {second} in all {of} rows that hold the three.",
        "{total} is derived; an association with its parts is no discovery.",
    ),
    "sum-broken": Kind(
        Rank.SUSPECT,
        "rows",
        "{total} = {first} + {second} in all but {count} of the {of} rows that hold the three.",
        _LOOK,
    ),
    "product-kept": Kind(
        Rank.STRUCTURE,
        "rows",
        "{total} = {first} × {second} in all {of} rows that hold the three.",
        "{total} is derived; an association with its parts is no discovery.",
    ),
    "product-broken": Kind(
        Rank.SUSPECT,
        "rows",
        "{total} = {first} × {second} in all but {count} of the {of} rows that hold the three.",
        _LOOK,
    ),
    "duration-kept": Kind(
        Rank.STRUCTURE,
        "rows",
        "{total} is the time from {first} to {second} in {unit}, in all {of} rows that hold the three.",
        "{total} is derived; an association with its parts is no discovery.",
    ),
    "duration-broken": Kind(
        Rank.SUSPECT,
        "rows",
        "{total} is the time from {first} to {second} in {unit}, in all but {count} of the {of} rows"
        " that hold the three.",
        _LOOK,
    ),
}


def claim_of(kind: str, row: Mapping[str, Json], names: Mapping[str, str]) -> str:
    """The claim of a kind over one evidence row.

    Raises:
        KeyError: no such kind, or a blank that neither the row nor the names fill.
    """
    template = KINDS[kind]
    text = template.one if template.one and row.get("count") == 1 else template.many
    return text.format(**_words(row, names))


def next_step_of(kind: str, row: Mapping[str, Json], names: Mapping[str, str]) -> str:
    """What a person can do about a finding of this kind."""
    return KINDS[kind].next_step.format(**_words(row, names))


def share_text(count: int, of: int) -> str:
    """How many per cent `count` is of `of`, rounded half up to two places."""
    if not of:
        return "0.00"
    hundredths = (20_000 * count + of) // (2 * of)
    return f"{hundredths // 100}.{hundredths % 100:02}"


def _words(row: Mapping[str, Json], names: Mapping[str, str]) -> dict[str, str]:
    words = {name: f"{value:,}" if isinstance(value, int) else str(value) for name, value in row.items()}
    count, of = row.get("count"), row.get("of")
    if isinstance(count, int) and isinstance(of, int):
        words["share"] = share_text(count, of)
    return words | {name: text if name in _PLAIN else f"“{text}”" for name, text in names.items()}
