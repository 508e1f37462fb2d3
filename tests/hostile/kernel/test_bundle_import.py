"""Bundles that are traps: links, devices, paths, cuts and bombs; imports that must leave a home as it was."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel import bundle_import, bundle_verify
from sterling.kernel.bundle import BLOCK_BYTES, BundleTooLarge, Selection, export_bundle, tar_header
from sterling.kernel.bundle_import import BundleMalformed, BundleUnverified, import_bundle
from sterling.kernel.home import Home, init_home, open_home
from sterling.testing.forged_bundles import ask, lines_of, pack, unpack, with_lines
from sterling.testing.forged_ledgers import STRANGER, generate

Members = dict[str, bytes]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        generate(folder / "home")
        with open_home(folder / "home") as home:
            export_bundle(home, Selection(), folder / "all.tar")
            export_bundle(home, Selection("range", "2:12"), folder / "part.tar")
    return folder


@pytest.fixture(scope="module")
def whole(original: Path) -> Members:
    return unpack((original / "all.tar").read_bytes())


@pytest.fixture(scope="module")
def part(original: Path) -> Members:
    return unpack((original / "part.tar").read_bytes())


@pytest.fixture(scope="module")
def pin(whole: Members) -> str:
    return str(json.loads(whole["keys.json"])["ledger"])


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Home]:
    with init_home(tmp_path / "receiver") as home:
        yield home


# The tar itself


def plain_tar(**fields: Any) -> bytes:
    """One header as the standard library writes it."""
    info = tarfile.TarInfo("manifest.json")
    for name, value in fields.items():
        setattr(info, name, value)
    return info.tobuf(tarfile.USTAR_FORMAT) + bytes(2 * BLOCK_BYTES)


@pytest.mark.parametrize(
    ("data", "member"),
    [
        (b"", ""),
        (b"\x00x", ""),
        (b"\x1f\x8b\x08" + bytes(2000), ""),
        (bytes(BLOCK_BYTES), ""),
        (plain_tar(name="../escape"), "../escape"),
        (plain_tar(name="/etc/passwd"), "/etc/passwd"),
        (plain_tar(name="blobs/../manifest.json"), "blobs/../manifest.json"),
        (plain_tar(type=tarfile.SYMTYPE, linkname="/etc/passwd"), "manifest.json"),
        (plain_tar(type=tarfile.LNKTYPE, linkname="keys.json"), "manifest.json"),
        (plain_tar(type=tarfile.CHRTYPE), "manifest.json"),
        (plain_tar(type=tarfile.DIRTYPE), "manifest.json/"),
        (plain_tar(type=tarfile.FIFOTYPE), "manifest.json"),
        (plain_tar(type=b"x"), "manifest.json"),
        (plain_tar(mode=0o4755), "manifest.json"),
        (plain_tar(uid=5), "manifest.json"),
        (plain_tar(mtime=5), "manifest.json"),
        (plain_tar(uname="root"), "manifest.json"),
        (tar_header("manifest.json", 8**11 - 1) + bytes(2 * BLOCK_BYTES), "manifest.json"),
        (tar_header("manifest.json", 10) + bytes(2 * BLOCK_BYTES), ""),
        (tar_header("manifest.json", 2000) + bytes(2 * BLOCK_BYTES), "manifest.json"),
        (tar_header("keys.json", 0) * 2 + bytes(2 * BLOCK_BYTES), "keys.json"),
        (tar_header("manifest.json", 0) + tar_header("keys.json", 0) + bytes(1024), "keys.json"),
        (tar_header("manifest.json", 3) + b"{}\n" + b"x" * 509 + bytes(1024), "manifest.json"),
        (tar_header("manifest.json", 0) + bytes(1023), ""),
        (tar_header("manifest.json", 0) + bytes(1025), ""),
        (tar_header("manifest.json", 0) + bytes(1024) + b"x" * 512, ""),
    ],
)
def test_a_tar_that_is_a_trap_is_refused_and_stores_nothing(
    receiver: Home, tmp_path: Path, data: bytes, member: str
) -> None:
    (tmp_path / "trap.tar").write_bytes(data)
    (found,) = ask([data], None)
    before, size = list(receiver.blobs.addresses()), receiver.ledger.size()

    with pytest.raises(BundleMalformed) as caught:
        import_bundle(receiver, tmp_path / "trap.tar", unpinned=True)

    assert found["first_bad"] == [member, None, None, "bundle.malformed"]
    assert caught.value.details["member"] == member
    assert (list(receiver.blobs.addresses()), receiver.ledger.size()) == (before, size)


def test_an_honest_bundle_is_an_ordinary_tar(original: Path, whole: Members) -> None:
    with tarfile.open(fileobj=io.BytesIO((original / "all.tar").read_bytes())) as tar:
        read = {each.name: (tar.extractfile(each) or io.BytesIO()).read() for each in tar.getmembers()}

    assert read == whole


def test_too_many_members_or_bytes_are_too_large(
    original: Path, receiver: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_verify, "MEMBERS_MAX", 3)
    with pytest.raises(BundleTooLarge):
        import_bundle(receiver, original / "all.tar", unpinned=True)
    monkeypatch.undo()
    monkeypatch.setattr(bundle_verify, "MANIFEST_BYTES_MAX", 100)
    with pytest.raises(BundleTooLarge):
        import_bundle(receiver, original / "all.tar", unpinned=True)
    monkeypatch.undo()
    monkeypatch.setattr(bundle_import, "BUNDLE_BYTES_MAX", 1000)
    with pytest.raises(BundleTooLarge):
        import_bundle(receiver, original / "all.tar", unpinned=True)

    assert list(receiver.blobs.addresses()) == [] and receiver.ledger.size() == 1


# Importing


@pytest.mark.parametrize("unpinned", [True, False])
def test_a_bundle_that_does_not_hold_stores_nothing(
    receiver: Home, tmp_path: Path, part: Members, pin: str, unpinned: bool
) -> None:
    lines = lines_of(part, "entries.jsonl")
    lines[2]["proof"] = []
    (tmp_path / "bad.tar").write_bytes(pack(with_lines(part, "entries.jsonl", lines)))

    with pytest.raises(BundleUnverified) as caught:
        import_bundle(receiver, tmp_path / "bad.tar", pin=None if unpinned else pin, unpinned=unpinned)

    assert caught.value.details["found"] == "integrity.proof-invalid"
    assert list(receiver.blobs.addresses()) == [] and receiver.ledger.size() == 1


def test_a_bundle_that_nobody_vouches_for_needs_that_word(original: Path, receiver: Home) -> None:
    with pytest.raises(BundleUnverified, match="nobody vouches"):
        import_bundle(receiver, original / "all.tar")

    assert list(receiver.blobs.addresses()) == [] and receiver.ledger.size() == 1
    assert import_bundle(receiver, original / "all.tar", unpinned=True).found.verdict == "cannot-judge"


def test_a_bundle_pinned_to_another_key_is_refused(original: Path, receiver: Home, part: Members) -> None:
    with pytest.raises(BundleUnverified) as caught:
        import_bundle(
            receiver,
            original / "all.tar",
            pin=STRANGER.verifier(json.loads(part["manifest.json"])["origin"]),
            unpinned=True,
        )

    assert caught.value.details["found"] == "integrity.key-unknown"
