"""One JSON object on standard output, whatever names it holds.

A file's name may hold bytes that are no UTF-8. Python keeps them as lone
surrogates, which no encoder takes; they leave as JSON escapes, so that a
program that listens always gets one whole object in UTF-8.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["json_line"]


def json_line(document: dict[str, Any], *, sort_keys: bool = False) -> bytes:
    """A document on one line of UTF-8, whatever the terminal's encoding is."""
    return json.dumps(document, ensure_ascii=False, sort_keys=sort_keys).encode("utf-8", "backslashreplace")
