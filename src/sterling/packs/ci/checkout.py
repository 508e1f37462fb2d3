"""A clean copy of a tree: one committed revision, or the working tree as it stands.

The copy is made without touching the repository: a revision goes through an
index of its own, so nothing is registered, no hook runs and no attribute hides a
file; the working tree is copied by git's listing, tracked and untracked but not
ignored. A link that leads out of the copy is refused. Submodules and large-file
pointers are named, not fetched.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.errors import EXIT_CANNOT_JUDGE, EXIT_USAGE, SterlingError

__all__ = [
    "Checkout",
    "GitFailed",
    "GitMissing",
    "LinkOutside",
    "NotARepository",
    "Repository",
    "RevisionUnknown",
    "copy_revision",
    "copy_worktree",
    "find_repository",
    "list_files",
    "merge_base",
    "read_at",
    "resolve_revision",
]

_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_BYTES_MAX = 1024
# Nothing of the person's own configuration may run a program while we copy.
_QUIET = (
    *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.autocrlf=false"),
    *("-c", "filter.lfs.smudge=", "-c", "filter.lfs.process=", "-c", "filter.lfs.required=false"),
)


class GitMissing(SterlingError):
    """There is no git to ask."""

    code = "checkout.git-missing"
    hint = "Install git, then run the command again. See `sterling ci run --help`."
    exit = EXIT_CANNOT_JUDGE


class NotARepository(SterlingError):
    """The folder is in no git repository."""

    code = "checkout.not-a-repository"
    hint = "Run it inside a repository, or name one with --repo. See `sterling ci run --help`."
    exit = EXIT_USAGE


class RevisionUnknown(SterlingError):
    """No commit has this name."""

    code = "checkout.revision-unknown"
    hint = "Name a commit, branch or tag that `git rev-parse` knows. See `sterling ci run --help`."
    exit = EXIT_USAGE


class LinkOutside(SterlingError):
    """A symbolic link of the tree leads out of it."""

    code = "checkout.link-outside"
    hint = (
        "Remove the link from the tree; tests run on a copy that must be whole. See `sterling ci run --help`."
    )
    exit = EXIT_USAGE


class GitFailed(SterlingError):
    """git refused, for a reason of its own."""

    code = "checkout.git-failed"
    hint = "Run the git command yourself to see more, then `sterling ci run` again."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository's working tree, and the folder inside it that a command was given from."""

    root: Path
    prefix: str


@dataclass(frozen=True, slots=True)
class Checkout:
    """A copy: where it lies, which commit it is (empty for a working tree), and what it leaves out."""

    path: Path
    commit: str
    dirty: bool
    submodules: tuple[str, ...] = ()
    pointers: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def find_repository(folder: Path) -> Repository:
    """The repository that a folder lies in.

    Errors: NotARepository, GitMissing.
    """
    if not os.path.isdir(folder):
        raise NotARepository(f"expected a folder at {folder}, found none", path=str(folder))
    end = _run(folder, "rev-parse", "--show-toplevel", "--show-prefix")
    if end.returncode != 0:
        raise NotARepository(
            f"expected a git repository at {folder}, found none: {_last_line(end.stderr)}", path=str(folder)
        )
    root, _, prefix = end.stdout.decode("utf-8", "surrogateescape").partition("\n")
    return Repository(Path(root), prefix.strip("\n").rstrip("/"))


def resolve_revision(repository: Repository, name: str) -> str:
    """The commit that a revision names.

    Errors: RevisionUnknown.
    """
    wanted = f"{name}^{{commit}}"
    end = _run(repository.root, "rev-parse", "--verify", "--quiet", "--end-of-options", wanted)
    commit = end.stdout.decode("ascii", "replace").strip()
    if end.returncode != 0 or not commit:
        raise RevisionUnknown(f"expected a commit named {name!r}, found none", revision=name)
    return commit


def merge_base(repository: Repository) -> str:
    """Where the current branch left its upstream (or the remote's main branch); empty if neither is known."""
    for other in ("@{upstream}", "origin/HEAD"):
        end = _run(repository.root, "merge-base", "HEAD", other)
        if end.returncode == 0:
            return end.stdout.decode("ascii", "replace").strip()
    return ""


def read_at(repository: Repository, commit: str, path: str) -> bytes | None:
    """A file's bytes in a commit; None if the commit has no such file."""
    end = _run(repository.root, "cat-file", "blob", f"{commit}:{path}")
    return end.stdout if end.returncode == 0 else None


def copy_revision(repository: Repository, commit: str, target: Path) -> Checkout:
    """Write a commit's tree into a new folder.

    Errors: GitFailed, LinkOutside.
    """
    target.mkdir(parents=True)
    index = target.parent / f"{target.name}.index"
    changed = {"GIT_INDEX_FILE": str(index), "GIT_LFS_SKIP_SMUDGE": "1"}
    _require(_run(repository.root, "read-tree", commit, variables=changed))
    place = f"--work-tree={target}"
    _require(_run(repository.root, place, *_QUIET, "checkout-index", "--all", "--force", variables=changed))
    index.unlink(missing_ok=True)
    listed = _run(repository.root, "ls-tree", "-r", "-z", "--full-tree", commit)
    _require(listed)
    rows = [row.partition("\t") for row in _split(listed.stdout)]
    submodules = tuple(sorted(path for head, _, path in rows if head.startswith("160000 ")))
    _refuse_outside(target)
    return Checkout(target, commit, False, submodules, _pointers(target))


def copy_worktree(repository: Repository, target: Path) -> Checkout:
    """Copy the working tree by git's listing: tracked and untracked files, ignored ones left out.

    Errors: GitFailed, LinkOutside.
    """
    target.mkdir(parents=True)
    submodules: list[str] = []
    left_out: list[str] = []
    for name in list_files(repository):
        source, copy = repository.root / name, target / name
        try:
            mode = source.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue  # Deleted in the working tree.
        copy.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(source), copy)
        elif stat.S_ISREG(mode):
            shutil.copyfile(source, copy)
            copy.chmod(0o755 if mode & 0o100 else 0o644)
        elif stat.S_ISDIR(mode):
            submodules.append(name.rstrip("/"))
        else:
            left_out.append(name)
    _refuse_outside(target)
    commit, dirty = _state(repository)
    return Checkout(
        target, "" if dirty else commit, dirty, tuple(submodules), _pointers(target), tuple(left_out)
    )


def list_files(repository: Repository) -> list[str]:
    """Tracked and untracked files of the working tree, ignored ones left out, sorted.

    Errors: GitFailed.
    """
    listed = _run(repository.root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    _require(listed)
    return sorted(set(_split(listed.stdout)))


def _state(repository: Repository) -> tuple[str, bool]:
    """The commit that is checked out, and whether the working tree differs from it."""
    head = _run(repository.root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if head.returncode != 0:
        return "", True  # Nothing is committed yet.
    status = _run(repository.root, *_QUIET, "status", "--porcelain", "-z", "--untracked-files=all")
    _require(status)
    return head.stdout.decode("ascii", "replace").strip(), bool(status.stdout)


def _refuse_outside(target: Path) -> None:
    real = os.path.realpath(target)
    for path in _walk(target):
        if path.is_symlink():
            end = os.path.realpath(path)
            if end != real and not end.startswith(real + os.sep):
                name = path.relative_to(target)
                raise LinkOutside(f"expected links inside the tree, found {name} -> {os.readlink(path)}")


def _pointers(target: Path) -> tuple[str, ...]:
    """Files that hold only a pointer to large content elsewhere."""
    found = []
    for path in _walk(target):
        if not path.is_symlink() and path.is_file() and path.stat().st_size <= _POINTER_BYTES_MAX:
            with path.open("rb") as file:
                if file.read(len(_POINTER)) == _POINTER:
                    found.append(path.relative_to(target).as_posix())
    return tuple(sorted(found))


def _walk(target: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(target):
        for name in sorted([*files, *(name for name in folders if (Path(folder) / name).is_symlink())]):
            yield Path(folder) / name


def _run(
    folder: Path, *words: str, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    # A caller's GIT_DIR or GIT_INDEX_FILE (git sets them inside hooks) would lead us to another repository.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    plain |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", **(variables or {})}
    try:
        return subprocess.run(
            ["git", *words], cwd=folder, env=plain, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except FileNotFoundError as problem:
        raise GitMissing(f"expected git, found none: {problem.strerror}") from problem


def _require(end: subprocess.CompletedProcess[bytes]) -> None:
    if end.returncode != 0:
        words = " ".join(str(word) for word in end.args[:6])
        raise GitFailed(
            f"expected `{words}` to work, found status {end.returncode}: {_last_line(end.stderr)}"
        )


def _split(output: bytes) -> list[str]:
    return [name for name in output.decode("utf-8", "surrogateescape").split("\x00") if name]


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else "no words"
