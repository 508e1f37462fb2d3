"""What a plugin may reach: what it declared, and nothing else, even when it hides the refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sterling.packs.insight.door import AnalyzeResult
from sterling.testing.fleet import Fleet

Analyse = Callable[..., AnalyzeResult]
TEXT = "a,b\n" + "".join(f"{n},x{n % 3}\n" for n in range(30))
OWN = {"table": ["sql"], "kinds": ["rows-distinct"], "test_family": "facts"}
GOOD = """
def run(table, registry):
    fact = registry.fact("rows", target=["a"], unit="rows")
    cited = table.cite("SELECT count(*) AS of FROM t", columns=["a"])
    return registry.outcome([registry.finding("rows-distinct", fact, cited, {})], {"n": 1})
"""


def outcome(result: AnalyzeResult, step: str) -> tuple[str, str]:
    (row,) = [row for row in result.document["outcomes"] if row["step"] == step]
    return row["state"], row["reason"]


def add(fleet: Fleet, code: str, **own: Any) -> None:
    fleet.add("toy", code, family="numeric", insight=OWN | own)


def body(lines: str) -> str:
    return "def run(table, registry):\n" + "".join(f"    {line}\n" for line in lines.splitlines())


@pytest.mark.parametrize(
    ("declared", "used", "state"),
    [
        (["sql"], "table.sql('SELECT 1')", "ok"),
        (["sql", "rows"], "list(table.rows())", "ok"),
        (["rows"], "table.sql('SELECT 1')", "insight.access-denied"),
        (["sql"], "list(table.rows())", "insight.access-denied"),
        ([], "table.cite('SELECT 1 AS of', columns=[])", "insight.access-denied"),
    ],
)
def test_only_declared_access_is_given(
    fleet: Fleet, analyse: Analyse, declared: list[str], used: str, state: str
) -> None:
    add(fleet, body(f"{used}\nreturn Ok(metrics={{'n': 1}})"), table=declared)

    found = outcome(analyse(TEXT, plugins=("toy",)), "toy")

    assert state in found


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("table.sql(\"SELECT * FROM read_csv('/etc/hostname')\")", "insight.raw-access"),
        ("table.sql('SELECT * FROM raw')", "insight.raw-access"),
        ("table.cite(\"SELECT * FROM '/etc/passwd'\", columns=[])", "insight.raw-access"),
        ("list(table.rows())", "insight.access-denied"),
    ],
)
def test_a_swallowed_refusal_still_fails_the_step(
    fleet: Fleet, analyse: Analyse, lines: str, reason: str
) -> None:
    code = f"try:\n    {lines}\nexcept Exception:\n    pass\nreturn Ok(metrics={{'n': 1}})"
    add(fleet, body(code))

    result = analyse(TEXT, plugins=("toy",))

    assert outcome(result, "toy") == ("failed", reason)
    assert result.exit == 1


def test_an_access_that_nobody_knows_fails_before_the_plugin_is_loaded(
    fleet: Fleet, analyse: Analyse
) -> None:
    add(fleet, "raise SystemExit('loaded')\n" + GOOD, table=["telepathy"])

    assert outcome(analyse(TEXT, plugins=("toy",)), "toy") == ("failed", "insight.access-mismatch")


def test_what_was_used_stands_in_the_manifest(fleet: Fleet, analyse: Analyse) -> None:
    import json

    add(fleet, GOOD)
    result = analyse(TEXT, plugins=("toy",))

    manifest = json.loads(result.files["manifest"].read_text())
    (plugin,) = manifest["plugins"]
    assert (plugin["access_declared"], plugin["access_used"]) == (["sql"], {"sql": 1})
