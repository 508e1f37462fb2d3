"""The life of a run, for every pack: opened, each step settled once, closed by counts.

`run.opened` names the plan, the inputs and the process that runs it. Each step
gets one `runtime.outcome`, written durably at once; the ledger itself refuses a
second one. `run.closed` is written when counts match, and otherwise says
`failed run.unsettled`. A run that its process left open is closed by the next
start (`recover_runs`), judged by pid, start tick and boot, never by age.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from sterling.kernel.batch import Batch, NewestIs
from sterling.kernel.canonical import Json
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.home import Home
from sterling.kernel.ids import random_id
from sterling.kernel.ledger import PreconditionFailed, StoredEntry
from sterling.kernel.liveness import ProcessName, is_alive, process_name
from sterling.runtime.outcomes import OUTCOME_RULES, STATES, RunStatus, StepRow, run_status
from sterling.runtime.plan import LANES, Edge, Plan, Step

__all__ = [
    "ORIGINS",
    "Run",
    "RunClosed",
    "RunModeDiffers",
    "RunNotOpen",
    "RunUnknown",
    "RunView",
    "StepSettledTwice",
    "StepUnknown",
    "list_runs",
    "open_run",
    "read_plan",
    "read_run",
    "recover_runs",
]

ORIGINS = ("drain", "forced", "attended")
_BECAUSE_MAX = 2000


class StepSettledTwice(SterlingError):
    """A step that has an outcome was given another."""

    code = "run.step-settled-twice"
    hint = "Look at the outcome it has: `sterling run show RUN`."


class StepUnknown(SterlingError):
    """An outcome for a step that the plan does not hold."""

    code = "run.step-unknown"
    hint = "See the planned steps: `sterling run show RUN`."


class RunNotOpen(SterlingError):
    """An outcome or a close for a run that is closed."""

    code = "run.not-open"
    hint = "See how it ended: `sterling run show RUN`."


class RunUnknown(SterlingError):
    """No run has this id."""

    code = "run.unknown"
    hint = "See the runs: `sterling run list`."
    exit = EXIT_USAGE


class RunModeDiffers(SterlingError):
    """The mode asked for is not the mode of the plan."""

    code = "run.mode-differs"
    hint = "Plan and run in one mode. See `sterling analyze --help`."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class RunClosed:
    """How a run ended."""

    run: str
    state: str
    code: str
    planned: int
    settled: int


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as the ledger tells it. `state` is open, ok or failed; times are microseconds UTC."""

    id: str
    pack: str
    origin: str
    title: str
    state: str
    code: str
    started_us: int
    ended_us: int
    planned: int
    settled: int
    seed: int
    mode: str
    plan_sha256: str
    inputs: tuple[str, ...] = ()
    outcomes: tuple[Mapping[str, Json], ...] = ()
    lanes: Mapping[str, Json] = field(default_factory=dict)

    def as_json(self) -> dict[str, Json]:
        """Every field, as JSON."""
        names = [name for name in self.__slots__ if name not in ("inputs", "outcomes")]
        document: dict[str, Json] = {name: getattr(self, name) for name in names}
        document["inputs"] = list(self.inputs)
        document["outcomes"] = [dict(outcome) for outcome in self.outcomes]
        return document


class Run:
    """A run that this process opened. Use it as a context manager: leaving closes it, whatever happened."""

    def __init__(self, home: Home, run_id: str, plan: Plan, opened: int) -> None:
        self.home, self.id, self.plan, self.opened = home, run_id, plan, opened
        self._rows: dict[str, StepRow] = {}
        self._lanes = {step.id: step.lane for step in plan.steps}
        self.closed: RunClosed | None = None

    @property
    def open_steps(self) -> tuple[str, ...]:
        """Planned steps without an outcome, in plan order."""
        return tuple(step.id for step in self.plan.steps if step.id not in self._rows)

    def state_of(self, step: str) -> str | None:
        """ok, failed or na; None while the step is open."""
        row = self._rows.get(step)
        return None if row is None else row.state

    def settle(
        self,
        step: str,
        state: str,
        reason: str,
        because: str,
        *,
        evidence: Sequence[Mapping[str, Json]] = (),
        batch: Batch | None = None,
        wall_us: int = 0,
        findings: int = 0,
        cache: Mapping[str, Json] | None = None,
    ) -> None:
        """Give a step its one outcome, durably at once; with `batch` the caller commits.

        `cache` says whether the step was reused and why not, where that was asked.

        A batch that is refused did not settle the step: call `unsettle(step)`
        before giving it another outcome.

        Raises:
            RunNotOpen, StepUnknown, StepSettledTwice: nothing was written.
        """
        assert state in STATES, f"{state!r} is no outcome"
        if self.closed is not None:
            raise RunNotOpen(f"expected run {self.id} to be open, found it closed")
        if step not in self._lanes:
            raise StepUnknown(f"expected a step of the plan, found {step!r}", step=step)
        if step in self._rows:
            raise StepSettledTwice(
                f"expected {step} without an outcome, found {self._rows[step].state}", step=step
            )
        row = StepRow(step, state, reason, because[:_BECAUSE_MAX], self._lanes[step], wall_us, findings)
        target = Batch(run=self.id, step=step, closing=True) if batch is None else batch
        _append_outcome(target, self.id, row, evidence, cache)
        if batch is None:
            self.home.ledger.commit(target)
        self._rows[step] = row

    def unsettle(self, step: str) -> None:
        """Forget an outcome whose batch was refused; nothing of it was written."""
        self._rows.pop(step, None)

    def close(self, *, interrupted: str = "") -> RunClosed:
        """Settle what is open, write `run.closed`, sign a checkpoint. A second call gives the first answer.

        Open steps become `failed run.unsettled`, or `failed run.interrupted`
        when `interrupted` says by what.
        """
        if self.closed is not None:
            return self.closed
        kind = "interrupted" if interrupted else "unsettled"
        batch = Batch(run=self.id, closing=True)
        # What counts is what is durable: an interrupt may have come in the middle of a commit.
        self._rows = {row.step: row for row in map(_row_from, _outcomes(self.home, self.id))}
        for step in self.open_steps:
            rule = OUTCOME_RULES[kind]
            because = f"{rule.sentence[:-1]}: {interrupted}." if interrupted else rule.sentence
            row = StepRow(step, rule.state, rule.reason, because[:_BECAUSE_MAX], self._lanes[step])
            _append_outcome(batch, self.id, row)
            self._rows[step] = row
        status = run_status(self.plan, [self._rows[step.id] for step in self.plan.steps])
        _append_closed(batch, self.id, status, self.opened)
        self.home.ledger.commit(batch)
        self.closed = RunClosed(self.id, status.state, status.code, status.planned, status.settled)
        self.home.ledger.checkpoint()
        return self.closed

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if problem is None:
            self.close()
        else:
            self.close(interrupted=_words(problem))


def open_run(
    home: Home,
    *,
    pack: str,
    plan: Plan,
    origin: str,
    seed: int | None = None,
    mode: str | None = None,
    inputs: Sequence[str] = (),
    title: str = "",
) -> Run:
    """Open a run: `run.opened` and `runtime.plan` in one batch. Seed and mode are the plan's.

    Raises:
        RunModeDiffers: a seed or mode was given that is not the plan's.
    """
    assert origin in ORIGINS, f"{origin!r} is no origin"
    if (mode is not None and mode != plan.mode) or (seed is not None and seed != plan.seed):
        raise RunModeDiffers(
            f"expected the plan's mode {plan.mode} and seed {plan.seed}, found {mode or plan.mode} and {seed}"
        )
    process = process_name(home.clock.boot_id())
    run_id = random_id("run")
    batch = Batch(run=run_id)
    payload = {
        "config_sha256": home.config.sha256,
        "config_snapshot": {"blob": home.blobs.put(home.config.snapshot())},
        "inputs": [str(name) for name in inputs],
        "mode_effective": plan.mode,
        "mode_requested": mode or plan.mode,
        "origin": origin,
        "pack": pack,
        "plan_sha256": plan.sha256,
        "planned": len(plan.steps),
        "pid": process.pid,
        "boot_id": process.boot_id,
        "started_ticks": process.started_ticks,
        "seed": plan.seed,
        "title": title,
    }
    batch.append("run.opened", payload, subject=run_id)
    batch.append("runtime.plan", plan.as_json(), subject=f"{run_id}/plan")
    receipt = home.ledger.commit(batch)
    return Run(home, run_id, plan, receipt.first)


def list_runs(home: Home) -> list[RunView]:
    """Every run, oldest first, without its outcomes; `settled` counts what is durable."""
    closed = {entry.run: entry for entry in home.ledger.read(kind="run.closed")}
    return [
        _view(entry, closed.get(entry.run), _settled_count(home, entry.run, closed))
        for entry in home.ledger.read(kind="run.opened")
    ]


def read_run(home: Home, run_id: str) -> RunView:
    """One run with its outcomes in plan order. A prefix that names one run is enough.

    Raises:
        RunUnknown: no run, or more than one, starts with this.
    """
    opened = [entry for entry in home.ledger.read(kind="run.opened") if entry.run.startswith(run_id)]
    if len(opened) != 1 or not run_id:
        found = "none" if not opened else f"{len(opened)}"
        raise RunUnknown(f"expected one run with id {run_id!r}, found {found}", run=run_id)
    entry = opened[0]
    rows = list(_outcomes(home, entry.run))
    closed = next(iter(home.ledger.read(kind="run.closed", run=entry.run)), None)
    return _view(entry, closed, len(rows), outcomes=_in_plan_order(read_plan(home, entry.run), rows))


def read_plan(home: Home, run_id: str) -> Plan:
    """The plan a run was opened with.

    Raises:
        RunUnknown: no such run.
    """
    for entry in home.ledger.read(kind="runtime.plan", run=run_id):
        return _plan_from(entry.payload)
    raise RunUnknown(f"expected a run with id {run_id!r}, found none", run=run_id)


def recover_runs(home: Home) -> list[str]:
    """Close every run whose process is gone: open steps become `failed run.abandoned`. Returns their ids.

    A run of a live process, in this program or another, is not touched.
    """
    closed = {entry.run for entry in home.ledger.read(kind="run.closed")}
    boot_id = home.clock.boot_id()
    recovered: list[str] = []
    for entry in list(home.ledger.read(kind="run.opened")):
        if entry.run not in closed and not is_alive(_process_of(entry.payload), boot_id):
            try:
                _close_abandoned(home, entry)
            except PreconditionFailed:
                continue  # Another process closed it in the same moment.
            recovered.append(entry.run)
    return recovered


def _close_abandoned(home: Home, opened: StoredEntry) -> None:
    plan = read_plan(home, opened.run)
    rows = {str(payload["step"]): _row_from(payload) for payload in _outcomes(home, opened.run)}
    rule = OUTCOME_RULES["abandoned"]
    batch = Batch(run=opened.run, closing=True)
    for step in plan.steps:
        if step.id not in rows:
            rows[step.id] = StepRow(step.id, rule.state, rule.reason, rule.sentence, step.lane)
            _append_outcome(batch, opened.run, rows[step.id])
    status = run_status(plan, list(rows.values()))
    abandoned = RunStatus("failed", "run.abandoned", status.planned, status.settled, status.lanes)
    _append_closed(batch, opened.run, abandoned, opened.index)
    home.ledger.commit(batch)


def _append_outcome(
    batch: Batch,
    run_id: str,
    row: StepRow,
    evidence: Sequence[Mapping[str, Json]] = (),
    cache: Mapping[str, Json] | None = None,
) -> None:
    # One outcome a step, whoever writes. A closed run has one for every step, so it takes no more.
    batch.require(NewestIs(f"{run_id}/{row.step}", None))
    payload = {
        "because": row.because,
        "evidence": [dict(source) for source in evidence],
        "findings": row.findings,
        "lane": row.lane,
        "reason": row.reason,
        "state": row.state,
        "step": row.step,
        "wall_us": row.wall_us,
        **(cache or {}),
    }
    batch.append("runtime.outcome", payload, subject=f"{run_id}/{row.step}", run=run_id, step=row.step)


def _append_closed(batch: Batch, run_id: str, status: RunStatus, opened: int) -> None:
    batch.require(NewestIs(run_id, opened))
    payload = {
        "code": status.code,
        "lanes": {lane: status.lanes[lane].as_json() for lane in LANES},
        "planned": status.planned,
        "settled": status.settled,
        "state": status.state,
    }
    batch.append("run.closed", payload, subject=run_id, run=run_id)


def _outcomes(home: Home, run_id: str) -> Iterator[dict[str, Any]]:
    for entry in home.ledger.read(kind="runtime.outcome", run=run_id):
        yield entry.payload


def _settled_count(home: Home, run_id: str, closed: Mapping[str, StoredEntry]) -> int:
    if run_id in closed:
        return int(closed[run_id].payload["settled"])
    return sum(1 for _ in _outcomes(home, run_id))


def _in_plan_order(plan: Plan, rows: Sequence[Mapping[str, Json]]) -> tuple[Mapping[str, Json], ...]:
    place = {step.id: index for index, step in enumerate(plan.steps)}
    return tuple(sorted(rows, key=lambda row: place[row["step"]]))


def _view(
    opened: StoredEntry,
    closed: StoredEntry | None,
    settled: int,
    *,
    outcomes: tuple[Mapping[str, Json], ...] = (),
) -> RunView:
    payload = opened.payload
    ended: Mapping[str, Any] = (
        {"state": "open", "code": "", "lanes": {}} if closed is None else closed.payload
    )
    return RunView(
        id=opened.run,
        pack=payload["pack"],
        origin=payload["origin"],
        title=payload["title"],
        state=ended["state"],
        code=ended["code"],
        started_us=opened.at_us,
        ended_us=closed.at_us if closed is not None else 0,
        planned=payload["planned"],
        settled=settled,
        seed=payload["seed"],
        mode=payload["mode_effective"],
        plan_sha256=payload["plan_sha256"],
        inputs=tuple(payload["inputs"]),
        outcomes=outcomes,
        lanes=ended["lanes"],
    )


def _process_of(payload: Mapping[str, Any]) -> ProcessName:
    return ProcessName(payload["pid"], payload["started_ticks"], payload["boot_id"])


def _row_from(payload: Mapping[str, Any]) -> StepRow:
    return StepRow(
        payload["step"],
        payload["state"],
        payload["reason"],
        payload["because"],
        payload["lane"],
        payload["wall_us"],
        payload["findings"],
    )


def _plan_from(payload: Mapping[str, Any]) -> Plan:
    lists = ("needs", "tolerates", "feeds")
    rows: list[dict[str, Any]] = [
        {name: tuple(value) if name in lists else value for name, value in row.items()}
        for row in payload["steps"]
    ]
    steps = tuple(Step(**row) for row in rows)
    edges = tuple(Edge(edge["before"], edge["after"], edge["tag"]) for edge in payload["edges"])
    lanes = {lane: tuple(step.id for step in steps if step.lane == lane) for lane in LANES}
    return Plan(payload["pack"], steps, edges, lanes, payload["mode"], payload["seed"], payload["sha256"])


def _words(problem: BaseException) -> str:
    text = str(problem).strip().rstrip(".")
    name = "Ctrl-C" if type(problem) is KeyboardInterrupt else type(problem).__name__
    return f"{name}: {text}" if text else name
