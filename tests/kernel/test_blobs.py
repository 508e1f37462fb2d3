"""Blobs: the address is the hash, nothing is replaced, nothing wrong is handed out."""

from __future__ import annotations

import os
import subprocess
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterling.kernel.batch import Batch
from sterling.kernel.blobs import BlobAbsent, BlobAltered, Blobs, BlobSourceUnreadable
from sterling.kernel.crypt import Crypt
from sterling.kernel.home import init_home


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    (tmp_path / "blobs").mkdir()
    return Blobs(tmp_path / "blobs")


def test_the_address_is_what_sha256sum_says(blobs: Blobs) -> None:
    address = blobs.put(b"hello\n" * 1000)

    printed = subprocess.run(["sha256sum", blobs.path(address)], capture_output=True, text=True, check=True)

    assert printed.stdout.split()[0] == address


@given(data=st.binary(max_size=4096))
def test_what_was_put_is_what_is_got(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    store = Blobs(tmp_path_factory.mktemp("blobs"))

    assert store.get(store.put(data)) == data


def test_putting_twice_keeps_one_file_and_its_time(blobs: Blobs) -> None:
    address = blobs.put(b"same")
    before = os.stat(blobs.path(address)).st_mtime_ns

    assert blobs.put(b"same") == address

    assert os.stat(blobs.path(address)).st_mtime_ns == before
    assert list(blobs.addresses()) == [address]


def test_a_stored_file_is_read_only_and_nothing_is_left_behind(blobs: Blobs) -> None:
    address = blobs.put(b"x")

    assert os.stat(blobs.path(address)).st_mode & 0o777 == 0o444
    assert list((blobs.root / ".incoming").iterdir()) == []


def test_an_altered_file_is_refused_not_returned(blobs: Blobs) -> None:
    address = blobs.put(b"truth")
    os.chmod(blobs.path(address), 0o600)
    blobs.path(address).write_bytes(b"trust")

    with pytest.raises(BlobAltered) as caught:
        blobs.get(address)

    assert caught.value.details["address"] == address
    assert blobs.quick_check(address) == "altered"


def test_a_wrong_file_is_set_aside_when_the_right_bytes_come(blobs: Blobs) -> None:
    address = blobs.put(b"truth")
    os.chmod(blobs.path(address), 0o600)
    blobs.path(address).write_bytes(b"trust")

    assert blobs.put(b"truth") == address

    assert blobs.get(address) == b"truth"
    assert [file.read_bytes() for file in (blobs.root / ".quarantine").iterdir()] == [b"trust"]


def test_nothing_at_an_address_is_said(blobs: Blobs) -> None:
    with pytest.raises(BlobAbsent):
        blobs.get("0" * 64)

    assert not blobs.has("0" * 64) and not blobs.has("../../etc/passwd")


def test_a_file_is_stored_in_pieces(blobs: Blobs, tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.write_bytes(os.urandom(3 * 1024 * 1024 + 17))

    assert blobs.get(blobs.put_file(source)) == source.read_bytes()
    assert list((blobs.root / ".incoming").iterdir()) == []


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_what_cannot_be_read_is_said(blobs: Blobs, tmp_path: Path, what: str) -> None:
    source = tmp_path if what == "folder" else tmp_path / "nothing"

    with pytest.raises(BlobSourceUnreadable):
        blobs.put_file(source)

    assert list(blobs.addresses()) == []


def test_a_crash_before_the_link_leaves_only_an_incoming_file(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", die)

    with pytest.raises(KeyboardInterrupt):
        blobs.put(b"half")

    assert list(blobs.addresses()) == []


def test_a_reader_settles_when_it_is_closed(blobs: Blobs) -> None:
    data = os.urandom(3 * 1024 * 1024 + 17)
    address = blobs.put(data)

    with blobs.open_range(address, 2 * 1024 * 1024) as reader:
        assert reader.read(100) == data[2 * 1024 * 1024 :][:100]
        assert reader.readall() == data[2 * 1024 * 1024 + 100 :]

    assert blobs.open_range(address, len(data) + 1).read() == b""


@pytest.mark.parametrize("read_bytes", [0, 1, 1024 * 1024, -1])
def test_a_reader_of_an_altered_blob_fails_at_close_however_much_was_read(
    blobs: Blobs, read_bytes: int
) -> None:
    address = blobs.put(bytes(2 * 1024 * 1024))
    os.chmod(blobs.path(address), 0o600)
    blobs.path(address).write_bytes(bytes(2 * 1024 * 1024 - 1) + b"\x01")
    reader = blobs.open_range(address)

    with pytest.raises(BlobAltered), closing(reader):
        reader.read(read_bytes)

    assert reader.closed
    reader.close()


@pytest.mark.parametrize("what", ["folder", "dangling link", "link"])
def test_what_is_no_file_of_ours_is_altered(blobs: Blobs, tmp_path: Path, what: str) -> None:
    address = blobs.put(b"truth")
    place = blobs.path(address)
    place.rename(tmp_path / "kept")
    if what == "folder":
        place.mkdir()
    else:
        place.symlink_to(tmp_path / ("kept" if what == "link" else "nothing"))

    assert blobs.quick_check(address) == ("ok" if what == "link" else "altered")
    assert blobs.check(next(blobs.stored())) == "altered"

    blobs.put(b"truth")
    assert blobs.get(address) == b"truth"


def test_a_stream_is_stored_in_pieces(blobs: Blobs, tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.write_bytes(os.urandom(1024 * 1024 + 1))

    with source.open("rb") as stream:
        assert blobs.get(blobs.put_stream(stream)) == source.read_bytes()


@pytest.mark.parametrize("sealed", [False, True])
def test_memory_does_not_grow_with_the_size(tmp_path: Path, sealed: bool) -> None:
    blobs = Blobs(tmp_path / "blobs", Crypt(bytes(32)) if sealed else None)
    source = tmp_path / "large"
    with source.open("wb") as file:
        file.truncate(64 * 1024 * 1024)

    tracemalloc.start()
    address = blobs.put_file(source)
    with blobs.open_range(address):
        pass
    assert blobs.put_file(source) == address
    assert blobs.quick_check(address) == "ok"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak <= 8 * 1024 * 1024


def test_what_was_set_aside_is_an_entry_before_the_next_batch(tmp_path: Path) -> None:
    with init_home(tmp_path / "home") as home:
        address = home.blobs.put(b"truth")
        home.blobs.path(address).chmod(0o600)
        home.blobs.path(address).write_bytes(b"trust")
        home.blobs.put(b"truth")
        batch = Batch()
        batch.append("process.ended", {"command": "tool", "exit": 0})
        home.ledger.commit(batch)

        (entry,) = home.ledger.read(kind="blob.quarantined")

    assert entry.subject == address and entry.index == 1
    aside = tmp_path / "home" / "blobs" / ".quarantine" / str(entry.payload["file"])
    assert aside.read_bytes() == b"trust"
