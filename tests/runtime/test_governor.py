"""Admission in its order, stops at their exact microsecond, and mutants of both tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from sterling.runtime import budgets, governor
from sterling.runtime.budgets import Account, Lease, Window
from sterling.runtime.governor import (
    ADMISSION_CUTS,
    LIGHT_IN_ACTIVE,
    STOP_TABLE,
    AdmissionCut,
    Ask,
    JobRequest,
    Kill,
    Origin,
    StopKind,
    StopRow,
    Weight,
    admit,
    never_fits,
    remember,
    renew,
    stop_verdict,
)
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.modes import Mode
from sterling.runtime.reasons import Reason
from sterling.runtime.signals import Signals

IDLE = Signals(0, 60_000, False, False, 0, 1_000, None, None, False, 10_000)
ACTIVE = replace(IDLE, active=True, idle_ms=0)
QUERY = replace(ACTIVE, query_intent=True)
SCREEN = replace(IDLE, fullscreen=True)
SETTINGS = GovernorSettings(cores=4, memory_tree_bytes=1_000)
LIMITS = budgets.limits_of(SETTINGS)
EMPTY = budgets.first_window(LIMITS, 0)
SECOND = 1_000_000


def _admit(
    window: Window,
    request: JobRequest,
    signals: Signals = IDLE,
    settings: GovernorSettings = SETTINGS,
    now: int = 0,
) -> tuple[governor.Admission, Window]:
    return admit(window, request, signals, settings, now)


# Admission


def test_an_idle_machine_gives_a_drain_its_grant_and_reserves_it() -> None:
    admission, window = _admit(EMPTY, JobRequest("a", estimate_us=5 * SECOND))

    assert admission.admitted and admission.reason is Reason.MODE_IDLE_WINDOW
    assert admission.granted_us == window.reserved_us == 5 * SECOND
    assert (window.jobs, window.in_flight) == (1, 1)


def test_an_active_machine_refuses_with_the_reason_of_the_mode() -> None:
    admission, window = _admit(EMPTY, JobRequest("a"), ACTIVE)

    assert not admission.admitted and admission.reason is Reason.MODE_USER_ACTIVE
    assert window == EMPTY


def test_a_forced_job_is_admitted_beside_an_active_person_while_the_switch_is_on() -> None:
    forced = JobRequest("a", origin=Origin.FORCED)

    assert _admit(EMPTY, forced, QUERY)[0].reason is Reason.MODE_QUERY_INTENT
    off = replace(SETTINGS, user_query_heavy=False)
    refused = _admit(EMPTY, forced, QUERY, off)[0]
    assert (refused.reason, refused.because) == (Reason.MODE_USER_ACTIVE, (Reason.SWITCH_OFF,))


def test_nothing_heavy_starts_while_the_settings_cannot_be_read() -> None:
    unreadable = GovernorSettings.unreadable()

    for signals in (IDLE, QUERY, ACTIVE):
        refused, window = _admit(EMPTY, JobRequest("a"), signals, unreadable)
        assert refused.reason is Reason.SWITCH_UNREADABLE and not window.leases
    light = JobRequest("b", kind="capture", weight=Weight.LIGHT)
    assert _admit(EMPTY, light, ACTIVE, unreadable)[0].admitted


@pytest.mark.parametrize("kind", LIGHT_IN_ACTIVE)
def test_the_closed_list_of_light_work_runs_in_every_mode(kind: str) -> None:
    light = JobRequest("a", kind=kind, weight=Weight.LIGHT)

    for signals in (ACTIVE, SCREEN, IDLE, QUERY):
        admission, window = _admit(EMPTY, light, signals)
        assert admission.admitted and admission.granted_us == 0 and not window.leases


def test_other_light_work_waits_for_a_heavy_mode() -> None:
    light = JobRequest("a", kind="reindex", weight=Weight.LIGHT)

    assert not _admit(EMPTY, light, ACTIVE)[0].admitted
    assert _admit(EMPTY, light, IDLE)[0].admitted


def _spent(amount_us: int, account: Account = Account.IDLE) -> Window:
    lease = Lease("old", "old", account, amount_us, 0, amount_us)
    window = budgets.close(budgets.reserve(EMPTY, LIMITS, lease), LIMITS, "old", 0)
    query = amount_us if account is Account.QUERY else 0
    return replace(window, spent_us=amount_us, spent_query_us=query)


def _running(count: int, **fields: object) -> Window:
    leases = tuple(
        replace(Lease(f"r{n}", f"r{n}", Account.IDLE, SECOND, 0, SECOND), **fields) for n in range(count)
    )
    return replace(EMPTY, leases=leases, jobs=count)


GPU_READY = replace(IDLE, gpu_busy_bp=0)
BUDGET = LIMITS.budget_us

# Each cut alone, and on the way there everything before it is not cut.
CUTS: list[tuple[Reason, Window, JobRequest, Signals]] = [
    (Reason.BUDGET_EXHAUSTED, _spent(BUDGET), JobRequest("a"), IDLE),
    (Reason.BUDGET_EXHAUSTED, _spent(BUDGET), JobRequest("a"), QUERY),
    (Reason.BUDGET_RESERVED, _spent(BUDGET * 3 // 4), JobRequest("a"), IDLE),
    (Reason.BUDGET_JOBS_EXHAUSTED, replace(EMPTY, jobs=192), JobRequest("a"), IDLE),
    (Reason.BUDGET_JOBS_EXHAUSTED, replace(EMPTY, jobs=256), JobRequest("a"), QUERY),
    (Reason.BUDGET_CONCURRENCY, _running(2), JobRequest("a"), IDLE),
    (Reason.BUDGET_CONCURRENCY, _running(2), JobRequest("a"), QUERY),
    (Reason.MEMORY_TOKENS, _running(1, memory_bytes=600), JobRequest("a", memory_bytes=401), IDLE),
    (Reason.SIGNAL_GPU_MISSING, EMPTY, JobRequest("a", gpu=True), IDLE),
    (Reason.GPU_SLOT, _running(1, gpu=True), JobRequest("a", gpu=True), GPU_READY),
    (
        Reason.BUDGET_TOO_SMALL_NOW,
        _spent(BUDGET * 3 // 4 - SECOND),
        JobRequest("a", least_slice_us=SECOND + 1),
        IDLE,
    ),
]

# What is not cut although it stands just beside the bound.
UNCUT: list[tuple[Window, JobRequest, Signals]] = [
    (_spent(BUDGET - 1), JobRequest("a"), QUERY),
    (_spent(BUDGET * 3 // 4), JobRequest("a"), QUERY),
    (_spent(BUDGET * 3 // 4 - 1), JobRequest("a"), IDLE),
    (replace(EMPTY, jobs=191), JobRequest("a"), IDLE),
    (replace(EMPTY, jobs=255), JobRequest("a"), QUERY),
    (_running(1), JobRequest("a"), IDLE),
    (_running(1, memory_bytes=600), JobRequest("a", memory_bytes=400), IDLE),
    (_running(1, gpu=True), JobRequest("a"), GPU_READY),
    (_running(1), JobRequest("a", gpu=True), GPU_READY),
    (_spent(BUDGET * 3 // 4 - SECOND), JobRequest("a", least_slice_us=SECOND), IDLE),
]

# Everything is wrong at once: the order decides.
WORST = replace(_running(2, memory_bytes=600, gpu=True), jobs=256, spent_us=BUDGET)
ORDER = [
    (Reason.BUDGET_EXHAUSTED, {}),
    (Reason.BUDGET_RESERVED, {"spent_us": BUDGET * 3 // 4 - 2 * SECOND}),
    (Reason.BUDGET_JOBS_EXHAUSTED, {"spent_us": 0}),
    (Reason.BUDGET_CONCURRENCY, {"spent_us": 0, "jobs": 2}),
    (
        Reason.MEMORY_TOKENS,
        {"spent_us": 0, "jobs": 2, "leases": WORST.leases[:1]},
    ),
]
GREEDY = JobRequest("a", memory_bytes=500, gpu=True, least_slice_us=31 * SECOND)


def _cut_differences(cuts: Sequence[AdmissionCut]) -> int:
    found = 0
    for reason, window, request, signals in CUTS:
        found += admit(window, request, signals, SETTINGS, 0, cuts)[0].reason is not reason
    for window, request, signals in UNCUT:
        found += not admit(window, request, signals, SETTINGS, 0, cuts)[0].admitted
    for reason, changes in ORDER:
        worst = replace(WORST, **changes)
        found += admit(worst, GREEDY, IDLE, SETTINGS, 0, cuts)[0].reason is not reason
    no_memory = replace(GREEDY, memory_bytes=0)
    one = replace(WORST, spent_us=0, jobs=2, leases=WORST.leases[:1])
    found += admit(one, no_memory, IDLE, SETTINGS, 0, cuts)[0].reason is not Reason.SIGNAL_GPU_MISSING
    found += admit(one, no_memory, GPU_READY, SETTINGS, 0, cuts)[0].reason is not Reason.GPU_SLOT
    return found


def test_the_cuts_refuse_at_their_bounds_and_in_their_order() -> None:
    assert _cut_differences(ADMISSION_CUTS) == 0


@pytest.mark.parametrize("place", range(len(ADMISSION_CUTS)))
def test_deleting_a_cut_is_noticed(place: int) -> None:
    assert _cut_differences([cut for n, cut in enumerate(ADMISSION_CUTS) if n != place])


@pytest.mark.parametrize("place", range(len(ADMISSION_CUTS) - 1))
def test_swapping_neighbouring_cuts_is_noticed(place: int) -> None:
    cuts = list(ADMISSION_CUTS)
    cuts[place], cuts[place + 1] = cuts[place + 1], cuts[place]

    assert _cut_differences(cuts)


def test_the_reserve_for_questions_is_no_cut_for_questions() -> None:
    cuts = [replace(cut, modes=(Mode.IDLE, Mode.QUERY)) for cut in ADMISSION_CUTS]

    assert _cut_differences(cuts)


def test_a_zero_grant_is_a_refusal_with_a_reason() -> None:
    refused, _ = _admit(_spent(BUDGET + 5), JobRequest("a"), QUERY)

    assert not refused.admitted and refused.granted_us == 0
    assert refused.reason is Reason.BUDGET_EXHAUSTED


def test_after_idle_work_reached_its_limit_a_forced_job_is_admitted_inside_the_floor() -> None:
    full = _spent(BUDGET * 3 // 4)

    assert _admit(full, JobRequest("a"), IDLE)[0].reason is Reason.BUDGET_RESERVED
    forced, window = _admit(full, JobRequest("b", origin=Origin.FORCED), QUERY)
    assert forced.admitted and window.leases[0].account is Account.QUERY


def test_asking_about_a_refused_job_leaves_the_window_as_it_was() -> None:
    window = _running(2)

    assert _admit(window, JobRequest("a"))[1] == window


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (JobRequest("a", least_slice_us=30 * SECOND), None),
        (JobRequest("a", least_slice_us=30 * SECOND + 1), Reason.BUDGET_NEVER_FITS),
        (JobRequest("a", least_slice_us=90 * SECOND, whole=True), None),
        (JobRequest("a", least_slice_us=90 * SECOND, origin=Origin.ATTENDED), None),
    ],
)
def test_a_job_that_no_window_could_ever_hold_is_found_at_once(
    request_: JobRequest, reason: Reason | None
) -> None:
    assert never_fits(request_, SETTINGS) is reason


def test_attended_work_runs_in_every_mode_and_beyond_every_budget() -> None:
    attended = JobRequest("a", origin=Origin.ATTENDED, memory_bytes=10_000)

    for signals in (ACTIVE, SCREEN, IDLE):
        admission, window = _admit(replace(_spent(BUDGET), jobs=999), attended, signals)
        assert admission.admitted and admission.reason is Reason.MODE_ATTENDED
        later = budgets.charge(window, LIMITS, 7 * SECOND)
        assert (later.attended_us, later.spent_us, later.jobs) == (7 * SECOND, BUDGET, 999)
        assert stop_verdict(later, later.leases[0], ACTIVE, SETTINGS, 9 * SECOND).kind is StopKind.NONE


def test_background_work_gives_way_to_attended_work() -> None:
    window = EMPTY
    for name in "ab":
        _, window = _admit(window, JobRequest(name, origin=Origin.ATTENDED), ACTIVE)

    assert _admit(window, JobRequest("c"))[0].reason is Reason.BUDGET_CONCURRENCY


def test_forty_jobs_with_two_slots_start_at_most_two() -> None:
    settings = replace(SETTINGS, budget_ms=120, jobs_max=2, workers_max=1, query_floor_bp=0)
    window, started, now = budgets.first_window(budgets.limits_of(settings), 0), 0, 0
    for number in range(40):
        admission, window = _admit(window, JobRequest(f"j{number}", estimate_us=900_000), IDLE, settings, now)
        if admission.admitted:
            started += 1
            now += 900_000
            window = budgets.close(window, budgets.limits_of(settings), f"j{number}", now)

    assert started == 1 and window.in_flight == 0
    assert window.spent_us <= 120_000 + 900_000


# Stops: the truth table, driven on a virtual clock


@dataclass(frozen=True)
class _Drive:
    """One row: the signals from the cause on, and when it asks and kills (None: never)."""

    name: str
    after: Signals
    ask_us: int | None
    kill_us: int | None
    reason: Reason | None
    settings: GovernorSettings = SETTINGS
    granted_us: int = 3_600 * SECOND
    window: Window = EMPTY
    account: Account = Account.IDLE


CAUSE = 10 * SECOND
GRACE, DEADLINE = 150_000, 500_000
_OFF = replace(SETTINGS, user_query_heavy=False)
_NO_GRACE = replace(SETTINGS, grace_ms=0)
_LONG_GRACE = replace(SETTINGS, grace_ms=900)
_BESIDE = replace(SETTINGS, suspend_workers=False, heavy_while_active=True)


def _stopped(name: str, after: Signals, reason: Reason, **more: object) -> _Drive:
    return replace(_Drive(name, after, CAUSE + GRACE, CAUSE + DEADLINE, reason), **more)


DRIVES: list[_Drive] = [
    _stopped("the person is back", ACTIVE, Reason.MODE_USER_ACTIVE),
    _stopped("not idle for long enough", replace(IDLE, idle_ms=44_999), Reason.MODE_IDLE_THRESHOLD),
    _stopped("others need the processors", replace(IDLE, cpu_other_bp=5_000), Reason.MODE_CPU_PRESSURE),
    _stopped("memory is full", replace(IDLE, ram_used_bp=8_500), Reason.MODE_RAM_PRESSURE),
    _stopped("on battery", replace(IDLE, on_battery=True), Reason.MODE_ON_BATTERY),
    _stopped("battery low", replace(IDLE, on_battery=True, charge_bp=2_999), Reason.MODE_POWER_LOW),
    _stopped("no grace", ACTIVE, Reason.MODE_USER_ACTIVE, settings=_NO_GRACE, ask_us=CAUSE),
    _stopped(
        "the deadline bounds the grace",
        ACTIVE,
        Reason.MODE_USER_ACTIVE,
        settings=_LONG_GRACE,
        ask_us=CAUSE + DEADLINE,
    ),
    _stopped("full-screen ignores the grace", SCREEN, Reason.MODE_FULLSCREEN, ask_us=CAUSE),
    _stopped(
        "full-screen with intent",
        replace(SCREEN, query_intent=True),
        Reason.MODE_FULLSCREEN,
        ask_us=CAUSE,
    ),
    _stopped("intent with the switch off", QUERY, Reason.MODE_USER_ACTIVE, settings=_OFF),
    _stopped(
        "settings unreadable", IDLE, Reason.SWITCH_UNREADABLE, settings=replace(SETTINGS, readable=False)
    ),
    _stopped("own grant used up", IDLE, Reason.BUDGET_GRANT_USED, granted_us=CAUSE),
    _stopped("own grant used up in a query", QUERY, Reason.BUDGET_GRANT_USED, granted_us=CAUSE),
    _stopped(
        "the budget ran out",
        IDLE,
        Reason.BUDGET_EXHAUSTED,
        window=replace(EMPTY, spent_us=BUDGET - CAUSE),
        account=Account.QUERY,
    ),
    _stopped(
        "the budget ran out in a query",
        QUERY,
        Reason.BUDGET_EXHAUSTED,
        window=replace(EMPTY, spent_us=BUDGET - CAUSE),
    ),
    _stopped(
        "idle work reached the reserve",
        IDLE,
        Reason.BUDGET_RESERVED,
        window=replace(EMPTY, spent_us=BUDGET * 3 // 4 - CAUSE),
    ),
    _Drive("idle within the budget", IDLE, None, None, None),
    _Drive("allowed beside a person", ACTIVE, None, None, None, settings=_BESIDE),
    _Drive("a query beside a person", QUERY, None, None, None),
    _Drive(
        "the reserve is nothing to a question",
        QUERY,
        None,
        None,
        None,
        window=replace(EMPTY, spent_us=BUDGET * 3 // 4 - CAUSE),
    ),
    _Drive(
        "the reserve is nothing to a lease of a question",
        IDLE,
        None,
        None,
        None,
        window=replace(EMPTY, spent_us=BUDGET * 3 // 4 - CAUSE),
        account=Account.QUERY,
    ),
    _Drive("no job slot left", IDLE, None, None, None, window=replace(EMPTY, jobs=999)),
    _Drive("more run than may", IDLE, None, None, None, window=_running(1, account=Account.ATTENDED)),
    _Drive(
        "memory tokens are gone",
        IDLE,
        None,
        None,
        None,
        window=_running(1, account=Account.ATTENDED, memory_bytes=99_999),
    ),
    _Drive(
        "the GPU is taken", IDLE, None, None, None, window=_running(1, account=Account.ATTENDED, gpu=True)
    ),
]


def _play(
    drive: _Drive, table: Sequence[StopRow] = STOP_TABLE
) -> tuple[int | None, int | None, Reason | None]:
    """Look every 50 ms and at each moment that was announced; give the first ask, the kill and the reason."""
    lease = Lease("a", "a", drive.account, drive.granted_us, 0, drive.granted_us)
    window = budgets.reserve(drive.window, LIMITS, lease)
    moments = set(range(CAUSE - SECOND, CAUSE + 2 * SECOND, 50_000))
    asked: int | None = None
    while moments:
        now = min(moments)
        moments.remove(now)
        before = now < CAUSE
        signals = QUERY if before and drive.after.query_intent else IDLE if before else drive.after
        settings = SETTINGS if before else drive.settings
        if before and drive.settings is _BESIDE:
            settings = _BESIDE
        held = window.lease("a")
        assert held is not None
        verdict = stop_verdict(window, held, signals, settings, now, table)
        window = remember(window, "a", verdict)
        if verdict.stop is not None:
            soon = range(now + 1, CAUSE + 2 * SECOND)
            moments |= {at for at in (verdict.stop.ask_us, verdict.stop.kill_us) if at in soon}
        if verdict.kind is StopKind.ASK and asked is None:
            asked = now
        if verdict.kind is StopKind.KILL:
            return asked if asked is not None else now, now, verdict.reason
    return asked, None, None


def _stop_differences(table: Sequence[StopRow]) -> list[str]:
    found = []
    for drive in DRIVES:
        try:
            got = _play(drive, table)
        except AssertionError:
            got = (-1, -1, None)
        if got != (drive.ask_us, drive.kill_us, drive.reason):
            found.append(drive.name)
    return found


@pytest.mark.parametrize("drive", DRIVES, ids=lambda drive: drive.name)
def test_a_running_job_is_asked_and_killed_at_the_exact_microsecond(drive: _Drive) -> None:
    assert _play(drive) == (drive.ask_us, drive.kill_us, drive.reason)


def _mutants() -> list[tuple[str, list[StopRow]]]:
    rows = list(STOP_TABLE)
    made: list[tuple[str, list[StopRow]]] = []
    for n, row in enumerate(rows):
        rest = [*rows[:n], *rows[n + 1 :]]
        if row.ask is not Ask.NEVER:
            made.append((f"row {n} deleted", rest))
            wrong = Ask.AT_ONCE if row.ask is Ask.AFTER_GRACE else Ask.AFTER_GRACE
            made.append((f"row {n} asks {wrong}", [*rest, replace(row, ask=wrong)]))
            made.append((f"row {n} never asks", [*rest, replace(row, ask=Ask.NEVER, kill=Kill.NEVER)]))
            made.append((f"row {n} never kills", [*rest, replace(row, kill=Kill.NEVER)]))
    everywhere = replace(rows[5], modes=(Mode.IDLE, Mode.QUERY))
    made.append(("the reserve stops questions", [*rows[:5], everywhere, *rows[6:]]))
    return made


@pytest.mark.parametrize(("name", "table"), _mutants(), ids=[name for name, _ in _mutants()])
def test_every_mutant_of_the_stop_table_is_noticed(name: str, table: list[StopRow]) -> None:
    assert _stop_differences(table), name


def test_at_least_twelve_mutants_are_tried() -> None:
    assert len(_mutants()) >= 12


def test_every_reason_that_can_refuse_or_allow_heavy_work_has_one_stop_row() -> None:
    named = [cause for row in STOP_TABLE for cause in row.causes]

    assert len(named) == len(set(named))
    assert {cut.reason for cut in ADMISSION_CUTS} <= set(named)
    modes = {reason for reason in Reason if reason.startswith("mode.")} - {Reason.MODE_ATTENDED}
    assert modes <= set(named)


def _open(settings: GovernorSettings = SETTINGS, grant: int = 3_600 * SECOND, **fields: object) -> Window:
    lease = replace(Lease("a", "a", Account.IDLE, grant, 0, grant), **fields)
    return budgets.reserve(budgets.first_window(budgets.limits_of(settings), 0), LIMITS, lease)


def _look(window: Window, signals: Signals, now: int) -> tuple[governor.StopVerdict, Window]:
    held = window.lease("a")
    assert held is not None
    verdict = stop_verdict(window, held, signals, SETTINGS, now)
    return verdict, remember(window, "a", verdict)


def test_a_cause_that_goes_away_before_the_grace_is_over_stops_nothing() -> None:
    _, window = _look(_open(), ACTIVE, SECOND)
    gone, window = _look(window, IDLE, SECOND + 100_000)
    again, window = _look(window, ACTIVE, SECOND + 200_000)

    assert gone.stop is None
    assert again.stop is not None and again.stop.cause_us == SECOND + 200_000


def test_a_stop_that_was_asked_stands_when_its_cause_goes_away() -> None:
    _, window = _look(_open(), ACTIVE, SECOND)
    asked, window = _look(window, ACTIVE, SECOND + GRACE)
    still, window = _look(window, IDLE, SECOND + DEADLINE - 1)
    killed, _ = _look(window, IDLE, SECOND + DEADLINE)

    assert (asked.kind, still.kind, killed.kind) == (StopKind.ASK, StopKind.ASK, StopKind.KILL)


def test_another_row_of_the_same_refusal_does_not_start_the_time_again() -> None:
    _, window = _look(_open(), ACTIVE, SECOND)
    screen, window = _look(window, SCREEN, SECOND + 100_000)

    assert screen.kind is StopKind.ASK and screen.stop is not None
    assert screen.reason is Reason.MODE_FULLSCREEN
    assert screen.stop.kill_us == SECOND + DEADLINE


def test_an_old_cause_does_not_shorten_the_time_of_a_new_one_of_another_kind() -> None:
    _, window = _look(_open(grant=2 * SECOND), ACTIVE, 2 * SECOND - 100_000)
    verdict, _ = _look(window, IDLE, 2 * SECOND)

    assert verdict.stop is not None and verdict.reason is Reason.BUDGET_GRANT_USED
    assert verdict.stop.ask_us == 2 * SECOND + GRACE


def test_a_query_that_ends_while_a_person_is_active_stops_as_if_just_active() -> None:
    _, window = _look(_open(), QUERY, SECOND)
    ended, _ = _look(window, ACTIVE, 2 * SECOND)

    assert ended.stop is not None
    assert (ended.reason, ended.stop.cause_us) == (Reason.MODE_USER_ACTIVE, 2 * SECOND)


def test_looking_changes_nothing_that_is_remembered() -> None:
    window = _open()
    lease = window.leases[0]

    first = stop_verdict(window, lease, ACTIVE, SETTINGS, SECOND)

    assert stop_verdict(window, lease, ACTIVE, SETTINGS, SECOND) == first
    assert window == _open()


# Whole jobs


def test_a_whole_job_is_frozen_at_the_deadline_and_killed_for_memory() -> None:
    _, window = _look(_open(whole=True), ACTIVE, SECOND)
    frozen, _ = _look(window, ACTIVE, SECOND + DEADLINE)
    _, window = _look(_open(whole=True), replace(IDLE, ram_used_bp=9_000), SECOND)
    killed, _ = _look(window, replace(IDLE, ram_used_bp=9_000), SECOND + DEADLINE)

    assert (frozen.kind, killed.kind) == (StopKind.FREEZE, StopKind.KILL)


def test_a_whole_job_renews_in_place_and_keeps_its_slot() -> None:
    full = replace(_open(grant=SECOND, whole=True), jobs=256)

    answer, window = renew(full, "a", IDLE, SETTINGS, SECOND)

    assert answer.admitted and answer.granted_us == 30 * SECOND
    assert (window.jobs, window.in_flight, window.spent_us) == (256, 1, SECOND)
    assert window.leases[0].started_us == SECOND


def test_a_whole_job_is_not_renewed_where_it_would_not_be_admitted() -> None:
    answer, window = renew(_open(grant=SECOND, whole=True), "a", ACTIVE, SETTINGS, SECOND)

    assert not answer.admitted and answer.reason is Reason.MODE_USER_ACTIVE
    assert window.leases[0].granted_us == SECOND


def test_a_frozen_job_needs_a_free_place_to_thaw() -> None:
    window = budgets.freeze(_open(grant=SECOND, whole=True), LIMITS, "a", SECOND)
    busy = replace(window, leases=(*window.leases, *_running(2).leases))

    assert renew(busy, "a", IDLE, SETTINGS, 2 * SECOND)[0].reason is Reason.BUDGET_CONCURRENCY
    answer, thawed = renew(window, "a", IDLE, SETTINGS, 2 * SECOND)
    assert answer.admitted and not thawed.leases[0].frozen
