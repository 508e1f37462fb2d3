"""How an answer about a task looks on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sterling.cli.plain import text as plain
from sterling.cli.words import state_word, table

__all__ = ["lines_of"]


def lines_of(answer: dict[str, Any]) -> str:
    """The answer in a few lines; everything in it is in the JSON form."""
    return "\n".join(_lines(answer))


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    result = answer["result"]
    word = {True: "ok", False: "failed", None: "na"}[answer["ok"]]
    if "tasks" in result:
        yield from _tasks(result)
        return
    where = " ".join(str(result[name]) for name in ("state", "phase") if result.get(name))
    code = "" if answer["code"] == "ok" else f" {answer['code']}"
    yield f"{state_word(word)}{code}  {result.get('task', '')} {where}".rstrip()
    for name in ("title", "message", "because", "ring", "transition", "record", "receipt", "file", "work"):
        if result.get(name):
            yield f"  {name}: {plain(str(result[name]))}"
    for refusal in [*result.get("refusals", []), *result.get("problems", [])]:
        yield from _refusal(refusal)
    yield from _needs(result)
    for line in result.get("journal", []):
        yield f"  {line['entry']:>6}  {plain(str(line.get('sentence', '')))}"
        for reason in line.get("reasons", []):
            yield f"          {plain(reason)}"
        if line.get("claim"):
            yield f"          the agent claimed: {plain(line['claim'])}"
    for row in result.get("artifacts", []):
        yield f"  {row['phase']:<10} {row['kind']:<18} {row['author']:<9} {plain(row['path'])}"
    for name, value in sorted(result.get("handover", {}).items()):
        yield f"  {name}: {plain(str(value))}"
    for path in [*result.get("written", []), *result.get("restored", [])]:
        yield f"  {plain(path)}"


def _refusal(refusal: dict[str, Any]) -> Iterator[str]:
    where = f" {refusal['where']}" if refusal["where"] else ""
    yield f"  {refusal['code']} ({refusal['severity']}){plain(where)}"
    yield f"    expected {plain(refusal['expected'])}, found {plain(refusal['found'])}"
    yield f"    next: {plain(refusal['satisfied_by'])}"


def _needs(result: dict[str, Any]) -> Iterator[str]:
    if result.get("next"):
        yield f"  next phase: {result['next']}"
    if result.get("missing"):
        names = ", ".join(f"{each['where'].partition('/')[0]} ({each['code']})" for each in result["missing"])
        yield f"  missing: {names}"


def _tasks(result: dict[str, Any]) -> Iterator[str]:
    if not result["tasks"]:
        yield "No task yet. Start one: sterling task new TEXT"
        return
    rows = [
        [row["task"], row["state"], row["phase"] or "-", str(row["epoch"]), plain(row["title"])[:60]]
        for row in result["tasks"]
    ]
    yield table(rows, ["task", "state", "phase", "epoch", "title"])
