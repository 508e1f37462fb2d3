"""Profiles: what is read, and every mistake named by its key."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sterling.packs.autopilot.errors import NoProfile, ProfileInvalid
from sterling.packs.autopilot.profile import parse_profile

SAMPLE = Path(__file__).resolve().parents[3] / "samples" / "autopilot" / "profile.toml"
COMMANDS = '[autopilot.commands]\nbuild = ["b"]\ntests = ["t"]\nsmoke = ["s"]\n'


def test_the_sample_is_read_and_python_is_filled_in() -> None:
    profile = parse_profile(SAMPLE.read_bytes(), source="sample")

    assert profile.argv("tests") == (sys.executable, "-m", "pytest", "-q")
    assert profile.argv("wish") is None
    assert profile.scope == ("shelf/**", "tests/**") and profile.limits.check_s == 120


def test_a_file_of_its_own_needs_no_table_around_it() -> None:
    assert parse_profile(COMMANDS.replace("autopilot.", "").encode(), source="x").argv("build") == ("b",)


@pytest.mark.parametrize("text", ["", "[ci]\nreruns = 1\n", "[autopilot]\nscope = []\n"])
def test_no_commands_is_no_profile(text: str) -> None:
    with pytest.raises(NoProfile) as caught:
        parse_profile(text.encode(), source="x")

    assert caught.value.exit == 4


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (COMMANDS + "[autopilot.limits]\nchek_s = 5\n", "chek_s"),
        (COMMANDS + "[autopilot.limits]\ncheck_s = 0\n", "check_s"),
        (COMMANDS + "[autopilot.limits]\ncheck_s = true\n", "check_s"),
        (COMMANDS + '[autopilot.limits]\ncheck_s = "5"\n', "check_s"),
        (COMMANDS + "limits = 5\n", "limits"),
        (COMMANDS + "[autopilot.walls]\nx = 1\n", "walls"),
        (COMMANDS.replace('["t"]', '"pytest -q"'), "tests"),
        (COMMANDS.replace('["t"]', "[]"), "tests"),
        (COMMANDS.replace('["t"]', '["t", 5]'), "tests"),
        (COMMANDS.replace('smoke = ["s"]\n', ""), "smoke"),
        (COMMANDS + '"../x" = ["y"]\n', "../x"),
        ('[autopilot]\nscope = "src"\n' + COMMANDS, "scope"),
        ("[autopilot\n", "TOML"),
        ("\x00", "TOML"),
        (COMMANDS + "#" * 300_000, "bytes"),
    ],
)
def test_each_mistake_is_named(text: str, named: str) -> None:
    with pytest.raises(ProfileInvalid) as caught:
        parse_profile(text.encode(), source="x")

    assert named in caught.value.message and caught.value.exit == 2


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(ProfileInvalid):
        parse_profile(b"\xff\xfe\x00", source="x")
