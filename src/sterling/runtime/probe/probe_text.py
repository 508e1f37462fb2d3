"""Probe text: how many words a text has, taking as long as it is told to.

It needs no library, no model and no input of a pack, so that the heavy path can be
tried on any machine. It answers a request to stop at once.
"""

from __future__ import annotations

import time

from sterling.runtime.plugin_api import Ok, Outcome, should_stop

__all__ = ["run"]

_STEP_S = 0.005


def run(text: str, run_ms: int) -> Outcome:
    """Count the words, then work on until the time is over."""
    end_s = time.monotonic() + run_ms / 1000
    words = len(text.split())
    while time.monotonic() < end_s:
        if should_stop():
            raise InterruptedError("asked to stop")
        time.sleep(_STEP_S)
    return Ok(metrics={"words": words})
