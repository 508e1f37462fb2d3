"""Moving blobs: two copies before one is released, the right disk or none, and never a lost byte."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel import archive as archives
from sterling.kernel.archive import (
    ArchiveUnusable,
    archive_blobs,
    blobs_before,
    recode_blob,
    restore_blobs,
)
from sterling.kernel.batch import Batch
from sterling.kernel.blob_codec import PLAIN, ZSTD
from sterling.kernel.blobs import (
    STORE_FILE,
    BlobAbsent,
    BlobAltered,
    BlobArchivedAway,
    BlobNotDurable,
    Blobs,
)
from sterling.kernel.home import Home, init_home, open_home
from sterling.kernel.records import Source
from sterling.kernel.standalone_verify import verify as verify_alone
from sterling.kernel.verify import verify_home
from sterling.testing.clock import FakeClock

PIXELS = b"pixels that somebody saw " * 10_000
SESSION = {"source": "images", "name": "day", "machine": "", "zone": "UTC", "rules_hash": "0" * 64}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["plain", "encrypted"])
def home(tmp_path: Path, clock: FakeClock, request: pytest.FixtureRequest) -> Iterator[Home]:
    with init_home(tmp_path / "home", clock=clock, encrypt=request.param == "encrypted") as home:
        yield home


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def name(home: Home, address: str, label: str = "day") -> None:
    """Write a record whose source is this blob."""
    batch = Batch()
    home.records.put(batch, "recall.session", SESSION | {"name": label}, [Source("image", blob=address)])
    home.ledger.commit(batch)


def put(home: Home, data: bytes = PIXELS) -> str:
    address = home.blobs.put(data)
    name(home, address, label=address)
    return address


def test_an_archived_blob_is_read_as_if_it_were_here(home: Home, store: Path) -> None:
    address = put(home)

    moved = archive_blobs(home, [address], store, "the disk is small")

    assert moved.addresses == (address,)
    assert home.blobs.forms(address) == [] and home.blobs.has(address)
    assert home.blobs.get(address) == PIXELS and home.blobs.quick_check(address) == "ok"
    assert home.blobs.open_range(address, 7).read(10) == PIXELS[7:17]
    (entry,) = home.ledger.read(kind="blob.archived")
    assert entry.payload["reason"] == "the disk is small" and entry.subject == address
    home.ledger.checkpoint()
    assert verify_home(home.path, blobs=True, deep=True).exit == 0
    assert verify_alone(home.path, blobs=True)["exit"] == 4
    assert verify_alone(home.path)["exit"] == 0


def test_a_detached_archive_is_named_and_nothing_is_called_good(home: Home, store: Path) -> None:
    address = put(home)
    moved = archive_blobs(home, [address], store, "space")
    home.ledger.checkpoint()
    store.rename(store.with_name("drawer"))

    with pytest.raises(BlobArchivedAway, match=moved.store):
        home.blobs.get(address)

    assert home.blobs.quick_check(address) == "archived"
    found = verify_home(home.path, blobs=True)
    assert (found.exit, found.code) == (4, "blob.archived-away")
    name(home, address, "cited while away")  # It is durable, though not here.


def test_an_archive_is_found_at_the_place_that_the_setting_names(home: Home, store: Path) -> None:
    address = put(home)
    archive_blobs(home, [address], store, "space")
    store.rename(store.with_name("elsewhere"))

    home.blobs.stores = (store.with_name("elsewhere"),)

    assert home.blobs.get(address) == PIXELS


@pytest.mark.parametrize("disk", ["empty", "another archive", "no longer an archive"])
def test_a_wrong_disk_at_the_same_place_is_refused(home: Home, store: Path, disk: str) -> None:
    first, second = put(home), put(home, b"more")
    archive_blobs(home, [first], store, "space")
    shutil.copytree(store, store.with_name("kept"))
    shutil.rmtree(store)
    store.mkdir()
    if disk == "another archive":
        (store / STORE_FILE).write_text('{"format": "sterling/archive/1", "id": "archive-' + "a" * 26 + '"}')
    elif disk == "no longer an archive":
        (store / "photos").mkdir()

    with pytest.raises(ArchiveUnusable):
        archive_blobs(home, [second], store, "space")
    with pytest.raises(ArchiveUnusable):
        restore_blobs(home, None, store)
    with pytest.raises(BlobArchivedAway):
        home.blobs.get(first)

    assert home.blobs.get(second) == b"more"


@pytest.mark.parametrize("place", ["in the home", "a file", "missing", "somebody's folder"])
def test_not_every_folder_becomes_an_archive(home: Home, tmp_path: Path, place: str) -> None:
    address = put(home)
    target = {"in the home": home.path / "evidence", "a file": tmp_path / "f"}.get(place, tmp_path / "x")
    (tmp_path / "f").write_bytes(b"")
    if place == "somebody's folder":
        target.mkdir()
        (target / "letters").mkdir()

    with pytest.raises(ArchiveUnusable):
        archive_blobs(home, [address], target, "space")

    assert home.blobs.get(address) == PIXELS and list(home.ledger.read(kind="blob.archived")) == []


def test_what_came_back_is_here_again_and_the_archive_keeps_it(home: Home, store: Path) -> None:
    one, two = put(home), put(home, b"two")
    archive_blobs(home, [one, two], store, "space")

    assert restore_blobs(home, [one], store).addresses == (one,)
    assert restore_blobs(home, None, store).addresses == (two,)

    shutil.rmtree(store)
    assert home.blobs.get(one) == PIXELS and home.blobs.get(two) == b"two"
    home.ledger.checkpoint()
    assert verify_home(home.path, blobs=True).exit == 0


def test_a_blob_altered_here_is_not_archived(home: Home, store: Path) -> None:
    address = put(home)
    spoil(home.blobs, address)

    with pytest.raises(BlobAltered):
        archive_blobs(home, [address], store, "space")

    assert home.blobs.forms(address) and Blobs(store, home.blobs.crypt).forms(address) == []
    assert list(home.ledger.read(kind="blob.archived")) == []


def test_a_blob_altered_in_the_archive_is_found_and_does_not_come_back(home: Home, store: Path) -> None:
    address = put(home)
    archive_blobs(home, [address], store, "space")
    spoil(Blobs(store, home.blobs.crypt), address)

    with pytest.raises(BlobAltered):
        home.blobs.get(address)
    with pytest.raises(BlobAltered):
        restore_blobs(home, [address], store)

    assert home.blobs.forms(address) == []
    assert verify_home(home.path, blobs=True).code == "integrity.blob-altered"


def test_a_blob_gone_from_an_attached_archive_is_missing(home: Home, store: Path) -> None:
    address = put(home)
    archive_blobs(home, [address], store, "space")
    Blobs(store, home.blobs.crypt).forms(address)[0].path.unlink()

    with pytest.raises(BlobAbsent):
        home.blobs.get(address)

    assert verify_home(home.path, blobs=True).code == "integrity.blob-missing"


def test_a_blob_removed_without_an_entry_is_missing_though_an_archive_has_it(home: Home, store: Path) -> None:
    one, two = put(home), put(home, b"two")
    archive_blobs(home, [one], store, "space")
    home.blobs.forms(two)[0].path.rename(store / "loose")

    assert verify_home(home.path, blobs=True).code == "integrity.blob-missing"


def test_an_unknown_address_is_refused_before_anything_moves(home: Home, store: Path) -> None:
    address = put(home)

    with pytest.raises(BlobAbsent):
        archive_blobs(home, [address, "0" * 64], store, "space")

    assert home.blobs.forms(address)


def test_only_what_no_later_entry_names_is_old(home: Home, clock: FakeClock) -> None:
    old, cited = put(home, b"old"), put(home, b"cited again")
    clock.advance(1_000_000)
    border_us = clock.wall_us()
    put(home, b"new")
    name(home, cited, "again")
    home.blobs.put(b"named by nobody")

    assert list(blobs_before(home, border_us)) == [old]


def test_what_a_document_names_is_as_new_as_the_document(home: Home, clock: FakeClock) -> None:
    inner = home.blobs.put(b"inner")
    name(home, inner)
    clock.advance(1_000_000)
    border_us = clock.wall_us()
    batch = Batch()
    listing = {"listing": "x" * 40_000, "blob": inner}
    batch.append("process.started", {"command": str(listing), "pid": 1, "boot": "b"})
    home.ledger.commit(batch)

    assert list(blobs_before(home, border_us)) == [inner]  # A text that looks like a name is none.


def test_the_entrys_own_documents_stay(home: Home, clock: FakeClock) -> None:
    batch = Batch()
    batch.append("process.started", {"command": "x" * 40_000, "pid": 1, "boot": "b"})
    home.ledger.commit(batch)
    clock.advance(1_000_000)

    assert list(blobs_before(home, clock.wall_us())) == []


def test_a_batch_that_names_nothing_durable_is_refused(home: Home) -> None:
    batch = Batch()
    batch.append("process.started", {"command": "x", "pid": 1, "boot": "b"})
    batch.drafts[0] = type(batch.drafts[0])("blob.recoded", {"address": "0" * 64, "before": [], "after": ""})
    home.ledger.commit(batch)  # An address is no claim that the blob is here; `blob` is.

    with pytest.raises(BlobNotDurable):
        home.ledger.commit(_naming("f" * 64))


def _naming(address: str) -> Batch:
    batch = Batch()
    payload = {"contract": "recall.session@1.0", "id": "r-x", "hash": "0" * 64, "blob": address}
    batch.append("record.put", payload | {"size_bytes": 1, "sources": []})
    return batch


# Another form


def test_a_blob_is_the_same_in_another_form(home: Home) -> None:
    address = put(home)

    assert recode_blob(home, address, ZSTD) and not recode_blob(home, address, ZSTD)

    (stored,) = home.blobs.forms(address)
    assert stored.codec is ZSTD and stored.path.stat().st_size < len(PIXELS) // 50
    assert home.blobs.get(address) == PIXELS and home.blobs.put(PIXELS) == address
    assert list(home.blobs.addresses()) == sorted({address, *home.blobs.addresses()})
    assert home.blobs.file(address).read_bytes() == PIXELS
    home.ledger.checkpoint()
    assert verify_home(home.path, blobs=True, deep=True).exit == 0
    assert verify_alone(home.path, blobs=True)["exit"] == 4
    assert recode_blob(home, address, PLAIN)
    assert [each.codec for each in home.blobs.forms(address)] == [PLAIN]


def test_an_altered_blob_is_not_recoded(home: Home) -> None:
    address = put(home)
    spoil(home.blobs, address)

    with pytest.raises(BlobAltered):
        recode_blob(home, address, ZSTD)

    assert [each.codec for each in home.blobs.forms(address)] == [PLAIN]


def test_an_archived_blob_keeps_its_form_there_and_back(home: Home, store: Path) -> None:
    address = put(home)
    recode_blob(home, address, ZSTD)
    archive_blobs(home, [address], store, "space")
    assert home.blobs.get(address) == PIXELS

    restore_blobs(home, None, store)

    assert [each.codec for each in home.blobs.forms(address)] == [ZSTD]
    assert home.blobs.get(address) == PIXELS


@pytest.mark.parametrize("cut", [0, 1, 10, -1])
def test_a_torn_form_is_altered(home: Home, cut: int) -> None:
    address = put(home)
    recode_blob(home, address, ZSTD)
    file = home.blobs.forms(address)[0].path
    whole = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(whole[:cut])

    with pytest.raises(BlobAltered):
        home.blobs.get(address)

    assert verify_home(home.path, blobs=True).code == "integrity.blob-altered"


def test_a_form_that_is_not_known_is_not_checked_and_not_missing(tmp_path: Path) -> None:
    with init_home(tmp_path / "home") as home:
        address = put(home)
        file = home.blobs.path(address)
        file.rename(file.with_name(file.name + ".jxl"))
        assert home.blobs.quick_check(address) == "unknown"

    found = verify_home(tmp_path / "home", blobs=True)

    assert (found.exit, found.code) == (4, "blob.form-unknown")
    assert verify_alone(tmp_path / "home", blobs=True)["exit"] == 4


def spoil(blobs: Blobs, address: str) -> None:
    file = blobs.forms(address)[0].path
    file.chmod(0o600)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


# Killed at each step


def _die_at(step: int) -> None:
    """End this process, as `kill -9` does, just before its nth call that changes a disk."""
    left = [step]
    patched: list[tuple[Any, str]] = [
        (os, each) for each in ("write", "fsync", "link", "replace", "fchmod", "mkdir")
    ]
    patched += [(Path, "unlink"), (Path, "mkdir")]
    for owner, each in patched:
        original: Callable[..., Any] = getattr(owner, each)

        def call(*given: Any, _original: Callable[..., Any] = original, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)
            return _original(*given, **named)

        setattr(owner, each, call)


def _in_child(act: Callable[[], None], step: int) -> bool:
    """Run in a forked process that dies at a step; whether it came to its end instead."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _die_at(step)
            act()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0 or os.WIFSIGNALED(status), "the act itself failed"
    return status == 0


@pytest.mark.slow
@pytest.mark.parametrize("act", ["archive", "restore", "recode"])
@pytest.mark.parametrize("encrypt", [False, True])
def test_killed_at_each_step_there_is_a_whole_copy_and_the_act_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str, encrypt: bool
) -> None:
    begun = tmp_path / "begun"
    monkeypatch.setenv("XDG_STATE_HOME", str(begun / "state"))
    (begun / "disk").mkdir(parents=True)
    with init_home(begun / "home", encrypt=encrypt) as home:
        first, second = put(home), put(home, b"second" * 1000)
        if act == "restore":
            archive_blobs(home, [first, second], begun / "disk", "space")

    def perform() -> None:
        with open_home(path) as home:
            if act == "archive":
                archive_blobs(home, [first, second], store, "space")
            elif act == "restore":
                restore_blobs(home, None, store)
            else:
                recode_blob(home, first, ZSTD)

    step, ended = 0, False
    while not ended:
        case = tmp_path / "case"
        shutil.rmtree(case, ignore_errors=True)
        shutil.copytree(begun, case)
        monkeypatch.setenv("XDG_STATE_HOME", str(case / "state"))
        path, store = case / "home", case / "disk"
        ended = _in_child(perform, step)
        step += 1
        with open_home(path, read_only=True) as home:
            assert home.blobs.get(first) == PIXELS
            assert home.blobs.get(second) == b"second" * 1000
        assert verify_home(path, blobs=True).verdict != "broken"
        perform()
        with open_home(path) as home:
            home.ledger.checkpoint()
            assert bool(home.blobs.forms(first)) == (act != "archive")
            assert len(home.blobs.forms(first)) < 2
        assert verify_home(path, blobs=True).exit == 0

    assert step > 12


def test_the_mutant_that_releases_before_the_entry_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    with init_home(tmp_path / "home") as home:
        address = put(home)

        def refuse(_batch: Batch) -> None:
            assert home.blobs.forms(address), "a file was released before its entry was durable"
            raise KeyboardInterrupt

        monkeypatch.setattr(home.ledger, "commit", refuse)
        with pytest.raises(KeyboardInterrupt):
            archive_blobs(home, [address], tmp_path / "disk", "space")
        monkeypatch.undo()

        assert home.blobs.get(address) == PIXELS
        assert archives.restore_blobs(home, None, tmp_path / "disk").addresses == ()
