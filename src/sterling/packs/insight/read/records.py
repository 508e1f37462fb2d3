"""Cutting delimited text into records, line by line, and naming those that are not whole.

Pure: lines in, records out. This is the careful way, used when the text is odd
(ragged, torn, NUL bytes, stray quotes) and as the second opinion on the fast
reader. A record that breaks a rule is given back with its line number, its
reason and its exact text, and reading goes on with the next line.

Rules: a quoted cell opens with a quote, spaces before it allowed; inside, the
quote is doubled (or escaped, when the dialect says so); after it only spaces
may stand before the delimiter. An empty line is no row.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["Quoting", "Record", "RejectReason", "TooLong", "scan"]

RejectReason = Literal[
    "before-header", "ragged", "torn-last-line", "nul-byte", "unclosed-quote", "text-after-quote"
]


@dataclass(frozen=True, slots=True)
class Quoting:
    """The three characters that cut cells; `escape` equals `quote` when quotes are doubled."""

    delimiter: str = ","
    quote: str = '"'
    escape: str = '"'


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the source: its cells, or the reason why it has none.

    `line` is the physical line it starts on (from 1), `ended` whether a line
    end follows it, `text` its exact characters when it is refused.
    """

    line: int
    cells: list[str]
    reason: RejectReason | None = None
    lines: int = 1
    text: str = ""
    ended: bool = True


class TooLong(Exception):
    """A cell, or the search for its closing quote, went past the limit."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class _Bad(Exception):
    """The line has text after a closing quote."""


class _Lines:
    """Lines with their numbers, and a way to put some back."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._back: deque[str] = deque()
        self.number = 0

    def next(self) -> str | None:
        line = self._back.popleft() if self._back else next(self._lines, None)
        if line is not None:
            self.number += 1
        return line

    def put_back(self, lines: list[str]) -> None:
        self._back.extendleft(reversed(lines))
        self.number -= len(lines)


class _Cutter:
    """Cuts one record, fed with one physical line at a time.

    Feeding lines keeps the work linear: a cell of many lines is never read twice.
    """

    def __init__(self, quoting: Quoting) -> None:
        self.delimiter = quoting.delimiter
        self.quote = quoting.quote
        quote, escape = re.escape(quoting.quote), re.escape(quoting.escape)
        if quoting.escape == quoting.quote:
            self._inside = re.compile(f"[^{quote}]*(?:{quote}{quote}[^{quote}]*)*")
            self._unescape = re.compile(f"{quote}({quote})")
        else:
            self._inside = re.compile(f"[^{quote}{escape}]*(?:{escape}.[^{quote}{escape}]*)*", re.DOTALL)
            self._unescape = re.compile(f"{escape}(.)", re.DOTALL)
        self._opening = re.compile(f" *{quote}")

    def cut(self, line: str, cells: list[str], parts: list[str]) -> bool:
        """Add the cells of this line to `cells`; True while a quoted cell stays open.

        `parts` holds the pieces of the open cell and is emptied when it closes.
        """
        body = line.rstrip("\r\n")
        at = 0
        if parts:
            at = self._close(line, body, 0, cells, parts)
            if at < 0:
                return True
            if at > len(body):
                return False
        while True:
            opening = self._opening.match(body, at)
            if opening is None:
                end = body.find(self.delimiter, at)
                cells.append(body[at:] if end < 0 else body[at:end])
                if end < 0:
                    return False
                at = end + 1
                continue
            at = self._close(line, body, opening.end(), cells, parts)
            if at < 0:
                return True
            if at > len(body):
                return False

    def _close(self, line: str, body: str, at: int, cells: list[str], parts: list[str]) -> int:
        """Read on in a quoted cell: the place after its delimiter, past the end, or -1 if still open."""
        inside = self._inside.match(line, at)
        assert inside is not None, "the pattern matches the empty text"
        parts.append(inside.group())
        if inside.end() >= len(line):
            return -1
        if line[inside.end()] != self.quote:
            return -1  # An escape character ends the line: the cell goes on.
        cells.append(self._unescape.sub(r"\1", "".join(parts)))
        parts.clear()
        at = inside.end() + 1
        while at < len(body) and body[at] == " " and self.delimiter != " ":
            at += 1
        if at >= len(body):
            return len(body) + 1
        if body[at] != self.delimiter:
            raise _Bad
        return at + 1


def scan(lines: Iterable[str], quoting: Quoting, *, cell_bytes: int = 1024 * 1024) -> Iterator[Record]:
    """Every record of the text in order; blank lines are passed over.

    `lines` keep their line ends. Field counts are not judged here.

    A quote that nothing closes, or that closes in the middle of a cell, costs
    the line it stands on; the lines after it are read again. One that nothing
    closes happens at most once: a later one would have closed it.

    Errors: TooLong when a cell passes `cell_bytes`.
    """
    source = _Lines(lines)
    cutter = _Cutter(quoting)
    while (line := source.next()) is not None:
        number = source.number
        body = line.rstrip("\r\n")
        if not body:
            continue
        if quoting.quote not in body:
            yield _whole(number, line, body.split(quoting.delimiter), line, cell_bytes)
        else:
            yield _quoted(source, cutter, number, line, cell_bytes)


def _whole(number: int, text: str, cells: list[str], last: str, cell_bytes: int, lines: int = 1) -> Record:
    if len(text) * 4 > cell_bytes and any(len(cell.encode()) > cell_bytes for cell in cells):
        raise TooLong(number)
    ended = last.endswith(("\n", "\r"))
    if "\x00" in text:
        return Record(number, [], "nul-byte", lines, text, ended)
    return Record(number, cells, lines=lines, text=text, ended=ended)


def _quoted(source: _Lines, cutter: _Cutter, number: int, first: str, cell_bytes: int) -> Record:
    cells: list[str] = []
    parts: list[str] = []
    taken = [first]
    size = len(first)
    try:
        is_open = cutter.cut(first, cells, parts)
        while is_open:
            line = source.next()
            if line is None:
                return _opened_badly(source, number, taken, "unclosed-quote")
            taken.append(line)
            size += len(line)
            if size > 2 * cell_bytes and sum(len(part.encode()) for part in parts) > cell_bytes:
                raise TooLong(number)
            is_open = cutter.cut(line, cells, parts)
    except _Bad:
        return _opened_badly(source, number, taken, "text-after-quote")
    return _whole(number, "".join(taken), cells, taken[-1], cell_bytes, len(taken))


def _opened_badly(source: _Lines, number: int, taken: list[str], reason: RejectReason) -> Record:
    """Refuse the line that opened the quote; the lines after it are read again."""
    source.put_back(taken[1:])
    return Record(number, [], reason, 1, taken[0], taken[0].endswith(("\n", "\r")))
