"""What the authority itself must find out before a phase can be left: it runs things and writes them down.

Each collector belongs to one phase and gives the reasons that its findings are.
Checks with known results are not run again. An agent never writes what is made
here, and nothing here reads what an agent says about its own work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sterling.kernel.batch import Batch, Fence
from sterling.kernel.canonical import Json
from sterling.kernel.home import Home
from sterling.kernel.records import RecordRef, Source
from sterling.packs.autopilot.artifacts.kinds import KINDS_BY_NAME
from sterling.packs.autopilot.artifacts.scope import Change, risk_of
from sterling.packs.autopilot.artifacts.store import Author, put_artifact
from sterling.packs.autopilot.authority import checks
from sterling.packs.autopilot.authority.summary import pr_body
from sterling.packs.autopilot.authority.worktree import WorkTree
from sterling.packs.autopilot.ports import TestEvidence
from sterling.packs.autopilot.process.machine import Phase
from sterling.packs.autopilot.process.story import write
from sterling.packs.autopilot.process.view import TaskView
from sterling.packs.autopilot.profile import Profile
from sterling.packs.autopilot.refusal import Refusal

__all__ = ["Site", "collect", "run_check"]

_AUTHOR = Author("authority", "sterling")
_OPTIONAL_AT_VERIFY = ("lint", "types")


@dataclass(slots=True)
class Site:
    """Where a task is worked on: everything a collector needs besides the phase."""

    home: Home
    view: TaskView
    work: WorkTree
    profile: Profile
    evidence: TestEvidence
    fence: Fence | None
    run: str = ""
    documents: Mapping[str, Any] = field(default_factory=dict)


def collect(site: Site, phase: Phase, tree: str, change: Change) -> list[Refusal]:
    """Make the authority's artifacts of a phase for this tree; returns what they speak against."""
    collector = _COLLECTORS.get(phase)
    return collector(site, tree, change) if collector is not None else []


def run_check(site: Site, name: str, tree: str) -> Refusal | None:
    """Run a command of the profile, or take its known result; the reason if it did not pass."""
    argv = site.profile.argv(name)
    if argv is None:
        return Refusal(
            "check.not-run",
            f"A-11 {name}",
            f"a command {name} in the profile",
            "none",
            "add it to the profile",
            where=name,
            cannot_judge=True,
        )
    inputs = checks.inputs_of(argv, tree, site.profile, site.view.epoch)
    if checks.known_check(site.view, name, inputs) is None:
        _execute(site, name, tree)
    check = site.view.checks[name]
    if check.state == "ok":
        return None
    return Refusal(
        check.code,
        f"A-11 {name}",
        f"{name} to pass on tree {tree[:12]}",
        check.because,
        f"read the output of check {check.record}, mend the cause",
        where=name,
        cannot_judge=check.state == "na",
    )


def _execute(site: Site, name: str, tree: str) -> None:
    if name == checks.TESTS:
        outcome = checks.run_tests(site.home, site.view, site.work, site.profile, tree, site.evidence)
    else:
        outcome = checks.run_profile_check(site.home, site.view, site.work, site.profile, name, tree)
    batch = Batch(run=site.run, step=str(site.view.phase or ""))
    sources = [Source("evidence", record=str(record)) for record in _cited(outcome.document)]
    ref = site.home.records.put(batch, "autopilot.check", outcome.document, sources)
    write(site.home, batch, site.view, [ref], f"check {name}", fence=site.fence)


def _cited(document: Mapping[str, Any]) -> Sequence[str]:
    return list(document.get("cites", ()))


def _is_current(site: Site, kind: str, tree: str) -> bool:
    """Whether the authority made this artifact already, for this tree and epoch."""
    artifact = site.view.artifacts.get(kind)
    if artifact is None or artifact.author != "authority":
        return False
    fits = artifact.tree == tree or not KINDS_BY_NAME[kind].binds_tree
    return fits and artifact.epoch >= site.view.least_epoch(KINDS_BY_NAME[kind].phase)


def _put(site: Site, contents: Mapping[str, bytes | Json], tree: str, sources: Sequence[Source] = ()) -> None:
    """Write the artifacts that are not current, in one batch."""
    wanted = {name: content for name, content in contents.items() if not _is_current(site, name, tree)}
    if not wanted:
        return
    batch = Batch(run=site.run, step=str(site.view.phase or ""))
    refs: list[RecordRef] = []
    for name, content in wanted.items():
        kind = KINDS_BY_NAME[name]
        bound = tree if kind.binds_tree else ""
        refs.append(
            put_artifact(site.home, batch, site.view, kind, content, _AUTHOR, tree=bound, sources=sources)
        )
    write(site.home, batch, site.view, refs, "artifacts of the authority", fence=site.fence)


def _strategize(site: Site, tree: str, change: Change) -> list[Refusal]:
    because = "One task a run in this build: it is the first of its tier."
    document = {"tier": 0, "order": 0, "risk": str(site.view.facts["risk"]), "because": because}
    _put(site, {"priority": document}, tree)
    return []


def _implement(site: Site, tree: str, change: Change) -> list[Refusal]:
    base = str(site.view.facts["base_tree"])
    found: list[Refusal] = []
    if not change.files:
        how = "change what the plan says, or go back"
        found.append(Refusal("patch.empty", "A-45 effective changes", "a change", "the base tree", how))
    refusal = run_check(site, "build", tree)
    if refusal is not None:
        found.append(refusal)
    files = [
        {
            "path": each.path,
            "change": each.change,
            "added": each.added,
            "removed": each.removed,
            "git_blob": each.blob,
        }
        for each in change.files
    ]
    stats = {
        "before_tree": base,
        "after_tree": tree,
        "touched": list(change.paths),
        "added": sum(each.added for each in change.files),
        "removed": sum(each.removed for each in change.files),
        "effective_changes": len(change.files),
        "noop": not change.files,
    }
    contents: dict[str, bytes | Json] = {
        "git_diff": site.work.diff(base, tree),
        "modified_files": {"files": files},
        "apply_stats": stats,
        "build_output": _log_of(site, "build"),
    }
    _put(site, contents, tree, _check_sources(site, "build"))
    return found


def _verify(site: Site, tree: str, change: Change) -> list[Refusal]:
    names = ["build", checks.TESTS, *(name for name in _OPTIONAL_AT_VERIFY if name in site.profile.commands)]
    found = [refusal for name in names if (refusal := run_check(site, name, tree)) is not None]
    coverage, unmet = _oracles(site, tree)
    contents: dict[str, bytes | Json] = {
        "test_results": _test_results(site),
        "verify_build": _log_of(site, "build"),
        "oracle_coverage": coverage,
    }
    _put(site, contents, tree, [*_check_sources(site, "build"), *_check_sources(site, checks.TESTS)])
    return found + unmet


def _oracles(site: Site, tree: str) -> tuple[Json, list[Refusal]]:
    """Whether each oracle of the map ran and passed on this tree, and whether it failed on the base."""
    rows: list[Json] = []
    unmet: list[Refusal] = []
    head, base = _tests_of(site)
    for risk in (site.documents.get("risk_oracle_map") or {"risks": []})["risks"]:
        for oracle in risk["oracles"]:
            ran, passed, failed_on_base = _look_at_oracle(site, oracle, tree, head, base)
            rows.append(
                {"risk": risk["id"], **oracle, "ran": ran, "passed": passed, "failed_on_base": failed_on_base}
            )
            if not passed:
                found = "it ran and did not pass" if ran else "it did not run"
                how = "mend it, or go back and name another oracle"
                where = f"{risk['id']}: {oracle['ref']}"
                unmet.append(
                    Refusal("oracle.not-run", "A-13 oracles", "a passed oracle", found, how, where=where)
                )
    return {"oracles": rows}, unmet


def _look_at_oracle(
    site: Site, oracle: Mapping[str, Any], tree: str, head: Mapping[str, str], base: Mapping[str, str]
) -> tuple[bool, bool, bool]:
    ref = str(oracle["ref"])
    if oracle["kind"] == "command":
        refusal = run_check(site, ref, tree)
        ran = site.view.checks[ref].state != "na" if ref in site.view.checks else False
        return ran, refusal is None, False
    passed = head.get(ref) == "passed"
    return ref in head, passed, base.get(ref) in ("failed", "error")


def _review(site: Site, tree: str, change: Change) -> list[Refusal]:
    if "integration" not in site.profile.commands:
        return []
    refusal = run_check(site, "integration", tree)
    return [refusal] if refusal is not None else []


def _pr(site: Site, tree: str, change: Change) -> list[Refusal]:
    refusal = run_check(site, checks.TESTS, tree)
    risk = risk_of(change, site.profile.protected, str(site.view.facts["risk"]))
    because = f"{len(change.files)} files, {change.lines} lines; the task says {site.view.facts['risk']}."
    contents: dict[str, bytes | Json] = {
        "pr_body": pr_body(site.view, site.documents, change, tree, risk).encode("utf-8"),
        "pr_risk_label": {"label": risk, "because": because},
        "ci_results": _test_results(site),
    }
    _put(site, contents, tree, _check_sources(site, checks.TESTS))
    return [refusal] if refusal is not None else []


def _monitor(site: Site, tree: str, change: Change) -> list[Refusal]:
    refusal = run_check(site, "smoke", tree)
    check = site.view.checks.get("smoke")
    if check is not None:
        document = {"state": check.state, "because": check.because, "check": check.record}
        _put(site, {"smoke_test_results": document}, tree, _check_sources(site, "smoke"))
    return [refusal] if refusal is not None else []


def _test_results(site: Site) -> Json:
    check = site.view.checks[checks.TESTS]
    document = site.home.records.get(check.record).document
    return {
        "state": check.state,
        "code": str(document.get("verdict", {}).get("code", check.code)),
        "because": check.because,
        "check": check.record,
        "cites": list(document.get("cites", [])),
        "argv": list(document["argv"]),
    }


def _tests_of(site: Site) -> tuple[Mapping[str, str], Mapping[str, str]]:
    check = site.view.checks.get(checks.TESTS)
    if check is None:
        return {}, {}
    return checks.read_tests(site.home, site.home.records.get(check.record).document)


def _log_of(site: Site, name: str) -> bytes:
    """What a check printed, under a line that says what it was."""
    check = site.view.checks.get(name)
    if check is None:
        return b""
    document = site.home.records.get(check.record).document
    parts = [f"{' '.join(document['argv'])}\n{check.because}\n".encode()]
    for stream in ("stdout", "stderr"):
        if stream in document:
            parts.append(site.home.blobs.get(str(document[stream]["blob"])))
    return b"\n".join(parts)


def _check_sources(site: Site, name: str) -> list[Source]:
    check = site.view.checks.get(name)
    return [Source("check", record=check.record)] if check is not None else []


_COLLECTORS: Mapping[Phase, Callable[[Site, str, Change], list[Refusal]]] = MappingProxyType(
    {
        Phase.STRATEGIZE: _strategize,
        Phase.IMPLEMENT: _implement,
        Phase.VERIFY: _verify,
        Phase.REVIEW: _review,
        Phase.PR: _pr,
        Phase.MONITOR: _monitor,
    }
)
