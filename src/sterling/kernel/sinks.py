"""Lines into files without ever making work wait: one bounded queue and one writer thread.

`offer` never blocks: a full queue drops the line and counts it by cause. A file
that reaches its size becomes a numbered segment. A last line that a crash tore
off is moved to `<file>.torn` before the next line is written, and counted; it is
never parsed by halves. What a disk refuses is a counted drop, not an error.

Accepted lines end as written or as dropped, each exactly once.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import Counter
from pathlib import Path

from sterling.kernel.durable import cut_torn_line

__all__ = ["QUEUE_LINES_MAX", "SEGMENT_BYTES_MAX", "LineSink", "segments", "whole_lines"]

QUEUE_LINES_MAX = 2048
SEGMENT_BYTES_MAX = 64 * 1024 * 1024


class LineSink:
    """Appends lines to `<folder>/<stream>.jsonl`. One process at a time may hold a folder's sink."""

    def __init__(
        self,
        folder: Path,
        *,
        queue_lines_max: int = QUEUE_LINES_MAX,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
    ) -> None:
        self.written: Counter[str] = Counter()  # by stream
        self.dropped: Counter[tuple[str, str]] = Counter()  # by stream and cause
        self.torn_lines = 0
        self.sync_failed: list[str] = []  # streams whose last lines may not survive a power cut
        self._folder, self._segment_bytes_max = folder, segment_bytes_max
        self._queue: queue.Queue[tuple[str, bytes] | None] = queue.Queue(queue_lines_max)
        self._files: dict[str, int] = {}
        self._lock = threading.Lock()  # Over the figures and what follows.
        self._open_lines: Counter[str] = Counter()  # accepted, neither written nor dropped yet
        self._thread: threading.Thread | None = None
        self._given_up = False

    def offer(self, stream: str, line: bytes) -> bool:
        """Hand over one line without its newline; False when it was dropped. Never waits for the disk."""
        assert b"\n" not in line, "a line holds no newline"
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._write_lines, name="telemetry-writer", daemon=True
                )
                self._thread.start()
            try:
                self._queue.put_nowait((stream, line))
            except queue.Full:
                self.dropped[stream, "queue-full"] += 1
                return False
            self._open_lines[stream] += 1
        return True

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is queued, sync, and end the thread; what is left after `timeout_s` is dropped."""
        if self._thread is None:
            return
        deadline = time.monotonic() + timeout_s
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            deadline = 0.0
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            self._given_up = True
            for stream, count in self._open_lines.items():
                self.dropped[stream, "too-slow"] += count
            self.dropped = +self.dropped

    def _write_lines(self) -> None:
        for path in sorted(self._folder.glob("*.jsonl")):
            try:
                self.torn_lines += cut_torn_line(path)
            except OSError:
                continue  # What stands there takes no line either, and that is counted.
        while (item := self._queue.get()) is not None and not self._given_up:
            stream, line = item
            try:
                self._append(stream, line + b"\n")
            except OSError:
                self._settle(stream, "write-failed")
            else:
                self._settle(stream, "")
        for stream, descriptor in self._files.items():
            try:
                os.fsync(descriptor)
            except OSError:
                self.sync_failed.append(stream)
            os.close(descriptor)

    def _settle(self, stream: str, cause: str) -> None:
        with self._lock:
            if self._given_up:
                return  # It was counted as too slow.
            self._open_lines[stream] -= 1
            if cause:
                self.dropped[stream, cause] += 1
            else:
                self.written[stream] += 1

    def _append(self, stream: str, line: bytes) -> None:
        descriptor = self._open(stream)
        size = os.fstat(descriptor).st_size
        if size and size + len(line) > self._segment_bytes_max:
            os.close(self._files.pop(stream))
            self._rotate(stream)
            descriptor, size = self._open(stream), 0
        try:
            _write_all(descriptor, line)
        except OSError:
            # Half a line must not stand before the next one; if even this fails, the next start cuts it.
            os.ftruncate(descriptor, size)
            raise

    def _open(self, stream: str) -> int:
        if stream not in self._files:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self._files[stream] = os.open(self._folder / f"{stream}.jsonl", flags, 0o600)
        return self._files[stream]

    def _rotate(self, stream: str) -> None:
        taken = [int(path.suffixes[0][1:]) for path in segments(self._folder, stream)[:-1]]
        target = self._folder / f"{stream}.{max(taken, default=0) + 1:06d}.jsonl"
        (self._folder / f"{stream}.jsonl").rename(target)


def segments(folder: Path, stream: str) -> list[Path]:
    """The numbered files of a stream, oldest first, then the one that is being written."""
    numbered = sorted(folder.glob(f"{stream}.[0-9][0-9][0-9][0-9][0-9][0-9].jsonl"))
    return [*numbered, folder / f"{stream}.jsonl"]


def whole_lines(path: Path) -> list[bytes]:
    """The whole lines of a file; a torn last one is left out, a missing file has none."""
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
