"""When to try again: exponential, with a cap, and jitter that the key decides.

Pure: the same key and attempt give the same delay on every machine, so a retry
time can be checked later. Jitter keeps many effects that failed together from
coming back together.
"""

from __future__ import annotations

from sterling.kernel.hashing import EFFECT_TAG, tagged_hash, u64

__all__ = ["DELAY_US_MAX", "DELAY_US_MIN", "delay_us"]

DELAY_US_MIN = 10_000_000
DELAY_US_MAX = 600_000_000


def delay_us(key: str, attempt: int) -> int:
    """How long to wait after the attempt of this number (from 1): between half and all of the step.

    The step is 10 s, doubles with each attempt and ends at 10 min.
    """
    step = min(DELAY_US_MAX, DELAY_US_MIN << min(attempt - 1, 32))
    draw = int.from_bytes(tagged_hash(EFFECT_TAG, bytes.fromhex(key), u64(attempt))[:8], "big")
    return step // 2 + (step // 2) * draw // 2**64
