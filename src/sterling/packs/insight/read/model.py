"""What every reader takes and gives: limits, columns, rejected rows, the raw table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sterling.kernel.canonical import Json

__all__ = ["ROW", "Limits", "RawColumn", "RawTable", "ReadOptions", "name_columns"]

ROW = "_row"  # The row number, 1-based, in the order of the source; it joins raw and normalized.


@dataclass(frozen=True, slots=True)
class Limits:
    """What a source may ask of us before it is refused."""

    columns: int = 2_000
    cell_bytes: int = 1024 * 1024
    unpacked_bytes: int = 64 * 1024**3
    unpacked_ratio: int = 1_000  # Text seldom packs better than 1 : 100; a bomb packs 1 : 1,000 and more.


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the person said about the source; None means: find out."""

    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class RawColumn:
    """One column of the raw table: its unique name and what the source called it."""

    name: str
    original: str
    stored: str  # DuckDB's name of the stored type; VARCHAR for everything read from text.


@dataclass(frozen=True, slots=True)
class RawTable:
    """A source that has been read: every row is either in `path` or in `rejects`.

    `counted` is the number of rows in the source by a count that shares no
    code with the reading; readers refuse when rows + rejected differs from it.
    """

    path: Path
    rejects: Path
    columns: tuple[RawColumn, ...]
    rows: int
    rejected: int
    counted: int
    format: str
    dialect: Mapping[str, Json]
    notes: tuple[str, ...] = ()


def name_columns(originals: list[str]) -> list[str]:
    """Unique names: blank ones become `column_N`, repeated ones get `__2`, `__3`.

    Names are compared without case, because the query engine does so.
    """
    taken: set[str] = {ROW}
    names: list[str] = []
    for position, original in enumerate(originals, start=1):
        base = " ".join("".join(letter if letter.isprintable() else " " for letter in original).split())
        base = base or f"column_{position}"
        name, count = base, 1
        while name.casefold() in taken:
            count += 1
            name = f"{base}__{count}"
        taken.add(name.casefold())
        names.append(name)
    return names
