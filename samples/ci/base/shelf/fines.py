"""What a late book costs."""

DAILY_CENTS = 25
CAP_CENTS = 1000


def fine_cents(days_late: int, *, daily: int = DAILY_CENTS, cap: int = CAP_CENTS) -> int:
    """The fine for a book, never more than the cap."""
    return min(days_late * daily, cap)
