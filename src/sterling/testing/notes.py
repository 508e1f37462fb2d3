"""Notes: a record contract for tests that has two major versions, and the step between them.

It shows what a breaking change ships: a second schema, and a pure function from
the old document to the new one.
"""

from __future__ import annotations

from sterling.kernel.canonical import Json
from sterling.kernel.upcast import upcaster

__all__ = ["note_2"]


@upcaster("testing.note", 1)
def note_2(document: Json) -> Json:
    """A note of version 1 as one of version 2: text becomes lines, an empty author nobody."""
    return {"lines": document["text"].split("\n"), "written_by": document.get("author") or None}
