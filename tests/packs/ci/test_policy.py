"""The policy: it can raise, never lower, and what it does not know it refuses."""

from __future__ import annotations

import pytest

from sterling.packs.ci.delta import BLOCKS
from sterling.packs.ci.policy import Policy, PolicyInvalid, parse_policy


def test_no_file_is_the_default_policy() -> None:
    assert parse_policy(None) == Policy(frozenset(), 1, "")


def test_a_warning_can_be_raised_and_re_runs_chosen() -> None:
    policy = parse_policy(b'[ci]\nblock = ["hidden"]\nreruns = 3\n[other]\nx = 1\n')

    assert (policy.block, policy.reruns) == (frozenset({"hidden"}), 3)
    assert len(policy.text_sha256) == 64
    assert "hidden" in policy.rule


@pytest.mark.parametrize(
    "text",
    [
        b"[ci]\nallow = true",
        b'[ci]\nignore = ["new_fail"]',
        b'[ci]\nblock = ["new_fail"]',
        b'[ci]\nblock = ["nonsense"]',
        b'[ci]\nblock = "hidden"',
        b"[ci]\nblock = [1]",
        b"[ci]\nreruns = 6",
        b"[ci]\nreruns = -1",
        b"[ci]\nreruns = true",
        b'[ci]\nreruns = "1"',
        b"ci = 3",
        b"[safety]\nshared_home = true",
        b"[ci",
        b"\xff\xfe",
        b"x" * 300_000,
    ],
)
def test_what_is_not_known_is_refused_as_wrong_usage(text: bytes) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        parse_policy(text)

    assert caught.value.exit == 2
    assert caught.value.code == "ci.policy-invalid"


def test_no_policy_can_name_a_state_that_blocks_already() -> None:
    for state in BLOCKS:
        with pytest.raises(PolicyInvalid):
            parse_policy(f'[ci]\nblock = ["{state}"]'.encode())
