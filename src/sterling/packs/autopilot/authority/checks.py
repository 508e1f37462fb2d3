"""Checks: commands of the profile that the authority itself runs, on a clean copy of the agent's tree.

The result is a record bound to the exact tree and epoch, with both streams as
blobs. One execution per inputs: the same command on the same tree, environment
and profile in the same epoch is not run twice. What the command prints does not
decide anything; its exit does, and for tests ci's verdict does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sterling.kernel.canonical import Json, canonical_bytes, parse_canonical
from sterling.kernel.hashing import address_of
from sterling.kernel.home import Home
from sterling.packs.autopilot.authority.worktree import WorkTree
from sterling.packs.autopilot.environment import check_environment
from sterling.packs.autopilot.ports import TestCase, TestEvidence
from sterling.packs.autopilot.process.view import CheckView, TaskView
from sterling.packs.autopilot.profile import Profile
from sterling.runtime.commands import CommandEnd, CommandLimits, CommandNotStarted, run_command

__all__ = [
    "Outcome",
    "inputs_of",
    "known_check",
    "read_tests",
    "run_profile_check",
    "run_tests",
]

TESTS = "tests"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check gave: the document of its record, and what it printed."""

    document: dict[str, Json]
    log: bytes = b""


def inputs_of(argv: Sequence[str], tree: str, profile: Profile, epoch: int) -> str:
    """The hash of everything a check's result may depend on. Results are reused inside one epoch only."""
    form: Json = {"argv": list(argv), "epoch": epoch, "profile": profile.sha256, "tree": tree}
    return address_of(canonical_bytes(form))


def known_check(view: TaskView, name: str, inputs_sha256: str) -> CheckView | None:
    """The result that these inputs gave before; a check that could not run is tried again."""
    check = view.checks.get(name)
    if check is None or check.inputs_sha256 != inputs_sha256 or check.state == "na":
        return None
    return check


def run_profile_check(
    home: Home, view: TaskView, work: WorkTree, profile: Profile, name: str, tree: str
) -> Outcome:
    """Run one command of the profile on a clean copy of a tree and store what it printed."""
    argv = profile.argv(name)
    assert argv is not None, f"the profile has no command {name}"
    with _scratch(work.folder, name) as made:
        folder = Path(made)
        copy = work.check_out(tree, folder / "copy")
        environment = check_environment(folder)
        out, err = folder / "stdout", folder / "stderr"
        try:
            end = run_command(
                argv, cwd=copy, env=environment, limits=_limits(profile), stdout=out, stderr=err
            )
        except CommandNotStarted as problem:
            return Outcome(_not_started(view, profile, name, tree, argv, problem.message))
        code, because = _judge(name, end, profile)
        document = _document(view, profile, name, tree, argv, code, because)
        document |= {
            "exit": -1 if end.status is None else end.status,
            "signal": end.signal or 0,
            "wall_us": end.wall_us,
            "limits_held": list(end.walls),
            "stdout": {"blob": home.blobs.put_file(out)},
            "stderr": {"blob": home.blobs.put_file(err)},
        }
        return Outcome(document, log=out.read_bytes() + err.read_bytes())


def run_tests(
    home: Home,
    view: TaskView,
    work: WorkTree,
    profile: Profile,
    tree: str,
    evidence: TestEvidence,
) -> Outcome:
    """Have the tests of base and tree run and compared by ci; its verdict is the result."""
    argv = profile.argv(TESTS)
    assert argv is not None, "a profile has tests"
    with _scratch(work.folder, TESTS) as made:
        folder = Path(made)
        base = str(view.facts["base_commit"])
        head = work.lend(folder / "repository", base, tree)
        verdict = evidence(home, TestCase(folder / "repository", base, head, argv, profile.limits.check_s))
    code = {"ok": "ok", "failed": "check.failed", "na": "check.not-run"}[verdict.state]
    because = f"{verdict.code}: {verdict.because}" if verdict.state != "ok" else verdict.because
    document = _document(view, profile, TESTS, tree, argv, code, because)
    document["verdict"] = {"state": verdict.state, "code": verdict.code}
    document["cites"] = list(verdict.records)
    tests: Json = {"base": dict(verdict.base_outcomes), "head": dict(verdict.outcomes)}
    document["tests"] = {"blob": home.blobs.put(canonical_bytes(tests))}
    return Outcome(document)


def read_tests(home: Home, document: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """What each test did on the tree and on the base, from the record of the tests check."""
    data = home.blobs.get(str(document["tests"]["blob"]))
    found = parse_canonical(data, limit=len(data))
    return found["head"], found["base"]


def _judge(name: str, end: CommandEnd, profile: Profile) -> tuple[str, str]:
    if end.limit == "limit.wall":
        return "check.timed-out", f"{name} ran longer than {profile.limits.check_s} s."
    if end.limit:
        return "check.failed", f"{name} was ended by {end.limit}."
    if end.signal:
        return "check.failed", f"{name} was ended by signal {end.signal}."
    if end.status in (126, 127):
        return "check.not-run", f"{name} found no program: exit {end.status}."
    if end.status != 0:
        return "check.failed", f"{name} ended with exit {end.status}."
    return "ok", f"{name} ended with exit 0."


def _document(
    view: TaskView, profile: Profile, name: str, tree: str, argv: Sequence[str], code: str, because: str
) -> dict[str, Json]:
    states = {"ok": "ok", "check.not-run": "na"}
    return {
        "task": view.task,
        "run": view.run,
        "epoch": view.epoch,
        "attempt": view.attempt,
        "phase": str(view.phase or ""),
        "seen": view.newest,
        "name": name,
        "argv": list(argv),
        "tree": tree,
        "profile_sha256": profile.sha256,
        "inputs_sha256": inputs_of(argv, tree, profile, view.epoch),
        "state": states.get(code, "failed"),
        "code": code,
        "because": because,
    }


def _not_started(
    view: TaskView, profile: Profile, name: str, tree: str, argv: Sequence[str], why: str
) -> dict[str, Json]:
    return _document(view, profile, name, tree, argv, "check.not-run", f"{name} could not start: {why}")


def _limits(profile: Profile) -> CommandLimits:
    limits = profile.limits
    return CommandLimits(
        wall_ms=limits.check_s * 1000,
        memory_bytes=limits.memory_bytes,
        output_bytes=limits.output_bytes,
        processes=limits.processes,
    )


def _scratch(folder: Path, name: str) -> TemporaryDirectory[str]:
    """A new folder for one execution, gone afterwards; what matters was stored as blobs."""
    return TemporaryDirectory(prefix=f"check-{name}-", dir=folder, ignore_cleanup_errors=True)
