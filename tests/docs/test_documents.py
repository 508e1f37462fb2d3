"""Documents are tested: every console block runs, every table equals code, every link resolves."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sterling.packs.ci import door as ci
from sterling.testing.console import Example, compare, examples, mask, run

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_BLOCKS = [page for page in PAGES if any(examples(page.read_text(encoding="utf-8")))]
# Their commands set up a machine; the build runs them, not a test inside it.
SET_UP = re.compile(r"^(make|git clone|source)\b")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name)
def test_every_command_of_a_page_prints_what_the_page_says(page: Path, tmp_path: Path) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    ci.make_sample(tmp_path / "repository")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "STERLING_HOME": str(tmp_path / "home"),
        "HOME": str(tmp_path),
    }
    problems = []
    for example in examples(page.read_text(encoding="utf-8")):
        if SET_UP.match(example.command):
            continue
        printed = run(example, folder=tmp_path, environment=environment)
        difference = compare(example.expected, printed)
        if difference:
            problems.append(
                f"line {example.line}: {example.command}\n{difference}\nprinted:\n{mask(printed)}"
            )

    assert problems == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_between_pages_resolves(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)

    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_generated_pages_are_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == "" and done.returncode == 0


def test_the_readme_is_one_screen() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 60


def test_a_changed_line_is_found_and_a_changed_id_is_not() -> None:
    expected = ("ok 12 entries, head 0123456789abcdef", "...", "done in 3 s")

    assert compare(expected, "ok 99 entries, head fedcba9876543210\nx\ny\ndone in 14 s") == ""
    assert "found 'failed" in compare(expected, "failed 12 entries\ndone in 3 s")
    assert "no more" in compare(expected, "ok 12 entries, head 0123456789abcdef\ndone in 3 s\nextra")


def test_examples_are_found_with_their_output() -> None:
    text = "x\n```console\n$ one\nout\n$ two\n```\n```\n$ not\n```\n"

    assert list(examples(text)) == [Example(3, "one", ("out",)), Example(5, "two", ())]


@pytest.mark.slow
def test_the_picture_in_the_readme_is_what_the_command_writes(tmp_path: Path) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "STERLING_HOME": str(tmp_path / "home"),
    }
    commands = (
        "sterling ingest samples/recall",
        "sterling drain --force --set governor.cpu_limit_bp=0 --set governor.ram_limit_bp=0",
        'sterling ask "How many tests passed in build 4817?" --crop answer.png',
    )
    for command in commands:
        run(Example(0, command, ()), folder=tmp_path, environment=environment)

    with (
        Image.open(tmp_path / "answer.png") as made,
        Image.open(ROOT / "docs" / "tour" / "answer.png") as shown,
    ):
        assert made.size == shown.size and made.tobytes() == shown.tobytes()
