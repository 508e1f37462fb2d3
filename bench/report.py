"""How every script in this folder prints a figure: one JSON object a line, never without its rival."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence

__all__ = ["line", "parse_arguments", "percentile", "spread"]


def parse_arguments(description: str) -> argparse.Namespace:
    """`--json` (the default form) and `--quick` (under a minute)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="one JSON object a line (always so)")
    parser.add_argument("--quick", action="store_true", help="smaller histories, under a minute")
    return parser.parse_args()


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "low": round(min(values), 3),
        "median": round(statistics.median(values), 3),
        "high": round(max(values), 3),
    }


def line(
    *,
    bench: str,
    case: str,
    ours: float,
    against: float,
    rival: str,
    unit: str,
    must: str,
    accepted: int,
    history: int,
    runs: int,
) -> None:
    """Print one figure beside its rival or floor; `ratio` is ours over against."""
    print(
        json.dumps(
            {
                "bench": bench,
                "case": case,
                "ours": round(ours, 4),
                "against": round(against, 4),
                "rival": rival,
                "unit": unit,
                "ratio": round(ours / against, 3) if against else None,
                "must": must,
                "accepted": accepted,
                "history": history,
                "runs": runs,
            }
        ),
        flush=True,
    )
