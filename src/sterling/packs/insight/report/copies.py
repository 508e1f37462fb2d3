"""The copies of a report that lie in a person's folder: whether they are still what was written.

A copy that was moved or removed is the person's affair, and so is a folder that
holds another run's report by now: a later run may write over an earlier one. A
copy that lies where it was written, beside a report.json that still names its
run or cannot be read, and holds other bytes, is a report that somebody changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sterling.kernel.canonical import parse_strict
from sterling.kernel.errors import SterlingError
from sterling.kernel.hashing import hash_file
from sterling.kernel.home import Home

__all__ = ["check_copies"]

_REPORT_BYTES_MAX = 16 * 1024 * 1024


def check_copies(home: Home, run_id: str) -> Iterator[tuple[str, str]]:
    """Each copy of the run that is still there, with what is wrong with it (empty: nothing)."""
    for entry in home.ledger.read(kind="insight.report-written", run=run_id):
        folder = Path(entry.payload["folder"])
        if _holds_another_run(folder, run_id):
            continue
        for file in entry.payload["files"]:
            path = folder / file["name"]
            if not path.is_file():
                continue
            found, expected = hash_file(path), file["sha256"]
            words = f"expected the written bytes {expected[:12]}, found {found[:12]}"
            yield f"the copy {path}", "" if found == expected else words


def _holds_another_run(folder: Path, run_id: str) -> bool:
    """Whether the folder's report.json says that it is the report of another run."""
    path = folder / "report.json"
    if not path.is_file() or path.stat().st_size > _REPORT_BYTES_MAX:
        return False
    try:
        named = parse_strict(path.read_bytes(), limit=_REPORT_BYTES_MAX)["telemetry"]["run"]
    except (SterlingError, KeyError, TypeError):
        return False
    return isinstance(named, str) and named != run_id
