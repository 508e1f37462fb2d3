"""A home on media that cannot be written: reading and verifying work there, and nothing pretends to write."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sterling.kernel.batch import Batch
from sterling.kernel.home import init_home

_MOUNTED = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    init_home(tmp_path / "home").close()
    return tmp_path / "home"


def sterling(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a namespace of its own, where the home is mounted for reading only."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare on this machine: nothing can be mounted for one test")
    program = [sys.executable, "-m", "sterling", *arguments, "--home", str(home), "--json"]
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _MOUNTED, "sh", str(home)]
    return subprocess.run([*namespace, *program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [["ledger", "show"], ["ledger", "head"], ["status"], ["verify"]])
def test_a_home_on_read_only_media_can_be_read_and_verified(home: Path, arguments: list[str]) -> None:
    ran = sterling(home, *arguments)

    assert (ran.returncode, "error" in json.loads(ran.stdout)) == (0, False), ran.stdout + ran.stderr


def test_writing_to_read_only_media_is_refused_and_changes_nothing(home: Path) -> None:
    before = {file: file.read_bytes() for file in home.rglob("*") if file.is_file()}

    ran = sterling(home, "ledger", "checkpoint")

    assert json.loads(ran.stdout)["error"]["code"] == "home.permissions", ran.stdout + ran.stderr
    assert {file: file.read_bytes() for file in home.rglob("*") if file.is_file()} == before


def test_a_journal_with_entries_is_never_left_out(home: Path, tmp_path: Path) -> None:
    """What is only in the write-ahead log would be missing: better no answer than an older one."""
    with init_home(tmp_path / "busy") as busy:
        batch = Batch()
        batch.append("process.ended", {"command": "tool", "exit": 0})
        busy.ledger.commit(batch)
        copied = shutil.copytree(busy.path, tmp_path / "copied")
    (copied / "ledger.db-shm").unlink()
    assert (copied / "ledger.db-wal").stat().st_size > 0

    ran = sterling(copied, "ledger", "head")

    assert json.loads(ran.stdout)["error"]["code"].startswith("store."), ran.stdout + ran.stderr
