"""The budget window against books kept by hand, one microsecond at a time."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest

from sterling.kernel.contracts import load_contracts
from sterling.runtime import budgets
from sterling.runtime.budgets import Account, Lease, Limits, Position, Stop, Window
from sterling.runtime.governor_settings import GovernorSettings, SettingRefused
from sterling.runtime.reasons import Reason

LIMITS = Limits(
    window_us=1_000,
    budget_us=400,
    job_us_max=300,
    jobs_max=8,
    in_flight_max=2,
    query_floor_bp=2_500,
    debt_us_max=600,
)


def _lease(name: str, start: int, grant: int, account: Account = Account.IDLE) -> Lease:
    kept = 0 if account is Account.ATTENDED else grant
    return Lease(name, name, account, kept, start, kept)


def _open(window: Window, name: str, start: int, grant: int, account: Account = Account.IDLE) -> Window:
    return budgets.reserve(window, LIMITS, _lease(name, start, grant, account))


EMPTY = budgets.first_window(LIMITS, 0)


# Books kept by hand: every microsecond is played and counted one by one.


@dataclass
class _Job:
    account: Account
    grant: int
    ran: int = 0


@dataclass
class _Books:
    limits: Limits
    now: int = 0
    debt: int = 0
    spent: int = 0
    query: int = 0
    attended: int = 0
    slots: int = 0
    jobs: dict[str, _Job] = field(default_factory=dict)
    exhausted: int | None = None
    floor: int | None = None

    def reserved(self) -> int:
        return sum(
            max(0, job.grant - job.ran) for job in self.jobs.values() if job.account is not Account.ATTENDED
        )

    def note(self) -> None:
        have = self.limits.budget_us - self.debt
        if self.exhausted is None and self.spent >= have:
            self.exhausted = self.now
        if self.floor is None and self.spent + max(0, self.limits.floor_us - self.query) >= have:
            self.floor = self.now

    def play(self, until: int) -> None:
        while self.now < until:
            for job in self.jobs.values():
                job.ran += 1
                if job.account is Account.ATTENDED:
                    self.attended += 1
                else:
                    self.spent += 1
                    self.query += job.account is Account.QUERY
            self.now += 1
            if any(job.account is not Account.ATTENDED for job in self.jobs.values()):
                self.note()
            if self.now % self.limits.window_us == 0:
                over = max(0, self.debt + self.spent - self.limits.budget_us)
                self.debt = min(over, self.limits.debt_us_max)
                self.spent = self.query = self.attended = self.slots = 0
                self.exhausted = self.floor = None
                self.note()


def _compare(window: Window, books: _Books) -> None:
    assert window.spent_us == books.spent
    assert window.spent_query_us == books.query
    assert window.attended_us == books.attended
    assert window.reserved_us == books.reserved()
    assert window.debt_us == books.debt
    assert window.jobs == books.slots
    assert (window.exhausted_us, window.reserved_reached_us) == (books.exhausted, books.floor)
    assert (
        window.spent_us + window.reserved_us + budgets.query_remaining(window)
        == window.budget_us - window.debt_us
    )


def test_the_window_equals_books_kept_one_microsecond_at_a_time() -> None:
    chance = random.Random(20_240_501)
    limits = replace(LIMITS, window_us=40, budget_us=20, job_us_max=12, debt_us_max=30)
    for _ in range(1_500):
        books, window, made = _Books(limits), budgets.first_window(limits, 0), 0
        for _ in range(chance.randrange(2, 12)):
            now = books.now + chance.choice([0, 1, 3, 7, 17, 45])
            books.play(now)
            window = budgets.charge(budgets.advance(window, limits, now)[0], limits, now)
            if books.jobs and chance.random() < 0.45:
                name = chance.choice(sorted(books.jobs))
                used = chance.random() < 0.8
                job = books.jobs.pop(name)
                if not used and job.account is not Account.ATTENDED:
                    books.slots = max(0, books.slots - 1)
                window = budgets.close(window, limits, name, now, used=used)
            elif len(books.jobs) < 3:
                made += 1
                account = chance.choice([Account.IDLE, Account.IDLE, Account.QUERY, Account.ATTENDED])
                grant = chance.randrange(0, 13)
                books.jobs[str(made)] = _Job(account, grant)
                books.slots += account is not Account.ATTENDED
                window = budgets.reserve(window, limits, _lease(str(made), now, grant, account))
            _compare(window, books)


def test_spent_reserved_and_remaining_add_up_over_ten_thousand_sequences() -> None:
    chance = random.Random(7)
    for sequence in range(10_000):
        window, now, open_names = EMPTY, 0, []
        for step in range(6):
            now += chance.randrange(0, 700)
            window, _ = budgets.advance(window, LIMITS, now)
            choice = chance.random()
            if choice < 0.5:
                name = f"{sequence}-{step}"
                account = chance.choice(list(Account))
                grant = budgets.grant_of(window, LIMITS, account, chance.randrange(0, 400))
                window = budgets.reserve(window, LIMITS, _lease(name, now, grant, account))
                open_names.append(name)
            elif choice < 0.8 and open_names:
                window = budgets.close(window, LIMITS, open_names.pop(), now, used=chance.random() < 0.7)
            else:
                window = budgets.charge(window, LIMITS, now)
            whole = window.budget_us - window.debt_us
            assert window.spent_us + window.reserved_us + window.remaining_us == whole
            assert 0 <= window.debt_us <= LIMITS.debt_us_max
            assert window.reserved_us >= 0 and window.spent_query_us <= window.spent_us


def test_two_leases_cannot_spend_the_same_microsecond() -> None:
    window = _open(EMPTY, "a", 0, budgets.grant_of(EMPTY, LIMITS, Account.QUERY, 300), Account.QUERY)

    assert budgets.grant_of(window, LIMITS, Account.QUERY, 300) == 100
    window = _open(window, "b", 0, 100, Account.QUERY)
    assert budgets.grant_of(window, LIMITS, Account.QUERY, 300) == 0


def test_the_unspent_part_of_a_grant_comes_back_when_the_lease_closes() -> None:
    window = budgets.close(_open(EMPTY, "a", 0, 200), LIMITS, "a", 60)

    assert (window.spent_us, window.reserved_us, window.remaining_us) == (60, 0, 340)


def test_closing_twice_charges_once() -> None:
    once = budgets.close(_open(EMPTY, "a", 0, 200), LIMITS, "a", 60)

    assert budgets.close(once, LIMITS, "a", 90) == once


@pytest.mark.parametrize(("used", "jobs"), [(True, 1), (False, 0)])
def test_an_unused_lease_gives_its_job_slot_back(used: bool, jobs: int) -> None:
    assert budgets.close(_open(EMPTY, "a", 0, 200), LIMITS, "a", 1, used=used).jobs == jobs


def test_exhaustion_shows_in_the_middle_of_a_job_at_its_exact_moment() -> None:
    window = _open(_open(EMPTY, "a", 0, 300), "b", 100, 100)

    before = budgets.charge(window, LIMITS, 249)
    after = budgets.charge(window, LIMITS, 260)

    assert before.exhausted_us is None
    assert after.exhausted_us == 250 and after.spent_us == 420


def test_idle_work_leaves_the_query_floor_and_questions_may_take_it() -> None:
    window = budgets.close(_open(EMPTY, "a", 0, 300), LIMITS, "a", 300)

    assert budgets.idle_remaining(window, LIMITS) == 0
    assert budgets.query_remaining(window) == 100
    asked = budgets.close(_open(window, "q", 300, 100, Account.QUERY), LIMITS, "q", 340)
    assert budgets.idle_remaining(asked, LIMITS) == 0
    assert budgets.query_remaining(asked) == 60


def test_what_questions_spent_of_their_floor_is_no_longer_kept_for_them() -> None:
    window = budgets.close(_open(EMPTY, "q", 0, 250, Account.QUERY), LIMITS, "q", 250)

    assert budgets.idle_remaining(window, LIMITS) == budgets.query_remaining(window) == 150


@pytest.mark.parametrize(("jobs_max", "floor"), [(1, 0), (2, 1), (3, 1), (8, 2), (256, 64)])
def test_idle_work_leaves_at_least_one_of_two_job_slots(jobs_max: int, floor: int) -> None:
    limits = replace(LIMITS, jobs_max=jobs_max)

    assert budgets.idle_jobs_left(EMPTY, limits) == jobs_max - floor
    assert budgets.query_jobs_left(EMPTY, limits) == jobs_max


@pytest.mark.parametrize(
    ("job_max", "estimate", "grant"),
    [(300, 0, 300), (300, 120, 120), (50, 120, 50), (0, 0, 400), (500, 900, 400)],
)
def test_a_grant_is_the_least_of_what_is_left_the_limit_and_the_estimate(
    job_max: int, estimate: int, grant: int
) -> None:
    limits = replace(LIMITS, job_us_max=job_max)

    assert budgets.grant_of(EMPTY, limits, Account.QUERY, estimate) == grant


def test_spend_over_the_budget_is_paid_by_the_next_windows() -> None:
    window = _open(EMPTY, "a", 0, 400, Account.QUERY)
    window = budgets.close(window, LIMITS, "a", 950)

    second, closed = budgets.advance(window, LIMITS, 1_000)
    third, _ = budgets.advance(window, LIMITS, 2_000)
    fourth, _ = budgets.advance(window, LIMITS, 3_000)

    assert [w.spent_us for w in closed] == [950]
    assert (second.debt_us, second.remaining_us, second.exhausted_us) == (550, -150, 1_000)
    assert (third.debt_us, third.remaining_us) == (150, 250)
    assert (fourth.debt_us, fourth.remaining_us) == (0, 400)


def test_debt_never_passes_its_bound() -> None:
    window = _open(_open(EMPTY, "a", 0, 400), "b", 0, 0)

    assert budgets.advance(window, LIMITS, 1_000)[0].debt_us == LIMITS.debt_us_max


def test_a_lease_that_crosses_a_window_is_charged_in_each() -> None:
    window = _open(EMPTY, "a", 900, 300)

    second, (first,) = budgets.advance(window, LIMITS, 1_050)
    second = budgets.charge(second, LIMITS, 1_050)

    assert (first.spent_us, first.reserved_us) == (100, 200)
    assert (second.spent_us, second.reserved_us, second.remaining_us) == (50, 150, 200)


def test_ten_flips_and_a_restart_do_not_refill() -> None:
    window, now = EMPTY, 0
    for flip in range(10):
        window = _open(window, str(flip), now, 30)
        now += 30
        window = budgets.close(window, LIMITS, str(flip), now)
        window, _ = budgets.advance(window, LIMITS, now)
        window = budgets.window_from_document(budgets.window_document(window, LIMITS))

    assert (window.spent_us, window.jobs) == (300, 10)
    assert budgets.idle_remaining(window, LIMITS) == 0


def test_a_crash_charges_up_to_the_last_charge_and_one_interval() -> None:
    limits = replace(LIMITS, window_us=10_000_000, budget_us=8_000_000, job_us_max=0)
    window = budgets.reserve(budgets.first_window(limits, 0), limits, _lease("a", 0, 5_000_000))
    window = budgets.charge(window, limits, 700_000)

    soon, lost = budgets.recover(window, limits, 900_000)
    late, _ = budgets.recover(window, limits, 9_000_000)

    assert [lease.id for lease in lost] == ["a"]
    assert (soon.spent_us, late.spent_us) == (900_000, 1_700_000)
    assert soon.leases == late.leases == () and late.reserved_us == 0


def test_a_position_that_goes_back_changes_nothing() -> None:
    window, _ = budgets.advance(EMPTY, LIMITS, 5_500)

    assert budgets.advance(window, LIMITS, 100)[0] == window
    assert budgets.charge(window, LIMITS, 100) == window


def test_a_reload_refills_nothing_whatever_it_changes() -> None:
    window = budgets.close(_open(EMPTY, "a", 0, 400, Account.QUERY), LIMITS, "a", 400)

    more, _ = budgets.advance(window, replace(LIMITS, budget_us=500), 450)
    less, _ = budgets.advance(window, replace(LIMITS, budget_us=200), 450)
    longer, _ = budgets.advance(window, replace(LIMITS, window_us=5_000), 450)

    assert (more.remaining_us, more.exhausted_us) == (100, None)
    assert less.remaining_us == -200 and less.exhausted_us is not None
    assert (longer.index, longer.spent_us) == (0, 400)


def test_a_longer_window_does_not_stop_time() -> None:
    window, _ = budgets.advance(EMPTY, LIMITS, 9_500)
    spent = budgets.close(_open(window, "a", 9_500, 100), LIMITS, "a", 9_600)

    longer = replace(LIMITS, window_us=4_000)
    assert budgets.advance(spent, longer, 9_700)[0].spent_us == 100
    assert budgets.advance(spent, longer, 12_000)[0].spent_us == 0


def test_position_follows_the_steady_clock_within_a_boot_and_the_wall_clock_across() -> None:
    start = budgets.carry(None, boot_id="a", boot_us=50, wall_us=1_000)
    stepped = budgets.carry(start, boot_id="a", boot_us=60, wall_us=9_000_000)
    rebooted = budgets.carry(stepped, boot_id="b", boot_us=5, wall_us=9_000_700)
    back = budgets.carry(rebooted, boot_id="c", boot_us=5, wall_us=3)

    assert [p.position_us for p in (start, stepped, rebooted, back)] == [50, 60, 760, 760]


def test_a_steady_clock_that_goes_back_stands_still() -> None:
    start = Position("a", 500, 0, 90)

    assert budgets.carry(start, boot_id="a", boot_us=10, wall_us=0).position_us == 90


def test_a_window_with_leases_and_stops_survives_its_document() -> None:
    stop = Stop(Reason.MODE_USER_ACTIVE, 3, 4, 5, asked=True)
    window = budgets.with_lease(_open(EMPTY, "a", 2, 50), "a", stop=stop, gpu=True, memory_bytes=9)
    position = Position("boot", 1, 2, 3)

    document = budgets.window_document(window, LIMITS, position)

    assert load_contracts().validate("runtime.window", document) == "runtime.window@1.0"
    assert budgets.window_from_document(document) == window
    assert budgets.position_from_document(document) == position
    assert budgets.position_from_document(budgets.window_document(window, LIMITS)) is None


def test_a_frozen_job_is_not_charged_and_a_refill_thaws_it() -> None:
    window = budgets.with_lease(_open(EMPTY, "a", 0, 100), "a", whole=True)

    frozen = budgets.freeze(window, LIMITS, "a", 100)
    later = budgets.charge(frozen, LIMITS, 700)
    thawed = budgets.charge(budgets.refill(later, LIMITS, "a", 50, 700), LIMITS, 720)

    assert (later.spent_us, later.in_flight, later.reserved_us) == (100, 0, 0)
    assert (thawed.spent_us, thawed.in_flight, thawed.reserved_us) == (120, 1, 30)


# Settings


def test_automatic_budget_and_workers_follow_the_machine() -> None:
    settings = GovernorSettings(cores=8)

    limits = budgets.limits_of(settings)

    assert (limits.in_flight_max, limits.budget_us) == (4, 960_000_000)
    assert limits.debt_us_max == 4 * 750_000
    assert budgets.limits_of(GovernorSettings(cores=1)).in_flight_max == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"cpu_limit_bp": 10_001},
        {"ram_limit_bp": -1},
        {"idle_ms_min": 0},
        {"query_floor_bp": 10_001},
        {"workers_max": 257},
        {"suspend_deadline_ms": 60_001},
        {"jobs_max": 0},
        {"grace_ms": True},
        {"suspend_workers": 1},
        {"activity_file": None},
        {"budget_ms": 300_001},
        {"cores": 0},
    ],
)
def test_a_limit_outside_its_range_is_refused_and_never_clamped(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingRefused) as caught:
        GovernorSettings(**wrong)  # type: ignore[arg-type]

    assert next(iter(wrong)) in caught.value.message
    assert caught.value.exit == 2


def test_settings_come_from_the_keys_of_a_home_and_equal_the_defaults() -> None:
    from sterling.kernel.config import default_config

    settings = GovernorSettings.from_config(default_config(), cores=2, memory_bytes=1_000)

    assert settings == GovernorSettings(cores=2, memory_tree_bytes=500)
    changed = default_config(["governor.grace_ms=7", "governor.activity_file=/tmp/a"])
    told = GovernorSettings.from_config(changed)
    assert (told.grace_ms, told.activity_file) == (7, "/tmp/a")
    assert told.cores >= 1 and told.memory_tree_bytes > 0
