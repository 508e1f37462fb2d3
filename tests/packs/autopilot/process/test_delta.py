"""When two patches or two plans are the same, and when they are not."""

from __future__ import annotations

import copy
import subprocess
from pathlib import Path

import pytest

from sterling.packs.autopilot.process.delta import added_lines, patch_identity, plan_identity

HEAD = b"diff --git a/x.py b/x.py\nindex 111..222 100644\n--- a/x.py\n+++ b/x.py\n"
OTHER = b"diff --git a/y.py b/y.py\nindex 333..444 100644\n--- a/y.py\n+++ b/y.py\n@@ -1 +1 @@\n-a\n+b\n"
FIRST = b"@@ -1,3 +1,3 @@ def f\n context\n-old\n+new\n more\n"
SECOND = b"@@ -10,2 +10,3 @@ def g\n context\n+added\n+\n more\n"


def test_reordered_hunks_and_files_are_the_same_patch() -> None:
    assert patch_identity(HEAD + FIRST + SECOND + OTHER) == patch_identity(OTHER + HEAD + SECOND + FIRST)


def test_shifted_lines_and_other_context_are_the_same_patch() -> None:
    shifted = FIRST.replace(b"@@ -1,3 +1,3 @@ def f", b"@@ -41,3 +47,3 @@ def h").replace(
        b" context", b" else"
    )

    assert patch_identity(HEAD + FIRST) == patch_identity(HEAD + shifted)


def test_blank_lines_do_not_make_another_patch() -> None:
    with_blank = FIRST.replace(b"@@ -1,3 +1,3 @@", b"@@ -1,3 +1,4 @@").replace(b"+new\n", b"+new\n+   \n")

    assert patch_identity(HEAD + FIRST) == patch_identity(HEAD + with_blank)


@pytest.mark.parametrize(
    ("was", "becomes"), [(b"+new", b"+neu"), (b"-old", b"-odd"), (b"x.py", b"z.py"), (b"+new", b"+new ;")]
)
def test_one_changed_token_is_another_patch(was: bytes, becomes: bytes) -> None:
    patch = HEAD + FIRST

    assert patch_identity(patch) != patch_identity(patch.replace(was, becomes))


def test_a_removed_line_that_looks_like_a_header_stays_inside_its_hunk() -> None:
    tricky = HEAD + b"@@ -1,2 +1,1 @@\n--- a/secret\n-diff --git a/q b/q\n+kept\n"
    plain = HEAD + b"@@ -1,2 +1,1 @@\n-diff --git a/q b/q\n+kept\n"

    assert patch_identity(tricky) != patch_identity(plain)


def test_a_change_of_mode_alone_counts() -> None:
    mode = b"diff --git a/x.py b/x.py\nold mode 100644\nnew mode 100755\n"

    assert patch_identity(mode) != patch_identity(b"")


def test_added_lines_are_numbered_as_git_numbers_them(tmp_path: Path) -> None:
    before, after = tmp_path / "before.txt", tmp_path / "after.txt"
    before.write_text("".join(f"{n}\n" for n in range(1, 31)))
    changed = [f"{n}\n" for n in range(1, 31)]
    changed[4], changed[20:22] = "five\n", []
    changed.insert(10, "++ b/looks like a header\n")
    after.write_text("".join(changed))
    words = ["git", "diff", "--no-index", "--no-color", "--dst-prefix=b/", str(before), str(after)]
    diff = subprocess.run(words, capture_output=True, check=False).stdout

    found = added_lines(diff)

    assert list(found.values()) == [frozenset({5, 11})]


PLAN = {
    "steps": [
        {"id": "s1", "text": "Bound the  fine below", "minutes": 5, "needs": [], "covers": ["c1"]},
        {"id": "s2", "text": "Run the tests again", "minutes": 1, "needs": ["s1"], "covers": ["c2"]},
    ]
}
FILES = {"files": [{"path": "a.py", "state": "exists", "why": "here"}]}


def test_ids_spacing_and_order_do_not_make_another_plan() -> None:
    other = copy.deepcopy(PLAN)
    other["steps"].reverse()
    other["steps"][1] |= {"id": "first", "text": "bound the fine BELOW", "minutes": 9}

    assert plan_identity(PLAN, FILES) == plan_identity(other, FILES)


def test_another_step_or_file_makes_another_plan() -> None:
    step, files = copy.deepcopy(PLAN), copy.deepcopy(FILES)
    step["steps"][0]["text"] = "Bound the fine above"
    files["files"][0]["path"] = "b.py"

    assert len({plan_identity(PLAN, FILES), plan_identity(step, FILES), plan_identity(PLAN, files)}) == 3
