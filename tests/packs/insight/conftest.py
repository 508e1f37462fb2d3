"""Tables on disk, plugins called in place, and one analysed sample that several tests look at."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.home import Home, init_home
from sterling.packs.insight import door
from sterling.packs.insight.access import ColumnView, TableAccess
from sterling.packs.insight.engine import sealed
from sterling.packs.insight.journal import Journal, Told, read_journal
from sterling.packs.insight.normalize import normalize
from sterling.packs.insight.provider import FactRegistry
from sterling.packs.insight.read.model import ReadOptions
from sterling.packs.insight.read.source import read_source
from sterling.packs.insight.table import column_views
from sterling.runtime.plugin_api import Finding, Na, Ok, Outcome
from sterling.testing.fleet import Fleet

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = ROOT / "src" / "sterling" / "packs" / "insight" / "plugins" / "quality"
SAMPLES = ROOT / "samples" / "insight"
SETTINGS = {"pairs_max": 2000, "triples_max": 2000}


@dataclass(frozen=True)
class Ran:
    """What a plugin gave when it was called in place, and what it wrote down."""

    outcome: Outcome
    told: Told

    @property
    def findings(self) -> Sequence[Finding]:
        assert isinstance(self.outcome, Ok), self.outcome
        return self.outcome.findings

    def of(self, kind: str) -> list[Finding]:
        return [] if isinstance(self.outcome, Na) else [item for item in self.findings if item.kind == kind]


def csv_text(columns: Mapping[str, Sequence[object]]) -> str:
    rows = zip(*columns.values(), strict=True)
    quoted = (",".join('"' + str(cell).replace('"', '""') + '"' for cell in row) for row in rows)
    return "\n".join([",".join(columns), *quoted]) + "\n"


@pytest.fixture
def call(tmp_path: Path) -> Iterator[Callable[..., Ran]]:
    """Run a plugin of the pack on a table, in this process, through the real access proxy."""
    stack = ExitStack()

    def call(plugin: str, columns: Mapping[str, Sequence[object]], **settings: int) -> Ran:
        source = tmp_path / f"{plugin}.csv"
        source.write_text(csv_text(columns), encoding="utf-8")
        scratch = tmp_path / f"scratch-{plugin}"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        raw = read_source(source, source.name, scratch, ReadOptions(header=True, delimiter=","))
        found = normalize(raw, scratch)
        journal = Journal(scratch / "journal.jsonl")
        connection = stack.enter_context(sealed({"t": found.path}, memory_bytes=512 * 1024 * 1024))
        views = [ColumnView(**view) for view in column_views(found)]
        table = TableAccess(connection, journal, declared=["sql"], columns=views, row_count=raw.rows)
        given: dict[str, Any] = {"table": table, "registry": FactRegistry(plugin, journal)}
        if plugin == "constraint_violations":
            given["settings"] = SETTINGS | settings
        return Ran(_load(plugin).run(**given), read_journal(scratch / "journal.jsonl"))

    with stack:
        yield call


def _load(plugin: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"plugin_{plugin}", PLUGINS / f"{plugin}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with init_home(tmp_path / "home") as home:
        yield home


@pytest.fixture
def analyse(tmp_path: Path, home: Home) -> Callable[..., door.AnalyzeResult]:
    """Analyse a text (or bytes) as a file in a home of its own."""

    def analyse(data: str | bytes, name: str = "table.csv", **options: Any) -> door.AnalyzeResult:
        source = tmp_path / name
        source.write_bytes(data.encode() if isinstance(data, str) else data)
        out = options.pop("out", tmp_path / "report")
        return door.analyze(home, source, door.options(out=out, home=home, **options))

    return analyse


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """The pack's own plugins in a folder to which a test may add others; the pipeline loads from it."""
    fleet = Fleet(tmp_path / "fleet")
    for file in PLUGINS.iterdir():
        if file.suffix in (".py", ".toml"):
            shutil.copy(file, fleet.folder / file.name)
    monkeypatch.setattr("sterling.packs.insight.pipeline.load_registry", lambda pack: fleet.registry())
    return fleet


@dataclass(frozen=True)
class Sample:
    """A sample that was analysed once; tests copy its home before they touch it."""

    home: Path
    result: door.AnalyzeResult


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """The queue log, analysed."""
    folder = tmp_path_factory.mktemp("sample")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        with init_home(folder / "home") as home:
            options = door.options(out=folder / "report", home=home)
            result = door.analyze(home, SAMPLES / "queue_log.csv", options)
    return Sample(folder / "home", result)
