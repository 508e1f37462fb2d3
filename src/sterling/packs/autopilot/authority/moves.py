"""Moving a task: look, decide, write. The agent asks, this answers, the ledger remembers.

The early checks come first and cost nothing. Then the work tree is looked at, the
authority's own evidence is made, and the gate says everything that is missing.
Whatever breaks on the way refuses: an error is never a yes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sterling.kernel.blobs import BlobAbsent, BlobAltered
from sterling.kernel.canonical import Json
from sterling.kernel.errors import SterlingError
from sterling.packs.autopilot.artifacts.content import Context, check_content
from sterling.packs.autopilot.artifacts.gate import Evidence, gate, look_at, offered
from sterling.packs.autopilot.artifacts.kinds import KINDS_BY_NAME, kinds_of, not_demanded_at
from sterling.packs.autopilot.artifacts.levels import level_needed, level_of
from sterling.packs.autopilot.artifacts.scope import Change, check_change
from sterling.packs.autopilot.artifacts.store import read_evidence
from sterling.packs.autopilot.authority.collect import Site, collect
from sterling.packs.autopilot.authority.receipt import receipt_parts
from sterling.packs.autopilot.codes import is_known
from sterling.packs.autopilot.errors import TreeUnsafe
from sterling.packs.autopilot.process.commit import Grounds, commit, ledger_identity
from sterling.packs.autopilot.process.delta import added_lines, plan_identity
from sterling.packs.autopilot.process.machine import Direction, Phase
from sterling.packs.autopilot.process.order import Decision, Request, World, decide, decide_early
from sterling.packs.autopilot.process.states import TaskState
from sterling.packs.autopilot.process.story import read_story
from sterling.packs.autopilot.process.view import TaskView
from sterling.packs.autopilot.refusal import Refusal

__all__ = ["move"]

_CHANGES_SOURCE = Phase.IMPLEMENT
_PATCHED = (Phase.IMPLEMENT, Phase.VERIFY, Phase.REVIEW, Phase.PR, Phase.MONITOR)


@dataclass(slots=True)
class _Found:
    """What the look at a phase gave: reasons against, and what the transition will name."""

    refusals: list[Refusal] = field(default_factory=list)
    tree: str = ""
    change: Change = field(default_factory=lambda: Change(()))
    evidence: Evidence = field(default_factory=lambda: Evidence(""))
    level: int = 0


def move(site: Site, request: Request, world: World, *, ring: str, claim: str = "") -> str:
    """Decide a request and write the decision; returns the transition's record.

    Errors: whatever keeps the ledger from taking it. Nothing happened then.
    """
    site.documents = {}
    early = decide_early(site.view, request, world)
    found = _Found()
    if early.allowed:
        found = _look(site, early, request)
    decision = decide(early, found.refusals)
    grounds = _grounds(site, decision, found, ring=ring)
    ref = commit(site.home, site.view, decision, grounds, fence=site.fence, run=site.run, claim=claim)
    return ref.id


def _look(site: Site, early: Decision, request: Request) -> _Found:
    """Gather and judge the evidence. An error on the way is a reason against, never a pass."""
    found = _Found()
    try:
        found.tree = site.work.snapshot()
        if early.direction in (Direction.FORWARD, Direction.FINISH):
            assert early.before is not None
            _judge_phase(site, early.before, request, found)
    except (SterlingError, OSError) as problem:
        if early.direction in (Direction.START, Direction.BACK):
            found.tree = found.tree or site.view.tree  # A back move passes no gate, broken tree or not.
        else:
            found.refusals.append(_from_error(problem))
    return found


def _judge_phase(site: Site, phase: Phase, request: Request, found: _Found) -> None:
    view, tree = site.view, found.tree
    if phase is not _CHANGES_SOURCE and tree != view.tree:
        found.refusals.append(_changed_outside(site, phase, tree))
        return
    found.evidence, _ = read_evidence(site.home, view, tree)
    site.documents = _documents(found.evidence)
    if phase in _PATCHED:
        found.change = site.work.change(str(view.facts["base_tree"]), tree)
    collected = collect(site, phase, tree, found.change)
    found.evidence, broken = read_evidence(site.home, view, tree)
    site.documents = _documents(found.evidence)
    counts = _countable(view, phase, found.evidence)
    reasons = [each for each in broken if each.where.partition("/")[0] in counts]
    if request.evidence:
        reasons += offered(view, request.evidence, _known_artifacts(site))
    reasons += _content(site, phase, found, counts)
    reasons += collected
    if phase is _CHANGES_SOURCE:
        reasons += _patch(site, found.change)
    found.level = level_of(view, tree, _rubric(view, found.evidence))
    reasons += _level(view, phase, found.level)
    reasons += _minutes(site)
    found.refusals.extend(gate(view, phase, found.evidence, reasons).refusals)


def _countable(view: TaskView, phase: Phase, evidence: Evidence) -> set[str]:
    """The artifacts of a phase that can count at all; only their content is worth judging."""
    return {kind.name for kind in kinds_of(phase) if look_at(view, kind, evidence) is None}


def _rubric(view: TaskView, evidence: Evidence) -> Mapping[str, Any] | None:
    kind = KINDS_BY_NAME["review_rubric"]
    return evidence.document(kind.name) if look_at(view, kind, evidence) is None else None


def _content(site: Site, phase: Phase, found: _Found, counts: set[str]) -> list[Refusal]:
    profile = site.profile
    base = str(site.view.facts["base_tree"])
    lines = {}
    if phase is Phase.REVIEW:
        lines = added_lines(site.work.diff(base, found.tree))
    context = Context(
        view=site.view,
        documents=site.documents,
        commands=frozenset(profile.commands),
        base_files=site.work.files(base) if phase is Phase.PLAN else frozenset(),
        scope=_scope(site),
        protected=profile.protected,
        added_lines=lines,
    )
    reasons: list[Refusal] = []
    for kind in kinds_of(phase):
        document = found.evidence.document(kind.name)
        if kind.name in counts and kind.author != "authority" and document is not None:
            reasons += check_content(kind.name, document, context)
    return reasons


def _patch(site: Site, change: Change) -> list[Refusal]:
    documents = site.documents
    reasons: list[Refusal] = []
    if "file_map" in documents and "change_budget" in documents:
        reasons += check_change(
            change,
            file_map=documents["file_map"],
            budget=documents["change_budget"],
            scope=_scope(site),
            protected=site.profile.protected,
        )
    if change.patch_sha256 in site.view.rejected:
        found = f"patch {change.patch_sha256[:12]}"
        how = "go back to PLAN and change something else"
        reasons.append(
            Refusal("patch.duplicate", "A-5 rejected patches", "a patch not yet rejected", found, how)
        )
    present = {each.path for each in change.files if each.change != "deleted"}
    for path in site.view.facts["deliverables"]:
        if path not in present:
            how = f"write {path}"
            reasons.append(
                Refusal("deliverable.missing", "A-10 deliverables", str(path), "none", how, where=str(path))
            )
    return reasons


def _level(view: TaskView, phase: Phase, level: int) -> list[Refusal]:
    needed = level_needed(phase, str(view.facts["risk"]))
    if level >= needed:
        return []
    how = {
        1: "make the build pass",
        2: "make ci's verdict on the tests ok",
        3: "add an integration command to the profile, or a deferral in the review that says why not",
        4: "observe it after delivery, which this build cannot do: a high risk task stays open here",
    }[needed]
    return [
        Refusal("level.too-low", "A-12 levels", f"level {needed}", f"level {level}", how, where=str(phase))
    ]


def _minutes(site: Site) -> list[Refusal]:
    used, allowed = site.view.minutes_used(), site.profile.limits.minutes
    if used <= allowed:
        return []
    how = "a person looks at the task"
    return [Refusal("budget.minutes", "A-1 caps of a run", f"at most {allowed} minutes", f"{used}", how)]


def _changed_outside(site: Site, phase: Phase, tree: str) -> Refusal:
    change = site.work.change(site.view.tree, tree)
    names = ", ".join(change.paths[:5]) or "files"
    return Refusal(
        "tool.out-of-phase",
        f"A-21 effects in {phase}",
        f"the tree {site.view.tree[:12]} as it was entered with",
        f"{len(change.files)} changed: {names}",
        "undo it, or go back and come to IMPLEMENT",
        where=str(phase),
    )


def _from_error(problem: SterlingError | OSError) -> Refusal:
    if isinstance(problem, TreeUnsafe):
        how = "remove it from the work tree"
        return Refusal(
            "patch.out-of-scope", "A-11 clean checkout", "links inside the tree", problem.message, how
        )
    if isinstance(problem, OSError):
        code, words = "blob.unavailable", f"{type(problem).__name__}: {problem}"
    elif isinstance(problem, BlobAltered | BlobAbsent) or problem.code.startswith("blob."):
        code, words = "blob.unavailable", f"{problem.code}: {problem.message}"
    elif problem.code.startswith(("ledger.", "store.", "record.", "integrity.")):
        code, words = "ledger.unavailable", f"{problem.code}: {problem.message}"
    elif problem.code.startswith("lease."):
        code, words = problem.code if is_known(problem.code) else "lease.unavailable", problem.message
    else:
        code, words = "check.not-run", f"{problem.code}: {problem.message}"
    how = "find out why it broke; nothing passes until it works"
    return Refusal(
        code, "A-3 an error refuses", "evidence that can be made and read", words, how, cannot_judge=True
    )


def _grounds(site: Site, decision: Decision, found: _Found, *, ring: str) -> Grounds:
    view, before = site.view, decision.before
    state, code, because = _state_after(decision, site)
    grounds = Grounds(
        ledger=ledger_identity(site.home),
        tree=found.tree or view.tree,
        level=found.level,
        ring=ring,
        state=state,
        state_code=code,
        state_because=because,
    )
    leaves = decision.allowed and decision.direction in (Direction.FORWARD, Direction.FINISH)
    if not leaves or before is None:
        return grounds
    grounds = replace(
        grounds,
        patch_sha256=found.change.patch_sha256 if before is Phase.IMPLEMENT else view.patch,
        plan_sha256=_plan(site) if before is Phase.PLAN else view.plan,
        artifacts=tuple(_link(view, kind.name) for kind in kinds_of(before)),
        not_demanded=not_demanded_at(before),
    )
    if decision.direction is not Direction.FINISH:
        return grounds
    return receipt_parts(site, grounds, found.change)


def _state_after(decision: Decision, site: Site) -> tuple[TaskState | None, str, str]:
    if decision.allowed and decision.direction is Direction.FINISH:
        return TaskState.DONE, "ok", "Every gate passed; the receipt was written with this entry."
    worthiness = site.documents.get("worthiness")
    asked = any(refusal.code == "approval.needed" for refusal in decision.refusals)
    if decision.before is not Phase.STRATEGIZE or not asked or not worthiness:
        return None, "", ""
    word = str(worthiness["decision"])
    if word == "kill":
        return TaskState.ABANDONED, "approval.needed", f"The strategy says kill: {worthiness['because']}"
    if word in ("pivot", "defer"):
        return TaskState.WAITING, "approval.needed", f"The strategy says {word}: {worthiness['because']}"
    return None, "", ""


def _link(view: TaskView, kind: str) -> dict[str, Json]:
    artifact = view.artifacts[kind]
    return {"kind": kind, "record": artifact.record, "blob": artifact.blob}


def _plan(site: Site) -> str:
    return plan_identity(site.documents["plan"], site.documents["file_map"])


def _scope(site: Site) -> tuple[str, ...]:
    stated = tuple(str(each) for each in site.view.facts["scope"])
    return stated or site.profile.scope


def _documents(evidence: Evidence) -> dict[str, Any]:
    return {name: seen.document for name, seen in evidence.seen.items() if seen.document is not None}


def _known_artifacts(site: Site) -> dict[str, tuple[str, int]]:
    return {
        told.id: (str(told.document["kind"]), int(told.document["epoch"]))
        for _, told in read_story(site.home, site.view.task)
        if told.name == "artifact"
    }
