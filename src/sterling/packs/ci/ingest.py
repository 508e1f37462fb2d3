"""Files into facts: each report is stored as a blob first, then read from the blob.

What is hashed is what is read, so a report that changes while it is looked at
cannot say two things. A file that is missing or a folder is wrong usage; a file
that is empty, torn, hostile or of no known shape gives facts with a fault, on
which nothing passes.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from sterling.kernel.blobs import Blobs
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.packs.ci.exits import ProcessEnd
from sterling.packs.ci.facts import Facts, Pointer, Reading, clean_text
from sterling.packs.ci.identity import PathMap, file_of
from sterling.packs.ci.reports.detect import HEAD_BYTES, detect
from sterling.packs.ci.reports.junit import read_junit
from sterling.packs.ci.reports.pytest_json import read_pytest_json
from sterling.packs.ci.reports.reconcile import reconcile

__all__ = [
    "BYTES_MAX",
    "ReportMissing",
    "ReportNotFile",
    "expand_reports",
    "ingest_blobs",
    "ingest_reports",
    "read_report",
]

BYTES_MAX = 2 * 1024**3


class ReportMissing(SterlingError):
    """No file matches the name of a report."""

    code = "report.path-missing"
    hint = "Name the report a test run wrote; `sterling ci ingest --help` lists the shapes it reads."
    exit = EXIT_USAGE


class ReportNotFile(SterlingError):
    """The name of a report is a folder or a device."""

    code = "report.not-a-file"
    hint = "Name files, or a quoted pattern such as 'out/*.xml'. See `sterling ci ingest --help`."
    exit = EXIT_USAGE


def expand_reports(patterns: Iterable[str], *, base: Path | None = None) -> list[Path]:
    """The files that these names and patterns stand for, each once, in order of their names.

    Errors: ReportMissing for a name or pattern that matches nothing, ReportNotFile.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        text = str(base / pattern) if base is not None else pattern
        matches = [text] if os.path.lexists(text) else sorted(glob.glob(text, recursive=True))
        if not matches:
            raise ReportMissing(f"expected a report at {pattern}, found nothing", path=pattern)
        for match in matches:
            path = Path(match)
            if not path.is_file():
                kind = "a folder" if path.is_dir() else "no regular file"
                raise ReportNotFile(f"expected a file at {match}, found {kind}", path=match)
            found[path] = None
    return sorted(found)


def ingest_reports(
    files: Sequence[tuple[str, Path]],
    *,
    blobs: Blobs,
    listing: Iterable[str] = (),
    end: ProcessEnd | None = None,
    runner: str = "",
    root: str = "",
) -> Facts:
    """The facts of one run from its reports, each given as (name to show, path).

    `listing` names the files of the tree, so that dotted names can be placed.
    Errors: blob.source-unreadable, blob.no-space.
    """
    stored = [(clean_text(name), blobs.put_file(path)) for name, path in files]
    return ingest_blobs(stored, blobs=blobs, listing=listing, end=end, runner=runner, root=root)


def ingest_blobs(
    stored: Sequence[tuple[str, str]],
    *,
    blobs: Blobs,
    listing: Iterable[str] = (),
    end: ProcessEnd | None = None,
    runner: str = "",
    root: str = "",
) -> Facts:
    """As `ingest_reports`, for reports that are blobs already: (name, address)."""
    readings: list[tuple[Pointer, Reading]] = []
    paths = set(listing)
    waiting: list[tuple[str, str, int]] = []
    for name, address in stored:
        size = blobs.file(address).stat().st_size
        with blobs.file(address).open("rb") as stream:
            if detect(stream.read(HEAD_BYTES)) == "junit":
                waiting.append((name, address, size))
                continue
            stream.seek(0)
            reading = read_report(stream, PathMap())
        readings.append((Pointer(name, address, reading.shape, size), reading))
        # Node ids of the JSON report name files, which places the dotted names of JUnit.
        paths.update(file_of(test) for test in reading.tests)
        paths.update(reading.collectors)
    known = PathMap(paths)
    for name, address, size in waiting:
        with blobs.file(address).open("rb") as stream:
            reading = read_report(stream, known, runner=runner, root=root)
        readings.append((Pointer(name, address, reading.shape, size), reading))
    return reconcile(readings, end, runner=runner)


def read_report(stream: BinaryIO, paths: PathMap, *, runner: str = "", root: str = "") -> Reading:
    """What one report states, whatever its shape."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if size > BYTES_MAX:
        because = f"The report is larger than {BYTES_MAX} bytes."
        return Reading("unknown", "", None, {}, {}, {}, fault="ci.report-hostile", because=because)
    shape = detect(stream.read(HEAD_BYTES))
    stream.seek(0)
    if shape == "junit":
        return read_junit(stream, paths, runner=runner, root=root)
    if shape == "pytest_json":
        return read_pytest_json(stream)
    code, because = {
        "empty": ("ci.report-empty", "The report holds nothing."),
        "unknown": ("ci.report-unknown", "The report is neither JUnit XML nor a pytest JSON report."),
    }[shape]
    return Reading(shape, "", None, {}, {}, {}, fault=code, because=because)
