"""Addresses agree with the rest of the world; no two kinds of thing can share a hash."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from sterling.kernel.chain import GENESIS, seal
from sterling.kernel.hashing import (
    CONFIG_TAG,
    EFFECT_TAG,
    ENTRY_TAG,
    RECORD_TAG,
    address_of,
    hash_file,
    is_address,
    tagged_hash,
    u64,
)

TAGS = [ENTRY_TAG, RECORD_TAG, EFFECT_TAG, CONFIG_TAG]


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024 - 1, 1024 * 1024, 1024 * 1024 + 1])
def test_a_files_address_is_what_sha256sum_prints(tmp_path: Path, size: int) -> None:
    file = tmp_path / "bytes"
    file.write_bytes(bytes(index % 251 for index in range(size)))

    printed = subprocess.run(["sha256sum", str(file)], capture_output=True, text=True, check=True).stdout

    assert hash_file(file) == address_of(file.read_bytes()) == printed.split()[0]


def test_a_tagged_hash_is_the_tag_a_zero_byte_and_the_fields() -> None:
    expected = hashlib.sha256(b"sterling/entry/1\x00onetwo").digest()

    assert tagged_hash(ENTRY_TAG, b"one", b"two") == expected


def test_no_tag_is_the_beginning_of_another() -> None:
    framed = [tag + b"\x00" for tag in TAGS]

    assert not [(a, b) for a in framed for b in framed if a != b and a.startswith(b)]
    assert all(b"\x00" not in tag for tag in TAGS)


def test_an_entry_cannot_be_passed_off_as_a_record_or_a_blob() -> None:
    body = b'{"v":1}'
    entry = seal(0, GENESIS, body)
    fields = u64(0) + GENESIS + body

    assert entry.hash not in [tagged_hash(tag, fields) for tag in TAGS if tag != ENTRY_TAG]
    assert entry.hash.hex() != address_of(body) and entry.hash.hex() != address_of(fields)


@pytest.mark.parametrize("number", [-1, 2**64])
def test_a_number_that_does_not_fit_is_refused(number: int) -> None:
    with pytest.raises(OverflowError):
        u64(number)


def test_numbers_enter_big_endian() -> None:
    assert u64(258) == bytes([0, 0, 0, 0, 0, 0, 1, 2])


@pytest.mark.parametrize(
    "text", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 63 + "\n", None, 5, b"a" * 64]
)
def test_only_64_lower_case_hex_digits_are_an_address(text: object) -> None:
    assert not is_address(text)
    assert is_address("0123456789abcdef" * 4)
