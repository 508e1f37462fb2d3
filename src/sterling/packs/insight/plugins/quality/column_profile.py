"""Column profile: counts, missing cells, different values, range, and the shape of the distribution.

One query a column gives everything that is shown of it. Numbers, days and times
get quartiles and twenty equal bins between the 1st and the 99th of a hundred
parts (the end bins hold what lies outside); categories and truth values get
their eight most frequent levels. Text and ids show lengths only, never content.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from sterling.runtime.plugin_api import Finding, Outcome, progress

_RANGED = {"int", "decimal", "float", "date", "timestamp"}
_LEVELLED = {"bool", "category"}
_LEVELS = 8
_BINS = 20


def run(table: Any, registry: Any) -> Outcome:
    findings: list[Finding] = []
    for done, column in enumerate(table.views):
        findings.extend(_column(table, registry, column))
        progress(done + 1, len(table.views))
    metrics = {"columns": len(table.views), "rows": table.row_count}
    outcome: Outcome = registry.outcome(findings, metrics)
    return outcome


def _column(table: Any, registry: Any, column: Any) -> Iterator[Finding]:
    names = {"column": column.name, "type": column.type}
    profile = registry.fact("column-profile", target=[column.name], unit="cells")
    missing = registry.fact("cells-missing", target=[column.name], unit="cells")
    constant = registry.fact("column-constant", target=[column.name], unit="cells")
    cited = table.cite(_profile_sql(column), columns=[column.name])
    row = dict(zip(cited["names"], cited["value"][0], strict=True))
    yield registry.finding("column-profile", profile, cited, names)
    if row["filled"] == 0:
        yield _counted(table, registry, "column-empty", missing, column, "IS NULL", names)
        return
    if row["filled"] < row["rows"]:
        yield _counted(table, registry, "cells-missing", missing, column, "IS NULL", names)
    if row["distinct"] == 1 and row["filled"] == row["rows"] and row["rows"] > 1:
        cited = table.cite(
            f"SELECT count(DISTINCT {column.sql}) AS levels, count(*) AS of FROM t", columns=[column.name]
        )
        yield registry.finding("column-constant", constant, cited, names)
    if column.type == "float":
        infinite = registry.fact("infinite-values", target=[column.name], unit="cells")
        if row["infinite"]:
            yield _counted(table, registry, "infinite-values", infinite, column, None, names)


def _counted(
    table: Any, registry: Any, kind: str, fact: str, column: Any, test: str | None, names: Mapping[str, str]
) -> Finding:
    """A finding about the cells for which a test holds; without a test, the infinite ones."""
    where = f"{column.sql} {test}" if test else f"isinf({column.sql})"
    of = "count(*)" if test else f"count({column.sql})"
    cited = table.cite(
        f"SELECT count(*) FILTER (WHERE {where}) AS count, {of} AS of FROM t",
        columns=[column.name],
        rows=f"SELECT _row FROM t WHERE {where} ORDER BY _row",
    )
    finding: Finding = registry.finding(kind, fact, cited, names)
    return finding


def _profile_sql(column: Any) -> str:
    cell = column.sql
    counts = f"count(*) AS rows, count({cell}) AS filled, count(DISTINCT {cell}) AS distinct"
    if column.type in _RANGED:
        return _ranged_sql(column, counts)
    if column.type in _LEVELLED:
        return (
            f"WITH levels AS (SELECT CAST({cell} AS VARCHAR) AS level, count(*) AS cells FROM t"
            f" WHERE {cell} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {_LEVELS})"
            f" SELECT {counts}, (SELECT list(struct_pack(level := level, cells := cells)"
            " ORDER BY cells DESC, level) FROM levels) AS levels FROM t"
        )
    return f"SELECT {counts}, min(length({cell})) AS shortest, max(length({cell})) AS longest FROM t"


def _ranged_sql(column: Any, counts: str) -> str:
    cell = column.sql
    timed = column.type in {"date", "timestamp"}
    place = f"epoch({cell})" if timed else f"CAST({cell} AS DOUBLE)"
    finite = f"{cell} IS NOT NULL" + (f" AND isfinite({cell})" if column.type == "float" else "")
    shown = [
        f"CAST({value} AS VARCHAR) AS {name}"
        for name, value in (
            ("lowest", f"min({cell})"),
            ("first_quarter", f"quantile_disc({cell}, 0.25)"),
            ("middle", f"quantile_disc({cell}, 0.5)"),
            ("third_quarter", f"quantile_disc({cell}, 0.75)"),
            ("highest", f"max({cell})"),
        )
    ]
    if not timed:
        shown.append(f"printf('%.6g', avg(CAST({cell} AS DOUBLE))) AS mean")
        shown.append(f"count(*) FILTER (WHERE {cell} = 0) AS zeros")
    if column.type == "float":
        shown.append(f"count(*) FILTER (WHERE isinf({cell})) AS infinite")
    return (
        f"WITH cells AS (SELECT {place} AS x FROM t WHERE {finite}),"
        " parts AS (SELECT quantile_disc(x, 0.01) AS p01, quantile_disc(x, 0.99) AS p99,"
        " min(x) AS least, max(x) AS most FROM cells),"
        " edges AS (SELECT CASE WHEN p01 < p99 THEN p01 ELSE least END AS low,"
        " CASE WHEN p01 < p99 THEN p99 ELSE most END AS high FROM parts),"
        f" bins AS (SELECT CAST(greatest(0, least({_BINS - 1}, floor((x - low) / (high - low) * {_BINS})))"
        " AS INTEGER) AS bin, count(*) AS cells FROM cells, edges"
        " WHERE high > low AND isfinite(high - low) GROUP BY 1)"
        f" SELECT {counts}, {', '.join(shown)},"
        " (SELECT list(struct_pack(bin := bin, cells := cells) ORDER BY bin) FROM bins) AS bins,"
        f" (SELECT {_edge('low', column.type)} FROM edges) AS bins_from,"
        f" (SELECT {_edge('high', column.type)} FROM edges) AS bins_to FROM t"
    )


def _edge(edge: str, kind: str) -> str:
    """An edge of the bins in words: a day or time as such, a number in six figures."""
    if kind == "date":
        return f"strftime(make_timestamp(CAST({edge} * 1000000 AS BIGINT)), '%Y-%m-%d')"
    if kind == "timestamp":
        return f"strftime(make_timestamp(CAST({edge} * 1000000 AS BIGINT)), '%Y-%m-%d %H:%M:%S')"
    if kind == "int":
        return f"CAST(CAST({edge} AS HUGEINT) AS VARCHAR)"
    return f"printf('%.6g', {edge})"
