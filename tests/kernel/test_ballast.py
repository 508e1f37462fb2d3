"""Ballast: allocated for real, released whole, refilled only where there is room."""

from __future__ import annotations

from pathlib import Path

from sterling.kernel.ballast import Ballast


def test_ballast_takes_real_room_and_gives_it_back(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast")

    assert not ballast.is_released and ballast.fill()
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= Ballast.size_bytes
    ballast.release()

    assert ballast.is_released
    assert (tmp_path / "ballast").stat().st_blocks == 0
    assert ballast.refill() and not ballast.refill()


def test_a_home_without_ballast_asks_for_none(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast")

    ballast.release()

    assert not ballast.is_released and not ballast.refill()
    assert not (tmp_path / "ballast").exists()
