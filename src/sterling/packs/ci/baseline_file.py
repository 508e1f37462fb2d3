"""A baseline as one file, sealed by its own hash.

The file travels between machines and caches, so it is trusted for nothing but
its seal: an edited, cut or foreign file is refused with exit 3 before anything
in it is believed. Layout and white space may change; content may not.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from sterling.kernel.canonical import CanonicalInvalid, Json, canonical_bytes
from sterling.kernel.errors import EXIT_BROKEN, EXIT_USAGE, SterlingError
from sterling.kernel.hashing import tagged_hash
from sterling.packs.ci.baseline import Baseline, baseline_from_json

__all__ = ["SUFFIX", "BaselineTampered", "BaselineUnreadable", "read_baseline_file", "write_baseline_file"]

SUFFIX = ".baseline.json"
_CONTRACT = "ci.baseline-file@1.0"
_TAG = b"sterling/ci.baseline-file/1"
_BYTES_MAX = 512 * 1024 * 1024


class BaselineTampered(SterlingError):
    """A baseline file is not what it was sealed as."""

    code = "ci.baseline-tampered"
    hint = (
        "Take the file from where it was captured, or capture again: `sterling ci baseline capture --help`."
    )
    exit = EXIT_BROKEN


class BaselineUnreadable(SterlingError):
    """There is no baseline file where one was named."""

    code = "baseline.unreadable"
    hint = "Name a NAME.baseline.json that `sterling ci baseline capture -o FILE -- COMMAND` wrote."
    exit = EXIT_USAGE


def write_baseline_file(baseline: Baseline, path: Path) -> str:
    """Write the file whole or not at all; returns its seal.

    Errors: BaselineUnreadable when the place cannot be written.
    """
    content = baseline.as_json()
    seal = _seal(content)
    text = json.dumps({"contract": _CONTRACT, "baseline": content, "seal": seal}, indent=1, sort_keys=True)
    growing = path.parent / f".{path.name}.{secrets.token_hex(4)}.incoming"
    try:
        growing.write_text(text + "\n", encoding="utf-8")
        os.replace(growing, path)
    except OSError as problem:
        with contextlib.suppress(OSError):
            growing.unlink(missing_ok=True)
        raise BaselineUnreadable(
            f"expected to write {path}, found {problem.strerror}", path=str(path)
        ) from problem
    return seal


def read_baseline_file(path: Path) -> Baseline:
    """The baseline in a file, its seal checked first.

    Errors: BaselineUnreadable for nothing, a folder, or bytes that never were a
            baseline; BaselineTampered for one that broke its seal.
    """
    try:
        # Opening a pipe would wait for a writer, and a device may never end.
        data = path.read_bytes() if stat.S_ISREG(path.stat().st_mode) else b""
    except FileNotFoundError:
        raise BaselineUnreadable(f"expected a baseline at {path}, found nothing", path=str(path)) from None
    except OSError as problem:
        raise BaselineUnreadable(
            f"expected a file at {path}, found {problem.strerror}", path=str(path)
        ) from problem
    if not data.lstrip()[:1] == b"{" or len(data) > _BYTES_MAX:
        raise BaselineUnreadable(f"expected a sealed baseline in {path}, found other bytes", path=str(path))
    value = _parsed(data, path)
    content = value.get("baseline")
    if value.get("contract") != _CONTRACT or not isinstance(content, dict) or "seal" not in value:
        raise BaselineUnreadable(f"expected {_CONTRACT} in {path}, found another document", path=str(path))
    try:
        found = _seal(content)
    except CanonicalInvalid as problem:
        raise _tampered(path, problem.message) from problem
    if found != value["seal"]:
        raise BaselineTampered(
            f"expected {path} to match its seal {value['seal']}, found {found}", path=str(path), found=found
        )
    try:
        baseline = baseline_from_json(content)
    except (KeyError, TypeError, AttributeError) as problem:
        # The seal holds, so the writer was not this program.
        raise _tampered(path, f"a sealed document of another shape ({problem})") from problem
    if baseline.key != content["key"]:
        raise _tampered(path, "a key that its parts do not give")
    return baseline


def _seal(content: Json) -> str:
    return tagged_hash(_TAG, canonical_bytes(content)).hex()


def _parsed(data: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise _tampered(path, f"a cut or damaged document ({str(problem)[:100]})") from problem
    assert isinstance(value, dict), "a document that starts with a brace is an object"
    return value


def _tampered(path: Path, what: str) -> BaselineTampered:
    return BaselineTampered(f"expected a sealed baseline in {path}, found {what}", path=str(path))
