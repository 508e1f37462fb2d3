"""The composition root: the only module that names every pack.

It hands one pack's public function to another as a plain value, gives the
conductor its job sources, and opens a home the way every command wants it.
Packs are imported inside the functions, so that a command pays for its own pack only.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sterling.kernel.errors import SterlingError

if TYPE_CHECKING:
    from sterling.kernel.canonical import Json
    from sterling.kernel.contracts import Contracts
    from sterling.kernel.counters import CounterRule
    from sterling.kernel.home import Home
    from sterling.kernel.telemetry import SpanRule
    from sterling.packs.autopilot.door import TestCase, TestVerdict
    from sterling.runtime.conductor import JobSource
    from sterling.runtime.doctor import Probe, Row
    from sterling.runtime.forecast import Forecast
    from sterling.runtime.heavy_gate import GateReport, Produced
    from sterling.serve.views.status import StatusFacts, WaitingFact

__all__ = [
    "RunRecheck",
    "counter_problems",
    "counter_rules",
    "doctor_probes",
    "examine_home",
    "forecast_home",
    "job_sources",
    "judge_heavy_path",
    "judge_tests",
    "mend_plugin_contracts",
    "open_app_home",
    "produce_sample",
    "recheck_run",
    "require_locked_contracts",
    "span_rules",
    "status_facts",
]

_BETWEEN_LOOKS_S = 0.25  # Processor use is what happened between two looks.
_CURES = {  # What lets work run that a person asks for, where asking alone does not.
    "mode.cpu-pressure": "sterling drain --force --set governor.cpu_limit_bp=0",
    "mode.ram-pressure": "sterling drain --force --set governor.ram_limit_bp=0",
}

_FORECAST_JOBS = 100_000  # More waiting jobs than this are counted as this many.
_GATE_FRAMES = 2  # The first pictures of the sample, which hold the answer.
_GATE_QUESTION = "How many tests passed in build 4817?"
_LACKING = ("need.library-missing", "need.model-missing", "recall.engine-missing", "recall.language-missing")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RunRecheck:
    """How many claims of a run were checked again, and what did not hold."""

    checked: int
    problems: tuple[str, ...]


def require_locked_contracts() -> None:
    """Refuse to go on unless every schema is the locked one.

    Errors: contracts.lock-mismatch, contracts.lock-missing, contracts.invalid.
    """
    from sterling.kernel.contract_lock import check
    from sterling.kernel.contracts import load_contracts
    from sterling.kernel.shipped import shipped

    check(load_contracts(), shipped("contracts.lock"))


def mend_plugin_contracts(contracts: Contracts, write: bool) -> list[Json]:
    """Plugins that pin other contracts than these; with `write` they are pinned anew."""
    from sterling.runtime.plugin_lock import mend_contracts

    return [change.as_json() for change in mend_contracts(contracts, write=write)]


@contextmanager
def open_app_home(
    path: Path, *, read_only: bool, create: bool, settings: Sequence[str], say: Say
) -> Iterator[Home]:
    """Open a home for a command; close what dead processes left open.

    Errors: home.*, config.*, store.*.
    """
    from sterling.kernel.home import init_home, is_home, open_home
    from sterling.runtime.runs import recover_runs

    if create and not read_only and not is_home(path) and not path.exists():
        say(f"made a home at {path}")
        with init_home(path) as made:
            made.fill_ballast()
    with open_home(path, read_only=read_only, settings=settings) as home:
        if not read_only:
            for run in recover_runs(home):
                say(f"closed {run}, which a process that died had left open")
            _take_from_spool(home, say)
        try:
            yield home
        finally:
            if not read_only:
                _keep_telemetry(home, say)


def counter_rules() -> tuple[CounterRule, ...]:
    """Every counter of the kernel, the runtime and the packs."""
    return tuple(rule for counters, _ in _observed() for rule in counters)


def span_rules() -> tuple[SpanRule, ...]:
    """Every span that is made from entries."""
    return tuple(rule for _, spans in _observed() for rule in spans)


def _take_from_spool(home: Home, say: Say) -> None:
    """Put what waits on the second disk into the log, when there is room for it again."""
    done = home.drain_spool()
    if done.written or done.quarantined or done.left:
        counts = f"{done.written} written, {done.quarantined} set aside, {done.left} wait on"
        say(f"spool: {counts}")


def job_sources(home: Home) -> list[JobSource]:
    """What the conductor may find work in."""
    from sterling.packs.recall import door as recall

    return [recall.job_source()]


def recheck_run(home: Home, run_id: str) -> RunRecheck:
    """Check a run's claims again through the pack that made them.

    Errors: run.unknown.
    """
    from sterling.runtime.runs import read_run

    pack = read_run(home, run_id).pack
    if pack == "insight":
        from sterling.packs.insight import door as insight

        found = insight.recheck(home, run_id)
        return RunRecheck(found.checked, tuple(found.problems))
    if pack == "recall":
        from sterling.packs.recall import door as recall

        again = recall.recheck(home, run_id)
        return RunRecheck(again.checked, tuple(again.problems))
    if pack == "ci":
        from sterling.packs.ci import door as ci

        seen = ci.recheck(home, run_id)
        return RunRecheck(seen.checked, tuple(seen.problems))
    return _recheck_records(home, run_id)


def judge_tests(home: Home, case: TestCase) -> TestVerdict:
    """Run the tests of base and head through ci and say what its decision was.

    Errors: checkout.*, ci.*, and what keeps the ledger from taking the decision.
    """
    from sterling.packs.autopilot.door import TestVerdict
    from sterling.packs.ci import door as ci

    order = ci.order_tests(case.repository, case.argv, revision=case.head, timeout_s=case.wall_s)
    assessed = ci.assess_change(ci.request_change(order, base=case.base, capture=True), home=home)
    decision = assessed.decision
    verdict = decision.verdict
    closing = [
        f"{gate.gate}: {gate.because}"
        for gate in verdict.gates
        if gate.outcome == "failed" or (gate.outcome == "na" and gate.closes)
    ]
    counts = ", ".join(f"{count} {name}" for name, count in sorted(verdict.delta.counts.items()) if count)
    # A delta leaves out the tests whose outcome is the same on both sides.
    before = {name: result.outcome for name, result in assessed.head.tests.items()}
    before |= {name: state.base for name, state in verdict.delta.states.items()}
    return TestVerdict(
        state=verdict.verdict,
        code=verdict.reasons[0] if verdict.reasons else "ok",
        because=" ".join(closing)[:1500] or f"Every gate of ci that closes is open ({counts}).",
        records=(decision.id,),
        outcomes={name: result.outcome for name, result in assessed.head.tests.items()},
        base_outcomes=before,
    )


def status_facts(home: Home) -> StatusFacts:
    """What the status view is made of. Takes no role and writes nothing."""
    from sterling.kernel.liveness import ProcessName, is_alive
    from sterling.runtime.runs import list_runs
    from sterling.serve.views.status import LeaseFact, RunFact, StatusFacts

    boot_id = home.clock.boot_id()
    processes = {
        entry.run: ProcessName(entry.payload["pid"], entry.payload["started_ticks"], entry.payload["boot_id"])
        for entry in home.ledger.read(kind="run.opened")
    }
    runs = [
        RunFact(
            view.id,
            view.pack,
            view.title,
            view.state,
            view.code,
            view.started_us,
            view.planned,
            view.settled,
            is_alive(processes[view.id], boot_id),
        )
        for view in list_runs(home)
    ]
    mode, reason, sentence = _mode_now(home)
    now_us = home.clock.boot_us()
    leases = [LeaseFact(row.name, row.holder, now_us - row.acquired_us) for row in home.leases.held()]
    return StatusFacts(
        home=str(home.path),
        home_id=home.id,
        size=home.ledger.size(),
        head=home.ledger.head().hex(),
        anchored_to=home.anchors.latest_size(),
        mode=mode,
        mode_reason=reason,
        mode_sentence=sentence,
        runs=runs,
        waiting=_waiting(home, mode, reason, sentence),
        leases=leases,
        open_tasks=_open_tasks(home),
        refusals=sum(1 for _ in home.ledger.read(kind="write.refused")),
        dead_effects=[row.id for row in home.outbox.effects() if row.state == "dead"],
        room=home.room().value,
        spooled=0 if home.spool is None else len(home.spool.waiting()),
        conductor_trouble=_conductor_trouble(home),
    )


def _observed() -> list[tuple[tuple[CounterRule, ...], tuple[SpanRule, ...]]]:
    from sterling.kernel.counters import KERNEL_COUNTERS
    from sterling.kernel.telemetry import KERNEL_SPANS
    from sterling.packs.autopilot import door as autopilot
    from sterling.packs.ci import door as ci
    from sterling.runtime.observed import RUNTIME_COUNTERS, RUNTIME_SPANS

    own = [(KERNEL_COUNTERS, KERNEL_SPANS), (RUNTIME_COUNTERS, RUNTIME_SPANS)]
    return [*own, ci.observed(), autopilot.observed()]


def _keep_telemetry(home: Home, say: Say) -> None:
    """Write telemetry when a run has ended since the last time; what goes wrong is said, and work goes on."""
    from sterling.kernel.telemetry import has_ended_runs, record_telemetry

    try:
        if has_ended_runs(home):
            record_telemetry(home, span_rules(), counter_rules())
    except Exception as problem:  # noqa: BLE001 - telemetry never stops work that is done
        say(f"telemetry was not written: {problem!r:.300}\nnext: sterling doctor")


def forecast_home(home: Home, horizon_days: int) -> Forecast:
    """When what waits in a home will be done, from what its passes saw. Errors: governor.setting-refused."""
    from sterling.runtime.forecast import Waiting, forecast, idle_share, learned_ms
    from sterling.runtime.governor_settings import GovernorSettings

    waiting = []
    for source in job_sources(home):
        due = source.due(home, _FORECAST_JOBS)
        waiting.append(Waiting(source.kind, len(due), sum(job.estimate_ms for job in due)))
    entries = [entry for kind in ("runtime.mode", "runtime.pass") for entry in home.ledger.read(kind=kind)]
    looks = [
        (entry.at_us, entry.payload["to"], entry.payload["from"] == "")
        if entry.kind == "runtime.mode"
        else (entry.at_us, "", False)
        for entry in sorted(entries, key=lambda entry: entry.index)
    ]
    learned = learned_ms(entry.payload for entry in home.ledger.read(kind="runtime.dispatch"))
    return forecast(
        waiting, learned, idle_share(looks), GovernorSettings.from_config(home.config), horizon_days
    )


def judge_heavy_path(path: Path, *, keep: bool, baseline: Path | None) -> tuple[GateReport, int]:
    """Both halves of the heavy-path gate; `keep` writes the verdict into the home at the path.

    Gives the report and the entry's index, -1 where none was written. Errors: home.*, config.*.
    """
    from sterling.kernel.home import open_home
    from sterling.runtime.heavy_gate import judge, write_report

    if not keep:
        with tempfile.TemporaryDirectory(prefix="sterling-gate-") as folder:
            return judge(Path(folder), produce_sample, baseline), -1
    with open_home(path) as home:
        report = judge(home.path / "run", produce_sample, baseline)
        return report, write_report(home, report)


def produce_sample(home: Home) -> Produced:
    """The production half of the heavy-path gate: read pictures of the sample in a forced pass, then ask.

    Errors: recall.language-missing and what else keeps the sample from being taken in.
    """
    from sterling.kernel.shipped import shipped
    from sterling.packs.recall import door as recall
    from sterling.runtime.conductor import run_once
    from sterling.runtime.gating_checks import HERE
    from sterling.runtime.heavy_gate import Produced
    from sterling.runtime.rehearsal import Feed

    try:
        recall.try_reading([str(name) for name in home.config.get("ocr.languages")])
    except ImportError as problem:
        return Produced(missing=f"recall.engine-missing: {problem}")
    recall.ingest(shipped("samples") / "recall", home)
    before = home.ledger.size()
    report = run_once(home, job_sources(home), force=True, limit=_GATE_FRAMES, sources=[Feed(((0, HERE),))])
    for one in report.dispatches:
        if one.end != "completed":
            words = f"{one.reason}: {one.because}"
            return Produced(missing=words) if one.reason in _LACKING else Produced(failed=words)
    derived = sum(1 for _ in home.ledger.read(kind="record.put", contract="recall.text", after=before - 1))
    answer = recall.ask(home, _GATE_QUESTION)
    cited = sum(len(claim["citations"]) for claim in answer.document["claims"])
    stands = cited > 0 or answer.state == "indeterminate"
    return Produced(derived, int(stands), cited, answer.state)


def doctor_probes(settings: Sequence[str] = ()) -> list[Probe]:
    """Every row of the doctor, in the order tried: the machine, the tools of packs, the home."""
    from sterling.kernel.config import default_config
    from sterling.packs.recall import door as recall
    from sterling.runtime.doctor import Probe
    from sterling.runtime.doctor_machine import machine_probes
    from sterling.runtime.doctor_probes import home_probes

    languages = [str(name) for name in default_config(settings).get("ocr.languages")]
    reading = Probe(
        "tool.tesseract",
        "The reading engine starts with its language data.",
        lambda _: recall.try_reading(languages),
        absent=("recall.language-missing",),
    )
    return [*machine_probes(), reading, *home_probes()]


def examine_home(path: Path, settings: Sequence[str] = ()) -> list[Row]:
    """Every row of the doctor, for a machine and the home at a path, whatever state they are in."""
    from sterling.kernel.clock import SystemClock
    from sterling.runtime.doctor import Patient, examine

    patient = Patient(path, SystemClock(), counter_rules(), settings)
    try:
        return examine(doctor_probes(settings), patient)
    finally:
        if patient.home is not None:
            patient.home.close()


def counter_problems(path: Path) -> list[str]:
    """What the written counters of a home say otherwise than its ledger; also why they were not compared."""
    from sterling.kernel.home import open_home
    from sterling.kernel.telemetry import check_counters

    try:
        with open_home(path, read_only=True) as home:
            return check_counters(home, counter_rules())
    except SterlingError as problem:
        return [f"counters were not compared: {problem.code}: {problem.message}"]


def _recheck_records(home: Home, run_id: str) -> RunRecheck:
    """The least that holds for any run: each record it wrote still hashes to its id."""
    checked, problems = 0, []
    for entry in home.ledger.read(kind="record.put", run=run_id):
        checked += 1
        try:
            home.records.get(str(entry.payload["id"]))
        except SterlingError as problem:
            problems.append(f"{problem.code}: {problem.message}")
    return RunRecheck(checked, tuple(problems))


def _mode_now(home: Home) -> tuple[str, str, str]:
    """The mode at this moment, its reason code and its sentence; nothing is remembered."""
    from sterling.runtime.governor_settings import GovernorSettings
    from sterling.runtime.modes import choose_mode
    from sterling.runtime.reasons import sentence_of
    from sterling.runtime.signal_sources import default_sources
    from sterling.runtime.signals import sample

    settings = GovernorSettings.from_config(home.config)
    sources = default_sources(settings)
    sample(sources, home.clock, settings)
    time.sleep(_BETWEEN_LOOKS_S)
    verdict = choose_mode(sample(sources, home.clock, settings), settings)
    return str(verdict.mode), str(verdict.reason), sentence_of(verdict.reason)


def _waiting(home: Home, mode: str, reason: str, sentence: str) -> list[WaitingFact]:
    """Jobs that no pass has run yet, with the mode's reason where the mode is what holds them back."""
    from sterling.serve.views.status import WaitingFact

    found = []
    for source in job_sources(home):
        count = len(source.due(home, 10_000))
        if count:
            held = mode == "ACTIVE_CAPTURE_ONLY"
            because = sentence if held else "Heavy work may run now."
            cure = _CURES.get(reason, "sterling drain --force") if held else "sterling drain"
            found.append(WaitingFact(source.kind, count, "mode" if held else "queued", because, cure))
    return found


def _conductor_trouble(home: Home) -> list[str]:
    """What is wrong with the conductor: safe mode, or the watchdog's word."""
    from sterling.runtime.conductor_process import watch_standing, who_is_up
    from sterling.runtime.safe_mode import is_safe_mode

    trouble = ["safe-mode"] if is_safe_mode(home) else []
    standing = who_is_up(home.path, home.clock.boot_id())
    if standing is not None:
        state = str(watch_standing(standing, home.clock.boot_us()))
        trouble += [state] if state in ("stalled", "error") else []
    return trouble


def _open_tasks(home: Home) -> list[str]:
    from sterling.packs.autopilot import door as autopilot

    return autopilot.open_tasks(home)
