"""What an agent's artifacts must say before their phase may be left.

The contract has checked the shape already; these rules look at the meaning:
nothing is a placeholder, every criterion has a proof that the profile can run,
every criterion is covered by the plan, every file is in scope, every risk has an
oracle. Each rule gives refusals that say what would satisfy it.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sterling.packs.autopilot.artifacts.levels import is_weak_deferral
from sterling.packs.autopilot.artifacts.scope import is_inside
from sterling.packs.autopilot.process.delta import plan_identity
from sterling.packs.autopilot.process.view import TaskView
from sterling.packs.autopilot.refusal import Refusal

__all__ = ["Context", "check_content", "empty_words", "placeholders"]

_WHOLE = re.compile(
    r"\W{0,4}(?:todo|tb[acd]|fixme|xxx{1,9}|n/?a|placeholder|fill (?:me|this) in|<[^<>]*>|[.?…]{2,9})\W{0,9}",
    re.IGNORECASE,
)
_PART = re.compile(r"\b(?:TODO|TBD|FIXME|lorem ipsum|placeholder text|your text here)\b")


@dataclass(frozen=True, slots=True)
class Context:
    """What the rules compare an artifact with."""

    view: TaskView
    documents: Mapping[str, Any]
    commands: frozenset[str] = frozenset()
    base_files: frozenset[str] = frozenset()
    scope: tuple[str, ...] = ("**",)
    protected: tuple[str, ...] = ()
    added_lines: Mapping[str, frozenset[int]] = field(default_factory=dict)


def check_content(kind: str, document: Any, context: Context) -> list[Refusal]:
    """Every reason why this content cannot leave its phase."""
    rule = _RULES.get(kind)
    return empty_words(kind, document) + (list(rule(document, context)) if rule is not None else [])


def empty_words(kind: str, document: Any) -> list[Refusal]:
    """A refusal for every text that only holds a place."""
    return [
        _refusal("artifact.placeholder", kind, "words that say something", text, "write it out", pointer)
        for pointer, text in placeholders(document)
    ]


def placeholders(document: Any, pointer: str = "") -> Iterator[tuple[str, str]]:
    """Every text that only holds a place, with its JSON pointer."""
    if isinstance(document, Mapping):
        for name in sorted(document):
            yield from placeholders(document[name], f"{pointer}/{name}")
    elif isinstance(document, list):
        for index, item in enumerate(document):
            yield from placeholders(item, f"{pointer}/{index}")
    elif isinstance(document, str) and document.strip() and _holds_a_place(document):
        yield pointer, document[:80]


def _holds_a_place(text: str) -> bool:
    short = len(text) < 200 and len(text.strip()) > 1
    return bool((short and _WHOLE.fullmatch(text.strip())) or _PART.search(text))


def _worthiness(document: Any, context: Context) -> Iterator[Refusal]:
    decision = document["decision"]
    if decision != "go":
        yield _refusal(
            "approval.needed",
            "worthiness",
            "decision go",
            f"decision {decision}",
            "a person decides",
            "/decision",
        )


def _spec(document: Any, context: Context) -> Iterator[Refusal]:
    yield from _unique("spec", "/criteria", [each["id"] for each in document["criteria"]])
    for place, criterion in enumerate(document["criteria"]):
        if criterion["proof"] not in context.commands:
            yield _refusal(
                "artifact.uncited",
                "spec",
                f"a proof that the profile runs: {', '.join(sorted(context.commands))}",
                criterion["proof"],
                "name a command of the profile",
                f"/criteria/{place}/proof",
            )


def _plan(document: Any, context: Context) -> Iterator[Refusal]:
    steps = document["steps"]
    ids = [step["id"] for step in steps]
    yield from _unique("plan", "/steps", ids)
    criteria = {each["id"] for each in (context.documents.get("spec") or {}).get("criteria", [])}
    covered = {criterion for step in steps for criterion in step["covers"]}
    for name in sorted(criteria - covered):
        yield _refusal(
            "artifact.uncited", "plan", f"a step that covers {name}", "none", "add it to a step", "/steps"
        )
    for name in sorted(covered - criteria):
        yield _refusal(
            "plan.bad-citation", "plan", "a criterion of the spec", name, "name one that exists", "/steps"
        )
    for place, step in enumerate(steps):
        for need in sorted(set(step["needs"]) - set(ids[:place])):
            yield _refusal(
                "artifact.malformed",
                "plan",
                "needs of earlier steps",
                need,
                "order the steps",
                f"/steps/{place}/needs",
            )
    for place, cite in enumerate(document["cites"]):
        if cite not in context.base_files:
            yield _refusal(
                "plan.bad-citation",
                "plan",
                "a file of the base tree",
                cite,
                "cite what exists",
                f"/cites/{place}",
            )
    yield from _plan_delta(document, context)


def _plan_delta(document: Any, context: Context) -> Iterator[Refusal]:
    view = context.view
    for owed in view.owed:
        if owed not in document["answers"]:
            yield _refusal(
                "plan.no-delta", "plan", f"an answer to {owed}", "none", "list it in answers", "/answers"
            )
    file_map = context.documents.get("file_map")
    if view.owed and view.plan and file_map and plan_identity(document, file_map) == view.plan:
        yield _refusal(
            "plan.no-delta", "plan", "other steps or files", "the plan that failed", "change it", "/steps"
        )


def _file_map(document: Any, context: Context) -> Iterator[Refusal]:
    yield from _unique("file_map", "/files", [each["path"] for each in document["files"]])
    for place, each in enumerate(document["files"]):
        path, where = each["path"], f"/files/{place}/path"
        exists = path in context.base_files
        if exists != (each["state"] == "exists"):
            found = "exists" if exists else "is new"
            yield _refusal(
                "artifact.malformed", "file_map", each["state"], f"{path} {found}", "state it right", where
            )
        if not is_inside(path, context.scope) or is_inside(path, context.protected):
            scope = ", ".join(context.scope)
            yield _refusal(
                "patch.out-of-scope", "file_map", f"a path inside {scope}", path, "stay in scope", where
            )


def _edge_cases(document: Any, context: Context) -> Iterator[Refusal]:
    for place, each in enumerate(document["questions"]):
        if not each["answer"].strip():
            found = f"no answer to {each['question'][:80]!r}"
            yield _refusal(
                "artifact.empty", "edge_cases", "an answer", found, "answer it", f"/questions/{place}/answer"
            )


def _risk_oracle_map(document: Any, context: Context) -> Iterator[Refusal]:
    risks = document["risks"]
    known = {risk["id"] for risk in risks}
    stated = {risk["id"] for risk in (context.documents.get("strategy") or {}).get("risks", [])}
    for name in sorted(stated - known):
        yield _refusal(
            "oracle.unmapped", "risk_oracle_map", f"risk {name} of the strategy", "none", "map it", "/risks"
        )
    for place, risk in enumerate(risks):
        where = f"/risks/{place}"
        if not risk["oracles"]:
            yield _refusal(
                "oracle.unmapped", "risk_oracle_map", "an oracle", risk["id"], "name a test or command", where
            )
        if risk["severity"] == "high" and risk["state"] == "open":
            yield _refusal(
                "oracle.unmapped", "risk_oracle_map", "no open high risk", risk["id"], "mitigate it", where
            )
        for oracle in risk["oracles"]:
            if oracle["kind"] == "command" and oracle["ref"] not in context.commands:
                yield _refusal(
                    "oracle.unmapped",
                    "risk_oracle_map",
                    "a command of the profile",
                    oracle["ref"],
                    "name one",
                    where,
                )


def _review_rubric(document: Any, context: Context) -> Iterator[Refusal]:
    if document["verdict"] != "approved":
        yield _refusal(
            "check.failed",
            "review_rubric",
            "verdict approved",
            document["verdict"],
            "go back and mend it",
            "/verdict",
        )
    for place, comment in enumerate(document["comments"]):
        where = f"/comments/{place}"
        if comment["line"] not in context.added_lines.get(comment["path"], frozenset()):
            anchor = f"{comment['path']}:{comment['line']}"
            yield _refusal(
                "artifact.uncited", "review_rubric", "a changed line of the diff", anchor, "anchor it", where
            )
        if comment["severity"] == "critical":
            found = comment["text"][:120]
            yield _refusal("check.failed", "review_rubric", "no critical comment", found, "mend it", where)
    deferral = document.get("deferral")
    if deferral is not None and is_weak_deferral(deferral):
        yield _refusal(
            "level.deferral-weak",
            "review_rubric",
            "reason, plan, risk, mitigation and expiry that say something",
            "an empty field or an excuse",
            "write the deferral out, or run the integration check",
            "/deferral",
        )


def _unique(kind: str, where: str, names: list[str]) -> Iterator[Refusal]:
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield _refusal("artifact.malformed", kind, "each id once", f"{name} twice", "rename one", where)


def _refusal(code: str, kind: str, expected: str, found: str, satisfied_by: str, where: str) -> Refusal:
    return Refusal(code, f"A-10 content of {kind}", expected, found, satisfied_by, where=f"{kind}{where}")


_RULES: Mapping[str, Callable[[Any, Context], Iterator[Refusal]]] = MappingProxyType(
    {
        "worthiness": _worthiness,
        "spec": _spec,
        "plan": _plan,
        "file_map": _file_map,
        "edge_cases": _edge_cases,
        "risk_oracle_map": _risk_oracle_map,
        "review_rubric": _review_rubric,
    }
)
