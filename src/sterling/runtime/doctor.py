"""The doctor: probes that act, and rows that name a fault at its root.

A probe does what the home must be able to do, instead of asking whether it is
configured. Its row is `ok`, `failed` with code, cause and the command that
mends it, or `na` with the reason. A probe names the rows it stands on; when one
of those is not ok, it is not tried and its row is `na` because of the root.

Nothing is written into the person's ledger, nothing is mended. The probes are
in `doctor_probes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sterling.kernel.canonical import Json
from sterling.kernel.clock import Clock
from sterling.kernel.counters import CounterRule
from sterling.kernel.errors import EXIT_BROKEN, EXIT_CANNOT_JUDGE, EXIT_NO, EXIT_OK, SterlingError, all_errors

if TYPE_CHECKING:
    from sterling.kernel.home import Home
    from sterling.kernel.projections import Rebuilt

__all__ = ["NotTried", "Patient", "Probe", "ProbeFailed", "Row", "examine", "exit_of"]


class ProbeFailed(SterlingError):
    """A probe ended in a way that has no code of its own."""

    code = "doctor.probe-failed"
    hint = "Look at the cause, then run `sterling doctor` again."


class NotTried(Exception):
    """A probe has nothing to act on here; says why, and what would change that."""

    def __init__(self, because: str, cure: str = "") -> None:
        super().__init__(because)
        self.because, self.cure = because, cure


@dataclass(slots=True)
class Patient:
    """What is examined; the probes of the home and of the ledger leave here what later ones stand on."""

    path: Path
    clock: Clock
    counter_rules: Sequence[CounterRule] = ()
    settings: Sequence[str] = ()
    home: Home | None = None
    rebuilt: Rebuilt | None = None

    @property
    def opened(self) -> Home:
        """The home, which the row `home` opened."""
        assert self.home is not None, "a probe of the home stands on the row `home`"
        return self.home


@dataclass(frozen=True, slots=True)
class Probe:
    """One row: what it says of itself and how it acts.

    Without the rows that it `needs` it is not tried. It is tried in spite of the
    rows that it `blames`, and when it fails, a failed one of them is the root.
    Codes that mean `absent` make it na.
    """

    id: str
    sentence: str
    act: Callable[[Patient], str]
    needs: tuple[str, ...] = ()
    blames: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """What a probe found. `because` says what was done when ok, the cause when failed, the reason when na."""

    id: str
    state: str
    because: str
    code: str = ""
    cure: str = ""
    root: str = field(default="", compare=False)

    def as_json(self) -> dict[str, Json]:
        """Every field, as JSON."""
        names = ("id", "state", "code", "because", "cure", "root")
        return {name: getattr(self, name) for name in names}


def examine(probes: Sequence[Probe], patient: Patient) -> list[Row]:
    """Try every probe in order; each gives exactly one row."""
    rows: dict[str, Row] = {}
    for probe in probes:
        assert probe.id not in rows and rows.keys() >= {*probe.needs, *probe.blames}, f"order of {probe.id}"
        unmet = next((rows[need] for need in probe.needs if rows[need].state != "ok"), None)
        if unmet is not None:
            rows[probe.id] = _because_of(probe.id, unmet)
            continue
        rows[probe.id] = _try(probe, patient, rows)
    return list(rows.values())


def exit_of(rows: Sequence[Row]) -> int:
    """3 if a row found broken integrity, else 1 if one failed, else 4 if one could not judge, else 0."""
    exits = {_exit_of_code(row.code) for row in rows if row.state == "failed"}
    return next((status for status in (EXIT_BROKEN, EXIT_NO, EXIT_CANNOT_JUDGE) if status in exits), EXIT_OK)


def _exit_of_code(code: str) -> int:
    """Without a home there is nothing to judge; every other refusal of one is a fault."""
    if code == "home.missing":
        return EXIT_CANNOT_JUDGE
    status = all_errors()[code].exit
    return status if status in (EXIT_BROKEN, EXIT_CANNOT_JUDGE) else EXIT_NO


def _try(probe: Probe, patient: Patient, rows: Mapping[str, Row]) -> Row:
    try:
        return Row(probe.id, "ok", probe.act(patient))
    except NotTried as reason:
        return Row(probe.id, "na", reason.because, cure=reason.cure)
    except SterlingError as problem:
        found = problem
    except Exception as problem:  # noqa: BLE001 - a broken home may break a probe in any way; its row fails
        found = ProbeFailed(f"expected the probe to end, found {type(problem).__name__}: {problem}")
    if found.code in probe.absent:
        return Row(probe.id, "na", found.message, cure=found.hint)
    for row in (row for row in rows.values() if row.state == "failed"):
        if row.id in probe.blames or (row.code, row.because) == (found.code, found.message):
            return _because_of(probe.id, row)
    return Row(probe.id, "failed", found.message, found.code, found.hint)


def _because_of(own: str, unmet: Row) -> Row:
    root = unmet.root or unmet.id
    return Row(own, "na", f"because of row {root}", root=root)
