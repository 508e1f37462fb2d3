"""Control groups: everything in one ends at once, and none is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sterling.runtime import cgroup
from sterling.runtime.cgroup import Group

BREEDS = r"""\
import os, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from sterling.runtime.cgroup import Group
Group(Path(sys.argv[2])).enter()
for _ in range(5):
    if not os.fork():
        os.setsid()
        os.fork()
        break
os.write(1, b'born\n')
time.sleep(60)
"""
SOURCE = str(Path(cgroup.__file__).resolve().parents[2])


@pytest.fixture
def group() -> Iterator[Group]:
    group = Group.make()
    if group is None:
        pytest.skip("this machine lets nobody make a group")
    yield group
    group.close()


def folder_of(group: Group) -> Path:
    return group._folder


def test_all_that_was_born_inside_ends_at_once_and_the_group_goes(group: Group) -> None:
    argv = [sys.executable, "-c", BREEDS, SOURCE, str(folder_of(group))]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for _ in range(11):
            assert child.stdout.readline() == b"born\n"

        assert group.kill() == 11
        assert child.stdout.read() == b""
    group.close()

    assert not folder_of(group).exists()


def test_the_group_of_a_dead_process_is_taken_away_and_that_of_a_living_one_stays(
    group: Group,
) -> None:
    own = folder_of(group).parent
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, living = own / f"sterling-{gone.pid}", own / f"sterling-{os.getppid()}"
    dead.mkdir()
    living.mkdir()
    group.close()

    again = Group.make()
    assert again is not None

    stayed = living.exists()
    living.rmdir()
    assert (dead.exists(), stayed) == (False, True)


@pytest.mark.parametrize("make", [lambda: None, lambda: Path("/nowhere/at/all")])
def test_where_no_group_can_be_made_there_is_none(monkeypatch: pytest.MonkeyPatch, make: object) -> None:
    monkeypatch.setattr(cgroup, "_own_folder", make)

    assert Group.make() is None
