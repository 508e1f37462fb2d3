"""`sterling keys`: what it prints, under which contract, and how it ends."""

from __future__ import annotations

import json
import os
import pty
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterling.cli.main import main
from sterling.kernel import person_keys
from sterling.kernel.contracts import load_contracts
from sterling.kernel.home import init_home
from sterling.kernel.person_keys import people_folder, unlock_person_key
from sterling.kernel.signing import parse_verifier
from sterling.kernel.verify import verify_home

Run = Callable[..., tuple[int, str, str]]
WHY = ("--reason", "the old laptop was sold")


@pytest.fixture
def home_path(tmp_path: Path) -> Path:
    init_home(tmp_path / "home").close()
    return tmp_path / "home"


@pytest.fixture
def run(home_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(person_keys, "_SCRYPT_N", 2)

    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--home", str(home_path)])
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def answer(run: Run, *arguments: str) -> dict[str, Any]:
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    told: dict[str, Any] = json.loads(out)
    load_contracts().validate(told["contract"], told)
    return told


def passphrase(text: bytes) -> str:
    """A descriptor from which a passphrase can be read once."""
    reader, writer = os.pipe()
    os.write(writer, text)
    os.close(writer)
    return str(reader)


def test_a_rotation_is_listed_and_the_home_holds(run: Run, home_path: Path) -> None:
    before = answer(run, "keys", "list")["keys"]
    done = answer(run, "keys", "rotate", "ledger", *WHY)
    rows = [row for row in answer(run, "keys", "list")["keys"] if row["purpose"] == "ledger"]

    assert [(row["purpose"], row["state"]) for row in before] == [
        ("attest", "in-force"),
        ("ledger", "in-force"),
    ]
    assert [(row["key"], row["state"], row["until"]) for row in rows] == [
        (done["old"], "rotated", done["index"]),
        (done["new"], "in-force", None),
    ]
    assert verify_home(home_path, deep=True).exit == 0


def test_the_head_names_the_first_key_to_pin_and_the_one_that_signs_now(run: Run, home_path: Path) -> None:
    before = answer(run, "ledger", "head")
    _, text_before, _ = run("ledger", "head")
    new = answer(run, "keys", "rotate", "ledger", *WHY)["new"]
    after = answer(run, "ledger", "head")
    _, text_after, _ = run("ledger", "head")

    assert before["signs_now"] == before["verifier"] == after["verifier"] != after["signs_now"]
    assert parse_verifier(after["signs_now"]).public_key.hex() == new
    assert "signs_now" not in text_before and f"signs_now {after['signs_now']}\n" in text_after
    assert verify_home(home_path, pin=after["verifier"]).exit == 0
    assert verify_home(home_path, pin=after["signs_now"]).code == "integrity.key-unknown"


def test_a_revocation_is_listed(run: Run) -> None:
    old = answer(run, "keys", "rotate", "attest", *WHY)["old"]
    done = answer(run, "keys", "revoke", "attest", "--key", old, *WHY)
    row = next(row for row in answer(run, "keys", "list")["keys"] if row["key"] == old)

    assert (row["state"], row["revoked_from"]) == ("revoked", done["from_index"])
    code, out, _ = run("keys", "list")
    assert code == 0 and "revoked" in out and "in-force" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("rotate", "ledger"), 2, "reason"),
        (("rotate", "person:ada", *WHY), 1, "keys.purpose"),
        (("rotate", "nothing", *WHY), 1, "keys.purpose"),
        (("rotate", "ledger", "--reason", ""), 2, "record.invalid"),
        (("revoke", "ledger", "--key", "zz", *WHY), 2, "64 hex digits"),
        (("revoke", "nothing", "--key", "0" * 64, *WHY), 1, "keys.purpose"),
        (("new", "ledger", "--keyring"), 1, "keys.purpose"),
        (("new", "person:ada"), 2, "terminal"),
        (("new", "person:ada", "--passphrase-fd", "999"), 2, "descriptor"),
        (("new", "person:ada", "--passphrase-fd", "0", "--keyring"), 2, "both"),
        (("delete", "ledger"), 2, "cli.unknown-command"),
    ],
)
def test_what_cannot_be_done_says_so_and_changes_nothing(
    run: Run, arguments: tuple[str, ...], code: int, said: str
) -> None:
    before = answer(run, "keys", "list")
    ended, _, err = run("keys", *arguments)

    assert ended == code and said in err
    assert answer(run, "keys", "list") == before and not people_folder().exists()


def test_the_ledgers_key_in_force_is_not_revoked(run: Run) -> None:
    key = next(row["key"] for row in answer(run, "keys", "list")["keys"] if row["purpose"] == "ledger")
    code, _, err = run("keys", "revoke", "ledger", "--key", key, *WHY)

    assert code == 1 and "rotate" in err


def test_a_persons_key_is_made_with_a_passphrase_from_a_descriptor(run: Run) -> None:
    made = answer(run, "keys", "new", "person:ada", "--passphrase-fd", passphrase(b"correct horse\n"))

    assert unlock_person_key("person:ada", b"correct horse").public_key.hex() == made["key"]
    assert made["folder"] == str(people_folder())
    listed = answer(run, "keys", "list")["keys"]
    assert ("person:ada", made["key"]) in [(row["purpose"], row["key"]) for row in listed]
    again, _, err = run("keys", "new", "person:ada", "--passphrase-fd", passphrase(b"another"))
    assert again == 1 and "keys.unusable" in err


def test_on_a_terminal_a_passphrase_is_typed_twice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["one", "two", "one", "one"]
    monkeypatch.setattr("getpass.getpass", lambda _: typed.pop(0))
    controller, terminal = pty.openpty()
    with os.fdopen(terminal) as stream, os.fdopen(controller):
        monkeypatch.setattr("sys.stdin", stream)
        code, _, err = run("keys", "new", "person:ada")
        assert code == 2 and "twice" in err and not people_folder().exists()
        assert run("keys", "new", "person:ada")[0] == 0

    assert unlock_person_key("person:ada", b"one")
