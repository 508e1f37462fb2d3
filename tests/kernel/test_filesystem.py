"""A home on another machine's disk is refused for writing; the mount that counts is the innermost."""

from __future__ import annotations

from pathlib import Path

import pytest

from sterling.kernel import filesystem
from sterling.kernel.filesystem import FilesystemUnsupported, filesystem_of, require_local
from sterling.kernel.home import init_home, open_home

MOUNTS = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:30 / /home rw - nfs4 server:/home rw
31 30 0:31 / /home/a\040b rw - xfs /dev/b rw
32 22 0:32 / /mnt/x rw - ext4 /dev/c rw
33 32 0:33 / /mnt/x rw - fuse.sshfs me@there: rw
torn line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/home", "ext4"),
        ("/", "ext4"),
        ("/home", "nfs4"),
        ("/home/x", "nfs4"),
        ("/homes", "ext4"),
        ("/home/a b/c", "xfs"),
        ("/home/a bc", "nfs4"),
        ("/mnt/x/y", "fuse.sshfs"),
    ],
)
def test_the_innermost_and_latest_mount_counts(path: str, kind: str) -> None:
    assert filesystem_of(path, MOUNTS) == kind


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "fuse.glusterfs"]
)
def test_a_network_disk_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "filesystem_of", lambda path, mounts: kind)

    with pytest.raises(FilesystemUnsupported):
        require_local(tmp_path)


def test_a_home_on_one_is_read_but_neither_made_nor_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_home(tmp_path / "home").close()
    monkeypatch.setattr(filesystem, "filesystem_of", lambda path, mounts: "nfs4")

    with open_home(tmp_path / "home", read_only=True) as home:
        assert home.ledger.size() == 1
    with pytest.raises(FilesystemUnsupported):
        open_home(tmp_path / "home")
    with pytest.raises(FilesystemUnsupported):
        init_home(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_this_disk_is_taken(tmp_path: Path) -> None:
    require_local(tmp_path)
    assert filesystem_of("/nowhere/at/all", "") == ""
