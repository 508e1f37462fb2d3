"""JUnit XML: pytest's and unittest's, clean, dirty, cut and hostile."""

from __future__ import annotations

import io
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped

from sterling.packs.ci.facts import ABSENT, COMPLETE, PARTIAL
from sterling.packs.ci.identity import PathMap
from sterling.packs.ci.ingest import read_report
from sterling.packs.ci.reports.junit import read_junit

PATHS = PathMap(["tests/test_a.py", "tests/sub.dir/test_b.py", "tests/test_broken.py"])

PYTEST = """<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest"
 errors="2" failures="1" skipped="2" tests="7" time="0.1" timestamp="2026-01-01T00:00:00">
<testcase classname="" name="tests.test_broken" time="0.000"><error message="collection failure">
E   ModuleNotFoundError: No module named 'nosuch'</error></testcase>
<testcase classname="tests.test_a" name="test_ok" time="0.25"/>
<testcase classname="tests.test_a.TestK" name="test_bad[x/y::z]" time="0.001"><failure
 message="assert 1 == 2">    def test_bad(): &gt; assert 1 == 2
E       assert 1 == 2

tests/test_a.py:4: AssertionError</failure></testcase>
<testcase classname="tests.test_a" name="test_xf" time="0"><skipped
 type="pytest.xfail" message="r"/></testcase>
<testcase classname="tests.sub.dir.test_b" name="test_sk"><skipped
 type="pytest.skip" message="no">x</skipped></testcase>
<testcase classname="tests.test_a" name="test_td" time="0.1"><error
 message="failed on teardown with &quot;RuntimeError: t&quot;">E   RuntimeError: t</error></testcase>
</testsuite></testsuites>"""

UNITTEST = """<?xml version="1.0"?><testsuites><testsuite name="tests.test_a.U-20260101101010"
 tests="5" file="tests/test_a.py" failures="1" errors="1" skipped="2" time="0.01">
<testcase classname="tests.test_a.U" name="test_ok" time="0.001" file="tests/test_a.py" line="5"/>
<testcase classname="tests.test_a.U" name="test_bad (i=2)" time="0.001" file="tests/test_a.py"><failure
 type="AssertionError" message="1 != 2">Traceback (most recent call last):
  File "tests/test_a.py", line 9, in test_bad
    self.assertEqual(1, 2)
AssertionError: 1 != 2
</failure></testcase>
<testcase classname="tests.test_a.U" name="test_sk" file="tests/test_a.py"><skipped
 type="skip" message="no"/></testcase>
<testcase classname="tests.test_a.U" name="test_xf" file="tests/test_a.py"><skipped
 type="XFAIL" message="e"/></testcase>
<testcase classname="tests.test_a.U" name="test_xp" file="tests/test_a.py"><error
 type="UnexpectedSuccess" message="u"/></testcase>
</testsuite><testsuite name="unittest.loader._FailedTest-20260101101010">
<testcase classname="unittest.loader._FailedTest" name="tests.test_broken"><error type="ImportError"
 message="Failed to import test module">ModuleNotFoundError: No module named 'nosuch'</error></testcase>
</testsuite></testsuites>"""


def suite(*cases: str, name: str = "pytest") -> str:
    return f'<testsuites><testsuite name="{name}">{"".join(cases)}</testsuite></testsuites>'


def case(name: str, inside: str = "") -> str:
    return f'<testcase classname="tests.test_a" name="{name}">{inside}</testcase>'


def read(text: str | bytes, paths: PathMap = PATHS, **options: str) -> object:
    data = text.encode() if isinstance(text, str) else text
    return read_report(io.BytesIO(data), paths, **options)


def test_a_pytest_report_gives_ids_outcomes_and_broken_files() -> None:
    found = read_junit(io.BytesIO(PYTEST.encode()), PATHS)

    assert found.runner == "pytest"
    assert {name: result.outcome for name, result in found.tests.items()} == {
        "tests/test_a.py::test_ok": "passed",
        "tests/test_a.py::TestK::test_bad[x/y::z]": "failed",
        "tests/test_a.py::test_xf": "xfailed",
        "tests/sub.dir/test_b.py::test_sk": "skipped",
        "tests/test_a.py::test_td": "error",
    }
    assert found.tests["tests/test_a.py::test_ok"].duration_us == 250_000
    assert found.collectors["tests/test_broken.py"].cause == "missing-module nosuch"
    assert found.exit_raw is None
    assert (found.facets["exit"], found.facets["xpass"]) == (ABSENT, ABSENT)
    assert found.facets["collectors"] == found.facets["all_ids"] == COMPLETE


def test_a_unittest_report_gives_the_same_kind_of_ids_and_folds_subtests() -> None:
    found = read_junit(io.BytesIO(UNITTEST.encode()), PATHS)

    assert found.runner == "unittest"
    assert {name: result.outcome for name, result in found.tests.items()} == {
        "tests/test_a.py::U::test_ok": "passed",
        "tests/test_a.py::U::test_bad": "failed",
        "tests/test_a.py::U::test_sk": "skipped",
        "tests/test_a.py::U::test_xf": "xfailed",
        "tests/test_a.py::U::test_xp": "failed",
    }
    assert list(found.collectors) == ["tests/test_broken.py"]
    assert found.facets["xpass"] == COMPLETE


@pytest.mark.parametrize("text", [PYTEST, UNITTEST], ids=["pytest", "unittest"])
def test_an_independent_reader_counts_the_same(text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.xml"
    path.write_text(text)
    cases = [case for suite in JUnitXml.fromfile(str(path)) for case in suite]
    kinds = [type(case.result[0]) if case.result else None for case in cases]

    found = read_junit(io.BytesIO(text.encode()), PATHS)
    outcomes = [result.outcome for result in found.tests.values()]

    assert len(cases) == len(outcomes) + len(found.collectors)
    assert kinds.count(Skipped) == outcomes.count("skipped") + outcomes.count("xfailed")
    red = kinds.count(Error) + kinds.count(Failure)
    assert red == outcomes.count("failed") + outcomes.count("error") + len(found.collectors)


@pytest.mark.parametrize("text", [PYTEST, UNITTEST], ids=["pytest", "unittest"])
def test_a_report_cut_at_any_byte_carries_no_verdict(text: str) -> None:
    data = text.encode()

    for cut in range(len(data)):
        found = read(data[:cut])
        assert found.fault in ("ci.report-torn", "ci.report-empty", "ci.report-unknown"), cut
        assert COMPLETE not in found.facets.values(), cut


def test_a_torn_report_still_shows_what_was_read() -> None:
    found = read(PYTEST[: PYTEST.index('name="test_xf"')])

    assert found.fault == "ci.report-torn"
    assert "tests/test_a.py::TestK::test_bad[x/y::z]" in found.tests
    assert found.facets["failing_ids"] == PARTIAL


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "ci.report-empty"),
        (b" \n\t ", "ci.report-empty"),
        (b"\xef\xbb\xbf", "ci.report-empty"),
        (b"\x00" * 4096, "ci.report-unknown"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "ci.report-unknown"),
        (b"tests: all passed", "ci.report-unknown"),
        (b"<html><body>0 failures</body></html>", "ci.report-unknown"),
        (b'<testcase name="x"/>', "ci.report-unknown"),
        (b"<", "ci.report-torn"),
        (b"<testsuite/><testsuite/>", "ci.report-torn"),
    ],
)
def test_what_is_no_report_is_told_apart(data: bytes, code: str) -> None:
    found = read(data)

    assert found.fault == code
    assert found.because
    assert COMPLETE not in found.facets.values()


BOMB = '<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><testsuites><testsuite name="&b;"/></testsuites>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><testsuites name="&a;"/>'


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        OUTSIDE,
        '<!DOCTYPE testsuites SYSTEM "http://example.invalid/x.dtd"><testsuites/>',
        '<!DOCTYPE testsuites><testsuites name="pytest"/>',
        "<testsuites>" * 101,
    ],
    ids=["bomb", "file", "dtd", "plain dtd", "deep"],
)
def test_hostile_xml_is_refused_by_name(text: str) -> None:
    assert read(text).fault == "ci.report-hostile"


def test_one_hundred_levels_are_allowed() -> None:
    assert read("<testsuites>" + "<testsuite>" * 99 + "</testsuite>" * 99 + "</testsuites>").fault == ""


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + PYTEST.encode(),
        PYTEST.replace("utf-8", "utf-16").encode("utf-16"),
        PYTEST.replace(' encoding="utf-8"', "").encode("utf-16-be"),
        PYTEST.replace("\n", "\r\n").encode(),
        PYTEST.replace("E   RuntimeError: t", "E   RuntimeError: \x1b[31mt\x1b[0m\x00").encode(),
    ],
    ids=["mark", "utf-16", "utf-16 without mark", "crlf", "control bytes"],
)
def test_another_encoding_or_stray_control_bytes_change_no_outcome(data: bytes) -> None:
    found, plain = read(data), read(PYTEST)

    assert found.fault == ""
    assert {n: r.outcome for n, r in found.tests.items()} == {n: r.outcome for n, r in plain.tests.items()}
    assert found.collectors.keys() == plain.collectors.keys()


def test_latin_1_without_a_declaration_is_read_and_said() -> None:
    text = suite(case("caf\xe9"))

    found = read(text.encode("latin-1"))

    assert "tests/test_a.py::café" in found.tests
    assert any("Latin-1" in note for note in found.notes)


def test_a_latin_1_report_that_is_cut_is_torn_like_any_other() -> None:
    text = suite(case("caf\xe9"))
    data = text.encode("latin-1")

    assert {read(data[:cut]).fault for cut in range(2, len(data))} == {"ci.report-torn"}


def test_a_header_that_lies_is_a_note_and_the_cases_count() -> None:
    found = read(PYTEST.replace('failures="1"', 'failures="0"'))

    assert found.tests["tests/test_a.py::TestK::test_bad[x/y::z]"].outcome == "failed"
    assert any("header" in note for note in found.notes)


def test_a_report_of_a_runner_we_do_not_know_tells_nothing_about_collection() -> None:
    text = suite(
        '<testcase classname="a b" name="c" file="x.js"/>',
        '<testcase name="d" status="skipped"/>',
        name="jest",
    )

    found = read(text)

    assert found.runner == "generic"
    assert found.facets["collectors"] == ABSENT
    assert {name: result.outcome for name, result in found.tests.items()} == {
        "x.js::a b::c": "passed",
        "d": "skipped",
    }


def test_a_status_word_without_an_element_is_not_read_as_a_pass() -> None:
    words = {"a": "fail", "b": "error", "c": "notrun"}
    text = suite(*(f'<testcase name="{name}" status="{word}"/>' for name, word in words.items()), name="")

    assert [result.outcome for result in read(text).tests.values()] == ["failed", "error", "skipped"]


def test_two_results_of_one_test_fold_to_the_worst() -> None:
    text = suite(case("t"), case("t", "<failure/>"), case("t", "<error/>"))

    result = read(text).tests["tests/test_a.py::t"]

    assert (result.outcome, result.occurrences) == ("error", ("error", "failed", "passed"))


def test_a_failure_without_any_words_leaves_signatures_partial() -> None:
    found = read(suite(case("t", "<failure/>")))

    assert found.facets["signatures"] == PARTIAL
    assert found.facets["failing_ids"] == COMPLETE


def test_ids_split_by_guess_are_said_to_be() -> None:
    found = read(PYTEST, PathMap())

    assert any("by guess" in note for note in found.notes)


def test_a_file_attribute_places_a_test_without_a_list_of_files() -> None:
    text = suite('<testcase classname="a.b.test_c.d" name="t" file="a.b/test_c.py"/>')

    assert list(read(text, PathMap()).tests) == ["a.b/test_c.py::d::t"]


def test_names_may_hold_anything_xml_may_hold() -> None:
    name = "t[<&\"' ::error ../../etc \u202e]"
    text = f'<testsuite name="pytest"><testcase classname="tests.test_a" name={quoteattr(name)}/></testsuite>'

    assert list(read(text).tests) == [f"tests/test_a.py::{name}"]


@pytest.mark.parametrize("time", ["", "NaN", "inf", "-1", "1e400", "yes", "1,234.5"])
def test_odd_durations_never_stop_the_reading(time: str) -> None:
    found = read(
        f'<testsuite name="pytest"><testcase classname="tests.test_a" name="t" time="{time}"/></testsuite>'
    )

    assert found.fault == ""


def test_a_message_of_megabytes_is_read_and_cut_for_people() -> None:
    text = suite(case("t", f'<failure message="m">{"x" * 3_000_000}</failure>'))

    result = read(text).tests["tests/test_a.py::t"]

    assert result.outcome == "failed"
    assert len(result.message) <= 200
