from datetime import date

import pytest

from shelf.loans import due_on


def test_a_loan_lasts_three_weeks():
    assert due_on(date(2026, 1, 5)) == date(2026, 1, 26)


def test_a_loan_that_would_end_on_sunday_ends_on_monday():
    assert due_on(date(2026, 1, 4)).weekday() == 0


def test_an_empty_loan_is_refused():
    with pytest.raises(ValueError, match="at least one day"):
        due_on(date(2026, 1, 5), days=0)
