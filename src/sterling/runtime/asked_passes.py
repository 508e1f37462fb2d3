"""Passes that a command asks the conductor for, through the ledger.

The command writes `conductor.asked` together with a lease of its own: the intent
of the person who waits. The conductor carries the pass out while that lease
holds, and writes `conductor.answered`; the command reads the pass back from the
entries. A command that dies, by whatever signal, loses its lease with its life,
and with it the intent ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sterling.kernel.batch import Batch
from sterling.kernel.errors import SterlingError
from sterling.kernel.heartbeat import Heartbeat
from sterling.kernel.home import Home
from sterling.kernel.ids import random_id
from sterling.kernel.ledger import StoredEntry
from sterling.runtime.conductor import Dispatch, Job, JobEnd, JobSource, PassReport, run_once
from sterling.runtime.conductor_process import who_is_up

__all__ = [
    "Asked",
    "ConductorSilent",
    "PassRefused",
    "answer",
    "carry_out_pass",
    "is_waited_for",
    "read_asked",
    "refuse",
]

_INTENT_S = 900
_LOOK_S = 0.05
_SILENT_US = 30_000_000


class ConductorSilent(SterlingError):
    """A conductor is up and does not move, so nobody may run a pass beside it."""

    code = "conductor.already-up"
    hint = "End it and what it runs, then ask again: `sterling down`."


class PassRefused(SterlingError):
    """The conductor refused or failed to carry out the pass that was asked for."""

    code = "conductor.pass-refused"
    hint = "See what it says of itself: `sterling status`."


@dataclass(frozen=True, slots=True)
class Asked:
    """A pass that a command waits for."""

    request: str
    force: bool
    limit: int | None
    settings: tuple[str, ...]
    index: int


def carry_out_pass(
    home: Home,
    jobs: Sequence[JobSource],
    *,
    force: bool,
    limit: int | None = None,
    overrides: Sequence[str] = (),
    on_dispatch: Callable[[Dispatch], None] | None = None,
    say: Callable[[str], None] = lambda words: None,
) -> PassReport:
    """One pass: by the conductor when one is up, else by this process.

    Raises:
        ConductorSilent: a conductor is up and has not moved for 30 s.
        PassRefused: it refused, with its own code, words and next step.
        SterlingError: those of `run_once`.
    """
    while True:
        standing = who_is_up(home.path, home.clock.boot_id())
        if standing is None:
            return run_once(home, jobs, force=force, limit=limit, on_dispatch=on_dispatch)
        say(f"the conductor (pid {standing.pid}) carries it out")
        report = _ask(home, force, limit, overrides)
        if report is not None:
            return report
        say("the conductor ended meanwhile")


def read_asked(home: Home, after: int) -> Iterator[Asked]:
    """What was asked for behind this index."""
    for entry in home.ledger.read(kind="conductor.asked", after=after):
        payload = entry.payload
        yield Asked(
            payload["request"], payload["force"], payload["limit"], tuple(payload["settings"]), entry.index
        )


def is_waited_for(home: Home, asked: Asked) -> bool:
    """Whether the command that asked still lives and waits."""
    row = home.leases.read(_lease_of(asked.request))
    return row is not None and row.is_live(home.clock.boot_us(), home.clock.boot_id())


def answer(home: Home, asked: Asked, report: PassReport) -> None:
    """Say which pass it was."""
    given_up = [
        {"because": end.because, "job": job.key, "kind": job.kind, "pack": job.pack, "reason": end.reason}
        for job, end in report.given_up
    ]
    _write(home, asked, {"pass": report.id, "given_up": given_up})


def refuse(home: Home, asked: Asked, problem: SterlingError) -> None:
    """Say why there was no pass."""
    told = {"code": problem.code, "message": problem.message[:1000], "hint": problem.hint}
    _write(home, asked, told)


def _ask(home: Home, force: bool, limit: int | None, overrides: Sequence[str]) -> PassReport | None:
    request = random_id("ask")
    batch = Batch()
    payload = {"request": request, "force": force, "limit": limit, "settings": list(overrides)}
    batch.append("conductor.asked", payload, subject=_subject(request))
    lease = home.leases.acquire(_lease_of(request), ttl_s=_INTENT_S, batch=batch)
    beat = Heartbeat(home.leases, lease, home.clock)
    try:
        with beat:
            answered = _wait(home, request, beat)
    finally:
        home.leases.release(beat.lease)
    return None if answered is None else _report(home, answered)


def _wait(home: Home, request: str, beat: Heartbeat) -> StoredEntry | None:
    """The answer, or None when the conductor ended without one."""
    while True:
        standing = who_is_up(home.path, home.clock.boot_id())
        newest = home.ledger.newest(_subject(request))
        if newest is not None and newest.kind == "conductor.answered":
            return newest
        if standing is None:
            return None
        moved_us = standing.progress_us or standing.started_us
        if home.clock.boot_us() - moved_us > _SILENT_US:
            raise ConductorSilent(
                f"expected the conductor (pid {standing.pid}) to answer, found no sign of life for 30 s",
                pid=standing.pid,
            )
        beat.progress()
        time.sleep(_LOOK_S)


def _report(home: Home, answered: StoredEntry) -> PassReport:
    """The pass as its entries tell it. Errors: PassRefused."""
    told = answered.payload
    if told["code"]:
        raise PassRefused(f"{told['code']}: {told['message']}", hint=told["hint"], refused_with=told["code"])
    asked = next(home.ledger.read(kind="conductor.asked", subject=answered.subject))
    passes = home.ledger.read(kind="runtime.pass", after=asked.index)
    entry = next(entry for entry in passes if entry.payload["pass"] == told["pass"])
    payload, window = entry.payload, home.ledger.entry(entry.index + 1)
    assert window is not None and window.kind == "runtime.window", "a pass and its window are one batch"
    dispatches = [
        _dispatch(one.payload)
        for one in home.ledger.read(kind="runtime.dispatch", after=asked.index)
        if one.payload["pass"] == told["pass"]
    ]
    return PassReport(
        id=payload["pass"],
        mode=payload["mode"],
        reason=payload["reason"],
        heavy_allowed=payload["heavy_allowed"],
        is_forced=payload["forced"],
        dispatches=tuple(dispatches),
        given_up=tuple(
            (Job(one["job"], one["kind"], one["pack"]), JobEnd("given_up", one["reason"], one["because"]))
            for one in told["given_up"]
        ),
        counts=dict(payload["counts"]),
        left=payload["left"],
        window=window.payload,
    )


def _dispatch(payload: dict[str, Any]) -> Dispatch:
    fields = {name: value for name, value in payload.items() if name != "pass"}
    return Dispatch(run_pass=payload["pass"], **{**fields, "walls": tuple(payload["walls"])})


def _write(home: Home, asked: Asked, told: dict[str, Any]) -> None:
    batch = Batch()
    empty = {"pass": "", "code": "", "message": "", "hint": "", "given_up": []}
    batch.append(
        "conductor.answered", {"request": asked.request, **empty, **told}, subject=_subject(asked.request)
    )
    home.ledger.commit(batch)


def _subject(request: str) -> str:
    return f"ask/{request}"


def _lease_of(request: str) -> str:
    return f"intent/{request}"
