"""Analysing a table: read, normalize, plan, run, judge, report, in that order.

What cannot be read is refused before a run is opened. Once it is open, the run
always ends with a report: a failed step fails the run and leaves the others
alone, and a stop from the keyboard closes what is open and still writes.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path

from sterling import __version__
from sterling.kernel.batch import Batch
from sterling.kernel.canonical import Json
from sterling.kernel.home import Home
from sterling.kernel.records import Source
from sterling.packs.insight.acceptance import Acceptance
from sterling.packs.insight.codes import REASONS
from sterling.packs.insight.engine import sealed
from sterling.packs.insight.errors import UnknownPlugin
from sterling.packs.insight.figures import figures, reject_rows
from sterling.packs.insight.normalize import Normalized, normalize
from sterling.packs.insight.preflight import TableFacts, preflight, verdict_row
from sterling.packs.insight.read.model import RawTable, ReadOptions
from sterling.packs.insight.read.source import check_source, read_source, spoken
from sterling.packs.insight.registry import write_registry
from sterling.packs.insight.report.files import Written, check_folder, write_report
from sterling.packs.insight.report.model import BodyParts
from sterling.packs.insight.table import Stored, TableRecords, column_views, put_records, store
from sterling.runtime.cache_store import Caching
from sterling.runtime.execute import default_workers, run_plan
from sterling.runtime.manifest import Manifest
from sterling.runtime.outcomes import Settled
from sterling.runtime.plan import Plan, PlanRequest, Step, build
from sterling.runtime.registry import Registry, load_registry
from sterling.runtime.runs import Run, open_run, read_run

__all__ = ["Analysis", "Options", "Prepared", "Stopped", "analyze", "plan_of", "prepare"]

_PACK = "insight"
_PROVIDER = "sterling.packs.insight.provider"
_ENGINE_SHARE = 6  # Tenths of a step's memory that the query engine may take.
_STOPPED = "The run was stopped from the keyboard before the step ended."

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What the person asked for. `plugins` None means all; `workers` None means half the cores.

    With `no_cache` every step runs, whatever an earlier run kept.
    """

    mode: str = "two_lane_strict"
    seed: int = 0
    plugins: tuple[str, ...] | None = None
    workers: int | None = None
    out: Path | None = None
    no_cache: bool = False
    reading: ReadOptions = field(default_factory=ReadOptions)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A table that has been read and typed; nothing has been analysed."""

    name: str
    raw: RawTable
    normalized: Normalized


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a run left behind."""

    run: str
    prepared: Prepared
    plan: Plan
    written: Written


class Stopped(KeyboardInterrupt):
    """The run was stopped; it is closed, and `analysis` holds its report."""

    def __init__(self, analysis: Analysis) -> None:
        super().__init__()
        self.analysis = analysis
        self.folder = analysis.written.folder


def prepare(path: Path, name: str, scratch: Path, options: ReadOptions) -> Prepared:
    """Read and type the table at `path`, called `name`.

    Errors: UnreadableSource, UnsupportedFormat, LimitExceeded.
    """
    raw = read_source(path, name, scratch, options)
    return Prepared(name, raw, normalize(raw, scratch))


def plan_of(registry: Registry, options: Options) -> Plan:
    """The plan that these options ask for.

    Errors: insight.unknown-plugin, plan.*.
    """
    known = [manifest.id for manifest in registry.manifests(_PACK)]
    for name in options.plugins or ():
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.0)
            raise UnknownPlugin(f"expected a plugin of this pack, found {name!r}; the nearest is {near[0]!r}")
    request = PlanRequest(_PACK, seed=options.seed, mode=options.mode, plugins=options.plugins)
    return build(registry.manifests(_PACK), request)


def analyze(home: Home, path: Path, options: Options, on_progress: OnProgress) -> Analysis:
    """Analyse the table at `path`; its report lies in `options.out` and in the home.

    Errors: UnreadableSource, UnsupportedFormat, LimitExceeded, plan.*, plugin.*.
    Raises:
        Stopped: from the keyboard; the run is closed and its report written.
    """
    check_source(path)
    check_folder(options.out)
    registry = load_registry(_PACK)
    plan = plan_of(registry, options)
    name = spoken(path.name)
    started_us = home.clock.boot_us()
    with tempfile.TemporaryDirectory(prefix="sterling-insight-") as folder:
        scratch = Path(folder)
        on_progress("read", 0, 1)
        source = home.blobs.put_file(path)
        prepared = prepare(home.blobs.file(source), name, scratch, options.reading)
        stored = store(home, source, prepared.raw, prepared.normalized)
        on_progress("read", 1, 1)
        read_us = home.clock.boot_us() - started_us
        looks = _prior_looks(home, source)
        with open_run(
            home, pack=_PACK, plan=plan, origin="attended", inputs=[source], title=f"analyze {name}"
        ) as run:
            work = _Work(home, run, registry, options, prepared, stored, scratch, on_progress)
            was_stopped = work.carry_out()
            written = work.report(started_us=started_us, read_us=read_us, prior_looks=looks)
        analysis = Analysis(run.id, prepared, plan, written)
    if was_stopped:
        raise Stopped(analysis)
    return analysis


def versions() -> dict[str, str]:
    """What computed, for the lineage."""
    named = {name: version(name) for name in ("duckdb", "pyarrow")}
    return {"python": platform.python_version(), "sterling": __version__, **named}


class _Work:
    """One open run: the records of its table, its steps, its report."""

    def __init__(
        self,
        home: Home,
        run: Run,
        registry: Registry,
        options: Options,
        prepared: Prepared,
        stored: Stored,
        scratch: Path,
        on_progress: OnProgress,
    ) -> None:
        self.home, self.run, self.registry, self.options = home, run, registry, options
        self.prepared, self.stored, self.scratch = prepared, stored, scratch
        self.on_progress = on_progress
        self.manifests: dict[str, Manifest] = {
            step.id: registry.get(_PACK, step.plugin) for step in run.plan.steps
        }
        self.facts = TableFacts(prepared.raw.rows, len(prepared.raw.columns))
        self.workers = options.workers or default_workers()
        self.records = self._put_table()
        (scratch / "journals").mkdir()
        self.acceptance = Acceptance(
            home, self.manifests, self.records.table, prepared.raw.rows, scratch / "journals"
        )
        self.settled = 0

    def carry_out(self) -> bool:
        """Run every step; True when the keyboard stopped it, with every step closed all the same."""
        try:
            run_plan(
                self.home,
                self.run,
                self.run.plan,
                self.registry,
                provider=_PROVIDER,
                inputs_for=self._inputs,
                accept=self.acceptance.accept,
                workers=self.workers,
                pack_check=lambda manifest: preflight(manifest, self.facts),
                known_reasons={str(reason) for reason, text in REASONS.items() if text.ends == "na"},
                on_settled=self._tell,
                caching=Caching(self._content, self._journal, bypass=self.options.no_cache),
            )
        except KeyboardInterrupt:
            for step in self.run.open_steps:
                self.run.settle(step, "failed", "run.interrupted", _STOPPED)
            return True
        return False

    def report(self, *, started_us: int, read_us: int, prior_looks: int) -> Written:
        """Write the registry and the report files, and record both."""
        registry_path = self.scratch / "registry.parquet"
        write_registry(self.acceptance.registered, registry_path)
        registry_blob = self.home.blobs.put_file(registry_path)
        self._record_registry(registry_blob)
        parts = self._parts(registry_blob)
        telemetry = self._telemetry(started_us, read_us)
        return write_report(
            self.home, self.run.id, parts, telemetry, out=self.options.out, prior_looks=prior_looks
        )

    def _put_table(self) -> TableRecords:
        batch = Batch(run=self.run.id)
        records = put_records(self.home, batch, self.stored, self.prepared.raw, self.prepared.normalized)
        self.home.ledger.commit(batch)
        return records

    def _inputs(self, step: Step) -> Mapping[str, Json]:
        return {
            **self._content(step),
            "normalized": str(self.home.blobs.file(self.stored.normalized)),
            "journal": str(self._journal(step)),
        }

    def _content(self, step: Step) -> Mapping[str, Json]:
        """The inputs by what they hold; nothing here differs between two runs over the same table."""
        manifest = self.manifests[step.id]
        return {
            "normalized": self.stored.normalized,
            "rows": self.prepared.raw.rows,
            "columns": column_views(self.prepared.normalized),
            "memory_bytes": manifest.limits.memory_bytes * _ENGINE_SHARE // 10,
        }

    def _journal(self, step: Step) -> Path:
        return self.acceptance.journal_path(step.id)

    def _tell(self, step: Step, settled: Settled) -> None:
        self.settled += 1
        self.on_progress(f"{step.id} {settled.state}", self.settled, len(self.run.plan.steps))

    def _record_registry(self, blob: str) -> None:
        rows = self.acceptance.registered
        families: dict[str, int] = {}
        for row in rows:
            family = str(self.manifests[row.hypothesis.plugin].own.get("test_family", "facts"))
            families[family] = families.get(family, 0) + 1
        document = {
            "blob": blob,
            "tests": len(rows),
            "reported": sum(row.reported for row in rows),
            "families": families,
            "q": None,
        }
        batch = Batch(run=self.run.id)
        sources = [Source("table", record=self.records.table.id), Source("registry", blob=blob)]
        self.home.records.put(batch, "insight.registry", document, sources)
        self.home.ledger.commit(batch)

    def _parts(self, registry_blob: str) -> BodyParts:
        with sealed(self.stored.paths(self.home)) as connection:
            names = [column.rule.name for column in self.prepared.normalized.columns]
            found, rejects = figures(connection, names), reject_rows(connection)
        manifests: Sequence[Manifest] = [self.manifests[step.id] for step in self.run.plan.steps]
        return BodyParts(
            plan=self.run.plan,
            manifests=self.manifests,
            outcomes=read_run(self.home, self.run.id).outcomes,
            preflight=[verdict_row(manifest, preflight(manifest, self.facts)) for manifest in manifests],
            acceptance=self.acceptance,
            figures=found,
            rejects=rejects,
            raw=self.prepared.raw,
            normalized=self.prepared.normalized,
            stored=self.stored,
            records=self.records,
            registry_blob=registry_blob,
            versions=versions(),
        )

    def _telemetry(self, started_us: int, read_us: int) -> dict[str, Json]:
        costs = self.acceptance.costs
        lanes = {"decision": 0, "explanation": 0}
        for step, cost in costs.items():
            lanes[self.manifests[step].lane] += cost.wall_us // 1000
        steps = [
            {
                "step": step,
                "wall_ms": cost.wall_us // 1000,
                "cpu_ms": cost.cpu_us // 1000,
                "rss_max_kib": cost.rss_max // 1024,
            }
            for step, cost in sorted(costs.items(), key=lambda item: (-item[1].wall_us, item[0]))
        ]
        return {
            "run": self.run.id,
            "source_name": self.prepared.name,
            "workers": self.workers,
            "wall_ms": (self.home.clock.boot_us() - started_us) // 1000,
            "read_ms": read_us // 1000,
            "steps": steps,
            "lanes": lanes,
            "access": self.acceptance.access,
            "config_sha256": self.home.config.sha256,
        }


def _prior_looks(home: Home, source: str) -> int:
    """Earlier runs of this pack over the same bytes in this home."""
    return sum(
        entry.payload["pack"] == _PACK and source in entry.payload["inputs"]
        for entry in home.ledger.read(kind="run.opened")
    )
