"""How an artifact looks to people: the file under `evidence/`. It is written from the record, never parsed.

Same document, same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sterling.packs.autopilot.artifacts.kinds import Kind

__all__ = ["render"]


def render(kind: Kind, data: bytes, document: Any) -> bytes:
    """The bytes of the file. Raw artifacts are shown as they are."""
    if kind.form == "raw":
        return data
    if kind.form == "json":
        return (json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode("utf-8")
    lines = [f"# {_title(kind.name)}", "", *_section(document, 2)]
    return ("\n".join(lines).rstrip() + "\n").encode("utf-8")


def _section(document: Mapping[str, Any], level: int) -> Iterator[str]:
    for name in sorted(document):
        value = document[name]
        yield f"{'#' * level} {_title(name)}"
        yield ""
        yield from _value(value, level)
        yield ""


def _value(value: Any, level: int) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from _section(value, min(level + 1, 6))
    elif isinstance(value, list):
        yield from (f"- {_item(item)}" for item in value)
        if not value:
            yield "None."
    else:
        yield _words(value)


def _item(item: Any) -> str:
    if isinstance(item, Mapping):
        return "; ".join(f"**{name}** {_item(item[name])}" for name in sorted(item))
    if isinstance(item, list):
        return ", ".join(_item(each) for each in item) or "none"
    return _words(item)


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(str(value).split())


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
