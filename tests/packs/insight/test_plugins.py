"""The three plugins: planted facts are found with their rows, absent ones are not, odd tables do no harm."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from sterling.runtime.plugin_api import Na, Ok

Call = Callable[..., Any]
N = 200


def rows_of(finding: Any) -> list[int]:
    return list(finding.evidence["row_set"]["first"])


def counts(finding: Any) -> tuple[int, int]:
    row = dict(zip(finding.evidence["names"], finding.evidence["value"][0], strict=True))
    return row["count"], row["of"]


def kinds(ran: Any) -> list[str]:
    return sorted(finding.kind for finding in ran.findings)


# A1


def test_a_profile_counts_what_a_plain_count_counts(call: Call) -> None:
    cells = ["3", "1", "", "2", "2", "10"]

    (profile,) = call("column_profile", {"n": cells, "x": ["a"] * 6}).of("column-profile")[:1]
    row = dict(zip(profile.evidence["names"], profile.evidence["value"][0], strict=True))

    assert (row["rows"], row["filled"], row["distinct"]) == (6, 5, 4)
    assert (row["lowest"], row["middle"], row["highest"], row["mean"]) == ("1", "2", "10", "3.6")
    assert sum(part["cells"] for part in row["bins"]) == 5


def test_the_bins_of_any_numbers_add_up_and_do_not_overflow(call: Call) -> None:
    columns = {
        "wide": ["-1e300", "1e300", "0.0", "5e-324", "1.5"],
        "same": ["7"] * 5,
        "infinite": ["inf", "-inf", "1.5", "2.5", "3.5"],
        "decimal": ["0.1", "0.2", "0.3", "0.4", "99999999999999.5"],
    }
    profiles = {
        item.values["names"]["column"]: item for item in call("column_profile", columns).of("column-profile")
    }

    for name, finite in (("wide", 5), ("infinite", 3), ("decimal", 5)):
        row = dict(zip(profiles[name].evidence["names"], profiles[name].evidence["value"][0], strict=True))
        bins = row["bins"]
        assert bins is None or sum(part["cells"] for part in bins) == finite


def test_missing_constant_empty_and_infinite_columns_are_named(call: Call) -> None:
    columns = {
        "gaps": ["1", "", "3", "", "5"],
        "still": ["x"] * 5,
        "void": [""] * 5,
        "big": ["inf", "1.5", "2.5e1", "3.5", "-inf"],
    }
    ran = call("column_profile", columns)

    assert counts(ran.of("cells-missing")[0]) == (2, 5)
    assert rows_of(ran.of("cells-missing")[0]) == [2, 4]
    assert [item.values["names"]["column"] for item in ran.of("column-constant")] == ["still"]
    assert [item.values["names"]["column"] for item in ran.of("column-empty")] == ["void"]
    assert (counts(ran.of("infinite-values")[0]), rows_of(ran.of("infinite-values")[0])) == ((2, 5), [1, 5])


def test_text_and_ids_show_lengths_and_never_content(call: Call) -> None:
    columns = {"mail": [f"person{n}@example.org" for n in range(30)], "n": list(range(30))}
    (profile, *_) = call("column_profile", columns).of("column-profile")

    assert "example.org" not in str(profile.evidence["value"])


# A3


def test_repeated_rows_are_counted_from_the_second_on(call: Call) -> None:
    ran = call("duplicate_rows_keys", {"a": ["x", "y", "x", "x", ""], "b": ["1", "2", "1", "1", ""]})

    assert counts(ran.of("rows-repeated")[0]) == (2, 5)
    assert rows_of(ran.of("rows-repeated")[0]) == [3, 4]


def test_rows_that_differ_in_one_cell_do_not_repeat(call: Call) -> None:
    ran = call("duplicate_rows_keys", {"a": ["x", "x", "x"], "b": ["1", "2", ""]})

    assert not ran.of("rows-repeated") and ran.of("rows-distinct")


def test_a_key_is_named_and_a_measurement_is_not(call: Call) -> None:
    columns = {
        "order_id": [f"{n:05}" for n in range(N)],
        "weight": [f"{n * 1.5:.1f}" for n in range(N)],
        "colour": ["red", "blue"] * (N // 2),
    }
    ran = call("duplicate_rows_keys", columns)

    assert [item.values["names"]["column"] for item in ran.of("key-kept")] == ["order_id"]


def test_a_broken_key_lists_the_rows_that_repeat_it(call: Call) -> None:
    ids = [f"{n:05}" for n in range(N)]
    ids[150] = ids[20]
    ran = call("duplicate_rows_keys", {"order_id": ids, "n": list(range(N))})

    assert rows_of(ran.of("key-broken")[0]) == [151]


def test_repeats_that_whole_rows_explain_do_not_break_a_key(call: Call) -> None:
    ids = [f"{n:05}" for n in range(N)] + ["00007"]
    ran = call("duplicate_rows_keys", {"order_id": ids, "n": [*range(N), 7]})

    assert ran.of("key-but-repeats") and not ran.of("key-broken")


def test_two_labels_that_name_rows_together_are_found(call: Call) -> None:
    columns = {
        "country": [f"c{n % 20}" for n in range(N)],
        "year": [f"20{n // 20:02}-01-01" for n in range(N)],
        "value": ["1.5", "2.5"] * (N // 2),
    }
    ran = call("duplicate_rows_keys", columns)

    assert [sorted(item.values["names"].values()) for item in ran.of("pair-key-kept")] == [
        ["country", "year"]
    ]


# A4


def planted(seed: int = 1) -> dict[str, list[object]]:
    """A table in which every rule holds and nothing else does."""
    random = Random(seed)
    start = [random.randrange(0, 10**6) for _ in range(N)]
    length = [random.randrange(1, 3000) for _ in range(N)]
    a, b = ([random.randrange(2, 500) for _ in range(N)] for _ in range(2))
    site = [random.randrange(12) for _ in range(N)]
    return {
        "start": [stamp(second) for second in start],
        "end": [stamp(second + part) for second, part in zip(start, length, strict=True)],
        "seconds": length,
        "a": a,
        "b": b,
        "total": [x + y for x, y in zip(a, b, strict=True)],
        "area": [x * y for x, y in zip(a, b, strict=True)],
        "site": [f"s{place}" for place in site],
        "region": [f"r{place % 4}" for place in site],
        "noise": [f"n{random.randrange(4)}" for _ in range(N)],
        "again": [f"s{place}" for place in site],
    }


def stamp(second: int) -> str:
    day, rest = divmod(second, 86_400)
    return f"2024-01-{day + 1:02} {rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


def test_planted_rules_are_found_and_no_others(call: Call) -> None:
    ran = call("constraint_violations", planted())

    said = sorted(finding.claim.split(" in all")[0].split(": ")[0] for finding in ran.findings)
    assert kinds(ran) == [
        "columns-equal",
        "dependency-kept",
        "duration-kept",
        "order-kept",
        "product-kept",
        "sum-kept",
    ]
    assert "“site” decides “region”:" in said
    assert "“total” = “a” + “b”" in said


def test_one_broken_row_in_each_rule_is_counted_and_named(call: Call) -> None:
    table = planted()
    table["end"][10], table["start"][10] = table["start"][10], table["end"][10]
    table["total"][20] = 1
    table["area"][30] = 1
    table["region"][40] = "r9"
    ran = call("constraint_violations", table)

    broken = {finding.kind: rows_of(finding) for finding in ran.findings if finding.kind.endswith("broken")}
    assert broken["order-broken"] == [11]
    assert broken["duration-broken"] == [11]
    assert broken["sum-broken"] == [21]
    assert broken["product-broken"] == [31]
    assert broken["dependency-broken"] == [41]


@pytest.mark.parametrize("seed", range(5))
def test_independent_columns_give_no_rule(call: Call, seed: int) -> None:
    random = Random(seed)
    columns = {
        "a": [f"{random.randrange(6)}x" for _ in range(N)],
        "b": [f"{random.randrange(40)}y" for _ in range(N)],
        "c": [random.randrange(1000) for _ in range(N)],
        "d": [random.randrange(3) for _ in range(N)],
        "e": [f"{random.random():.3f}" for _ in range(N)],
        "t": [stamp(random.randrange(10**6)) for _ in range(N)],
        "u": [stamp(random.randrange(10**6)) for _ in range(N)],
    }
    ran = call("constraint_violations", columns)

    assert isinstance(ran.outcome, Na)
    assert (ran.outcome.reason, "rules were tried" in ran.outcome.because) == ("insight.no-constraint", True)
    assert len(ran.told.registered) > 40


def test_few_negative_values_are_named_and_many_are_not(call: Call) -> None:
    few = [str(n + 1) for n in range(N)]
    few[5] = "-3"
    many = [str(n - 100) for n in range(N)]

    ran = call("constraint_violations", {"few": few, "many": many})

    assert [(item.values["names"]["column"], rows_of(item)) for item in ran.of("sign-broken")] == [
        ("few", [6])
    ]


def test_sums_of_decimals_are_exact(call: Call) -> None:
    random = Random(3)
    cents = [(random.randrange(1, 9999), random.randrange(1, 9999)) for _ in range(N)]
    columns = {
        "net": [f"{a // 100}.{a % 100:02}" for a, _ in cents],
        "tax": [f"{b // 100}.{b % 100:02}" for _, b in cents],
        "gross": [f"{(a + b) // 100}.{(a + b) % 100:02}" for a, b in cents],
    }

    assert call("constraint_violations", columns).of("sum-kept")


def test_a_cap_is_counted_and_not_forgotten(call: Call) -> None:
    ran = call("constraint_violations", planted(), pairs_max=3, triples_max=3)

    metrics = ran.outcome.metrics if isinstance(ran.outcome, Ok) else {}
    assert int(metrics.get("rules_left_out", 0)) > 0


# Odd tables

DEGENERATE = {
    "one row": {"a": ["1"], "b": ["x"]},
    "constant": {"a": ["1"] * 30, "b": ["x"] * 30},
    "all missing": {"a": [""] * 30, "b": [" "] * 30},
    "huge integers": {"a": ["9" * 40] * 30, "b": [str(10**17 + n) for n in range(30)]},
    "infinite": {"a": ["inf"] * 15 + ["-inf"] * 15, "b": ["1.5e3"] * 30},
    "one group": {"a": ["g"] * 30, "b": [str(n) for n in range(30)]},
    "odd names": {'a"b': ["1"] * 30, "select": [str(n) for n in range(30)], "{x}": ["y"] * 30},
    "wide decimals": {"a": [f"{n}.{'1' * 30}" for n in range(30)], "b": [f"{n}.5" for n in range(30)]},
}


@pytest.mark.parametrize("plugin", ["column_profile", "duplicate_rows_keys", "constraint_violations"])
@pytest.mark.parametrize("name", sorted(DEGENERATE))
def test_odd_tables_end_in_an_outcome(call: Call, plugin: str, name: str) -> None:
    ran = call(plugin, DEGENERATE[name])

    assert isinstance(ran.outcome, Ok | Na)
    if isinstance(ran.outcome, Na):
        assert ran.outcome.because.endswith(".")


def test_the_order_of_rows_does_not_change_what_is_found(call: Call) -> None:
    table = planted()
    order = list(range(N))
    Random(9).shuffle(order)
    shuffled = {name: [cells[place] for place in order] for name, cells in table.items()}

    claims = [finding.claim for finding in call("constraint_violations", table).findings]

    assert [finding.claim for finding in call("constraint_violations", shuffled).findings] == claims
