"""The demo as a stranger meets it: whole, repeatable, resumable, and honest about altered samples."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sterling.cli.tour.samples import check_samples, listing
from sterling.cli.tour.scenes import SCENES
from sterling.kernel.contracts import load_contracts
from sterling.kernel.shipped import shipped

pytestmark = pytest.mark.slow
SCENE_IDS = ["home", "recall", "insight", "ci", "autopilot", "tamper"]


def demo(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sterling", "demo", "--out", str(folder), *argv],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def verdict(*argv: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "sterling", "verify", "--json", *argv],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def shown(story: dict[str, Any], scene: str) -> list[str]:
    return next(row["shows"] for row in story["scenes"] if row["id"] == scene)


def test_the_whole_demo_ends_as_its_table_says_and_twice_the_same(tmp_path: Path) -> None:
    first = demo(tmp_path / "first", "--json")

    assert first.returncode == 0, first.stderr
    story = json.loads(first.stdout)
    load_contracts().validate("demo.story@1.0", story)
    assert [scene["id"] for scene in story["scenes"]] == SCENE_IDS == [scene.id for scene in SCENES]
    assert {scene["state"] for scene in story["scenes"]} == {"ok"}
    assert story["verdict"] == "ok" and story["verified_to"] > 300
    assert all(len(scene["shows"]) <= 8 for scene in story["scenes"])

    for scene in ("recall", "insight"):
        again = json.loads(demo(tmp_path / "second", "--json", "--only", scene).stdout)
        assert shown(again, scene) == shown(story, scene)

    home = str(tmp_path / "first" / "home")
    runs = subprocess.run(
        [sys.executable, "-m", "sterling", "run", "list", "--json", "--home", home],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {run["state"] for run in json.loads(runs.stdout)["runs"]} <= {"ok", "failed"}


def test_a_changed_copy_of_a_report_is_named(tmp_path: Path) -> None:
    done = demo(tmp_path / "demo", "--only", "insight", "--json")
    assert done.returncode == 0, done.stderr
    home = str(tmp_path / "demo" / "home")
    listed = subprocess.run(
        [sys.executable, "-m", "sterling", "run", "list", "--json", "--home", home],
        capture_output=True,
        text=True,
        check=True,
    )
    runs = [run["run"] for run in json.loads(listed.stdout)["runs"]]
    report = tmp_path / "demo" / "report-birdstrikes" / "report.html"
    data = bytearray(report.read_bytes())
    data[len(data) // 2] ^= 1
    report.write_bytes(bytes(data))

    codes = {run: verdict(run, "--home", home) for run in runs}

    assert sorted(code for code, _ in codes.values()) == [0, 3]
    broken = next(answer for code, answer in codes.values() if code == 3)
    assert "report.html" in json.dumps(broken)


def test_a_killed_demo_goes_on_where_it_is_started_again(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "sterling", "demo", "--out", str(tmp_path / "demo"), "--only", "recall"]
    child = subprocess.Popen(
        argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    ledger = tmp_path / "demo" / "home" / "ledger.db"
    for _ in range(600):
        if ledger.exists() and ledger.with_name("ledger.db-wal").exists():
            break
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()

    again = demo(tmp_path / "demo", "--only", "recall", "--json")

    assert again.returncode == 0, again.stderr
    assert verdict("--home", str(tmp_path / "demo" / "home"), "--blobs")[0] == 0


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")

    done = demo(tmp_path, "--only", "home")

    assert done.returncode == 2 and done.stderr.startswith("demo.folder-taken")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_the_samples_are_the_shipped_ones_and_an_altered_one_is_named(tmp_path: Path) -> None:
    samples = shipped("samples")
    assert check_samples(samples) == []
    assert (samples / "SHA256SUMS").read_text(encoding="ascii") == listing(samples)
    copy = shutil.copytree(samples, tmp_path / "samples")
    (copy / "recall" / "frames.jsonl").write_text("{}", encoding="utf-8")

    assert check_samples(copy) == ["recall/frames.jsonl"]


def test_the_samples_are_small() -> None:
    total = sum(file.stat().st_size for file in shipped("samples").rglob("*") if file.is_file())

    assert total <= 8 * 1024 * 1024
