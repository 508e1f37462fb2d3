"""Builders that the tests of this pack share: facts from short words, and a pytest to run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
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


# A runner of a few milliseconds: it hands out the report that lies in the tree, and
# another one from the second time on, if there is one and a place to count in.
QUICK_RUNNER = """
turn=""
if [ -s counter ]; then
  where=$(cat counter)
  [ -e "$where" ] && [ -e report.again.xml ] && turn=.again
  : >> "$where"
fi
cp report$turn.xml out.xml
exit $(cat status$turn)
"""
QUICK = ("sh", "quick.sh")
_BODIES = {
    "passed": "",
    "failed": "<failure message='assert 0'>E   assert 0</failure>",
    "error": "<error message='boom'>E   RuntimeError: boom</error>",
    "skipped": "<skipped message='s'/>",
    "xfailed": "<skipped type='pytest.xfail' message='x'/>",
}
_BROKEN = "<error message='collection failure'>E   ModuleNotFoundError: No module named 'gone'</error>"


def report_of(tests: Mapping[str, str], broken: Sequence[str] = ()) -> str:
    """The JUnit report that pytest would have written."""
    named = [(_dotted(name), name.partition("::")[2], _BODIES[outcome]) for name, outcome in tests.items()]
    cases = [
        f"<testcase classname='{dotted}' name='{name}'>{body}</testcase>" for dotted, name, body in named
    ]
    cases += [f"<testcase classname='' name='{_dotted(path)}'>{_BROKEN}</testcase>" for path in broken]
    return f"<testsuites><testsuite name='pytest'>{''.join(cases)}</testsuite></testsuites>"


def _dotted(name: str) -> str:
    return name.partition("::")[0].removesuffix(".py").replace("/", ".")


@pytest.fixture
def quick(make_repository: Callable[..., Path]) -> Callable[..., Path]:
    """A repository whose tests end as told; each call commits one state of it."""

    def commit(
        tests: Mapping[str, str],
        *,
        broken: Sequence[str] = (),
        again: Mapping[str, str] | None = None,
        broken_again: Sequence[str] = (),
        counter: Path | None = None,
        status: int | None = None,
        files: Mapping[str, str] | None = None,
    ) -> Path:
        def ends(found: Mapping[str, str], bad: Sequence[str]) -> str:
            return str(int(bool(bad) or any(outcome in ("failed", "error") for outcome in found.values())))

        places = {name.partition("::")[0]: "" for name in [*tests, *broken, *(again or {})]}
        whole = {**places, "quick.sh": QUICK_RUNNER, "report.xml": report_of(tests, broken)}
        whole |= {
            "status": ends(tests, broken) if status is None else str(status),
            "counter": str(counter or ""),
        }
        if again is not None:
            whole |= {
                "report.again.xml": report_of(again, broken_again),
                "status.again": ends(again, broken_again),
            }
        return make_repository({**whole, **(files or {})})

    return commit
