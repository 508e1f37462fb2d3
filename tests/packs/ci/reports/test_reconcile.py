"""Several renderings of one run: they agree and are united, or they conflict by name."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sterling.kernel.blobs import Blobs
from sterling.packs.ci.exits import ProcessEnd
from sterling.packs.ci.facts import COMPLETE, FACETS, PARTIAL, Collector, Pointer, Reading, Result
from sterling.packs.ci.ingest import ingest_reports
from sterling.packs.ci.reports.reconcile import reconcile

SUITE = """
import pytest, unittest
def test_ok(): pass
def test_bad(): assert 1 == 2
class TestK:
    def test_key(self): {}['k']
    @pytest.mark.xfail
    def test_xf(self): assert 0
    @pytest.mark.xfail
    def test_xp(self): pass
    @pytest.mark.xfail(strict=True)
    def test_strict(self): pass
@pytest.mark.skip(reason="no")
def test_sk(): pass
@pytest.fixture
def boom():
    yield
    raise RuntimeError("teardown")
def test_td(boom): pass
def test_both(boom): assert 0
@pytest.mark.parametrize("p", ["a/b", "c::d", "é", "x[y]"])
def test_p(p): assert p != "c::d"
def test_sub(subtests):
    for i in range(3):
        with subtests.test(msg="m", i=i):
            assert i != 1
class U(unittest.TestCase):
    def test_u(self):
        for i in range(3):
            with self.subTest(i=i): self.assertNotEqual(i, 2)
"""


@pytest.fixture(scope="module")
def live(
    tmp_path_factory: pytest.TempPathFactory, run_pytest: Callable[..., subprocess.CompletedProcess[str]]
) -> Path:
    """One real suite with its JUnit and JSON reports."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "tests" / "sub.dir").mkdir(parents=True)
    (folder / "tests" / "test_a.py").write_text(SUITE, encoding="utf-8")
    (folder / "tests" / "sub.dir" / "test_q.py").write_text("def test_q(): pass\n")
    (folder / "tests" / "test_broken.py").write_text("import nosuchmodule\n")
    (folder / "tests" / "test_syntax.py").write_text("def test_x(:\n")
    (folder / "tests" / "test_modskip.py").write_text(
        "import pytest\npytest.skip('m', allow_module_level=True)\n"
    )
    end = run_pytest(
        folder,
        "--continue-on-collection-errors",
        "--junitxml=j.xml",
        "--json-report",
        "--json-report-file=j.json",
    )
    assert end.returncode == 1, end.stdout
    return folder


def _listing(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*.py")]


def test_junit_and_json_of_a_live_run_give_the_same_hashes(live: Path, tmp_path: Path) -> None:
    blobs, end = Blobs(tmp_path), ProcessEnd(1)

    junit = ingest_reports([("j.xml", live / "j.xml")], blobs=blobs, listing=_listing(live), end=end)
    told = ingest_reports([("j.json", live / "j.json")], blobs=blobs, end=end)
    both = ingest_reports([("j.xml", live / "j.xml"), ("j.json", live / "j.json")], blobs=blobs, end=end)

    assert (junit.fault, told.fault, both.fault) == ("", "", "")
    assert junit.gate_hash == told.gate_hash == both.gate_hash != ""
    assert junit.core_hash == told.core_hash == both.core_hash != ""
    assert junit.detail_hash == both.detail_hash != ""
    assert sorted(both.collectors) == ["tests/test_broken.py", "tests/test_syntax.py"]
    assert both.tests["tests/test_a.py::test_p[c::d]"].outcome == "failed"
    assert both.tests["tests/test_a.py::TestK::test_xp"].outcome == "xpassed"


def test_a_green_report_beside_a_red_one_is_a_conflict(live: Path, tmp_path: Path) -> None:
    green = tmp_path / "green.xml"
    green.write_text(
        '<testsuites><testsuite name="pytest"><testcase classname="tests.test_a" name="test_ok"/>'
        "</testsuite></testsuites>"
    )
    files = [("green.xml", green), ("j.json", live / "j.json")]

    found = ingest_reports(files, blobs=Blobs(tmp_path / "blobs"), end=ProcessEnd(1))

    assert found.fault == "ci.rendering-conflict"
    assert "green.xml" in found.because
    assert "j.json" in found.because
    assert found.gate_hash == ""


def test_a_status_that_the_report_denies_is_a_conflict(live: Path, tmp_path: Path) -> None:
    found = ingest_reports([("j.json", live / "j.json")], blobs=Blobs(tmp_path), end=ProcessEnd(0))

    assert found.fault == "ci.rendering-conflict"


def reading(
    shape: str, tests: Mapping[str, str], *, collectors: tuple[str, ...] = (), fault: str = "", **facets: str
) -> tuple[Pointer, Reading]:
    results = {name: Result(outcome) for name, outcome in tests.items()}
    broken = {name: Collector() for name in collectors}
    known = {**dict.fromkeys(FACETS, COMPLETE), **facets}
    made = Reading(shape, "pytest", None, results, broken, known, (), fault, fault)
    return Pointer(f"{shape}.r", f"{shape}{sorted(tests.items())}", shape, 1), made


def test_parts_of_one_report_are_joined() -> None:
    first, second = reading("junit", {"a": "passed"}), reading("junit", {"b": "failed"})

    found = reconcile([first, (Pointer("other", "x", "junit", 1), second[1])], ProcessEnd(1))

    assert (found.fault, sorted(found.tests), found.tally) == ("", ["a", "b"], {"failed": 1, "passed": 1})


def test_two_reports_under_one_name_are_a_conflict() -> None:
    first, second = reading("junit", {"a": "passed"}), reading("junit", {"b": "failed"})

    assert reconcile([first, second], ProcessEnd(1)).fault == "ci.rendering-conflict"


def test_the_same_bytes_twice_are_one_report() -> None:
    pointer, made = reading("junit", {"a": "passed"})

    found = reconcile([(pointer, made), (Pointer("copy", pointer.blob, "junit", 1), made)], ProcessEnd(0))

    assert found.tests["a"].occurrences == ()


@pytest.mark.parametrize(
    ("other", "conflict"),
    [
        ({"a": "passed", "b": "failed"}, False),
        ({"a": "xpassed", "b": "failed"}, False),
        ({"a": "failed", "b": "failed"}, True),
        ({"a": "passed"}, True),
        ({"a": "passed", "b": "failed", "c": "skipped"}, True),
        ({"a": "passed", "b": "error"}, True),
    ],
)
def test_renderings_conflict_exactly_where_both_know(other: Mapping[str, str], conflict: bool) -> None:
    junit = reading("junit", {"a": "passed", "b": "failed"}, xpass="absent")

    found = reconcile([junit, reading("pytest_json", other)], ProcessEnd(1))

    assert (found.fault == "ci.rendering-conflict") is conflict


def test_a_rendering_that_knows_only_part_cannot_contradict() -> None:
    whole = reading("junit", {"a": "passed", "b": "failed"})
    part = reading("pytest_json", {"a": "failed"}, all_ids=PARTIAL, skip_ids=PARTIAL, failing_ids=PARTIAL)

    found = reconcile([whole, part], ProcessEnd(1))

    assert (found.fault, found.tests["a"].outcome) == ("", "passed")


def test_files_that_failed_to_load_in_one_rendering_only_are_a_conflict() -> None:
    junit = reading("junit", {"a": "passed"}, collectors=("b.py",))

    assert (
        reconcile([junit, reading("pytest_json", {"a": "passed"})], ProcessEnd(1)).fault
        == "ci.rendering-conflict"
    )


def test_one_torn_report_spoils_the_run_even_beside_a_whole_one() -> None:
    torn = reading("pytest_json", {}, fault="ci.report-torn")

    found = reconcile([reading("junit", {"a": "passed"}), torn], ProcessEnd(0))

    assert found.fault == "ci.report-torn"
    assert COMPLETE not in found.facets.values()
    assert found.gate_hash == ""


def test_no_report_at_all_is_missing_and_not_empty() -> None:
    found = reconcile([], ProcessEnd(0))

    assert found.fault == "ci.report-missing"
    assert COMPLETE not in found.facets.values()


def test_an_exit_nobody_stated_stays_absent() -> None:
    found = reconcile([reading("junit", {"a": "passed"}, exit="absent")], None)

    assert (found.exit_class, found.facets["exit"], found.gate_hash) == ("", "absent", "")


def test_the_order_of_the_reports_changes_nothing() -> None:
    parts = [
        (Pointer(f"p{i}", f"b{i}", "junit", 1), reading("junit", {"a": o, f"t{i}": "passed"})[1])
        for i, o in enumerate(["failed", "error", "passed", "skipped"])
    ]
    expected = reconcile(parts, ProcessEnd(1))

    for seed in range(5):
        shuffled = list(parts)
        random.Random(seed).shuffle(shuffled)
        assert reconcile(shuffled, ProcessEnd(1)) == expected
