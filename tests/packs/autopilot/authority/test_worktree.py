"""The work tree: what counts is content, and nothing of the agent's repository is ever run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sterling.packs.autopilot.authority.worktree import Base, WorkTree
from sterling.packs.autopilot.errors import TreeUnsafe, WorkBroken


def git(folder: Path, *words: str) -> str:
    person = [f"GIT_{who}_{what}=a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")]
    environment = dict(os.environ) | dict(pair.split("=", 1) for pair in person)
    done = subprocess.run(
        ["git", *words], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "a.py").write_text("one\ntwo\n")
    (folder / ".gitignore").write_text("*.log\n")
    return folder


@pytest.fixture
def made(tmp_path: Path, source: Path) -> tuple[WorkTree, Base]:
    work = WorkTree(tmp_path / "work")
    return work, work.create(source)


def test_a_plain_folder_becomes_a_base_without_being_touched(tmp_path: Path, source: Path) -> None:
    before = sorted(path.name for path in source.rglob("*"))
    work = WorkTree(tmp_path / "work")

    base = work.create(source)

    assert sorted(path.name for path in source.rglob("*")) == before
    assert (work.tree / "src" / "a.py").read_text() == "one\ntwo\n"
    assert work.snapshot() == base.tree and not base.is_repository


def test_the_same_files_have_the_same_base_everywhere(tmp_path: Path, source: Path) -> None:
    first, second = WorkTree(tmp_path / "w1").create(source), WorkTree(tmp_path / "w2").create(source)

    assert first == second


def test_a_repository_gives_its_head_and_keeps_its_dirt(tmp_path: Path, source: Path) -> None:
    git(source, "init", "-q")
    git(source, "add", "-A")
    git(source, "commit", "-q", "-m", "x")
    (source / "src" / "a.py").write_text("dirty\n")
    head = git(source, "rev-parse", "HEAD")
    work = WorkTree(tmp_path / "work")

    base = work.create(source)

    assert base.commit == head and base.is_repository
    assert (work.tree / "src" / "a.py").read_text() == "one\ntwo\n"
    assert git(work.tree, "remote") == ""


def test_only_content_counts_and_not_times(made: tuple[WorkTree, Base]) -> None:
    work, base = made
    target = work.tree / "src" / "a.py"
    kept = target.stat()

    os.utime(target, (1, 1))
    touched = work.snapshot()
    target.write_text("one\ntwx\n")
    os.utime(target, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    edited = work.snapshot()

    assert touched == base.tree
    assert edited != base.tree


def test_a_change_is_measured_file_by_file(made: tuple[WorkTree, Base]) -> None:
    work, base = made
    (work.tree / "src" / "a.py").write_text("one\n2\nthree\n")
    (work.tree / "new file.bin").write_bytes(bytes(range(256)))
    (work.tree / ".gitignore").rename(work.tree / "moved")

    change = work.change(base.tree, work.snapshot())

    found = {each.path: (each.change, each.added, each.removed) for each in change.files}
    assert found["src/a.py"] == ("modified", 2, 1)
    assert found["new file.bin"] == ("added", 1, 1)
    assert found[".gitignore"][0] == "deleted" and found["moved"][0] == "added"
    assert change.patch_sha256 and change.lines == sum(a + b for _, a, b in found.values())


def test_the_patch_applies_to_the_base_and_gives_the_tree(
    tmp_path: Path, made: tuple[WorkTree, Base]
) -> None:
    work, base = made
    (work.tree / "src" / "a.py").write_text("one\n2\nthree")
    (work.tree / "crlf.txt").write_bytes(b"a\r\nb\r\n")
    tree = work.snapshot()
    again = WorkTree(tmp_path / "again")
    again.create(work.check_out(base.tree, tmp_path / "copy"))

    subprocess.run(["git", "apply", "-"], cwd=again.tree, input=work.diff(base.tree, tree), check=True)

    assert again.snapshot() == tree


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret", "../src/../../x", "a/../../../x"])
def test_a_link_that_leads_out_is_refused(made: tuple[WorkTree, Base], target: str) -> None:
    work, _ = made
    (work.tree / "src" / "link").symlink_to(target)

    with pytest.raises(TreeUnsafe) as caught:
        work.snapshot()

    assert caught.value.details["path"] == "src/link"


def test_a_link_inside_the_tree_is_kept_as_a_link(tmp_path: Path, made: tuple[WorkTree, Base]) -> None:
    work, _ = made
    (work.tree / "src" / "link").symlink_to("../src/a.py")

    copy = work.check_out(work.snapshot(), tmp_path / "copy")

    assert (copy / "src" / "link").is_symlink() and (copy / "src" / "link").read_text() == "one\ntwo\n"


def test_a_repository_inside_the_tree_is_refused(made: tuple[WorkTree, Base]) -> None:
    work, _ = made
    inner = work.tree / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    (inner / "x").write_text("x")
    git(inner, "add", "-A")
    git(inner, "commit", "-q", "-m", "x")

    with pytest.raises((TreeUnsafe, WorkBroken)):
        work.snapshot()


def test_nothing_of_the_agents_git_settings_is_run(tmp_path: Path, made: tuple[WorkTree, Base]) -> None:
    work, base = made
    trap = tmp_path / "sprung"
    hook = f"touch {trap}"
    for key in ("core.fsmonitor", "diff.external", "filter.x.clean", "filter.x.smudge", "core.sshCommand"):
        git(work.tree, "config", key, hook)
    (work.tree / ".git" / "hooks").mkdir(exist_ok=True)
    for name in ("pre-commit", "post-checkout", "post-index-change"):
        script = work.tree / ".git" / "hooks" / name
        script.write_text(f"#!/bin/sh\n{hook}\n")
        script.chmod(0o755)
    (work.tree / ".gitattributes").write_text("* filter=x diff=x\n")

    tree = work.snapshot()
    work.diff(base.tree, tree)
    work.check_out(tree, tmp_path / "copy")

    assert not trap.exists()


def test_files_that_the_agent_hides_from_its_own_git_are_seen(made: tuple[WorkTree, Base]) -> None:
    work, base = made
    (work.tree / ".git" / "info").mkdir(exist_ok=True)
    (work.tree / ".git" / "info" / "exclude").write_text("*\n")
    (work.tree / "hidden.py").write_text("x\n")

    assert [each.path for each in work.change(base.tree, work.snapshot()).files] == ["hidden.py"]


def test_ignored_files_are_not_taken_over(tmp_path: Path, made: tuple[WorkTree, Base]) -> None:
    work, base = made
    (work.tree / "left.log").write_text("x\n")

    assert work.snapshot() == base.tree
    assert not (work.check_out(base.tree, tmp_path / "copy") / "left.log").exists()


def test_a_lent_repository_holds_both_commits(tmp_path: Path, made: tuple[WorkTree, Base]) -> None:
    work, base = made
    (work.tree / "src" / "a.py").write_text("changed\n")

    head = work.lend(tmp_path / "lent", base.commit, work.snapshot())

    assert git(tmp_path / "lent", "show", f"{head}:src/a.py") == "changed"
    assert git(tmp_path / "lent", "rev-parse", f"{head}~1") == base.commit


def test_a_folder_that_git_cannot_read_is_an_error_with_its_words(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    (broken / ".git").mkdir(parents=True)

    with pytest.raises(WorkBroken) as caught:
        WorkTree(tmp_path / "work").create(broken)

    assert "git" in caught.value.message
