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
from types import FrameType

__all__ = ["Terminated", "terminate_as_interrupt"]


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """While this is open, SIGTERM raises `Terminated` in the main thread.

    In any other thread, and where a handler that is not the default stands
    already, nothing changes: signals are the program's, not a library's.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated("SIGTERM")
