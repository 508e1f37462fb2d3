"""The one place of this pack that reads the process environment: what is handed on, never a setting.

Programs are found by the caller's PATH; an agent without walls gets its user's
environment; and a process that an authority started is told where to ask.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "AUTHORITY",
    "SESSION",
    "Place",
    "agent_environment",
    "asking_place",
    "check_environment",
    "search_path",
]

AUTHORITY = "STERLING_AUTHORITY"
SESSION = "STERLING_SESSION"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an agent's process asks, and the secret that names its session."""

    socket: Path
    session: str


def search_path() -> str:
    """Where programs are looked for."""
    return os.environ.get("PATH", os.defpath)


def agent_environment(more: Mapping[str, str]) -> dict[str, str]:
    """The user's environment and where the authority listens; not where the home is."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STERLING_")}
    return inherited | dict(more)


def check_environment(folder: Path) -> dict[str, str]:
    """The environment of a check: an allow-list, fresh home and temporary folder, fixed locale and seed."""
    home, temporary = folder / "home", folder / "tmp"
    home.mkdir(exist_ok=True)
    temporary.mkdir(exist_ok=True)
    return {
        "PATH": search_path(),
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "TZ": "UTC",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def asking_place() -> Place | None:
    """Where to ask, in a process that an authority started; None in every other."""
    socket = os.environ.get(AUTHORITY, "")
    return Place(Path(socket), os.environ.get(SESSION, "")) if socket else None
