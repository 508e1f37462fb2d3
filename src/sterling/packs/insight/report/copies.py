"""The copies of a report that lie in a person's folder: whether they are still what was written.

A copy that was moved or removed is the person's affair. A copy that lies where
it was written and holds other bytes is a report that somebody changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sterling.kernel.hashing import hash_file
from sterling.kernel.home import Home

__all__ = ["check_copies"]


def check_copies(home: Home, run_id: str) -> Iterator[tuple[str, str]]:
    """Each copy that is still there, with what is wrong with it (empty: nothing)."""
    for entry in home.ledger.read(kind="insight.report-written", run=run_id):
        for file in entry.payload["files"]:
            path = Path(entry.payload["folder"]) / file["name"]
            if not path.is_file():
                continue
            found = hash_file(path)
            expected = file["sha256"]
            problem = (
                "" if found == expected else f"expected the written bytes {expected[:12]}, found {found[:12]}"
            )
            yield f"the copy {path}", problem
