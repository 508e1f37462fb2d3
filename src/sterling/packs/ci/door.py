"""The way into this pack for the commands, the app and the other packs.

Heavy modules are imported inside the functions, so that asking for one thing
pays for one thing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sterling.kernel.canonical import Json
    from sterling.kernel.counters import CounterRule
    from sterling.kernel.home import Home
    from sterling.kernel.telemetry import SpanRule
    from sterling.packs.ci.assess import Assessed, ChangeRequest
    from sterling.packs.ci.baseline import Baseline
    from sterling.packs.ci.capture import Captured
    from sterling.packs.ci.decision import Basis, Decision
    from sterling.packs.ci.delta import Delta
    from sterling.packs.ci.exits import ProcessEnd
    from sterling.packs.ci.explain import Explanation, Recheck
    from sterling.packs.ci.facts import Facts
    from sterling.packs.ci.gates import Case
    from sterling.packs.ci.policy import Policy
    from sterling.packs.ci.runner import Order
    from sterling.packs.ci.sample import Sample
    from sterling.packs.ci.steps import RunResult
    from sterling.packs.ci.verdict import Verdict
    from sterling.runtime.runs import Run

__all__ = [
    "Ingested",
    "assess_change",
    "assess_reports",
    "baseline_json",
    "capture_baseline",
    "compare",
    "decide",
    "explain",
    "ingest",
    "ingested_json",
    "judge",
    "make_sample",
    "observed",
    "order_tests",
    "ran_json",
    "read_baseline",
    "recheck",
    "request_change",
    "run_tests",
    "verdict_json",
    "write_baseline",
]


@dataclass(frozen=True, slots=True)
class Ingested:
    """Facts that were read and recorded: the run that did it and the record."""

    run: str
    record: str
    facts: Facts


def ingest(
    reports: Sequence[str], *, home: Home, exit_code: int | None = None, folder: Path | None = None
) -> Ingested:
    """Read reports into recorded facts. `folder` is where the names of their tests point into.

    Errors: report.path-missing, report.not-a-file, home and ledger errors.
    """
    from sterling.kernel.batch import Batch
    from sterling.packs.ci.evidence import ReadingInputs, record_facts
    from sterling.packs.ci.ingest import expand_reports, ingest_reports
    from sterling.packs.ci.steps import ci_run

    files = [(str(path), path) for path in expand_reports(reports)]
    end = _end_of(exit_code)
    inputs = ReadingInputs(paths=sorted(_listing(folder)), end=end)
    with ci_run(home, [("ingest", ())], title="ingest", inputs=[name for name, _ in files]) as (run, _):
        facts = ingest_reports(files, blobs=home.blobs, listing=inputs.paths, end=end)
        batch = Batch(run=run.id, step="ingest")
        ref = record_facts(home, batch, facts, inputs=inputs)
        words = f"{len(facts.tests)} tests read from {len(facts.sources)} reports."
        state, reason = ("na", facts.fault) if facts.fault else ("ok", "ok")
        evidence = [{"role": "facts", "record": ref.id}]
        run.settle("ingest", state, reason, facts.because or words, evidence=evidence, batch=batch)
        home.ledger.commit(batch)
        return Ingested(run.id, ref.id, facts)


def order_tests(
    folder: Path,
    argv: Sequence[str],
    *,
    revision: str = "",
    timeout_s: int = 900,
    memory_mb: int = 0,
    variables: Sequence[str] = (),
    plain: bool = False,
    reports: Sequence[str] = (),
) -> Order:
    """An order to run tests in the repository around a folder; an empty revision means its working tree.

    Errors: checkout.not-a-repository, checkout.revision-unknown, command.variable-missing,
            command.not-started when there are no words.
    """
    from sterling.packs.ci.checkout import find_repository, resolve_revision
    from sterling.packs.ci.environment import require_variables
    from sterling.packs.ci.runner import Order
    from sterling.runtime.commands import CommandNotStarted

    if not argv or not argv[0]:
        raise CommandNotStarted("expected a command after --, found no words")
    require_variables(variables)
    repository = find_repository(folder)
    return Order(
        repository=repository,
        argv=tuple(argv),
        commit=resolve_revision(repository, revision) if revision else "",
        timeout_ms=timeout_s * 1000,
        memory_bytes=memory_mb * 1024 * 1024,
        variables=tuple(variables),
        plain=plain,
        reports=tuple(reports),
    )


def run_tests(order: Order, *, home: Home) -> RunResult:
    """Run an order in a clean copy and keep what it leaves. Errors: checkout.*, home and ledger errors."""
    from sterling.packs.ci.steps import run_tests as run

    return run(order, home=home)


def capture_baseline(order: Order, *, home: Home, repeat: int = 1) -> Captured:
    """Run a base and record its baseline, healthy or not. Errors: as `run_tests`."""
    from sterling.packs.ci.capture import capture_baseline as capture

    return capture(order, home=home, repeat=repeat)


def read_baseline(name: str, *, home: Home | None) -> tuple[Baseline, str]:
    """A baseline by its file, or by the id or key of its record; with the record's id, if it has one.

    Errors: ci.baseline-tampered, baseline.unreadable.
    """
    from sterling.packs.ci.baseline_file import BaselineUnreadable, read_baseline_file
    from sterling.packs.ci.evidence import load_baseline

    if home is not None and not os.path.lexists(name):
        for record in home.records.read("ci.baseline"):
            if name and (record.id.startswith(name) or record.document["key"].startswith(name)):
                return load_baseline(home, record), record.id
    if not name:
        raise BaselineUnreadable("expected a file, an id or a key, found an empty word")
    return read_baseline_file(Path(name)), ""


def request_change(
    order: Order,
    *,
    base: str = "",
    baseline_file: Path | None = None,
    capture: bool = False,
    expects_change: bool = False,
) -> ChangeRequest:
    """What to judge. Without a base, the branch's own: where it left its upstream.

    Errors: checkout.revision-unknown.
    """
    from sterling.packs.ci.assess import ChangeRequest
    from sterling.packs.ci.checkout import merge_base, resolve_revision

    if base:
        commit = resolve_revision(order.repository, base)
    else:
        commit = "" if baseline_file is not None else merge_base(order.repository)
    return ChangeRequest(order, commit, baseline_file, capture, expects_change)


def assess_change(
    request: ChangeRequest, *, home: Home, say: Callable[[str], None] = lambda _words: None
) -> Assessed:
    """Run base and head as needed, and decide. `say` hears which of these starts.

    Errors: checkout.*, ci.policy-invalid, baseline.unreadable, ci.ledger-refused.
    """
    from sterling.packs.ci.assess import assess_change as assess

    return assess(request, home=home, say=say)


def assess_reports(
    reports: Sequence[str],
    *,
    home: Home,
    exit_code: int | None,
    baseline_file: Path,
    folder: Path | None = None,
) -> Assessed:
    """Decide on reports that a run elsewhere left.

    Errors: report.*, baseline.unreadable, ci.policy-invalid, ci.ledger-refused.
    """
    from sterling.packs.ci.assess import assess_reports as assess
    from sterling.packs.ci.ingest import expand_reports

    files = [(str(path), path) for path in expand_reports(reports)]
    listing = sorted(_listing(folder))
    return assess(files, home=home, end=_end_of(exit_code), baseline_file=baseline_file, listing=listing)


def compare(base: Facts, head: Facts, reruns: Sequence[Facts] = ()) -> Delta:
    """The delta between two runs. Pure."""
    from sterling.packs.ci.delta import compare as difference

    return difference(base, head, reruns)


def judge(case: Case, policy: Policy) -> Verdict:
    """The verdict on a case. Pure."""
    from sterling.packs.ci.verdict import judge as answer

    return answer(case, policy)


def decide(case: Case, policy: Policy, *, home: Home, basis: Basis, run: Run | None = None) -> Decision:
    """Judge and append. Errors: ci.ledger-refused."""
    from sterling.packs.ci.decision import decide as append

    return append(case, policy, home=home, basis=basis, run=run)


def explain(name: str, *, home: Home) -> Explanation:
    """Why a decision was what it was, from the ledger alone. Errors: decision.unknown."""
    from sterling.packs.ci.explain import explain as tell

    return tell(home, name)


def recheck(home: Home, run_id: str) -> Recheck:
    """Read a run's reports again and judge its decisions again; `checked` and `problems` say how it went."""
    from sterling.packs.ci.explain import recheck as again

    return again(home, run_id)


def write_baseline(baseline: Baseline, path: Path) -> str:
    """Write a baseline as one sealed file; returns the seal. Errors: baseline.unreadable."""
    from sterling.packs.ci.baseline_file import write_baseline_file

    return write_baseline_file(baseline, path)


def ran_json(result: RunResult) -> dict[str, Json]:
    """The answer of `ci run`, under contract ci.ran."""
    from sterling.packs.ci.results import ran_json as tell

    return tell(result)


def ingested_json(found: Ingested) -> dict[str, Json]:
    """The answer of `ci ingest`, under contract ci.ingested."""
    from sterling.packs.ci.results import ingested_json as tell

    return tell(found.facts, record=found.record, run=found.run)


def baseline_json(found: Baseline, *, record: str = "", run: str = "", file: str = "") -> dict[str, Json]:
    """The answer of `ci baseline capture` and `show`, under contract ci.baseline-shown."""
    from sterling.packs.ci.results import baseline_json as tell

    return tell(found, record=record, run=run, file=file)


def verdict_json(found: Assessed) -> dict[str, Json]:
    """The answer of `ci verdict`, under contract ci.verdict."""
    from sterling.packs.ci.results import verdict_json as tell

    return tell(found)


def make_sample(target: Path) -> Sample:
    """The shipped example as a git repository with commits base, broken and mended."""
    from sterling.packs.ci.sample import make_sample as make

    return make(target)


def _end_of(exit_code: int | None) -> ProcessEnd | None:
    from sterling.packs.ci.exits import ProcessEnd

    return None if exit_code is None else ProcessEnd(exit_code)


def _listing(folder: Path | None) -> set[str]:
    """Files of the repository around a folder, so that dotted names can be placed; empty outside one."""
    from sterling.packs.ci.checkout import NotARepository, find_repository, list_files
    from sterling.packs.ci.facts import clean_text

    if folder is None:
        return set()
    try:
        return {clean_text(name) for name in list_files(find_repository(folder))}
    except NotARepository:
        return set()


def observed() -> tuple[tuple[CounterRule, ...], tuple[SpanRule, ...]]:
    """What of this pack's records is counted, and what is shown as spans."""
    from sterling.packs.ci.observed import CI_COUNTERS, CI_SPANS

    return CI_COUNTERS, CI_SPANS
