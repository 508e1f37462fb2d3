"""The budget window: what heavy work may spend, has spent, has reserved and owes.

One tumbling window serves all modes. Its index is the steady position of the
home divided by the window's length; the position (`carry`) follows the steady
clock inside a boot and the wall clock across boots, and never moves back, so
neither a clock step nor a restart refills a budget.

Every operation takes a window and gives a new one. `charge` charges all open
leases at once, so no two of them can spend the same microsecond unseen, and it
notes the exact moment at which the budget, or the part open to idle work, ran out.
Nothing here decides whether a job may start: `governor.py` does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.reasons import Reason

__all__ = [
    "BUDGET_RULES",
    "HEARTBEAT_US",
    "POLL_US",
    "WINDOW_SUBJECT",
    "Account",
    "BudgetRule",
    "Lease",
    "Limits",
    "Position",
    "Stop",
    "Window",
    "advance",
    "carry",
    "charge",
    "close",
    "first_window",
    "freeze",
    "grant_of",
    "idle_jobs_left",
    "idle_remaining",
    "limits_of",
    "position_from_document",
    "query_jobs_left",
    "query_remaining",
    "recover",
    "refill",
    "reserve",
    "window_document",
    "window_from_document",
    "with_lease",
]

HEARTBEAT_US = 1_000_000  # Charges are written at least this often.
POLL_US = 250_000  # Signals are read this often.
WINDOW_SUBJECT = "runtime.window"  # Entries of this subject hold the window; the newest one applies.
_FULL_BP = 10_000


class Account(StrEnum):
    """Whose share a lease spends, fixed when it is given."""

    IDLE = "idle"
    QUERY = "query"
    ATTENDED = "attended"


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """One rule of the budget in words; the documentation holds the same table, under test."""

    name: str
    exact: str


BUDGET_RULES: tuple[BudgetRule, ...] = (
    BudgetRule("window", "index = floor(position / window_ms); never moves back"),
    BudgetRule("position", "steady clock within a boot, wall clock across boots, never back"),
    BudgetRule("reserve", "a grant is reserved when given; its unspent part returns when the lease closes"),
    BudgetRule("charge", "steady elapsed time of every open lease, at least every 1000 ms and at close"),
    BudgetRule("query remaining", "budget - debt - spent - reserved"),
    BudgetRule(
        "idle remaining",
        "query remaining - max(0, query_floor_bp x budget - spent by query); job slots likewise",
    ),
    BudgetRule("grant", "min(remaining, job_ms_max, estimate), each only if > 0"),
    BudgetRule("job slot", "one for each lease; an unused lease gives it back"),
    BudgetRule("debt", "spend over the budget is taken from the next windows until paid"),
    BudgetRule("debt bound", "workers_max x (suspend_deadline_ms + 250 ms)"),
    BudgetRule("restart", "open leases are charged up to the last charge + 1000 ms, then closed"),
    BudgetRule("attended", "charged to its own account, never against the budget"),
    BudgetRule("never fits", "least slice > min(budget, job_ms_max): failed when queued"),
    BudgetRule("too small now", "least slice > grant: not admitted, first in the next window"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the settings allow in one window, in microseconds."""

    window_us: int
    budget_us: int
    job_us_max: int
    jobs_max: int
    in_flight_max: int
    query_floor_bp: int
    debt_us_max: int

    @property
    def floor_us(self) -> int:
        """The part of the budget that idle work leaves to questions."""
        return self.budget_us * self.query_floor_bp // _FULL_BP

    @property
    def floor_jobs(self) -> int:
        """The job slots that idle work leaves to questions: at least one of two or more."""
        if self.jobs_max <= 1 or self.query_floor_bp == 0:
            return 0
        return max(1, self.jobs_max * self.query_floor_bp // _FULL_BP)


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a lease has to end: the cause, its moment, and when to ask and to kill.

    `asked` says that the job was told; then the stop stands even if its cause goes away.
    """

    reason: Reason
    cause_us: int
    ask_us: int
    kill_us: int
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one dispatch to spend `granted_us` from `started_us` on."""

    id: str
    job: str
    account: Account
    granted_us: int
    started_us: int
    reserved_us: int
    memory_bytes: int = 0
    gpu: bool = False
    whole: bool = False
    frozen: bool = False
    stop: Stop | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """One window's books. `charged_us` is the position up to which all leases are charged."""

    index: int
    window_us: int
    budget_us: int
    charged_us: int
    debt_us: int = 0
    spent_us: int = 0
    spent_query_us: int = 0
    attended_us: int = 0
    jobs: int = 0
    jobs_query: int = 0
    leases: tuple[Lease, ...] = ()
    exhausted_us: int | None = None
    reserved_reached_us: int | None = None

    @property
    def reserved_us(self) -> int:
        """Granted and not yet spent."""
        return sum(lease.reserved_us for lease in self.leases)

    @property
    def remaining_us(self) -> int:
        """What nobody has spent, reserved or owes; below zero after an overrun."""
        return self.budget_us - self.debt_us - self.spent_us - self.reserved_us

    @property
    def in_flight(self) -> int:
        """Leases whose jobs run."""
        return sum(1 for lease in self.leases if not lease.frozen)

    def lease(self, lease_id: str) -> Lease | None:
        """The open lease of this id."""
        for lease in self.leases:
            if lease.id == lease_id:
                return lease
        return None


@dataclass(frozen=True, slots=True)
class Position:
    """Where the home's steady time stands, and the clocks it was taken from."""

    boot_id: str
    boot_us: int
    wall_us: int
    position_us: int


def limits_of(settings: GovernorSettings) -> Limits:
    """The settings as limits of one window."""
    return Limits(
        window_us=settings.window_ms * 1000,
        budget_us=settings.budget_us,
        job_us_max=settings.job_ms_max * 1000,
        jobs_max=settings.jobs_max,
        in_flight_max=settings.workers,
        query_floor_bp=settings.query_floor_bp,
        debt_us_max=settings.workers * (settings.suspend_deadline_ms * 1000 + POLL_US),
    )


def carry(previous: Position | None, *, boot_id: str, boot_us: int, wall_us: int) -> Position:
    """The position now: it never moves back, and a wall-clock step inside a boot does nothing."""
    if previous is None:
        return Position(boot_id, boot_us, wall_us, boot_us)
    if previous.boot_id == boot_id:
        gone_us = boot_us - previous.boot_us
    else:
        gone_us = wall_us - previous.wall_us
    return Position(boot_id, boot_us, wall_us, previous.position_us + max(0, gone_us))


def first_window(limits: Limits, now_us: int) -> Window:
    """An empty window at this position."""
    return Window(
        index=now_us // limits.window_us,
        window_us=limits.window_us,
        budget_us=limits.budget_us,
        charged_us=now_us,
    )


def query_remaining(window: Window) -> int:
    """What a question may still be granted."""
    return window.remaining_us


def idle_remaining(window: Window, limits: Limits) -> int:
    """What idle work may still be granted: the query floor is left alone."""
    return window.remaining_us - max(0, limits.floor_us - window.spent_query_us)


def query_jobs_left(window: Window, limits: Limits) -> int:
    """Job slots that a question may still take."""
    return limits.jobs_max - window.jobs


def idle_jobs_left(window: Window, limits: Limits) -> int:
    """Job slots that idle work may still take."""
    return limits.jobs_max - window.jobs - max(0, limits.floor_jobs - window.jobs_query)


def grant_of(window: Window, limits: Limits, account: Account, estimate_us: int) -> int:
    """The longest grant this account may have now, 0 if none."""
    left = query_remaining(window) if account is Account.QUERY else idle_remaining(window, limits)
    bounds = [bound for bound in (limits.job_us_max, estimate_us) if bound > 0]
    return max(0, min([left, *bounds]))


def advance(window: Window, limits: Limits, now_us: int) -> tuple[Window, tuple[Window, ...]]:
    """The window of this position under these limits, and those that closed on the way.

    Open leases are charged in every window they crossed and keep what they have
    reserved. A position before the window's start changes nothing.
    """
    closed: list[Window] = []
    target = now_us // limits.window_us
    current = _under(window, limits)
    while current.index < target:
        start_us = (current.index + 1) * limits.window_us
        ended = charge(current, limits, start_us)
        closed.append(ended)
        current = _next(ended, limits, start_us)
        if not current.leases and not current.debt_us and current.index < target:
            current = replace(current, index=target, charged_us=target * limits.window_us)
    return current, tuple(closed)


def charge(window: Window, limits: Limits, now_us: int) -> Window:
    """Charge every open lease up to this position, which lies in the window (or at its end)."""
    elapsed = now_us - window.charged_us
    if elapsed <= 0:
        return window
    running = [lease for lease in window.leases if not lease.frozen]
    idle = sum(1 for lease in running if lease.account is Account.IDLE)
    query = sum(1 for lease in running if lease.account is Account.QUERY)
    attended = len(running) - idle - query
    return replace(
        window,
        charged_us=now_us,
        spent_us=window.spent_us + (idle + query) * elapsed,
        spent_query_us=window.spent_query_us + query * elapsed,
        attended_us=window.attended_us + attended * elapsed,
        leases=tuple(_spend(lease, elapsed) for lease in window.leases),
        exhausted_us=_crossing(window.exhausted_us, window, elapsed, _exhaustion(window, idle + query)),
        reserved_reached_us=_crossing(
            window.reserved_reached_us, window, elapsed, _floor_reached(window, limits, idle, query)
        ),
    )


def reserve(window: Window, limits: Limits, lease: Lease) -> Window:
    """Open a lease that starts at its `started_us`: its grant is reserved and takes a job slot."""
    assert window.lease(lease.id) is None, f"lease {lease.id} is open already"
    charged = charge(window, limits, lease.started_us)
    counted = lease.account is not Account.ATTENDED
    return replace(
        charged,
        jobs=charged.jobs + (1 if counted else 0),
        jobs_query=charged.jobs_query + (1 if lease.account is Account.QUERY else 0),
        leases=(*charged.leases, lease),
    )


def close(window: Window, limits: Limits, lease_id: str, now_us: int, *, used: bool = True) -> Window:
    """End a lease: charge it, return what it did not spend, and its slot if it was never used.

    Closing a lease that is not open changes nothing, so a repeated close is safe.
    """
    lease = window.lease(lease_id)
    if lease is None:
        return window
    charged = charge(window, limits, now_us)
    slot = 0 if used or lease.account is Account.ATTENDED else 1
    return replace(
        charged,
        leases=tuple(other for other in charged.leases if other.id != lease_id),
        jobs=max(0, charged.jobs - slot),
        jobs_query=max(0, charged.jobs_query - (slot if lease.account is Account.QUERY else 0)),
    )


def recover(window: Window, limits: Limits, now_us: int) -> tuple[Window, tuple[Lease, ...]]:
    """After a crash: charge what was open up to the last charge and one interval, and close it."""
    lost = window.leases
    until_us = min(max(now_us, window.charged_us), window.charged_us + HEARTBEAT_US)
    current, _ = advance(window, limits, until_us)
    current = replace(charge(current, limits, until_us), leases=())
    return advance(current, limits, now_us)[0], lost


def freeze(window: Window, limits: Limits, lease_id: str, now_us: int) -> Window:
    """Stop the clock of a whole job: it is charged no more and gives back what it reserved."""
    charged = charge(window, limits, now_us)
    return with_lease(charged, lease_id, frozen=True, reserved_us=0)


def refill(window: Window, limits: Limits, lease_id: str, granted_us: int, now_us: int) -> Window:
    """Give a whole job its next grant in place; thaws it, and forgets the stop of the last grant."""
    charged = charge(window, limits, now_us)
    return with_lease(
        charged,
        lease_id,
        frozen=False,
        stop=None,
        granted_us=granted_us,
        reserved_us=granted_us,
        started_us=now_us,
    )


def with_lease(window: Window, lease_id: str, **changes: Any) -> Window:
    """The window with one of its leases changed."""
    return replace(
        window,
        leases=tuple(replace(lease, **changes) if lease.id == lease_id else lease for lease in window.leases),
    )


def window_document(window: Window, limits: Limits, position: Position | None = None) -> dict[str, Any]:
    """The `runtime.window` document: the books, what they leave, the open leases, and the position.

    With its position a restart goes on where this window stood.
    """
    return {
        "index": window.index,
        "window_us": window.window_us,
        "budget_us": window.budget_us,
        "charged_us": window.charged_us,
        "debt_us": window.debt_us,
        "spent_us": window.spent_us,
        "spent_query_us": window.spent_query_us,
        "attended_us": window.attended_us,
        "reserved_us": window.reserved_us,
        "remaining_us": window.remaining_us,
        "idle_remaining_us": idle_remaining(window, limits),
        "jobs": window.jobs,
        "jobs_query": window.jobs_query,
        "jobs_left": query_jobs_left(window, limits),
        "in_flight": window.in_flight,
        "in_flight_max": limits.in_flight_max,
        "exhausted_us": window.exhausted_us,
        "reserved_reached_us": window.reserved_reached_us,
        "leases": [_lease_document(lease) for lease in window.leases],
        "position": None if position is None else asdict(position),
    }


def window_from_document(document: dict[str, Any]) -> Window:
    """The window that `window_document` wrote, so that a restart goes on with the same books."""
    books = (
        "index window_us budget_us charged_us debt_us spent_us spent_query_us attended_us jobs jobs_query "
        "exhausted_us reserved_reached_us"
    )
    return Window(
        **{name: document[name] for name in books.split()},
        leases=tuple(_lease_from(row) for row in document["leases"]),
    )


def position_from_document(document: dict[str, Any]) -> Position | None:
    """The position that stands in a `runtime.window` document, if any."""
    position = document["position"]
    return None if position is None else Position(**position)


def _lease_document(lease: Lease) -> dict[str, Any]:
    stop = lease.stop
    return {
        "id": lease.id,
        "job": lease.job,
        "account": str(lease.account),
        "granted_us": lease.granted_us,
        "started_us": lease.started_us,
        "reserved_us": lease.reserved_us,
        "memory_bytes": lease.memory_bytes,
        "gpu": lease.gpu,
        "whole": lease.whole,
        "frozen": lease.frozen,
        "stop": None
        if stop is None
        else {
            "reason": str(stop.reason),
            "cause_us": stop.cause_us,
            "ask_us": stop.ask_us,
            "kill_us": stop.kill_us,
            "asked": stop.asked,
        },
    }


def _lease_from(row: dict[str, Any]) -> Lease:
    stop = row["stop"]
    plain = {name: value for name, value in row.items() if name not in ("account", "stop")}
    return Lease(
        **plain,
        account=Account(row["account"]),
        stop=None if stop is None else Stop(**{**stop, "reason": Reason(stop["reason"])}),
    )


def _under(window: Window, limits: Limits) -> Window:
    """The window under limits that may have changed; its spend stays, so a reload refills nothing."""
    current = window
    if window.window_us != limits.window_us:
        index = window.charged_us // limits.window_us
        current = replace(window, index=index, window_us=limits.window_us)
    if window.budget_us == limits.budget_us:
        return current
    return _noted(replace(current, budget_us=limits.budget_us), limits)


def _next(ended: Window, limits: Limits, start_us: int) -> Window:
    owed = max(0, ended.debt_us + ended.spent_us - ended.budget_us)
    fresh = Window(
        index=ended.index + 1,
        window_us=limits.window_us,
        budget_us=limits.budget_us,
        charged_us=start_us,
        debt_us=min(owed, limits.debt_us_max),
        leases=ended.leases,
    )
    return _noted(fresh, limits)


def _noted(window: Window, limits: Limits) -> Window:
    """The window, saying whether its budget is gone already at this moment."""
    now_us = window.charged_us
    return replace(
        window,
        exhausted_us=now_us if _exhaustion(window, 0) == 0 else None,
        reserved_reached_us=now_us if _floor_reached(window, limits, 0, 0) == 0 else None,
    )


def _spend(lease: Lease, elapsed_us: int) -> Lease:
    if lease.frozen or not lease.reserved_us:
        return lease
    return replace(lease, reserved_us=max(0, lease.reserved_us - elapsed_us))


def _crossing(known_us: int | None, window: Window, elapsed_us: int, after_us: int | None) -> int | None:
    if known_us is not None or after_us is None or after_us > elapsed_us:
        return known_us
    return window.charged_us + after_us


def _exhaustion(window: Window, rate: int) -> int | None:
    """Microseconds from the last charge until the budget is spent by `rate` leases; None if never."""
    return _until(window.budget_us - window.debt_us - window.spent_us, rate)


def _floor_reached(window: Window, limits: Limits, idle: int, query: int) -> int | None:
    """Microseconds until idle work would spend the query floor; None if never.

    While questions have not used their floor, only idle leases bring the moment
    nearer; after that, both do.
    """
    floor_left = max(0, limits.floor_us - window.spent_query_us)
    left = window.budget_us - window.debt_us - window.spent_us
    early = _until(left - floor_left, idle)
    if early is not None and query * early <= floor_left:
        return early
    return _until(left, idle + query)


def _until(amount_us: int, rate: int) -> int | None:
    if amount_us <= 0:
        return 0
    return None if rate == 0 else -(-amount_us // rate)
