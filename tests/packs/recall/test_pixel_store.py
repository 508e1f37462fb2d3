"""The pixel store: equal things once, every stored byte guarded."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from sterling.kernel.blobs import BlobAbsent, BlobAltered, Blobs
from sterling.kernel.errors import SterlingError
from sterling.packs.recall.pixels.bundle import BundleUnreadable, pack, unpack
from sterling.packs.recall.pixels.manifest import ManifestInvalid, encode_key, load_layout, placed_in
from sterling.packs.recall.pixels.read import FrameAltered, crop, rebuild
from sterling.packs.recall.pixels.store import FrameStore, Looked, Stored
from sterling.packs.recall.pixels.tiles import Grid, Picture

FONT = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    (tmp_path / "blobs" / ".incoming").mkdir(parents=True)
    return Blobs(tmp_path / "blobs")


@pytest.fixture
def store(blobs: Blobs) -> FrameStore:
    return FrameStore(blobs.put, lambda digest: None)


def page(clock: str = "12:00", *, size: tuple[int, int] = (500, 300), caret: bool = False) -> Picture:
    image = Image.new("RGB", size, (255, 255, 255))
    pen = ImageDraw.Draw(image)
    for line in range(6):
        pen.text(
            (20, 20 + 40 * line),
            f"line {line} of a plain page",
            font=ImageFont.truetype(str(FONT), 15),
            fill=0,
        )
    pen.text((430, 270), clock, font=ImageFont.truetype(str(FONT), 13), fill=0)
    if caret:
        pen.line((101, 18, 101, 40), fill=0)
    return Picture(*size, image.tobytes())


def take(store: FrameStore, picture: Picture, stream: str = "s") -> tuple[Looked, Stored]:
    looked = store.look(stream, picture)
    stored = store.store(stream, looked)
    store.remember(stream, looked)
    return looked, stored


def test_a_stored_frame_comes_back_pixel_for_pixel(store: FrameStore, blobs: Blobs) -> None:
    looked, stored = take(store, page())

    assert rebuild(stored.manifest, looked.frame_hash, blobs.get) == page()


def test_a_clock_digit_stores_at_most_four_tiles(store: FrameStore, blobs: Blobs) -> None:
    take(store, page("12:00"))

    looked, stored = take(store, page("12:01"))

    assert 1 <= stored.new_tiles <= 4
    assert rebuild(stored.manifest, looked.frame_hash, blobs.get) == page("12:01")


def test_an_equal_picture_is_seen_as_the_same_without_hashing(store: FrameStore) -> None:
    take(store, page())

    assert store.look("s", page()).same
    assert not store.look("other", page()).same


def test_a_blinking_caret_stores_tiles_for_two_pictures_in_all(store: FrameStore) -> None:
    fresh = [take(store, page(caret=number % 2 == 0))[1].new_tiles for number in range(6)]

    assert fresh[0] > 0 and fresh[1] > 0
    assert fresh[2:] == [0, 0, 0, 0]


def test_only_a_small_change_gives_a_delta_manifest(store: FrameStore, blobs: Blobs) -> None:
    first = take(store, page("12:00"))[1]
    second = take(store, page("12:01"))[1]
    inverse = Picture(500, 300, bytes(255 - byte for byte in page().rgb))
    third = take(store, inverse)[1]

    bases = [load_layout(stored.manifest, blobs.get).base for stored in (first, second, third)]

    assert bases == ["", first.manifest, ""]


def test_after_sixty_four_frames_comes_a_new_key_manifest(store: FrameStore, blobs: Blobs) -> None:
    manifests = [take(store, page(f"{n // 60:02}:{n % 60:02}"))[1].manifest for n in range(66)]
    keys = [n for n, manifest in enumerate(manifests) if load_layout(manifest, blobs.get).base == ""]

    assert keys == [0, 64]


def test_another_size_starts_a_key_manifest_and_reads_back(store: FrameStore, blobs: Blobs) -> None:
    take(store, page())

    looked, stored = take(store, page(size=(321, 129)))

    assert rebuild(stored.manifest, looked.frame_hash, blobs.get) == page(size=(321, 129))


def test_flipping_any_byte_of_any_stored_blob_is_found(store: FrameStore, blobs: Blobs) -> None:
    looked, stored = take(store, page(size=(130, 70)))
    addresses = list(blobs.addresses())

    for address in addresses:
        path = blobs.path(address)
        path.chmod(0o600)
        original = path.read_bytes()
        for place in range(0, len(original), max(1, len(original) // 40)):
            path.write_bytes(original[:place] + bytes([original[place] ^ 1]) + original[place + 1 :])
            with pytest.raises(BlobAltered):
                rebuild(stored.manifest, looked.frame_hash, blobs.get)
        path.write_bytes(original)
    assert len(addresses) == 2
    assert rebuild(stored.manifest, looked.frame_hash, blobs.get) == page(size=(130, 70))


def test_a_store_that_lies_about_bytes_is_found_by_the_hashes_alone(store: FrameStore, blobs: Blobs) -> None:
    looked, stored = take(store, page())
    swapped = Picture(500, 300, page("12:34").rgb)
    other, forged = take(FrameStore(blobs.put, lambda digest: None), swapped)
    lie = {stored.bundles[0]: blobs.get(forged.bundles[0])}

    with pytest.raises((FrameAltered, BundleUnreadable)):
        rebuild(stored.manifest, looked.frame_hash, lambda address: lie.get(address) or blobs.get(address))
    with pytest.raises(FrameAltered):
        rebuild(forged.manifest, looked.frame_hash, blobs.get)
    assert other.frame_hash != looked.frame_hash


def test_a_missing_bundle_is_named(store: FrameStore, blobs: Blobs) -> None:
    looked, stored = take(store, page())
    blobs.path(stored.bundles[0]).unlink()

    with pytest.raises(BlobAbsent):
        rebuild(stored.manifest, looked.frame_hash, blobs.get)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"tile": 32},
        {"width": 0},
        {"width": "500"},
        {"bundles": ["../x"]},
        {"base": "short"},
        {"tiles": [["zz", 0, 0]]},
        {"tiles": [["00" * 32, 9, 0]]},
        {"tiles": [["00" * 32, -1, 0]]},
        {"grid": [[0, 0]]},
        {"grid": [[99999, 0]]},
        {"grid": [[0, 99999]]},
        {"grid": "none"},
    ],
    ids=str,
)
def test_a_manifest_that_is_not_whole_is_refused(
    store: FrameStore, blobs: Blobs, change: dict[str, Any]
) -> None:
    import zstandard

    from sterling.kernel.canonical import canonical_bytes, parse_canonical

    stored = take(store, page())[1]
    plain = zstandard.ZstdDecompressor().decompress(blobs.get(stored.manifest))
    document = parse_canonical(plain, limit=len(plain)) | change
    forged = blobs.put(zstandard.ZstdCompressor().compress(canonical_bytes(document)))

    with pytest.raises(SterlingError) as caught:
        rebuild(forged, "0" * 64, blobs.get)

    assert caught.value.code in (
        "recall.manifest-invalid",
        "recall.frame-altered",
        "recall.bundle-unreadable",
    )


@pytest.mark.parametrize("data", [b"", b"not compressed", pack([bytes(range(256)) * 9])[:60]])
def test_torn_bundles_and_manifests_are_refused(data: bytes) -> None:
    with pytest.raises(BundleUnreadable):
        unpack(data)
    with pytest.raises(ManifestInvalid):
        placed_in(data)


def test_a_manifest_places_every_tile_once(store: FrameStore, blobs: Blobs) -> None:
    stored = take(store, page())[1]
    layout = load_layout(stored.manifest, blobs.get)

    assert len(layout.places) == Grid(500, 300).count
    assert set(placed_in(encode_key(layout))) == {place.hash for place in layout.places}


def test_a_crop_holds_the_pixels_of_its_box(screens: ModuleType) -> None:
    picture = page()

    part = crop(picture, (430, 270, 470, 290))

    expected = Image.frombytes("RGB", (500, 300), picture.rgb).crop((430, 270, 470, 290)).tobytes()
    assert part == Picture(40, 20, expected)
