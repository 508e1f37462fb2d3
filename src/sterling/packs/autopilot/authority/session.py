"""`task run`: one run of a task, agent process after agent process, until it is done or stops.

Each start of the agent is a session with a secret of its own. A phase is worked
on in the implementer's copy; REVIEW is given to a fresh session that has only a
clean copy to read. When an agent dies, falls silent or gives up, the task stays
open where it is: its steps are settled, the lease is free, and a later run goes on.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from sterling.kernel.batch import Batch
from sterling.kernel.canonical import Json
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home
from sterling.kernel.leases import Lease
from sterling.packs.autopilot.authority.agents import (
    AgentEnd,
    agent_argv,
    run_agent,
)
from sterling.packs.autopilot.authority.asks import Answer, Ask
from sterling.packs.autopilot.authority.brief import brief_text
from sterling.packs.autopilot.authority.channel import Channel
from sterling.packs.autopilot.authority.collect import Site
from sterling.packs.autopilot.authority.loop import Authority, Who
from sterling.packs.autopilot.environment import AUTHORITY, SESSION, agent_environment
from sterling.packs.autopilot.errors import RequestInvalid
from sterling.packs.autopilot.process.machine import PHASES, Phase, Role
from sterling.packs.autopilot.process.states import TaskState
from sterling.packs.autopilot.process.story import read_story, refresh, write
from sterling.packs.autopilot.process.view import TaskView
from sterling.runtime.plan import of_phases
from sterling.runtime.runs import Run, open_run

__all__ = ["RunReport", "drive"]

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run of a task ended. `code` is ok when the task is done."""

    run: str
    code: str
    because: str
    sessions: int


@dataclass(slots=True)
class _Watch:
    """When the agent last did anything that can be seen."""

    authority: Authority
    output: tuple[Path, Path]
    silence_s: int
    asked: int = 0
    size: int = 0
    at: float = field(default_factory=time.monotonic)

    def should_stop(self) -> str:
        size = sum(path.stat().st_size for path in self.output if path.exists())
        if self.authority.is_busy or self.authority.asked != self.asked or size != self.size:
            self.asked, self.size, self.at = self.authority.asked, size, time.monotonic()
        elif time.monotonic() - self.at > self.silence_s:
            return "agent.silent"
        closed = self.authority.site.view.state is not TaskState.OPEN
        return "transition.task-closed" if closed and not self.authority.is_busy else ""


class _Sessions:
    """The agent processes that may ask, by their secrets."""

    def __init__(self) -> None:
        self._known: dict[str, Who] = {}

    def open(self, duty: str) -> tuple[str, str]:
        """A new session; returns its id and its secret."""
        session, secret = f"session-{secrets.token_hex(8)}", secrets.token_hex(16)
        self._known[secret] = Who(Role.AGENT, session, duty)
        return session, secret

    def close(self, secret: str) -> None:
        self._known.pop(secret, None)

    def who(self, ask: Ask) -> Who:
        """Errors: RequestInvalid for a secret that no living session has."""
        who = self._known.get(ask.session)
        if who is None:
            raise RequestInvalid(
                "expected the secret of a session that the authority started", field="session"
            )
        return who


def drive(authority: Authority, lease: Lease, argv: Sequence[str], *, say: Say) -> RunReport:
    """Run the agent until the task is done, blocked, waits, or the agent stops working.

    Errors: AgentUnreachable, and what the ledger or the work tree raises; the run is
            closed and its steps are settled in every case.
    """
    site = authority.site
    view, home = site.view, site.home
    plan = of_phases("autopilot", [(str(phase), _needs(phase)) for phase in PHASES])
    run = open_run(
        home, pack="autopilot", plan=plan, origin="attended", inputs=[view.record], title=view.title
    )
    site.run = run.id
    sessions = _Sessions()
    code, because, count = "run.interrupted", "The run was stopped before the task was done.", 0
    try:
        with _keep(home, lease), _listening(authority, sessions) as channel:
            _start(authority)
            while view.state is TaskState.OPEN:
                end = _session(authority, sessions, channel, argv, say)
                count += 1
                if end is not None:
                    code, because = end.code, end.because
                    break
        if view.state is not TaskState.OPEN:
            code = "ok" if view.state is TaskState.DONE else view.reason
            because = view.because
    except SterlingError as problem:
        code, because = problem.code, problem.message
        raise
    finally:
        refresh(home, view)
        _settle(run, view, code, because)
        run.close()
    return RunReport(run.id, code, because, count)


def _session(
    authority: Authority, sessions: _Sessions, channel: Channel, argv: Sequence[str], say: Say
) -> AgentEnd | None:
    """One agent process. None when it moved the task, else how it failed to."""
    site = authority.site
    view, phase, epoch = site.view, site.view.phase, site.view.epoch
    left = site.profile.limits.minutes * 60 - view.minutes_used() * 60
    if left <= 0:
        return AgentEnd("budget.minutes", f"{view.minutes_used()} minutes of agent time are used up.")
    duty = "reviewer" if phase is Phase.REVIEW else "implementer"
    session, secret = sessions.open(duty)
    say(f"{phase}: agent starts ({duty}, epoch {view.epoch}, attempt {view.attempt})")
    try:
        end = _run_session(
            authority, channel, argv, session, secret, duty, min(left, site.profile.limits.agent_s)
        )
    finally:
        sessions.close(secret)
    authority.settle()
    if end.code != "ok":
        return end
    stands_still = view.phase is phase and view.epoch == epoch and view.state is TaskState.OPEN
    if stands_still:
        return AgentEnd("agent.bad-output", f"It ended and left the task in {phase}.{_last_refusal(site)}")
    return None


def _last_refusal(site: Site) -> str:
    """What the task was last refused for, where that is the newest thing it was told."""
    code = ""
    for _, told in read_story(site.home, site.view.task):
        if told.name == "transition":
            code = str(told.document["code"]) if told.document["decision"] == "refuse" else ""
    return f" Its last ask was refused: {code}." if code else ""


def _run_session(
    authority: Authority,
    channel: Channel,
    argv: Sequence[str],
    session: str,
    secret: str,
    duty: str,
    wall_s: int,
) -> AgentEnd:
    site = authority.site
    work = site.work
    folder = work.renew_review(site.view.tree) if duty == "reviewer" else work.tree
    _put_session(authority, session, duty, {"event": "started"})
    with TemporaryDirectory(prefix="session-", dir=work.folder) as scratch:
        output = (Path(scratch) / "stdout", Path(scratch) / "stderr")
        brief, brief_file = brief_text(authority), Path(scratch) / "brief.txt"
        brief_file.write_text(brief, encoding="utf-8")
        environment = agent_environment(
            {
                AUTHORITY: str(channel.path),
                SESSION: secret,
                "STERLING_TASK": site.view.task,
                "STERLING_BRIEF": str(brief_file),
            }
        )
        watch = _Watch(authority, output, site.profile.limits.silence_s)
        words = agent_argv(argv, brief, brief_file)
        ended: dict[str, Json] = {
            "event": "ended",
            "code": "agent.crashed",
            "because": "The authority was stopped.",
        }
        try:
            end = run_agent(
                words,
                cwd=folder,
                env=environment,
                limits=site.profile.limits,
                wall_s=wall_s,
                output=output,
                should_stop=watch.should_stop,
            )
            ended |= {"code": end.code, "because": end.because, "exit": end.exit, "signal": end.signal}
        except SterlingError as problem:
            ended |= {"code": problem.code, "because": problem.message}
            raise
        finally:
            authority.settle()
            blobs = {name: {"blob": site.home.blobs.put_file(path)} for name, path in _streams(output)}
            _put_session(authority, session, duty, ended | blobs)
    return end


def _streams(output: tuple[Path, Path]) -> Iterator[tuple[str, Path]]:
    return ((name, path) for name, path in zip(("stdout", "stderr"), output, strict=True) if path.is_file())


def _put_session(authority: Authority, session: str, duty: str, more: dict[str, Json]) -> None:
    site = authority.site
    refresh(site.home, site.view)
    document: dict[str, Json] = {
        "task": site.view.task,
        "run": site.view.run,
        "seen": site.view.newest,
        "session": session,
        "role": duty,
        "phase": str(site.view.phase or ""),
        "ring": authority.ring,
        **more,
    }
    batch = Batch(run=site.run, step=str(site.view.phase or ""))
    ref = site.home.records.put(batch, "autopilot.session", document)
    write(site.home, batch, site.view, [ref], f"session {more['event']}", fence=site.fence)


def _start(authority: Authority) -> None:
    """A task that was never started enters its first phase; nobody has to ask for that."""
    if authority.site.view.phase is None:
        ask = Ask(f"start-{secrets.token_hex(8)}", "request_advance", "", arguments={"to": str(PHASES[0])})
        authority.answer(ask, Who(Role.AUTHORITY, "sterling"))


@contextmanager
def _listening(authority: Authority, sessions: _Sessions) -> Iterator[Channel]:
    def answering(ask: Ask) -> Answer:
        return authority.answer(ask, sessions.who(ask))

    channel = Channel(authority.site.home.path / "run", answering)
    try:
        yield channel
    finally:
        authority.close()
        channel.close()


@contextmanager
def _keep(home: Home, lease: Lease) -> Iterator[None]:
    """Renew the lease at a third of its time for as long as the run goes on."""
    done = threading.Event()

    def renew() -> None:
        held = lease
        while not done.wait(held.ttl_us / 3_000_000):
            try:
                held = home.leases.renew(held)
            except SterlingError:
                return  # Every write names the fence: the next one is refused and says why.

    keeper = threading.Thread(target=renew, name="lease", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()


def _settle(run: Run, view: TaskView, code: str, because: str) -> None:
    """Give every phase its outcome: ok with its transition, failed where it stopped, na after that."""
    stopped = ""
    batch = Batch(run=run.id)
    for phase in PHASES:
        accepted = view.accepted.get(phase)
        if accepted is not None and not stopped:
            evidence = [{"role": "transition", "record": accepted.record}]
            run.settle(
                str(phase), "ok", "ok", f"{phase} was left through its gate.", evidence=evidence, batch=batch
            )
        elif not stopped:
            stopped = str(phase)
            run.settle(stopped, "failed", code, because or "It did not come to an end.", batch=batch)
        else:
            run.settle(
                str(phase), "na", "step.upstream-failed", f"Needs {stopped}, which failed.", batch=batch
            )
    run.home.ledger.commit(batch)


def _needs(phase: Phase) -> list[str]:
    place = PHASES.index(phase)
    return [str(PHASES[place - 1])] if place else []
