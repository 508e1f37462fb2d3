"""The rules of the house, checked on every file: sizes, names, docstrings, deletions, environment, words."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = sorted((ROOT / "src" / "sterling").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
BENCH = sorted((ROOT / "bench").glob("*.py"))

FILE_LINES_MAX = 600
# Files that may be longer, and why.
LONG_FILES = {
    "src/sterling/kernel/standalone_verify.py": (1300, "one file by design: somebody carries it away alone"),
}
FUNCTION_LINES_MAX = 70

# Where something may be unlinked, and why that is no deletion of evidence.
DELETIONS = {
    "kernel/archive.py": "a local file after its archive entry; an old stored form after its re-coding entry",
    "kernel/blobs.py": "incoming files, before they are evidence",
    "kernel/spool.py": "an item after its commit, or one that never became whole",
    "kernel/turn.py": "requests that were claimed or withdrawn, sockets of dead processes",
    "kernel/scan.py": "the place of a scan, in the rebuildable index, once its entry is written",
    "kernel/bundle.py": "an export that did not grow to its end",
    "kernel/home.py": "a home that did not come to be",
    "cli/tour/tamper.py": "attacks on a copy of a demo home",
    "packs/ci/baseline_file.py": "a file that did not grow to its end",
    "packs/ci/checkout.py": "a scratch index of git",
    "packs/ci/runner.py": "a scratch checkout outside every home",
    "testing/forged_ledgers.py": "attacks on generated homes",
}
# What may read the environment, and what for; settings come from the home's file alone.
ENVIRONMENT = {
    "kernel/home.py": "STERLING_HOME",
    "kernel/standalone_verify.py": "the user's state folder",
    "cli/words.py": "the terminal's habits",
    "cli/progress.py": "the terminal's habits",
    "cli/tour/stage.py": "handed to a child process",
    "packs/autopilot/environment.py": "handed to a child process; an agent's socket",
    "packs/ci/checkout.py": "handed to git",
    "packs/ci/environment.py": "the allow-list handed to a test run",
    "packs/ci/sample.py": "handed to git",
    "runtime/signal_sources.py": "the display and the terminal to look at",
    "testing/console.py": "handed to a child process",
    "testing/forged_ledgers.py": "the user's state folder",
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT / "src" / "sterling").as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@pytest.mark.parametrize("path", SOURCE + TESTS + BENCH, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_and_no_function_outgrows_one_concern(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    long = [
        f"{node.name} ({(node.end_lineno or 0) - node.lineno + 1})"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES_MAX
    ]

    most, _ = LONG_FILES.get(path.relative_to(ROOT).as_posix(), (FILE_LINES_MAX, ""))
    assert lines <= most
    assert long == []


@pytest.mark.parametrize("path", SOURCE, ids=relative)
def test_every_module_says_what_it_is_for_and_what_it_gives(path: Path) -> None:
    module = tree(path)
    assigned = [node for node in module.body if isinstance(node, ast.Assign)]
    names = {ast.unparse(target) for node in assigned for target in node.targets}
    defined = [node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    public = [name for name in defined if not name.startswith("_")]
    is_plugin = "/plugins/" in path.as_posix()

    assert (ast.get_docstring(module) or "").strip()
    assert is_plugin or not public or "__all__" in names


@pytest.mark.parametrize("path", SOURCE, ids=relative)
def test_names_avoid_the_words_that_say_nothing(path: Path) -> None:
    empty = re.compile(r"(Manager|Handler|Processor|Service)$")
    bad = [
        node.name
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and empty.search(node.name)
    ]

    assert bad == []
    assert path.stem not in {"utils", "helpers", "common", "misc"}


@pytest.mark.parametrize("path", SOURCE, ids=relative)
def test_no_exception_is_swallowed(path: Path) -> None:
    swallowed = []
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = "" if node.type is None else ast.unparse(node.type)
        broad = caught in ("", "Exception", "BaseException")
        if broad and all(isinstance(line, ast.Pass | ast.Continue) for line in node.body):
            swallowed.append(node.lineno)

    assert swallowed == []


@pytest.mark.parametrize("path", SOURCE, ids=relative)
def test_nothing_is_deleted_outside_the_named_places(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    deletes = re.findall(r"\.unlink\(|rmtree\(|os\.remove\(|\bDELETE FROM\b", text)

    assert not deletes or relative(path) in DELETIONS


@pytest.mark.parametrize("path", SOURCE, ids=relative)
def test_settings_never_come_from_the_environment(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert not re.search(r"os\.(environ|getenv)", text) or relative(path) in ENVIRONMENT


def test_tracked_files_name_no_machine_and_no_registry() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    bad = []
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix in {".png", ".parquet"} or not path.is_file() or path == Path(__file__).resolve():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if re.search(
            r"/(?:work|root|home/[a-z]+)/[a-z.]|files\.pythonhosted|pypi\.org|--index-url|--find-links", text
        ):
            bad.append(name)

    assert bad == []
