"""How a state looks: a word, a sign and a colour, so that no colour is ever the only carrier."""

from __future__ import annotations

import os
import sys

__all__ = ["STATES", "local_time", "paint", "state_word", "table"]

# state -> (sign, ASCII sign, ANSI colour)
STATES: dict[str, tuple[str, str, str]] = {
    "ok": ("✓", "+", "32"),
    "failed": ("✗", "x", "31"),
    "na": ("–", "-", "33"),
    "running": ("›", ">", "36"),
    "waiting": ("…", ".", "36"),
    "needs you": ("!", "!", "35"),
    "broken": ("■", "#", "31;1"),
}


def state_word(state: str, *, colour: bool | None = None) -> str:
    """`✓ ok`, in colour where the terminal wants it."""
    sign, ascii_sign, code = STATES[state]
    shown = sign if _speaks_unicode() else ascii_sign
    return paint(f"{shown} {state}", code, colour=colour)


def paint(words: str, code: str, *, colour: bool | None = None) -> str:
    """The words in an ANSI colour, or plain where colour is off."""
    on = _wants_colour() if colour is None else colour
    return f"\x1b[{code}m{words}\x1b[0m" if on else words


def local_time(at_us: int) -> str:
    """A time for people: local, with its zone."""
    import datetime

    moment = datetime.datetime.fromtimestamp(at_us / 1e6, tz=datetime.UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S %Z")


def table(rows: list[list[str]], heads: list[str]) -> str:
    """Columns padded to their widest cell; the last column is not padded."""
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    lines = []
    for row in [heads, *rows]:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _wants_colour() -> bool:
    quiet = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not quiet


def _speaks_unicode() -> bool:
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    return encoding == "utf8" and os.environ.get("TERM") != "dumb"
