"""The way into the pack: analyse a table, look at one without analysing it, check a run again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sterling.kernel.canonical import Json
from sterling.kernel.home import Home

if TYPE_CHECKING:
    from sterling.packs.insight.pipeline import Options
    from sterling.packs.insight.recheck import Rechecked

__all__ = [
    "RESULT_CONTRACT",
    "AnalyzeResult",
    "analyze",
    "check",
    "inspect",
    "options",
    "planned_steps",
    "recheck",
]

RESULT_CONTRACT = "analyze.result@1.0"

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class AnalyzeResult:
    """What `analyze` came to. `document` is what `--json` prints; `report` is report.json."""

    run: str
    exit: int
    body_sha256: str
    document: Mapping[str, Json]
    report: Mapping[str, Json]
    files: Mapping[str, Path]


def options(
    *,
    mode: str = "two_lane_strict",
    seed: int = 0,
    plugins: tuple[str, ...] | None = None,
    workers: int | None = None,
    out: Path | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    no_cache: bool = False,
    home: Home | None = None,
) -> Options:
    """The options of an analysis; limits come from the home's settings where there is one."""
    from sterling.packs.insight.pipeline import Options
    from sterling.packs.insight.read.model import Limits, ReadOptions

    limits = Limits()
    if home is not None:
        limits = Limits(
            columns=int(home.config.get("insight.columns_max")),
            cell_bytes=int(home.config.get("insight.cell_bytes_max")),
        )
    reading = ReadOptions(encoding=encoding, delimiter=delimiter, header=header, limits=limits)
    return Options(
        mode=mode, seed=seed, plugins=plugins, workers=workers, out=out, no_cache=no_cache, reading=reading
    )


def analyze(
    home: Home, source: Path, options: Options, on_progress: OnProgress = lambda label, done, total: None
) -> AnalyzeResult:
    """Analyse the table in the file `source`; a failed plugin fails the run and never this call.

    Errors: insight.unreadable-source, insight.unsupported-format, insight.limit-exceeded,
            insight.out-unwritable, plan.*, plugin.*.
    Raises:
        KeyboardInterrupt: from the keyboard; the run is closed and its report written.
    """
    from sterling.packs.insight.pipeline import analyze as analyze_table
    from sterling.packs.insight.report.summary import exit_of, summary

    analysis = analyze_table(home, source, options, on_progress)
    report = analysis.written.document
    document = summary(report, analysis.written.files)
    written = analysis.written.files
    files = {path.suffix[1:]: path for name, path in written.items() if name.startswith("report.")}
    files["manifest"] = written["run_manifest.json"]
    return AnalyzeResult(analysis.run, exit_of(report), report["body_sha256"], document, report, files)


def check(source: Path) -> None:
    """Refuse a path that cannot be a table, before a home is made or opened for it.

    Errors: insight.unreadable-source.
    """
    from sterling.packs.insight.read.source import check_source

    check_source(source)


def inspect(source: Path, options: Options) -> dict[str, Json]:
    """Types, questions, preflight and plan of a table, as `analyze --dry-run` shows them. Writes nothing.

    Errors: as `analyze`.
    """
    from sterling.packs.insight.pipeline import plan_of, prepare
    from sterling.packs.insight.preflight import TableFacts, preflight, verdict_row
    from sterling.packs.insight.read.source import check_source
    from sterling.packs.insight.report.summary import planned
    from sterling.runtime.registry import load_registry

    check_source(source)
    registry = load_registry("insight")
    plan = plan_of(registry, options)
    with tempfile.TemporaryDirectory(prefix="sterling-insight-") as folder:
        prepared = prepare(source, source.name, Path(folder), options.reading)
    facts = TableFacts(prepared.raw.rows, len(prepared.raw.columns))
    manifests = [registry.get("insight", step.plugin) for step in plan.steps]
    rows = [verdict_row(manifest, preflight(manifest, facts)) for manifest in manifests]
    return planned(plan, prepared.raw, prepared.normalized, rows)


def planned_steps(options: Options) -> int:
    """How many steps these options plan.

    Errors: plan.*, plugin.*.
    """
    from sterling.packs.insight.pipeline import plan_of
    from sterling.runtime.registry import load_registry

    return len(plan_of(load_registry("insight"), options).steps)


def recheck(home: Home, run_id: str) -> Rechecked:
    """Check every claim of a run again; `problems` is empty when all of them hold.

    Errors: run.unknown.
    """
    from sterling.packs.insight.recheck import recheck as recheck_run

    return recheck_run(home, run_id)
