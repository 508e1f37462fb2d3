"""The pytest JSON report: exit status, node ids, stages and collectors, stated outright.

Read whole, so its size is limited; a report beyond the limit, or nested deeper
than 100 levels, is `ci.report-hostile`. JSON that stops early is
`ci.report-torn`, JSON of another shape is `ci.report-unknown`. A test whose
outcome we do not know is left out, and the facets say so.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Mapping
from typing import Any, BinaryIO

from sterling.packs.ci.facts import (
    ABSENT,
    COMPLETE,
    FAILING,
    OUTCOMES,
    PARTIAL,
    Collector,
    Reading,
    Result,
    excerpt,
    fold,
)
from sterling.packs.ci.identity import id_of_test, normal_path
from sterling.packs.ci.signature import cause_of, read_failure, signature_of

__all__ = ["BYTES_MAX", "read_pytest_json"]

BYTES_MAX = 512 * 1024 * 1024
DEPTH_MAX = 100
_TEXT_LETTERS_MAX = 1024 * 1024
_STAGES = ("setup", "call", "teardown")
_SHAPE_KEYS = frozenset({"tests", "summary", "exitcode", "collectors"})


def read_pytest_json(stream: BinaryIO) -> Reading:
    """What one JSON report states."""
    data = stream.read(BYTES_MAX + 1)
    if len(data) > BYTES_MAX:
        return _fault("ci.report-hostile", f"The JSON report is larger than {BYTES_MAX} bytes.")
    notes: list[str] = []
    try:
        value = json.loads(_decoded(data, notes))
        deep = _is_deep(value, DEPTH_MAX)
    except RecursionError:
        deep = True
    except json.JSONDecodeError as problem:
        because = f"The JSON ends early or is not JSON at line {problem.lineno}; it carries no verdict."
        return _fault("ci.report-torn", because)
    if deep:
        return _fault("ci.report-hostile", f"The JSON nests deeper than {DEPTH_MAX} levels.")
    if not isinstance(value, dict) or not _SHAPE_KEYS & set(value):
        return _fault(
            "ci.report-unknown", "The JSON is not a pytest report: no exitcode, tests or collectors in it."
        )
    return _reading(value, notes)


def _decoded(data: bytes, notes: list[str]) -> str:
    if data.startswith(codecs.BOM_UTF8):
        return data.decode("utf-8-sig", "backslashreplace")
    encoding = json.detect_encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        notes.append("Not UTF-8: read as Latin-1.")
        return data.decode("latin-1")


def _is_deep(value: Any, left: int) -> bool:
    if left <= 0:
        return True
    if isinstance(value, dict):
        return any(_is_deep(item, left - 1) for item in value.values() if isinstance(item, dict | list))
    if isinstance(value, list):
        return any(_is_deep(item, left - 1) for item in value if isinstance(item, dict | list))
    return False


def _fault(code: str, because: str) -> Reading:
    return Reading("pytest_json", "", None, {}, {}, {}, fault=code, because=because)


def _reading(value: Mapping[str, Any], notes: list[str]) -> Reading:
    exit_raw = value.get("exitcode")
    if not isinstance(exit_raw, int) or isinstance(exit_raw, bool):
        exit_raw = None
    root = value.get("root") if isinstance(value.get("root"), str) else ""
    tests, strange = _tests(value.get("tests"), str(root))
    collectors, collected = _collectors(value.get("collectors"), str(root), notes)
    if strange:
        notes.append(f"{strange} tests have an outcome or a form that is not known here; they are left out.")
    total = value.get("summary", {}).get("total") if isinstance(value.get("summary"), dict) else None
    listed = isinstance(value.get("tests"), list)
    if isinstance(total, int) and listed and total != len(tests) + strange:
        notes.append(f"The summary says {total} tests, {len(tests)} are listed; the list counts.")
    known = COMPLETE if listed and not strange else PARTIAL if listed else ABSENT
    signed = all(result.signature for result in tests.values() if result.outcome in FAILING)
    signed = signed and all(found.signature for found in collectors.values())
    facets = dict.fromkeys(("tally", "failing_ids", "all_ids", "skip_ids", "xpass"), known)
    facets["exit"] = ABSENT if exit_raw is None else COMPLETE
    facets["collectors"] = collected
    facets["signatures"] = COMPLETE if signed and known == COMPLETE else PARTIAL
    return Reading("pytest_json", "pytest", exit_raw, tests, collectors, facets, tuple(notes))


def _tests(listed: Any, root: str) -> tuple[dict[str, Result], int]:
    tests: dict[str, Result] = {}
    strange = 0
    for item in listed if isinstance(listed, list) else ():
        result = _result(item, root) if isinstance(item, dict) else None
        name = item.get("nodeid") if isinstance(item, dict) else None
        if result is None or not isinstance(name, str) or not name:
            strange += 1
            continue
        path, _, inside = name.partition("::")
        identity = id_of_test(path, (), inside)
        known = tests.get(identity)
        tests[identity] = result if known is None else fold(known, result)
    return tests, strange


def _result(item: Mapping[str, Any], root: str) -> Result | None:
    outcome = item.get("outcome")
    if not isinstance(outcome, str) or outcome not in OUTCOMES:
        return None
    stages = [(name, item[name]) for name in _STAGES if isinstance(item.get(name), dict)]
    broken = [(name, stage) for name, stage in stages if stage.get("outcome") == "failed"]
    listed = sorted(("failed" if name == "call" else "error" for name, _ in broken), key=OUTCOMES.index)
    if listed and OUTCOMES.index(listed[0]) < OUTCOMES.index(outcome):
        outcome = listed[0]
    spent = [_microseconds(stage.get("duration")) for _, stage in stages]
    duration = (
        sum(value for value in spent if value is not None) if any(v is not None for v in spent) else None
    )
    occurrences = tuple(listed) if len(listed) > 1 else ()
    if outcome not in FAILING:
        return Result(outcome, duration_us=duration)
    speaker = [stage for name, stage in broken if ("failed" if name == "call" else "error") == outcome]
    text, message = _words(speaker[-1] if speaker else {})
    if not text and not message:
        return Result(outcome, duration_us=duration, occurrences=occurrences)
    failure = read_failure(text, message)
    shown = excerpt(message or text)
    return Result(outcome, signature_of(failure, root), cause_of(failure), shown, duration, 1, occurrences)


def _words(stage: Mapping[str, Any]) -> tuple[str, str]:
    text, crash = stage.get("longrepr"), stage.get("crash")
    message = crash.get("message") if isinstance(crash, dict) else ""
    return (
        text[:_TEXT_LETTERS_MAX] if isinstance(text, str) else "",
        message[:_TEXT_LETTERS_MAX] if isinstance(message, str) else "",
    )


def _collectors(listed: Any, root: str, notes: list[str]) -> tuple[dict[str, Collector], str]:
    if not isinstance(listed, list):
        return {}, ABSENT
    collectors: dict[str, Collector] = {}
    state = COMPLETE
    for item in listed:
        name = item.get("nodeid") if isinstance(item, dict) else None
        if not isinstance(name, str) or item.get("outcome") not in ("passed", "failed", "skipped"):
            state = PARTIAL
        elif item["outcome"] == "failed":
            text = item.get("longrepr")
            failure = (
                read_failure(text[:_TEXT_LETTERS_MAX]) if isinstance(text, str) and text.strip() else None
            )
            shown = "" if failure is None else excerpt(f"{failure.exception}: {failure.message}".strip(": "))
            signature = "" if failure is None else signature_of(failure, root)
            cause = "" if failure is None else cause_of(failure)
            collectors[normal_path(name) or "."] = Collector(signature, cause, shown)
        elif item["outcome"] == "skipped":
            notes.append(f"{normal_path(name)}: collection skipped")
    return collectors, state


def _microseconds(seconds: Any) -> int | None:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return None
    return int(seconds * 1_000_000) if math.isfinite(seconds) and 0 <= seconds < 1e9 else None
