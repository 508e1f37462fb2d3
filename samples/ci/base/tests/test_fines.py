from shelf.fines import fine_cents


def test_a_book_on_time_costs_nothing():
    assert fine_cents(0) == 0


def test_an_early_return_costs_nothing():
    assert fine_cents(-3) == 0


def test_one_day_late_costs_the_daily_rate():
    assert fine_cents(1) == 25


def test_a_fine_never_passes_the_cap():
    assert fine_cents(400) == 1000
