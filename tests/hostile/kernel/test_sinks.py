"""Telemetry files against crashes and hostile disks: torn lines are set aside whole, drops are counted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sterling.kernel import sinks
from sterling.kernel.durable import cut_torn_line
from sterling.kernel.sinks import LineSink, whole_lines

_WRITER = """
import sys
from pathlib import Path
from sterling.kernel.sinks import LineSink
sink = LineSink(Path(sys.argv[1]), queue_lines_max=100_000)
line = b'{"n":' + b"1" * 3000 + b"}"
print("ready", flush=True)
while True:
    sink.offer("traces", line)
"""


def write_one(folder: Path, line: bytes) -> LineSink:
    sink = LineSink(folder)
    sink.offer("traces", line)
    sink.close()
    return sink


@pytest.mark.parametrize("cut", [1, 5, 4999])
def test_a_torn_last_line_is_moved_aside_byte_for_byte(tmp_path: Path, cut: int) -> None:
    path, torn = tmp_path / "traces.jsonl", b"x" * cut
    path.write_bytes(b"first\nsecond\n" + torn)

    sink = write_one(tmp_path, b"third")

    assert sink.torn_lines == 1
    assert whole_lines(path) == [b"first", b"second", b"third"] and path.read_bytes().endswith(b"\n")
    assert (tmp_path / "traces.jsonl.torn").read_bytes() == torn + b"\n"


def test_a_torn_line_longer_than_what_is_read_at_once_is_found_whole(tmp_path: Path) -> None:
    path, torn = tmp_path / "traces.jsonl", os.urandom(200_000).replace(b"\n", b"x")
    path.write_bytes(b"first\n" + torn)

    assert cut_torn_line(path) == 1
    assert path.read_bytes() == b"first\n"
    assert (tmp_path / "traces.jsonl.torn").read_bytes() == torn + b"\n"


def test_a_file_that_is_one_torn_line_becomes_empty(tmp_path: Path) -> None:
    (tmp_path / "traces.jsonl").write_bytes(b"half")

    assert cut_torn_line(tmp_path / "traces.jsonl") == 1
    assert (tmp_path / "traces.jsonl").read_bytes() == b""


def test_whole_files_empty_files_and_no_files_have_no_torn_line(tmp_path: Path) -> None:
    (tmp_path / "whole.jsonl").write_bytes(b"a\n")
    (tmp_path / "empty.jsonl").write_bytes(b"")

    assert [cut_torn_line(tmp_path / f"{name}.jsonl") for name in ("whole", "empty", "absent")] == [0, 0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.jsonl", "whole.jsonl"]


def test_a_second_torn_line_is_kept_beside_the_first(tmp_path: Path) -> None:
    for torn in (b"one", b"two"):
        with (tmp_path / "traces.jsonl").open("ab") as file:
            file.write(torn)
        write_one(tmp_path, b"whole")

    assert (tmp_path / "traces.jsonl.torn").read_bytes() == b"one\ntwo\n"


def test_a_kill_at_any_moment_leaves_whole_lines_and_at_most_one_torn(tmp_path: Path) -> None:
    chance = random.Random(20260310)
    for number in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        path = tmp_path / "traces.jsonl"
        goal = chance.randrange(1, 400_000) + (path.stat().st_size if path.exists() else 0)
        while not path.exists() or path.stat().st_size < goal:
            time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()

        sink = write_one(tmp_path, b'{"after":%d}' % number)

        assert sink.torn_lines <= 1 and sink.written["traces"] == 1
        whole = b'{"n":' + b"1" * 3000 + b"}"
        assert all(line == whole or line.startswith(b'{"after":') for line in whole_lines(path))


def test_a_disk_that_is_full_drops_counts_and_leaves_no_half_line(tmp_path: Path) -> None:
    """A file size limit refuses in the middle of a line, as a full disk does."""
    program = (
        "import resource, signal, sys, json\nfrom pathlib import Path\n"
        "from sterling.kernel.sinks import LineSink\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1050, 1050))\n"
        "sink = LineSink(Path(sys.argv[1]))\n"
        "for _ in range(50): sink.offer('traces', b'x' * 99)\n"
        "sink.close()\n"
        "print(json.dumps([sink.written['traces'], sink.dropped['traces', 'write-failed']]))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[10, 40]\n"
    assert whole_lines(tmp_path / "traces.jsonl") == [b"x" * 99] * 10
    assert (tmp_path / "traces.jsonl").stat().st_size == 1000


@pytest.mark.parametrize("in_its_place", ["folder", "link", "nothing"])
def test_a_place_that_takes_no_file_drops_and_counts(tmp_path: Path, in_its_place: str) -> None:
    folder = tmp_path / "telemetry"
    outside = tmp_path / "outside"
    outside.write_bytes(b"kept\n")
    if in_its_place != "nothing":
        folder.mkdir()
    if in_its_place == "folder":
        (folder / "traces.jsonl").mkdir()
    if in_its_place == "link":
        (folder / "traces.jsonl").symlink_to(outside)

    sink = LineSink(folder)
    for _ in range(5):
        sink.offer("traces", b"x")
    sink.close()

    assert dict(sink.dropped) == {("traces", "write-failed"): 5} and not sink.written
    assert outside.read_bytes() == b"kept\n"


def test_one_stream_that_fails_takes_no_other_with_it(tmp_path: Path) -> None:
    (tmp_path / "traces.jsonl").mkdir()
    sink = LineSink(tmp_path)
    sink.offer("traces", b"x")
    sink.offer("metrics", b"y")
    sink.close()

    assert whole_lines(tmp_path / "metrics.jsonl") == [b"y"] and sink.dropped["traces", "write-failed"] == 1


def test_a_sync_that_fails_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    sink = LineSink(tmp_path)
    sink.offer("traces", b"x")
    monkeypatch.setattr(sinks.os, "fsync", refuse)
    sink.close()

    assert sink.sync_failed == ["traces"] and sink.written["traces"] == 1


def test_a_line_with_a_newline_is_a_defect_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        LineSink(tmp_path).offer("traces", b"a\nb")
