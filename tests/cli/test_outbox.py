"""`sterling outbox`: output, contracts, exits, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterling.cli.main import main
from sterling.kernel.adapters import Ability
from sterling.kernel.batch import Batch
from sterling.kernel.contracts import load_contracts
from sterling.kernel.home import init_home, open_home
from sterling.kernel.outbox import Effect
from sterling.testing.receiver import FakeReceiver

Call = Callable[..., tuple[int, str, str]]
REASON = "--reason=the receiver was asked by hand"


@pytest.fixture(autouse=True)
def _contracts_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of the contracts has tests of its own."""
    monkeypatch.setattr("sterling.kernel.contract_lock.check", lambda *given, **named: None)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    init_home(tmp_path / "home").close()
    return tmp_path / "home"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], home: Path) -> Call:
    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["outbox", *arguments, "--home", str(home)])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def dead(home: Path) -> str:
    """An effect that its receiver refused, in words that would move a terminal's cursor."""
    with open_home(home) as opened:
        batch = Batch()
        effect = opened.outbox.put(batch, Effect("change \x1b[2J", "file", "repo", {"n": 1}))
        opened.ledger.commit(batch)
        receiver = FakeReceiver(Ability.FINDS)
        receiver.default = "refused"
        opened.outbox.run_once({"file": receiver})
    return effect


def document(out: str, contract: str) -> Any:
    found = json.loads(out)
    load_contracts().validate(contract, found)
    return found


def test_an_empty_outbox_says_so(call: Call) -> None:
    assert call("list")[:2] == (0, "no effects\n")
    assert document(call("list", "--json")[1], "outbox.list@1.0")["total"] == 0


def test_a_dead_effect_is_listed_shown_and_given_another_round(call: Call, dead: str) -> None:
    listed = document(call("list", "--state", "dead", "--json")[1], "outbox.list@1.0")
    shown = document(call("show", dead, "--json")[1], "outbox.show@1.0")
    retried = document(call("retry", dead, REASON, "--json")[1], "outbox.retry@1.0")

    assert [row["id"] for row in listed["effects"]] == [dead]
    assert [entry["kind"] for entry in shown["entries"]] == ["effect.queued", "effect.sending", "effect.dead"]
    assert retried["effect"]["state"] == "retry"
    assert "effect.retry (person)" in call("show", dead)[1]


def test_an_abandoned_effect_is_still_listed(call: Call, dead: str) -> None:
    code, out, _ = call("abandon", dead, REASON, "--json")

    assert code == 0 and document(out, "outbox.abandon@1.0")["effect"]["state"] == "abandoned"
    assert dead in call("list")[1]


def test_what_an_effect_is_about_cannot_move_the_cursor(call: Call, dead: str) -> None:
    assert "\x1b" not in call("show", dead)[1]


@pytest.mark.parametrize(
    ("arguments", "exit", "code"),
    [
        (("show", "e-none"), 2, "effect.absent"),
        (("retry", "e-none", REASON), 2, "effect.absent"),
        (("retry", "DEAD"), 2, "effect.reason-required"),
        (("abandon", "DEAD", "--reason=no"), 2, "effect.reason-required"),
        (("list", "--state", "lost"), 2, ""),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    call: Call, dead: str, arguments: tuple[str, ...], exit: int, code: str
) -> None:
    found = call(*(dead if each == "DEAD" else each for each in arguments))

    assert found[0] == exit and code in found[2]


def test_what_is_settled_stays_settled(call: Call, dead: str) -> None:
    call("abandon", dead, REASON)

    code, _, err = call("retry", dead, REASON)

    assert code == 1 and "effect.moved" in err


def test_status_names_a_dead_effect(dead: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["status", "--json", "--home", str(home)])

    view = json.loads(capsys.readouterr().out)
    assert {"what": "dead effect", "id": dead, "pack": "kernel"} in view["needs_you"]
    assert view["next"] == f"sterling outbox show {dead}"
