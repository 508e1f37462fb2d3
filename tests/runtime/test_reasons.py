"""Every reason code exists once, says what it means, and names a command that exists."""

from __future__ import annotations

import re

import pytest

from sterling.cli.table import COMMANDS
from sterling.runtime.reasons import REASONS, Reason, hint_of, sentence_of

# The codes of the runtime chapter, section 8, for the parts that exist in this build.
CHAPTER = """
mode. fullscreen cpu-pressure ram-pressure power-low query-intent user-active on-battery idle-window
 active-allowed idle-threshold attended
signal. missing stale unreadable file-unreadable no-fullscreen-source gpu-missing
budget. exhausted reserved jobs-exhausted concurrency grant-used too-small-now never-fits
memory. tokens
gpu. slot
switch. off unreadable
job. backoff overdue no-progress
governor. force-stopped
conductor. already-up tick-failed safe-mode lost-lease
run. abandoned interrupted unsettled
step. raised hung empty-ok invalid-result upstream-failed upstream-na
worker. died protocol
limit. memory cpu wall processes output files
sandbox. unavailable
need. library-missing model-missing contract-missing gpu-missing
plugin. not-listed altered manifest-invalid lane-missing lane-role-conflict downstream-missing id-duplicate
 path-escape permission-widened contract-unknown api-range library-undeclared conflict untrusted-network
 undeclared-import
plan. cycle unknown-need cross-lane
cache. first-time code manifest settings input upstream seed policy library model contract tampered
 failed-before key-error bypass
engine. lost lock-differs
scan. found expired unmatched
gate. gating-regressed nothing-derived service-missing no-baseline
"""


def _chapter() -> set[str]:
    codes: set[str] = set()
    area = ""
    for word in CHAPTER.split():
        if word.endswith("."):
            area = word
        else:
            codes.add(area + word)
    return codes


def test_the_enum_holds_exactly_the_codes_of_the_chapter() -> None:
    assert {str(reason) for reason in Reason} == _chapter()


def test_every_reason_has_a_meaning_and_no_meaning_is_left_over() -> None:
    assert set(REASONS) == set(Reason)


@pytest.mark.parametrize("reason", list(Reason))
def test_a_reason_has_one_plain_sentence_and_a_hint_whose_command_exists(reason: Reason) -> None:
    sentence, hint = sentence_of(reason), hint_of(reason)

    assert re.fullmatch(r"[A-Z].{10,110}\.", sentence)
    named = re.findall(r"`sterling ([a-z]+)", hint)
    assert named and set(named) <= {row.name for row in COMMANDS}


def test_a_member_is_named_like_its_code() -> None:
    for reason in Reason:
        assert reason.name == str(reason).upper().replace(".", "_").replace("-", "_")
