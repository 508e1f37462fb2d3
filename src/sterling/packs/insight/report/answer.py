"""The answer on top of the report: at most five sentences, each built from figures and claims.

Pure. In order: what was read, which rows to look at, what to know before using it, what
holds without exception, and what is still open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sterling.kernel.canonical import Json

__all__ = ["answer"]

_WHOLE = ("-kept", "-equal")  # Kinds of rules that hold in every row.


def answer(
    figures: Mapping[str, int], claims: Sequence[Mapping[str, Json]], failed: Sequence[str], questions: int
) -> list[str]:
    """The sentences, from figures by name and findings in their order."""
    found = [
        _read(figures),
        _suspect(_of(claims, "suspect"), bool(claims)),
        _known(_of(claims, "notice")),
        _holding([claim for claim in claims if str(claim["kind"]).endswith(_WHOLE)]),
        _open(failed, questions),
    ]
    return [sentence for sentence in found if sentence]


def _read(figures: Mapping[str, int]) -> str:
    rows, columns = _many(figures["rows"], "row"), _many(figures["columns"], "column")
    said = [f"{rows} and {columns} were read"]
    if figures["rejected"]:
        said.append(f"{_many(figures['rejected'], 'row')} could not be read and are kept apart")
    else:
        said.append("no row was left out")
    if figures["unparsed"]:
        said.append(f"{_many(figures['unparsed'], 'cell')} did not fit their column and count as missing")
    return "; ".join(said) + "."


def _suspect(suspects: Sequence[Mapping[str, Json]], claimed: bool) -> str:
    if not suspects:
        return "No row was found to repeat another or to break a rule." if claimed else ""
    verb = "finding names" if len(suspects) == 1 else "findings name"
    return f"{len(suspects):,} {verb} rows to look at: {suspects[0]['claim']}"


def _known(notices: Sequence[Mapping[str, Json]]) -> str:
    return f"Worth knowing: {notices[0]['claim']}" if notices else ""


def _holding(rules: Sequence[Mapping[str, Json]]) -> str:
    if not rules:
        return ""
    verb = "rule holds" if len(rules) == 1 else "rules hold"
    return f"{len(rules):,} {verb} without exception: {rules[0]['claim']}"


def _open(failed: Sequence[str], questions: int) -> str:
    if failed:
        return f"The run failed: {', '.join(failed)} did not finish, so this report is not whole."
    if questions:
        verb = "question is" if questions == 1 else "questions are"
        return f"{questions:,} {verb} open; an answer would change how a column is read."
    return ""


def _of(claims: Sequence[Mapping[str, Json]], strength: str) -> list[Mapping[str, Json]]:
    return [claim for claim in claims if claim["strength"] == strength]


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
