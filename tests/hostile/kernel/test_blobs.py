"""Blobs on a disk that fails, and under processes that die: what lies under an address is whole."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.blobs import BlobNoSpace, BlobNotDurable, Blobs
from sterling.kernel.crypt import Crypt
from sterling.kernel.hashing import address_of

DATA = bytes(range(256)) * 12_000  # Three pieces.


@pytest.fixture(params=["plain", "sealed"])
def blobs(tmp_path: Path, request: pytest.FixtureRequest) -> Blobs:
    (tmp_path / "blobs").mkdir()
    return Blobs(tmp_path / "blobs", Crypt(bytes(32)) if request.param == "sealed" else None)


def failing(name: str, number: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the nth call of a function of `os` fail."""
    original: Callable[..., Any] = getattr(os, name)
    left = [number]

    def call(*given: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == -1:
            raise OSError(code, os.strerror(code))
        return original(*given, **named)

    monkeypatch.setattr(os, name, call)


def everything_is_whole(blobs: Blobs) -> bool:
    return all(blobs.check(stored) == "ok" for stored in blobs.stored())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize(
    ("name", "number"),
    [(name, 0) for name in ("write", "fchmod", "fsync", "link")]
    + [("write", 1), ("write", 2), ("fsync", 1), ("fsync", 2)],
)
@pytest.mark.parametrize("way", ["put", "put_file"])
def test_a_disk_that_fails_leaves_nothing_half(
    blobs: Blobs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    number: int,
    code: int,
    way: str,
) -> None:
    (tmp_path / "source").write_bytes(DATA)
    failing(name, number, code, monkeypatch)

    with pytest.raises(BlobNotDurable if code == errno.EIO else BlobNoSpace):
        blobs.put(DATA) if way == "put" else blobs.put_file(tmp_path / "source")

    assert everything_is_whole(blobs) and list((blobs.root / ".incoming").iterdir()) == []
    monkeypatch.undo()
    assert blobs.get(blobs.put(DATA)) == DATA


def test_short_writes_are_carried_on(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:70_001])))

    assert blobs.get(blobs.put(DATA)) == DATA


def test_a_disk_that_keeps_other_bytes_is_found_when_it_matters(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = blobs.put(DATA)
    other = Blobs(tmp_path / "other", blobs.crypt)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(len(data))))

    with pytest.raises(Exception, match="altered"):
        other.adopt(blobs.forms(address)[0], address)

    assert list(other.stored()) == []


def forked(act: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    return child


def test_many_processes_put_the_same_and_other_bytes_at_once(blobs: Blobs) -> None:
    ready, go = os.pipe(), os.pipe()

    def act(number: int) -> Callable[[], None]:
        def put() -> None:
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            for each in range(10):
                for data in (b"same" * each, bytes([number, each]) * 1000):
                    assert blobs.get(blobs.put(data)) == data

        return put

    children = [forked(act(number)) for number in range(8)]
    for _ in children:
        os.read(ready[0], 1)
    os.write(go[1], b"x" * len(children))

    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    assert len(list(blobs.addresses())) == 10 + 80 and everything_is_whole(blobs)
    assert list((blobs.root / ".incoming").iterdir()) == []


def test_writers_that_find_a_wrong_file_at_once_all_put_it_right(blobs: Blobs) -> None:
    address = blobs.put(DATA)
    place = blobs.forms(address)[0].path
    place.chmod(0o600)
    place.write_bytes(b"wrong")

    children = [forked(lambda: blobs.put(DATA) and None) for _ in range(6)]

    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
    assert blobs.get(address) == DATA
    assert b"wrong" in [file.read_bytes() for file in (blobs.root / ".quarantine").iterdir()]


@pytest.mark.parametrize("name", ["write", "fchmod", "fsync", "link", "mkdir"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_writer_killed_in_the_middle_leaves_at_worst_an_incoming_file(
    blobs: Blobs, name: str, number: int
) -> None:
    original: Callable[..., Any] = getattr(os, name)
    left = [number]

    def die() -> None:
        def call(*given: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == -1:
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()
            return original(*given, **named)

        setattr(os, name, call)
        blobs.put(DATA)

    _, status = os.waitpid(forked(die), 0)

    assert os.WIFSIGNALED(status) or status == 0
    assert everything_is_whole(blobs)
    if blobs.has(address_of(DATA)):
        assert blobs.get(address_of(DATA)) == DATA
    assert blobs.get(blobs.put(DATA)) == DATA
