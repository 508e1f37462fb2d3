"""The authority: a walk through all phases in one process, and everything that must not work on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sterling.kernel.batch import Batch
from sterling.kernel.home import Home
from sterling.packs.autopilot.artifacts.kinds import KINDS, kinds_of
from sterling.packs.autopilot.artifacts.store import restore_files
from sterling.packs.autopilot.authority.asks import Ask
from sterling.packs.autopilot.authority.loop import Who
from sterling.packs.autopilot.door import counters
from sterling.packs.autopilot.journal import journal
from sterling.packs.autopilot.process.machine import PHASES, Phase, Role
from sterling.packs.autopilot.process.states import TaskState
from sterling.packs.autopilot.process.story import read_view

Walking = Callable[..., "Walk"]  # type: ignore[name-defined]  # noqa: F821 - the fixture of conftest.py
FINES = "shelf/fines.py"
STATE_OF_ANOTHER_TASK = {
    "task": "task-other",
    "seen": 1,
    "from": "open",
    "to": "blocked",
    "by": "person",
    "code": "x.y",
    "because": "A secret of another task.",
}


def codes(answer: object) -> list[str]:
    return [str(each["code"]) for each in answer.result["refusals"]]  # type: ignore[attr-defined]


def test_an_honest_walk_ends_done_with_a_receipt_and_each_check_ran_once(walking: Walking) -> None:
    walk = walking()

    answer = walk.to("DONE")

    assert answer.ok and walk.view.state is TaskState.DONE and walk.view.receipt
    ran = [line["sentence"] for line in journal(walk.home, walk.view.task) if line["event"] == "check"]
    assert [words.split(" ran ")[1].split(":")[0] for words in ran] == [
        "build",
        "tests",
        "integration",
        "smoke",
    ]
    assert walk.tests.calls == 1
    assert set(walk.view.accepted) == set(PHASES)


def test_every_artifact_lies_where_people_look_and_is_named_by_its_record(walking: Walking) -> None:
    walk = walking()
    walk.to("DONE")

    for kind in KINDS:
        artifact = walk.view.artifacts[kind.name]
        path = walk.home.path / artifact.path
        assert (
            path.is_file() and path == walk.home.path / "evidence" / walk.view.task / kind.phase / kind.file
        )


def test_an_illegal_skip_is_refused_and_counted(walking: Walking) -> None:
    walk = walking()
    walk.to("STRATEGIZE")

    answer = walk.advance("IMPLEMENT", claim="It is obvious.")

    assert answer.code == "transition.skip" and answer.result["severity"] == "critical"
    assert walk.phase == "STRATEGIZE"
    assert counters(walk.home)["phase_skips_attempted"] == 1
    assert counters(walk.home)["tasks_rejected_for_process_violation"] == 1


@pytest.mark.parametrize(
    "phase", [phase for phase in PHASES if any(k.author != "authority" for k in kinds_of(phase))]
)
def test_no_phase_is_left_without_what_an_agent_must_hand_in(walking: Walking, phase: Phase) -> None:
    walk = walking()
    walk.to(str(phase))

    answer = walk.advance(str(walk.ask("next_requirements").result["next"]))

    wanted = {kind.name for kind in kinds_of(phase) if kind.author != "authority"}
    missing = {each["where"] for each in answer.result["refusals"] if each["code"] == "artifact.missing"}
    assert not answer.ok and missing == wanted and walk.phase == str(phase)


def test_each_file_of_each_phase_removed_or_edited_shuts_its_gate(walking: Walking) -> None:
    """One walk; at every gate each file is removed and edited in turn, and put right again."""
    walk = walking()
    walk.to("STRATEGIZE")
    while True:
        phase = walk.view.phase
        walk.hand_in(str(phase))
        following = str(walk.ask("next_requirements").result["next"])
        made = [kind.name for kind in kinds_of(phase) if kind.author != "authority"]
        for name in made:
            path = walk.home.path / walk.view.artifacts[name].path
            kept = path.read_bytes()
            path.write_bytes(kept + b" ")
            assert codes(walk.advance(following)) == ["artifact.changed"], name
            path.rename(path.with_suffix(".gone"))
            assert codes(walk.advance(following)) == ["artifact.missing"], name
            assert restore_files(walk.home, walk.view) == [walk.view.artifacts[name].path]
            assert path.read_bytes() == kept
        answer = walk.advance(following)
        assert answer.ok, answer
        if following == "DONE":
            break


@pytest.mark.parametrize("name", [kind.name for kind in KINDS if kind.author == "authority"])
def test_an_edited_file_of_the_authority_is_not_quietly_made_again(walking: Walking, name: str) -> None:
    """Something else holds the gate shut once, so that the authority makes its files and the phase stays."""
    phase = next(kind.phase for kind in KINDS if kind.name == name)
    held: dict[Phase, dict[str, object]] = {
        Phase.IMPLEMENT: {"deliverables": ("never.md",)},
        Phase.MONITOR: {"risk": "high"},
    }
    walk = walking(**held.get(phase, {}))
    walk.to(str(phase))
    walk.tests.state = "failed" if phase is Phase.VERIFY else "ok"
    if phase not in (Phase.STRATEGIZE, Phase.PR):
        walk.hand_in(walk.phase)
    following = str(walk.ask("next_requirements").result["next"])
    walk.advance(following)
    walk.hand_in(walk.phase)
    (walk.home.path / walk.view.artifacts[name].path).write_bytes(b"edited")

    answer = walk.advance(following)

    assert not answer.ok and "artifact.changed" in codes(answer)


def test_an_agent_cannot_write_what_the_authority_writes(walking: Walking) -> None:
    walk = walking()
    walk.to("VERIFY")

    for kind in KINDS:
        if kind.author == "authority":
            answer = walk.submit(kind.name, {"state": "ok"})
            assert answer.code == "artifact.wrong-author", kind.name
    assert "test_results" not in walk.view.artifacts


def test_an_artifact_of_another_phase_is_refused(walking: Walking) -> None:
    walk = walking()
    walk.to("IMPLEMENT")
    larger = walk.content("change_budget") | {"lines": 100_000}

    answer = walk.submit("change_budget", larger)

    assert answer.code == "tool.out-of-phase"


def test_source_that_changes_before_implement_shuts_the_gate(walking: Walking) -> None:
    walk = walking()
    walk.to("PLAN")
    walk.hand_in("PLAN")
    (walk.tree / FINES).write_text("early = True\n")

    answer = walk.advance("THINK")

    assert codes(answer) == ["tool.out-of-phase"] and FINES in answer.result["refusals"][0]["found"]


@pytest.mark.parametrize("phase", ["VERIFY", "REVIEW", "PR", "MONITOR"])
def test_source_that_changes_after_implement_shuts_the_gate(walking: Walking, phase: str) -> None:
    walk = walking()
    walk.to(phase)
    walk.hand_in(phase)
    (walk.tree / "shelf" / "late.py").write_text("late = True\n")

    answer = walk.advance(str(walk.ask("next_requirements").result["next"]))

    assert codes(answer) == ["tool.out-of-phase"] and walk.phase == phase


def test_an_agent_that_lies_about_its_tests_does_not_pass_verify(walking: Walking) -> None:
    walk = walking()
    walk.to("IMPLEMENT")
    wrong = (walk.tree / FINES).read_text().replace("days_late * daily", "abs(days_late) * daily")
    (walk.tree / FINES).write_text(wrong)
    assert walk.advance("VERIFY").ok

    answer = walk.advance("REVIEW", claim="12 passed, 0 failed. All green.")

    assert codes(answer) == ["oracle.not-run"] and walk.phase == "VERIFY"
    story = journal(walk.home, walk.view.task)
    assert story[-1]["claim"] == "12 passed, 0 failed. All green."


@pytest.mark.parametrize(("state", "ok"), [("failed", False), ("na", None)])
def test_without_a_good_verdict_on_tests_the_gate_stays_shut(
    walking: Walking, state: str, ok: bool | None
) -> None:
    walk = walking()
    walk.to("VERIFY")
    walk.tests.state, walk.tests.code = state, "ci.some-reason"

    answer = walk.advance("REVIEW")

    assert not answer.ok and walk.phase == "VERIFY"
    assert ("check.failed" if state == "failed" else "check.not-run") in codes(answer)
    assert "level.too-low" in codes(answer)


def test_a_back_move_starts_an_epoch_and_old_evidence_does_not_count(walking: Walking) -> None:
    walk = walking()
    walk.to("VERIFY")
    walk.tests.state = "failed"
    refused = walk.advance("REVIEW")
    old = walk.view.artifacts["test_results"].record

    back = walk.back("PLAN", str(refused.result["transition"]))

    assert back.ok and walk.phase == "PLAN" and walk.view.epoch == 1
    plan = walk.content("plan") | {"answers": [back.result["transition"]]}
    plan["steps"] = [plan["steps"][0] | {"text": "Bound the fine below in another way."}]
    replayed = walk.advance("THINK", evidence=[old])
    assert "artifact.wrong-epoch" in codes(replayed)
    walk.tests.state = "ok"
    walk.hand_in("PLAN")
    assert "plan.no-delta" in codes(walk.advance("THINK"))
    walk.submit("plan", plan)
    assert walk.advance("THINK").ok
    walk.to("IMPLEMENT")
    assert codes(walk.advance("VERIFY")) == ["patch.duplicate"]
    (walk.tree / FINES).write_text((walk.tree / FINES).read_text().replace("max(0,", "max(0, 0,"))
    assert walk.advance("VERIFY").ok
    replayed = walk.advance("REVIEW", evidence=[old])
    assert codes(replayed) == ["artifact.wrong-epoch"]
    assert walk.to("DONE").ok
    assert walk.view.epoch == 1 and walk.tests.calls == 2
    assert (walk.home.path / "evidence" / walk.view.task / "e1" / "VERIFY" / "test_results.json").is_file()
    assert (walk.home.path / "evidence" / walk.view.task / "VERIFY" / "test_results.json").is_file()


def test_one_failure_too_many_blocks_the_task_until_a_person_opens_it(walking: Walking) -> None:
    walk = walking()
    walk.to("IMPLEMENT")
    base = (walk.tree / FINES).read_text()
    for turn in range(3):
        walk.to("IMPLEMENT")
        (walk.tree / FINES).write_text(base.replace("min(days_late", f"min({turn} + days_late"))
        assert walk.advance("VERIFY").ok
        refused = walk.advance("REVIEW")
        back = walk.back("PLAN", str(refused.result["transition"]))
        if turn == 2:
            break
        assert back.ok, back
        plan = walk.content("plan") | {"answers": [back.result["transition"]]}
        plan["steps"] = [plan["steps"][0] | {"text": f"Bound the fine below, try number {turn}."}]
        walk.hand_in("PLAN")
        walk.submit("plan", plan)
        assert walk.advance("THINK").ok

    assert back.code == "retry.exhausted" and walk.view.state is TaskState.BLOCKED
    assert walk.advance("REVIEW").code == "transition.task-closed"
    assert walk.submit("plan", walk.content("plan")).code == "transition.task-closed"


def test_who_implemented_cannot_review(walking: Walking) -> None:
    walk = walking()
    walk.to("REVIEW")

    answer = walk.submit("review_rubric", walk.content("review_rubric"))

    assert answer.code == "artifact.wrong-author"


def test_a_reviewer_cannot_go_on_as_an_implementer(walking: Walking) -> None:
    walk = walking()
    walk.to("PR")

    assert (
        walk.submit("why_now", walk.content("why_now"), who=walk.reviewer()).code == "artifact.wrong-author"
    )
    assert walk.ask("request_advance", to="MONITOR", who=walk.reviewer()).code == "tool.out-of-phase"


def test_a_person_goes_through_the_same_gates(walking: Walking) -> None:
    walk = walking()
    walk.to("SPEC")
    person = Who(Role.PERSON, "ada")

    assert codes(walk.advance("PLAN", who=person)) == ["artifact.missing"]
    assert walk.submit("spec", walk.content("spec"), who=person).ok
    assert walk.advance("PLAN", who=person).ok


def test_the_same_request_gets_the_first_answer_and_writes_nothing(walking: Walking) -> None:
    walk = walking()
    walk.to("STRATEGIZE")
    first = walk.advance("IMPLEMENT", ask_id="once")
    size = walk.home.ledger.size()

    again = walk.advance("SPEC", ask_id="once")

    assert (again.code, again.result["transition"]) == (first.code, first.result["transition"])
    assert walk.home.ledger.size() == size


def test_a_repeated_submission_gets_the_first_record(walking: Walking) -> None:
    walk = walking()
    walk.to("SPEC")
    first = walk.submit("spec", walk.content("spec"), ask_id="once")

    again = walk.submit("spec", walk.content("spec"), ask_id="once")

    assert again.result["record"] == first.result["record"]


def test_who_did_not_see_the_newest_entry_is_refused(walking: Walking) -> None:
    walk = walking()
    walk.to("STRATEGIZE")
    seen = walk.view.newest
    walk.hand_in("STRATEGIZE")

    assert walk.advance("SPEC", seen=seen).code == "transition.stale-view"


@pytest.mark.parametrize("decision", ["pivot", "defer", "kill"])
def test_only_go_goes_on(walking: Walking, decision: str) -> None:
    walk = walking()
    walk.to("STRATEGIZE")
    walk.hand_in("STRATEGIZE")
    walk.submit("worthiness", {"decision": decision, "because": "It is not worth the time."})

    answer = walk.advance("SPEC")

    expected = TaskState.ABANDONED if decision == "kill" else TaskState.WAITING
    assert codes(answer) == ["approval.needed"] and walk.view.state is expected


def test_a_malformed_submission_is_refused_before_anything_is_kept(walking: Walking) -> None:
    walk = walking()
    walk.to("SPEC")
    size = walk.home.ledger.size()

    for content in (
        "{",
        "[1, 2",
        '{"a": 1, "a": 2}',
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1") + "{",
    ):
        answer = walk.ask("submit_artifact", kind="spec", content=content)
        assert (answer.code, answer.exit) == ("task.artifact-malformed", 2)
    deep = walk.ask("submit_artifact", kind="spec", content="[" * 80 + "]" * 80)
    assert deep.exit == 2
    assert walk.ask("submit_artifact", kind="spec", content='"' + "x" * (6 * 1024 * 1024) + '"').exit == 2
    assert walk.home.ledger.size() == size


def test_a_submission_that_breaks_its_contract_is_kept_with_its_problems_and_shuts_the_gate(
    walking: Walking,
) -> None:
    walk = walking()
    walk.to("SPEC")

    answer = walk.submit("spec", {"criteria": []})

    assert answer.ok is False and answer.result["problems"]
    assert codes(walk.advance("PLAN"))[0].startswith("artifact.")


def test_a_kind_or_check_that_does_not_exist_is_named(walking: Walking) -> None:
    walk = walking()
    walk.to("SPEC")

    assert walk.submit("wish", {}).code == "task.kind-unknown"
    assert walk.ask("run_check", name="wish").code == "check.unlisted"


def test_a_check_on_request_is_run_by_the_authority_once_per_tree(walking: Walking) -> None:
    walk = walking()
    walk.to("IMPLEMENT")

    first = walk.ask("run_check", name="build")
    again = walk.ask("run_check", name="build")
    (walk.tree / FINES).write_text("def broken(:\n")
    broken = walk.ask("run_check", name="build")

    assert first.ok and again.result["check"] == first.result["check"]
    assert broken.code == "check.failed" and "SyntaxError" in broken.result["output"]


def test_a_patch_outside_map_or_budget_does_not_leave_implement(walking: Walking) -> None:
    walk = walking()
    walk.to("IMPLEMENT")
    (walk.tree / "shelf" / "loans.py").write_text("".join(f"x{n} = {n}\n" for n in range(50)))
    (walk.tree / "pyproject.toml").write_text("[project]\n")

    answer = walk.advance("VERIFY")

    assert {"patch.out-of-scope", "budget.files", "budget.lines"} <= set(codes(answer))
    assert {each["where"] for each in answer.result["refusals"]} >= {"shelf/loans.py", "pyproject.toml"}


def test_no_change_at_all_does_not_leave_implement(walking: Walking) -> None:
    walk = walking()
    walk.to("IMPLEMENT")

    assert codes(walk.advance("VERIFY")) == ["patch.empty"]


def test_a_promised_file_must_be_there(walking: Walking) -> None:
    walk = walking(deliverables=("docs/fines.md",))
    walk.to("IMPLEMENT")
    walk.hand_in("IMPLEMENT")

    assert codes(walk.advance("VERIFY")) == ["deliverable.missing"]


def test_high_risk_is_not_done_here_because_nobody_observed_it(walking: Walking) -> None:
    walk = walking(risk="high")
    walk.to("MONITOR")

    assert codes(walk.advance("DONE")) == ["level.too-low"] and walk.view.state is TaskState.OPEN


def test_a_foreign_ledger_is_refused(walking: Walking) -> None:
    walk = walking()
    ask = Ask("ask-x", "status", "", ledger="f" * 64)

    assert walk.authority.answer(ask, Who(Role.AGENT, "s", "implementer")).code == "identity.mismatch"


def test_an_agent_reads_records_of_its_own_task_and_no_others(home: Home, walking: Walking) -> None:
    walk = walking()
    batch = Batch()
    other = home.records.put(batch, "autopilot.state", STATE_OF_ANOTHER_TASK)
    home.ledger.commit(batch)
    walk.to("SPEC")

    assert walk.ask("cite", record=walk.view.artifacts["strategy"].record).ok
    assert walk.ask("cite", record=other.id).code == "task.request-invalid"
    assert walk.ask("cite", record="r-nothing").code == "task.request-invalid"


def test_the_view_is_the_same_when_it_is_read_again(home: Home, walking: Walking) -> None:
    walk = walking()
    walk.to("REVIEW")

    again = read_view(home, walk.view.task)

    assert again == walk.view


def test_the_journal_is_the_same_when_it_is_made_again(walking: Walking, tmp_path: Path) -> None:
    walk = walking()
    walk.to("PLAN")

    assert journal(walk.home, walk.view.task) == journal(walk.home, walk.view.task)
