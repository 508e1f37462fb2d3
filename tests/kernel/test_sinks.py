"""Lines into files: nothing waits, every line is written or counted as dropped, segments are whole."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from sterling.kernel import sinks
from sterling.kernel.sinks import LineSink, segments, whole_lines


class SlowDisk:
    """Writes that wait until somebody opens the gate."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate, self.reached = threading.Event(), threading.Event()
        really = sinks._write_all

        def write(descriptor: int, data: bytes) -> None:
            self.reached.set()
            self.gate.wait(30)
            really(descriptor, data)

        monkeypatch.setattr(sinks, "_write_all", write)


def test_lines_end_up_in_their_files_in_order(tmp_path: Path) -> None:
    sink = LineSink(tmp_path)
    for number in range(100):
        assert sink.offer("traces", b"t%d" % number)
        assert sink.offer("metrics", b"m%d" % number)
    sink.close()

    assert whole_lines(tmp_path / "traces.jsonl") == [b"t%d" % number for number in range(100)]
    assert whole_lines(tmp_path / "metrics.jsonl") == [b"m%d" % number for number in range(100)]
    assert dict(sink.written) == {"traces": 100, "metrics": 100} and not sink.dropped


def test_a_burst_of_5000_into_a_slow_disk_is_written_or_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, sink = SlowDisk(monkeypatch), LineSink(tmp_path)
    sink.offer("traces", b"0")
    assert disk.reached.wait(30)  # One line is under the pen, so the queue holds exactly its size.

    accepted = 1 + sum(sink.offer("traces", b"%d" % number) for number in range(1, 5000))
    disk.gate.set()
    sink.close(30)

    assert accepted == sinks.QUEUE_LINES_MAX + 1
    assert sink.written["traces"] == accepted == len(whole_lines(tmp_path / "traces.jsonl"))
    assert dict(sink.dropped) == {("traces", "queue-full"): 5000 - accepted}


def test_offering_never_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, sink = SlowDisk(monkeypatch), LineSink(tmp_path, queue_lines_max=1)

    for number in range(50):  # The gate is shut all the while: a waiting offer would never return.
        sink.offer("traces", b"%d" % number)

    assert not disk.gate.is_set() and sink.dropped["traces", "queue-full"] >= 48
    disk.gate.set()
    sink.close(30)


def test_what_is_queued_when_the_time_is_over_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, sink = SlowDisk(monkeypatch), LineSink(tmp_path)
    for number in range(10):
        sink.offer("traces", b"%d" % number)
    assert disk.reached.wait(30)

    sink.close(0.01)
    disk.gate.set()

    assert dict(sink.dropped) == {("traces", "too-slow"): 10} and not sink.written


def test_threads_that_offer_together_lose_no_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, sink = SlowDisk(monkeypatch), LineSink(tmp_path, queue_lines_max=64)

    def offer() -> None:
        for _ in range(500):
            sink.offer("traces", b"x")

    threads = [threading.Thread(target=offer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    disk.gate.set()
    sink.close(30)

    assert sink.written["traces"] + sum(sink.dropped.values()) == 4000
    assert len(whole_lines(tmp_path / "traces.jsonl")) == sink.written["traces"]


def test_a_full_file_becomes_a_numbered_segment_and_no_line_is_split(tmp_path: Path) -> None:
    sink = LineSink(tmp_path, segment_bytes_max=100)
    for number in range(35):
        sink.offer("traces", b"%09d" % number)
    sink.close()

    files = segments(tmp_path, "traces")
    assert [file.name for file in files] == [
        "traces.000001.jsonl",
        "traces.000002.jsonl",
        "traces.000003.jsonl",
        "traces.jsonl",
    ]
    assert all(file.stat().st_size <= 100 for file in files)
    assert [line for file in files for line in whole_lines(file)] == [b"%09d" % n for n in range(35)]


def test_a_later_sink_goes_on_numbering(tmp_path: Path) -> None:
    for _ in range(2):
        sink = LineSink(tmp_path, segment_bytes_max=10)
        for number in range(3):
            sink.offer("traces", b"%08d" % number)
        sink.close()

    assert len(segments(tmp_path, "traces")) == 6
    assert sum(len(whole_lines(file)) for file in segments(tmp_path, "traces")) == 6


def test_a_sink_without_lines_starts_no_thread_and_makes_no_file(tmp_path: Path) -> None:
    before = threading.active_count()
    sink = LineSink(tmp_path)
    sink.close()

    assert threading.active_count() == before and list(tmp_path.iterdir()) == []


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    sink = LineSink(tmp_path)
    sink.offer("traces", b"x")
    sink.close()

    assert os.stat(tmp_path / "traces.jsonl").st_mode & 0o777 == 0o600
