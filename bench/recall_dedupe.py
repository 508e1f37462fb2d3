"""What duplicate filters lose: changes of one digit, one line, one caret, kept or taken for the same picture.

Ours stores every picture whose bytes differ. The rivals are two published rules
for screen recorders, re-implemented here: drop a frame whose mean structural
similarity to the last one (8 x 8 blocks) is at least 0.9, and drop a frame whose
64-bit perceptual hash (DCT of 32 x 32) differs in fewer than 4 bits. The figure
is the number of changed pictures that each would have lost.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageMath
from recall_screens import FONTS, LAST, blank
from report import line, parse_arguments

from sterling.packs.recall.pixels.store import FrameStore
from sterling.packs.recall.pixels.tiles import Picture

SIZE = (1920, 1080)


def main() -> None:
    arguments = parse_arguments("changes that duplicate filters lose")
    count = 12 if arguments.quick else 100
    for case, change in (
        ("one digit", one_digit),
        ("one line", one_line),
        ("caret", caret),
        ("one pixel", one_pixel),
    ):
        lost = {"ours": 0, "ssim": 0, "phash": 0}
        for before, after in pairs(change, count):
            lost["ours"] += not ours_keeps(before, after)
            lost["ssim"] += similarity(before, after) >= 0.9
            lost["phash"] += distance(perceptual_hash(before), perceptual_hash(after)) < 4
        for rival, name in (("ssim", "global SSIM >= 0.9"), ("phash", "64-bit perceptual hash < 4")):
            line(
                bench="recall_dedupe",
                case=f"{case} changed",
                ours=lost["ours"],
                against=lost[rival],
                rival=name,
                unit=f"lost of {count}",
                must="0",
                accepted=count,
                history=count,
                runs=1,
            )


def page(dice: random.Random) -> Image.Image:
    """A full page of plain text."""
    drawn = blank("page", "writer", SIZE)
    for row in range(38):
        words = " ".join(dice.choice(LAST).lower() for _ in range(dice.randint(6, 24)))
        drawn.text((40, 30 + 27 * row), words, 15)
    return drawn.image


def pairs(
    change: Callable[[Image.Image, random.Random], tuple[Image.Image, Image.Image]], count: int
) -> Iterator[tuple[Image.Image, Image.Image]]:
    """Pictures before and after one small change; the change is checked to be there."""
    dice = random.Random(20_260_301)
    for _ in range(count):
        before, after = change(page(dice), dice)
        assert before.tobytes() != after.tobytes(), "the renderer changed nothing"
        yield before, after


def written(image: Image.Image, at: tuple[int, int], words: str) -> Image.Image:
    changed = image.copy()
    font = ImageFont.truetype(str(FONTS / "DejaVuSans.ttf"), 15)
    ImageDraw.Draw(changed).text(at, words, font=font, fill=(24, 24, 24))
    return changed


def one_digit(image: Image.Image, dice: random.Random) -> tuple[Image.Image, Image.Image]:
    at = (1600, dice.randint(60, 1000))
    figure = dice.randint(100_000, 999_999)
    old, new = f"balance {figure}", f"balance {figure - figure % 10 + (figure + 3) % 10}"
    return written(image, at, old), written(image, at, new)


def one_line(image: Image.Image, dice: random.Random) -> tuple[Image.Image, Image.Image]:
    return image, written(image, (1100, 1058), " ".join(dice.choice(LAST) for _ in range(6)))


def caret(image: Image.Image, dice: random.Random) -> tuple[Image.Image, Image.Image]:
    changed = image.copy()
    left, top = dice.randint(1500, 1900), dice.randint(20, 1000)
    ImageDraw.Draw(changed).line((left, top, left, top + 17), fill=(0, 0, 0))
    return image, changed


def one_pixel(image: Image.Image, dice: random.Random) -> tuple[Image.Image, Image.Image]:
    changed = image.copy()
    changed.putpixel((dice.randint(0, SIZE[0] - 1), dice.randint(0, SIZE[1] - 1)), (254, 255, 253))
    return image, changed


def ours_keeps(before: Image.Image, after: Image.Image) -> bool:
    """Whether our store takes the second picture for a new frame."""
    store = FrameStore(lambda data: "0" * 64, lambda digest: None)
    first = store.look("s", Picture(*SIZE, before.tobytes()))
    store.remember("s", first)
    second = store.look("s", Picture(*SIZE, after.tobytes()))
    return not second.same and second.frame_hash != first.frame_hash


def similarity(before: Image.Image, after: Image.Image) -> float:
    """Mean SSIM over blocks of 8 x 8 grey pixels (Wang, Bovik, Sheikh, Simoncelli 2004)."""
    one, two = before.convert("L").convert("F"), after.convert("L").convert("F")

    def product(a: Image.Image, b: Image.Image) -> Image.Image:
        multiplied: Any = ImageMath.lambda_eval(lambda given: given["a"] * given["b"], a=a, b=b)
        return multiplied.reduce(8)  # type: ignore[no-any-return]

    means = [list(image.reduce(8).get_flattened_data()) for image in (one, two)]
    squares = [list(product(image, image).get_flattened_data()) for image in (one, two)]
    mixed = list(product(one, two).get_flattened_data())
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for m1, m2, s1, s2, s12 in zip(*means, *squares, mixed, strict=True):
        variance, covariance = s1 - m1 * m1 + s2 - m2 * m2, s12 - m1 * m2
        values.append(
            (2 * m1 * m2 + c1) * (2 * covariance + c2) / ((m1 * m1 + m2 * m2 + c1) * (variance + c2))
        )
    return statistics.fmean(values)


def perceptual_hash(image: Image.Image) -> int:
    """Sixty-four bits: the low frequencies of a 32 x 32 DCT against their median."""
    small = list(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS).get_flattened_data())
    waves = [[math.cos(math.pi * (2 * x + 1) * u / 64) for x in range(32)] for u in range(8)]
    rows = [[sum(small[32 * y + x] * wave[x] for x in range(32)) for wave in waves] for y in range(32)]
    low = [sum(rows[y][u] * wave[y] for y in range(32)) for wave in waves for u in range(8)]
    middle = statistics.median(low[1:])
    return sum((value > middle) << place for place, value in enumerate(low))


def distance(one: int, other: int) -> int:
    return (one ^ other).bit_count()


if __name__ == "__main__":
    main()
