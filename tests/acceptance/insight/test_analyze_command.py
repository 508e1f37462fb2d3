"""`sterling analyze` as a person runs it: exits, files, JSON, and a verdict that somebody else can check."""

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

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = ROOT / "samples" / "insight"


def sterling(folder: Path, *arguments: str, seed: str = "0") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sterling", *arguments, "--home", str(folder / "home")]
    environment = {**os.environ, "PYTHONHASHSEED": seed, "NO_COLOR": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_bird_strike_table_says_what_anybody_can_count(tmp_path: Path) -> None:
    done = sterling(tmp_path, "analyze", str(SAMPLES / "birdstrikes.csv"), "--json", "--seed", "0")

    assert done.returncode == 0, done.stderr
    found = result(done)
    lines = (SAMPLES / "birdstrikes.csv").read_text().splitlines()[1:]
    repeats = len(lines) - len(set(lines))
    gaps = sum(line.endswith(",") for line in lines)
    claims = " ".join(row["claim"] for row in found["findings"])
    assert (found["rows"], found["rejected"]) == (len(lines), 0)
    assert f"{repeats} of 10,000 rows repeat" in claims
    assert f"{gaps:,} of 10,000 cells of “Speed IAS in knots” are missing" in claims
    assert "“Cost Total $” = “Cost Other” + “Cost Repair” in all 10,000 rows" in claims
    assert set(found["lanes"]) == {"decision", "explanation"}
    assert all(value == 0 for value in found["counters"].values())
    assert (tmp_path / found["files"]["html"]).is_file()


def test_the_planted_faults_of_the_queue_log_are_all_found_and_nothing_else(tmp_path: Path) -> None:
    done = sterling(tmp_path, "analyze", str(SAMPLES / "queue_log.csv"), "--json", "--out", "report")

    suspects = sorted(row["claim"] for row in result(done)["findings"] if row["strength"] == "suspect")
    assert suspects == [
        "4 of 484 rows repeat an earlier row in every column.",
        "“end” is before “start” in 3 of the 484 rows that hold both (0.62 %).",
        "“start” is before “queued” in 2 of the 484 rows that hold both (0.41 %).",
    ]


def test_the_queue_log_is_what_its_script_writes() -> None:
    done = subprocess.run(
        [sys.executable, str(SAMPLES / "make_queue_log.py")], capture_output=True, check=True
    )

    assert done.stdout == (SAMPLES / "queue_log.csv").read_bytes()


def test_hash_seeds_workers_and_homes_change_no_byte_and_verify_checks_the_run(tmp_path: Path) -> None:
    found = []
    for seed, workers in (("1", "1"), ("2", "2")):
        folder = tmp_path / seed
        folder.mkdir()
        done = sterling(
            folder,
            "analyze",
            str(SAMPLES / "queue_log.csv"),
            *("--json", "--workers", workers, "--out", "report"),
            seed=seed,
        )
        found.append(result(done))

    assert found[0]["body_sha256"] == found[1]["body_sha256"]
    assert found[0]["plan_sha256"] == found[1]["plan_sha256"]
    checked = sterling(tmp_path / "1", "verify", found[0]["run"], "--json")
    assert checked.returncode == 0, checked.stdout
    assert result(checked)["run"]["checked"] > 40


def test_verify_exits_3_when_a_report_byte_was_changed(tmp_path: Path) -> None:
    found = result(sterling(tmp_path, "analyze", str(SAMPLES / "queue_log.csv"), "--json", "--out", "report"))
    name = next(
        path
        for path in (tmp_path / "home" / "blobs").rglob("*")
        if path.is_file() and path.read_bytes().startswith(b"<!doctype html>")
    )
    name.chmod(0o600)
    name.write_bytes(name.read_bytes().replace(b"4 of 484", b"0 of 484", 1))

    assert sterling(tmp_path, "verify", found["run"]).returncode == 3


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("nothing.csv", None, "insight.unreadable-source"),
        ("empty.csv", b"", "insight.unreadable-source"),
        ("header.csv", b"a,b,c\n", "insight.unreadable-source"),
        ("torn.parquet", b"PAR1\x15\x04\x15", "insight.unreadable-source"),
        ("latin.csv", "é,b\n1,2\n".encode("latin-1"), "insight.unreadable-source"),
        ("book.xlsx", b"PK\x03\x04" + bytes(200), "insight.unsupported-format"),
        ("noise.bin", bytes(range(256)) * 40, "insight.unsupported-format"),
        ("wide.csv", (",".join(map(str, range(2001))) + "\n") * 2, "insight.limit-exceeded"),
        ("long.csv", f"a,b\n1,{'x' * 1_100_000}\n", "insight.limit-exceeded"),
    ],
)
def test_a_bad_source_exits_2_with_a_code_and_a_next_step(
    tmp_path: Path, name: str, data: bytes | str | None, code: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data.encode() if isinstance(data, str) else data)

    done = sterling(tmp_path, "analyze", name, "--json")

    assert done.returncode == 2
    error = result(done)["error"]
    assert error["code"] == code
    assert error["message"] and "sterling " in error["hint"]
    if data is not None:
        assert (tmp_path / name).read_bytes() == (data.encode() if isinstance(data, str) else data)


def test_a_missing_file_makes_no_home(tmp_path: Path) -> None:
    assert sterling(tmp_path, "analyze", "nothing.csv").returncode == 2
    assert not (tmp_path / "home").exists()


def test_a_dry_run_makes_no_home_and_no_folder(tmp_path: Path) -> None:
    done = sterling(tmp_path, "analyze", str(SAMPLES / "queue_log.csv"), "--dry-run", "--json")

    assert (done.returncode, result(done)["status"]) == (0, "planned")
    assert list(tmp_path.iterdir()) == []


def test_an_encoding_that_is_named_is_used(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("ville,n\nOrléans,1\nNîmes,2\n".encode("cp1252"))

    done = sterling(tmp_path, "analyze", "latin.csv", "--encoding", "cp1252", "--json", "--out", "report")

    assert done.returncode == 0
    assert result(done)["rows"] == 2


def test_ctrl_c_closes_every_step_and_leaves_a_report(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n % 977},{n % 89},{n % 7}x,{n % 13}y\n" for n in range(150_000))
    (tmp_path / "big.csv").write_text("a,b,c,d,e\n" + rows)
    command = [sys.executable, "-m", "sterling", "analyze", "big.csv", "--home", "home", "--out", "report"]
    started = subprocess.Popen(
        [*command, "--workers", "1"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        stdout=subprocess.DEVNULL,
    )
    assert started.stderr is not None
    for line in started.stderr:
        if '"step": "read"' in line:
            break
    time.sleep(0.3)
    started.send_signal(signal.SIGINT)
    rest = started.stderr.read()
    assert started.wait(timeout=60) in (130, -signal.SIGINT)
    assert "the report so far lies in report" in rest

    runs = result(sterling(tmp_path, "run", "list", "--json"))["runs"]
    run = result(sterling(tmp_path, "run", "show", next(iter(runs[0].values())), "--json"))
    text = json.dumps(run)
    assert "run.interrupted" in text
    assert (tmp_path / "report" / "report.html").is_file()


def test_the_page_is_drawn_by_a_browser(tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    sterling(tmp_path, "analyze", str(SAMPLES / "queue_log.csv"), "--out", "report", "-q")
    picture = tmp_path / "page.png"

    subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1100,1600"),
            *(f"--screenshot={picture}", f"file://{tmp_path / 'report' / 'report.html'}"),
        ],
        capture_output=True,
        check=True,
        timeout=90,
    )

    from PIL import Image

    with Image.open(picture) as page:
        colours = page.convert("RGB").getcolors(maxcolors=1 << 24)
    assert colours is not None and len(colours) > 50


def test_asking_for_help_loads_no_engine() -> None:
    code = (
        "import sys, sterling.cli.analyze, sterling.packs.insight.door, sterling.packs.insight.pipeline;"
        "print([name for name in ('duckdb', 'pyarrow', 'jinja2', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_a_plugin_name_that_is_nearly_right_is_told_the_right_one(tmp_path: Path) -> None:
    done = sterling(
        tmp_path, "analyze", str(SAMPLES / "queue_log.csv"), "--plugins", "colum_profile", "--json"
    )

    assert done.returncode == 2
    assert "'column_profile'" in result(done)["error"]["message"]


def test_only_the_named_plugins_run(tmp_path: Path) -> None:
    done = sterling(
        tmp_path,
        *("analyze", str(SAMPLES / "queue_log.csv"), "--plugins", "duplicate_rows_keys"),
        *("--out", "report", "--json"),
    )

    assert [row["step"] for row in result(done)["outcomes"]] == ["duplicate_rows_keys"]
