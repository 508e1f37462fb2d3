"""Making SIGTERM stop work the way Ctrl-C does: by an exception that unwinds and closes the run.

Python turns SIGINT into KeyboardInterrupt and lets SIGTERM kill. A run that is
killed leaves open steps for the next start to close; a run that is unwound
closes them itself.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

__all__ = ["Arrived", "Terminated", "terminate_as_interrupt", "uninterrupted"]


@dataclass(slots=True)
class Arrived:
    """Which signal ends the work, once one has come; Ctrl-C unless it was another."""

    number: int = signal.SIGINT


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


@contextmanager
def terminate_as_interrupt() -> Iterator[Arrived]:
    """While this is open, SIGTERM raises `Terminated` in the main thread and is told by what it gives.

    In any other thread, and where a handler that is not the default stands
    already, nothing changes: signals are the program's, not a library's.
    """
    arrived = Arrived()
    if threading.current_thread() is not threading.main_thread():
        yield arrived
        return
    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_DFL:
        yield arrived
        return

    def stop(number: int, frame: FrameType | None) -> None:
        arrived.number = number
        raise Terminated("SIGTERM")

    signal.signal(signal.SIGTERM, stop)
    try:
        yield arrived
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """While this is open, Ctrl-C and SIGTERM are not heard: an orderly end is not ended half-way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
