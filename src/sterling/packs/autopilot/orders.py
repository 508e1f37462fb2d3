"""What a person asks for when a task is made. Plain data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["TaskOrder"]


@dataclass(frozen=True, slots=True)
class TaskOrder:
    """A task to make. Without a profile the one in the repository's base is taken."""

    text: str
    repository: Path
    profile: Path | None = None
    scope: tuple[str, ...] = ()
    deliverables: tuple[str, ...] = ()
    risk: str = "low"
    person: str = "person"
