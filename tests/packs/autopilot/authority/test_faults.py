"""An error is never a yes: whatever breaks, the move is refused and the phase is what it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.batch import Batch
from sterling.kernel.blobs import BlobAbsent
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home, init_home
from sterling.packs.autopilot.authority.asks import Ask
from sterling.packs.autopilot.authority.loop import Who
from sterling.packs.autopilot.authority.worktree import WorkTree
from sterling.packs.autopilot.door import TestVerdict
from sterling.packs.autopilot.errors import AuthorityTaken
from sterling.packs.autopilot.orders import TaskOrder
from sterling.packs.autopilot.process.machine import Phase, Role
from sterling.packs.autopilot.process.story import read_view
from sterling.packs.autopilot.tasks import create_task, open_authority
from sterling.testing.clock import FakeClock

Walking = Callable[..., Any]


class Broken(SterlingError):
    """An error that a test plants."""

    code = "planted.error"


class Crash(BaseException):
    """Stands for the end of the process."""


def codes(answer: Any) -> list[str]:
    return [str(each["code"]) for each in answer.result.get("refusals", [])]


def phase_in_ledger(walk: Any) -> str:
    view = read_view(walk.home, walk.view.task)
    assert view is not None
    return str(view.phase)


def test_a_ledger_that_refuses_leaves_the_phase(walking: Walking, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = walking()
    walk.to("SPEC")
    walk.hand_in("SPEC")

    def refuse(batch: Batch) -> None:
        raise Broken("no disk")

    monkeypatch.setattr(walk.home.ledger, "commit", refuse)
    answer = walk.advance("PLAN")
    monkeypatch.undo()

    assert answer.ok is False and answer.code == "planted.error"
    assert phase_in_ledger(walk) == "SPEC" and walk.phase == "SPEC"
    assert walk.advance("PLAN").ok


def test_a_disk_without_room_leaves_the_phase(walking: Walking, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = walking()
    walk.to("IMPLEMENT")
    walk.hand_in("IMPLEMENT")

    def full(data: bytes) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(walk.home.blobs, "put", full)
    answer = walk.advance("VERIFY")
    monkeypatch.undo()

    assert not answer.ok and codes(answer) == ["blob.unavailable"] and phase_in_ledger(walk) == "IMPLEMENT"
    assert walk.advance("VERIFY").ok


def test_a_lost_blob_shuts_the_gate(walking: Walking, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = walking()
    walk.to("PLAN")
    walk.hand_in("PLAN")
    lost = walk.view.artifacts["plan"].blob
    path = walk.home.blobs.path(lost)
    path.rename(path.with_name("elsewhere"))

    answer = walk.advance("THINK")

    assert "artifact.changed" in codes(answer) and phase_in_ledger(walk) == "PLAN"


def test_an_altered_blob_shuts_the_gate(walking: Walking) -> None:
    walk = walking()
    walk.to("PLAN")
    walk.hand_in("PLAN")
    path = walk.home.blobs.path(walk.view.artifacts["plan"].blob)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"minutes", b"moments"))

    answer = walk.advance("THINK")

    assert "artifact.changed" in codes(answer) and phase_in_ledger(walk) == "PLAN"


def test_a_lease_that_ran_out_writes_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    samples = Path(__file__).resolve().parents[4] / "samples"
    with init_home(tmp_path / "home", clock=clock) as home:
        order = TaskOrder("Mend it", samples / "ci" / "base", samples / "autopilot" / "profile.toml")
        view = create_task(home, order)
        with open_authority(home, view, _never) as (authority, lease):
            clock.advance(301_000_000)
            before = home.ledger.newest(view.task)
            ask = Ask("a", "request_advance", "", view.newest, arguments={"to": "STRATEGIZE"})
            answer = authority.answer(ask, Who(Role.AGENT, "s", "implementer"))
            with pytest.raises(SterlingError):
                home.leases.renew(lease)

        assert answer.ok is False and answer.code == "lease.expired"
        assert home.ledger.newest(view.task) == before


def test_another_holder_of_the_lease_writes_nothing(walking: Walking) -> None:
    walk = walking()
    walk.to("SPEC")
    walk.hand_in("SPEC")
    fence = walk.authority.site.fence
    walk.authority.site.fence = type(fence)(fence.lease, fence.token - 1 or 99)

    answer = walk.advance("PLAN")

    assert answer.ok is False and answer.code == "lease.lost" and phase_in_ledger(walk) == "SPEC"


def test_a_second_authority_is_refused_and_so_is_a_second_lease(walking: Walking) -> None:
    walk = walking()

    with pytest.raises(AuthorityTaken), open_authority(walk.home, walk.view, _never):
        pass


def test_a_profile_that_was_altered_opens_no_authority(home: Home, walking: Walking) -> None:
    samples = Path(__file__).resolve().parents[4] / "samples"
    view = create_task(home, TaskOrder("x", samples / "ci" / "base", samples / "autopilot" / "profile.toml"))
    path = home.blobs.path(str(view.facts["profile"]["blob"]))
    path.rename(path.with_name("gone"))

    with pytest.raises(BlobAbsent), open_authority(home, view, _never):
        pass


def test_git_that_does_not_run_shuts_the_gate(walking: Walking, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = walking()
    walk.to("IMPLEMENT")
    walk.hand_in("IMPLEMENT")
    monkeypatch.setenv("PATH", "/nowhere")

    answer = walk.advance("VERIFY")

    assert answer.ok is None and codes(answer) == ["check.not-run"] and answer.exit == 4


def test_a_judge_of_tests_that_fails_shuts_the_gate(walking: Walking) -> None:
    walk = walking()
    walk.to("VERIFY")

    def broken(home: Home, case: object) -> TestVerdict:
        raise Broken("no judge")

    walk.authority.site.evidence = broken
    answer = walk.advance("REVIEW")

    assert answer.ok is None and codes(answer) == ["check.not-run"] and phase_in_ledger(walk) == "VERIFY"


def test_a_link_out_of_the_tree_shuts_the_gate(walking: Walking) -> None:
    walk = walking()
    walk.to("IMPLEMENT")
    walk.hand_in("IMPLEMENT")
    (walk.tree / "shelf" / "passwd").symlink_to("/etc/passwd")

    assert codes(walk.advance("VERIFY")) == ["patch.out-of-scope"]


def test_a_broken_work_tree_can_still_go_back(walking: Walking, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = walking()
    walk.to("VERIFY")
    walk.tests.state = "failed"
    refused = walk.advance("REVIEW")

    def broken(self: WorkTree) -> str:
        raise Broken("no tree")

    monkeypatch.setattr(WorkTree, "snapshot", broken)
    answer = walk.back("PLAN", str(refused.result["transition"]))

    assert answer.ok and walk.view.phase is Phase.PLAN


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after the commit"])
@pytest.mark.parametrize("place", range(3))
def test_an_end_at_any_write_leaves_the_old_phase_or_the_new_one(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int, after: bool, walking: Walking
) -> None:
    """Leaving VERIFY writes a check, its artifacts and the transition; the process ends at each of them."""
    walk = walking()
    walk.to("VERIFY")
    commit, count = walk.home.ledger.commit, 0

    def ends(batch: Batch) -> Any:
        nonlocal count
        count += 1
        if count != place + 1:
            return commit(batch)
        if after:
            commit(batch)
        raise Crash

    monkeypatch.setattr(walk.home.ledger, "commit", ends)
    with pytest.raises(Crash):
        walk.advance("REVIEW", ask_id="the-ask")
    monkeypatch.undo()

    expected = "REVIEW" if after and place == 2 else "VERIFY"
    assert phase_in_ledger(walk) == expected
    walk.ask("status")
    again = walk.advance("REVIEW", ask_id="the-ask")
    assert again.ok and again.result["to"] == "REVIEW"
    assert walk.to("DONE").ok


def _never(home: Home, case: object) -> TestVerdict:
    raise AssertionError("no test should have been run")
