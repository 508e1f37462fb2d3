"""What telemetry costs, and whether every span of a burst is accounted for, beside the SDK's own processor.

Cases: a burst of 5,000 spans into a slow disk (written plus counted drops); the
cost of handing over one span; a command without anything due; a pass over the
spans of a run against writing and syncing the same bytes. Interleaved.
"""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from report import line, parse_arguments

from sterling import app
from sterling.kernel import sinks
from sterling.kernel.home import Home, init_home, open_home
from sterling.kernel.sinks import LineSink
from sterling.kernel.telemetry import has_ended_runs, record_telemetry
from sterling.runtime.plan import of_phases
from sterling.runtime.runs import open_run

BURST = 5_000
SLOW_S = 0.000_2  # A disk that takes 5,000 spans a second.


class SlowExporter(SpanExporter):
    """Takes as long for each span as the slow disk does for a line."""

    def __init__(self) -> None:
        self.exported = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        time.sleep(SLOW_S * len(spans))
        self.exported += len(spans)
        return SpanExportResult.SUCCESS


def main() -> None:
    arguments = parse_arguments("telemetry beside the SDK's own processor")
    logging.disable(logging.CRITICAL)  # The processor logs each drop.
    rounds = 3 if arguments.quick else 9
    with tempfile.TemporaryDirectory(dir=".") as folder:
        os.environ["XDG_STATE_HOME"] = str(Path(folder).resolve() / "state")
        burst(Path(folder), rounds)
        with init_home(Path(folder) / "home") as home:
            passes(home, rounds * 3)
        nothing_due(Path(folder) / "home", rounds * 10)


def burst(folder: Path, rounds: int) -> None:
    accounted, rival, ours_us, rival_us = [], [], [], []
    for number in range(rounds):
        ours = folder / f"burst{number}"
        ours.mkdir()
        written, dropped, us = our_burst(ours)
        accounted.append(written + dropped)
        ours_us.append(us)
        exported, us = their_burst()
        rival.append(exported)
        rival_us.append(us)
    show("burst of 5,000 into a slow disk: written or counted", accounted, rival, "spans", "5000", rounds)
    show("handing over one span of the burst", ours_us, rival_us, "us", "", rounds)


def our_burst(folder: Path) -> tuple[int, int, float]:
    really = sinks._write_all

    def slow(descriptor: int, data: bytes) -> None:
        time.sleep(SLOW_S)
        really(descriptor, data)

    sinks._write_all = slow
    try:
        sink, text = LineSink(folder), b"x" * 900
        start = time.perf_counter()
        for _ in range(BURST):
            sink.offer("traces", text)
        took = time.perf_counter() - start
        sink.close(60)
    finally:
        sinks._write_all = really
    return sink.written["traces"], sum(sink.dropped.values()), took / BURST * 1e6


def their_burst() -> tuple[int, float]:
    exporter, provider = SlowExporter(), TracerProvider(shutdown_on_exit=False)
    processor = BatchSpanProcessor(exporter)
    spans = [provider.get_tracer("bench").start_span("x") for _ in range(BURST)]
    for span in spans:
        span.end()
    start = time.perf_counter()
    for span in spans:
        processor.on_end(span)
    took = time.perf_counter() - start
    processor.shutdown()
    return exporter.exported, took / BURST * 1e6


def passes(home: Home, rounds: int) -> None:
    plan = of_phases(
        "insight", [(f"step-{number}", ()) for number in range(20)], seed=1, mode="two_lane_strict"
    )
    ours, floor = [], []
    record_telemetry(home, app.span_rules(), app.counter_rules())
    for _ in range(rounds):
        with open_run(home, pack="insight", plan=plan, origin="attended") as run:
            for step in plan.steps:
                run.settle(step.id, "ok", "ok", "done")
        path = home.path / "telemetry" / "traces.jsonl"
        before = path.stat().st_size if path.exists() else 0
        ours.append(timed(lambda: record_telemetry(home, app.span_rules(), app.counter_rules())))
        data = path.read_bytes()[before:]
        floor.append(timed(lambda data=data: three_files(home.path, data)))
    show(
        "a pass over a run of 20 steps", ours, floor, "ms", "", rounds, rival="the same bytes, 3 files synced"
    )


def three_files(folder: Path, data: bytes) -> None:
    for name in ("a", "b", "c"):
        with (folder / "telemetry" / f"floor.{name}").open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def nothing_due(path: Path, rounds: int) -> None:
    ours, floor = [], []
    for _ in range(rounds):
        floor.append(timed(lambda: open_home(path, read_only=True).close()))
        with open_home(path, read_only=True) as home:
            home.ledger.size()
            ours.append(timed(lambda home=home: has_ended_runs(home)))
    show("a command with nothing due", ours, floor, "ms", "<= 0.2", rounds, rival="opening the home")


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


def show(
    case: str,
    ours: list[float] | list[int],
    against: list[float] | list[int],
    unit: str,
    must: str,
    runs: int,
    *,
    rival: str = "SDK BatchSpanProcessor, its defaults",
) -> None:
    line(
        bench="telemetry",
        case=case,
        ours=statistics.median(ours),
        against=statistics.median(against),
        rival=rival,
        unit=unit,
        must=must,
        accepted=BURST if "burst" in case else runs,
        history=0,
        runs=runs,
    )


if __name__ == "__main__":
    main()
