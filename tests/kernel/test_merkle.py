"""The tree against Certificate Transparency's own vectors, the RFC's recursion, and pymerkle."""

from __future__ import annotations

import functools
import hashlib

import pymerkle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sterling.kernel import merkle
from sterling.kernel.merkle import ProofInvalid, ProofRange

# The reference inputs of Certificate Transparency's own tests, and what they give.
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSIONS = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCIES = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
MANY = 41


class Grown:
    """A tree kept as the store keeps it: full subtrees by level and position."""

    def __init__(self, inputs: list[bytes]) -> None:
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.leaves = [hashlib.sha256(b"\x00" + data).digest() for data in inputs]
        for index, leaf in enumerate(self.leaves):
            for level, position, node in merkle.grow(index, leaf, self.get):
                assert (level, position) not in self.nodes
                self.nodes[level, position] = node

    def get(self, level: int, position: int) -> bytes:
        return self.nodes[level, position]

    def root(self, size: int) -> bytes:
        return merkle.root(size, self.get)


@pytest.fixture(scope="module")
def tree() -> Grown:
    return Grown([b"entry %d" % index for index in range(MANY)])


@pytest.fixture(scope="module")
def oracle() -> pymerkle.InmemoryTree:
    made = pymerkle.InmemoryTree(algorithm="sha256")
    for index in range(MANY):
        made.append_entry(b"entry %d" % index)
    return made


def test_roots_are_the_published_ones() -> None:
    grown = Grown(INPUTS)

    assert [grown.root(size).hex() for size in range(9)] == ROOTS


@pytest.mark.parametrize(("place", "path"), sorted(INCLUSIONS.items()))
def test_inclusion_proofs_are_the_published_ones(place: tuple[int, int], path: list[str]) -> None:
    grown = Grown(INPUTS)

    proof = merkle.inclusion(*place, grown.get)

    assert [node.hex() for node in proof] == path
    merkle.verify_inclusion(*place, grown.leaves[place[0]], proof, bytes.fromhex(ROOTS[place[1]]))


@pytest.mark.parametrize(("sizes", "path"), sorted(CONSISTENCIES.items()))
def test_consistency_proofs_are_the_published_ones(sizes: tuple[int, int], path: list[str]) -> None:
    grown = Grown(INPUTS)

    proof = merkle.consistency(*sizes, grown.get)

    assert [node.hex() for node in proof] == path
    roots = [bytes.fromhex(ROOTS[size]) for size in sizes]
    merkle.verify_consistency(*sizes, roots[0], roots[1], proof)


def test_every_root_and_inclusion_proof_is_what_pymerkle_gives(
    tree: Grown, oracle: pymerkle.InmemoryTree
) -> None:
    for size in range(1, MANY + 1):
        assert tree.root(size) == oracle.get_root(size)
        for index in range(size):
            proof = merkle.inclusion(index, size, tree.get)
            theirs = oracle.prove_inclusion(index + 1, size)

            pymerkle.verify_inclusion(tree.leaves[index], tree.root(size), theirs)
            assert sorted([tree.leaves[index], *proof]) == sorted(theirs.path)
            merkle.verify_inclusion(index, size, tree.leaves[index], proof, tree.root(size))


def test_every_consistency_proof_is_what_the_rfcs_recursion_and_pymerkle_give(
    tree: Grown, oracle: pymerkle.InmemoryTree
) -> None:
    for new in range(1, MANY + 1):
        for old in range(1, new + 1):
            proof = merkle.consistency(old, new, tree.get)

            assert proof == by_recursion(old, tree.leaves[:new], whole=True)
            pymerkle.verify_consistency(tree.root(old), tree.root(new), oracle.prove_consistency(old, new))
            merkle.verify_consistency(old, new, tree.root(old), tree.root(new), proof)


def by_recursion(old: int, leaves: list[bytes], *, whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962, section 2.1.2, as it is printed there."""
    if old == len(leaves):
        return [] if whole else [root_by_recursion(leaves)]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if old <= split:
        return [*by_recursion(old, leaves[:split], whole=whole), root_by_recursion(leaves[split:])]
    return [*by_recursion(old - split, leaves[split:], whole=False), root_by_recursion(leaves[:split])]


def root_by_recursion(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    both = root_by_recursion(leaves[:split]) + root_by_recursion(leaves[split:])
    return hashlib.sha256(b"\x01" + both).digest()


def spoilt(proof: list[bytes]) -> list[list[bytes]]:
    """Every proof that is nearly this one: cut, extended, reordered, one bit off."""
    flipped = [[*proof[:i], flip(proof[i]), *proof[i + 1 :]] for i in range(len(proof))]
    cut = [proof[:-1], proof[1:]] if proof else []
    longer = [[*proof, bytes(32)], [bytes(32), *proof], [*proof, *proof[-1:]] if proof else [bytes(32)]]
    turned = [proof[::-1]] if len(set(proof)) > 1 else []
    return flipped + cut + longer + turned


def flip(node: bytes) -> bytes:
    return bytes([node[0] ^ 1]) + node[1:]


def test_no_inclusion_proof_but_the_right_one_is_accepted(tree: Grown) -> None:
    for size in (1, 2, 3, 7, 8, 13, 21):
        for index in range(size):
            leaf, root = tree.leaves[index], tree.root(size)
            proof = merkle.inclusion(index, size, tree.get)

            for wrong in spoilt(proof):
                with pytest.raises(ProofInvalid):
                    merkle.verify_inclusion(index, size, leaf, wrong, root)
            for other in set(range(size)) - {index}:
                with pytest.raises(ProofInvalid):
                    merkle.verify_inclusion(other, size, leaf, proof, root)
            with pytest.raises(ProofInvalid):
                merkle.verify_inclusion(index, size, flip(leaf), proof, root)
            with pytest.raises(ProofInvalid):
                merkle.verify_inclusion(index, size, leaf, proof, flip(root))


def test_no_consistency_proof_but_the_right_one_is_accepted(tree: Grown) -> None:
    for new in (1, 2, 3, 7, 8, 13, 21):
        for old in range(1, new + 1):
            roots = tree.root(old), tree.root(new)
            proof = merkle.consistency(old, new, tree.get)

            for wrong in spoilt(proof):
                with pytest.raises(ProofInvalid):
                    merkle.verify_consistency(old, new, *roots, wrong)
            with pytest.raises(ProofInvalid):
                merkle.verify_consistency(old, new, flip(roots[0]), roots[1], proof)
            with pytest.raises(ProofInvalid):
                merkle.verify_consistency(old, new, roots[0], flip(roots[1]), proof)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 3), (3, 3), (4, 3), (True, 3), (0, 2**63), (0, -1)])
def test_an_entry_outside_the_tree_has_no_proof(tree: Grown, index: int, size: int) -> None:
    with pytest.raises(ProofRange):
        merkle.inclusion(index, size, tree.get)
    with pytest.raises(ProofRange):
        merkle.verify_inclusion(index, size, bytes(32), [], bytes(32))


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 3), (4, 3), (-1, 3), (1, 2**63)])
def test_sizes_that_cannot_follow_each_other_have_no_proof(tree: Grown, old: int, new: int) -> None:
    with pytest.raises(ProofRange):
        merkle.consistency(old, new, tree.get)
    with pytest.raises(ProofRange):
        merkle.verify_consistency(old, new, bytes(32), bytes(32), [])


@pytest.mark.parametrize("odd", [b"", bytes(31), bytes(33), "a" * 32, None])
def test_a_hash_of_another_length_or_type_is_refused(odd: bytes) -> None:
    with pytest.raises(ProofInvalid):
        merkle.leaf_hash(odd)
    with pytest.raises(ProofInvalid):
        merkle.verify_inclusion(0, 2, bytes(32), [odd], bytes(32))
    with pytest.raises(ProofInvalid):
        merkle.verify_consistency(1, 2, bytes(32), odd, [bytes(32)])


def test_a_leaf_cannot_be_passed_off_as_an_inner_node(tree: Grown) -> None:
    left, right = tree.leaves[:2]
    forged = merkle.leaf_hash(hashlib.sha256(left + right).digest())

    assert forged != merkle.node_hash(left, right)
    with pytest.raises(ProofInvalid):
        merkle.verify_inclusion(0, 1, forged, [], tree.root(2))


def test_a_proof_reads_one_stored_subtree_a_level(tree: Grown) -> None:
    read: list[tuple[int, int]] = []

    def counting(level: int, position: int) -> bytes:
        read.append((level, position))
        return tree.get(level, position)

    merkle.inclusion(17, MANY, counting)
    merkle.consistency(17, MANY, counting)

    assert len(read) <= 4 * MANY.bit_length()


def test_a_proof_made_early_still_leads_to_the_early_root(tree: Grown) -> None:
    early = merkle.inclusion(3, 10, tree.get)
    later = merkle.consistency(10, MANY, tree.get)

    merkle.verify_inclusion(3, 10, tree.leaves[3], early, tree.root(10))
    merkle.verify_consistency(10, MANY, tree.root(10), tree.root(MANY), later)


# Trees of any size, and proofs that nobody made


class Sparse:
    """The nodes of a tree whose leaf i is the hash of i; made when they are asked for."""

    def get(self, level: int, position: int) -> bytes:
        if level == 0:
            return merkle.leaf_hash(hashlib.sha256(position.to_bytes(8, "big")).digest())
        left = self.get(level - 1, 2 * position)
        return merkle.node_hash(left, self.get(level - 1, 2 * position + 1))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_proofs_of_any_size_lead_to_the_root_and_bent_ones_nowhere(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 700))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    tree = Sparse()
    get = functools.lru_cache(None)(tree.get)
    root, leaf = merkle.root(size, get), get(0, index)
    path, grown = merkle.inclusion(index, size, get), merkle.consistency(old, size, get)
    merkle.verify_inclusion(index, size, leaf, path, root)
    merkle.verify_consistency(old, size, merkle.root(old, get), root, grown)

    def bent(proof: list[bytes]) -> list[bytes]:
        kind = data.draw(st.sampled_from(["flip", "drop", "repeat", "swap", "add"]))
        odd = list(proof)
        at = data.draw(st.integers(0, max(0, len(odd) - 1)))
        if kind == "add" or not odd:
            return [*odd, data.draw(st.binary(min_size=32, max_size=32))]
        if kind == "drop":
            del odd[at]
        elif kind == "repeat":
            odd.insert(at, odd[at])
        elif kind == "swap" and len(odd) > 1:
            odd[at], odd[at - 1] = odd[at - 1], odd[at]
        else:
            odd[at] = bytes([odd[at][0] ^ 1]) + odd[at][1:]
        return odd

    with pytest.raises(ProofInvalid):
        merkle.verify_inclusion(index, size, leaf, bent(path), root)
    with pytest.raises(ProofInvalid):
        merkle.verify_consistency(old, size, merkle.root(old, get), root, bent(grown))


@settings(max_examples=200, deadline=None)
@given(
    st.integers(-3, 2**64) | st.none() | st.booleans() | st.floats() | st.text(max_size=3),
    st.integers(-3, 2**64) | st.none() | st.booleans() | st.floats() | st.text(max_size=3),
    st.lists(st.binary(max_size=33), max_size=70),
    st.binary(max_size=33),
)
def test_no_input_whatever_is_accepted_or_ends_in_a_defect(
    first: object, second: object, proof: list[bytes], root: bytes
) -> None:
    for check in (
        lambda: merkle.verify_inclusion(first, second, root, proof, b"\x01" * 32),  # type: ignore[arg-type]
        lambda: merkle.verify_consistency(first, second, root, b"\x01" * 32, proof),  # type: ignore[arg-type]
    ):
        with pytest.raises((ProofInvalid, ProofRange)):
            check()
