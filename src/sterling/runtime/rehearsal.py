"""A rehearsal: the real scheduler and governor over a scratch home, with fed signals and the probe.

On the virtual clock nothing waits: an engine that only counts time stands in for
the worker processes, so every request to stop and every kill has its exact
microsecond. With real workers the same jobs run through the conductor. Signals
are fed through the same fusion as anybody's; there is no override of the mode
table. What is right is not known here: `heavy_gate.py` and `switches.py` judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sterling.kernel.home import Home, scratch_home
from sterling.runtime import budgets, governor
from sterling.runtime.budgets import Window
from sterling.runtime.conductor import CONDUCTOR_LEASE, run_once
from sterling.runtime.dispatches import Dispatch, Job, JobEnd
from sterling.runtime.engine import Event, Task, TaskEnd
from sterling.runtime.governor import JobRequest
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.manifest import Manifest, load_manifest
from sterling.runtime.scheduler import Pass, PassTerms
from sterling.runtime.signals import Reading, Signal, SteadyClock, sample
from sterling.runtime.window_store import position_now, read_window

__all__ = ["IDLE", "Feed", "Played", "ProbeJob", "Rehearsal", "probe_manifest", "rehearse", "run_really"]

TEXT = "The quick brown fox jumps over the lazy dog."
WORDS = 9
_SLOTS = 16  # More than any rehearsal needs, so that only the governor bounds what runs at once.
_FIRST_BOOT_US = 1_000_000_000
_FIRST_WALL_US = 1_700_000_000_000_000
_PROBE = Path(__file__).with_name("probe") / "probe_text.toml"

IDLE: Mapping[Signal, Any] = {
    Signal.IDLE_MS: 600_000,
    Signal.ACTIVE: False,
    Signal.FULLSCREEN: False,
    Signal.CPU_OTHER_BP: 0,
    Signal.RAM_USED_BP: 1_000,
    Signal.POWER: "mains",
    Signal.CHARGE_BP: 10_000,
}
"""A machine that nobody uses, on mains."""


class VirtualClock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self._gone_us = 0

    def wall_us(self) -> int:
        return _FIRST_WALL_US + self._gone_us

    def boot_us(self) -> int:
        return _FIRST_BOOT_US + self._gone_us

    def boot_id(self) -> str:
        return "00000000-0000-4000-8000-000000000001"

    def advance(self, delta_us: int) -> None:
        """Both clocks go forward."""
        assert delta_us >= 0, "time never goes back"
        self._gone_us += delta_us


@dataclass(slots=True)
class Feed:
    """Signals by a time line: (from this time after the start, these changes of `IDLE`).

    `start_us` is set when a pass starts. With `hold` the clock of the line stands still
    until a job was started, and counts looks of 250 ms instead of time.
    """

    line: Sequence[tuple[int, Mapping[Signal, Any]]] = ((0, {}),)
    start_us: int = 0
    hold: Callable[[], bool] | None = None
    _looks: int = 0

    def read(self, clock: SteadyClock) -> list[Reading]:
        """One fresh reading a signal."""
        values = {**IDLE, **self._changes(clock.boot_us())}
        return [Reading(signal, value, "fed", clock.boot_us()) for signal, value in values.items()]

    def _changes(self, now_us: int) -> Mapping[Signal, Any]:
        gone_us = now_us - self.start_us
        if self.hold is not None:
            self._looks += 1 if self.hold() else 0
            gone_us = self._looks * budgets.POLL_US
        return [changes for from_us, changes in self.line if from_us <= gone_us][-1]


@dataclass(frozen=True, slots=True)
class ProbeJob:
    """A probe that runs so long. Asked to stop it ends after `answer_ms`; None: it does not listen."""

    name: str
    run_ms: int = 100
    answer_ms: int | None = 0
    estimate_ms: int = 0
    least_slice_ms: int = 0
    memory_bytes: int = 0
    gpu: bool = False


@dataclass(frozen=True, slots=True)
class Played:
    """What a pass did, by the names of its jobs; times in microseconds since its start."""

    dispatches: Mapping[str, Dispatch]
    began: Mapping[str, int]
    asked: Mapping[str, int]
    killed: Mapping[str, int]
    modes: tuple[tuple[int, str, str], ...]
    window: Window
    peak: int = 0

    def end_of(self, name: str) -> tuple[str, str]:
        """How a job ended, and why."""
        one = self.dispatches.get(name)
        return ("none", "") if one is None else (one.end, one.reason)


def probe_manifest() -> Manifest:
    """The built-in plugin that needs no service. Errors: plugin.*."""
    return load_manifest(_PROBE, "runtime", _PROBE.parent)


@contextmanager
def rehearse(beside: Path) -> Iterator[Rehearsal]:
    """A scratch home on a virtual clock below a folder; gone afterwards."""
    clock = VirtualClock()
    with scratch_home(beside, clock) as home:
        yield Rehearsal(home, clock)


class Rehearsal:
    """One scratch home; each pass starts in a budget window of its own unless told otherwise."""

    def __init__(self, home: Home, clock: VirtualClock) -> None:
        self.home, self.clock = home, clock
        self._manifest = probe_manifest()
        self._passes = 0

    def play(
        self,
        jobs: Sequence[ProbeJob],
        line: Sequence[tuple[int, Mapping[Signal, Any]]] = ((0, {}),),
        *,
        settings: GovernorSettings | None = None,
        settings_at: Callable[[int], GovernorSettings] | None = None,
        forced: bool = False,
        keep: bool = False,
        held: Sequence[JobRequest] = (),
        on_start: Callable[[ProbeJob], None] | None = None,
    ) -> Played:
        """One pass on the virtual clock.

        `settings_at` tells the settings at each look, by time since the start. `keep` goes on
        with the books of the pass before; `held` are leases that others hold open.
        """
        ruling = settings or GovernorSettings(workers_max=2)
        limits = budgets.limits_of(ruling)
        self._passes += 1
        if not keep:
            self._to_next_window(limits.window_us)
        start_us = self.clock.boot_us()
        window, position = read_window(self.home.ledger, limits, self.home.clock)
        if not keep:
            position = position_now(None, self.home.clock)
            window = budgets.first_window(limits, position.position_us)
        feed = Feed(line, start_us)
        for request in held:
            signals = sample([feed], self.clock, ruling)
            _, window = governor.admit(window, request, signals, ruling, position.position_us)
        source = _Probes(self._manifest, jobs, f"probe-{self._passes}", on_start)
        terms = PassTerms(
            id=f"pass-{self._passes}",
            is_forced=forced,
            settings=ruling,
            look=lambda: sample([feed], self.clock, ruling, query_intent=forced),
            settings_now=None
            if settings_at is None
            else (lambda: settings_at(self.clock.boot_us() - start_us)),
        )
        engine = _VirtualEngine(self.clock, {job.name: job for job in jobs})
        before = self.home.ledger.size()
        lease = self.home.leases.acquire(CONDUCTOR_LEASE)
        try:
            one = Pass(self.home, [source], terms, engine, lease, window, position, {})
            one.carry_out()
        finally:
            self.home.leases.release(lease)
        return _played(one, engine, self.home, before, start_us)

    def _to_next_window(self, window_us: int) -> None:
        now_us = self.clock.boot_us()
        self.clock.advance((now_us // window_us + 2) * window_us - now_us)


def run_really(
    home: Home, job: ProbeJob, line: Sequence[tuple[int, Mapping[Signal, Any]]], *, forced: bool
) -> Played:
    """One pass through the conductor with real workers; the line counts looks once the job was started."""
    source = _Probes(probe_manifest(), [job], f"real-{home.ledger.size()}", None)
    feed = Feed(line, hold=lambda: bool(source.started))
    before = home.ledger.size()
    report = run_once(home, [source], force=forced, sources=[feed])
    window, _ = read_window(
        home.ledger, budgets.limits_of(GovernorSettings.from_config(home.config)), home.clock
    )
    modes = _modes(home, before, 0)
    return Played({_name(one.job): one for one in report.dispatches}, {}, {}, {}, modes, window)


@dataclass(slots=True)
class _Probes:
    """A source of probe jobs; each is done when its words were counted."""

    manifest: Manifest
    jobs: Sequence[ProbeJob]
    prefix: str
    on_start: Callable[[ProbeJob], None] | None
    kind: str = "probe"
    started: list[str] = field(default_factory=list)
    done: set[str] = field(default_factory=set)

    def due(self, home: Home, limit: int) -> list[Job]:
        waiting = [job for job in self.jobs if job.name not in self.done]
        return [
            Job(
                key=f"{self.prefix}/{job.name}",
                kind=self.kind,
                pack="runtime",
                title="probe",
                estimate_ms=job.estimate_ms,
                least_slice_ms=job.least_slice_ms,
                memory_bytes=job.memory_bytes,
                gpu=job.gpu,
            )
            for job in waiting
        ][:limit]

    def start(self, job: Job) -> Task:
        probe = next(one for one in self.jobs if one.name == _name(job.key))
        if self.on_start is not None:
            self.on_start(probe)
        self.started.append(probe.name)
        return Task(job.key, self.manifest, "", {"text": TEXT, "run_ms": probe.run_ms})

    def accept(self, home: Home, job: Job, end: TaskEnd) -> JobEnd:
        if end.end != "returned":
            return JobEnd("failed", end.reason or "step.raised", end.message or end.end)
        found = dict((end.result or {}).get("metrics", {}))
        if found.get("words") != WORDS:
            return JobEnd("failed", "step.invalid-result", f"expected {WORDS} words, found {found}")
        self.done.add(_name(job.key))
        return JobEnd("completed", "ok", f"{WORDS} words counted.")


class _VirtualEngine:
    """Counts the time of tasks instead of running them."""

    def __init__(self, clock: VirtualClock, jobs: Mapping[str, ProbeJob]) -> None:
        self._clock, self._jobs = clock, jobs
        self._ends: dict[str, tuple[int, str]] = {}
        self.began: dict[str, int] = {}
        self.asked: dict[str, int] = {}
        self.killed: dict[str, int] = {}
        self.peak = 0

    def slots(self) -> int:
        return _SLOTS - len(self._ends)

    def submit(self, task: Task) -> None:
        now_us = self._clock.boot_us()
        self.began[task.key] = now_us
        self._ends[task.key] = (now_us + self._jobs[_name(task.key)].run_ms * 1000, "returned")
        self.peak = max(self.peak, len(self._ends))

    def poll(self, timeout_us: int) -> list[Event]:
        now_us = self._clock.boot_us()
        due_us = min([end_us for end_us, _ in self._ends.values()] + [now_us + timeout_us])
        self._clock.advance(max(0, due_us - now_us))
        over = [key for key, (end_us, _) in self._ends.items() if end_us <= self._clock.boot_us()]
        return [Event("end", key, end=self._end(key)) for key in over]

    def ask_stop(self, key: str) -> None:
        self.asked.setdefault(key, self._clock.boot_us())
        answer_ms = self._jobs[_name(key)].answer_ms
        if answer_ms is not None:
            self._stop(key, answer_ms * 1000)

    def kill(self, key: str) -> None:
        self.killed.setdefault(key, self._clock.boot_us())
        self._stop(key, 0)

    def close(self) -> None:
        self._ends.clear()

    def _stop(self, key: str, after_us: int) -> None:
        end_us, kind = self._ends[key]
        stop_us = self._clock.boot_us() + after_us
        self._ends[key] = (stop_us, "stopped") if stop_us <= end_us else (end_us, kind)

    def _end(self, key: str) -> TaskEnd:
        _, kind = self._ends.pop(key)
        result = {"status": "ok", "metrics": {"words": WORDS}} if kind == "returned" else None
        return TaskEnd(key, kind, result=result)


def _played(one: Pass, engine: _VirtualEngine, home: Home, before: int, start_us: int) -> Played:
    def since_start(seen: Mapping[str, int]) -> dict[str, int]:
        return {_name(key): at_us - start_us for key, at_us in seen.items()}

    return Played(
        {_name(dispatch.job): dispatch for dispatch in one.dispatches},
        since_start(engine.began),
        since_start(engine.asked),
        since_start(engine.killed),
        _modes(home, before, start_us),
        one.window,
        engine.peak,
    )


def _modes(home: Home, before: int, start_us: int) -> tuple[tuple[int, str, str], ...]:
    return tuple(
        (entry.payload["at_us"] - start_us, entry.payload["to"], entry.payload["reason"])
        for entry in home.ledger.read(kind="runtime.mode", after=before - 1)
    )


def _name(key: str) -> str:
    return key.rpartition("/")[2]
