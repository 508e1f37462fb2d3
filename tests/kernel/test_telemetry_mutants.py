"""Checks broken on purpose: each mutant of counters, sinks, telemetry and doctor is caught."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from mutants import run_mutants

from sterling.kernel import counters, durable, otlp, sinks, telemetry
from sterling.kernel.ledger import StoredEntry
from sterling.runtime import doctor
from sterling.testing.clock import FakeClock


def entry(kind: str, payload: Any, contract: str = "") -> StoredEntry:
    return StoredEntry(0, bytes(32), bytes(32), kind, contract, "", "", 0, b"", payload=payload)


def loss_is_na(module: Any) -> None:
    fold = module.CounterFold(module.KERNEL_COUNTERS)
    fold.lose(("write.refused", ""), "gone")
    assert fold.counters(0).counts["writes_refused"].value is None


def absence_of_a_document_is_na(module: Any) -> None:
    rule = module.CounterRule("x", "x", "record.put", "a.b")
    found = module.fold_counters([entry("record.put", {"blob": "0"}, "a.b")], [rule])
    assert found.counts["x"].value is None


def amounts_add_up(module: Any) -> None:
    drops = [entry("telemetry.dropped", {"spans": spans}) for spans in (3, 0, 4)]
    assert module.fold_counters(drops).counts["spans_dropped"].value == 7


def distinct_values_count_once(module: Any) -> None:
    rule = module.CounterRule("x", "x", "k", distinct="task")
    found = module.fold_counters([entry("k", {"task": "a"}), entry("k", {"task": "a"})], [rule])
    assert found.counts["x"].value == 1


def every_line_is_accounted_for(module: Any) -> None:
    gate, reached, really = threading.Event(), threading.Event(), module._write_all

    def slow(descriptor: int, data: bytes) -> None:
        reached.set()
        gate.wait(30)
        really(descriptor, data)

    module._write_all = slow
    with tempfile.TemporaryDirectory() as folder:
        sink = module.LineSink(Path(folder), queue_lines_max=8)
        for number in range(100):
            sink.offer("traces", b"%d" % number)
        assert reached.wait(30)
        gate.set()
        sink.close(30)
        lines = module.whole_lines(Path(folder) / "traces.jsonl")
        assert len(lines) == sink.written["traces"]
        assert sink.written["traces"] + sum(sink.dropped.values()) == 100


def what_is_too_slow_is_counted(module: Any) -> None:
    gate = threading.Event()
    module._write_all = lambda descriptor, data: gate.wait(30)
    with tempfile.TemporaryDirectory() as folder:
        sink = module.LineSink(Path(folder))
        for _ in range(5):
            sink.offer("traces", b"x")
        sink.close(0.01)
        gate.set()
        assert sink.written["traces"] + sum(sink.dropped.values()) == 5


def torn_lines_are_cut_whole(module: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "traces.jsonl"
        path.write_bytes(b"first\n" + b"x" * 100_000)
        assert module.cut_torn_line(path) == 1
        assert path.read_bytes() == b"first\n"
        assert path.with_name("traces.jsonl.torn").read_bytes() == b"x" * 100_000 + b"\n"


def a_half_written_line_is_taken_back(module: Any) -> None:
    import os

    def half(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with tempfile.TemporaryDirectory() as folder:
        module._write_all = half
        sink = module.LineSink(Path(folder))
        sink.offer("traces", b"a line")
        sink.close()
        assert (Path(folder) / "traces.jsonl").read_bytes() == b""


def segments_stay_within_their_size(module: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sink = module.LineSink(Path(folder), segment_bytes_max=20)
        for _ in range(9):
            sink.offer("traces", b"12345678")
        sink.close()
        files = module.segments(Path(folder), "traces")
        assert all(file.stat().st_size <= 20 for file in files)
        assert sum(len(module.whole_lines(file)) for file in files) == 9


def na_is_never_a_zero(module: Any) -> None:
    found = counters.Counters(1, {"x": counters.Count(None, {}, "gone")})
    (point,) = module.metrics_of(found, 0)[0]["sum"]["dataPoints"]
    assert "asInt" not in point and point["flags"] == 1


def content_stays_out(module: Any) -> None:
    for text in ("two words", "a\nb", "/etc/passwd", "x" * 121):
        assert not module._PLAIN.fullmatch(text)


def row(code: str) -> doctor.Row:
    return doctor.Row(code, "failed", "x", code)


def broken_wins(module: Any) -> None:
    from sterling.kernel import integrity  # noqa: F401 - declares the codes

    assert module.exit_of([row("integrity.no-anchor"), row("integrity.forked")]) == 3


def nobody_judges_without_a_home(module: Any) -> None:
    assert module.exit_of([row("home.missing")]) == 4


def fail(words: str) -> Callable[[Any], str]:
    def act(_: Any) -> str:
        raise doctor.ProbeFailed(words)

    return act


def only_the_root_fails(module: Any) -> None:
    probes = [
        module.Probe("a", "x", fail("1")),
        module.Probe("b", "x", fail("2"), ("a",)),
        module.Probe("c", "x", fail("3"), ("b",)),
    ]
    rows = module.examine(probes, module.Patient(Path("x"), FakeClock()))
    assert [(each.state, each.root) for each in rows] == [("failed", ""), ("na", "a"), ("na", "a")]


def the_blamed_row_is_the_root(module: Any) -> None:
    probes = [module.Probe("a", "x", fail("1")), module.Probe("b", "x", fail("2"), blames=("a",))]
    rows = module.examine(probes, module.Patient(Path("x"), FakeClock()))
    assert [each.state for each in rows] == ["failed", "na"]


MUTANTS: list[tuple[ModuleType, str, str, Callable[[Any], None]]] = [
    (counters, "if source in self._lost:", "if False:", loss_is_na),
    (counters, "if document is None:", "if False:", absence_of_a_document_is_na),
    (counters, 'int(payload["spans"])', "1", amounts_add_up),
    (counters, "if value in self._seen[rule.name]:", "if False:", distinct_values_count_once),
    (sinks, 'self.dropped[stream, "queue-full"] += 1', "pass", every_line_is_accounted_for),
    (sinks, 'self.dropped[stream, "too-slow"] += count', "pass", what_is_too_slow_is_counted),
    (durable, "while start and whole < 0:", "if start and whole < 0:", torn_lines_are_cut_whole),
    (durable, "file.truncate(cut)", "pass", torn_lines_are_cut_whole),
    (durable, 'torn.write(file.read() + b"\\n")', "pass", torn_lines_are_cut_whole),
    (sinks, "os.ftruncate(descriptor, size)", "pass", a_half_written_line_is_taken_back),
    (sinks, "size + len(line) > self._segment_bytes_max", "False", segments_stay_within_their_size),
    (sinks, "max(taken, default=0) + 1:06d", "1:06d", segments_stay_within_their_size),
    (otlp, '"flags": _NO_RECORDED_VALUE', '"asInt": "0"', na_is_never_a_zero),
    (telemetry, "[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,119}", "[^|]*", content_stays_out),
    (doctor, "(EXIT_BROKEN, EXIT_NO, EXIT_CANNOT_JUDGE) if", "(EXIT_NO, EXIT_CANNOT_JUDGE) if", broken_wins),
    (doctor, 'if code == "home.missing":', "if False:", nobody_judges_without_a_home),
    (doctor, "if unmet is not None:", "if False:", only_the_root_fails),
    (doctor, "root = unmet.root or unmet.id", "root = unmet.id", only_the_root_fails),
    (doctor, "row.id in probe.blames or", "", the_blamed_row_is_the_root),
]


@pytest.mark.parametrize(
    ("module", "old", "new", "scenario"), MUTANTS, ids=[f"{m.__name__}: {old}" for m, old, *_ in MUTANTS]
)
def test_a_check_that_is_taken_away_is_missed(
    module: ModuleType, old: str, new: str, scenario: Callable[[Any], None]
) -> None:
    run_mutants(Path(str(module.__file__)), [(old, old, new)], [scenario])
