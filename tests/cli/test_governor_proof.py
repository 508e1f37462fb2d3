"""`sterling governor gate, switch, forecast` and `explain --at`: contracts, exits, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterling.cli.main import main
from sterling.kernel.contracts import load_contracts
from sterling.kernel.home import init_home, open_home
from sterling.runtime import heavy_gate
from sterling.runtime.gating_checks import GATING_CHECKS, Check, Regressed
from sterling.runtime.heavy_gate import Produced
from sterling.runtime.rehearsal import Rehearsal

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    init_home(tmp_path / "home").close()

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["governor", *arguments, "--home", str(tmp_path / "home")])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def document(out: str, contract: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out)
    assert found["contract"] == f"{contract}@1.0"
    load_contracts().validate(contract, found)
    return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heavy_gate, "GATING_CHECKS", GATING_CHECKS[:1])
    monkeypatch.setattr(heavy_gate, "_REAL", ())
    monkeypatch.setattr("sterling.app.produce_sample", lambda home: Produced(2, 1, 1, "answered"))


@pytest.mark.usefixtures("quick")
def test_the_gate_keeps_its_verdict_in_the_home(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("gate", "--json")

    found = document(out, "governor.gate")
    assert (status, found["verdict"], found["answered_after"]) == (0, "ok", 1)
    with open_home(tmp_path / "home", read_only=True) as home:
        (kept,) = home.ledger.read(kind="runtime.gate")
    assert (kept.index, kept.payload["rows"]) == (found["entry"], found["rows"])


@pytest.mark.usefixtures("quick")
def test_what_the_gate_printed_is_a_baseline_for_the_next(run: Run, tmp_path: Path) -> None:
    before = tmp_path / "before.json"
    before.write_text(run("gate", "--json")[1], encoding="utf-8")

    status, out, _ = run("gate", "--json", "--baseline", str(before))

    assert (status, document(out, "governor.gate")["answered_before"]) == (0, 1)
    assert run("gate", "--baseline", str(tmp_path / "absent"))[0] == 4


@pytest.mark.usefixtures("quick")
def test_a_broken_gate_is_exit_one_and_says_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(stage: Rehearsal) -> None:
        raise Regressed("expected a, found b")

    monkeypatch.setattr(heavy_gate, "GATING_CHECKS", (Check("gating.broken", "It breaks.", look),))
    monkeypatch.setattr("sterling.app.produce_sample", lambda home: Produced(missing="no engine"))

    status, out, _ = run("gate")

    assert status == 1
    assert "expected a, found b" in out and "gate.gating-regressed" in out


def test_a_turned_switch_is_shown_and_told(run: Run) -> None:
    status, out, _ = run("switch", "heavy_on_battery", "on", "--reason", "a flight", "--json")
    listed = document(run("switch", "--json")[1], "governor.switch")

    assert (status, document(out, "governor.switch")["entry"]) == (0, 2)
    assert {row["name"]: row["value"] for row in listed["switches"]}["heavy_on_battery"] is True
    assert "already" in run("switch", "heavy_on_battery", "true", "--reason", "again")[1]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("heavy_on_battery", "on"), "governor.reason-missing"),
        (("cache", "on", "--reason", "x"), "governor.switch-unknown"),
        (("cache", "--verify"), "governor.switch-unknown"),
        (("heavy_on_battery",), "cli."),
        (("heavy_on_battery", "maybe", "--reason", "x"), "cli."),
        (("heavy_on_battery", "on", "--verify"), "cli."),
    ],
)
def test_a_turn_without_all_it_needs_is_wrong_usage(run: Run, arguments: tuple[str, ...], code: str) -> None:
    status, out, err = run("switch", *arguments)

    assert (status, out) == (2, "")
    assert code in err


def test_an_earlier_moment_is_explained_under_its_contract(run: Run) -> None:
    status, out, _ = run("explain", "--at", "2020-01-01T03:00:00+00:00", "--json")

    assert (status, document(out, "governor.explain-at")["when"]) == (0, "before-the-first")
    assert run("explain", "--at", "last night")[0] == 2


def test_a_forecast_of_nothing_is_ok(run: Run) -> None:
    status, out, _ = run("forecast", "--json")

    assert (status, document(out, "governor.forecast")["state"]) == (0, "ok")
