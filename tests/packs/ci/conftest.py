"""Builders that the tests of this pack share: facts from short words, and a pytest to run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from sterling.kernel.home import Home, init_home
from sterling.packs.ci.exits import ProcessEnd, classify
from sterling.packs.ci.facts import COMPLETE, FACETS, Collector, Facts, Result, tally_of

MakeFacts = Callable[..., Facts]


@pytest.fixture
def facts() -> MakeFacts:
    """Facts from `{id: outcome or (outcome, signature)}`, complete unless told otherwise."""
    return make_facts


def make_facts(
    tests: Mapping[str, str | tuple[str, str]] | None = None,
    *,
    status: int | None = None,
    collectors: Mapping[str, str] | None = None,
    facets: Mapping[str, str] | None = None,
    exit_class: str | None = None,
    fault: str = "",
) -> Facts:
    results = {name: _result(value) for name, value in (tests or {"t.py::a": "passed"}).items()}
    broken = {name: Collector(cause, cause, cause) for name, cause in (collectors or {}).items()}
    red = broken or any(result.outcome in ("failed", "error") for result in results.values())
    raw = status if status is not None else int(bool(red))
    stated = classify("pytest", ProcessEnd(raw), collectors_failed=bool(broken))
    return Facts(
        runner="pytest",
        exit_raw=raw,
        exit_signal=None,
        exit_class=stated if exit_class is None else exit_class,
        tests=results,
        collectors=broken,
        facets={**dict.fromkeys(FACETS, COMPLETE), **(facets or {})},
        fault=fault,
        because=fault and "made so by the test",
        tally=tally_of(results),
    )


def _result(value: str | tuple[str, str]) -> Result:
    return Result(value) if isinstance(value, str) else Result(value[0], signature=value[1])


@pytest.fixture(scope="session")
def run_pytest() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a real pytest in a folder, without the plugins that would slow a small suite down."""

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)

    return run


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A fresh home, open for writing."""
    with init_home(tmp_path / "home") as made:
        yield made


@pytest.fixture
def make_repository(tmp_path: Path) -> Callable[[Mapping[str, str]], Path]:
    """A git repository with these files committed; a second call commits on top."""

    def make(files: Mapping[str, str], *, name: str = "repo", message: str = "files") -> Path:
        folder = tmp_path / name
        if not folder.exists():
            folder.mkdir()
            git(folder, "init", "-q", "-b", "main")
        write(folder, files)
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "--allow-empty", "-m", message)
        return folder

    return make


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def git(folder: Path, *words: str) -> str:
    person = ("-c", "user.name=T", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false")
    end = subprocess.run(["git", *person, *words], cwd=folder, capture_output=True, text=True, check=True)
    return end.stdout.strip()


# A runner of a few milliseconds: it reads outcomes from a file of the tree and
# writes the JUnit report that pytest would have written.
QUICK_RUNNER = """
import json, os, sys
plan = json.load(open("outcomes.json"))
lines = ["<testsuites><testsuite name='pytest'>"]
state = plan.get("state", "")
seen = os.path.exists(state) if state else False
if state:
    open(state, "a").write("x")
outcomes = plan["again"] if seen and "again" in plan else plan["tests"]
for name, outcome in outcomes.items():
    path, _, test = name.partition("::")
    dotted = path[:-3].replace("/", ".")
    body = {"passed": "", "failed": "<failure message='assert 0'>E   assert 0</failure>",
            "error": "<error message='boom'>E   RuntimeError: boom</error>",
            "skipped": "<skipped message='s'/>",
            "xfailed": "<skipped type='pytest.xfail' message='x'/>"}[outcome]
    lines.append(f"<testcase classname='{dotted}' name='{test}'>{body}</testcase>")
for path in plan.get("broken_again" if seen and "broken_again" in plan else "broken", []):
    dotted = path[:-3].replace("/", ".")
    lines.append(f"<testcase classname='' name='{dotted}'><error message='collection failure'>"
                 f"E   ModuleNotFoundError: No module named 'gone'</error></testcase>")
lines.append("</testsuite></testsuites>")
open("out.xml", "w").write("".join(lines))
broken = plan.get("broken_again" if seen and "broken_again" in plan else "broken", [])
red = bool(broken) or any(o in ("failed", "error") for o in outcomes.values())
sys.exit(plan.get("exit", 1 if red else 0))
"""


@pytest.fixture
def quick(make_repository: Callable[..., Path]) -> Callable[..., Path]:
    """A repository whose tests end as a plan says; each call commits one plan."""

    def commit(tests: Mapping[str, str], *, files: Mapping[str, str] | None = None, **plan: object) -> Path:
        places = {name.partition("::")[0]: "" for name in [*tests, *plan.get("broken", [])]}  # type: ignore[misc]
        whole = {**places, "quick.py": QUICK_RUNNER, "outcomes.json": json.dumps({"tests": tests, **plan})}
        return make_repository({**whole, **(files or {})})

    return commit


QUICK = (sys.executable, "-S", "quick.py")
