"""When a loan ends."""

from datetime import date, timedelta

LOAN_DAYS = 21
_SUNDAY = 6


def due_on(lent: date, *, days: int = LOAN_DAYS) -> date:
    """The day a loan is due; the library is closed on Sundays, so Monday instead."""
    if days < 1:
        raise ValueError(f"expected a loan of at least one day, found {days}")
    due = lent + timedelta(days=days)
    return due + timedelta(days=1) if due.weekday() == _SUNDAY else due


def days_late(due: date, returned: date) -> int:
    """How many days after the due date; negative for an early return."""
    return (returned - due).days
