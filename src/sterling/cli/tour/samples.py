"""Whether the samples are the files that were shipped."""

from __future__ import annotations

from pathlib import Path

from sterling.kernel.hashing import hash_file

__all__ = ["check_samples", "listing"]

SUMS = "SHA256SUMS"


def check_samples(samples: Path) -> list[str]:
    """Names of samples that are missing or are other bytes than `SHA256SUMS` says, in order."""
    bad = []
    for line in (samples / SUMS).read_text(encoding="ascii").splitlines():
        expected, _, name = line.partition("  ")
        file = samples / name
        if not file.is_file() or hash_file(file) != expected:
            bad.append(name)
    return bad


def listing(samples: Path) -> str:
    """What `SHA256SUMS` should hold: one `HASH  NAME` line a file, as `sha256sum` prints it."""
    files = sorted(
        path for path in samples.rglob("*")
        if path.is_file() and path.name != SUMS and "__pycache__" not in path.parts
    )  # fmt: skip
    return "".join(f"{hash_file(file)}  {file.relative_to(samples).as_posix()}\n" for file in files)
