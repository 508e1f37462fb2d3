"""The governor's settings: the `governor.*` keys of a home as one frozen value.

Ranges are those of the table of settings. A limit outside its range is a
configuration error and is never clamped: a limit that silently becomes another
one is a limit nobody chose. Settings that could not be read at all are a value
too (`unreadable`), and keep heavy work off.

0 means automatic for `budget_ms` and `workers_max`, and switches the row off for
`cpu_limit_bp` and `ram_limit_bp`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from sterling.kernel.config_keys import KEYS_BY_NAME
from sterling.kernel.errors import EXIT_USAGE, SterlingError

__all__ = ["GovernorSettings", "SettingRefused"]

_AUTO_BUDGET_BP = 8_000
_TREE_MEMORY_BP = 5_000  # Runtime chapter, R-9: our own tree may hold half of the memory.


class SettingRefused(SterlingError):
    """A governor setting that is not of its type or not in its range."""

    code = "governor.setting-refused"
    hint = "Correct the key in sterling.toml, then look at what applies: `sterling governor explain`."
    exit = EXIT_USAGE


class _Config(Protocol):
    def get(self, key: str, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class GovernorSettings:
    """What the deciders are told by configuration. Times end in `_ms`, shares in `_bp`.

    `cores` and `memory_tree_bytes` describe the machine; 0 bytes means no limit on
    declared memory. `readable` is false when the configuration could not be read.
    """

    idle_ms_min: int = 45_000
    active_ms: int = 3_000
    cpu_limit_bp: int = 5_000
    ram_limit_bp: int = 8_500
    charge_min_bp: int = 3_000
    suspend_workers: bool = True
    heavy_while_active: bool = False
    heavy_on_battery: bool = False
    user_query_heavy: bool = True
    grace_ms: int = 150
    suspend_deadline_ms: int = 500
    window_ms: int = 300_000
    budget_ms: int = 0
    job_ms_max: int = 30_000
    jobs_max: int = 256
    workers_max: int = 0
    query_floor_bp: int = 2_500
    stale_ms: int = 5_000
    activity_file: str = ""
    cores: int = 1
    memory_tree_bytes: int = 0
    readable: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name), _TYPES[str(field.type)])
        if self.budget_ms > self.window_ms * self.workers:
            raise SettingRefused(
                f"expected governor.budget_ms of at most window_ms x workers = "
                f"{self.window_ms * self.workers}, found {self.budget_ms}",
                key="governor.budget_ms",
            )

    @classmethod
    def from_config(
        cls, config: _Config, *, cores: int | None = None, memory_bytes: int | None = None
    ) -> GovernorSettings:
        """The `governor.*` keys of a home's configuration, on this machine unless told otherwise.

        Errors: SettingRefused naming the key; whatever `config.get` raises.
        """
        values = {name: config.get(f"governor.{name}") for name in _KEYS}
        memory = _memory_bytes() if memory_bytes is None else memory_bytes
        return cls(
            **values,
            cores=(os.cpu_count() or 1) if cores is None else cores,
            memory_tree_bytes=memory * _TREE_MEMORY_BP // 10_000,
        )

    @classmethod
    def unreadable(cls) -> GovernorSettings:
        """What applies while the configuration cannot be read: nothing heavy."""
        return replace(cls(), readable=False)

    @property
    def workers(self) -> int:
        """Heavy jobs that may run at once."""
        return self.workers_max or max(1, self.cores // 2)

    @property
    def budget_us(self) -> int:
        """What heavy work may spend in one window, in microseconds."""
        if self.budget_ms:
            return self.budget_ms * 1000
        return self.window_ms * self.workers * _AUTO_BUDGET_BP // 10_000 * 1000


_TYPES: dict[str, type] = {"int": int, "bool": bool, "str": str}
_MACHINE = ("cores", "memory_tree_bytes", "readable")
_KEYS = tuple(field.name for field in fields(GovernorSettings) if field.name not in _MACHINE)
_CORES_MAX = 65_536
_MEMORY_BYTES_MAX = 1 << 53


def _range(name: str) -> tuple[int, int]:
    if name == "cores":
        return 1, _CORES_MAX
    if name == "memory_tree_bytes":
        return 0, _MEMORY_BYTES_MAX
    key = KEYS_BY_NAME[f"governor.{name}"]
    assert key.minimum is not None and key.maximum is not None, f"{key.name} is a number without bounds"
    return key.minimum, key.maximum


def _check(name: str, value: object, kind: type) -> None:
    if type(value) is not kind:
        raise SettingRefused(
            f"expected governor.{name} to be {kind.__name__}, found {type(value).__name__}",
            key=f"governor.{name}",
        )
    if kind is int and isinstance(value, int):
        least, greatest = _range(name)
        if not least <= value <= greatest:
            raise SettingRefused(
                f"expected governor.{name} between {least} and {greatest}, found {value}",
                key=f"governor.{name}",
            )


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
