"""Which characters cut a delimited text, and whether its first record holds names.

Pure: a sample of the text in, a `Dialect` out. Every candidate cuts the sample
with the same code that will cut the file; the one whose records agree most on
their number of cells wins, ties go to the candidate named first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from sterling.kernel.canonical import Json
from sterling.packs.insight.read.records import Quoting, Record, TooLong, scan

__all__ = ["DELIMITERS", "Dialect", "looks_like_names", "sniff"]

DELIMITERS = (",", "\t", ";", "|")
_RECORDS_MAX = 500
_AGREEING_MIN = 0.9
_PREAMBLE_MAX = 20  # Title lines above the header; more than this is another kind of file.

_VALUE = re.compile(
    r"""[+-]?[$€£¥]?\s?\d[\d.,' ]*\s?%?([eE][+-]?\d+)?      # a number, with currency or per cent
      | \d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?           # a date, maybe with a time
      | \d{1,2}:\d{2}(:\d{2})?                             # a time of day
      | true|false|nan|null|n/a|\#n/a""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a text is to be cut. `skip` counts the records before the header."""

    delimiter: str
    quote: str
    escape: str
    header: bool
    skip: int
    header_by: str  # "sniffed" or "given"
    delimiter_by: str

    @property
    def quoting(self) -> Quoting:
        return Quoting(self.delimiter, self.quote, self.escape)

    def document(self, encoding: str) -> dict[str, Json]:
        """The dialect as it stands in the source record."""
        return {
            "delimiter": self.delimiter,
            "quote": self.quote,
            "escape": self.escape,
            "header": self.header,
            "skipped": self.skip,
            "encoding": encoding,
            "header_by": self.header_by,
            "delimiter_by": self.delimiter_by,
        }


@dataclass(frozen=True, slots=True)
class _Reading:
    quoting: Quoting
    records: tuple[list[str], ...]
    cells: int
    score: float


def sniff(
    lines: Sequence[str],
    *,
    tab_first: bool = False,
    delimiter: str | None = None,
    header: bool | None = None,
) -> Dialect:
    """The dialect of these lines (with their line ends, the last one complete).

    `delimiter` and `header` are what the person said; they are taken as they are.
    """
    delimiters = (delimiter,) if delimiter is not None else DELIMITERS
    readings = [_read(lines, quoting) for one in delimiters for quoting in _quotings(lines, one)]
    if tab_first:
        readings = [
            _favoured(reading) if reading.quoting.delimiter == "\t" else reading for reading in readings
        ]
    best = max(readings, key=lambda reading: reading.score)  # max keeps the first of equals.
    skip = _preamble(best)
    records = best.records[skip:]
    names = header if header is not None else looks_like_names(records)
    return Dialect(
        delimiter=best.quoting.delimiter,
        quote=best.quoting.quote,
        escape=best.quoting.escape,
        header=names,
        skip=skip,
        header_by="sniffed" if header is None else "given",
        delimiter_by="sniffed" if delimiter is None else "given",
    )


def looks_like_names(records: Sequence[list[str]]) -> bool:
    """Whether the first record holds column names.

    It does not when one of its cells is a number, a date or a truth value,
    unless every cell below it in that column is a number and the record also
    names a column of text, as years over figures do (`country,2019,2020`).
    """
    if not records:
        return True
    first, below = records[0], records[1:]
    filled = [cell.strip() for cell in first if cell.strip()]
    if not filled:
        return False
    odd = [place for place, cell in enumerate(first) if _VALUE.fullmatch(cell.strip())]
    if not odd:
        return True
    years = all(re.fullmatch(r"(19|20)\d\d", first[place].strip()) for place in odd)
    distinct = len({first[place].strip() for place in odd}) == len(odd)
    if not (years and distinct and len(odd) < len(filled) and len(odd) > 1 and below):
        return False
    figures = [row[place].strip() for row in below for place in odd if place < len(row)]
    return any(not re.fullmatch(r"(19|20)\d\d|", figure) for figure in figures)


def _quotings(lines: Sequence[str], delimiter: str) -> list[Quoting]:
    """The quotings worth trying: an odd one only where the sample shows its marks."""
    text = "".join(lines)
    found = [Quoting(delimiter, '"', '"')]
    if '\\"' in text:
        found.append(Quoting(delimiter, '"', "\\"))
    edge = re.escape(delimiter)
    if re.search(rf"(?m)(^|{edge})'[^'\n]*'({edge}|\r?$)", text):
        found.append(Quoting(delimiter, "'", "'"))
    return found


def _read(lines: Sequence[str], quoting: Quoting) -> _Reading:
    try:
        records = list(islice(scan(lines, quoting), _RECORDS_MAX))
    except TooLong:
        return _Reading(quoting, (), 0, -1.0)
    whole = tuple(record.cells for record in records if record.reason is None)
    return _Reading(quoting, whole, *_score(records, whole, quoting))


def _favoured(reading: _Reading) -> _Reading:
    """A file named for its tabs is cut at tabs where they cut it at all."""
    return replace(reading, score=reading.score + (0.25 if reading.cells > 1 else 0.0))


def _score(records: list[Record], whole: Sequence[list[str]], quoting: Quoting) -> tuple[int, float]:
    """The usual number of cells, and how well the records agree on it."""
    widths = Counter(len(cells) for cells in whole)
    if not widths:
        return 0, -1.0
    usual, agreeing = max(widths.items(), key=lambda item: (item[1], item[0]))
    share = agreeing / len(records)
    if usual == 1:
        return 1, 0.5 * share  # One column is what is left when nothing cuts the lines.
    first_agrees = next((len(cells) == usual for cells in whole if len(cells) > 1), False)
    score = share + (0.5 if first_agrees else 0.0) + (0.0 if share < _AGREEING_MIN else 1.0)
    marks = sum(cell.startswith('"') or cell.endswith('"') for cells in whole[:50] for cell in cells)
    return usual, score + min(usual, 1_000) * 1e-4 - marks * 1e-2


def _preamble(reading: _Reading) -> int:
    """How many records of one cell stand before the first one that is as wide as usual."""
    if reading.cells < 2:
        return 0
    for place, cells in enumerate(reading.records[: _PREAMBLE_MAX + 1]):
        if len(cells) == reading.cells:
            return place
        if len(cells) > 1:
            return 0
    return 0
