"""Retry times: they grow, they end, and the key alone decides the jitter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sterling.kernel.backoff import DELAY_US_MAX, DELAY_US_MIN, delay_us
from sterling.kernel.hashing import address_of

KEYS = st.binary(max_size=8).map(address_of)


@given(KEYS, st.integers(1, 10_000))
def test_a_delay_lies_between_half_of_its_step_and_all_of_it(key: str, attempt: int) -> None:
    step = min(DELAY_US_MAX, DELAY_US_MIN * 2 ** min(attempt - 1, 20))

    assert step // 2 <= delay_us(key, attempt) < step


@given(KEYS, st.integers(1, 20))
def test_the_same_key_and_attempt_give_the_same_delay(key: str, attempt: int) -> None:
    assert delay_us(key, attempt) == delay_us(key, attempt)


def test_keys_that_failed_together_do_not_come_back_together() -> None:
    delays = {delay_us(address_of(bytes([number])), 1) // 100_000 for number in range(100)}

    assert len(delays) > 30


def test_these_delays_never_change() -> None:
    key = address_of(b"one effect")

    found = [delay_us(key, attempt) for attempt in range(1, 10)]

    assert found == [
        9887811,
        17817949,
        36171281,
        65569149,
        157004264,
        210326566,
        350237812,
        442517097,
        596486841,
    ]
