"""Running tests: every exit class from a real child, and no report believed that is not this run's."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sterling.kernel.clock import SystemClock
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home
from sterling.kernel.records import Record
from sterling.packs.ci import door
from sterling.packs.ci.checkout import find_repository
from sterling.packs.ci.gates import exit_of
from sterling.packs.ci.runner import Attempt, CopyFailed, Order, execute, prepare
from sterling.packs.ci.snapshot import is_wanted
from sterling.packs.ci.steps import RunResult, run_tests
from sterling.runtime.runs import list_runs, read_run

Make = Callable[..., Path]
# Plugins that only cost time here are left out.
PYTEST = (
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:hypothesispytest",
    "-p",
    "no:xdist",
)
BROKEN_HOOK = "def pytest_collection_modifyitems(): 1 / 0\n"


@pytest.fixture
def attempt(home: Home, tmp_path: Path) -> Callable[..., Attempt]:
    def run(folder: Path, argv: tuple[str, ...], **options: object) -> Attempt:
        order = Order(find_repository(folder), argv, **options)  # type: ignore[arg-type]
        return execute(prepare(order, tmp_path / "place"), blobs=home.blobs, clock=SystemClock())

    return run


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code)


REPORT = "<testsuite name='pytest'><testcase classname='t' name='a'/></testsuite>"


ALLOCATE = "x = bytearray(400_000_000); import time; time.sleep(60)"
ENDS = [
    ("raise SystemExit(0)", {}, "ok"),
    ("raise SystemExit(1)", {}, "tests_failed"),
    ("raise SystemExit(77)", {}, "unknown"),
    ("raise SystemExit(127)", {}, "not_started"),
    ("import time; time.sleep(60)", {"timeout_ms": 300}, "timed_out"),
    (ALLOCATE, {"memory_bytes": 100_000_000}, "out_of_memory"),
    ("import ctypes; ctypes.string_at(0)", {}, "crashed"),
    ("import os; os.kill(os.getpid(), 9)", {}, "killed"),
]
# Every end with a green report left behind, which must not be believed; the two that
# could pass also without one.
CASES = [(*end, "a green report") for end in ENDS] + [(*end, "no report") for end in ENDS[:2]]


@pytest.mark.parametrize(("code", "options", "expected", "leaves"), CASES)
def test_each_end_of_a_real_child_has_its_class(
    make_repository: Make,
    attempt: Callable[..., Attempt],
    code: str,
    options: dict[str, int],
    expected: str,
    leaves: str,
) -> None:
    folder = make_repository({"t.py": ""})
    writes = f"open('out.xml', 'w').write({REPORT!r}); " if leaves == "a green report" else ""

    found = attempt(folder, python(writes + code), reports=("out.xml",), **options)

    assert found.facts.exit_class == expected
    gate = exit_of(found.facts)
    green = (expected, leaves) == ("ok", "a green report")
    assert (gate.outcome == "ok") is green, "only a report and a status that agree are read"
    assert is_wanted(found.facts) is (expected not in ("ok", "tests_failed")) is (found.snapshot is not None)


@pytest.mark.parametrize(
    ("files", "arguments", "expected", "outcome"),
    [
        ({"test_a.py": "def test_a(): pass\n"}, (), "ok", "ok"),
        ({"test_a.py": "def test_a(): assert 0\n"}, (), "tests_failed", "ok"),
        ({"test_a.py": "import nosuchmodule\n"}, (), "collect_failed", "failed"),
        ({"test_a.py": "def test_a(): raise KeyboardInterrupt\n"}, (), "interrupted", "failed"),
        ({"test_a.py": "def test_a(): pass\n", "conftest.py": BROKEN_HOOK}, (), "internal", "na"),
        ({"test_a.py": "def test_a(): pass\n"}, ("--no-such-option",), "usage", "na"),
        ({"other.py": ""}, (), "none_collected", "failed"),
    ],
)  # fmt: skip
def test_each_status_of_a_live_pytest_has_its_class(
    make_repository: Make,
    attempt: Callable[..., Attempt],
    files: dict[str, str],
    arguments: tuple[str, ...],
    expected: str,
    outcome: str,
) -> None:
    found = attempt(make_repository(files), (*PYTEST, *arguments))

    assert found.facts.exit_class == expected
    assert exit_of(found.facts).outcome == outcome
    if expected == "collect_failed":
        assert found.facts.collectors["test_a.py"].cause == "missing-module nosuchmodule"
        assert found.snapshot is not None
        assert list(found.snapshot["contents"]) == ["test_a.py"]


def test_a_command_that_does_not_exist_is_not_started_and_says_why(
    make_repository: Make, attempt: Callable[..., Attempt]
) -> None:
    found = attempt(make_repository({"a": ""}), ("no-such-command",))

    assert found.facts.exit_class == "not_started"
    assert "no-such-command" in found.facts.notes[-1]


def test_a_program_that_git_ignores_is_found_where_it_lies(
    make_repository: Make, attempt: Callable[..., Attempt]
) -> None:
    folder = make_repository({".gitignore": "env/\n", "t.py": ""})
    (folder / "env").mkdir()
    os.symlink(sys.executable, folder / "env/python")

    found = attempt(folder, ("env/python", "-S", "-c", "raise SystemExit(1)"))

    assert found.facts.exit_class == "tests_failed"
    assert found.prepared.given[0] == "env/python"


def test_the_last_test_that_was_named_is_kept_when_time_runs_out(
    make_repository: Make, attempt: Callable[..., Attempt]
) -> None:
    code = (
        "import sys, time\nprint('tests/t.py::test_a PASSED [50%]')\n"
        "print('tests/t.py::test_b[x y] ', end='')\n"
        "sys.stdout.flush()\ntime.sleep(60)"
    )

    found = attempt(make_repository({"a": ""}), python(code), timeout_ms=300)

    assert (found.facts.exit_class, found.last_test) == ("timed_out", "tests/t.py::test_b[x y]")


def test_a_report_from_before_the_start_is_stale(
    make_repository: Make, attempt: Callable[..., Attempt]
) -> None:
    folder = make_repository({"t.py": "", "out.xml": REPORT})

    committed = attempt(folder, python("raise SystemExit(0)"), reports=("out.xml",))

    assert committed.facts.fault == "ci.report-stale"
    assert exit_of(committed.facts).outcome == "failed"


def test_a_green_report_brought_from_elsewhere_keeps_its_age(
    make_repository: Make, attempt: Callable[..., Attempt], tmp_path: Path
) -> None:
    old = tmp_path / "old.xml"
    old.write_text(REPORT)
    os.utime(old, (1_700_000_000, 1_700_000_000))

    found = attempt(
        make_repository({"t.py": ""}),
        python(f"import shutil; shutil.copy2({str(old)!r}, 'out.xml')"),
        reports=("out.xml",),
    )

    assert found.facts.fault == "ci.report-stale"


def test_a_report_that_is_a_link_is_not_read(
    make_repository: Make, attempt: Callable[..., Attempt], tmp_path: Path
) -> None:
    (tmp_path / "green.xml").write_text(REPORT)

    found = attempt(
        make_repository({"t.py": ""}),
        python(f"import os; os.symlink({str(tmp_path / 'green.xml')!r}, 'out.xml')"),
        reports=("out.xml",),
    )

    assert found.facts.fault == "ci.report-unknown"
    assert found.facts.sources == ()


@pytest.mark.parametrize("pattern", ["/etc/*.xml", "missing/*.xml"])
def test_a_report_outside_the_copy_or_absent_is_missing(
    make_repository: Make, attempt: Callable[..., Attempt], pattern: str
) -> None:
    found = attempt(make_repository({"t.py": ""}), python("pass"), reports=(pattern,))

    assert found.facts.fault == "ci.report-missing"


GREEN_OVER_RED = """
import atexit, glob, sys
def test_red(): assert 0
def lie():
    for word in sys.argv:
        if word.startswith("--junitxml="):
            open(word[11:], "w").write("<testsuites><testsuite name='pytest'>"
                "<testcase classname='test_a' name='test_red'/></testsuite></testsuites>")
atexit.register(lie)
"""


@pytest.mark.parametrize("json_report", [True, False])
def test_a_suite_that_overwrites_its_report_with_a_green_one_is_refused(
    make_repository: Make, attempt: Callable[..., Attempt], json_report: bool
) -> None:
    argv = PYTEST if json_report else (*PYTEST, "-p", "no:pytest_jsonreport")

    found = attempt(make_repository({"test_a.py": GREEN_OVER_RED}), argv)

    gate = exit_of(found.facts)
    assert gate.outcome == "failed"
    assert gate.code == ("ci.rendering-conflict" if json_report else "ci.exit-contradicts-report")


def test_the_child_sees_a_clean_environment_and_its_own_home(
    make_repository: Make, attempt: Callable[..., Attempt], home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEAKED", "yes")
    code = (
        "import os, json; print(json.dumps([dict(os.environ), os.listdir(os.environ['HOME']), os.getcwd()]))"
    )

    found = attempt(make_repository({"sub/x": ""}), python(code))

    variables, own, cwd = json.loads(home.blobs.get(str(found.streams["stdout"]["blob"])))
    assert "LEAKED" not in variables
    assert (variables["TZ"], variables["PYTHONHASHSEED"], own) == ("UTC", "0", [])
    assert cwd == str(found.prepared.place.tree)


def test_words_with_spaces_and_semicolons_stay_words(
    make_repository: Make, attempt: Callable[..., Attempt], home: Home
) -> None:
    words = ("a b", "; touch pwned", "$(id)", "`id`", "é")

    found = attempt(make_repository({"a": ""}), (*python("import sys; print(sys.argv[1:])"), *words))

    assert eval(home.blobs.get(str(found.streams["stdout"]["blob"]))) == list(words)


def test_a_command_given_in_a_folder_runs_in_that_folder_of_the_copy(
    make_repository: Make, attempt: Callable[..., Attempt], home: Home
) -> None:
    folder = make_repository({"sub/x": ""})

    found = attempt(folder / "sub", python("import os; print(sorted(os.listdir()))"))

    assert home.blobs.get(str(found.streams["stdout"]["blob"])) == b"['x']\n"


def test_imports_of_an_installed_checkout_come_from_the_copy(
    make_repository: Make, attempt: Callable[..., Attempt], home: Home, tmp_path: Path
) -> None:
    folder = make_repository(
        {"src/thing.py": "import os\nprint(os.path.abspath(__file__))\n", ".gitignore": "env\n"}
    )
    # An environment of its own whose path file points into the checkout, as an editable install leaves it.
    site = folder / f"env/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    site.mkdir(parents=True)
    (site / "thing.pth").write_text(f"{folder}/src\n")
    (folder / "env/bin").mkdir()
    os.symlink(os.path.realpath(sys.executable), folder / "env/bin/python")
    (folder / "env/pyvenv.cfg").write_text(f"home = {os.path.dirname(os.path.realpath(sys.executable))}\n")

    found = attempt(folder, ("env/bin/python", "-c", "import thing"))

    where = home.blobs.get(str(found.streams["stdout"]["blob"])).decode().strip()
    assert where == str(found.prepared.place.tree / "src/thing.py")


def _records(home: Home, run: str) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for entry in home.ledger.read(kind="record.put", run=run):
        record = home.records.get(str(entry.payload["id"]))
        found.setdefault(record.contract.partition("@")[0], []).append(record)
    return found


def test_a_run_leaves_its_records_and_closes(make_repository: Make, home: Home) -> None:
    folder = make_repository({"t.py": "", "bad name; x.py": ""})
    code = f"open('out.xml','w').write({REPORT!r}); print('seen'); raise SystemExit(77)"

    result: RunResult = run_tests(door.order_tests(folder, python(code), reports=("out.xml",)), home=home)

    view = read_run(home, result.run)
    assert (view.state, view.planned, view.settled) == ("ok", 2, 2)
    assert [row["state"] for row in view.outcomes] == ["ok", "na"]
    records = _records(home, result.run)
    assert sorted(records) == ["ci.environment", "ci.facts", "ci.run", "ci.snapshot"]
    document = records["ci.run"][0].document
    assert document["exit"] == {"raw": 77, "signal": None, "limit": "", "class": "unknown"}
    assert home.blobs.get(document["streams"]["stdout"]["blob"]) == b"seen\n"
    listing = json.loads(home.blobs.get(records["ci.snapshot"][0].document["files"]["blob"]))
    assert sorted(row["path"] for row in listing) == ["bad name; x.py", "out.xml", "t.py"]


def test_a_copy_that_cannot_be_made_closes_the_run_as_failed(make_repository: Make, home: Home) -> None:
    folder = make_repository({"t.py": ""})
    os.symlink("/etc", folder / "out")

    with pytest.raises(SterlingError) as caught:
        run_tests(door.order_tests(folder, python("pass")), home=home)

    assert caught.value.code == "checkout.link-outside"
    (view,) = list_runs(home)
    view = read_run(home, view.id)
    assert view.state == "failed"
    assert [row["reason"] for row in view.outcomes] == ["checkout.link-outside", "run.interrupted"]


def test_a_tree_that_cannot_be_copied_or_has_no_room_is_refused(
    make_repository: Make, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = door.order_tests(make_repository({"t.py": ""}), python("pass"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("sterling.packs.ci.checkout.shutil.copyfile", full)
        with pytest.raises(CopyFailed) as caught:
            run_tests(order, home=home)
    assert "No space left" in caught.value.message
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(CopyFailed):
        run_tests(order, home=home)
    assert {view.state for view in list_runs(home)} == {"failed"}, "both runs are closed"


def test_nothing_is_left_in_the_temporary_folder(
    make_repository: Make, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    locked = "import os; os.mkdir('locked'); open('locked/x','w'); os.chmod('locked', 0)"

    run_tests(door.order_tests(make_repository({"t.py": ""}), python(locked)), home=home)

    assert list(scratch.iterdir()) == []
