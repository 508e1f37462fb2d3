"""report.html: one file, no script, nothing to load; it renders report.json and adds no figure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sterling.kernel.canonical import Json
from sterling.packs.insight.report.plots import PLOTS_MAX, plot

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["FINDINGS_SHOWN", "PROFILES_SHOWN", "render"]

FINDINGS_SHOWN = 100
PROFILES_SHOWN = 120
_RULES = {
    "as-stored": "kept as the file says",
    "bool-words": "words for yes and no",
    "category-fold": "trimmed, spellings joined",
    "comma-decimal": "comma before decimals",
    "comma-thousands": "comma between thousands",
    "date-format": "days in one format",
    "decimal-plain": "exact decimals",
    "dot-thousands": "dot between thousands",
    "float-plain": "floating point",
    "int-plain": "whole numbers",
    "text-clean": "trimmed",
    "time-format": "times in one format",
    "time-iso": "times as written",
    "time-iso-zoned": "times, moved to UTC",
}
_WORDS = {
    "suspect": "Rows to look at",
    "notice": "Worth knowing",
    "structure": "A rule that holds",
    "profile": "Profile",
}


def render(report: Mapping[str, Json]) -> str:
    """The report as one HTML page."""
    body = report["body"]
    profiles = [
        {**profile, "plot": plot(profile["facts"], str(profile["name"])) if place < PLOTS_MAX else ""}
        for place, profile in enumerate(body["profiles"][:PROFILES_SHOWN])
    ]
    findings = body["findings"][:FINDINGS_SHOWN]
    return _template().render(
        report=report,
        body=body,
        telemetry=report["telemetry"],
        findings=findings,
        more_findings=len(body["findings"]) > len(findings) or body["findings_left_out"] > 0,
        profiles=profiles,
        more_profiles=len(body["profiles"]) > len(profiles) or body["profiles_left_out"] > 0,
        words=_WORDS,
        rules=_RULES,
        style=_read("report.css"),
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["count"] = _count
    environment.filters["share"] = _share
    environment.filters["figure"] = _figure
    environment.filters["shown"] = _shown
    return environment.from_string(_read("report.html.j2"))


def _read(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _count(number: int) -> str:
    return f"{number:,}"


def _share(part: int, of: int) -> str:
    """A width in per cent for a bar; it is drawn, never printed."""
    return f"{100 * part / of:.2f}" if of else "0"


def _figure(text: object) -> str:
    """A figure that stands as text, with its thousands apart."""
    found = re.fullmatch(r"(-?)(\d+)(\.\d+)?", str(text))
    return f"{found[1]}{int(found[2]):,}{found[3] or ''}" if found else _shown(text)


def _shown(untrusted: object) -> str:
    """Text of the data with nothing invisible in it; Jinja escapes the rest."""
    text = str(untrusted)
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
