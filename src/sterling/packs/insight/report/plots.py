"""Inline SVG: bars drawn from a column's bins. A plot prints no figure."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from sterling.kernel.canonical import Json

__all__ = ["PLOTS_MAX", "plot"]

PLOTS_MAX = 40
_WIDTH, _HEIGHT, _BINS = 260, 56, 20


def plot(facts: Mapping[str, Json], name: str) -> str:
    """The column's bars as SVG, or the empty text when there is nothing to draw."""
    bins = facts.get("bins")
    if bins:
        counts = {int(row["bin"]): int(row["cells"]) for row in bins}
        return _bars([counts.get(place, 0) for place in range(_BINS)], _bins_title(facts, name))
    return ""


def _bars(counts: list[int], title: str) -> str:
    most = max(counts)
    step = _WIDTH / len(counts)
    bars: list[str] = []
    for place, count in enumerate(counts):
        height = max(1.0, (_HEIGHT - 2) * count / most) if count else 0.0
        x, y = place * step + 0.5, _HEIGHT - height
        bars.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{step - 1:.1f}" height="{height:.1f}"/>')
    words = escape(title)
    return (
        f'<svg class="bars" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{words}"'
        f' preserveAspectRatio="none"><title>{words}</title>'
        f'<line x1="0" y1="{_HEIGHT}" x2="{_WIDTH}" y2="{_HEIGHT}"/>{"".join(bars)}</svg>'
    )


def _bins_title(facts: Mapping[str, Json], name: str) -> str:
    return f"How the values of {name} lie between {facts['bins_from']} and {facts['bins_to']}"
