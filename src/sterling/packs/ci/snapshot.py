"""What the workspace held when a run ended badly: every file's path, mode, size and hash.

Taken on any exit other than "passed" and "tests failed", and whenever a file did
not load, so that the cause can be settled after the workspace is gone. Contents
are kept for the files that the errors name, up to a bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from sterling.kernel.blobs import Blobs
from sterling.kernel.canonical import Json, canonical_bytes
from sterling.packs.ci.facts import COMPLETE, PARTIAL, Facts, clean_text

__all__ = ["FILES_MAX", "is_wanted", "named_files", "take_snapshot"]

FILES_MAX = 200_000
_CONTENTS_MAX = 200
_CONTENT_BYTES_MAX = 1024 * 1024
_NAMED = re.compile(r"(?P<path>[\w./\\-]+\.(?:py|pyi|toml|cfg|ini|json|txt))\b")


def is_wanted(facts: Facts) -> bool:
    """Whether a run ended in a way that needs a snapshot to explain it."""
    return facts.exit_class not in ("ok", "tests_failed") or bool(facts.collectors)


def named_files(facts: Facts, texts: Iterable[str]) -> tuple[str, ...]:
    """Paths inside the tree that failures and error streams name, sorted."""
    words = [*texts, *facts.collectors]
    words += [f"{found.message} {found.cause}" for found in facts.collectors.values()]
    words += [result.cause for result in facts.tests.values() if result.cause]
    return tuple(sorted({found["path"].lstrip("./") for text in words for found in _NAMED.finditer(text)}))


def take_snapshot(
    tree: Path,
    listing: Sequence[dict[str, Json]],
    *,
    tree_sha256: str,
    named: Iterable[str],
    sys_path: Sequence[str],
    cwd: str,
    blobs: Blobs,
    readable: bool = True,
) -> dict[str, Json]:
    """The `ci.snapshot` document; the listing goes to a blob of its own.

    `listing` is the tree's: path, mode, size and hash of every file.
    """
    contents: dict[str, str] = {}
    complete = readable and len(listing) <= FILES_MAX
    for name in named:
        file = tree / name
        if not file.is_file() or file.is_symlink():
            continue
        if len(contents) >= _CONTENTS_MAX or file.stat().st_size > _CONTENT_BYTES_MAX:
            complete = False
            continue
        contents[name] = blobs.put_file(file)
    return {
        "tree": tree_sha256,
        "files": {"blob": blobs.put(canonical_bytes(list(listing))), "count": len(listing)},
        "contents": dict(sorted(contents.items())),
        "contents_facet": COMPLETE if complete else PARTIAL,
        "sys_path": [clean_text(path) for path in sys_path],
        "cwd": clean_text(cwd),
    }
