"""Sets that anybody brings: what breaks the format is named, and truth never crosses over."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sterling.packs.recall.evaluate.run import AnsweringFailed, evaluate
from sterling.packs.recall.evaluate.sets import load_predictions, load_set, write_public_part
from sterling.packs.recall.ingest.items import PathMissing, SetInvalid


@pytest.fixture
def folder(tmp_path: Path, screens: ModuleType) -> Path:
    return screens.write_set(tmp_path / "set", 3, 2)  # type: ignore[no-any-return]


def add(path: Path, line: Any) -> int:
    text = line if isinstance(line, str) else json.dumps(line)
    with path.open("a", encoding="utf-8") as file:
        file.write(text + "\n")
    return path.read_text(encoding="utf-8").count("\n")


GOOD = {"id": "q", "type": "lookup", "question": "?", "answers": ["x"], "frames": ["f0000"]}


def test_a_set_is_read_whole(folder: Path) -> None:
    loaded = load_set(folder)

    assert (loaded.name, loaded.zone, len(loaded.frames)) == ("generated-3", "UTC", 2)
    assert {question.type for question in loaded.questions} == {"lookup", "unanswerable"}
    assert loaded.hash == load_set(folder).hash


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        {**GOOD, "id": ""},
        {**GOOD, "id": "f0000-0"},
        {**GOOD, "question": "  "},
        {**GOOD, "type": 3},
        {**GOOD, "answers": "x"},
        {**GOOD, "answers": [1]},
        {**GOOD, "frames": ["nowhere"]},
        {**GOOD, "boxes": []},
        {**GOOD, "boxes": {"f0000": [[1, 2, 3]]}},
        {**GOOD, "boxes": {"f0000": [["a", 0, 1, 1]]}},
        {**GOOD, "now": "soon"},
        {**GOOD, "zone": "Mars/Base"},
    ],
    ids=range(14),
)
def test_a_broken_question_is_named_by_its_line(folder: Path, line: Any) -> None:
    number = add(folder / "questions.jsonl", line)

    with pytest.raises(SetInvalid, match=rf"questions\.jsonl, line {number}"):
        load_set(folder)


@pytest.mark.parametrize("change", [{"w": "wide"}, {"w": -1}, {"dup_of": 4}])
def test_a_broken_frame_is_named_by_its_line(folder: Path, change: dict[str, Any]) -> None:
    number = add(
        folder / "frames.jsonl", {"id": "x", "file": "f0000.png", "ts": "2026-03-02T10:00:00Z"} | change
    )

    with pytest.raises(SetInvalid, match=rf"frames\.jsonl, line {number}"):
        load_set(folder)


def test_what_is_no_set_is_said(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(PathMissing):
        load_set(tmp_path / "none")
    with pytest.raises(SetInvalid):
        load_set(folder / "f0000.png")
    with pytest.raises(SetInvalid):
        load_set(tmp_path)
    (folder / "questions.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(SetInvalid):
        load_set(folder)


def test_the_answering_side_sees_no_truth(folder: Path, tmp_path: Path) -> None:
    add(folder / "frames.jsonl", {"id": "d", "text": "SECRETWORD", "ts": "2026-03-02T10:00:00Z"})
    (folder / "truth_words.jsonl").write_text('{"id": "f0000", "words": []}\n', encoding="utf-8")
    loaded = load_set(folder)

    write_public_part(loaded, tmp_path / "public")

    seen = "".join(path.read_text(encoding="utf-8") for path in sorted((tmp_path / "public").glob("*.json*")))
    names = sorted(path.name for path in (tmp_path / "public").iterdir())
    assert names == ["000000.png", "000001.png", "frames.jsonl", "questions.jsonl", "set.json"]
    for word in ("answers", 'frames"', "boxes", "dup_of", "SECRETWORD", "unanswerable", '"type"'):
        assert word not in seen
    for question in loaded.questions:
        assert all(answer not in seen for answer in question.answers if len(answer) > 4)


def test_predictions_of_another_product_are_scored_without_answering(folder: Path, tmp_path: Path) -> None:
    loaded = load_set(folder)
    file = tmp_path / "predictions.jsonl"
    with file.open("w", encoding="utf-8") as out:
        for question in loaded.questions:
            frame = question.frames[0] if question.frames else ""
            cited = [{"frame": frame, "box": question.boxes[frame][0]}] if frame in question.boxes else []
            line = {"id": question.id, "answer": (question.answers or (None,))[0], "citations": cited}
            out.write(json.dumps(line) + "\n")

    found = evaluate(folder, predictions=file)

    assert found.scores.all["answer"].share_bp == found.scores.all["abstention"].share_bp == 10_000
    assert found.as_json(10_000)["passed"]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        '{"answer": "x"}',
        '{"id": "q", "answer": 3}',
        '{"id": "q", "citations": {}}',
        '{"id": "q", "citations": [1]}',
    ],
)
def test_broken_predictions_are_named_by_their_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": "a"}\n' + line + "\n", encoding="utf-8")

    with pytest.raises(SetInvalid, match="line 2"):
        load_predictions(tmp_path / "p.jsonl")


def test_an_answering_side_that_fails_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sterling.packs.recall.evaluate import run

    monkeypatch.setattr(run.sys, "executable", "/bin/false")

    with pytest.raises(AnsweringFailed) as caught:
        evaluate(folder)

    assert caught.value.exit == 4
