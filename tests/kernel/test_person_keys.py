"""Keys of persons: outside every home, wrapped, and open for one signature."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from sterling.kernel import person_keys
from sterling.kernel.keys import KeyUnusable
from sterling.kernel.person_keys import make_person_key, people_folder, read_people, unlock_person_key
from sterling.kernel.signing import KeyPurpose, verify_signature

PASSPHRASE = b"correct horse"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(person_keys, "_SCRYPT_N", 2)


def the_file() -> Path:
    return people_folder() / "person-ada.key"


def test_a_wrapped_key_opens_with_its_passphrase_and_signs_once() -> None:
    public = make_person_key("person:ada", PASSPHRASE)
    key = unlock_person_key("person:ada", PASSPHRASE)

    verify_signature(public, key.sign(b"message"), b"message")
    with pytest.raises(KeyUnusable):
        key.sign(b"message")
    assert not hasattr(key, "_private") and read_people() == {"person:ada": public}


def test_it_lies_in_the_users_settings_readable_by_nobody_else_and_wrapped() -> None:
    make_person_key("person:ada", PASSPHRASE)
    seed_text = json.loads(the_file().read_text())

    assert the_file().is_relative_to(Path(os.environ["XDG_CONFIG_HOME"]))
    assert the_file().stat().st_mode & 0o777 == 0o600
    assert people_folder().stat().st_mode & 0o777 == 0o700
    assert set(seed_text) == {"format", "n", "nonce", "public", "purpose", "salt", "sealed"}
    assert len(bytes.fromhex(seed_text["sealed"])) == 32 + 16


@pytest.mark.parametrize("passphrase", [b"", b"wrong", PASSPHRASE + b"\n", None])
def test_another_passphrase_opens_nothing(passphrase: bytes | None) -> None:
    make_person_key("person:ada", PASSPHRASE)

    with pytest.raises(KeyUnusable) as caught:
        unlock_person_key("person:ada", passphrase)
    assert "correct horse" not in str(caught.value.as_json())


@pytest.mark.parametrize("purpose", ["ledger", "attest", "witness", "person:", "person:../x", "ada", ""])
def test_only_persons_keys_are_made_and_opened_here(purpose: str) -> None:
    with pytest.raises(KeyPurpose):
        make_person_key(purpose, PASSPHRASE)
    with pytest.raises(KeyPurpose):
        unlock_person_key(purpose, PASSPHRASE)
    assert not people_folder().exists()


def test_a_key_that_is_there_is_never_replaced_and_an_empty_passphrase_wraps_nothing() -> None:
    public = make_person_key("person:ada", PASSPHRASE)

    with pytest.raises(KeyUnusable):
        make_person_key("person:ada", b"another")
    with pytest.raises(KeyUnusable):
        make_person_key("person:eve", b"")
    assert read_people() == {"person:ada": public}


def test_a_missing_key_is_unusable() -> None:
    with pytest.raises(KeyUnusable):
        unlock_person_key("person:ada", PASSPHRASE)


@pytest.mark.parametrize(
    "changed",
    [
        {"purpose": "person:eve"},
        {"public": "00" * 32},
        {"format": "sterling/person-key/2"},
        {"n": 2**24},
        {"n": 3},
        {"n": True},
        {"n": 4},
        {"salt": "00" * 16},
        {"nonce": "00" * 12},
        {"nonce": ""},
        {"sealed": "00" * 48},
        {"sealed": ""},
        {"sealed": 5},
        {"public": None},
    ],
)
def test_a_file_of_which_anything_was_changed_is_unusable(changed: dict[str, Any]) -> None:
    make_person_key("person:ada", PASSPHRASE)
    the_file().write_text(json.dumps(json.loads(the_file().read_text()) | changed))

    with pytest.raises(KeyUnusable):
        unlock_person_key("person:ada", PASSPHRASE)


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"\xff", b"[" * 4000])
def test_a_file_with_other_content_is_unusable(content: bytes) -> None:
    make_person_key("person:ada", PASSPHRASE)
    the_file().write_bytes(content)

    with pytest.raises(KeyUnusable):
        unlock_person_key("person:ada", PASSPHRASE)


def test_a_key_of_one_person_is_no_key_of_another() -> None:
    make_person_key("person:ada", PASSPHRASE)
    the_file().rename(the_file().with_name("person-eve.key"))

    with pytest.raises(KeyUnusable):
        unlock_person_key("person:eve", PASSPHRASE)


def test_modes_owners_and_links_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    make_person_key("person:ada", PASSPHRASE)
    the_file().chmod(0o640)
    with pytest.raises(KeyUnusable, match="0600"):
        unlock_person_key("person:ada", PASSPHRASE)
    the_file().chmod(0o600)
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(KeyUnusable, match="belong"):
            unlock_person_key("person:ada", PASSPHRASE)
    the_file().rename(people_folder() / "elsewhere")
    the_file().symlink_to(people_folder() / "elsewhere")
    with pytest.raises(KeyUnusable):
        unlock_person_key("person:ada", PASSPHRASE)


class Ring(KeyringBackend):
    """A keyring in memory that says which module it is from."""

    priority = 1  # type: ignore[assignment]

    def __init__(self, module: str) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        type(self).__module__ = module
        self.is_locked = False

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.is_locked:
            raise KeyringLocked
        self.kept[service, username] = password


def use(monkeypatch: pytest.MonkeyPatch, module: str) -> Ring:
    ring = Ring(module)
    monkeypatch.setattr(keyring, "get_keyring", lambda: ring)
    return ring


def test_a_key_in_the_systems_keyring_leaves_no_secret_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = use(monkeypatch, "keyring.backends.SecretService")
    public = make_person_key("person:ada", None)

    assert set(json.loads(the_file().read_text())) == {"format", "public", "purpose"}
    key = unlock_person_key("person:ada", None)
    verify_signature(public, key.sign(b"message"), b"message")
    for kept in ("", "AAAA", "!", "A" * 43 + "="):
        ring.kept["sterling", "person:ada"] = kept
        with pytest.raises(KeyUnusable):
            unlock_person_key("person:ada", None)


@pytest.mark.parametrize(
    "module", ["keyring.backends.null", "keyring.backends.fail", "keyrings.alt.file", "somebody.elses"]
)
def test_a_keyring_that_keeps_nothing_or_keeps_it_readable_is_refused(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    use(monkeypatch, module)

    with pytest.raises(KeyUnusable, match="operating system"):
        make_person_key("person:ada", None)
    assert not people_folder().exists()


def test_a_chain_of_keyrings_is_judged_by_the_one_that_is_asked_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = Ring("keyrings.alt.file")
    chain: Any = type("ChainerBackend", (), {"__module__": "keyring.backends.chainer", "backends": [plain]})()
    monkeypatch.setattr(keyring, "get_keyring", lambda: chain)

    with pytest.raises(KeyUnusable):
        make_person_key("person:ada", None)


def test_a_locked_keyring_is_unusable_and_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "keyring.backends.macOS").is_locked = True

    with pytest.raises(KeyUnusable):
        make_person_key("person:ada", None)
    assert not people_folder().exists()


def test_public_halves_that_cannot_be_read_make_nobody_known() -> None:
    make_person_key("person:ada", PASSPHRASE)
    (people_folder() / "person-ada.pub").write_text("!")
    (people_folder() / "person-UPPER.pub").write_text("AAAA")

    assert read_people() == {}
