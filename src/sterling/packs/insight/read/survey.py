"""One pass over the bytes of a text: is it UTF-8, what is odd in it, how many rows should it hold?

The count shares nothing with the readers: it deletes every byte but quotes and
line ends and counts the line ends that stand outside quotes. It is exact for
text that the fast reader may take (`Survey.plain`) and not used for other text.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from sterling.packs.insight.errors import UnreadableSource

__all__ = ["Survey", "survey"]

_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Survey:
    """What a text holds, apart from its cells.

    `lines` counts the line ends outside double quotes, plus a last line that
    has none. `plain` says that nothing in the text needs the careful reader.
    """

    size_bytes: int
    lines: int
    quotes: int
    nul: int
    line_feeds: int
    returns: int
    blank: bool
    lone_return: bool

    @property
    def plain(self) -> bool:
        return not (self.nul or self.blank or self.lone_return or not self.line_feeds)

    @property
    def newline(self) -> str:
        """The character that ends lines: a line feed where there is one."""
        return "\n" if self.line_feeds or not self.returns else "\r"


def survey(path: Path, *, quote: str = '"') -> Survey:
    """Read the whole file once.

    Errors: UnreadableSource at the first byte that is not UTF-8, naming byte and line.
    """
    decode = codecs.getincrementaldecoder("utf-8")()
    mark = quote.encode()
    delete = bytes(byte for byte in range(256) if byte not in (mark[0], 10))
    nul = feeds = returns = lines = quotes = size = 0
    blank = lone = inside = False
    tail = b"\n"  # A line end stands before the first line, so a blank first line is seen.
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            _check_utf8(decode, piece, size, feeds)
            joined = tail + piece
            blank = blank or b"\n\n" in joined or b"\n\r\n" in joined
            lone = lone or _lone_return(joined)
            nul += piece.count(0)
            feeds += piece.count(10)
            returns += piece.count(13)
            quotes += piece.count(mark)
            kept = _unpaired(piece.translate(None, delete), mark)
            for place, run in enumerate(kept):
                if not inside and run:
                    lines += len(run)
                if place + 1 < len(kept):
                    inside = not inside
            size += len(piece)
            tail = joined[-2:]
    _check_utf8(decode, b"", size, feeds, final=True)
    lone = lone or tail.endswith(b"\r")
    if size and not tail.endswith(b"\n"):
        lines += 1
    return Survey(size, lines, quotes, nul, feeds, returns, blank, lone)


def _unpaired(kept: bytes, mark: bytes) -> list[bytes]:
    """Runs of line ends between quotes; two quotes with no line end between them change nothing and go."""
    return kept.replace(mark + mark, b"").split(mark)


def _lone_return(joined: bytes) -> bool:
    """Whether a carriage return stands without its line feed; the last byte waits for the next piece."""
    if b"\r" not in joined:
        return False
    settled = joined[:-1] if joined.endswith(b"\r") else joined
    return settled.count(b"\r") != settled.count(b"\r\n")


def _check_utf8(
    decode: codecs.IncrementalDecoder, piece: bytes, before: int, lines: int, *, final: bool = False
) -> None:
    waiting = len(decode.getstate()[0])  # Bytes of a character that the last piece cut in two.
    try:
        decode.decode(piece, final)
    except UnicodeDecodeError as problem:
        place = before - waiting + problem.start
        line = lines + piece[: max(0, problem.start - waiting)].count(10) + 1
        raise UnreadableSource(
            f"expected text in UTF-8, found a byte that is not at byte {place:,} (line {line:,})",
            hint="If a program on Windows wrote it, try `sterling analyze FILE --encoding cp1252`.",
            byte=place,
            line=line,
        ) from problem
