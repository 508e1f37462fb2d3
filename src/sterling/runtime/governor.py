"""The governor: may this job start now, and must this one stop.

`admit` answers the first question by the mode table and the admission cuts in
their order; `stop_verdict` the second by the stop table. Both take values and
give values: what they remember (reservations, the cause of a stop) travels in
the window that goes in and comes out.

A stop is counted from its cause: the sample in which a mode first forbade the
work, or the exact moment at which time ran out. A stop that was asked stands; one
that was not asked yet goes away with its cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sterling.runtime import budgets
from sterling.runtime.budgets import Account, Lease, Limits, Stop, Window
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.modes import Mode, ModeVerdict, choose_mode
from sterling.runtime.reasons import Reason
from sterling.runtime.signals import Signals

__all__ = [
    "ADMISSION_CUTS",
    "LIGHT_IN_ACTIVE",
    "STOP_TABLE",
    "Admission",
    "AdmissionCut",
    "Ask",
    "JobRequest",
    "Kill",
    "Origin",
    "StopKind",
    "StopRow",
    "StopVerdict",
    "Weight",
    "admit",
    "never_fits",
    "remember",
    "renew",
    "stop_verdict",
]

LIGHT_IN_ACTIVE: tuple[str, ...] = (
    "capture",
    "ingest-commit",
    "ledger-commit",
    "ledger-checkpoint",
    "answer",
    "hook",
    "gate",
    "status",
)
"""The closed list of work that runs in every mode."""


class Weight(StrEnum):
    """Whether a job needs a heavy mode."""

    LIGHT = "light"
    HEAVY = "heavy"


class Origin(StrEnum):
    """Who wants a job: the conductor, a person who forced it, or a person who waits for it."""

    DRAIN = "drain"
    FORCED = "forced"
    ATTENDED = "attended"


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a job asks for. 0 means: no estimate, no least slice, no declared memory.

    `kind` matters for light jobs (`LIGHT_IN_ACTIVE`). `whole` marks a job that cannot
    yield: its grants renew in place and it is frozen, not killed. `dispatch` names
    the lease; without it the job's own id does.
    """

    job: str
    kind: str = ""
    weight: Weight = Weight.HEAVY
    origin: Origin = Origin.DRAIN
    estimate_us: int = 0
    least_slice_us: int = 0
    memory_bytes: int = 0
    gpu: bool = False
    whole: bool = False
    dispatch: str = ""


@dataclass(frozen=True, slots=True)
class Admission:
    """Allowed with a grant, or refused with a reason; `because` names further causes."""

    admitted: bool
    reason: Reason
    mode: Mode
    row: int
    granted_us: int = 0
    lease: Lease | None = None
    because: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class _Question:
    """All that a cut may look at."""

    window: Window
    limits: Limits
    request: JobRequest
    signals: Signals
    settings: GovernorSettings
    account: Account

    @property
    def running(self) -> tuple[Lease, ...]:
        return self.window.leases


@dataclass(frozen=True, slots=True)
class AdmissionCut:
    """One cut: where it applies and what it asks, in words and as a function."""

    reason: Reason
    modes: tuple[Mode, ...]
    condition: str
    cuts: Callable[[_Question], bool]


_BOTH = (Mode.IDLE, Mode.QUERY)


def _grant(question: _Question) -> int:
    return budgets.grant_of(question.window, question.limits, question.account, question.request.estimate_us)


def _jobs_left(question: _Question) -> int:
    if question.account is Account.QUERY:
        return budgets.query_jobs_left(question.window, question.limits)
    return budgets.idle_jobs_left(question.window, question.limits)


def _memory_over(question: _Question) -> bool:
    limit = question.settings.memory_tree_bytes
    declared = sum(lease.memory_bytes for lease in question.running) + question.request.memory_bytes
    return limit > 0 and declared > limit


ADMISSION_CUTS: tuple[AdmissionCut, ...] = (
    AdmissionCut(
        Reason.BUDGET_EXHAUSTED,
        _BOTH,
        "query remaining <= 0",
        lambda question: budgets.query_remaining(question.window) <= 0,
    ),
    AdmissionCut(
        Reason.BUDGET_RESERVED,
        (Mode.IDLE,),
        "idle remaining <= 0",
        lambda question: budgets.idle_remaining(question.window, question.limits) <= 0,
    ),
    AdmissionCut(
        Reason.BUDGET_JOBS_EXHAUSTED,
        _BOTH,
        "no job slot left",
        lambda question: _jobs_left(question) <= 0,
    ),
    AdmissionCut(
        Reason.BUDGET_CONCURRENCY,
        _BOTH,
        "jobs in flight >= workers_max",
        lambda question: question.window.in_flight >= question.limits.in_flight_max,
    ),
    AdmissionCut(
        Reason.MEMORY_TOKENS,
        _BOTH,
        "declared memory of running jobs + this > tree limit",
        _memory_over,
    ),
    AdmissionCut(
        Reason.SIGNAL_GPU_MISSING,
        _BOTH,
        "needs the GPU and gpu_busy_bp is not fresh",
        lambda question: question.request.gpu and question.signals.gpu_busy_bp is None,
    ),
    AdmissionCut(
        Reason.GPU_SLOT,
        _BOTH,
        "needs the GPU and another job holds it",
        lambda question: question.request.gpu and any(lease.gpu for lease in question.running),
    ),
    AdmissionCut(
        Reason.BUDGET_TOO_SMALL_NOW,
        _BOTH,
        "grant < least slice, or grant = 0",
        lambda question: _grant(question) < max(1, question.request.least_slice_us),
    ),
)


class Ask(StrEnum):
    """When a job is asked to stop."""

    NEVER = "never"
    AT_ONCE = "cause"
    AFTER_GRACE = "cause + min(grace, deadline)"


class Kill(StrEnum):
    """When a job that did not stop is ended (a whole job is frozen instead)."""

    NEVER = "never"
    AT_DEADLINE = "cause + deadline"


@dataclass(frozen=True, slots=True)
class StopRow:
    """What these causes mean in these modes: a new heavy lease, asking, killing."""

    modes: tuple[Mode, ...]
    causes: tuple[Reason, ...]
    lease: bool
    ask: Ask
    kill: Kill


STOP_TABLE: tuple[StopRow, ...] = (
    StopRow(
        (Mode.ACTIVE,),
        (
            Reason.MODE_USER_ACTIVE,
            Reason.MODE_IDLE_THRESHOLD,
            Reason.MODE_CPU_PRESSURE,
            Reason.MODE_RAM_PRESSURE,
            Reason.MODE_ON_BATTERY,
            Reason.MODE_POWER_LOW,
        ),
        False,
        Ask.AFTER_GRACE,
        Kill.AT_DEADLINE,
    ),
    StopRow((Mode.ACTIVE,), (Reason.MODE_FULLSCREEN,), False, Ask.AT_ONCE, Kill.AT_DEADLINE),
    StopRow(
        (Mode.ACTIVE, Mode.IDLE, Mode.QUERY),
        (Reason.SWITCH_UNREADABLE,),
        False,
        Ask.AFTER_GRACE,
        Kill.AT_DEADLINE,
    ),
    StopRow(
        _BOTH,
        (Reason.MODE_IDLE_WINDOW, Reason.MODE_ACTIVE_ALLOWED, Reason.MODE_QUERY_INTENT),
        True,
        Ask.NEVER,
        Kill.NEVER,
    ),
    StopRow(
        _BOTH,
        (Reason.BUDGET_EXHAUSTED, Reason.BUDGET_GRANT_USED),
        False,
        Ask.AFTER_GRACE,
        Kill.AT_DEADLINE,
    ),
    StopRow((Mode.IDLE,), (Reason.BUDGET_RESERVED,), False, Ask.AFTER_GRACE, Kill.AT_DEADLINE),
    StopRow(
        _BOTH,
        (
            Reason.BUDGET_JOBS_EXHAUSTED,
            Reason.BUDGET_CONCURRENCY,
            Reason.MEMORY_TOKENS,
            Reason.SIGNAL_GPU_MISSING,
            Reason.GPU_SLOT,
            Reason.BUDGET_TOO_SMALL_NOW,
        ),
        False,
        Ask.NEVER,
        Kill.NEVER,
    ),
)


_FORBIDDING = frozenset(cause for row in STOP_TABLE if Mode.ACTIVE in row.modes for cause in row.causes)


class StopKind(StrEnum):
    """What the supervisor has to do now."""

    NONE = "none"
    ASK = "ask"
    KILL = "kill"
    FREEZE = "freeze"


@dataclass(frozen=True, slots=True)
class StopVerdict:
    """What to do now about one lease. With a cause, `stop` says when asking and killing are due."""

    kind: StopKind
    stop: Stop | None = None

    @property
    def reason(self) -> Reason | None:
        """The cause, if there is one."""
        return None if self.stop is None else self.stop.reason


def admit(
    window: Window,
    request: JobRequest,
    signals: Signals,
    settings: GovernorSettings,
    now_us: int,
    cuts: Sequence[AdmissionCut] = ADMISSION_CUTS,
) -> tuple[Admission, Window]:
    """Whether this job may start now, and the window with its lease.

    `now_us` is the home's position (`budgets.carry`). Attended work is always
    granted; light work needs a heavy mode or a place in `LIGHT_IN_ACTIVE`; heavy
    work needs a heavy mode and passes every cut in order.
    """
    limits = budgets.limits_of(settings)
    current, _ = budgets.advance(window, limits, now_us)
    current = budgets.charge(current, limits, now_us)
    verdict = choose_mode(signals, settings)
    if request.origin is Origin.ATTENDED:
        lease = _lease(request, Account.ATTENDED, 0, now_us)
        seen = Admission(True, Reason.MODE_ATTENDED, verdict.mode, verdict.row, 0, lease)
        return seen, budgets.reserve(current, limits, lease)
    if request.weight is Weight.LIGHT:
        allowed = verdict.is_heavy or request.kind in LIGHT_IN_ACTIVE
        return _answer(allowed, verdict), current
    refused = _refuse_mode(request, verdict, settings)
    if refused is not None:
        return refused, current
    account = Account.QUERY if verdict.mode is Mode.QUERY else Account.IDLE
    question = _Question(current, limits, request, signals, settings, account)
    for cut in cuts:
        if verdict.mode in cut.modes and cut.cuts(question):
            return Admission(False, cut.reason, verdict.mode, verdict.row), current
    lease = _lease(request, account, _grant(question), now_us)
    given = Admission(True, verdict.reason, verdict.mode, verdict.row, lease.granted_us, lease)
    return given, budgets.reserve(current, limits, lease)


def never_fits(request: JobRequest, settings: GovernorSettings) -> Reason | None:
    """`budget.never-fits` if no window could ever grant the job its least slice."""
    limits = budgets.limits_of(settings)
    if request.whole or request.origin is Origin.ATTENDED:
        return None
    if request.least_slice_us > min(limits.budget_us, limits.job_us_max):
        return Reason.BUDGET_NEVER_FITS
    return None


def stop_verdict(
    window: Window,
    lease: Lease,
    signals: Signals,
    settings: GovernorSettings,
    now_us: int,
    table: Sequence[StopRow] = STOP_TABLE,
) -> StopVerdict:
    """What to do now about an open lease; `remember` keeps the answer for the next question.

    The signals are those of now, never those of the pass's start. A cause that lies in
    the mode counts from the first `now_us` at which it was seen here.
    """
    if lease.account is Account.ATTENDED or lease.frozen:
        return StopVerdict(StopKind.NONE)
    limits = budgets.limits_of(settings)
    live = budgets.charge(budgets.advance(window, limits, now_us)[0], limits, now_us)
    mode = choose_mode(signals, settings)
    stops = [
        stop
        for reason, cause_us in _causes(live, lease, settings, mode, now_us)
        if (stop := _stop(reason, cause_us, mode.mode, settings, table)) is not None
    ]
    held = lease.stop
    if held is not None and (held.asked or _goes_on(held, stops)):
        stops.insert(0, held)
    if not stops:
        return StopVerdict(StopKind.NONE)
    first = min(stops, key=lambda stop: stop.ask_us)
    stop = replace(
        first,
        cause_us=min(stop.cause_us for stop in stops),
        kill_us=min(stop.kill_us for stop in stops),
        asked=held is not None and held.asked,
    )
    return _due(stop, lease, now_us)


def remember(window: Window, lease_id: str, verdict: StopVerdict) -> Window:
    """The window in which the lease knows its stop, so that its cause keeps its moment."""
    stop = verdict.stop
    if stop is not None and verdict.kind is not StopKind.NONE:
        stop = replace(stop, asked=True)
    return budgets.with_lease(window, lease_id, stop=stop)


def renew(
    window: Window, lease_id: str, signals: Signals, settings: GovernorSettings, now_us: int
) -> tuple[Admission, Window]:
    """The next grant of a whole job, in place: it keeps its slot; a frozen one needs a free one."""
    limits = budgets.limits_of(settings)
    current, _ = budgets.advance(window, limits, now_us)
    current = budgets.charge(current, limits, now_us)
    lease = current.lease(lease_id)
    assert lease is not None and lease.whole, f"{lease_id} is no open lease of a whole job"
    others = replace(current, leases=tuple(other for other in current.leases if other.id != lease_id))
    request = JobRequest(
        lease.job, memory_bytes=lease.memory_bytes, gpu=lease.gpu, whole=True, dispatch=lease_id
    )
    kept = Reason.BUDGET_JOBS_EXHAUSTED if lease.frozen else Reason.BUDGET_CONCURRENCY
    cuts = [cut for cut in ADMISSION_CUTS if cut.reason not in (Reason.BUDGET_JOBS_EXHAUSTED, kept)]
    answer, _ = admit(others, request, signals, settings, now_us, cuts)
    if not answer.admitted:
        return answer, current
    return answer, budgets.refill(current, limits, lease_id, answer.granted_us, now_us)


def _refuse_mode(request: JobRequest, verdict: ModeVerdict, settings: GovernorSettings) -> Admission | None:
    if not settings.readable:
        return Admission(False, Reason.SWITCH_UNREADABLE, verdict.mode, verdict.row)
    if verdict.is_heavy:
        return None
    refused = _answer(False, verdict)
    if request.origin is Origin.FORCED and not settings.user_query_heavy:
        return replace(refused, because=(*refused.because, Reason.SWITCH_OFF))
    return refused


def _answer(admitted: bool, verdict: ModeVerdict) -> Admission:
    because = () if admitted else verdict.because
    return Admission(admitted, verdict.reason, verdict.mode, verdict.row, because=because)


def _lease(request: JobRequest, account: Account, granted_us: int, now_us: int) -> Lease:
    return Lease(
        id=request.dispatch or request.job,
        job=request.job,
        account=account,
        granted_us=granted_us,
        started_us=now_us,
        reserved_us=granted_us,
        memory_bytes=request.memory_bytes,
        gpu=request.gpu,
        whole=request.whole,
    )


def _causes(
    window: Window, lease: Lease, settings: GovernorSettings, mode: ModeVerdict, now_us: int
) -> list[tuple[Reason, int]]:
    """Every cause that holds now with its moment; on a tie the first one names the stop."""
    causes: list[tuple[Reason, int]] = []
    if not settings.readable:
        causes.append((Reason.SWITCH_UNREADABLE, now_us))
    if not mode.is_heavy:
        causes.append((mode.reason, now_us))
    if window.exhausted_us is not None:
        causes.append((Reason.BUDGET_EXHAUSTED, window.exhausted_us))
    if window.reserved_reached_us is not None and lease.account is Account.IDLE:
        causes.append((Reason.BUDGET_RESERVED, window.reserved_reached_us))
    if window.charged_us >= lease.started_us + lease.granted_us:
        causes.append((Reason.BUDGET_GRANT_USED, lease.started_us + lease.granted_us))
    return causes


def _stop(
    reason: Reason, cause_us: int, mode: Mode, settings: GovernorSettings, table: Sequence[StopRow]
) -> Stop | None:
    """The stop that the table gives this cause in this mode, if any."""
    row = next((row for row in table if mode in row.modes and reason in row.causes), None)
    if row is None or row.ask is Ask.NEVER:
        return None
    deadline_us = settings.suspend_deadline_ms * 1000
    wait_us = 0 if row.ask is Ask.AT_ONCE else min(settings.grace_ms * 1000, deadline_us)
    assert row.kill is Kill.AT_DEADLINE, "a job that is asked to stop has a deadline"
    return Stop(reason, cause_us, cause_us + wait_us, cause_us + deadline_us)


def _goes_on(held: Stop, stops: Sequence[Stop]) -> bool:
    """Whether the work is still forbidden by the mode or the switch, even if by another row of it."""
    return held.reason in _FORBIDDING and any(stop.reason in _FORBIDDING for stop in stops)


def _due(stop: Stop, lease: Lease, now_us: int) -> StopVerdict:
    if now_us >= stop.kill_us:
        # Freezing gives no memory back, so memory pressure ends a whole job as well.
        keeps = lease.whole and stop.reason is not Reason.MODE_RAM_PRESSURE
        return StopVerdict(StopKind.FREEZE if keeps else StopKind.KILL, stop)
    return StopVerdict(StopKind.ASK if stop.asked or now_us >= stop.ask_us else StopKind.NONE, stop)
