"""`sterling ci` as a person or a pipeline meets it: answers, exits, and what bad input gets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterling.cli import ci_text
from sterling.cli.main import main
from sterling.kernel.contracts import load_contracts
from sterling.kernel.home import init_home, open_home
from sterling.packs.ci import door
from sterling.packs.ci.sample import Sample
from sterling.runtime.runs import list_runs, read_run

# The sample needs none of the plugins that this project's own tests load.
PYTEST = ("--", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return door.make_sample(tmp_path_factory.mktemp("sample") / "shelf")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Run a command line in this process; gives exit status, standard output, standard error."""
    home = tmp_path / "home"
    monkeypatch.setenv("STERLING_HOME", str(home))
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["ci", *words])
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def answer(found: tuple[int, str, str], contract: str) -> Any:
    """The JSON a command printed, held against its contract."""
    value = json.loads(found[1])
    assert value["contract"] == f"{contract}@1.0"
    load_contracts().validate(contract, value)
    return value


def test_the_sample_tells_its_story_in_three_exits(
    call: Call, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sample.repository)

    broken = call("verdict", "--base", "main", "--at", "broken", "--json", *PYTEST)
    mended = call("verdict", "--base", "main", "--at", "mended", *PYTEST)
    unknown = call("verdict", "--at", "mended", *PYTEST)

    assert (broken[0], mended[0], unknown[0]) == (1, 0, 4)
    value = answer(broken, "ci.verdict")
    assert value["reasons"] == ["ci.new-failure"]
    assert value["states"] == {
        "tests/test_fines.py::test_an_early_return_costs_nothing": "fixed",
        "tests/test_fines.py::test_one_day_late_costs_the_daily_rate": "new_fail",
    }
    assert value["counts"] == {"fixed": 1, "new_fail": 1, "same": 10}
    page = (Path(__file__).resolve().parents[3] / "docs/concepts/ci.md").read_text(encoding="utf-8")
    shown = page.partition("--at broken --quiet -- python -m pytest\n")[2].partition("...\n")[0]
    assert ci_text.verdict(value).startswith(shown) and shown.count("\n") == 3
    assert mended[1].splitlines()[0].endswith("ok  no regression")
    assert "ci.no-baseline" in unknown[1].splitlines()[0]
    assert "next: Capture the base now" in unknown[1]

    told = call("explain", value["decision"], "--json")
    assert told[0] == 0
    assert answer(told, "ci.explained")["problems"] == []
    assert "rule: No regression" in call("explain", value["run"])[1]


def test_a_run_leaves_evidence_and_says_what_failed(
    call: Call, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sample.repository)

    status, out, _ = call("run", "--at", "main", "--json", *PYTEST)

    value = answer((status, out, ""), "ci.ran")
    assert status == 1
    assert value["tally"] == {"failed": 1, "passed": 11}
    assert [test["id"] for test in value["failing"]] == [
        "tests/test_fines.py::test_an_early_return_costs_nothing"
    ]
    assert value["gate_hash"]
    assert value["commit"] == sample.base


def test_a_baseline_travels_as_a_file_and_reports_are_judged_by_it(
    call: Call, sample: Sample, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(sample.repository)
    file, report = tmp_path / "b.baseline.json", tmp_path / "out.xml"

    captured = call("baseline", "capture", "--at", "main", "-o", str(file), "--json", *PYTEST)
    assert captured[0] == 0
    key = answer(captured, "ci.baseline-shown")["key"]
    assert answer(call("baseline", "show", str(file), "--json"), "ci.baseline-shown")["key"] == key
    assert answer(call("baseline", "show", key[:20], "--json"), "ci.baseline-shown")["record"]

    broken = subprocess.run(["git", "worktree", "add", "-q", str(tmp_path / "w"), "broken"], check=True)
    assert broken.returncode == 0
    subprocess.run(
        [*PYTEST[1:], f"--junitxml={report}"], cwd=tmp_path / "w", capture_output=True, check=False
    )
    judged = call("verdict", "--report", str(report), "--exit-code", "1", "--baseline", str(file), "--json")
    assert judged[0] == 1
    assert answer(judged, "ci.verdict")["reasons"] == ["ci.new-failure"]
    read = call("ingest", str(report), "--exit-code", "1", "--json")
    assert read[0] == 0
    assert answer(read, "ci.ingested")["tally"] == {"failed": 1, "passed": 11}

    file.write_text(file.read_text().replace('"healthy": true', '"healthy": false'))
    assert call("baseline", "show", str(file))[0] == 3
    tampered = call("verdict", "--report", str(report), "--exit-code", "1", "--baseline", str(file), "--json")
    assert tampered[0] == 3
    assert answer(tampered, "ci.verdict")["reasons"][0] == "ci.baseline-tampered"


BAD_FILES = {
    "empty": b"",
    "binary": bytes(range(256)) * 4,
    "torn.xml": b"<testsuites><testsuite name='pytest'><testcase",
    "torn.json": b'{"exitcode": 0, "tests": [',
    "hostile.xml": b"<!DOCTYPE x [<!ENTITY a 'a'>]><testsuites/>",
    "page.html": b"<html>0 failures</html>",
}


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("empty", 2, "ci.report-empty"),
        ("binary", 2, "ci.report-unknown"),
        ("torn.xml", 4, "ci.report-torn"),
        ("torn.json", 4, "ci.report-torn"),
        ("hostile.xml", 2, "ci.report-hostile"),
        ("page.html", 2, "ci.report-unknown"),
        (".", 2, "report.not-a-file"),
        ("missing", 2, "report.path-missing"),
        ("*.nothing", 2, "report.path-missing"),
        ("n" * 300, 2, "report.path-missing"),
        ("/proc/self/mem", 2, "blob.source-unreadable"),
        ("/dev/zero", 2, "report.not-a-file"),
    ],
)
def test_a_bad_report_gets_a_code_a_sentence_and_a_next_step(
    call: Call, tmp_path: Path, name: str, status: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file, data in BAD_FILES.items():
        (tmp_path / file).write_bytes(data)

    found = call("ingest", name)

    assert found[0] == status
    words = found[1] + found[2]
    assert code in words
    assert "next: " in words
    assert "Traceback" not in words
    assert " passed" not in words


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("run", "--", "no-such-command-here"), 4, "ci.not-started"),
        (("run",), 2, "command.not-started"),
        (("run", "--at", "no-such-rev", "--", "true"), 2, "checkout.revision-unknown"),
        (("run", "--at", "main", "--worktree", "--", "true"), 2, "cli.bad-value"),
        (("run", "--repo", "/", "--", "true"), 2, "checkout.not-a-repository"),
        (("run", "--repo", "/no/such/folder", "--", "true"), 2, "checkout.not-a-repository"),
        (("run", "--env", "NOT_SET_ANYWHERE", "--", "true"), 2, "command.variable-missing"),
        (("run", "--timeout", "0", "--", "true"), 2, "cli.bad-value"),
        (("run", "--", "true"), 1, "ci.report-missing"),
        (("baseline", "capture", "--at", "gone", "--", "true"), 2, "checkout.revision-unknown"),
        (("baseline", "capture", "--", "true"), 1, "ci.baseline-unhealthy"),
        (("baseline", "show", "/no/such.baseline.json"), 2, "baseline.unreadable"),
        (("baseline", "show", "."), 2, "baseline.unreadable"),
        (("baseline", "show", "n" * 300), 2, "cli.bad-value"),
        (("baseline", "show", "/dev/zero"), 2, "cli.bad-value"),
        (("baseline", "show", "/proc/self/mem"), 2, "baseline.unreadable"),
        (("verdict", "--report", "/dev/null", "--baseline", "/dev/null"), 2, "cli.bad-value"),
        (("run", "--repo", "n" * 300, "--", "true"), 2, "cli.bad-value"),
        (("verdict",), 2, "cli.bad-value"),
        (("verdict", "--report", "x.xml"), 2, "cli.bad-value"),
        (("verdict", "--report", "x.xml", "--baseline", "none.json"), 2, "report.path-missing"),
        (("verdict", "--exit-code", "1", "--", "true"), 2, "cli.bad-value"),
        (("verdict", "--base", "gone", "--", "true"), 2, "checkout.revision-unknown"),
        (("verdict", "--baseline", "none.json", "--", "true"), 2, "baseline.unreadable"),
        (("verdict", "--base", "main", "--", "no-such-command-here"), 4, "ci.not-started"),
        (("explain", "r-nothing"), 2, "decision.unknown"),
    ],
)
def test_bad_input_of_every_command_gets_the_right_exit(
    call: Call,
    sample: Sample,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    status: int,
    code: str,
) -> None:
    monkeypatch.chdir(sample.repository)
    init_home(tmp_path / "home").close()

    found = call(*words)

    assert found[0] == status, found
    assert code in found[1] + found[2]
    assert "next: " in found[1] + found[2]
    assert "Traceback" not in found[1] + found[2]


def test_an_error_is_one_json_object_when_json_is_asked_for(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    status, out, _ = call("run", "--json", "--", "true")

    error = json.loads(out)["error"]
    assert (status, error["code"]) == (2, "checkout.not-a-repository")
    assert error["hint"]


def test_names_out_of_a_report_cannot_steer_a_terminal(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tests = [
        {
            "nodeid": "t.py::\x1b]0;owned\x07::error\n\u202e",
            "outcome": "failed",
            "call": {"outcome": "failed"},
        }
    ]
    (tmp_path / "r.json").write_text(json.dumps({"exitcode": 1, "tests": tests, "collectors": []}))

    _, out, _ = call("ingest", "r.json")

    assert "owned" in out
    assert not {"\x1b", "\x07", "\u202e"} & set(out)
    assert all(line.startswith(("✗", "✓", "–", "x", "+", "-", "  ", "next")) for line in out.splitlines())


def test_a_run_killed_in_the_middle_is_closed_by_the_next_start(
    call: Call, sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    init_home(home).close()
    scratch.mkdir()
    variables = {**os.environ, "TMPDIR": str(scratch)}
    started = tmp_path / "started"
    code = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(120)"
    words = ["ci", "run", "--repo", str(sample.repository), "--", sys.executable, "-c", code]
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; from sterling.cli.main import main; main(sys.argv[1:])", *words],
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _wait_for(lambda: started.exists() and started.read_text() != "")
    child.send_signal(signal.SIGKILL)
    child.wait()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    assert list(scratch.iterdir()), "the killed run left its workspace"

    status, _, _ = call("run", "--repo", str(sample.repository), "--", "true")

    assert status == 1
    with open_home(home, read_only=True) as opened:
        first = read_run(opened, list_runs(opened)[0].id)
        assert (first.state, first.code, first.settled) == ("failed", "run.abandoned", first.planned)
        assert [row["reason"] for row in first.outcomes] == ["ok", "run.abandoned"]
        assert list(opened.records.read("ci.facts", run=first.id)) == []
    assert list(scratch.iterdir()) == [], "and the next run removed it"
    _wait_for(lambda: not _is_running(int(started.read_text())))


def test_interrupting_a_run_closes_its_steps(sample: Sample, tmp_path: Path) -> None:
    home, started = tmp_path / "home", tmp_path / "started"
    code = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(120)"
    words = [
        "ci",
        "run",
        "--home",
        str(home),
        "--repo",
        str(sample.repository),
        "--",
        sys.executable,
        "-c",
        code,
    ]
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; from sterling.cli.main import main; main(sys.argv[1:])", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _wait_for(lambda: started.exists() and started.read_text() != "")
    child.send_signal(signal.SIGINT)

    assert child.wait(timeout=60) == -signal.SIGINT
    with open_home(home, read_only=True) as opened:
        (view,) = list_runs(opened)
        view = read_run(opened, view.id)
        assert view.state == "failed"
        assert [row["reason"] for row in view.outcomes] == ["ok", "run.interrupted"]
    assert not _is_running(int(started.read_text()))


def _wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "what was waited for did not happen"
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2]
    except FileNotFoundError:
        return False
    return not state.startswith("Z")
