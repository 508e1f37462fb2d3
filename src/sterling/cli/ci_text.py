"""The answers of `sterling ci` as text: the verdict first, then at most a dozen lines.

Test ids and messages come out of somebody's reports, so all of them pass through
`plain.text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sterling.cli import plain
from sterling.cli.words import local_time, state_word

__all__ = ["baseline", "explained", "ingested", "ran", "verdict"]

_LINES_MAX = 5
_ID_LETTERS = 160
# What a reader wants to know first.
_ORDER = (
    *("new_fail", "worse", "vanished", "new_skip", "new_xfail"),
    *("flaky", "changed_signature", "hidden", "gone_quiet", "xpass", "added_muted"),
    *("fixed", "unskipped", "still_fail", "under_collector"),
)


def ran(answer: Mapping[str, Any]) -> str:
    """The text of `ci run`."""
    red = answer["outcome"] == "ok" and answer["exit_status"] == 1
    word = state_word("failed" if red else answer["outcome"])
    code = f"  {answer['code']}" if answer["code"] else ""
    lines = [f"{word}{code}  {_tally(answer['tally'])} ({answer['exit']['class'].replace('_', ' ')})"]
    if answer["outcome"] != "ok":
        lines.append(f"  {plain.text(answer['because'], width=300)}")
    if answer["last_test"] and answer["exit"]["class"] not in ("ok", "tests_failed"):
        lines.append(f"  last test named: {_id(answer['last_test'])}")
    lines += _failing(answer)
    dirty = " (not committed)" if answer["dirty"] else ""
    lines.append(f"  tree {answer['tree'][:12]}{dirty}  facts {answer['facts']}")
    lines.append(f"  run {answer['run']}")
    return _with_hint(lines, answer)


def ingested(answer: Mapping[str, Any]) -> str:
    """The text of `ci ingest`."""
    word = state_word({0: "ok", 4: "na"}.get(answer["exit_status"], "failed"))
    head = answer["fault"] or _tally(answer["tally"])
    lines = [f"{word}  {head}"]
    if answer["fault"]:
        lines.append(f"  {plain.text(answer['because'], width=300)}")
        if answer["tests"]:
            lines.append(f"  {answer['tests']} tests were read before that; they carry no verdict")
    else:
        lines += _failing(answer)
    unknown = [name for name, state in answer["facets"].items() if state != "complete"]
    if unknown:
        lines.append(f"  not told: {', '.join(unknown)}")
    lines += [f"  note: {plain.text(note, width=200)}" for note in answer["notes"][:_LINES_MAX]]
    if answer["gate_hash"]:
        lines.append(f"  gate hash {answer['gate_hash']}")
    lines.append(f"  facts {answer['facts']}  run {answer['run']}")
    return _with_hint(lines, answer)


def baseline(answer: Mapping[str, Any]) -> str:
    """The text of `ci baseline capture` and `show`."""
    word = state_word("ok" if answer["healthy"] else "failed")
    lines = [f"{word}  {_tally(answer['tally'])}" + ("" if answer["healthy"] else "  ci.baseline-unhealthy")]
    if answer["why"]:
        lines.append(f"  {plain.text(answer['why'], width=300)}")
    lines += [f"  red already: {_id(name)}" for name in answer["failing"][:_LINES_MAX]]
    lines += [f"  unstable: {_id(name)}" for name in answer["unstable"][:_LINES_MAX]]
    commit = f"commit {answer['commit'][:12]}  " if answer["commit"] else ""
    lines.append(f"  {commit}tree {answer['parts']['tree'][:12]}  key {answer['key'][:16]}")
    if answer["file"]:
        lines.append(f"  file {plain.text(answer['file'])}")
    if answer["record"]:
        lines.append(f"  baseline {answer['record']}")
    return _with_hint(lines, answer)


def verdict(answer: Mapping[str, Any]) -> str:
    """The text of `ci verdict`."""
    lines = [_verdict_line(answer), *_closing_gates(answer), *_states(answer["states"])]
    for group in answer["groups"][:2]:
        count = len(group["collectors"])
        lines.append(
            f"  {count} file{'s' if count > 1 else ''} did not load: {plain.text(group['cause'], width=120)}"
        )
    lines += [f"  note: {plain.text(note, width=200)}" for note in answer["notes"][:3]]
    lines.append(f"  {_sides(answer)}")
    lines.append(f"  decision {answer['decision']}  run {answer['run']}")
    return _with_hint(lines, answer)


def explained(answer: Mapping[str, Any]) -> str:
    """The text of `ci explain`."""
    ended = answer["exit_class"].replace("_", " ") or "unstated"
    lines = [
        _verdict_line(answer),
        f"  decided {local_time(answer['at_us'])} in {answer['run']}",
        f"  the run itself: {_tally(answer['tally'])}, ended {ended}",
        f"  {_sides(answer)}",
        *_states(answer["states"]),
    ]
    for gate in answer["gates"]:
        code = f" {gate['code']}" if gate["code"] else ""
        lines.append(f"  {gate['gate']}: {gate['outcome']}{code}. {plain.text(gate['because'], width=240)}")
    lines.append(f"  rule: {plain.text(answer['rule'])}")
    lines.append(f"  approved by: {', '.join(answer['approved_by']) or 'nobody; nothing was overridden'}")
    if answer["problems"]:
        lines += [
            f"  broken: {plain.text(problem, width=300)}" for problem in answer["problems"][:_LINES_MAX]
        ]
        lines.append("next: Run `sterling verify --blobs` and restore what it names.")
    else:
        lines.append(f"  evidence: {answer['checked']} records and blobs verified again")
    return "\n".join(lines)


def _verdict_line(answer: Mapping[str, Any]) -> str:
    codes = [*answer["reasons"], *(f"({code})" for code in answer["warnings"])]
    severity = "" if answer["severity"] == "none" else f"  severity {answer['severity']}"
    return f"{state_word(answer['verdict'])}  {' '.join(codes) or 'no regression'}{severity}"


def _closing_gates(answer: Mapping[str, Any]) -> list[str]:
    closing = [
        gate
        for gate in answer["gates"]
        if gate["outcome"] == "failed" or (gate["outcome"] == "na" and gate["closes"])
    ]
    # A delta that lists its ids below needs no sentence that counts them.
    told = [gate for gate in closing if gate["gate"] != "delta" or not answer["states"]]
    return [f"  {gate['gate']}: {plain.text(gate['because'], width=240)}" for gate in told[:4]]


def _states(states: Mapping[str, str]) -> list[str]:
    ranked = sorted((_ORDER.index(state), name, state) for name, state in states.items() if state in _ORDER)
    lines = [f"  {state.replace('_', ' ')}: {_id(name)}" for _, name, state in ranked]
    if len(lines) > _LINES_MAX:
        lines[_LINES_MAX - 1 :] = [f"  and {len(lines) - _LINES_MAX + 1} more"]
    return lines


def _sides(answer: Mapping[str, Any]) -> str:
    base = f"baseline {answer['baseline']['key'][:16]}" if answer["baseline"] else "no baseline"
    head = answer["head"]
    where = f"commit {head['commit'][:12]}" if head["commit"] else f"tree {head['tree'][:12] or 'not stated'}"
    counts = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in answer["counts"].items())
    return f"{base}, head {where}" + (f": {counts}" if counts else "")


def _failing(answer: Mapping[str, Any]) -> list[str]:
    lines = [
        f"  {test['outcome']}: {_id(test['id'])}  {plain.text(test['message'], width=100)}".rstrip()
        for test in answer["failing"]
    ]
    lines += [
        f"  did not load: {_id(name)}  {plain.text(cause, width=100)}"
        for name, cause in answer["collectors"].items()
    ]
    if len(lines) > _LINES_MAX:
        lines[_LINES_MAX - 1 :] = [f"  and {len(lines) - _LINES_MAX + 1} more"]
    return lines


def _tally(tally: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in tally.items()) or "no test listed"


def _id(name: str) -> str:
    return plain.text(name, width=_ID_LETTERS)


def _with_hint(lines: list[str], answer: Mapping[str, Any]) -> str:
    return "\n".join([*lines, f"next: {answer['hint']}"] if answer["hint"] else lines)
