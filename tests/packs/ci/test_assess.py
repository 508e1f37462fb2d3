"""From a change to a decision, on real repositories with a runner that takes milliseconds."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.home import Home
from sterling.packs.ci import door
from sterling.packs.ci.assess import Assessed
from sterling.packs.ci.baseline import Baseline
from sterling.packs.ci.checkout import copy_revision, find_repository, resolve_revision
from sterling.packs.ci.policy import PolicyInvalid
from sterling.runtime.fingerprint import tree_hash
from sterling.runtime.runs import read_run

Quick = Callable[..., Path]
Judge = Callable[..., Assessed]
QUICK = ("sh", "quick.sh")
GREEN = {"t/a.py::x": "passed", "t/a.py::y": "passed", "t/b.py::z": "passed"}


@pytest.fixture
def judge(home: Home) -> Judge:
    """Judge the newest commit against the one before it (or what the options say)."""

    def run(
        folder: Path, *, base: str | None = "HEAD~1", capture: bool = True, at: str = "HEAD", **more: Any
    ) -> Assessed:
        argv = more.pop("argv", QUICK)
        order = door.order_tests(folder, argv, revision=at, reports=["out.xml"])
        request = door.request_change(order, base=base or "", capture=capture, **more)
        return door.assess_change(request, home=home)

    return run


def states(found: Assessed) -> dict[str, str]:
    return {name: state.state for name, state in found.decision.verdict.delta.states.items()}


def answer(found: Assessed) -> tuple[str, int, tuple[str, ...]]:
    verdict = found.decision.verdict
    return verdict.verdict, verdict.exit, verdict.reasons


def test_an_unharmed_change_passes_and_its_run_closes_ok(quick: Quick, judge: Judge, home: Home) -> None:
    quick(GREEN)
    folder = quick({**GREEN, "t/new.py::n": "passed"})

    found = judge(folder)

    assert answer(found) == ("ok", 0, ())
    view = read_run(home, found.run)
    assert (view.state, view.settled, view.planned) == ("ok", 4, 4)
    assert [row["reason"] for row in view.outcomes] == ["ok", "ok", "ci.nothing-to-rerun", "ok"]


@pytest.mark.parametrize(
    ("head", "reason", "state"),
    [
        ({**GREEN, "t/a.py::x": "failed"}, "ci.new-failure", "new_fail"),
        ({**GREEN, "t/a.py::x": "error"}, "ci.new-failure", "new_fail"),
        ({**GREEN, "t/a.py::x": "skipped"}, "ci.new-skip", "new_skip"),
        ({**GREEN, "t/a.py::x": "xfailed"}, "ci.new-xfail", "new_xfail"),
        ({name: "passed" for name in GREEN if name != "t/a.py::x"}, "ci.vanished", "vanished"),
        (
            {**{n: "passed" for n in GREEN if n != "t/a.py::x"}, "t/a.py::renamed": "passed"},
            "ci.vanished",
            "vanished",
        ),
    ],
)
def test_each_way_to_lose_a_test_blocks(
    quick: Quick, judge: Judge, home: Home, head: dict[str, str], reason: str, state: str
) -> None:
    quick(GREEN)

    found = judge(quick(head))

    assert answer(found) == ("failed", 1, (reason,))
    assert states(found)["t/a.py::x"] == state
    assert read_run(home, found.run).state == "failed"


def test_a_green_head_without_a_baseline_exits_four_until_one_is_captured(quick: Quick, judge: Judge) -> None:
    quick(GREEN)
    folder = quick({**GREEN, "t/c.py::new": "passed"})

    assert answer(judge(folder, capture=False)) == ("na", 4, ("ci.no-baseline",))
    assert answer(judge(folder, base=None)) == ("na", 4, ("ci.no-baseline",))
    assert answer(judge(folder)) == ("ok", 0, ())
    assert answer(judge(folder, capture=False)) == ("ok", 0, ()), "the captured one is found again"


def test_the_same_command_on_the_same_base_is_not_run_twice(quick: Quick, judge: Judge, home: Home) -> None:
    quick(GREEN)
    folder = quick(GREEN, files={"more.py": ""})

    judge(folder)
    judge(folder)

    purposes = [record.document["purpose"] for record in home.records.read("ci.run")]
    assert purposes == ["base", "head", "head"]


@pytest.mark.parametrize(
    "base",
    [
        {"status": 77},
        {"status": 5},
        {"status": 0, "tests": {"t/a.py::x": "failed"}},
        {"tests": {"t/a.py::x": "skipped"}},
    ],
)
def test_an_unhealthy_base_cannot_be_judged_against(quick: Quick, judge: Judge, base: dict[str, Any]) -> None:
    quick(base.pop("tests", GREEN), **base)

    found = judge(quick(GREEN, files={"n": ""}))

    assert answer(found) == ("na", 4, ("ci.baseline-unhealthy",))


def test_an_unhealthy_capture_is_not_found_again_and_gives_way_to_a_healthy_one(
    quick: Quick, judge: Judge, tmp_path: Path
) -> None:
    quick(GREEN, status=77, again=GREEN, counter=tmp_path / "count")
    folder = quick(GREEN, files={"n": "", "counter": ""}, status=0)

    assert answer(judge(folder)) == ("na", 4, ("ci.baseline-unhealthy",))
    assert answer(judge(folder)) == ("ok", 0, ())


def test_a_test_that_passes_when_asked_again_is_a_warning(quick: Quick, judge: Judge, tmp_path: Path) -> None:
    quick(GREEN)
    flaky = {**GREEN, "t/a.py::x": "failed"}

    found = judge(quick(flaky, again=GREEN, counter=tmp_path / "count"))

    assert answer(found) == ("ok", 0, ())
    assert found.decision.verdict.warnings == ("ci.flaky",)
    assert states(found) == {"t/a.py::x": "flaky"}
    assert len(found.decision.document["case"]["reruns"]) == 1


def test_a_file_that_loads_on_the_second_try_is_a_warning(quick: Quick, judge: Judge, tmp_path: Path) -> None:
    quick(GREEN)
    first = {name: "passed" for name in GREEN if not name.startswith("t/b.py")}

    found = judge(quick(first, broken=["t/b.py"], again=GREEN, counter=tmp_path / "count"))

    assert answer(found) == ("ok", 0, ())
    assert found.decision.verdict.delta.healed == ("t/b.py",)


def test_a_file_that_stays_broken_blocks_and_its_tests_are_not_called_vanished(
    quick: Quick, judge: Judge
) -> None:
    quick(GREEN)
    rest = {name: "passed" for name in GREEN if not name.startswith("t/b.py")}

    found = judge(quick(rest, broken=["t/b.py"]))

    assert answer(found) == ("failed", 1, ("ci.collect-error",))
    assert states(found) == {"t/b.py::z": "under_collector"}
    assert found.decision.verdict.delta.severity == "low"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (4, "ci.harness-broken-by-change"),
        (3, "ci.harness-broken-by-change"),
        (77, "ci.exit-unknown"),
        (2, "ci.interrupted"),
    ],
)
def test_a_head_that_never_got_to_its_tests_is_not_compared(
    quick: Quick, judge: Judge, status: int, expected: str
) -> None:
    quick(GREEN)

    found = judge(quick(GREEN, status=status))

    assert found.decision.verdict.reasons[0] == expected
    assert found.decision.verdict.verdict != "ok"
    assert states(found) == {}


@pytest.mark.parametrize(
    "content", ["", "<testsuites><testsuite name='pytest'>", "not a report", "<!DOCTYPE x><testsuites/>"]
)
def test_a_head_whose_report_cannot_be_read_never_passes(quick: Quick, judge: Judge, content: str) -> None:
    quick(GREEN)

    found = judge(quick(GREEN, files={"report.xml": content}))

    assert answer(found)[:2] == ("na", 4)
    assert found.decision.verdict.reasons[0].startswith("ci.report-")


def test_a_command_that_only_the_head_cannot_start_is_not_judged(quick: Quick, judge: Judge) -> None:
    quick(GREEN)
    folder = quick(GREEN, files={"n": ""})

    found = judge(folder, argv=("no-such-command",))

    assert answer(found)[:2] == ("na", 4)
    assert "ci.not-started" in found.decision.verdict.reasons


def test_a_head_that_loosens_its_policy_is_judged_by_the_bases(quick: Quick, judge: Judge) -> None:
    red = {**GREEN, "t/a.py::x": "failed"}
    quick(red, files={".sterling.toml": '[ci]\nblock = ["hidden"]\n'})

    found = judge(quick({**GREEN, "t/a.py::x": "skipped"}, files={".sterling.toml": "[ci]\nblock = []\n"}))

    assert answer(found) == ("failed", 1, ("ci.hidden",))
    assert "ci.policy-changed" in found.decision.verdict.warnings


def test_a_broken_policy_on_the_base_is_wrong_usage_and_nothing_is_decided(
    quick: Quick, judge: Judge, home: Home
) -> None:
    quick(GREEN, files={".sterling.toml": "[ci]\nallow_everything = true\n"})
    folder = quick(GREEN)

    with pytest.raises(PolicyInvalid):
        judge(folder)

    assert list(home.records.read("ci.decision")) == []


def test_a_claimed_change_that_changes_nothing_fails(quick: Quick, judge: Judge) -> None:
    quick(GREEN)
    folder = quick(GREEN)

    assert answer(judge(folder, expects_change=True)) == ("failed", 1, ("ci.noop",))
    assert answer(judge(folder)) == ("ok", 0, ()), "nobody claimed a change"


def test_ids_that_swing_on_the_base_are_marked_and_still_block(
    quick: Quick, judge: Judge, home: Home, tmp_path: Path
) -> None:
    swinging = {**GREEN, "t/a.py::x": "failed"}
    folder = quick(GREEN, again=swinging, counter=tmp_path / "count")
    captured = door.capture_baseline(
        door.order_tests(folder, QUICK, revision="HEAD", reports=["out.xml"]), home=home, repeat=2
    )

    assert captured.baseline.unstable == ("t/a.py::x",)
    found = judge(quick(swinging))
    assert answer(found) == ("failed", 1, ("ci.new-failure",))
    assert found.decision.verdict.delta.states["t/a.py::x"].unstable


def test_a_baseline_of_a_dirty_tree_is_kept_and_never_used(quick: Quick, home: Home) -> None:
    folder = quick(GREEN)
    (folder / "extra.py").write_text("x")

    captured = door.capture_baseline(door.order_tests(folder, QUICK, reports=["out.xml"]), home=home)

    assert not captured.baseline.healthy
    assert "not committed" in captured.baseline.why
    assert read_run(home, captured.run).state == "failed"
    (record,) = home.records.read("ci.baseline")
    assert record.document["healthy"] is False


class TestNamedBaseline:
    """A baseline that came as a file."""

    @pytest.fixture
    def captured(self, quick: Quick, home: Home, tmp_path: Path) -> tuple[Baseline, Path]:
        folder = quick(GREEN)
        order = door.order_tests(folder, QUICK, revision="HEAD", reports=["out.xml"])
        baseline = door.capture_baseline(order, home=home).baseline
        door.write_baseline(baseline, tmp_path / "b.baseline.json")
        return baseline, tmp_path / "b.baseline.json"

    def test_it_serves_like_a_captured_one(self, captured: Any, quick: Quick, judge: Judge) -> None:
        folder = quick({**GREEN, "t/a.py::x": "failed"})

        found = judge(folder, base=None, baseline_file=captured[1])

        assert answer(found) == ("failed", 1, ("ci.new-failure",))

    def test_it_is_not_taken_for_one_that_was_captured_here(
        self, captured: Any, quick: Quick, judge: Judge, tmp_path: Path
    ) -> None:
        quick(GREEN, files={"other": ""})
        folder = quick({**GREEN, "t/a.py::x": "failed"})
        made_up = replace(
            captured[0], parts=replace(captured[0].parts, tree=_tree(folder, "HEAD~1", tmp_path))
        )
        door.write_baseline(made_up, tmp_path / "o.baseline.json")

        assert answer(judge(folder, base="HEAD~1", baseline_file=tmp_path / "o.baseline.json"))[0] == "failed"
        assert answer(judge(folder, capture=False)) == ("na", 4, ("ci.no-baseline",))

    def test_an_edited_one_is_exit_three_and_the_decision_is_kept(
        self, captured: Any, quick: Quick, judge: Judge, home: Home
    ) -> None:
        captured[1].write_text(captured[1].read_text().replace('"passed"', '"failed"'))

        found = judge(quick(GREEN), base=None, baseline_file=captured[1])

        assert answer(found)[:2] == ("failed", 3)
        assert found.decision.verdict.reasons == ("ci.baseline-tampered",)
        assert [record.document["exit"] for record in home.records.read("ci.decision")] == [3]

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"version": "2.7.18"}, "interpreter version"),
            ({"platform": "plan9-mips"}, "platform"),
            ({"argv": ("sh", "quick.sh", "-x")}, "command"),
        ],
    )
    def test_one_for_something_else_cannot_be_compared(
        self, captured: Any, quick: Quick, judge: Judge, tmp_path: Path, change: dict[str, Any], named: str
    ) -> None:
        other = replace(captured[0], parts=replace(captured[0].parts, **change))
        door.write_baseline(other, tmp_path / "o.baseline.json")

        found = judge(quick(GREEN), base=None, baseline_file=tmp_path / "o.baseline.json")

        assert answer(found) == ("na", 4, ("ci.baseline-mismatch",))
        assert any(named in gate.because for gate in found.decision.verdict.gates)

    def test_one_of_another_tree_than_the_base_cannot_be_compared(
        self, captured: Any, quick: Quick, judge: Judge
    ) -> None:
        quick(GREEN, files={"moved-on": ""})
        folder = quick(GREEN)

        assert answer(judge(folder, base="HEAD~2", baseline_file=captured[1]))[0] == "ok"
        assert answer(judge(folder, base="HEAD~1", baseline_file=captured[1])) == (
            "na",
            4,
            ("ci.baseline-mismatch",),
        )

    @pytest.mark.parametrize(
        ("change", "expected"), [({"healthy": False, "why": "cut"}, "failed"), ({"dirty": True}, "na")]
    )
    def test_an_unhealthy_or_dirty_one_does_not_serve(
        self, captured: Any, quick: Quick, judge: Judge, tmp_path: Path, change: dict[str, Any], expected: str
    ) -> None:
        door.write_baseline(replace(captured[0], **change), tmp_path / "o.baseline.json")

        assert (
            answer(judge(quick(GREEN), base=None, baseline_file=tmp_path / "o.baseline.json"))[0] == expected
        )

    @pytest.mark.parametrize(
        ("text", "status", "expected"),
        [
            ("GREEN", 0, ("ok", 0)),
            ("RED", 1, ("failed", 1)),
            ("RED", 0, ("failed", 1)),
            ("GREEN", 1, ("failed", 1)),
            ("GREEN", None, ("na", 4)),
            ("TORN", 0, ("na", 4)),
            ("EMPTY", 0, ("na", 4)),
            ("GREEN", 137, ("na", 4)),
        ],
    )
    def test_reports_made_elsewhere_are_judged_against_it(
        self,
        captured: Any,
        home: Home,
        tmp_path: Path,
        text: str,
        status: int | None,
        expected: tuple[str, int],
    ) -> None:
        case = "<testcase classname='t.{}' name='{}'>{}</testcase>"
        rows = [
            ("a", "x", "<failure message='m'>E   m</failure>" if text == "RED" else ""),
            ("a", "y", ""),
            ("b", "z", ""),
        ]
        whole = f"<testsuite name='pytest'>{''.join(case.format(*row) for row in rows)}</testsuite>"
        report = tmp_path / "made.xml"
        report.write_text({"TORN": whole[:-5], "EMPTY": ""}.get(text, whole))

        found = door.assess_reports([str(report)], home=home, exit_code=status, baseline_file=captured[1])

        assert answer(found)[:2] == expected
        assert any("not stated" in note for note in found.decision.document["notes"])


def test_evidence_that_was_changed_on_disk_is_exit_three(quick: Quick, judge: Judge, home: Home) -> None:
    quick(GREEN)
    folder = quick(GREEN, files={"n": ""})
    judge(folder)
    (record,) = home.records.read("ci.baseline")
    _spoil(home, record.document["content"])

    found = judge(folder, capture=False)

    assert answer(found)[:2] == ("failed", 3)
    assert "ci.evidence-tampered" in found.decision.verdict.reasons


def test_explaining_needs_neither_checkout_nor_reports(quick: Quick, judge: Judge, home: Home) -> None:
    import shutil

    quick({**GREEN, "t/a.py::x": "failed"})
    folder = quick({**GREEN, "t/a.py::y": "failed"})
    found = judge(folder)
    shutil.rmtree(folder)

    told = door.explain(found.decision.id, home=home)

    assert told.problems == ()
    assert told.states == {"t/a.py::x": "fixed", "t/a.py::y": "new_fail"}
    assert told.record.id == door.explain(found.run[:12], home=home).record.id
    assert told.checked > 15
    home.contracts.validate("ci.explained", told.as_json())


def test_explaining_names_evidence_that_no_longer_verifies(quick: Quick, judge: Judge, home: Home) -> None:
    quick(GREEN)
    found = judge(quick({**GREEN, "t/a.py::y": "failed"}))
    (report,) = home.records.get(found.decision.document["head"]["facts"]).document["sources"]
    _spoil(home, report["blob"])

    told = door.explain(found.decision.id, home=home)

    assert any(report["blob"] in problem for problem in told.problems)


@pytest.mark.parametrize("name", ["nope", "", "r-", "run-"])
def test_a_decision_nobody_made_is_wrong_usage(quick: Quick, judge: Judge, home: Home, name: str) -> None:
    from sterling.packs.ci.explain import DecisionUnknown

    with pytest.raises(DecisionUnknown):
        door.explain(name, home=home)


def test_a_run_can_be_read_and_judged_again_from_its_bytes(
    quick: Quick, judge: Judge, home: Home, tmp_path: Path
) -> None:
    quick(GREEN)
    first = judge(quick({**GREEN, "t/a.py::y": "failed"}, again=GREEN, counter=tmp_path / "c"))

    again = door.recheck(home, first.run)

    assert again.problems == ()
    assert again.checked == sum(1 for _ in home.ledger.read(kind="record.put", run=first.run))


def test_a_reading_that_would_come_out_otherwise_is_found(
    quick: Quick, judge: Judge, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(GREEN)
    found = judge(quick({**GREEN, "t/a.py::y": "failed"}))
    monkeypatch.setattr("sterling.packs.ci.reports.junit._outcome", lambda _element, _kind: "passed")

    again = door.recheck(home, found.run)

    assert any("read otherwise" in problem for problem in again.problems)


def test_a_verdict_that_would_come_out_otherwise_is_found(
    quick: Quick, judge: Judge, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(GREEN)
    found = judge(quick({**GREEN, "t/a.py::y": "failed"}))
    monkeypatch.setattr("sterling.packs.ci.delta.BLOCKS", ())
    monkeypatch.setattr("sterling.packs.ci.gates.BLOCKS", ())

    again = door.recheck(home, found.run)

    assert any("come out otherwise" in problem for problem in again.problems)


def test_a_ledger_that_refuses_leaves_no_verdict(
    quick: Quick, judge: Judge, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sterling.kernel.errors import SterlingError
    from sterling.packs.ci.decision import LedgerRefused

    quick(GREEN)
    folder = quick(GREEN, files={"n": ""})
    commit = home.ledger.commit

    def refuse(batch: Any) -> Any:
        if any(draft.payload.get("contract", "").startswith("ci.decision") for draft in batch.drafts):
            raise SterlingError("the disk is full")
        return commit(batch)

    monkeypatch.setattr(home.ledger, "commit", refuse)

    with pytest.raises(LedgerRefused) as caught:
        judge(folder)

    assert (caught.value.code, caught.value.exit) == ("ci.ledger-refused", 1)
    assert list(home.records.read("ci.decision")) == []


def test_a_tree_that_changes_while_the_tests_run_is_not_asked_again(quick: Quick, judge: Judge) -> None:
    quick(GREEN)
    folder = quick({**GREEN, "t/a.py::y": "failed"})
    (folder / "quick.sh").write_text(f"echo x >> {folder}/grows; cp report.xml out.xml; exit $(cat status)\n")

    found = judge(folder, at="", base="HEAD~1")

    assert answer(found) == ("failed", 1, ("ci.new-failure",))
    assert "ci.rerun-environment" in found.decision.verdict.warnings


def test_the_base_is_where_the_branch_left_its_upstream(quick: Quick, judge: Judge) -> None:
    import subprocess

    folder = quick(GREEN)
    for words in (["branch", "up"], ["branch", "-q", "--set-upstream-to=up"]):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    quick({**GREEN, "t/a.py::y": "failed"})

    found = judge(folder, base=None)

    assert answer(found) == ("failed", 1, ("ci.new-failure",))


@pytest.mark.parametrize("argv", [(), ("",)])
def test_an_order_needs_words(quick: Quick, argv: tuple[str, ...]) -> None:
    from sterling.runtime.commands import CommandNotStarted

    with pytest.raises(CommandNotStarted):
        door.order_tests(quick(GREEN), argv)


def test_names_that_are_no_utf8_stop_nothing(quick: Quick, judge: Judge, home: Home) -> None:
    quick(GREEN)
    folder = quick(GREEN, files={"n": ""})
    strange = folder / os.fsdecode(b"caf\xe9.py")
    strange.write_text("x")
    report = folder / os.fsdecode(b"r\xe9port.xml")
    report.write_text((folder / "report.xml").read_text())

    assert answer(judge(folder, at="", base="HEAD"))[0] == "ok"
    found = door.ingest([str(report)], home=home, exit_code=0, folder=folder)
    assert found.facts.tally == {"passed": 3}


def test_the_shipped_sample_is_the_same_everywhere(tmp_path: Path) -> None:
    from sterling.packs.ci.sample import SamplePlaceTaken

    first, second = door.make_sample(tmp_path / "one"), door.make_sample(tmp_path / "two")

    assert (first.base, first.broken, first.mended) == (second.base, second.broken, second.mended)
    assert len({first.base, first.broken, first.mended}) == 3
    assert resolve_revision(find_repository(tmp_path / "one"), "main") == first.base
    with pytest.raises(SamplePlaceTaken):
        door.make_sample(tmp_path / "one")


def _tree(folder: Path, revision: str, scratch: Path) -> str:
    repository = find_repository(folder)
    copy = copy_revision(repository, resolve_revision(repository, revision), scratch / "tree")
    return tree_hash(copy.path)


def _spoil(home: Home, address: str) -> None:
    path = home.blobs.path(address)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + b" ")
