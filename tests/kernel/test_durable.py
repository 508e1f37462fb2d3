"""A file is there whole or not at all: links are not followed, and the folder is synced after the name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sterling.kernel.durable import replace_file, write_new, write_synced


def test_the_bytes_are_synced_before_they_take_the_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        calls.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    def replaced(source: Path, target: Path) -> None:
        calls.append(f"{Path(source).name} to {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)

    replace_file(tmp_path / "a", b"new", growing=tmp_path / "growing")

    assert calls == ["growing", "growing to a", tmp_path.name]
    assert (tmp_path / "a").read_bytes() == b"new" and [*tmp_path.iterdir()] == [tmp_path / "a"]


def test_a_file_stays_as_it_was_when_the_disk_refuses_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", refused)

    with pytest.raises(OSError, match="No space"):
        replace_file(tmp_path / "a", b"new")

    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_link_in_the_place_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"kept")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")

    for write in (lambda: write_synced(tmp_path / "link", b"x"), lambda: write_new(tmp_path / "link", "x")):
        with pytest.raises(OSError, match=r"link|exists"):
            write()

    assert (tmp_path / "elsewhere").read_bytes() == b"kept"


def test_a_new_file_is_its_owners_alone_and_never_replaces_one(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_new(tmp_path / "a", "first")
        replace_file(tmp_path / "b", b"first")
    finally:
        os.umask(before)

    with pytest.raises(FileExistsError):
        write_new(tmp_path / "a", "second")

    assert (tmp_path / "a").read_text() == "first"
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in "ab"] == [0o600, 0o600]
