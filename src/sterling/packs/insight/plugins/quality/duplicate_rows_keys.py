"""Duplicate rows and keys: how many rows repeat an earlier row exactly, and what names a row.

A column of ids, text or whole numbers is a key when no cell is missing and no
value repeats. An id that tells at least 99 % of the rows apart is a broken key,
unless exact repeats of whole rows explain every repeat of it. When no single
column names the rows, pairs of labels (ids, categories, days) are tried.
Measurements are never keys, however rarely they repeat.
"""

from itertools import combinations
from typing import Any

from sterling.runtime.plugin_api import Finding, Outcome, progress

_SINGLE_TYPES = {"id", "int", "text"}
_PAIR_TYPES = {"id", "category", "date", "timestamp"}
_PAIR_COLUMNS = 12
_NEARLY = 99  # Per cent of rows that a broken key must still tell apart.


def run(table: Any, registry: Any) -> Outcome:
    findings = [_repeats(table, registry)]
    repeats = findings[0].evidence["value"][0][0]
    counts = _distinct_counts(table)
    for column, distinct in counts:
        if column.type in _SINGLE_TYPES:
            kind = _kind(column, distinct, table.row_count, repeats)
            fact = registry.fact("key", target=[column.name], unit="rows")
            if kind:
                findings.append(_key(table, registry, kind, fact, [column]))
    tested = sum(column.type in _SINGLE_TYPES for column, _ in counts)
    if len(findings) == 1 and not repeats:
        found, pairs = _pair_keys(table, registry, counts)
        findings.extend(found)
        tested += pairs
    outcome: Outcome = registry.outcome(findings, {"keys_tested": tested})
    return outcome


def _kind(column: Any, distinct: int, rows: int, repeats: int) -> str:
    """What a column with so many different values is, as a key; empty for none."""
    if distinct == rows:
        return "key-kept"
    if column.type != "id" or distinct * 100 < rows * _NEARLY:
        return ""
    return "key-but-repeats" if distinct == rows - repeats else "key-broken"


def _repeats(table: Any, registry: Any) -> Finding:
    names = list(table.columns)
    fact = registry.fact("rows-repeated", target=names, unit="rows")
    cells = ", ".join(view.sql for view in table.views)
    ranked = f"SELECT _row, row_number() OVER (PARTITION BY {cells} ORDER BY _row) AS seen FROM t"
    cited = table.cite(
        f"SELECT count(*) FILTER (WHERE seen > 1) AS count, count(*) AS of FROM ({ranked})",
        columns=names,
        rows=f"SELECT _row FROM ({ranked}) WHERE seen > 1 ORDER BY _row",
    )
    count = cited["value"][0][0]
    finding: Finding = registry.finding("rows-repeated" if count else "rows-distinct", fact, cited, {})
    return finding


def _distinct_counts(table: Any) -> list[tuple[Any, int]]:
    """Columns that may name rows, with how many rows they tell apart; missing cells tell none apart."""
    counted: list[tuple[Any, int]] = []
    for done, column in enumerate(table.views):
        if column.type in _SINGLE_TYPES | _PAIR_TYPES:
            (distinct,) = table.sql(f"SELECT count(DISTINCT {column.sql}) FROM t")[0]
            counted.append((column, int(distinct)))
        progress(done + 1, len(table.views))
    return counted


def _key(table: Any, registry: Any, kind: str, fact: str, columns: list[Any]) -> Finding:
    names = [column.name for column in columns]
    cells = ", ".join(column.sql for column in columns)
    filled = " AND ".join(f"{column.sql} IS NOT NULL" for column in columns)
    ranked = (
        f"SELECT _row, row_number() OVER (PARTITION BY {cells} ORDER BY _row) AS seen FROM t WHERE {filled}"
    )
    rows = f"SELECT _row FROM ({ranked}) WHERE seen > 1 ORDER BY _row"
    cited = table.cite(
        f"SELECT count(*) FILTER (WHERE seen > 1) AS count, (SELECT count(*) FROM t) AS of FROM ({ranked})",
        columns=names,
        rows=None if kind.endswith("key-kept") else rows,
    )
    parts = ("column",) if len(names) == 1 else ("first", "second")
    finding: Finding = registry.finding(kind, fact, cited, dict(zip(parts, names, strict=True)))
    return finding


def _pair_keys(table: Any, registry: Any, counts: list[tuple[Any, int]]) -> tuple[list[Finding], int]:
    """Pairs of labels that name every row together, though neither comes near it alone."""
    labels = [
        (column, distinct)
        for column, distinct in counts
        if column.type in _PAIR_TYPES and distinct * 2 <= table.row_count
    ]
    telling = sorted(labels, key=lambda item: (-item[1], item[0].name))[:_PAIR_COLUMNS]
    findings: list[Finding] = []
    pairs = list(combinations(telling, 2))
    for (first, levels), (second, others) in pairs:
        fact = registry.fact("key", target=[first.name, second.name], unit="rows")
        if levels * others < table.row_count:
            continue  # Fewer combinations than rows: it cannot be a key.
        filled = f"{first.sql} IS NOT NULL AND {second.sql} IS NOT NULL"
        (distinct,) = table.sql(
            f"SELECT count(*) FROM (SELECT DISTINCT {first.sql}, {second.sql} FROM t WHERE {filled})"
        )[0]
        if distinct == table.row_count:
            findings.append(_key(table, registry, "pair-key-kept", fact, [first, second]))
    return findings, len(pairs)
