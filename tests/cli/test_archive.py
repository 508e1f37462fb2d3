"""`sterling archive` and `sterling init --encrypt`: what they print, refuse and leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sterling.cli.main import main
from sterling.kernel.batch import Batch
from sterling.kernel.contracts import load_contracts
from sterling.kernel.home import open_home
from sterling.kernel.records import Source


@pytest.fixture(autouse=True)
def unlocked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sterling.kernel.contract_lock.check", lambda *_: None)
    monkeypatch.setattr("sterling.kernel.crypt._keep_in_keyring", lambda *_: False)
    monkeypatch.setenv("STERLING_HOME", str(tmp_path / "home"))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json"])
    printed = json.loads(capsys.readouterr().out)
    if "contract" in printed:
        load_contracts().validate(printed["contract"], printed)
    return int(ended.value.code or 0), printed


def put(tmp_path: Path) -> str:
    with open_home(tmp_path / "home") as home:
        address = home.blobs.put(b"pixels")
        batch = Batch()
        session = {"source": "images", "name": "day", "machine": "", "zone": "UTC", "rules_hash": "0" * 64}
        home.records.put(batch, "recall.session", session, [Source("image", blob=address)])
        home.ledger.commit(batch)
    return address


def test_a_plain_home_names_no_key(capsys: pytest.CaptureFixture[str]) -> None:
    status, made = run(capsys, "init")

    assert status == 0 and "key" not in made and "readable" not in made


def test_an_encrypted_home_names_its_key_and_what_stays_readable(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, made = run(capsys, "init", "--encrypt")

    assert status == 0 and made["key"] == str(tmp_path / "home" / "keys" / "blobs.key")
    assert any("ledger.db" in fact for fact in made["readable"])
    with pytest.raises(SystemExit):
        main(["status"])
    assert "blobs encrypted" in capsys.readouterr().out


def test_blobs_go_away_and_come_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run(capsys, "init")
    address, disk = put(tmp_path), tmp_path / "disk"
    disk.mkdir()

    status, moved = run(capsys, "archive", "--before", "2100-01-01", "--to", str(disk), "--reason", "space")
    assert (status, moved["direction"], moved["addresses"]) == (0, "away", [address])
    disk.rename(tmp_path / "drawer")
    assert run(capsys, "verify", "--blobs")[0] == 4
    (tmp_path / "drawer").rename(disk)
    assert run(capsys, "verify", "--blobs")[0] == 0

    status, moved = run(capsys, "archive", "--back", "all", "--from", str(disk))
    assert (status, moved["direction"], moved["addresses"]) == (0, "back", [address])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--to", "x", "--reason", "r"],
        ["--address", "0" * 64, "--to", "x"],
        ["--address", "0" * 64, "--to", "x", "--reason", " "],
        ["--address", "zz", "--to", "x", "--reason", "r"],
        ["--address", "0" * 64, "--before", "2026-01-01", "--to", "x", "--reason", "r"],
        ["--before", "yesterday", "--to", "x", "--reason", "r"],
        ["--back", "all"],
        ["--back", "some", "--from", "x"],
        ["--back", "all", "--from", "x", "--address", "0" * 64, "--to", "y", "--reason", "r"],
        ["--back", "all", "--from", "missing"],
    ],
)
def test_what_cannot_be_meant_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    run(capsys, "init")

    status, printed = run(capsys, "archive", *arguments)

    assert status == 2 and set(printed) == {"error"}
