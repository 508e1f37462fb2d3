"""An analysis of what was analysed before: the same report, and no plugin runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.home import Home, open_home
from sterling.packs.insight import door
from sterling.runtime.runs import read_run

SAMPLES = Path(__file__).resolve().parents[3] / "samples" / "insight"
STEPS = ("column_profile", "constraint_violations", "duplicate_rows_keys")


def outcomes(home: Home, run: str) -> dict[str, dict[str, Any]]:
    return {str(row["step"]): dict(row) for row in read_run(home, run).outcomes}


def reasons(home: Home, run: str) -> dict[str, list[str]]:
    return {step: row["cache_reasons"] for step, row in outcomes(home, run).items()}


@pytest.mark.parametrize("sample", ["birdstrikes.csv", "queue_log.csv"])
def test_a_second_analysis_reuses_every_step_and_gives_the_same_body(
    home: Home, tmp_path: Path, sample: str
) -> None:
    def analyse(name: str, **more: Any) -> Any:
        return door.analyze(home, SAMPLES / sample, door.options(out=tmp_path / name, home=home, **more))

    first, second, third = analyse("1"), analyse("2", workers=2), analyse("3", no_cache=True)

    assert first.body_sha256 == second.body_sha256 == third.body_sha256
    assert first.report["body"]["findings"] == second.report["body"]["findings"]
    assert reasons(home, first.run) == {step: ["cache.first-time"] for step in STEPS}
    assert reasons(home, second.run) == {step: [] for step in STEPS}
    assert reasons(home, third.run) == {step: ["cache.bypass"] for step in STEPS}
    for step, row in outcomes(home, second.run).items():
        assert (row["cached_from"], row["wall_us"]) == (f"{first.run}/{step}", 0)
    assert door.recheck(home, second.run).problems == door.recheck(home, first.run).problems == []


def test_another_seed_or_table_is_analysed_anew(home: Home, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("a,b\n" + "".join(f"{n},x{n % 3}\n" for n in range(30)), encoding="utf-8")

    def analyse(name: str, **more: Any) -> dict[str, list[str]]:
        result = door.analyze(home, table, door.options(out=tmp_path / name, home=home, **more))
        return reasons(home, result.run)

    analyse("1")
    assert set(map(tuple, analyse("2", seed=1).values())) == {("cache.seed",)}
    table.write_text(table.read_text(encoding="utf-8") + "30,x0\n", encoding="utf-8")
    assert set(map(tuple, analyse("3", seed=1).values())) == {("cache.input",)}
    assert set(map(tuple, analyse("4", seed=1).values())) == {()}


def test_two_processes_at_once_agree_and_the_third_reuses(tmp_path: Path) -> None:
    place = tmp_path / "home"
    command = [sys.executable, "-m", "sterling", "analyze", str(SAMPLES / "queue_log.csv"), "--json"]
    where = ["--home", str(place), "--out"]
    subprocess.run([sys.executable, "-m", "sterling", "init", "--home", str(place)], check=True)

    both = [
        subprocess.Popen([*command, *where, str(tmp_path / name)], stdout=subprocess.PIPE, text=True)
        for name in ("1", "2")
    ]
    told = [json.loads(each.communicate(timeout=120)[0]) for each in both]
    last = subprocess.run([*command, *where, str(tmp_path / "3")], capture_output=True, text=True, check=True)

    assert [each.returncode for each in both] == [0, 0]
    third = json.loads(last.stdout)
    assert {row["body_sha256"] for row in told} == {third["body_sha256"]}
    with open_home(place, read_only=True) as home:
        assert reasons(home, third["run"]) == {step: [] for step in STEPS}
        sources = {row["cached_from"].partition("/")[0] for row in outcomes(home, third["run"]).values()}
    assert sources <= {row["run"] for row in told}
