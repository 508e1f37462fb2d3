"""The gate: for every artifact of every phase each way to be wrong has its code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sterling.packs.autopilot.artifacts.gate import Evidence, Seen, gate, look_at, offered
from sterling.packs.autopilot.artifacts.kinds import KINDS, Kind, kinds_of
from sterling.packs.autopilot.process.machine import PHASES, Phase
from sterling.packs.autopilot.process.view import ArtifactView, SessionView, TaskView

TREE = "1" * 40
BY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.phase}-{kind.name}")


def complete() -> tuple[TaskView, Evidence]:
    """A view in which every artifact of every phase is present, current and unchanged."""
    view = TaskView("task-1")
    view.sessions = {
        "impl": SessionView("impl", "implementer", "PLAN", 0),
        "rev": SessionView("rev", "reviewer", "REVIEW", 0),
    }
    seen = {}
    for kind in KINDS:
        author = {"reviewer": "agent"}.get(kind.author, kind.author)
        session = "rev" if kind.author == "reviewer" else "impl"
        tree = TREE if kind.binds_tree else ""
        path = f"evidence/task-1/{kind.phase}/{kind.file}"
        view.artifacts[kind.name] = ArtifactView(
            kind.name, f"r-{kind.name}", "b", author, session, 0, 1, tree, path, "view"
        )
        seen[kind.name] = Seen({}, "ok", "view")
    return view, Evidence(TREE, seen)


def codes(view: TaskView, kind: Kind, evidence: Evidence) -> list[tuple[str, str]]:
    return [(each.where, each.code) for each in gate(view, kind.phase, evidence).refusals]


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_with_everything_in_place_is_open(phase: Phase) -> None:
    view, evidence = complete()

    verdict = gate(view, phase, evidence)

    assert verdict.is_open
    assert verdict.accepted == tuple(kind.name for kind in kinds_of(phase))


@BY_KIND
def test_no_record_is_missing(kind: Kind) -> None:
    view, evidence = complete()
    del view.artifacts[kind.name]

    assert codes(view, kind, evidence) == [(kind.name, "artifact.missing")]


@BY_KIND
def test_a_record_without_its_file_is_missing(kind: Kind) -> None:
    view, evidence = complete()
    seen = dict(evidence.seen) | {kind.name: Seen({}, "ok", "")}

    assert codes(view, kind, Evidence(TREE, seen)) == [(kind.name, "artifact.missing")]


@BY_KIND
def test_an_edited_file_is_changed(kind: Kind) -> None:
    view, evidence = complete()
    seen = dict(evidence.seen) | {kind.name: Seen({}, "ok", "edited")}

    assert codes(view, kind, Evidence(TREE, seen)) == [(kind.name, "artifact.changed")]


@BY_KIND
@pytest.mark.parametrize("state", ["blob.altered", "blob.absent"])
def test_a_broken_blob_is_changed(kind: Kind, state: str) -> None:
    view, evidence = complete()
    seen = dict(evidence.seen) | {kind.name: Seen(None, state, "view")}

    assert codes(view, kind, Evidence(TREE, seen)) == [(kind.name, "artifact.changed")]


@BY_KIND
def test_an_artifact_of_an_earlier_epoch_is_of_the_wrong_epoch(kind: Kind) -> None:
    view, evidence = complete()
    view.epoch, view.valid_from = 1, dict.fromkeys(PHASES, 1)

    found = codes(view, kind, evidence)

    assert (kind.name, "artifact.wrong-epoch") in found
    assert {code for _, code in found} == {"artifact.wrong-epoch"}


@BY_KIND
def test_another_author_is_the_wrong_one(kind: Kind) -> None:
    view, evidence = complete()
    wrong = {"agent": "authority", "authority": "agent", "reviewer": "authority"}[kind.author]
    view.artifacts[kind.name] = replace(view.artifacts[kind.name], author=wrong)

    assert codes(view, kind, evidence) == [(kind.name, "artifact.wrong-author")]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.binds_tree], ids=lambda kind: kind.name)
def test_evidence_of_another_tree_is_stale(kind: Kind) -> None:
    view, evidence = complete()
    view.artifacts[kind.name] = replace(view.artifacts[kind.name], tree="2" * 40)

    assert codes(view, kind, evidence) == [(kind.name, "artifact.stale")]


def test_who_implemented_may_not_review_and_a_person_may() -> None:
    view, evidence = complete()
    kind = next(kind for kind in KINDS if kind.author == "reviewer")
    mine = view.artifacts[kind.name]

    view.artifacts[kind.name] = replace(mine, session="impl")
    by_implementer = look_at(view, kind, evidence)
    view.artifacts[kind.name] = replace(mine, author="person", session="p")
    by_person = look_at(view, kind, evidence)

    assert by_implementer is not None and by_implementer.code == "artifact.wrong-author"
    assert by_person is None


def test_a_session_that_implemented_before_it_reviewed_may_not_review() -> None:
    view, evidence = complete()
    kind = next(kind for kind in KINDS if kind.author == "reviewer")
    view.sessions["rev"] = SessionView("rev", "implementer", "IMPLEMENT", 0)

    refusal = look_at(view, kind, evidence)

    assert refusal is not None and refusal.code == "artifact.wrong-author"


def test_everything_that_is_wrong_is_told_at_once() -> None:
    view, evidence = complete()
    del view.artifacts["plan"]
    seen = dict(evidence.seen) | {"rollback": Seen({}, "ok", "edited")}

    verdict = gate(view, Phase.PLAN, Evidence(TREE, seen))

    assert verdict.named("artifact.missing") == ("plan",)
    assert verdict.named("artifact.changed") == ("rollback",)
    assert verdict == gate(view, Phase.PLAN, Evidence(TREE, seen))


def test_offered_evidence_of_an_earlier_epoch_is_refused() -> None:
    view, _ = complete()
    view.epoch, view.valid_from = 1, {Phase.VERIFY: 1}
    told = {"r-old": ("test_results", 0), "r-new": ("test_results", 1), "r-spec": ("spec", 0)}

    found = offered(view, ["r-old", "r-new", "r-spec", "r-unknown"], told)

    assert [refusal.code for refusal in found] == ["artifact.wrong-epoch", "artifact.missing"]
