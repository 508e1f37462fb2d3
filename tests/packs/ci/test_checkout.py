"""A clean copy: exactly the tree, nothing that leads out of it, and the repository left alone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sterling.packs.ci.checkout import (
    GitFailed,
    LinkOutside,
    NotARepository,
    Repository,
    RevisionUnknown,
    copy_revision,
    copy_worktree,
    find_repository,
    list_files,
    merge_base,
    read_at,
    resolve_revision,
)
from sterling.runtime.fingerprint import tree_hash

Make = Callable[..., Path]
FILES: Mapping[str, str] = {
    "a.py": "a",
    "sub/b.py": "b",
    "with space;and `odd` $(name).py": "c",
    "ünïcode.py": "d",
    ".gitignore": "ignored*\n",
    ".gitattributes": "*.py export-ignore\nsub export-subst\n",
}


def head(folder: Path) -> tuple[Repository, str]:
    repository = find_repository(folder)
    return repository, resolve_revision(repository, "HEAD")


def test_a_clean_working_tree_and_its_commit_give_the_same_copy(
    make_repository: Make, tmp_path: Path
) -> None:
    folder = make_repository(FILES)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    os.symlink("a.py", folder / "inside")
    make_repository({})
    repository, commit = head(folder)

    first = copy_revision(repository, commit, tmp_path / "one")
    second = copy_worktree(repository, tmp_path / "two")

    assert tree_hash(first.path) == tree_hash(second.path)
    assert (first.commit, second.commit, second.dirty) == (commit, commit, False)
    assert sorted(path.name for path in first.path.rglob("*.py")) == sorted(
        ["a.py", "b.py", "with space;and `odd` $(name).py", "ünïcode.py"]
    ), "export attributes hide nothing"
    assert os.access(first.path / "run.sh", os.X_OK)
    assert os.readlink(second.path / "inside") == "a.py"


def test_copying_leaves_the_repository_as_it_was(make_repository: Make, tmp_path: Path) -> None:
    folder = make_repository(FILES)
    (folder / "a.py").write_text("changed")
    repository, commit = head(folder)
    before = subprocess.run(["find", ".git", "-type", "f"], cwd=folder, capture_output=True).stdout

    copy_revision(repository, commit, tmp_path / "one")
    copy_worktree(repository, tmp_path / "two")

    after = subprocess.run(["find", ".git", "-type", "f"], cwd=folder, capture_output=True).stdout
    assert before == after
    assert (folder / "a.py").read_text() == "changed"


def test_the_working_tree_is_copied_by_listing(make_repository: Make, tmp_path: Path) -> None:
    folder = make_repository(FILES)
    (folder / "a.py").write_text("changed")
    (folder / "sub/b.py").unlink()
    (folder / "new.py").write_text("n")
    (folder / "ignored.py").write_text("i")
    os.mkfifo(folder / "pipe")

    copy = copy_worktree(find_repository(folder), tmp_path / "copy")

    assert (copy.path / "a.py").read_text() == "changed"
    assert (copy.path / "new.py").exists()
    assert not (copy.path / "sub/b.py").exists()
    assert not (copy.path / "ignored.py").exists()
    assert (copy.commit, copy.dirty) == ("", True)
    assert not (copy.path / "pipe").exists()


def test_a_repository_without_a_commit_is_dirty(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path / "r")], check=True)
    (tmp_path / "r" / "a.py").write_text("a")

    copy = copy_worktree(find_repository(tmp_path / "r"), tmp_path / "copy")

    assert (copy.commit, copy.dirty) == ("", True)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "sub/../../outside"])
@pytest.mark.parametrize("committed", [True, False])
def test_a_link_out_of_the_tree_is_refused(
    make_repository: Make, tmp_path: Path, target: str, committed: bool
) -> None:
    folder = make_repository(FILES)
    os.symlink(target, folder / "link")
    if committed:
        make_repository({})
    repository, commit = head(folder)

    def copy() -> object:
        place = tmp_path / "copy"
        return copy_revision(repository, commit, place) if committed else copy_worktree(repository, place)

    with pytest.raises(LinkOutside) as caught:
        copy()

    assert "link" in caught.value.message
    assert caught.value.exit == 2


def test_two_links_that_lead_out_together_are_refused(make_repository: Make, tmp_path: Path) -> None:
    folder = make_repository({"deep/er/x": "x"})
    os.symlink("deep/er", folder / "down")
    os.symlink("down/../../..", folder / "up")

    with pytest.raises(LinkOutside):
        copy_worktree(find_repository(folder), tmp_path / "copy")


def test_a_dangling_link_inside_is_copied_as_it_is(make_repository: Make, tmp_path: Path) -> None:
    folder = make_repository({"a": "a"})
    os.symlink("not-there", folder / "dangling")

    copy = copy_worktree(find_repository(folder), tmp_path / "copy")

    assert os.readlink(copy.path / "dangling") == "not-there"


def test_submodules_and_pointers_are_named(make_repository: Make, tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    folder = make_repository({"big.bin": pointer})
    inner = make_repository({"x": "x"}, name="inner")
    subprocess.run(
        ["git", "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "mod"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    make_repository({})
    repository, commit = head(folder)

    for copy in (
        copy_revision(repository, commit, tmp_path / "1"),
        copy_worktree(repository, tmp_path / "2"),
    ):
        assert copy.submodules == ("mod",)
        assert copy.pointers == ("big.bin",)


def test_the_folder_a_command_was_given_from_is_known(make_repository: Make) -> None:
    folder = make_repository(FILES)

    assert find_repository(folder / "sub") == Repository(folder, "sub")


@pytest.mark.parametrize(
    "name", ["nope", "", "--all", "HEAD~7", "HEAD:a.py", "-x", "a\nb", "refs/heads/none"]
)
def test_what_is_no_commit_is_refused(make_repository: Make, name: str) -> None:
    repository = find_repository(make_repository(FILES))

    with pytest.raises(RevisionUnknown) as caught:
        resolve_revision(repository, name)

    assert caught.value.exit == 2


@pytest.mark.parametrize("place", ["missing", "file", "plain"])
def test_what_is_no_repository_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "plain").mkdir()

    with pytest.raises(NotARepository):
        find_repository(tmp_path / place)


def test_variables_that_git_sets_in_hooks_do_not_lead_elsewhere(
    make_repository: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other = make_repository(FILES), make_repository({"o": "o"}, name="other")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))

    repository = find_repository(folder)

    assert repository.root == folder
    assert "a.py" in list_files(repository)


def test_no_hook_of_the_repository_runs_while_copying(make_repository: Make, tmp_path: Path) -> None:
    folder = make_repository(FILES)
    hook = folder / ".git/hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
    hook.chmod(0o755)
    repository, commit = head(folder)

    copy_revision(repository, commit, tmp_path / "copy")

    assert not (tmp_path / "hooked").exists()


def test_a_file_of_a_commit_is_read_and_a_missing_one_is_none(make_repository: Make) -> None:
    repository, commit = head(make_repository(FILES))

    assert read_at(repository, commit, "sub/b.py") == b"b"
    assert read_at(repository, commit, "nope") is None


def test_the_merge_base_needs_an_upstream(make_repository: Make) -> None:
    folder = make_repository(FILES)
    repository, first = head(folder)

    assert merge_base(repository) == ""

    for words in (["branch", "up"], ["branch", "-q", "--set-upstream-to=up"]):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    make_repository({"more.py": "m"})
    assert merge_base(repository) == first


def test_a_commit_whose_objects_are_gone_is_an_error_of_git(make_repository: Make, tmp_path: Path) -> None:
    folder = make_repository(FILES)

    with pytest.raises(GitFailed):
        copy_revision(find_repository(folder), "0" * 40, tmp_path / "copy")
