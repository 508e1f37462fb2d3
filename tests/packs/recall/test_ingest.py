"""Ingest: every look is an event, equal pictures cost nothing, nothing is taken twice or lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home, init_home, open_home
from sterling.kernel.shipped import package_root
from sterling.packs.recall.ingest.ingest import ingest
from sterling.packs.recall.pixels.read import rebuild
from sterling.packs.recall.search.index import open_index
from sterling.runtime.runs import read_run

FONT = ImageFont.truetype("/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf", 15)


def draw(path: Path, words: str, *, at: str | None = None) -> Path:
    image = Image.new("RGB", (320, 200), (250, 250, 250))
    ImageDraw.Draw(image).text((20, 90), words, font=FONT, fill=(0, 0, 0))
    image.save(path)
    if at is not None:
        said = {"ts": f"2026-03-02T{at}Z", "title": "Page"}
        path.with_suffix(".json").write_text(json.dumps(said), encoding="utf-8")
    return path


def ticks(home: Home) -> list[dict[str, object]]:
    return [record.document for record in home.records.read("recall.tick")]


def test_every_look_is_a_tick_and_equal_pictures_are_one_frame(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number, words in enumerate(("one", "one", "two", "one")):
        draw(folder / f"{number}.png", words, at=f"10:0{number}:00")

    report = ingest(folder, home)

    assert [tick["outcome"] for tick in ticks(home)] == ["new", "same", "new", "known"]
    assert [tick["n"] for tick in ticks(home)] == [0, 1, 2, 3]
    assert (report.taken.frames, report.taken.same, report.taken.known) == (2, 1, 1)
    assert report.complete == 2
    assert read_run(home, report.run).state == "ok"


def test_one_changed_digit_is_always_a_new_frame(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for digit in range(10):
        draw(folder / f"{digit}.png", f"balance 1048{digit}.20", at=f"10:00:0{digit}")

    report = ingest(folder, home)

    assert report.taken.frames == 10


def test_one_changed_pixel_is_a_new_frame_and_reads_back_exactly(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    draw(folder / "a.png", "page", at="10:00:00")
    image = Image.open(draw(folder / "b.png", "page", at="10:01:00"))
    image.putpixel((319, 199), (250, 250, 251))
    image.save(folder / "b.png")

    ingest(folder, home)

    second = list(home.records.read("recall.frame"))[1].document
    picture = rebuild(second["manifest"], second["frame_hash"], home.blobs.get)
    assert picture.rgb == image.tobytes()
    assert second["new_tiles"] == 1


def test_ingesting_again_from_anywhere_adds_nothing(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    draw(folder / "a.png", "page", at="10:00:00")
    draw(folder / "b.png", "other")
    ingest(folder, home)
    records = sum(1 for _ in home.ledger.read(kind="record.put"))

    os.utime(folder / "b.png", (1, 1))
    (tmp_path / "moved").mkdir()
    folder.rename(tmp_path / "moved" / "in")
    again = ingest(tmp_path / "moved" / "in", home)

    assert (again.taken.accepted, again.taken.repeated, again.taken.ticks) == (0, 2, 0)
    assert sum(1 for _ in home.ledger.read(kind="record.put")) == records


def test_a_later_ingest_goes_on_numbering_and_knows_old_pictures(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    draw(folder / "a.png", "page", at="10:00:00")
    ingest(folder, home)
    draw(folder / "b.png", "page", at="10:01:00")
    draw(folder / "c.png", "new page", at="10:02:00")

    report = ingest(folder, home)

    assert [(tick["n"], tick["outcome"]) for tick in ticks(home)] == [(0, "new"), (1, "same"), (2, "new")]
    assert report.taken.repeated == 1
    assert report.taken.tiles < 20


def test_unreadable_files_are_kept_named_and_stop_nothing(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    whole = draw(folder / "whole.png", "page").read_bytes()
    (folder / "torn.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "words.png").write_bytes(b"no picture")

    report = ingest(folder, home)

    assert report.taken.accepted == 1
    assert sorted(item.item for item in report.taken.refused) == ["empty.png", "torn.png", "words.png"]
    assert {item.code for item in report.taken.refused} == {"recall.image-unreadable"}
    failed = [tick for tick in ticks(home) if tick["outcome"] == "failed"]
    assert sorted(len(home.blobs.get(str(tick["blob"]))) for tick in failed) == [0, 10, len(whole) // 2]
    assert read_run(home, report.run).state == "failed"


def test_files_refused_before_are_refused_again_and_add_nothing(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    draw(folder / "whole.png", "page")
    (folder / "empty.png").write_bytes(b"")
    first = ingest(folder, home)
    seen = len(ticks(home))

    again = ingest(folder, home)

    assert again.taken.repeated == 1 and len(ticks(home)) == seen
    assert [item.item for item in first.taken.refused + again.taken.refused] == ["empty.png", "empty.png"]
    assert read_run(home, again.run).state == "failed"


def test_looks_before_and_after_an_unreadable_one_are_numbered_without_a_hole(
    home: Home, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    draw(folder / "a.png", "one", at="10:00:00")
    (folder / "b.png").write_bytes(b"torn")
    (folder / "b.json").write_text(json.dumps({"ts": "2026-03-02T10:01:00Z"}), encoding="utf-8")
    draw(folder / "c.png", "two", at="10:02:00")

    ingest(folder, home)

    assert [(tick["n"], tick["outcome"]) for tick in ticks(home)] == [(0, "new"), (1, "failed"), (2, "new")]


def test_an_item_that_somebody_else_took_meanwhile_is_refused_by_the_ledger(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "a.png", "one", at="10:00:00")
    ingest(tmp_path / "a.png", home)
    real = home.records.has
    monkeypatch.setattr(home.records, "has", lambda record: real(record) and not record_is_item(home, record))

    with pytest.raises(SterlingError) as caught:
        ingest(tmp_path / "a.png", home)

    assert caught.value.code == "ledger.precondition"
    assert len(ticks(home)) == 1


def record_is_item(home: Home, record: str) -> bool:
    return home.records.get(record).contract.startswith("recall.item")


def test_a_picture_that_had_lost_pixels_is_kept_as_it_came_too(home: Home, tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 30).save(tmp_path / "a.jpg")

    ingest(tmp_path / "a.jpg", home)

    (tick,) = ticks(home)
    assert home.blobs.get(str(tick["blob"])) == (tmp_path / "a.jpg").read_bytes()
    assert next(iter(home.records.read("recall.frame"))).document["lossy"]


def test_lines_of_a_set_without_pixels_or_file_are_refused_by_name(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    draw(folder / "a.png", "page")
    lines = [
        {"id": "a", "file": "a.png", "ts": "2026-03-01T10:00:00Z"},
        {"id": "b", "text": "only words", "ts": "2026-03-01T10:01:00Z"},
        {"id": "c", "file": "gone.png", "ts": "2026-03-01T10:02:00Z"},
    ]
    (folder / "frames.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    report = ingest(folder, home)

    assert report.taken.accepted == 1
    assert {item.item: item.code for item in report.taken.refused} == {
        "b": "recall.no-pixels",
        "c": "recall.image-unreadable",
    }


def test_monitors_are_streams_of_their_own(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        path = draw(folder / f"{number}.png", f"page {number}", at=f"10:0{number}:00")
        said = json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) | {"monitor": number % 2}
        path.with_suffix(".json").write_text(json.dumps(said), encoding="utf-8")

    ingest(folder, home)

    assert sorted((str(tick["stream"])[-1], tick["n"]) for tick in ticks(home)) == [
        ("0", 0),
        ("0", 1),
        ("1", 0),
        ("1", 1),
    ]


def test_a_frame_whose_pixels_were_changed_before_its_marker_is_not_whole(home: Home, tmp_path: Path) -> None:
    from sterling.packs.recall.ingest import ingest as module

    draw(tmp_path / "a.png", "page")
    real = module.mark_frames

    def after_tampering(home: Home, index: object, run: str, step: str) -> object:
        frame = next(iter(home.records.read("recall.frame"))).document
        path = home.blobs.path(frame["bundles"][0])
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-1] + b"\x00")
        return real(home, index, run, step)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "mark_frames", after_tampering)
        report = ingest(tmp_path / "a.png", home)

    outcomes = {row["step"]: (row["state"], row["reason"]) for row in read_run(home, report.run).outcomes}
    assert outcomes["complete"] == ("failed", "recall.stage1-incomplete")
    with open_index(home) as index:
        assert index.connection.execute("SELECT state FROM stage1").fetchall() == [("failed",)]
    (marker,) = home.records.read("recall.stage1")
    states = {check["check"]: check["state"] for check in marker.document["checks"]}
    assert (states["blobs"], states["manifest"]) == ("failed", "failed")


@pytest.mark.parametrize("wait_ms", [60, 160, 320])
def test_killed_in_the_middle_and_repeated_everything_is_there_once(tmp_path: Path, wait_ms: int) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(30):
        draw(folder / f"{number:02}.png", f"page {number % 12}", at=f"10:00:{number:02}")
    path = tmp_path / "home"
    init_home(path).close()
    program = (
        "import sys; from pathlib import Path; from sterling.kernel.home import open_home\n"
        "from sterling.packs.recall.ingest.ingest import ingest\n"
        "with open_home(Path(sys.argv[1])) as home:\n"
        "    print('ready', flush=True); ingest(Path(sys.argv[2]), home)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(package_root().parent)}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path), str(folder)], stdout=subprocess.PIPE, env=environment
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(wait_ms / 1000)
        child.send_signal(signal.SIGKILL)

    with open_home(path) as home:
        report = ingest(folder, home)
        documents = ticks(home)

        assert report.taken.accepted + report.taken.repeated == 30
        assert [tick["n"] for tick in documents] == list(range(30))
        assert len({tick["item"] for tick in documents}) == 30
        with open_index(home) as index:
            assert index.connection.execute("SELECT count(*) FROM frames").fetchone() == (12,)
            assert index.connection.execute(
                "SELECT count(*) FROM stage1 WHERE state = 'complete'"
            ).fetchone() == (12,)
        for frame in home.records.read("recall.frame"):
            rebuild(frame.document["manifest"], frame.document["frame_hash"], home.blobs.get)
