"""Every reason this pack may give, with its sentence and the next step.

The table is closed: a code that is not here cannot be emitted, and a test
finds each one in use. The runtime owns `step.*`, `need.*`, `limit.*` and
`worker.*`; they are not repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

__all__ = ["REASONS", "Reason", "ReasonText", "sentence"]


class Reason(StrEnum):
    """Codes of outcomes and of refusals, one name each."""

    TOO_FEW_ROWS = "insight.too-few-rows"
    TOO_FEW_COLUMNS = "insight.too-few-columns"
    NO_CONSTRAINT = "insight.no-constraint"
    ACCESS_DENIED = "insight.access-denied"
    ACCESS_MISMATCH = "insight.access-mismatch"
    RAW_ACCESS = "insight.raw-access"
    UNREGISTERED_HYPOTHESIS = "insight.unregistered-hypothesis"
    CONTRACT_BROKEN = "insight.contract-broken"
    EVIDENCE_MISMATCH = "insight.evidence-mismatch"
    UNREADABLE_SOURCE = "insight.unreadable-source"
    UNSUPPORTED_FORMAT = "insight.unsupported-format"
    LIMIT_EXCEEDED = "insight.limit-exceeded"


@dataclass(frozen=True, slots=True)
class ReasonText:
    """How a code ends a step or a command, what it says, and what to do next."""

    ends: Literal["na", "failed", "refused"]
    template: str
    next_step: str


REASONS: dict[Reason, ReasonText] = {
    Reason.TOO_FEW_ROWS: ReasonText(
        "na", "The table has {found} rows; this needs at least {least}.", "Give a table with more rows."
    ),
    Reason.TOO_FEW_COLUMNS: ReasonText(
        "na",
        "The table has {found} columns; this needs at least {least}.",
        "Give a table with more columns.",
    ),
    Reason.NO_CONSTRAINT: ReasonText(
        "na",
        "No rule between columns holds in this table, and none is nearly kept: {tested} rules were tried.",
        "Nothing to do. The rules that were tried are in the registry.",
    ),
    Reason.ACCESS_DENIED: ReasonText(
        "failed",
        "The plugin asked for {asked}, which its manifest does not declare.",
        "Declare the access in the manifest, then run `sterling plugins lock`.",
    ),
    Reason.ACCESS_MISMATCH: ReasonText(
        "failed",
        "The plugin used {used} and its manifest declares {declared}.",
        "Make manifest and code agree, then run `sterling plugins lock`.",
    ),
    Reason.RAW_ACCESS: ReasonText(
        "failed",
        "The plugin tried to read outside the normalized table: {asked}.",
        "Read the table only through the injected `table`.",
    ),
    Reason.UNREGISTERED_HYPOTHESIS: ReasonText(
        "failed",
        "The plugin reported {found}, which it had not registered.",
        "Register the fact before reporting it.",
    ),
    Reason.CONTRACT_BROKEN: ReasonText(
        "failed", "The plugin reported a finding that breaks its contract: {found}.", "Mend the plugin."
    ),
    Reason.EVIDENCE_MISMATCH: ReasonText(
        "refused",
        "The stored evidence does not give the stored value again: {found}.",
        "Compare with a copy of the home that still verifies.",
    ),
    Reason.UNREADABLE_SOURCE: ReasonText(
        "refused", "The source cannot be read as a table: {found}.", "Mend or convert the file."
    ),
    Reason.UNSUPPORTED_FORMAT: ReasonText(
        "refused", "The source is in a format that is not read: {found}.", "Save it as CSV or Parquet."
    ),
    Reason.LIMIT_EXCEEDED: ReasonText("refused", "The source passes a limit: {found}.", "Make it smaller."),
}


def sentence(reason: Reason, **facts: object) -> str:
    """The sentence of a code with its blanks filled in."""
    return REASONS[reason].template.format(**facts)
