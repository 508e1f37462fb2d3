"""Power: mains or battery, and the charge, from the kernel's power supplies.

A machine without a battery is on mains. Batteries of mice and headsets do not
count. A battery that is there but cannot be read counts as an empty one in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sterling.runtime.reasons import Reason
from sterling.runtime.signals import Reading, Signal, State, SteadyClock, missing

__all__ = ["PowerSource"]

_BATTERIES = ("Battery", "UPS")
_RESTING = ("Charging", "Full", "Not charging")


class PowerSource:
    """Reads the folder of power supplies."""

    def __init__(self, folder: Path = Path("/sys/class/power_supply")) -> None:
        self._folder = folder

    def read(self, clock: SteadyClock) -> Sequence[Reading]:
        now_us = clock.boot_us()
        source = str(self._folder)
        try:
            supplies = sorted(self._folder.iterdir())
        except FileNotFoundError:
            return (missing(Signal.POWER, source, now_us), missing(Signal.CHARGE_BP, source, now_us))
        except OSError:
            return self._broken(now_us)
        try:
            return self._look(supplies, now_us)
        except (OSError, ValueError):
            return self._broken(now_us)

    def _look(self, supplies: Sequence[Path], now_us: int) -> Sequence[Reading]:
        source = str(self._folder)
        charges: list[int] = []
        states: list[str] = []
        mains_on = False
        for supply in supplies:
            kind = _text(supply / "type")
            if kind in _BATTERIES and _scope(supply) != "Device" and _is_present(supply):
                states.append(_text(supply / "status"))
                charges.append(_capacity_bp(supply))
            elif kind not in _BATTERIES and (supply / "online").exists():
                mains_on = mains_on or _text(supply / "online") not in ("", "0")
        draining = any(state == "Discharging" for state in states)
        at_rest = all(state in _RESTING for state in states)
        on_battery = bool(states) and (draining or not (mains_on or at_rest))
        power = Reading(Signal.POWER, "battery" if on_battery else "mains", source, now_us)
        if not charges:
            return (power, missing(Signal.CHARGE_BP, source, now_us))
        return (power, Reading(Signal.CHARGE_BP, min(charges), source, now_us))

    def _broken(self, now_us: int) -> Sequence[Reading]:
        return tuple(
            Reading(signal, None, str(self._folder), now_us, State.UNREADABLE, Reason.SIGNAL_UNREADABLE)
            for signal in (Signal.POWER, Signal.CHARGE_BP)
        )


def _text(path: Path) -> str:
    return path.read_text("utf-8").strip()


def _scope(supply: Path) -> str:
    path = supply / "scope"
    return _text(path) if path.exists() else "System"


def _is_present(supply: Path) -> bool:
    path = supply / "present"
    return not path.exists() or _text(path) != "0"


def _capacity_bp(supply: Path) -> int:
    """The charge; a battery whose driver gives energy or charge instead of a percentage counts too."""
    if (supply / "capacity").exists():
        percent = int(_text(supply / "capacity"))
        if not 0 <= percent <= 100:
            raise ValueError(f"expected 0 to 100 percent, found {percent}")
        return percent * 100
    for name in ("energy", "charge"):
        if (supply / f"{name}_now").exists():
            full = int(_text(supply / f"{name}_full"))
            if full <= 0:
                raise ValueError("expected a full charge above 0")
            return max(0, min(10_000, int(_text(supply / f"{name}_now")) * 10_000 // full))
    raise ValueError("expected a capacity")
