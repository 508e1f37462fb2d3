"""Key files: made once, read only by their owner, refused whenever anything is off."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sterling.kernel.keys import KeyUnusable, load_key, load_public_key, make_key
from sterling.kernel.signing import verify_signature


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.mark.parametrize("purpose", ["ledger", "attest", "witness", "person:ada.lovelace"])
def test_a_key_that_was_made_is_the_key_that_is_loaded(folder: Path, purpose: str) -> None:
    made = make_key(folder, purpose)

    loaded = load_key(folder, purpose)

    assert loaded.purpose == purpose
    verify_signature(made.public_key, loaded.sign(b"message"), b"message")
    assert load_public_key(folder, purpose) == made.public_key


def test_keys_of_two_purposes_and_two_homes_differ(folder: Path, tmp_path: Path) -> None:
    made = {
        make_key(place, purpose).public_key
        for place in (folder, tmp_path)
        for purpose in ("ledger", "attest")
    }

    assert len(made) == 4


def test_files_and_folder_belong_to_their_owner_alone_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        make_key(folder, "ledger")
    finally:
        os.umask(before)

    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}


def test_a_key_that_is_there_is_never_replaced(folder: Path) -> None:
    before = make_key(folder, "ledger").public_key

    with pytest.raises(KeyUnusable):
        make_key(folder, "ledger")

    assert load_key(folder, "ledger").public_key == before


def test_a_missing_key_is_unusable(folder: Path) -> None:
    with pytest.raises(KeyUnusable):
        load_key(folder, "ledger")
    assert load_public_key(folder, "ledger") is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604, 0o610, 0o601])
def test_a_key_that_others_may_touch_is_unusable(folder: Path, mode: int) -> None:
    make_key(folder, "ledger")
    (folder / "ledger.key").chmod(mode)

    with pytest.raises(KeyUnusable, match="0600"):
        load_key(folder, "ledger")


def test_a_key_of_another_user_is_unusable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_key(folder, "ledger")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)

    with pytest.raises(KeyUnusable, match="belong to user 12345"):
        load_key(folder, "ledger")


def test_a_key_of_another_purpose_under_this_name_is_unusable(folder: Path) -> None:
    make_key(folder, "attest")
    (folder / "attest.key").rename(folder / "ledger.key")

    with pytest.raises(KeyUnusable, match="found one for 'attest'"):
        load_key(folder, "ledger")


def as_link(file: Path) -> None:
    file.rename(file.with_suffix(".real"))
    file.symlink_to(file.with_suffix(".real"))


def as_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def as_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


@pytest.mark.parametrize("other", [as_link, as_folder, as_pipe])
def test_anything_but_a_regular_file_is_unusable(folder: Path, other: Callable[[Path], None]) -> None:
    make_key(folder, "ledger")
    other(folder / "ledger.key")

    with pytest.raises(KeyUnusable):
        load_key(folder, "ledger")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"format":"sterling/key/1"}',
        b'{"format":"sterling/key/1","purpose":"ledger","private":5,"public":""}',
        b'{"format":"sterling/key/1","purpose":"ledger","private":"AA==","public":"AA=="}',
        b'{"format":"sterling/key/2","purpose":"ledger","private":"%s","public":"%s"}',
        b"[" * 5000,
    ],
)
def test_a_file_with_other_content_is_unusable(folder: Path, content: bytes) -> None:
    make_key(folder, "ledger")
    (folder / "ledger.key").write_bytes(content)

    with pytest.raises(KeyUnusable):
        load_key(folder, "ledger")


def test_two_halves_that_do_not_belong_together_are_unusable(folder: Path) -> None:
    make_key(folder, "ledger")
    content = json.loads((folder / "ledger.key").read_text())
    content["public"] = base64.b64encode(bytes(32)).decode()
    (folder / "ledger.key").write_text(json.dumps(content))

    with pytest.raises(KeyUnusable, match="two halves"):
        load_key(folder, "ledger")


def test_no_message_holds_the_secret(folder: Path) -> None:
    make_key(folder, "ledger")
    secret = json.loads((folder / "ledger.key").read_text())["private"]
    (folder / "ledger.key").write_text(f'{{"private": "{secret}", "purpose": "ledger"')

    with pytest.raises(KeyUnusable) as caught:
        load_key(folder, "ledger")

    told = caught.value.message + str(caught.value.as_json())
    assert secret not in told and caught.value.__suppress_context__


@pytest.mark.parametrize(
    "purpose", ["", "Ledger", "../ledger", "ledger/x", "person:", "person:../x", "person:A", "x"]
)
def test_a_purpose_that_does_not_exist_is_refused_before_any_file_is_touched(
    folder: Path, purpose: str
) -> None:
    for use in (make_key, load_key, load_public_key):
        with pytest.raises(KeyUnusable):
            use(folder, purpose)
    assert not folder.exists()


@pytest.mark.parametrize("content", [b"", b"!!!", b"AAAA", b"\xff"])
def test_an_unreadable_public_half_is_none(folder: Path, content: bytes) -> None:
    make_key(folder, "ledger")
    (folder / "ledger.pub").write_bytes(content)

    assert load_public_key(folder, "ledger") is None
