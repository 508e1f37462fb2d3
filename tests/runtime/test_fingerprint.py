from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sterling.runtime.fingerprint import TreeUnreadable, environment_fingerprint, tree_hash, tree_listing


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "deep").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"a")
    (root / "deep" / "b.txt").write_bytes(b"b")
    (root / "run.sh").write_bytes(b"#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("a.txt")
    return root


def test_a_listing_names_every_file_with_its_mode_sorted_by_path(tree: Path) -> None:
    entries = [(entry.path, entry.mode, entry.size_bytes) for entry in tree_listing(tree).entries]

    assert entries == [
        ("a.txt", "100644", 1),
        ("deep/b.txt", "100644", 1),
        ("link", "120000", 5),
        ("run.sh", "100755", 10),
    ]


def test_a_copy_elsewhere_with_other_times_has_the_same_hash(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy, symlinks=True)
    os.utime(copy / "a.txt", (1, 1))
    (copy / "empty").mkdir()
    (copy / ".git").write_text("gitdir: elsewhere")

    assert tree_hash(copy) == tree_hash(tree)


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: (tree / "a.txt").write_bytes(b"A"),
        lambda tree: (tree / "a.txt").rename(tree / "c.txt"),
        lambda tree: (tree / "a.txt").chmod(0o755),
        lambda tree: (tree / "run.sh").chmod(0o644),
        lambda tree: (tree / "new").write_bytes(b""),
        lambda tree: ((tree / "link").rename(tree / "old"), (tree / "link").symlink_to("run.sh")),
        lambda tree: (tree / "a.txt").rename(tree / "deep" / "a.txt"),
        lambda tree: (tree / "deep" / ".gitignore").write_bytes(b"*"),
    ],
)
def test_a_change_of_bytes_names_modes_or_links_changes_the_hash(tree: Path, change: object) -> None:
    before = tree_hash(tree)
    change(tree)  # type: ignore[operator]

    assert tree_hash(tree) != before


def test_moving_bytes_between_name_and_content_changes_the_hash(tmp_path: Path) -> None:
    for name, content in (("one", b"xy"), ("two", b"y")):
        (tmp_path / name).mkdir()
        (tmp_path / name / ("a" if name == "one" else "ax")).write_bytes(content)

    assert tree_hash(tmp_path / "one") != tree_hash(tmp_path / "two")


def test_git_itself_does_not_count(tree: Path) -> None:
    before = tree_hash(tree)
    (tree / ".git").mkdir()
    (tree / ".git" / "HEAD").write_text("ref")

    assert tree_hash(tree) == before


def test_only_named_files_are_listed_when_they_are_named(tree: Path) -> None:
    listing = tree_listing(tree, only=["deep/b.txt", "a.txt", "a.txt"])

    assert [entry.path for entry in listing.entries] == ["a.txt", "deep/b.txt"]


def test_a_named_pipe_is_left_out_and_not_read(tree: Path) -> None:
    before = tree_hash(tree)
    os.mkfifo(tree / "pipe")

    assert tree_hash(tree) == before


def test_a_name_that_is_no_utf_8_keeps_its_bytes(tree: Path) -> None:
    Path(os.fsdecode(os.fsencode(tree) + b"/\xff")).write_bytes(b"")

    assert tree_listing(tree).entries[0].path == "\\xff"


@pytest.mark.parametrize("bad", ["nonesuch", "a.txt"])
def test_what_is_no_folder_is_a_usage_error(tree: Path, bad: str) -> None:
    with pytest.raises(TreeUnreadable) as caught:
        tree_hash(tree / bad)

    assert caught.value.exit == 2


def test_a_named_file_that_is_missing_is_a_usage_error(tree: Path) -> None:
    with pytest.raises(TreeUnreadable):
        tree_hash(tree, only=["ghost"])


def test_an_environment_says_what_is_installed_and_what_differs() -> None:
    here = environment_fingerprint()
    other = replace(here, platform="plan9-vax", distributions=(*here.distributions[1:], ("zz-new", "1")))

    assert here == environment_fingerprint()
    assert dict(here.distributions)["pytest"]
    assert here.differences(other) == ["platform", here.distributions[0][0], "zz-new"]
    assert here.differences(here) == []
