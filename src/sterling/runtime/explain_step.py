"""Why a step ran, or was reused, as the outcome in the ledger says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.home import Home
from sterling.runtime.reasons import Reason, sentence_of
from sterling.runtime.runs import read_run

__all__ = ["StepNotSettled", "explain_step"]


class StepNotSettled(SterlingError):
    """No outcome of this step is known, in the run that was named or in any."""

    code = "run.step-not-settled"
    hint = "See the steps of a run: `sterling run show RUN`."
    exit = EXIT_USAGE


def explain_step(home: Home, step: str, run: str = "") -> dict[str, Any]:
    """What `sterling run explain` prints. `run` may be a prefix; empty is the newest run with the step.

    Raises:
        RunUnknown, StepNotSettled: there is nothing to explain.
    """
    wanted = read_run(home, run).id if run else None
    found = None
    for entry in home.ledger.read(kind="runtime.outcome", run=wanted):
        if entry.payload["step"] == step:
            found = entry
    if found is None:
        where = f"run {wanted}" if wanted else "some run"
        raise StepNotSettled(f"expected an outcome of step {step!r} in {where}, found none", step=step)
    row: Mapping[str, Any] = found.payload
    codes = [Reason(code) for code in row.get("cache_reasons", ())]
    return {
        "because": row["because"],
        "cached_from": row.get("cached_from", ""),
        "detail": row.get("cache_detail", ""),
        "key": row.get("cache_key", ""),
        "reason": row["reason"],
        "reasons": [{"reason": str(code), "sentence": sentence_of(code)} for code in codes],
        "run": found.run,
        "sentence": _sentence(row),
        "state": row["state"],
        "step": step,
    }


def _sentence(row: Mapping[str, Any]) -> str:
    if row.get("cached_from"):
        return f"Reused from {row['cached_from']}: every part of its key is what it was."
    if row.get("cache_reasons"):
        return "It ran:"
    return f"It was not started, or its run reuses no steps. It ended {row['reason']}: {row['because']}"
