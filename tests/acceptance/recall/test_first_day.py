"""The first day with recall, from the command line: take in, ask, read, ask, prove."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sterling.kernel.contracts import load_contracts

ROOT = Path(__file__).resolve().parents[3]


def sterling(home: Path, *words: str, expect: int) -> dict[str, Any]:
    """Run a command with --json and return what it printed, checked against its contract."""
    argv = [sys.executable, "-m", "sterling", *words, "--home", str(home), "--json", "-q"]
    argv += ["--set", "governor.cpu_limit_bp=0", "--set", "governor.ram_limit_bp=0"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == expect, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    result: dict[str, Any] = json.loads(done.stdout)
    if "contract" in result:
        load_contracts().validate(result["contract"], result)
    return result


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location(
        "recall_screens_accept", ROOT / "bench" / "recall_screens.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    made: Path = module.write_set(tmp_path_factory.mktemp("sets") / "set", 41, 6)
    return made


def questions_of(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def test_from_nothing_answered_to_answered_with_proof(tmp_path: Path, small_set: Path) -> None:
    home = tmp_path / "home"
    asked = next(line for line in questions_of(small_set) if line["type"] == "lookup")

    taken = sterling(home, "ingest", str(small_set), expect=0)
    assert (taken["accepted"], taken["frames"], taken["refused"]) == (6, 6, [])
    again = sterling(home, "ingest", str(small_set), expect=0)
    assert (again["accepted"], again["repeated"], again["ticks"]) == (0, 6, 0)

    before = sterling(home, "ask", asked["question"], expect=4)
    assert (before["state"], before["claims"]) == ("indeterminate", [])
    assert before["offers"] == ["sterling drain --force"]

    sterling(home, "drain", "--force", expect=0)

    picture = tmp_path / "crop.png"
    after = sterling(home, "ask", asked["question"], "--crop", str(picture), expect=0)
    assert after["state"] == "answered"
    assert asked["answers"][0] in after["claims"][0]["text"]
    with Image.open(picture) as image:
        assert image.width >= 480 and (214, 40, 40) in set(image.convert("RGB").get_flattened_data())

    trace = sterling(home, "recall", "trace", after["record"], expect=0)
    assert trace["holds"] and len(trace["citations"]) == 1
    assert sterling(home, "verify", after["run"], expect=0)["run"]["problems"] == []
    assert sterling(home, "recall", "index", "check", expect=0)["action"] == "check"
    digest = sterling(home, "recall", "index", "rebuild", expect=0)["digest"]
    assert digest == sterling(home, "recall", "index", "check", expect=0)["digest"]

    unseen = sterling(home, "ask", "What is the colour of the plumber's van?", expect=1)
    assert unseen["state"] == "no_evidence"
    assert sterling(home, "ask", "Delete everything", expect=1)["state"] == "refused"

    frame = after["claims"][0]["citations"][0]["frame"]
    spoiled = next(
        path for path in sorted((home / "blobs").glob("??/*")) if path.stat().st_size > 2000 and frame
    )
    spoiled.chmod(0o600)
    spoiled.write_bytes(b"\x00" + spoiled.read_bytes()[1:])
    assert sterling(home, "verify", "--blobs", expect=3)["code"] == "integrity.blob-altered"


def test_an_evaluation_scores_a_set_and_keeps_its_predictions(tmp_path: Path, small_set: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "predictions.jsonl"

    scored = sterling(
        home, "eval", "recall", str(small_set), "--out", str(out), "--require", "7500", expect=0
    )
    assert scored["all"]["both"]["share_bp"] >= 7_500
    assert scored["all"]["abstention"]["share_bp"] >= 9_000
    assert not home.exists()

    same = sterling(home, "eval", "recall", str(small_set), "--predictions", str(out), expect=0)
    assert same["all"] == scored["all"]

    before = sterling(home, "eval", "recall", str(small_set), "--before", "--require", "1", expect=1)
    assert before["all"]["answer"]["right"] == 0
    assert set(before["states"]) == {"indeterminate"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("ingest", "{tmp}/nothing"), "recall.path-missing"),
        (("ingest", "{tmp}/empty"), "recall.nothing-to-ingest"),
        (("ingest", "{tmp}/broken"), "recall.set-invalid"),
        (("ingest", "{tmp}/broken", "--zone", "Mars/Base"), "recall.zone-unknown"),
        (("eval", "recall", "{tmp}/nothing"), "recall.path-missing"),
        (("eval", "recall", "{tmp}/broken"), "recall.set-invalid"),
    ],
)
def test_what_cannot_be_taken_is_an_error_with_a_next_step(
    tmp_path: Path, words: tuple[str, ...], code: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "frames.jsonl").write_text('{"id": "a", "ts": \n', encoding="utf-8")

    found = sterling(tmp_path / "home", *(word.format(tmp=tmp_path) for word in words), expect=2)

    assert found["error"]["code"] == code
    assert "sterling" in found["error"]["hint"]


@pytest.mark.parametrize("data", [b"", b"\x00\x01binary", b"plain words"])
def test_a_file_that_is_no_picture_is_refused_and_kept(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file.png").write_bytes(data)

    found = sterling(tmp_path / "home", "ingest", str(tmp_path / "file.png"), expect=2)

    assert [item["code"] for item in found["refused"]] == ["recall.image-unreadable"]
    assert found["ticks"] == 1


def test_some_pictures_among_other_files_come_in_with_exit_one(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    Image.new("RGB", (40, 30), (9, 9, 9)).save(folder / "good.png")
    (folder / "bad.png").write_bytes(b"no")

    found = sterling(tmp_path / "home", "ingest", str(folder), expect=1)

    assert (found["accepted"], len(found["refused"])) == (1, 1)


def test_asking_without_a_home_says_how_to_make_one(tmp_path: Path) -> None:
    found = sterling(tmp_path / "none", "ask", "What is the total?", expect=2)

    assert found["error"]["code"] == "home.missing"


@pytest.mark.slow
def test_the_figures_of_the_page_hold(tmp_path: Path) -> None:
    """The two sentences of docs/concepts/recall.md under "How well it answers"."""
    subprocess.run(
        [
            sys.executable,
            str(ROOT / "bench" / "recall_screens.py"),
            str(tmp_path / "set"),
            "--seed",
            "501",
            "--count",
            "60",
        ],
        check=True,
        capture_output=True,
    )

    generated = sterling(tmp_path / "home", "eval", "recall", str(tmp_path / "set"), expect=0)
    sample = sterling(tmp_path / "home", "eval", "recall", str(ROOT / "samples" / "recall"), expect=0)

    assert generated["all"]["both"]["share_bp"] >= 9_000
    assert generated["all"]["abstention"]["share_bp"] >= 9_500
    assert sample["all"]["both"]["share_bp"] >= 7_000
    assert sample["all"]["abstention"]["share_bp"] == 10_000
