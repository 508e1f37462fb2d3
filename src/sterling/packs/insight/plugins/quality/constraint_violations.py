"""Constraints: rules between columns that hold exactly, or in all but a few rows.

Five kinds of rule, each counted over every row: one time is never before
another; a column decides another; two columns are equal; a column is the sum,
the product or the lapse of time of two others; a column that is never negative
but for a few cells. A rule counts as broken, and not as absent, when at most
one row in a hundred breaks it (five for the order of times and for signs).

A rule must have something to lose: enough rows in which chance would break it.
Sums and products use whole numbers and exact decimals only, never floating point.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations
from typing import Any

from sterling.runtime.plugin_api import Finding, Outcome, progress

_SUPPORT = 20  # Rows in which the rule could visibly fail.
_BROKEN_ONE_IN = 100
_ORDER_ONE_IN = 20
_EXPECTED_PAIRS = 30  # Disagreeing pairs of rows that independent columns would show.
_AT_ONCE = 100  # Counts in one pass over the table.
_UNITS = (
    ("milliseconds", 1_000),
    ("seconds", 1_000_000),
    ("minutes", 60_000_000),
    ("hours", 3_600_000_000),
    ("days", 86_400_000_000),
)


@dataclass
class _Search:
    """One run: what it reads from, what it has found, and how much it tried or left out."""

    table: Any
    registry: Any
    settings: Mapping[str, Any]
    findings: list[Finding] = field(default_factory=list)
    tested: int = 0
    left_out: int = 0

    def typed(self, *types: str) -> list[Any]:
        return [view for view in self.table.views if view.type in types]

    def count(self, conditions: Sequence[str]) -> list[int]:
        """In how many rows each condition holds."""
        counts: list[int] = []
        for start in range(0, len(conditions), _AT_ONCE):
            part = conditions[start : start + _AT_ONCE]
            sums = ", ".join(f"count(*) FILTER (WHERE {condition})" for condition in part)
            counts.extend(int(count) for count in self.table.sql(f"SELECT {sums} FROM t")[0])
        return counts

    def fact(self, estimand: str, columns: Sequence[Any], unit: str = "rows") -> str:
        self.tested += 1
        return str(self.registry.fact(estimand, target=[column.name for column in columns], unit=unit))

    def report(self, kind: str, fact: str, columns: Sequence[Any], **parts: str) -> None:
        """Cite a rule that is broken where `broken` holds among the rows where `within` does."""
        broken, within = parts.pop("broken"), parts.pop("within")
        cited = self.table.cite(
            f"SELECT count(*) FILTER (WHERE {broken}) AS count, count(*) AS of FROM t WHERE {within}",
            columns=[column.name for column in columns],
            rows=f"SELECT _row FROM t WHERE ({within}) AND ({broken}) ORDER BY _row",
        )
        self.findings.append(self.registry.finding(kind, fact, cited, parts))

    def capped(self, items: list[Any], setting: str) -> list[Any]:
        """The first items up to a setting; the rest is counted, not forgotten."""
        most = int(self.settings[setting])
        self.left_out += max(0, len(items) - most)
        return items[:most]


def run(table: Any, registry: Any, settings: Mapping[str, Any]) -> Outcome:
    search = _Search(table, registry, settings)
    equal = _equal_columns(search)
    searches: tuple[Callable[[], None], ...] = (
        lambda: _orders(search),
        lambda: _signs(search),
        lambda: _dependencies(search, equal),
        lambda: _arithmetic(search, equal),
        lambda: _durations(search),
    )
    for done, part in enumerate(searches):
        part()
        progress(done + 1, len(searches))
    metrics = {"rules_tested": search.tested, "rules_left_out": search.left_out}
    outcome: Outcome = (
        registry.outcome(search.findings, metrics)
        if search.findings
        else registry.nothing("insight.no-constraint", tested=search.tested)
    )
    return outcome


def _both(*columns: Any) -> str:
    return " AND ".join(f"{column.sql} IS NOT NULL" for column in columns)


def _equal_columns(search: _Search) -> set[str]:
    """Columns that repeat an earlier one; they are left out of the other searches."""
    pairs = [
        (first, second)
        for first, second in combinations(search.table.views, 2)
        if first.type == second.type and first.scale == second.scale
    ]
    pairs = search.capped(pairs, "pairs_max")
    counts = search.count([f"{a.sql} IS NOT DISTINCT FROM {b.sql}" for a, b in pairs])
    equal: set[str] = set()
    for (first, second), count in zip(pairs, counts, strict=True):
        fact = search.fact("columns-equal", (first, second))
        if count == search.table.row_count and second.name not in equal and _varies(search, first):
            equal.add(second.name)
            search.report(
                "columns-equal",
                fact,
                (first, second),
                broken=f"{first.sql} IS DISTINCT FROM {second.sql}",
                within="true",
                first=first.name,
                second=second.name,
            )
    return equal


def _varies(search: _Search, column: Any) -> bool:
    return bool(search.table.sql(f"SELECT count(DISTINCT {column.sql}) > 1 FROM t")[0][0])


def _orders(search: _Search) -> None:
    """Times of which one is never, or hardly ever, before the other."""
    pairs = search.capped(list(combinations(search.typed("date", "timestamp"), 2)), "pairs_max")
    before = [f"{_day(a, b)} < {_day(b, a)}" for a, b in pairs]
    after = [f"{_day(a, b)} > {_day(b, a)}" for a, b in pairs]
    held = search.count([_both(a, b) for a, b in pairs])
    kept: list[tuple[Any, Any, str, int, int]] = []
    rows = zip(pairs, held, search.count(before), search.count(after), strict=True)
    for (first, second), of, less, more in rows:
        fact = search.fact("order-of-times", (first, second))
        early, late, broken, strict = (
            (first, second, more, less) if less >= more else (second, first, less, more)
        )
        if strict >= _SUPPORT and broken * _ORDER_ONE_IN <= of:
            kept.append((early, late, fact, broken, of))
    whole = {(early.name, late.name) for early, late, _, broken, _ in kept if not broken}
    for early, late, fact, broken, _ in kept:
        if not broken and any((early.name, via) in whole and (via, late.name) in whole for _, via in whole):
            continue  # It follows from two others that hold.
        search.report(
            "order-broken" if broken else "order-kept",
            fact,
            (early, late),
            broken=f"{_day(late, early)} < {_day(early, late)}",
            within=_both(early, late),
            earlier=early.name,
            later=late.name,
        )


def _day(column: Any, other: Any) -> str:
    """The column as a day when the other one holds days only."""
    mixed = column.type == "timestamp" and other.type == "date"
    return f"CAST({column.sql} AS DATE)" if mixed else str(column.sql)


def _signs(search: _Search) -> None:
    columns = search.typed("int", "decimal", "float")
    below = search.count([f"{column.sql} < 0" for column in columns])
    above = search.count([f"{column.sql} > 0" for column in columns])
    for column, less, more in zip(columns, below, above, strict=True):
        fact = search.fact("sign", (column,), unit="cells")
        if less and more >= _SUPPORT and less * _ORDER_ONE_IN <= less + more:
            search.report(
                "sign-broken",
                fact,
                (column,),
                broken=f"{column.sql} < 0",
                within=_both(column),
                column=column.name,
            )


def _dependencies(search: _Search, equal: set[str]) -> None:
    """Columns that decide another: equal values here mean equal values there."""
    labels = [
        (column, int(search.table.sql(f"SELECT count(DISTINCT {column.sql}) FROM t")[0][0]))
        for column in search.typed("id", "category", "bool", "int", "date")
        if column.name not in equal
    ]
    pairs = [
        (by, column)
        for (by, levels), (column, others) in permutations(labels, 2)
        if 2 <= others <= levels
        and levels * 2 <= search.table.row_count
        and not by.type == column.type == "int"  # Two measurements are no label of each other.
    ]
    held: list[tuple[Any, Any, str, int]] = []
    for by, column in search.capped(pairs, "pairs_max"):
        fact = search.fact("dependency", (by, column))
        broken = _broken_dependency(search, by, column)
        if broken is not None:
            held.append((by, column, fact, broken))
    whole = {(by.name, column.name) for by, column, _, broken in held if not broken}
    for by, column, fact, broken in held:
        if not _follows(by.name, column.name, whole):
            _report_dependency(search, by, column, fact, broken)


def _follows(by: str, column: str, whole: set[tuple[str, str]]) -> bool:
    """Whether a dependency follows from two others by way of a third column."""
    return any(
        (by, via) in whole and (via, column) in whole and (via, by) not in whole
        for start, via in whole
        if start == by and via != column
    )


def _broken_dependency(search: _Search, by: Any, column: Any) -> int | None:
    """How many rows break `by` decides `column`; None when it decides nothing."""
    shown = f"{by.sql} AS a, {column.sql} AS b, count(*) AS n"
    cells = f"SELECT {shown} FROM t WHERE {_both(by, column)} GROUP BY 1, 2"
    total, kept, pairs, agreeing, likeness = search.table.sql(
        f"WITH cells AS ({cells}), groups AS (SELECT a, sum(n) AS n, max(n) AS most FROM cells GROUP BY a),"
        " levels AS (SELECT b, sum(n) AS n FROM cells GROUP BY b)"
        " SELECT (SELECT sum(n) FROM groups), (SELECT sum(most) FROM groups),"
        " (SELECT sum(n * (n - 1) / 2) FROM groups), (SELECT sum(n * (n - 1) / 2) FROM cells),"
        " (SELECT sum(CAST(n AS DOUBLE) * n) FROM levels)"
    )[0]
    if not total:
        return None
    expected = float(pairs) * (1 - float(likeness) / float(total) ** 2)
    disagreeing = float(pairs) - float(agreeing)
    broken = int(total) - int(kept)
    is_rule = expected >= _EXPECTED_PAIRS and disagreeing * _ORDER_ONE_IN <= expected
    return broken if is_rule and broken * _BROKEN_ONE_IN <= total else None


def _report_dependency(search: _Search, by: Any, column: Any, fact: str, broken: int) -> None:
    within = _both(by, column)
    usual = (
        f"SELECT _row, {column.sql} IS DISTINCT FROM first_value({column.sql}) OVER"
        f" (PARTITION BY {by.sql} ORDER BY n DESC, {column.sql}) AS broken FROM"
        f" (SELECT *, count(*) OVER (PARTITION BY {by.sql}, {column.sql}) AS n FROM t WHERE {within})"
    )
    cited = search.table.cite(
        f"SELECT count(*) FILTER (WHERE broken) AS count, count(*) AS of FROM ({usual})",
        columns=[by.name, column.name],
        rows=f"SELECT _row FROM ({usual}) WHERE broken ORDER BY _row",
    )
    kind = "dependency-broken" if broken else "dependency-kept"
    names = {"by": by.name, "column": column.name}
    search.findings.append(search.registry.finding(kind, fact, cited, names))


def _arithmetic(search: _Search, equal: set[str]) -> None:
    """Columns that are the sum or the product of two others."""
    numbers = [
        column
        for column in search.typed("int", "decimal")
        if column.name not in equal and column.exact and _varies(search, column)
    ]
    triples = [
        (total, first, second)
        for first, second in combinations(numbers, 2)
        for total in numbers
        if total not in (first, second)
    ]
    triples = search.capped(triples, "triples_max")
    for sign, estimand, least in (("+", "sum", 0), ("*", "product", 1)):
        _equations(search, triples, sign, estimand, least)


def _equations(
    search: _Search, triples: Sequence[tuple[Any, Any, Any]], sign: str, estimand: str, least: int
) -> None:
    held = [_both(*triple) for triple in triples]
    same = [f"{total.number} = {first.number} {sign} {second.number}" for total, first, second in triples]
    telling = [
        f"{equation} AND abs({first.number}) > {least} AND abs({second.number}) > {least}"
        for equation, (_, first, second) in zip(same, triples, strict=True)
    ]
    rows = zip(triples, same, search.count(held), search.count(same), search.count(telling), strict=True)
    for triple, equation, of, right, support in rows:
        fact = search.fact(estimand, triple)
        broken = of - right
        if support >= _SUPPORT and broken * _BROKEN_ONE_IN <= of:
            total, first, second = triple
            search.report(
                f"{estimand}-broken" if broken else f"{estimand}-kept",
                fact,
                triple,
                broken=f"NOT ({equation})",
                within=_both(*triple),
                total=total.name,
                first=first.name,
                second=second.name,
            )


def _durations(search: _Search) -> None:
    """Numbers that are the time between two columns, in some unit."""
    tries = [
        (number, first, second, unit, size)
        for first, second in permutations(search.typed("timestamp", "date"), 2)
        if first.type == second.type
        for number in search.typed("int", "decimal")
        if number.exact
        for unit, size in _UNITS
    ]
    tries = search.capped(tries, "triples_max")
    same = [
        f"{number.number} * {size} = epoch_us({second.sql}) - epoch_us({first.sql})"
        for number, first, second, _, size in tries
    ]
    held = search.count([_both(number, first, second) for number, first, second, _, _ in tries])
    right = search.count(same)
    telling = search.count(
        [f"{equation} AND {item[0].number} <> 0" for equation, item in zip(same, tries, strict=True)]
    )
    for item, equation, of, count, support in zip(tries, same, held, right, telling, strict=True):
        number, first, second, unit, _ = item
        fact = search.fact("duration", (number, first, second), unit=unit)
        broken = of - count
        if support >= _SUPPORT and broken * _BROKEN_ONE_IN <= of:
            search.report(
                "duration-broken" if broken else "duration-kept",
                fact,
                (number, first, second),
                broken=f"NOT ({equation})",
                within=_both(number, first, second),
                total=number.name,
                first=first.name,
                second=second.name,
                unit=unit,
            )
