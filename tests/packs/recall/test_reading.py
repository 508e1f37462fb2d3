"""Reading: words with boxes, and an engine that sees nothing is told from a picture that holds nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sterling.kernel.home import Home, open_home
from sterling.packs.recall import stage2
from sterling.packs.recall.ingest.ingest import ingest
from sterling.packs.recall.ocr import language
from sterling.packs.recall.ocr.language import LanguageMissing, find_language_folder
from sterling.packs.recall.ocr.reading import (
    KNOWN_WORDS,
    EngineBlind,
    ReadingInvalid,
    further_looks,
    load_reading,
)
from sterling.packs.recall.stage2 import ReadingSource, read_all, unread_frames
from sterling.runtime.conductor import run_once
from sterling.runtime.engine import TaskEnd
from sterling.runtime.signals import Reading, Signal


class Idle:
    """A machine that nobody uses."""

    def read(self, clock: Any) -> list[Reading]:
        values = {
            Signal.IDLE_MS: 600_000,
            Signal.ACTIVE: False,
            Signal.FULLSCREEN: False,
            Signal.CPU_OTHER_BP: 0,
            Signal.RAM_USED_BP: 1_000,
        }
        return [Reading(signal, value, "test", clock.boot_us()) for signal, value in values.items()]


def reading(**change: Any) -> dict[str, Any]:
    token = {"text": "total", "box": [10, 10, 60, 24], "confidence_bp": 9000, "line": 1, "block": 1}
    return {
        "engine": "tesseract",
        "engine_version": "5",
        "models": [{"file": "eng.traineddata", "sha256": "0" * 64}],
        "probe": {"expected": KNOWN_WORDS, "read": KNOWN_WORDS},
        "tokens": [token],
    } | change


def written(path: Path, document: Any) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="ascii")
    return path


def test_the_words_of_a_day_are_read_with_boxes_inside_their_frames(read_home: Home) -> None:
    texts = [record.document for record in read_home.records.read("recall.text")]

    words = {token["text"] for text in texts for token in text["tokens"]}
    assert {"7702", "418.20", "431.70", "QX-17-204", "341", "06:40."} <= words
    for text in texts:
        frame = read_home.records.get(text["frame"]).document
        assert text["known"]["read"] == KNOWN_WORDS
        for token in text["tokens"]:
            left, top, right, bottom = token["box"]
            assert 0 <= left < right <= frame["width"] and 0 <= top < bottom <= frame["height"]


def test_an_empty_picture_gives_a_reading_without_words(home: Home, tmp_path: Path) -> None:
    Image.new("RGB", (200, 120), (40, 40, 40)).save(tmp_path / "blank.png")
    ingest(tmp_path / "blank.png", home)

    report = read_all(home)

    (text,) = [record.document for record in home.records.read("recall.text")]
    assert report.read == 1
    assert text["tokens"] == [] and text["known"]["read"] == KNOWN_WORDS
    assert unread_frames(home, 10) == []


def test_a_forced_pass_reads_what_is_due_and_a_second_one_finds_nothing(home: Home, drawn_day: Path) -> None:
    ingest(drawn_day, home)
    assert len(ReadingSource().due(home, 100)) == 4

    first = run_once(home, [ReadingSource()], force=True, sources=[Idle()])
    second = run_once(home, [ReadingSource()], force=True, sources=[Idle()])

    assert first.counts["completed"] == 4 and first.left == 0
    assert len(second.dispatches) == 0
    assert sum(1 for _ in home.records.read("recall.state-text")) == 4


def test_a_pass_reads_at_most_as_many_as_it_may_and_the_rest_stays_due(home: Home, drawn_day: Path) -> None:
    ingest(drawn_day, home)

    run_once(home, [ReadingSource()], force=True, limit=1, sources=[Idle()])

    assert len(unread_frames(home, 100)) == 3


def test_reading_twice_gives_the_same_records(home: Home, drawn_day: Path, read_home: Home) -> None:
    ingest(drawn_day, home)
    read_all(home)

    one = [(record.id, record.hash) for record in home.records.read("recall.state-text")]

    assert one == [(record.id, record.hash) for record in read_home.records.read("recall.state-text")]


def test_frames_without_a_whole_marker_are_never_due(
    home: Home, drawn_day: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sterling.packs.recall.ingest import ingest as module
    from sterling.packs.recall.ingest.stage1 import Marked

    monkeypatch.setattr(module, "mark_frames", lambda home, index, run, step: Marked(0, ()))

    ingest(drawn_day, home)

    assert unread_frames(home, 100) == []


@pytest.mark.parametrize("index", ["fresh", "behind", "none"])
def test_what_is_due_is_known_in_a_home_opened_for_reading(home: Home, drawn_day: Path, index: str) -> None:
    ingest(drawn_day, home)
    run_once(home, [ReadingSource()], force=True, limit=1, sources=[Idle()])
    due = [frame for frame, _ in unread_frames(home, 10)]
    path = home.path
    if index == "fresh":
        unread_frames(home, 1)
    home.close()
    if index == "none":
        (path / "index" / "recall.db").unlink()

    with open_home(path, read_only=True) as opened:
        found = [job.key.rpartition("/")[2] for job in ReadingSource().due(opened, 10)]

    assert found == due and len(found) == 3


def test_missing_language_data_fails_the_job_by_name_and_records_nothing(
    home: Home, drawn_day: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(drawn_day, home)
    monkeypatch.setattr(stage2, "find_language_folder", lambda languages: find_language_folder(languages, ()))

    report = run_once(home, [ReadingSource()], force=True, sources=[Idle()])

    assert {(dispatch.end, dispatch.reason) for dispatch in report.dispatches} == {
        ("failed", "recall.language-missing")
    }
    assert list(home.records.read("recall.text")) == []
    assert stage2.last_failure(home) is not None


def test_a_missing_library_fails_the_job_by_name(
    home: Home, drawn_day: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sterling.runtime.preflight import Facts

    ingest(drawn_day, home)
    source = ReadingSource()
    job = source.due(home, 1)[0]
    source.start(job)
    monkeypatch.setattr(stage2, "gather_facts", lambda: Facts())

    end = source.accept(home, job, TaskEnd(job.key, "raised", message="ModuleNotFoundError: tesserocr"))

    assert (end.end, end.reason) == ("failed", "need.library-missing")


@pytest.mark.parametrize("end", ["raised", "died", "limit", "hung", "protocol", "invalid", "returned"])
def test_a_worker_that_left_no_reading_fails_the_job_and_records_nothing(
    home: Home, drawn_day: Path, end: str
) -> None:
    ingest(drawn_day, home)
    source = ReadingSource()
    job = source.due(home, 1)[0]
    source.start(job)

    found = source.accept(home, job, TaskEnd(job.key, end, reason="limit.memory" if end == "limit" else ""))

    assert found.end == "failed" and "." in found.reason
    assert list(home.records.read("recall.text")) == []


@pytest.mark.parametrize(
    "document",
    [
        "",
        "{",
        "[]",
        {},
        reading(tokens=None),
        reading(tokens=[{"text": "x"}]),
        reading(tokens=[{"text": "x", "box": [0, 0, 0, 0]}]),
        reading(tokens=[{"text": "x", "box": [10, 10, 2000, 20]}]),
        reading(tokens=[{"text": "x", "box": [-1, 0, 5, 5]}]),
        reading(tokens=[{"text": "x", "box": "none"}]),
    ],
    ids=range(10),
)
def test_a_reading_that_is_not_whole_is_refused(tmp_path: Path, document: Any) -> None:
    with pytest.raises(ReadingInvalid):
        load_reading(written(tmp_path / "reading.json", document), 800, 600)


@pytest.mark.parametrize("seen", ["", "STERLING", "STERLING 4821", "noise"])
def test_an_engine_that_cannot_read_the_known_picture_is_blind(tmp_path: Path, seen: str) -> None:
    document = reading(probe={"expected": KNOWN_WORDS, "read": seen}, tokens=[])

    with pytest.raises(EngineBlind):
        load_reading(written(tmp_path / "reading.json", document), 800, 600)


def test_an_engine_that_was_shown_another_picture_is_not_believed(tmp_path: Path) -> None:
    document = reading(probe={"expected": "", "read": ""}, tokens=[])

    with pytest.raises(EngineBlind):
        load_reading(written(tmp_path / "reading.json", document), 800, 600)


def test_a_missing_reading_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadingInvalid):
        load_reading(tmp_path / "none.json", 10, 10)


def test_language_data_is_found_by_search_and_never_by_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    (tmp_path / "xyz.traineddata").write_bytes(b"")

    with pytest.raises(LanguageMissing) as caught:
        find_language_folder(["xyz"])

    assert "apt-get install tesseract-ocr-xyz" in caught.value.hint
    assert caught.value.exit == 4


def test_the_newest_version_that_has_every_language_wins(tmp_path: Path) -> None:
    for version, names in (("4", ("eng", "deu")), ("5", ("eng",))):
        folder = tmp_path / version / "tessdata"
        folder.mkdir(parents=True)
        for name in names:
            (folder / f"{name}.traineddata").write_bytes(b"x")

    assert find_language_folder(["eng"], [str(tmp_path)]).parent.name == "5"
    assert find_language_folder(["eng", "deu"], [str(tmp_path)]).parent.name == "4"


@pytest.mark.parametrize("languages", [[], [""], ["../eng"], ["eng/../../etc"], ["e" * 64]])
def test_a_language_that_is_no_name_is_refused(languages: list[str]) -> None:
    with pytest.raises(LanguageMissing):
        find_language_folder(languages)


@pytest.mark.parametrize("height", [1, 8, 12, 18, 24, 26, 30, 60, 400])
def test_no_two_looks_are_in_one_size(height: int) -> None:
    scales_bp = [stage2.FULL_FRAME.scale_bp, *(look.scale_bp for look in further_looks(height))]

    assert len(scales_bp) == 3
    for one in range(3):
        for other in range(one):
            assert abs(scales_bp[one] - scales_bp[other]) >= min(scales_bp[one], scales_bp[other]) // 8


def test_folders_that_are_searched_are_system_folders() -> None:
    assert all(Path(folder).is_absolute() for folder in language.LANGUAGE_FOLDERS)
