"""Untrusted text for a terminal: shown, never obeyed.

Control characters, escape sequences, bidirectional overrides and invisible tag
characters become visible escapes, so no text out of evidence can move the
cursor, set a title or reorder a line.
"""

from __future__ import annotations

import unicodedata

__all__ = ["text"]

_HIDDEN = frozenset(
    (
        *(0x061C, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2060, 0xFEFF),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        *range(0xE0000, 0xE0080),
    )
)


def text(untrusted: str, *, width: int = 0) -> str:
    """The text with everything invisible made visible; cut to `width` characters with a count, if given."""
    shown = "".join(_visible(letter) for letter in untrusted)
    if width and len(shown) > width:
        return f"{shown[:width]}… (+{len(shown) - width})"
    return shown


def _visible(letter: str) -> str:
    code = ord(letter)
    if 0x20 <= code < 0x7F:
        return letter
    if letter == "\n":
        return "\\n"
    if letter == "\t":
        return "\\t"
    if code in _HIDDEN or unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"):
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{{{code:x}}}"
    return letter
