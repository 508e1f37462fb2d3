"""The chain alone: what it sees, by index, and what it cannot see."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sterling.kernel.chain import GENESIS, ChainBroken, Entry, EntryAltered, seal, verify


def chain(*bodies: bytes) -> list[Entry]:
    entries: list[Entry] = []
    head = GENESIS
    for index, body in enumerate(bodies):
        entries.append(seal(index, head, body))
        head = entries[-1].hash
    return entries


def test_an_untouched_chain_gives_its_head() -> None:
    entries = chain(b"a", b"b", b"c")

    assert verify(entries) == entries[-1].hash


def test_an_empty_chain_has_the_genesis_head() -> None:
    assert verify([]) == GENESIS


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_an_edited_body_is_named_by_index(bad: int) -> None:
    entries = chain(b"a", b"b", b"c")
    entries[bad] = replace(entries[bad], body=b"forged")

    with pytest.raises(EntryAltered) as caught:
        verify(entries)

    assert caught.value.index == bad and caught.value.exit == 3


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_an_edited_hash_is_named_by_index(bad: int) -> None:
    entries = chain(b"a", b"b", b"c")
    entries[bad] = replace(entries[bad], hash=bytes(32))

    with pytest.raises(EntryAltered) as caught:
        verify(entries)

    assert caught.value.index == bad


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_an_edited_previous_is_named_by_index(bad: int) -> None:
    entries = chain(b"a", b"b", b"c")
    entries[bad] = replace(entries[bad], previous=b"\x01" * 32)

    with pytest.raises(ChainBroken) as caught:
        verify(entries)

    assert caught.value.index == bad


@pytest.mark.parametrize(
    ("order", "bad"),
    [((1, 2), 0), ((0, 2), 1), ((0, 0, 1, 2), 1), ((0, 2, 1), 1), ((2, 1, 0), 0), ((0, 1, 1, 2), 2)],
)
def test_deleted_repeated_and_reordered_entries_are_named_by_index(order: tuple[int, ...], bad: int) -> None:
    entries = chain(b"a", b"b", b"c")

    with pytest.raises(ChainBroken) as caught:
        verify([entries[index] for index in order])

    assert caught.value.index == bad


def test_a_renumbered_deletion_is_still_found() -> None:
    entries = chain(b"a", b"b", b"c")

    with pytest.raises(ChainBroken):
        verify([entries[0], replace(entries[2], index=1)])


def test_a_spliced_tail_of_another_chain_is_found() -> None:
    ours, other = chain(b"a", b"b", b"c"), chain(b"x", b"b", b"c")

    with pytest.raises(ChainBroken) as caught:
        verify([ours[0], *other[1:]])

    assert caught.value.index == 1


def test_a_missing_tail_is_not_seen_by_the_chain_alone() -> None:
    entries = chain(b"a", b"b", b"c")

    assert verify(entries[:2]) == entries[1].hash != entries[2].hash


def test_a_chain_is_checked_from_the_middle_with_the_hash_before_it() -> None:
    entries = chain(b"a", b"b", b"c")

    assert verify(entries[1:], first=1, previous=entries[0].hash) == entries[2].hash
    with pytest.raises(ChainBroken):
        verify(entries[1:], first=1, previous=GENESIS)


def test_index_and_previous_are_part_of_the_hash() -> None:
    sealed = seal(3, GENESIS, b"body")

    assert len({sealed.hash, seal(4, GENESIS, b"body").hash, seal(3, b"\x01" * 32, b"body").hash}) == 3
