"""What a dead conductor left open: its leases in the budget window, and the jobs under them.

Each is charged up to the last charge and one interval, closed, and told as a
dispatch that yielded with `run.abandoned`, so the job is queued again and every
start has its end. Whoever calls this holds the lease `conductor`: then nobody
else can have a job under way.
"""

from __future__ import annotations

from collections.abc import Sequence

from sterling.kernel.batch import Batch, FenceHolds
from sterling.kernel.home import Home
from sterling.kernel.leases import Lease
from sterling.runtime import budgets
from sterling.runtime.budgets import Account, Position, Window
from sterling.runtime.dispatches import Dispatch, Job, JobSource
from sterling.runtime.reasons import Reason, sentence_of
from sterling.runtime.window_store import position_now, read_window, write_window

__all__ = ["close_left_open"]

_LOOKED_THROUGH = 10_000


def close_left_open(
    home: Home, jobs: Sequence[JobSource], limits: budgets.Limits, lease: Lease
) -> tuple[Window, Position, list[str]]:
    """(window, position, keys of the jobs that were under way). Nothing is written when nothing is open."""
    window, position = read_window(home.ledger, limits, home.clock)
    position = position_now(position, home.clock)
    if not window.leases:
        return window, position, []
    recovered, lost = budgets.recover(window, limits, position.position_us)
    known = {job.key: job for source in jobs for job in source.due(home, _LOOKED_THROUGH)}
    batch = Batch(closing=True)
    batch.require(FenceHolds(lease.name, lease.token))
    for one in lost:
        job = known.get(one.job) or Job(one.job, one.job.partition("/")[0], "unknown")
        dispatch = _abandoned(one, job, recovered, window.charged_us)
        batch.append("runtime.dispatch", dispatch.as_json(), subject=f"job/{one.job}")
    write_window(batch, recovered, limits, position)
    home.ledger.commit(batch)
    return recovered, position, [one.job for one in lost]


def _abandoned(lease: budgets.Lease, job: Job, window: Window, charged_us: int) -> Dispatch:
    origin = "forced" if lease.account is Account.QUERY else "drain"
    until_us = charged_us + budgets.HEARTBEAT_US
    return Dispatch(
        run_pass=lease.id.partition("/")[0],
        job=job.key,
        kind=job.kind,
        flow=f"{job.pack}/{origin}",
        origin=origin,
        weight=job.weight,
        end="yielded",
        reason=str(Reason.RUN_ABANDONED),
        because=f"{sentence_of(Reason.RUN_ABANDONED)} It is queued again.",
        mode="USER_QUERY" if lease.account is Account.QUERY else "IDLE_DRAIN",
        window=window.index,
        granted_ms=lease.granted_us // 1000,
        charged_ms=max(0, until_us - lease.started_us) // 1000,
        forced=True,
    )
