"""Test ids: one test has one spelling."""

from __future__ import annotations

import unicodedata

import pytest

from sterling.packs.ci.identity import PathMap, file_of, id_of_test, is_under, normal_path


def test_a_dotted_name_is_split_at_the_file_that_exists() -> None:
    paths = PathMap(["tests/sub.dir/test_q.py", "tests/test_a.py"])

    assert paths.place("tests.sub.dir.test_q").path == "tests/sub.dir/test_q.py"
    placed = paths.place("tests.test_a.TestK.TestInner")
    assert (placed.path, placed.inside, placed.sure) == ("tests/test_a.py", ("TestK", "TestInner"), True)


def test_a_lower_case_class_is_no_problem_when_the_files_are_known() -> None:
    placed = PathMap(["tests/test_a.py"]).place("tests.test_a.describe_it")

    assert (placed.path, placed.inside) == ("tests/test_a.py", ("describe_it",))


def test_two_files_with_one_dotted_name_leave_it_unsure() -> None:
    placed = PathMap(["a/b/test_c.py", "a.b/test_c.py"]).place("a.b.test_c")

    assert not placed.sure


def test_without_a_list_of_files_capitals_decide_and_the_answer_says_it_is_a_guess() -> None:
    placed = PathMap().place("tests.test_a.TestK")

    assert (placed.path, placed.inside, placed.sure) == ("tests/test_a.py", ("TestK",), False)


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [("./tests/t.py", "tests/t.py"), ("tests\\t.py", "tests/t.py"), (".\\tests\\t.py", "tests/t.py")],
)
def test_paths_have_one_spelling(spelling: str, expected: str) -> None:
    assert normal_path(spelling) == expected


def test_ids_are_composed_unicode_and_keep_their_case() -> None:
    name = id_of_test("t.py", ("K",), unicodedata.normalize("NFD", "é[Ä]"))

    assert name == unicodedata.normalize("NFC", "t.py::K::é[Ä]")


def test_a_lone_surrogate_becomes_something_that_can_be_written() -> None:
    id_of_test("t.py", (), "a\ud800").encode("utf-8")


def test_parameters_may_hold_separators() -> None:
    assert file_of("t.py::test[a::b/c]") == "t.py"


@pytest.mark.parametrize(
    ("name", "collector", "expected"),
    [
        ("a/b/t.py::x", "a/b/t.py", True),
        ("a/b/t.py::K::x", "a/b/t.py::K", True),
        ("a/b/t.py::x", "a/b", True),
        ("a/b/t.py::x", "a", True),
        ("a/b/t.py::x", ".", True),
        ("a/b/t.py::x", "a/b/t", False),
        ("a/bc/t.py::x", "a/b", False),
        ("a/b/t.py::Kind::x", "a/b/t.py::K", False),
    ],
)
def test_a_test_is_under_its_file_its_class_and_its_folders(
    name: str, collector: str, expected: bool
) -> None:
    assert is_under(name, {collector}) is expected
