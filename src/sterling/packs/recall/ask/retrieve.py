"""Screens that may hold an answer, looked up in the index.

Every word of the plan is looked up by its own forms and by its skeleton, in the
text of screens and in titles; the rarest words decide which screens are looked
at closely. Equal screens are ordered by time, newest first, then by entry.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from sterling.packs.recall.ask.plan import Plan, Wanted
from sterling.packs.recall.coverage import window_clause
from sterling.packs.recall.search.screens import Screen, load_screen
from sterling.packs.recall.search.support import Term, rarity
from sterling.packs.recall.search.words import skeleton
from sterling.packs.recall.time.window import Window

__all__ = ["Found", "Sighting", "find_screens", "sightings_of"]

_SCREENS_MAX = 150
_HEAD_TIMES = 1.4  # How much more the word counts that names what is asked for.
_ROWS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Found:
    """What a plan found: its terms with their rarity, the number of screens that hold each, the screens."""

    terms: tuple[Term, ...]
    counts: tuple[int, ...]
    screens: tuple[Screen, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Sighting:
    """One look that showed a frame."""

    tick: str
    entry: int
    at_us: int
    app: str
    title: str


def find_screens(
    connection: sqlite3.Connection, plan: Plan, windows: Sequence[Window], most: int = _SCREENS_MAX
) -> Found:
    """The screens in the windows that hold the plan's words, those with the rarest words first."""
    total = int(connection.execute("SELECT count(*) FROM documents").fetchone()[0])
    allowed = _frames_in(connection, windows)
    holders = [_holders(connection, wanted) for wanted in plan.wanted]
    terms = tuple(
        Term(
            wanted.text,
            wanted.keys,
            rarity(len(held), total) * (_HEAD_TIMES if wanted.head else 1.0),
            wanted.must,
            wanted.soft,
            wanted.follows,
            wanted.weak,
        )
        for wanted, held in zip(plan.wanted, holders, strict=True)
    )
    weights: dict[int, float] = {}
    for term, held in zip(terms, holders, strict=True):
        for entry in held:
            weights[entry] = weights.get(entry, 0.0) + (term.weight / 2 if term.soft else term.weight)
    entries = sorted(weights, key=lambda entry: (-round(weights[entry], 6), -entry))
    screens: list[Screen] = []
    for entry in entries:
        row = connection.execute("SELECT * FROM documents WHERE entry = ?", (entry,)).fetchone()
        if allowed is not None and row[3] not in allowed:
            continue
        screens.append(load_screen(row, _surroundings(connection, str(row[3]), windows)))
        if len(screens) >= most:
            break
    return Found(terms, tuple(len(held) for held in holders), tuple(screens), total)


def sightings_of(connection: sqlite3.Connection, frame: str, windows: Sequence[Window]) -> list[Sighting]:
    """Every look in the windows that showed a frame, oldest first."""
    where, values = window_clause(windows, "ticks.at_us")
    rows = connection.execute(
        f"""SELECT ticks.record, ticks.entry, ticks.at_us, coalesce(c.app, ''), coalesce(c.title, '')
            FROM ticks LEFT JOIN contexts c ON c.record = ticks.context
            WHERE ticks.frame = ? AND {where} ORDER BY ticks.at_us, ticks.entry""",
        [frame, *values],
    ).fetchall()
    return [Sighting(str(row[0]), int(row[1]), int(row[2]), str(row[3]), str(row[4])) for row in rows]


def _frames_in(connection: sqlite3.Connection, windows: Sequence[Window]) -> set[str] | None:
    if not windows:
        return None
    where, values = window_clause(windows)
    rows = connection.execute(f"SELECT DISTINCT frame FROM ticks WHERE frame <> '' AND {where}", values)
    return {str(row[0]) for row in rows}


def _holders(connection: sqlite3.Connection, wanted: Wanted) -> set[int]:
    """The documents whose text or titles hold a word, as far as the word index can tell."""
    query = _match(wanted)
    found = {
        int(row[0])
        for row in connection.execute(
            "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid DESC LIMIT ?", (query, _ROWS_MAX)
        )
    }
    rows = connection.execute(
        """SELECT DISTINCT d.entry FROM titles t JOIN ticks ON ticks.context = t.context
           JOIN documents d ON d.frame = ticks.frame WHERE titles MATCH ? ORDER BY d.entry DESC LIMIT ?""",
        (query, _ROWS_MAX),
    )
    return found | {int(row[0]) for row in rows}


def _match(wanted: Wanted) -> str:
    """A full-text query for all forms of a word; each form is quoted, so nothing in it is a command."""
    forms: list[str] = []
    related = tuple(key.removeprefix("~") for key in wanted.weak)
    for key in dict.fromkeys((*wanted.keys, *(skeleton(key) for key in wanted.keys), *related)):
        quoted = '"' + key.replace('"', '""') + '"'
        forms.append(f"{quoted}*" if len(key) >= 3 and key.isalpha() else quoted)
        if key.isdigit() and len(key) > 3:
            forms.append(f'"{int(key):,}"')
    return " OR ".join(forms)


def _surroundings(connection: sqlite3.Connection, frame: str, windows: Sequence[Window]) -> list[str]:
    where, values = window_clause(windows, "ticks.at_us")
    rows = connection.execute(
        f"""SELECT DISTINCT c.title, c.app, c.url FROM ticks JOIN contexts c ON c.record = ticks.context
            WHERE ticks.frame = ? AND {where} ORDER BY 1, 2, 3 LIMIT 50""",
        [frame, *values],
    ).fetchall()
    return [str(words) for row in rows for words in row if words]
