"""What a distinct picture costs: bytes on disk, time to take it in, time to read it back.

The frames are a replayed hour of plain work: text typed into a page, lines
appended to a terminal, a clock that ticks, windows that switch. Rivals code each
whole frame by itself: PNG, lossless WebP (method 4), WebP at quality 85. The
floor of taking a frame in is a memory compare, SHA-256 of the changed bytes and
one fsync.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from recall_screens import LAST, blank
from report import line, parse_arguments

from sterling.kernel.blobs import Blobs
from sterling.packs.recall.pixels.read import rebuild
from sterling.packs.recall.pixels.store import FrameStore
from sterling.packs.recall.pixels.tiles import Picture, changed_tiles, cut

SIZE = (1920, 1080)


def main() -> None:
    arguments = parse_arguments("bytes and time of a distinct picture")
    count = 30 if arguments.quick else 240
    frames = work(count)
    sizes: dict[str, list[int]] = {"png": [], "webp": [], "q85": []}
    times: dict[str, list[float]] = {
        name: [] for name in ("look", "take", "floor", "webp", "read", "png-read")
    }
    with tempfile.TemporaryDirectory(dir=".") as folder:
        ours = take_all(Path(folder), frames, sizes, times)
    bytes_of = {name: sum(values) / count for name, values in sizes.items()}
    shared = {"accepted": count, "history": count, "runs": count}
    for rival, name, must in (
        ("png", "PNG of each frame", "<= 0.5"),
        ("webp", "lossless WebP of each frame", "<= 1.0"),
        ("q85", "WebP quality 85 of each frame", "<= 0.9"),
    ):
        line(
            bench="recall_store",
            case="stored bytes a distinct frame",
            ours=ours / count,
            against=bytes_of[rival],
            rival=name,
            unit="bytes",
            must=must,
            **shared,
        )
    middle = {name: statistics.median(values) for name, values in times.items()}
    line(
        bench="recall_store",
        case="compare and hash, median",
        ours=middle["look"],
        against=50.0,
        rival="50 ms at 1080p",
        unit="ms",
        must="<= 1.0",
        **shared,
    )
    line(
        bench="recall_store",
        case="taking a frame in, median",
        ours=middle["take"],
        against=middle["webp"],
        rival="lossless WebP of the frame",
        unit="ms",
        must="<= 0.2",
        **shared,
    )
    line(
        bench="recall_store",
        case="taking a frame in, median",
        ours=middle["take"],
        against=middle["floor"],
        rival="compare + hash + fsync",
        unit="ms",
        must="<= 3",
        **shared,
    )
    line(
        bench="recall_store",
        case="reading a frame back, median",
        ours=middle["read"],
        against=middle["png-read"],
        rival="PNG decode",
        unit="ms",
        must="<= 3",
        **shared,
    )


def work(count: int) -> list[Image.Image]:
    """Screens of an hour of plain work, all distinct."""
    dice = random.Random(7)
    typed: dict[str, list[str]] = {"writer": [], "terminal": []}
    frames = []
    for number in range(count):
        app = "terminal" if (number // 10) % 3 == 2 else "writer"
        lines = typed[app]
        if not lines or len(lines[-1]) > 110:
            lines.append("")
        lines[-1] = f"{lines[-1]} {dice.choice(LAST).lower()}".strip()
        drawn = blank(app, app, SIZE, dark=app == "terminal")
        for row, words in enumerate(lines[-36:]):
            drawn.text((40, 40 + 27 * row), words, 15, mono=app == "terminal")
        drawn.text((1840, 8), f"{9 + number // 60:02}:{number % 60:02}", 14)
        frames.append(drawn.image)
    return frames


def take_all(
    folder: Path, frames: list[Image.Image], sizes: dict[str, list[int]], times: dict[str, list[float]]
) -> int:
    """Take every frame in, ours and the rivals interleaved; returns our stored bytes."""
    (folder / "blobs" / ".incoming").mkdir(parents=True)
    blobs = Blobs(folder / "blobs")
    store = FrameStore(blobs.put, lambda digest: None)
    before: Picture | None = None
    descriptor = os.open(folder / "floor", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for image in frames:
        picture = Picture(*SIZE, image.tobytes())
        look_ms, looked = timed(store.look, "s", picture)
        store_ms, stored = timed(store.store, "s", looked)
        store.remember("s", looked)
        times["look"].append(look_ms)
        times["take"].append(look_ms + store_ms)
        times["floor"].append(timed(floor, before, picture, descriptor)[0])
        webp_ms, webp = timed(coded, image, "WEBP", lossless=True, method=4)
        times["webp"].append(webp_ms)
        png = coded(image, "PNG")
        for name, data in (("webp", webp), ("png", png), ("q85", coded(image, "WEBP", quality=85))):
            sizes[name].append(len(data))
        times["read"].append(timed(rebuild, stored.manifest, looked.frame_hash, blobs.get)[0])
        times["png-read"].append(timed(decoded, png)[0])
        before = picture
    os.close(descriptor)
    return sum(blobs.path(address).stat().st_size for address in blobs.addresses())


def floor(before: Picture | None, after: Picture, descriptor: int) -> None:
    numbers = None if before is None else changed_tiles(before, after)
    data = b"".join(cut(after, numbers))
    hashlib.sha256(data).digest()
    os.write(descriptor, data)
    os.fsync(descriptor)


def coded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def decoded(data: bytes) -> None:
    Image.open(io.BytesIO(data)).load()


def timed(action: Callable[..., Any], *given: object, **options: object) -> tuple[float, Any]:
    """Milliseconds, and what the action gave."""
    start = time.perf_counter()
    result = action(*given, **options)
    return (time.perf_counter() - start) * 1000, result


if __name__ == "__main__":
    main()
