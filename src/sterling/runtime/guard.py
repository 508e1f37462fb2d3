"""The guard: one small process that watches one body and answers for its whole tree.

A body is a worker's task or a command. The guard is the subreaper of everything
the body starts, so nothing below it can get away by a new session or a second
fork. It holds the walls that the kernel does not (limits.py), relays frames, and
when the body ends, a limit is passed, or its owner goes away (the control socket
ends), it kills what is left to the last process before it reports or exits.

It runs alone in its process, single-threaded, with nothing but the standard
library, so that whatever happens to the body or the owner, this loop turns.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from sterling.runtime.cgroup import Group
from sterling.runtime.frames import FrameBuffer, FrameInvalid, frame_bytes
from sterling.runtime.limits import BodyLimits, breached
from sterling.runtime.process_tree import end_tree, signal_all, tree_below, usage

__all__ = ["TERMINAL_FRAMES", "Guard", "Sink", "Stream"]

TERMINAL_FRAMES = ("result", "raised", "invalid", "memory", "altered", "stopped")
SAMPLED_WALLS = (
    "tree:subreaper",
    "memory:sampler",
    "cpu:sampler",
    "processes:sampler",
    "wall:guard",
    "output:pipe",
)
_SAMPLE_S = 0.1
_SAMPLE_NEAR_S = 0.02  # Within half of a limit the sampler looks more often.
_FOLDER_EVERY = 5  # Sizes in the body's folder are read at every fifth sample.
_PIECE_BYTES = 256 * 1024
_TAIL_BYTES = 8 * 1024
_SIGNAL_LIMITS = {signal.SIGXCPU: "limit.cpu", signal.SIGXFSZ: "limit.output"}
_KILL_AT_ONCE = ("limit.memory", "limit.processes")


@dataclass(slots=True)
class Sink:
    """Where a stream goes: a file, or nowhere but its tail."""

    file: int | None = None
    size_bytes: int = 0
    tail: bytearray = field(default_factory=bytearray)

    def take(self, piece: bytes, room: int | None) -> None:
        """Count all of it, keep at most `room` bytes in the file, remember the end."""
        self.size_bytes += len(piece)
        kept = piece if room is None else piece[: max(0, room)]
        if self.file is not None and kept:
            _write_all(self.file, kept)
        self.tail += piece
        del self.tail[:-_TAIL_BYTES]


@dataclass(slots=True)
class Stream:
    """One end of a pipe that the body writes to, and where that goes."""

    descriptor: int
    sink: Sink


@dataclass(slots=True)
class _Seen:
    """What the guard has observed so far."""

    started: float
    limit: str = ""
    message: str = ""
    rss_max: int = 0
    cpu_us: int = 0
    progress_at: float = 0.0
    progress_cpu_us: int = 0
    samples: int = 0
    folder_bytes: int = 0
    kill_at: float | None = None
    terminal: dict[str, Any] | None = None
    owner_gone: bool = False


class Guard:
    """Watches one body until it and all of its descendants are gone."""

    def __init__(
        self,
        body: int,
        limits: BodyLimits,
        control: socket.socket,
        streams: list[Stream],
        *,
        walls: list[str],
        channel: socket.socket | None = None,
        folder: str = "",
        stall_ms: int = 0,
        shares_memory: bool = False,
        group: Group | None = None,
    ) -> None:
        """`shares_memory`: the body is a fork of this process, and starts with its pages for free."""
        self._body, self._limits, self._control = body, limits, control
        self._streams, self._sinks = list(streams), [stream.sink for stream in streams]
        self._channel, self._folder, self._stall_ms = channel, folder, stall_ms
        self._walls = [*walls, *SAMPLED_WALLS]
        self._group = group
        self._pidfd = os.pidfd_open(body)
        now = time.monotonic()
        self._seen = _Seen(started=now, progress_at=now)
        self._from_owner, self._from_body = FrameBuffer(), FrameBuffer()
        self._to_owner, self._to_body = bytearray(), bytearray()
        self._children_before_us = _children_cpu_us()
        self._shared_bytes = usage((os.getpid(),)).memory_bytes if shares_memory else 0

    def watch(self) -> dict[str, Any]:
        """Run until the body ended; kills the rest of the tree; returns the end frame."""
        status: int | None = None
        next_sample = self._seen.started
        while status is None:
            now = time.monotonic()
            if now >= next_sample:
                next_sample = now + self._sample(now)
            if self._seen.kill_at is not None and now >= self._seen.kill_at:
                self._kill_group()
                end_tree(os.getpid(), keep=(self._body,))
                self._seen.kill_at = None
            status = self._wait(max(0.0, min(next_sample, self._seen.kill_at or next_sample) - now))
        wall_us = int((time.monotonic() - self._seen.started) * 1_000_000)
        left_behind = self._kill_group() + end_tree(os.getpid())
        if self._group is not None:
            self._group.close()
        self._drain()
        return self._end_frame(status, wall_us, left_behind)

    def report(self, end: dict[str, Any]) -> None:
        """Tell the owner: what is left of progress, the body's result if it gave one, and the end."""
        if self._seen.owner_gone:
            return
        words = bytes(self._to_owner)
        if self._seen.terminal is not None:
            words += frame_bytes(self._seen.terminal)
        self._control.setblocking(True)
        try:
            self._control.sendall(words + frame_bytes(end))
        except OSError:
            self._seen.owner_gone = True

    # The loop's parts

    def _kill_group(self) -> int:
        """Everything that was born in the body's group, in one go; how many that were."""
        return 0 if self._group is None else self._group.kill()

    def _wait(self, timeout_s: float) -> int | None:
        """Serve whatever is ready; returns the body's wait status once it ended."""
        reading = [self._pidfd, *(stream.descriptor for stream in self._streams)]
        if not self._seen.owner_gone:
            reading.append(self._control.fileno())
        if self._channel is not None:
            reading.append(self._channel.fileno())
        writing = []
        if self._to_owner and not self._seen.owner_gone:
            writing.append(self._control.fileno())
        if self._to_body and self._channel is not None:
            writing.append(self._channel.fileno())
        ready, writable, _ = select.select(reading, writing, [], timeout_s)
        for stream in list(self._streams):
            if stream.descriptor in ready:
                self._read_stream(stream)
        if self._channel is not None and self._channel.fileno() in ready:
            self._read_channel()
        if not self._seen.owner_gone and self._control.fileno() in ready:
            self._read_control()
        self._flush(writable)
        if self._pidfd in ready:
            _, status, used = os.wait4(self._body, 0)
            self._seen.rss_max = max(self._seen.rss_max, used.ru_maxrss * 1024)
            self._seen.cpu_us = max(self._seen.cpu_us, _children_cpu_us() - self._children_before_us)
            return status
        return None

    def _sample(self, now: float) -> float:
        """Measure, judge, and say when to look again."""
        seen = self._seen
        found = usage(tree_below(os.getpid())).less(self._shared_bytes)
        seen.samples += 1
        seen.rss_max = max(seen.rss_max, found.rss_bytes)
        seen.cpu_us = max(seen.cpu_us, found.cpu_us + _children_cpu_us() - self._children_before_us)
        if self._folder and seen.samples % _FOLDER_EVERY == 0:
            seen.folder_bytes = _folder_bytes(self._folder)
        wall_us = int((now - seen.started) * 1_000_000)
        limit = breached(
            self._limits, found, cpu_us=seen.cpu_us, wall_us=wall_us, output_bytes=self._output_bytes()
        )
        if limit:
            self._stop_for(limit, "")
        elif self._is_stalled(now):
            self._stop_for("step.hung", f"No progress and no CPU time for {self._stall_ms} ms.")
        near_memory = 2 * found.memory_bytes > self._limits.memory_bytes > 0
        near_count = 2 * found.processes > self._limits.processes > 1
        return min(
            _SAMPLE_NEAR_S if near_memory or near_count else _SAMPLE_S,
            max(0.001, self._limits.wall_ms / 1000 - (now - seen.started))
            if self._limits.wall_ms
            else _SAMPLE_S,
        )

    def _is_stalled(self, now: float) -> bool:
        seen = self._seen
        if seen.cpu_us > seen.progress_cpu_us:
            seen.progress_at, seen.progress_cpu_us = now, seen.cpu_us
        return bool(self._stall_ms) and (now - seen.progress_at) * 1000 > self._stall_ms

    def _output_bytes(self) -> int:
        return sum(sink.size_bytes for sink in self._sinks) + self._seen.folder_bytes

    def _stop_for(self, limit: str, message: str) -> None:
        """Begin the end: ask first where there is a grace, else kill at once. The first reason stays."""
        if self._seen.limit:
            return
        self._seen.limit, self._seen.message = limit, message
        grace_s = 0.0 if limit in _KILL_AT_ONCE else self._limits.grace_ms / 1000
        if grace_s:
            signal_all(tree_below(os.getpid()), signal.SIGTERM)
        self._seen.kill_at = time.monotonic() + grace_s

    def _read_stream(self, stream: Stream) -> None:
        piece = os.read(stream.descriptor, _PIECE_BYTES)
        if not piece:
            os.close(stream.descriptor)
            self._streams.remove(stream)
            return
        limit = self._limits.output_bytes
        stream.sink.take(piece, limit - self._output_bytes() if limit else None)
        if limit and self._output_bytes() > limit:
            self._stop_for("limit.output", "")

    def _read_channel(self) -> None:
        """Frames from the body. Whatever is not one of ours ends it."""
        assert self._channel is not None
        try:
            piece = self._channel.recv(_PIECE_BYTES)
        except OSError:
            piece = b""
        try:
            if not piece:
                if self._from_body.pending:
                    raise FrameInvalid("expected a whole frame, found the end of the stream")
                self._close_channel()
                return
            for frame in self._from_body.feed(piece):
                self._take_frame(frame)
        except FrameInvalid as problem:
            self._seen.terminal = None
            self._close_channel()
            self._stop_for("worker.protocol", str(problem))

    def _take_frame(self, frame: dict[str, Any]) -> None:
        kind = frame.get("type")
        if kind == "progress":
            self._seen.progress_at = time.monotonic()
            if not self._to_owner:
                self._to_owner += frame_bytes(frame)
        elif kind in TERMINAL_FRAMES and self._seen.terminal is None:
            self._seen.terminal = frame
        else:
            raise FrameInvalid(f"expected progress or one result, found {str(kind)[:80]!r}")

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
            self._to_body.clear()

    def _read_control(self) -> None:
        """Words from the owner. Its end, or anything we cannot read, ends the body."""
        try:
            piece = self._control.recv(_PIECE_BYTES)
            frames = self._from_owner.feed(piece) if piece else None
        except (OSError, FrameInvalid):
            frames = None
        if frames is None:
            self._seen.owner_gone = True
            self._seen.limit = self._seen.limit or "owner.gone"
            self._seen.kill_at = time.monotonic()
            return
        for frame in frames:
            if frame.get("type") == "kill":
                self._seen.limit = self._seen.limit or "stopped"
                self._seen.kill_at = time.monotonic()
            elif self._channel is not None:
                self._to_body += frame_bytes(frame)

    def _flush(self, writable: list[int]) -> None:
        if not self._seen.owner_gone and self._control.fileno() in writable:
            del self._to_owner[: _send_some(self._control, self._to_owner)]
        if self._channel is not None and self._channel.fileno() in writable:
            del self._to_body[: _send_some(self._channel, self._to_body)]

    def _drain(self) -> None:
        """Read what is left in pipes and channel; every writer is dead, so each comes to its end."""
        while self._streams:
            self._read_stream(self._streams[0])
        if self._channel is not None:
            self._channel.setblocking(True)
        while self._channel is not None:
            self._read_channel()

    def _end_frame(self, status: int, wall_us: int, left_behind: int) -> dict[str, Any]:
        seen = self._seen
        by_signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        limit = seen.limit or _limit_of_signal(by_signal, self._limits, seen.cpu_us)
        tail = b"".join(bytes(sink.tail) for sink in self._sinks)[-_TAIL_BYTES:]
        return {
            "type": "end",
            "status": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            "signal": by_signal,
            "limit": limit,
            "message": seen.message,
            "rss_max": seen.rss_max,
            "cpu_us": seen.cpu_us,
            "wall_us": wall_us,
            "walls": self._walls,
            "left_behind": left_behind,
            "output_tail": tail.decode("utf-8", "replace"),
            "output_bytes": sum(sink.size_bytes for sink in self._sinks),
        }


def _limit_of_signal(number: int, limits: BodyLimits, cpu_us: int) -> str:
    """The limit that a signal stands for: the kernel's own signals, and its kill at the hard CPU limit."""
    if number == signal.SIGKILL and limits.cpu_ms and cpu_us >= limits.cpu_ms * 1000:
        return "limit.cpu"
    return {int(known): code for known, code in _SIGNAL_LIMITS.items()}.get(number, "")


def _children_cpu_us() -> int:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((used.ru_utime + used.ru_stime) * 1_000_000)


def _folder_bytes(folder: str) -> int:
    """Bytes of all files in a folder; what vanishes while we look counts for nothing."""
    total = 0
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total


def _send_some(peer: socket.socket, words: bytearray) -> int:
    try:
        return peer.send(words, socket.MSG_DONTWAIT)
    except (BlockingIOError, InterruptedError):
        return 0
    except OSError:
        return len(words)  # Nobody reads any more; what ends the body shows elsewhere.


def _write_all(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]
