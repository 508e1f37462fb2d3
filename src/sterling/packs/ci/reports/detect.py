"""What shape a report has, told from its first bytes.

Only the outside is looked at: a file that starts like XML may still turn out
not to be JUnit, and its reader says so.
"""

from __future__ import annotations

__all__ = ["HEAD_BYTES", "detect"]

HEAD_BYTES = 4096

_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_SPACE = b" \t\r\n\x00"


def detect(head: bytes) -> str:
    """`junit`, `pytest_json`, `empty` or `unknown`."""
    for mark in _MARKS:
        head = head.removeprefix(mark)
    text = head.lstrip(_SPACE)
    if not text:
        # A page of zero bytes is not an empty report; it is no report at all.
        return "unknown" if b"\x00" in head else "empty"
    if text[:1] == b"<":
        return "junit"
    return "pytest_json" if text[:1] == b"{" else "unknown"
