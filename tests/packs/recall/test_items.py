"""What a path offers: folders, sets, single images, and everything that is none of these."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sterling.kernel.errors import SterlingError
from sterling.packs.recall.ingest.items import NothingToIngest, PathMissing, SetInvalid, list_offer


def image(path: Path) -> Path:
    Image.new("RGB", (8, 8), (1, 2, 3)).save(path)
    return path


def a_set(folder: Path, *lines: Any, about: Any = None) -> Path:
    folder.mkdir(exist_ok=True)
    image(folder / "a.png")
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / "frames.jsonl").write_text(text, encoding="utf-8")
    if about is not None:
        (folder / "set.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


GOOD = {"id": "a", "file": "a.png", "ts": "2026-03-01T10:00:00Z"}


def test_a_folder_offers_its_images_by_time_with_their_sidecars(tmp_path: Path) -> None:
    for name, at in (("late", "2026-03-01T12:00:00"), ("early", "2026-03-01T09:00:00")):
        image(tmp_path / f"{name}.png")
        said = {"ts": at, "app": "mail", "title": "Inbox", "monitor": 2, "extra": [1]}
        (tmp_path / f"{name}.json").write_text(json.dumps(said), encoding="utf-8")
    (tmp_path / "notes.txt").write_text("not a picture", encoding="utf-8")

    offer = list_offer(tmp_path, zone="Europe/Berlin")

    assert [item.name for item in offer.items] == ["early.png", "late.png"]
    assert offer.items[0].context == {"app": "mail", "title": "Inbox"}
    assert offer.items[0].monitor == "2"
    assert offer.items[0].at_us == 1_772_352_000_000_000


def test_an_image_without_sidecar_has_only_the_time_of_its_file(tmp_path: Path) -> None:
    (item,) = list_offer(image(tmp_path / "one.png"), zone="UTC").items

    assert item.at_us is None
    assert item.file_us > 0


@pytest.mark.parametrize(
    "sidecar",
    ["{", "[]", '{"ts": "yesterday"}', '{"ts": 12, "zone": "Nowhere/At-All"}', '{"title": ["x"]}', "\x00"],
)
def test_a_sidecar_that_cannot_be_used_refuses_its_picture_only(tmp_path: Path, sidecar: str) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "b.png")
    (tmp_path / "a.json").write_text(sidecar, encoding="utf-8")

    items = {item.name: item for item in list_offer(tmp_path, zone="UTC").items}

    assert items["a.png"].refusal and not items["b.png"].refusal


def test_a_set_takes_its_zone_and_name_from_its_own_file(tmp_path: Path) -> None:
    line = {**GOOD, "ts": "2026-07-01T10:00:00"}
    offer = list_offer(a_set(tmp_path / "s", line, about={"name": "mine", "zone": "Asia/Tokyo"}), zone="UTC")

    assert (offer.name, offer.zone, offer.source) == ("mine", "Asia/Tokyo", "set")
    assert offer.items[0].at_us == 1_782_867_600_000_000


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "JSON"),
        ("[1]", "object"),
        ({**GOOD, "id": ""}, "id"),
        ({**GOOD, "id": 5}, "id"),
        ({"id": "b", "file": "a.png"}, "ts"),
        ({**GOOD, "id": "b", "ts": "soon"}, "ISO 8601"),
        ({**GOOD, "id": "b", "zone": "Mars/Base"}, "zone"),
        ({**GOOD, "id": "b", "file": "../outside.png"}, "inside"),
        ({**GOOD, "id": "b", "file": "/etc/hostname"}, "inside"),
        ({**GOOD, "id": "b", "file": 7}, "file"),
        ({"id": "b", "ts": GOOD["ts"]}, "neither"),
        (GOOD, "once"),
    ],
    ids=range(12),
)
def test_a_broken_line_of_a_set_is_named(tmp_path: Path, line: Any, words: str) -> None:
    with pytest.raises(SetInvalid) as caught:
        list_offer(a_set(tmp_path / "s", GOOD, line), zone="UTC")

    assert "frames.jsonl, line 2" in caught.value.message
    assert words in caught.value.message
    assert caught.value.exit == 2


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    folder = a_set(tmp_path / "s", GOOD)
    with (folder / "frames.jsonl").open("ab") as file:
        file.write(b'{"id": "\xff"}\n')

    with pytest.raises(SetInvalid, match="line 2"):
        list_offer(folder, zone="UTC")


@pytest.mark.parametrize("kind", [None, "images", "set"])
def test_a_missing_path_is_said(tmp_path: Path, kind: str | None) -> None:
    with pytest.raises(PathMissing):
        list_offer(tmp_path / "nothing", zone="UTC", kind=kind)


def test_an_empty_folder_and_an_empty_set_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(NothingToIngest):
        list_offer(tmp_path, zone="UTC")
    with pytest.raises(NothingToIngest):
        list_offer(a_set(tmp_path / "s"), zone="UTC")


@pytest.mark.parametrize("zone", ["", "Berlin", "../UTC", "UTC\x00", "x" * 200])
def test_an_unknown_zone_is_refused(tmp_path: Path, zone: str) -> None:
    image(tmp_path / "a.png")

    with pytest.raises(SterlingError) as caught:
        list_offer(tmp_path, zone=zone)

    assert caught.value.code == "recall.zone-unknown"
