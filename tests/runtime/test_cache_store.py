"""Steps of a toy fleet that are reused, and every single change after which they are not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from mutants import run_mutants

from sterling.kernel.batch import Batch
from sterling.kernel.blobs import BlobAltered
from sterling.kernel.contracts import load_contracts
from sterling.kernel.home import Home, init_home
from sterling.runtime import cache_store, execute
from sterling.runtime.cache_store import Caching
from sterling.runtime.engine import TaskEnd
from sterling.runtime.execute import gather_facts, run_plan
from sterling.runtime.explain_step import StepNotSettled, explain_step
from sterling.runtime.fingerprint import CodeUnreadable, code_hash
from sterling.runtime.outcomes import Settled
from sterling.runtime.plan import PlanRequest, Step, build
from sterling.runtime.runs import open_run, read_run
from sterling.testing.fleet import Fleet

FIRST = """def run(table, seed, settings):
    claim = f"{table} {settings.get('share', 0)}"
    return Ok([Finding("toy", claim, {"rows": [1]})])
"""
AFTER = 'def run():\n    return Ok([Finding("toy", "After.", {"rows": [2]})])\n'
ABSENT = "def run():\n    return Na('insight.role-missing', 'No column tells a time.')\n"
BAD = "def run():\n    raise ValueError('bad')\n"


class Toys:
    """A fleet of four: `b_after` needs `a_first`; `c_apart` stands alone; `d_absent` is na."""

    def __init__(self, folder: Path, home: Home) -> None:
        self.fleet, self.home = Fleet(folder), home
        self.journals, self.runs = folder / "journals", 0
        self.journals.mkdir()
        self.table: Any = "t1"
        self.models = {"small": "m1"}
        self.settings: dict[str, dict[str, Any]] = {}
        self.request = PlanRequest("insight")
        self.facts = replace(gather_facts(), models=frozenset({"small"}))
        self.bypass = False
        self.given: dict[str, Any] = {}
        self.first()
        self.fleet.add("b_after", AFTER, needs={"plugins": ["a_first"]})
        self.fleet.add("c_apart")
        self.fleet.add("d_absent", ABSENT)

    def first(self, code: str = FIRST, **changes: Any) -> Path:
        more = {"contracts": {"out": ["insight.finding"]}, "needs": {"models": ["small"]}}
        return self.fleet.add("a_first", code, **{**more, **changes})

    def run(self) -> dict[str, list[str]]:
        """Why each step ran; an empty list for one that was reused."""
        registry = self.fleet.registry()
        plan = build(registry.manifests("insight"), self.request)
        self.runs += 1
        caching = Caching(self._content, self._journal, models=self.models, bypass=self.bypass)
        with open_run(self.home, pack="insight", plan=plan, origin="attended") as run:
            run_plan(
                self.home,
                run,
                plan,
                registry,
                provider="",
                inputs_for=lambda step: {"table": str(self.table)},
                accept=self._accept,
                workers=1,
                settings=self.settings,
                facts=self.facts,
                caching=caching,
            )
        self.view = read_run(self.home, run.id)
        rows: list[Any] = list(self.view.outcomes)
        for row in rows:
            assert bool(row["cached_from"]) is not bool(row["cache_reasons"]), row
            assert row["cached_from"] == "" or row["wall_us"] == 0
        return {
            row["step"]: [reason.removeprefix("cache.") for reason in row["cache_reasons"]] for row in rows
        }

    def outcomes(self) -> list[tuple[Any, ...]]:
        names = ("step", "state", "reason", "because", "findings", "lane")
        return [tuple(row[name] for name in names) for row in self.view.outcomes]

    def newest_result(self) -> Path:
        """Where the kept result of `a_first` lies."""
        rows = [
            row for row in self.home.ledger.read(kind="runtime.cached") if row.payload["step"] == "a_first"
        ]
        blob = next(file["blob"] for file in rows[-1].payload["files"] if file["name"] == "result")
        return self.home.blobs.path(blob)

    def _content(self, step: Step) -> Mapping[str, Any]:
        return {"table": self.table} if step.id == "a_first" else {}

    def _journal(self, step: Step) -> Path:
        return self.journals / f"{self.runs}-{step.id}"

    def _accept(self, step: Step, end: TaskEnd, settled: Settled, batch: Batch) -> None:
        self.given[step.id] = end.result


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with init_home(tmp_path / "home") as home:
        yield home


@pytest.fixture
def toys(tmp_path: Path, home: Home) -> Toys:
    toys = Toys(tmp_path / "fleet", home)
    assert set(map(tuple, toys.run().values())) == {("first-time",)}
    return toys


REUSED: dict[str, list[str]] = {"a_first": [], "b_after": [], "c_apart": [], "d_absent": []}


def everything(reason: str) -> dict[str, list[str]]:
    return {step: [reason] for step in REUSED}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(data))


def test_a_second_run_reuses_everything_with_equal_outcomes_and_results(toys: Toys) -> None:
    outcomes, given = toys.outcomes(), dict(toys.given)

    assert toys.run() == REUSED
    assert (toys.outcomes(), toys.given) == (outcomes, given)
    assert ("d_absent", "na", "insight.role-missing") in [row[:3] for row in toys.outcomes()]
    assert toys.run() == REUSED


def test_a_reused_step_starts_no_process_and_names_where_it_comes_from(toys: Toys) -> None:
    first, hosts = toys.view.id, len(list(toys.home.ledger.read(kind="runtime.host")))

    toys.run()
    toys.run()

    assert [row["cached_from"] for row in toys.view.outcomes] == [f"{first}/{step}" for step in REUSED]
    assert len(list(toys.home.ledger.read(kind="runtime.host"))) == hosts


def test_white_space_comments_and_key_order_do_not_count(toys: Toys) -> None:
    path = toys.first("# A word.\n\n" + FIRST.replace("(table, seed, settings)", "( table,seed , settings )"))
    lines = path.with_suffix(".toml").read_text().splitlines()
    path.with_suffix(".toml").write_text("# A word.\n" + "\n".join([lines[1], lines[0], *lines[2:]]) + "\n\n")

    assert toys.run() == REUSED


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("code", {"a_first": ["code"], "b_after": ["upstream"]}),
        ("code-same-result", {"a_first": ["code"]}),
        ("manifest", {"a_first": ["manifest"]}),
        ("settings", {"a_first": ["settings"], "b_after": ["upstream"]}),
        ("input", {"a_first": ["input"], "b_after": ["upstream"]}),
        ("seed", everything("seed")),
        ("mode", everything("policy")),
        ("lane-policy", everything("policy")),
        ("library", everything("library")),
        ("interpreter", everything("library")),
        ("model", {"a_first": ["model"]}),
        ("contract", {"a_first": ["contract"]}),
        ("tampered", {"a_first": ["tampered"]}),
        ("absent", {"a_first": ["tampered"]}),
        ("key-error-model", {"a_first": ["key-error"]}),
        ("key-error-input", {"a_first": ["key-error"], "b_after": ["upstream"]}),
        ("bypass", everything("bypass")),
        ("two", {"a_first": ["code", "input"], "b_after": ["upstream"]}),
    ],
)
def test_one_change_runs_its_cone_again_and_says_why(
    toys: Toys, monkeypatch: pytest.MonkeyPatch, change: str, expected: dict[str, list[str]]
) -> None:
    _make(change, toys, monkeypatch)

    assert toys.run() == REUSED | expected
    # What could be named is kept: the same again is reused.
    if not change.startswith("key-error"):
        toys.bypass = False
        assert toys.run() == REUSED


def _make(change: str, toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    if change in ("code", "two"):
        toys.first(FIRST.replace('"{table} ', '"{table}: ').replace('f"', 'f"!'))
    if change in ("input", "two"):
        toys.table = "t2"
    if change == "code-same-result":
        toys.first(FIRST.replace("(table", "(*, table"))
    elif change == "manifest":
        toys.first(title="Another title")
    elif change == "settings":
        toys.settings = {"a_first": {"share": 3}}
    elif change == "seed":
        toys.request = PlanRequest("insight", seed=7)
    elif change == "mode":
        toys.request = PlanRequest("insight", mode="legacy")
    elif change == "lane-policy":
        monkeypatch.setattr(cache_store, "LANE_POLICY_VERSION", 2)
    elif change == "library":
        toys.facts = replace(toys.facts, libraries={**toys.facts.libraries, "duckdb": "99"})
    elif change == "interpreter":
        monkeypatch.setattr(cache_store, "interpreter_words", lambda: ("CPython 9.9.9", "linux"))
    elif change == "model":
        toys.models = {"small": "m2"}
    elif change == "contract":
        monkeypatch.setattr(cache_store, "load_contracts", _Changed)
    elif change == "tampered":
        flip(toys.newest_result())
    elif change == "absent":
        toys.newest_result().rename(toys.journals / "away")
    elif change == "key-error-model":
        toys.models = {}
    elif change == "key-error-input":
        toys.table = float("nan")
    elif change == "bypass":
        toys.bypass = True


class _Changed:
    """The contracts, each with another hash."""

    def get(self, name: str) -> Any:
        return SimpleNamespace(id=load_contracts().get(name).id, sha256="0" * 64)


def test_going_back_to_what_ran_before_is_reused(toys: Toys) -> None:
    toys.table = "t2"
    toys.run()
    toys.table = "t1"

    assert toys.run() == REUSED


def test_a_failure_is_never_reused(toys: Toys) -> None:
    toys.fleet.add("e_bad", BAD)

    assert toys.run()["e_bad"] == ["first-time"]
    assert toys.run() == {**REUSED, "e_bad": ["failed-before"]}
    assert toys.run() == {**REUSED, "e_bad": ["failed-before"]}


def test_a_tampered_result_is_told_in_an_entry_and_replaced(toys: Toys) -> None:
    path = toys.newest_result()
    flip(path)

    toys.run()

    (told,) = toys.home.ledger.read(kind="runtime.cache-tampered")
    assert told.payload["address"] == path.parent.name + path.name[:62]
    assert told.payload["step"] == "a_first"
    assert toys.home.blobs.quick_check(told.payload["address"]) == "ok"


def test_a_tampered_row_is_not_reused_when_the_next_run_died(
    toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, data = toys.newest_result(), toys.newest_result().read_bytes()
    flip(path)

    def die(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(execute._Work, "_task", die)
        with pytest.raises(KeyboardInterrupt):
            toys.run()
    path.write_bytes(data)

    assert toys.run()["a_first"] == ["tampered"]


def test_a_step_that_could_not_start_was_never_looked_up(toys: Toys) -> None:
    toys.facts = replace(toys.facts, models=frozenset())

    with pytest.raises(KeyError):
        toys.run()

    told = explain_step(toys.home, "a_first")
    assert (told["reasons"], told["cached_from"]) == ([], "")
    assert "need.model-missing" in told["sentence"]


def test_what_cannot_be_kept_leaves_the_step_unharmed(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    toys.table = "t2"

    def refuse(*_: Any) -> Any:
        raise BlobAltered("expected room, found none")

    with monkeypatch.context() as full:
        full.setattr(cache_store.StepCache, "_keep", refuse)
        assert toys.run() == REUSED | {"a_first": ["input"], "b_after": ["key-error"]}

    assert [row[1] for row in toys.outcomes()] == ["ok", "ok", "ok", "na"]
    assert "a_first" in explain_step(toys.home, "b_after")["detail"]
    assert toys.run() == REUSED | {"a_first": ["input"], "b_after": ["upstream"]}


def test_what_follows_a_step_without_a_key_still_sees_what_it_gave(toys: Toys) -> None:
    toys.models = {}
    assert toys.run() == REUSED | {"a_first": ["key-error"]}

    toys.table = "t2"

    assert toys.run() == REUSED | {"a_first": ["key-error"], "b_after": ["upstream"]}


def test_explain_names_every_reason_and_refuses_what_it_does_not_know(toys: Toys) -> None:
    toys.table = "t2"
    toys.run()
    second = toys.view.id
    toys.run()

    newest, before = explain_step(toys.home, "a_first"), explain_step(toys.home, "a_first", second)
    assert newest["cached_from"] == f"{second}/a_first" and newest["reasons"] == []
    assert [row["reason"] for row in before["reasons"]] == ["cache.input"]
    assert newest["key"] == before["key"] != ""
    with pytest.raises(StepNotSettled):
        explain_step(toys.home, "nobody")


def test_artifacts_and_journals_come_back_where_a_worker_would_have_put_them(
    toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """def run(out_dir):
    (out_dir / "deep").mkdir()
    (out_dir / "deep" / "a.txt").write_text("kept")
    return Ok(artifacts=[Artifact("a", "deep/a.txt", "text/plain")])
"""
    toys.fleet.add("f_files", code)
    seen: list[str] = []
    accept = toys._accept

    def look(step: Step, end: TaskEnd, settled: Settled, batch: Batch) -> None:
        if step.id == "f_files":
            (journal,) = [toys._journal(step)]
            seen.append(journal.read_text() if journal.exists() else "")
            journal.write_text("journal")
        return accept(step, end, settled, batch)

    monkeypatch.setattr(toys, "_accept", look)
    toys.run()
    kept = [row for row in toys.home.ledger.read(kind="runtime.cached") if row.payload["step"] == "f_files"]
    assert [file["name"] for file in kept[-1].payload["files"]] == ["journal", "out/deep/a.txt", "result"]

    assert toys.run() == {**REUSED, "f_files": []}
    assert seen == ["", "journal"]


# Code.


def test_a_module_far_below_the_provider_counts_and_its_comments_do_not(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "packs" / "__init__.py").write_text("")
    (tmp_path / "packs" / "provider.py").write_text("from sterling.packs import below\n")
    below = tmp_path / "packs" / "below.py"
    below.write_text("x = 1\n")

    def found() -> str:
        return code_hash(b"y = 2\n", ["sterling.packs.provider"], root=tmp_path)

    first = found()
    below.write_text("# why\nx    =   1  # so\n")
    assert found() == first
    below.write_text("x = 2\n")
    assert found() != first


@pytest.mark.parametrize("code", [b"def", b"\x00", b"from . import other\n", b"x = '\xff'\n"])
def test_code_that_cannot_be_followed_has_no_hash(code: bytes) -> None:
    with pytest.raises(CodeUnreadable):
        code_hash(code)


def test_a_module_that_is_not_there_has_no_hash() -> None:
    with pytest.raises(CodeUnreadable, match="nowhere"):
        code_hash(b"", ["sterling.nowhere"])


# The store, broken one rule at a time.


def _toys_with(module: ModuleType, name: str, run: Callable[[Toys], None]) -> None:
    folder = _Scratch.folder / f"{name}-{time.monotonic_ns()}"
    kept = execute.StepCache
    execute.StepCache = module.StepCache
    try:
        with init_home(folder / "home") as home:
            toys = Toys(folder / "fleet", home)
            toys.run()
            run(toys)
    finally:
        execute.StepCache = kept


class _Scratch:
    folder = Path()


def reuses_and_follows_inputs(module: ModuleType) -> None:
    def scenario(toys: Toys) -> None:
        assert toys.run() == REUSED
        toys.table = "t2"
        assert toys.run() == REUSED | {"a_first": ["input"], "b_after": ["upstream"]}
        toys.settings = {"a_first": {"share": 3}}
        assert toys.run() == REUSED | {"a_first": ["settings"], "b_after": ["upstream"]}

    _toys_with(module, "inputs", scenario)


def refuses_what_is_wrong(module: ModuleType) -> None:
    def scenario(toys: Toys) -> None:
        flip(toys.newest_result())
        assert toys.run() == REUSED | {"a_first": ["tampered"]}
        assert len(list(toys.home.ledger.read(kind="runtime.cache-tampered"))) == 1
        toys.models = {}
        assert toys.run() == REUSED | {"a_first": ["key-error"]}

    _toys_with(module, "wrong", scenario)


STORE_MUTANTS = [
    ("given settings left out", "**self._settings.get(step.id, {})}", "}"),
    ("upstream left out", "{need: self._outcomes[need] for need in step.needs}", "{}"),
    ("wrong bytes are believed", "self._home.blobs.get(file[\"blob\"])", "b'{\"status\": \"ok\"}'"),
    ("tampering is not told", "                self._tell_tampered(row, file[\"blob\"])\n", ""),
    ("models may be unknown", "        if lacking:\n", "        if False:\n"),
    ("rows under another key", "subject=f\"cache/{parts.key}\"", "subject=f\"cache/{step.id}\""),
    ("the last key is not kept", "subject=f\"step-key/{self._plan.pack}/{step.id}\"", "subject=\"step-key\""),
]  # fmt: skip


@pytest.mark.slow
def test_each_broken_rule_of_the_store_is_noticed(tmp_path: Path) -> None:
    _Scratch.folder = tmp_path
    source = Path(cache_store.__file__)

    found = run_mutants(source, STORE_MUTANTS, [reuses_and_follows_inputs, refuses_what_is_wrong])

    assert len(found) == len(STORE_MUTANTS)
