"""The task's work tree, and the authority's own way of looking at it.

Two repositories: `tree/` is the agent's, with a `.git` of its own and no remote.
`authority.git` is ours; it takes snapshots of the agent's files, so no setting,
filter or hook in the agent's repository is ever read by the authority. What
counts is the content of files (git blob ids), never their times: every snapshot
hashes every file again.

A changed link that leads out of the tree, or a repository inside it, is refused.
"""

from __future__ import annotations

import os
import posixpath
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sterling.packs.autopilot.artifacts.scope import Change, FileChange
from sterling.packs.autopilot.environment import search_path
from sterling.packs.autopilot.errors import TreeUnsafe, WorkBroken
from sterling.packs.autopilot.process.delta import patch_identity

__all__ = ["Base", "WorkTree"]

_TIMEOUT_S = 300
_BRANCH = "refs/heads/base"
_LINK, _REPOSITORY = "120000", "160000"
_CHANGES = {"A": "added", "M": "modified", "D": "deleted", "T": "modified"}


@dataclass(frozen=True, slots=True)
class Base:
    """Where a task starts: a commit in the authority's repository, and its tree."""

    commit: str
    tree: str
    is_repository: bool


class WorkTree:
    """The work folder of one task: `tree/`, `review/` and `authority.git`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = folder / "tree"
        self.review = folder / "review"
        self._git_dir = folder / "authority.git"

    def create(self, source: Path) -> Base:
        """Take over a repository's commit, or a plain folder's files, and make the agent's tree.

        Errors: WorkBroken, TreeUnsafe.
        """
        self.folder.mkdir(mode=0o700, parents=True)
        self._git("init", "-q", "--bare", "--template=", str(self._git_dir), at=self.folder)
        is_repository = (source / ".git").exists()
        if is_repository:
            self._ours("fetch", "-q", "--no-tags", str(source.resolve()), f"HEAD:{_BRANCH}")
        else:
            self._import(source)
        base = Base(
            self._ours("rev-parse", _BRANCH), self._ours("rev-parse", f"{_BRANCH}^{{tree}}"), is_repository
        )
        self._make_agent_tree()
        return base

    def snapshot(self) -> str:
        """The tree id of the agent's files as they stand now.

        Errors: WorkBroken, TreeUnsafe.
        """
        return self._tree_of(self.tree)

    def change(self, base: str, tree: str) -> Change:
        """What one tree does to another, file by file."""
        if base == tree:
            return Change(())
        counts = dict(self._numbers(base, tree))
        files = []
        for mode, blob, letter, path in self._raw(base, tree):
            added, removed = counts.get(path, (0, 0))
            gone = letter == "D"
            files.append(FileChange(path, _CHANGES[letter], added, removed, "" if gone else blob, mode))
        return Change(tuple(sorted(files, key=lambda each: each.path)), patch_identity(self.diff(base, tree)))

    def diff(self, base: str, tree: str) -> bytes:
        """The patch from one tree to another; it applies with `git apply`."""
        words = ("diff-tree", "-p", "-r", "--binary", "--full-index", "--no-renames", "--no-ext-diff")
        return self._bytes(*words, "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/", base, tree)

    def files(self, tree: str) -> frozenset[str]:
        """Every path of a tree."""
        names = self._bytes("ls-tree", "-r", "-z", "--full-tree", "--name-only", tree)
        return frozenset(name.decode("utf-8", "surrogateescape") for name in names.split(b"\x00") if name)

    def read(self, tree: str, path: str) -> bytes | None:
        """The content of one file of a tree, or None when the tree has no such file."""
        if path not in self.files(tree):
            return None
        return self._bytes("cat-file", "blob", f"{tree}:{path}")

    def check_out(self, tree: str, target: Path) -> Path:
        """Write a clean copy of a tree into a new folder."""
        target.mkdir(mode=0o700, parents=True)
        with self._index() as index:
            self._ours("read-tree", tree, index=index)
            self._ours("checkout-index", "-a", "-f", work_tree=target, index=index)
        return target

    def keep(self, tree: str, message: str, branch: str, base: str) -> str:
        """Commit a tree on the base under a branch of the authority's repository; returns the commit."""
        commit = self._ours("commit-tree", tree, "-p", base, "-m", message)
        self._ours("update-ref", f"refs/heads/{branch}", commit)
        return commit

    def lend(self, target: Path, base: str, tree: str) -> str:
        """Make a repository that has base and tree as commits, without copying; returns the tree's commit."""
        commit = self._ours("commit-tree", tree, "-p", base, "-m", "the change")
        self._git("init", "-q", "--template=", str(target), at=self.folder)
        info = target / ".git" / "objects" / "info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "alternates").write_text(f"{self._git_dir.resolve()}/objects\n", encoding="utf-8")
        self._git("update-ref", "refs/heads/change", commit, at=target)
        return commit

    @property
    def repository(self) -> Path:
        """Where a person may fetch the task's branch from."""
        return self._git_dir

    def renew_review(self, tree: str) -> Path:
        """A fresh clean copy for a reviewer; an older one is put aside."""
        if self.review.exists():
            self.review.rename(_unused(self.folder, "review-before"))
        return self.check_out(tree, self.review)

    def _import(self, source: Path) -> None:
        tree = self._tree_of(source)
        commit = self._ours("commit-tree", tree, "-m", "base")
        self._ours("update-ref", _BRANCH, commit)

    def _make_agent_tree(self) -> None:
        self._git("init", "-q", "--template=", str(self.tree), at=self.folder)
        for words in (
            ("fetch", "-q", "--no-tags", str(self._git_dir), _BRANCH),
            ("checkout", "-q", "-b", "task", "FETCH_HEAD"),
            ("config", "user.name", "agent"),
            ("config", "user.email", "agent@localhost"),
        ):
            self._git(*words, at=self.tree)

    def _tree_of(self, folder: Path) -> str:
        with self._index() as index:
            self._ours("add", "-A", ".", work_tree=folder, index=index)
            tree = self._ours("write-tree", index=index)
        base = self._ours("rev-parse", "-q", "--verify", f"{_BRANCH}^{{tree}}", may_fail=True)
        self._refuse_unsafe(base or self._empty_tree(), tree)
        return tree

    def _empty_tree(self) -> str:
        return self._ours("hash-object", "-t", "tree", "-w", "/dev/null")

    def _refuse_unsafe(self, base: str, tree: str) -> None:
        for mode, blob, letter, path in self._raw(base, tree):
            if letter == "D":
                continue
            if mode == _REPOSITORY:
                raise TreeUnsafe(f"expected files, found a repository at {path}", path=path)
            if mode == _LINK:
                target = self._bytes("cat-file", "blob", blob).decode("utf-8", "surrogateescape")
                reached = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
                if target.startswith("/") or reached == ".." or reached.startswith("../"):
                    raise TreeUnsafe(f"expected links inside the tree, found {path} -> {target}", path=path)

    def _raw(self, base: str, tree: str) -> Iterator[tuple[str, str, str, str]]:
        """(mode, blob, letter, path) of every changed file."""
        pieces = self._bytes("diff-tree", "-r", "-z", "--raw", "--no-renames", base, tree).split(b"\x00")
        for head, name in zip(pieces[0::2], pieces[1::2], strict=False):
            fields = head.decode("ascii").split(" ")
            yield fields[1], fields[3], fields[4][:1], name.decode("utf-8", "surrogateescape")

    def _numbers(self, base: str, tree: str) -> Iterator[tuple[str, tuple[int, int]]]:
        rows = self._bytes("diff-tree", "-r", "-z", "--numstat", "--no-renames", base, tree)
        for row in rows.split(b"\x00"):
            if row:
                added, removed, name = row.split(b"\t", 2)
                # A dash stands for a binary file: it counts as one line each way.
                pair = tuple(1 if number == b"-" else int(number) for number in (added, removed))
                yield name.decode("utf-8", "surrogateescape"), (pair[0], pair[1])

    def _index(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="index-", dir=self.folder)

    def _ours(
        self, *words: str, work_tree: Path | None = None, index: str | None = None, may_fail: bool = False
    ) -> str:
        data = self._bytes(*words, work_tree=work_tree, index=index, may_fail=may_fail)
        return data.decode("utf-8", "surrogateescape").strip()

    def _bytes(
        self, *words: str, work_tree: Path | None = None, index: str | None = None, may_fail: bool = False
    ) -> bytes:
        more = {"GIT_INDEX_FILE": f"{index}/index"} if index else {}
        place = [f"--git-dir={self._git_dir}", *([f"--work-tree={work_tree}"] if work_tree else [])]
        return self._git(*place, *words, at=work_tree or self._git_dir, more=more, may_fail=may_fail)

    def _git(
        self, *words: str, at: Path, more: dict[str, str] | None = None, may_fail: bool = False
    ) -> bytes:
        settings = (
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.autocrlf=false",
        )
        argv = ["git", *settings, "-c", "core.quotePath=false", "-c", "gc.auto=0", *words]
        try:
            ended = subprocess.run(
                argv,
                cwd=at,
                env=_environment() | (more or {}),
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise WorkBroken(f"expected git {words[0]} to run, found: {problem}") from problem
        if ended.returncode == 0:
            return ended.stdout
        if may_fail:
            return b""
        said = ended.stderr.decode("utf-8", "replace").strip()[-800:]
        command = next((word for word in words if not word.startswith("-")), "")
        raise WorkBroken(f"expected git {command} to succeed, found exit {ended.returncode}: {said}")


def _environment() -> dict[str, str]:
    """Nothing of the user's settings, no prompt, fixed names and dates: same files, same commit."""
    person = {"NAME": "sterling", "EMAIL": "sterling@localhost", "DATE": "2000-01-01T00:00:00+00:00"}
    return {
        "PATH": search_path(),
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        **{f"GIT_{who}_{name}": value for who in ("AUTHOR", "COMMITTER") for name, value in person.items()},
    }


def _unused(folder: Path, stem: str) -> Path:
    number = 1
    while (folder / f"{stem}-{number}").exists():
        number += 1
    return folder / f"{stem}-{number}"
