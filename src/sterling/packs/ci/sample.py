"""The shipped example as a real repository: a base with one red test, and two changes to it.

`broken` mends the red test and breaks another; `mended` only mends. Authors and
dates are fixed, so trees and commits have the same ids everywhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.shipped import shipped
from sterling.packs.ci.checkout import GitFailed, GitMissing

__all__ = ["HEADS", "Sample", "SamplePlaceTaken", "make_sample"]

HEADS = ("broken", "mended")
_FIXED = {
    "GIT_AUTHOR_NAME": "A. Sample",
    "GIT_AUTHOR_EMAIL": "sample@example.invalid",
    "GIT_COMMITTER_NAME": "A. Sample",
    "GIT_COMMITTER_EMAIL": "sample@example.invalid",
    "GIT_AUTHOR_DATE": "2026-01-05T09:00:00+00:00",
    "GIT_COMMITTER_DATE": "2026-01-05T09:00:00+00:00",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


class SamplePlaceTaken(SterlingError):
    """The folder for the sample repository exists already."""

    code = "sample.place-taken"
    hint = "Name a folder that does not exist yet. See `sterling demo --help`."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Sample:
    """The repository and its three commits."""

    repository: Path
    base: str
    broken: str
    mended: str


def make_sample(target: Path) -> Sample:
    """Build the sample repository in a folder that does not exist yet.

    Errors: SamplePlaceTaken, checkout.git-missing, checkout.git-failed, pack.file-missing.
    """
    source = shipped("samples") / "ci"
    if target.exists():
        raise SamplePlaceTaken(f"expected no folder at {target}, found one", path=str(target))
    shutil.copytree(source / "base", target, ignore=shutil.ignore_patterns("__pycache__"))
    _git(target, "init", "--quiet", "--initial-branch=main")
    base = _commit(target, "A small library and its tests; one test is red.")
    heads = {}
    for name, words in zip(HEADS, ("Mend the red test, break another.", "Mend the red test."), strict=True):
        _git(target, "checkout", "--quiet", "-b", name, base)
        shutil.copytree(
            source / name, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
        )
        heads[name] = _commit(target, words)
    _git(target, "checkout", "--quiet", "main")
    return Sample(target, base, heads["broken"], heads["mended"])


def _commit(target: Path, words: str) -> str:
    _git(target, "add", "--all")
    _git(target, "commit", "--quiet", "--no-verify", "-m", words)
    return _git(target, "rev-parse", "HEAD").strip()


def _git(target: Path, *words: str) -> str:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    settings = ("-c", "core.autocrlf=false", "-c", "commit.gpgsign=false", "-c", "core.fileMode=true")
    try:
        end = subprocess.run(
            ["git", *settings, *words],
            cwd=target,
            env={**plain, **_FIXED},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as problem:
        raise GitMissing(f"expected git, found none: {problem.strerror}") from problem
    if end.returncode != 0:
        raise GitFailed(
            f"expected `git {words[0]}` to work, found status {end.returncode}: {end.stderr.strip()[:300]}"
        )
    return end.stdout
