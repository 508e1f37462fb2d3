"""Carrying out a plan: each step in its own worker, each settled once and durably.

A step starts when what it needs has settled and a slot is free; among ready
steps the one that stands first in the plan starts first, so decision steps go
before explanation steps without a barrier between lanes. A need that failed or
was na makes a step `na` without running it. The pack adds its records to the
batch that settles the step, so a finding and its outcome are durable together
or not at all.

With `caching` a step that ran before under the same key is not run again: its
kept end is judged, accepted and settled as if it had just come from a worker,
and the outcome says from where (cache_store.py).

Ctrl-C and SIGTERM end every worker and rise to the caller, whose `with
open_run(...)` closes what is open as interrupted.
"""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from sterling.kernel.batch import Batch
from sterling.kernel.canonical import Json
from sterling.kernel.contracts import load_contracts
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home
from sterling.runtime.cache_store import Caching, Look, StepCache
from sterling.runtime.engine import HostRow, Task, TaskEnd
from sterling.runtime.engine_local import LocalEngine
from sterling.runtime.interrupts import terminate_as_interrupt
from sterling.runtime.manifest import Manifest
from sterling.runtime.outcomes import Settled, settle, upstream
from sterling.runtime.plan import Plan, Step
from sterling.runtime.preflight import Facts, PackCheck, check_all, normal_name
from sterling.runtime.registry import Registry
from sterling.runtime.runs import Run

__all__ = ["Accept", "default_workers", "gather_facts", "record_hosts", "run_plan"]

_POLL_US = 500_000

Accept = Callable[[Step, TaskEnd, Settled, Batch], Settled | None]


def default_workers() -> int:
    """Half the cores, at least one."""
    return max(1, (os.cpu_count() or 1) // 2)


def gather_facts() -> Facts:
    """What this installation has: libraries by their metadata, contracts, GPU devices. Imports nothing."""
    each = (found.metadata for found in distributions())  # Parsed on each access, so taken once.
    libraries = {normal_name(metadata["Name"]): str(metadata["Version"]) for metadata in each}
    contracts = load_contracts()
    known = frozenset([*contracts.names(), *contracts.ids()])
    has_gpu = Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists()
    return Facts(libraries=libraries, contracts=known, has_gpu=has_gpu)


def run_plan(
    home: Home,
    run: Run,
    plan: Plan,
    registry: Registry,
    *,
    provider: str,
    inputs_for: Callable[[Step], Mapping[str, Json]],
    accept: Accept,
    workers: int | None = None,
    settings: Mapping[str, Mapping[str, Json]] | None = None,
    pack_check: PackCheck | None = None,
    facts: Facts | None = None,
    known_reasons: Container[str] | None = None,
    on_settled: Callable[[Step, Settled], None] | None = None,
    caching: Caching | None = None,
) -> None:
    """Run every step of the plan to its outcome. The caller closes the run.

    `inputs_for` is called when a step is about to start, so it sees the outcomes
    of its needs. `accept` gets the end, the outcome and the batch that will
    settle the step; what it adds is written with the outcome, and an outcome it
    returns replaces the one given. A SterlingError from either fails that step.
    """
    manifests = {step.id: registry.get(plan.pack, step.plugin) for step in plan.steps}
    found = facts or gather_facts()
    refused = check_all(manifests.values(), found, pack_check)
    cache = None
    if caching is not None:
        given, libraries = settings or {}, found.libraries
        cache = StepCache(home, run.id, plan, caching, provider=provider, libraries=libraries, settings=given)
    with (
        terminate_as_interrupt(),
        tempfile.TemporaryDirectory(prefix="sterling-run-") as scratch,
        LocalEngine(workers or default_workers(), preload=_preload(manifests, provider)) as engine,
    ):
        terms = _Terms(provider, inputs_for, accept, settings or {}, known_reasons, on_settled)
        _Work(run, manifests, refused, engine, terms, Path(scratch), cache).carry_out()


def record_hosts(home: Home, hosts: list[HostRow], walls: tuple[str, ...], batch: Batch) -> None:
    """Add what a worker's parent process was, and which walls held, to a batch."""
    for host in hosts:
        payload = {
            "boot_id": home.clock.boot_id(),
            "end": "",
            "family": host.family,
            "pid": host.pid,
            "started_ticks": host.started_ticks,
            "walls": list(walls),
        }
        batch.append("runtime.host", payload)


def _preload(manifests: Mapping[str, Manifest], provider: str) -> dict[str, list[str]]:
    """What each family loads once: the provider, and every module that one of its plugins imports."""
    modules: dict[str, set[str]] = {}
    for manifest in manifests.values():
        modules.setdefault(manifest.family, set()).update(manifest.imports)
    first = [provider] if provider else []
    return {family: [*first, *sorted(names)] for family, names in modules.items()}


@dataclass(frozen=True, slots=True)
class _Terms:
    """What the caller of `run_plan` handed in."""

    provider: str
    inputs_for: Callable[[Step], Mapping[str, Json]]
    accept: Accept
    settings: Mapping[str, Mapping[str, Json]]
    known_reasons: Container[str] | None
    on_settled: Callable[[Step, Settled], None] | None


class _Work:
    """The state of one `run_plan`: what is ready, what waits for how many needs, what has settled."""

    def __init__(
        self,
        run: Run,
        manifests: Mapping[str, Manifest],
        refused: Mapping[str, Settled],
        engine: LocalEngine,
        terms: _Terms,
        scratch: Path,
        cache: StepCache | None,
    ) -> None:
        self._home, self._run, self._plan = run.home, run, run.plan
        self._manifests, self._refused, self._engine = manifests, refused, engine
        self._terms, self._scratch, self._cache = terms, scratch, cache
        self._looks: dict[str, Look] = {}
        self._steps = {step.id: step for step in run.plan.steps}
        self._place = {step.id: index for index, step in enumerate(run.plan.steps)}
        self._waiting = {step.id: len(step.needs) for step in run.plan.steps}
        self._followers: dict[str, list[str]] = {step.id: [] for step in run.plan.steps}
        for step in run.plan.steps:
            for need in step.needs:
                self._followers[need].append(step.id)
        self._ready = [self._place[name] for name, count in self._waiting.items() if count == 0]
        self._states: dict[str, str] = {}
        self._hosts_told = 0

    def carry_out(self) -> None:
        """Start and settle until every step has its outcome."""
        heapq.heapify(self._ready)
        while len(self._states) < len(self._steps):
            while self._ready and self._engine.slots() > 0:
                self._start(self._plan.steps[heapq.heappop(self._ready)])
            for event in self._engine.poll(_POLL_US):
                if event.end is not None:
                    self._finish(self._steps[event.key], event.end)

    def _start(self, step: Step) -> None:
        """Submit the step, or settle it at once when it may not run."""
        refusal = self._refused.get(step.id)
        blocked = upstream(step.needs, step.tolerates, self._states)
        if blocked is not None:
            self._settle(step, settle(self._manifests[step.id], None, blocked), None)
        elif refusal is not None:
            self._settle(step, refusal, None)
        else:
            try:
                inputs = self._terms.inputs_for(step)
            except SterlingError as problem:
                reason = problem.code or "step.raised"
                self._settle(step, Settled("failed", reason, problem.message), None)
                return
            if self._cache is not None:
                look = self._cache.look(step, self._manifests[step.id], self._out_dir(step))
                self._looks[step.id] = look
                if look.end is not None:
                    self._finish(step, look.end)
                    return
            self._engine.submit(self._task(step, inputs))

    def _task(self, step: Step, inputs: Mapping[str, Json]) -> Task:
        return Task(
            key=step.id,
            plugin=self._manifests[step.id],
            provider=self._terms.provider,
            inputs=inputs,
            settings=self._terms.settings.get(step.id, {}),
            seed=self._plan.seed,
            out_dir=self._out_dir(step),
        )

    def _out_dir(self, step: Step) -> Path:
        return self._scratch / str(self._place[step.id])

    def _finish(self, step: Step, end: TaskEnd) -> None:
        """Judge the end, let the pack add its records, and settle both in one batch."""
        manifest = self._manifests[step.id]
        settled = settle(manifest, end.result, end.step_end(), known_reasons=self._terms.known_reasons)
        batch = Batch(run=self._run.id, step=step.id)
        try:
            settled = self._terms.accept(step, end, settled, batch) or settled
            self._settle(step, settled, end, batch)
        except SterlingError as problem:
            self._run.unsettle(step.id)  # Nothing of the refused batch was written.
            because = f"What it gave was refused: {problem.code}: {problem.message}"
            self._settle(step, Settled("failed", "step.invalid-result", because), end)

    def _settle(self, step: Step, settled: Settled, end: TaskEnd | None, batch: Batch | None = None) -> None:
        target = Batch(run=self._run.id, step=step.id) if batch is None else batch
        look = self._looks.get(step.id)
        has_run = end is not None and (look is None or look.end is None)
        hosts = self._engine.hosts()
        if end is not None and has_run and len(hosts) > self._hosts_told:
            record_hosts(self._home, hosts[self._hosts_told :], end.walls, target)
        self._run.settle(
            step.id,
            settled.state,
            settled.reason,
            settled.because,
            batch=target,
            wall_us=0 if end is None else end.wall_us,
            findings=_finding_count(settled, end),
            cache=None if look is None else look.words(),
        )
        if self._cache is not None:
            self._cache.settle(target, step, look, settled, end, self._out_dir(step))
        self._home.ledger.commit(target)
        if has_run:
            self._hosts_told = len(hosts)
        self._states[step.id] = settled.state
        for follower in self._followers[step.id]:
            self._waiting[follower] -= 1
            if self._waiting[follower] == 0:
                heapq.heappush(self._ready, self._place[follower])
        if self._terms.on_settled is not None:
            self._terms.on_settled(step, settled)


def _finding_count(settled: Settled, end: TaskEnd | None) -> int:
    if settled.state != "ok" or end is None or end.result is None:
        return 0
    return len(end.result.get("findings", ()))
