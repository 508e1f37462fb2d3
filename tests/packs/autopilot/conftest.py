"""What the tests of this pack share: a home, a judge that runs no tests, and a walk through the phases."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.canonical import canonical_bytes
from sterling.kernel.home import Home, init_home
from sterling.packs.autopilot.authority.asks import Answer, Ask
from sterling.packs.autopilot.authority.loop import Authority, Who
from sterling.packs.autopilot.orders import TaskOrder
from sterling.packs.autopilot.ports import TestCase, TestVerdict
from sterling.packs.autopilot.process.machine import Role
from sterling.packs.autopilot.process.view import TaskView
from sterling.packs.autopilot.tasks import create_task, open_authority
from sterling.testing.scripted_agent import load_script

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = ROOT / "samples" / "autopilot"
LIBRARY = ROOT / "samples" / "ci" / "base"
_EARLY = "tests/test_fines.py::test_an_early_return_costs_nothing"
_CAP = "tests/test_fines.py::test_a_fine_never_passes_the_cap"


@dataclass
class FakeTests:
    """Judges by the one line that matters, so that a walk takes no time; counts how often it was asked."""

    calls: int = 0
    state: str = "ok"
    code: str = "ok"

    def __call__(self, home: Home, case: TestCase) -> TestVerdict:
        self.calls += 1
        found = subprocess.run(
            ["git", "show", f"{case.head}:shelf/fines.py"],
            cwd=case.repository,
            capture_output=True,
            text=True,
            check=True,
        )
        mended = "max(0" in found.stdout
        return TestVerdict(
            self.state,
            self.code,
            "told by the test",
            outcomes={_EARLY: "passed" if mended else "failed", _CAP: "passed"},
            base_outcomes={_EARLY: "failed", _CAP: "passed"},
        )


@dataclass
class Walk:
    """A task and its authority, driven step by step without any process."""

    home: Home
    authority: Authority
    tests: FakeTests
    steps: list[dict[str, Any]]
    session: str = "session-1"
    asked: int = 0
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def view(self) -> TaskView:
        return self.authority.site.view

    @property
    def tree(self) -> Path:
        return self.authority.site.work.tree

    @property
    def phase(self) -> str:
        return str(self.view.phase)

    def ask(self, verb: str, *, who: Who | None = None, seen: int | None = None, **arguments: Any) -> Answer:
        """Ask as an agent that has just looked."""
        self.asked += 1
        given = arguments.pop("ask_id", f"ask-{self.asked}")
        newest = self.view.newest if seen is None else seen
        agent = Who(Role.AGENT, self.session, "implementer")
        return self.authority.answer(Ask(given, verb, "", newest, arguments=arguments), who or agent)

    def advance(self, to: str, **more: Any) -> Answer:
        return self.ask("request_advance", to=to, **more)

    def back(self, to: str, *cites: str, **more: Any) -> Answer:
        return self.ask("request_backtrack", to=to, code="check.failed", cites=list(cites), **more)

    def submit(self, kind: str, content: Any, **more: Any) -> Answer:
        return self.ask(
            "submit_artifact", kind=kind, content=canonical_bytes(content).decode("utf-8"), **more
        )

    def reviewer(self) -> Who:
        return Who(Role.AGENT, "session-reviewer", "reviewer")

    def content(self, kind: str) -> Any:
        """What the honest script hands in for this kind."""
        return next(step["content"] for step in self.steps if step.get("submit") == kind)

    def hand_in(self, phase: str) -> None:
        """Submit and write what the honest script does in a phase, without asking to move."""
        for step in self.steps:
            if step["phase"] != phase:
                continue
            who = self.reviewer() if step.get("duty") == "reviewer" else None
            if "submit" in step:
                answer = self.submit(step["submit"], step["content"], who=who)
                assert answer.ok, answer
            elif "write" in step:
                (self.tree / step["write"]).write_text(step["text"], encoding="utf-8")

    def to(self, target: str) -> Answer:
        """Walk honestly until the task is in this phase (or DONE); the last answer."""
        answer = Answer("ok", True, {})
        while self.phase != target:
            if self.view.phase is None:
                following = "STRATEGIZE"
            else:
                self.hand_in(self.phase)
                following = str(self.ask("next_requirements").result["next"])
            answer = self.advance(following)
            assert answer.ok, answer
            if following == "DONE":
                return answer
        return answer


Walking = Callable[..., Walk]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with init_home(tmp_path / "home") as made:
        yield made


@pytest.fixture
def walking(home: Home) -> Iterator[Walking]:
    """Begin a walk on the sample library; leases are given back at the end."""
    with ExitStack() as stack:

        def begin(**order: Any) -> Walk:
            given = {"text": "Mend the red test", "repository": LIBRARY, "profile": SAMPLES / "profile.toml"}
            view = create_task(home, TaskOrder(**(given | order)))
            tests = FakeTests()
            authority, _ = stack.enter_context(open_authority(home, view, tests))
            return Walk(home, authority, tests, load_script(SAMPLES / "mend.toml"))

        yield begin
