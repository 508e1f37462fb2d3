"""All that a plugin may import: what it returns, what it is given, how it talks while it works.

A plugin is one function, `run(...) -> Outcome`, that names the inputs it wants.
It returns `Ok` with findings that cite, or `Na` with a reason code and a
sentence; raising means `failed`. There is no third way, and no empty `Ok`.

The worker wires `progress`, `should_stop` and `out_dir` to its supervisor before
the plugin runs. Outside a worker `progress` says nothing, `should_stop` is
False, and `out_dir` refuses: use `wired` to give a test its own folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

__all__ = [
    "API_VERSION",
    "Artifact",
    "Finding",
    "Inputs",
    "Json",
    "Na",
    "Ok",
    "Outcome",
    "Progress",
    "Table",
    "Wiring",
    "out_dir",
    "progress",
    "should_stop",
    "wire",
    "wired",
]

Json = Any  # A JSON value: None, bool, int, float, str, list[Json] or dict[str, Json].

API_VERSION = (1, 0)


@dataclass(frozen=True, slots=True)
class Finding:
    """One claim. `evidence` says where anybody can see it; it is never empty."""

    kind: str
    claim: str
    evidence: Mapping[str, Json]
    values: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file the plugin wrote. `path` is relative to `out_dir()`."""

    name: str
    path: str
    media: str


@dataclass(frozen=True, slots=True)
class Ok:
    """The plugin did its work, and this is what it found."""

    findings: Sequence[Finding] = ()
    artifacts: Sequence[Artifact] = ()
    metrics: Mapping[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Na:
    """The question does not arise here: a reason code, and a sentence for a person."""

    reason: str
    because: str


Outcome = Ok | Na


class Inputs(Protocol):
    """Named inputs, as a pack hands them to its plugins."""

    def __getitem__(self, name: str) -> Json: ...

    def keys(self) -> Sequence[str]: ...


class Table(Protocol):
    """The least that a pack's table offers a plugin; a pack may offer more."""

    @property
    def row_count(self) -> int: ...

    @property
    def columns(self) -> Sequence[str]: ...

    def rows(self) -> Iterator[Any]: ...

    def cite(self, rows: Sequence[int]) -> Mapping[str, Json]: ...


class Progress(Protocol):
    """Say how far the work is."""

    def __call__(self, done: int, total: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Wiring:
    """What the worker connects to this module before it calls a plugin."""

    progress: Callable[[int, int], None]
    should_stop: Callable[[], bool]
    out_dir: Path | None


_UNWIRED = Wiring(progress=lambda done, total: None, should_stop=lambda: False, out_dir=None)
_wiring: Wiring = _UNWIRED


def progress(done: int, total: int) -> None:
    """Say that `done` of `total` parts are finished. Cheap; call it as often as it changes."""
    _wiring.progress(done, total)


def should_stop() -> bool:
    """Whether the supervisor asked this step to stop. A long loop asks, and raises: the step yields."""
    return _wiring.should_stop()


def out_dir() -> Path:
    """The step's own folder for artifacts.

    Raises:
        RuntimeError: outside a worker, where there is none.
    """
    if _wiring.out_dir is None:
        raise RuntimeError("expected a worker or `wired(...)` around this call, found neither")
    return _wiring.out_dir


def wire(wiring: Wiring) -> None:
    """Connect this module to a supervisor. Only the worker calls it."""
    global _wiring
    _wiring = wiring


@contextmanager
def wired(folder: Path) -> Iterator[None]:
    """Give `out_dir()` a folder while a test calls a plugin directly."""
    global _wiring
    before = _wiring
    _wiring = Wiring(progress=before.progress, should_stop=before.should_stop, out_dir=folder)
    try:
        yield
    finally:
        _wiring = before
