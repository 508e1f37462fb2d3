"""Which reader a source gets, told from its first bytes and never from its name alone.

Refuses what is missing, a folder, empty, packed beyond reason, or of a kind
that no reader here reads; each refusal names what was found.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from sterling.packs.insight.errors import LimitExceeded, UnreadableSource, UnsupportedFormat
from sterling.packs.insight.read.delimited import read_delimited
from sterling.packs.insight.read.model import RawTable, ReadOptions
from sterling.packs.insight.read.parquet import read_parquet

__all__ = ["check_source", "read_source", "spoken"]

_HEAD_BYTES = 8192
_PIECE_BYTES = 1024 * 1024
_RATIO_FLOOR_BYTES = 64 * 1024 * 1024  # Small files may pack as well as they like.
_FEED_BYTES = 16 * 1024  # Fed to zstd at a time, so that one step of a bomb stays small.
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_MARKS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "a ZIP or Excel workbook"),
    (0, b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (0, b"SQLite format 3\x00", "a SQLite database"),
    (8, b"DUCK", "a DuckDB database"),
    (0, b"ARROW1", "an Arrow file"),
    (0, b"%PDF", "a PDF"),
    (0, b"\x7fELF", "a program"),
    (0, b"\x89PNG", "a picture"),
    (0, b"\xff\xd8\xff", "a picture"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\x00", "an xz archive"),
)
_TEXT_MARKS = (b"\xff\xfe", b"\xfe\xff")
_CONTROLS = bytes(byte for byte in range(32) if byte not in (0, 9, 10, 11, 12, 13, 27))


def check_source(path: Path) -> None:
    """Refuse what cannot be a source before anything is copied.

    Errors: UnreadableSource (missing, a folder, not a plain file, empty).
    """
    if not path.exists():
        raise UnreadableSource(f"expected a file, found nothing at {spoken(path)}", reason="missing")
    if path.is_dir():
        raise UnreadableSource(
            f"expected one file, found the folder {spoken(path)}",
            hint="Name one CSV, TSV or Parquet file inside it; see `sterling analyze --help`.",
            reason="directory",
        )
    if not path.is_file():
        raise UnreadableSource(
            f"expected a plain file, found something else at {spoken(path)}", reason="not-a-file"
        )
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.read(1)
    except OSError as problem:
        raise UnreadableSource(
            f"expected a file that may be read, found: {problem.strerror}", reason="not-readable"
        ) from problem
    if not size:
        raise UnreadableSource("expected a header and rows, found an empty file", reason="empty")


def spoken(path: Path | str) -> str:
    """A path as text that any document can hold: bytes that are no UTF-8 become a mark."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def read_source(path: Path, name: str, scratch: Path, options: ReadOptions) -> RawTable:
    """Read the source at `path`, called `name` by the person, into `scratch`.

    Errors: UnreadableSource, UnsupportedFormat, LimitExceeded.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    lowered = name.lower()
    if head.startswith((_GZIP, _ZSTD)):
        path = _unpack(path, head, scratch, options)
        lowered = lowered.rsplit(".", 1)[0]
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    if head.startswith(b"PAR1"):
        return read_parquet(path, scratch, options)
    _refuse_other_kinds(head, lowered)
    return read_delimited(path, scratch, tab_first=lowered.endswith((".tsv", ".tab")), options=options)


def _refuse_other_kinds(head: bytes, name: str) -> None:
    kind = next((said for at, mark, said in _MARKS if head[at : at + len(mark)] == mark), None)
    if kind is None and name.endswith((".json", ".jsonl", ".ndjson")) and head.lstrip()[:1] in (b"{", b"["):
        kind = "JSON"
    if kind is None and name.endswith(".parquet"):
        raise UnreadableSource(
            "expected a Parquet file by its name, found other bytes (torn or mislabelled)", reason="torn"
        )
    if kind is None and not head.startswith(_TEXT_MARKS) and _is_binary(head):
        kind = "binary content"
    if kind is not None:
        raise UnsupportedFormat(f"expected CSV, TSV or Parquet, found {kind}", found=kind)


def _is_binary(head: bytes) -> bool:
    """Whether over a tenth of the first bytes are NUL or control characters."""
    odd = len(head) - len(head.translate(None, b"\x00" + _CONTROLS))
    return odd * 10 > len(head)


def _unpack(path: Path, head: bytes, scratch: Path, options: ReadOptions) -> Path:
    target = scratch / "unpacked"
    packed = path.stat().st_size
    limits = options.limits
    allowed = min(limits.unpacked_bytes, max(_RATIO_FLOOR_BYTES, packed * limits.unpacked_ratio))
    written = 0
    try:
        with target.open("wb") as out:
            for piece in _gzip_pieces(path) if head.startswith(_GZIP) else _zstd_pieces(path):
                written += len(piece)
                if written > allowed:
                    raise LimitExceeded(
                        f"expected at most {allowed:,} unpacked bytes, found more", allowed=allowed
                    )
                out.write(piece)
    except (OSError, EOFError, zlib.error, ValueError) as problem:
        raise UnreadableSource(
            f"expected a whole packed file, found one that is torn: {problem}", reason="torn"
        ) from problem
    if not written:
        raise UnreadableSource("expected a header and rows, found an empty packed file", reason="empty")
    return target


def _gzip_pieces(path: Path) -> Iterator[bytes]:
    with gzip.open(path) as stream:
        while piece := stream.read(_PIECE_BYTES):
            yield piece


def _zstd_pieces(path: Path) -> Iterator[bytes]:
    """The unpacked bytes, frame after frame.

    Raises:
        ValueError: the last frame is cut short, or the bytes are not zstd.
    """
    import zstandard

    frame = None
    with path.open("rb") as file:
        while fed := file.read(_FEED_BYTES):
            while fed:
                if frame is None:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                try:
                    yield frame.decompress(fed)
                except zstandard.ZstdError as problem:
                    raise ValueError(str(problem)) from problem
                fed = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
    if frame is not None:
        raise ValueError("the last frame has no end")
