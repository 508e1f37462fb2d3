"""A clock that only moves when it is told to."""

from __future__ import annotations

__all__ = ["FakeClock"]


class FakeClock:
    """Implements `sterling.kernel.clock.Clock`; all times in microseconds."""

    def __init__(self, wall_us: int = 1_700_000_000_000_000, boot_us: int = 1_000_000_000) -> None:
        self._wall_us, self._boot_us = wall_us, boot_us
        self._boot_id = "00000000-0000-4000-8000-000000000001"

    def wall_us(self) -> int:
        return self._wall_us

    def boot_us(self) -> int:
        return self._boot_us

    def boot_id(self) -> str:
        return self._boot_id

    def advance(self, delta_us: int) -> None:
        """Both clocks go forward."""
        assert delta_us >= 0
        self._wall_us += delta_us
        self._boot_us += delta_us

    def step_wall(self, delta_us: int) -> None:
        """Only the wall clock jumps, as when somebody sets it."""
        self._wall_us += delta_us

    def reboot(self) -> None:
        """Another boot: the steady clock starts again under a new name."""
        self._boot_us = 1_000_000
        self._boot_id = self._boot_id[:-1] + format((int(self._boot_id[-1], 16) + 1) % 16, "x")
