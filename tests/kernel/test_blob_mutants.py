"""Guards of blobs, sealing and archives, broken on purpose: each is noticed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tests.kernel.mutants import run_mutants

from sterling.kernel import archive, blobs, crypt
from sterling.kernel.blob_codec import PIECE_BYTES, FormBroken
from sterling.kernel.crypt import Crypt
from sterling.kernel.hashing import address_of

DATA = b"truth" * 1000


def _store(module: ModuleType, crypt_of: Crypt | None = None) -> Any:
    return module.Blobs(Path(tempfile.mkdtemp()) / "blobs", crypt_of)


def _spoiled(store: Any) -> str:
    address: str = store.put(DATA)
    file = store.forms(address)[0].path
    file.chmod(0o600)
    file.write_bytes(b"trust" * 1000)
    return address


def altered_bytes_are_not_given(module: ModuleType) -> None:
    store = _store(module)
    address = _spoiled(store)

    with pytest.raises(module.BlobAltered):
        store.get(address)


def an_altered_file_is_said_to_be_so(module: ModuleType) -> None:
    store = _store(module)
    _spoiled(store)

    assert store.check(next(store.stored())) == "altered"


def wrong_bytes_are_replaced_and_kept(module: ModuleType) -> None:
    store = _store(module)
    address = _spoiled(store)
    store.put(DATA)

    assert store.get(address) == DATA
    assert len(list((store.root / ".quarantine").iterdir())) == len(store.take_quarantined()) == 1


def a_reader_settles(module: ModuleType) -> None:
    store = _store(module)
    address = _spoiled(store)
    reader = store.open_range(address)

    with pytest.raises(module.BlobAltered):
        reader.close()


def bytes_are_synced_before_they_get_a_name(module: ModuleType) -> None:
    calls = []
    sync, link = os.fsync, os.link
    os.fsync, os.link = lambda each: calls.append("sync") or sync(each), lambda *a: calls.append("link") or link(*a)  # type: ignore[assignment,func-returns-value]  # fmt: skip # noqa: E501
    try:
        _store(module).put(DATA)
    finally:
        os.fsync, os.link = sync, link

    assert calls == ["sync", "link", "sync", "sync"]


def a_copy_is_read_back(module: ModuleType) -> None:
    store = _store(module)
    address = _spoiled(store)
    target = _store(module)

    with pytest.raises(module.BlobAltered):
        target.adopt(store.forms(address)[0], address)

    assert list(target.stored()) == []


def a_full_disk_is_named(module: ModuleType) -> None:
    write = os.write

    def full(*_: object) -> int:
        raise OSError(122, "quota")

    os.write = full  # type: ignore[assignment]
    try:
        with pytest.raises(module.BlobNoSpace):
            _store(module).put(DATA)
    finally:
        os.write = write


def sealed_names_are_checked(module: ModuleType) -> None:
    store = _store(module, Crypt(bytes(32)))
    stored = store.forms(store.put(DATA))[0]
    stored.path.rename(stored.path.with_name("f" * 62 + ".sealed"))

    assert store.check(next(store.stored())) == "altered"


def test_each_guard_of_blobs_is_needed() -> None:
    mutants = [
        ("get does not hash", "        if found != address:\n", "        if not found:\n"),
        (
            "check believes the name",
            'return "ok" if digest.hexdigest() == expected else',
            'return "ok" if expected else',
        ),
        (
            "no look at what is there",
            '            if self.check(target, address) != "ok":\n',
            "            if False:\n",
        ),
        ("nothing is noted", "        self._quarantined.append(", "        [].append("),
        (
            "close does not read on",
            "            for _ in self._pieces:\n                pass\n",
            "            pass\n",
        ),
        ("no sync", "        os.fsync(file.fileno())\n", "        pass\n"),
        (
            "no reading back",
            '                    if self.check(replace(target, path=incoming), address()) != "ok":\n',
            "                    if False:\n",
        ),
        ("quota is no full disk", "(errno.ENOSPC, errno.EDQUOT)", "(errno.ENOSPC,)"),
        (
            "a sealed name is believed",
            'return address if self.crypt.name_of(address) == stored.name else ""',
            "return address",
        ),
    ]

    run_mutants(
        Path(blobs.__file__),
        mutants,
        [
            altered_bytes_are_not_given,
            an_altered_file_is_said_to_be_so,
            wrong_bytes_are_replaced_and_kept,
            a_reader_settles,
            bytes_are_synced_before_they_get_a_name,
            a_copy_is_read_back,
            a_full_disk_is_named,
            sealed_names_are_checked,
        ],
    )


# Sealing


def _pieces(sealed: bytes) -> tuple[bytes, list[bytes], bytes]:
    body, size = sealed[34:-48], PIECE_BYTES + 16
    return sealed[:34], [body[at : at + size] for at in range(0, len(body), size)], sealed[-48:]


def _refused(module: ModuleType, forge: Callable[[bytes], bytes]) -> None:
    sealer = module.Crypt(bytes(32))
    sealed = forge(sealer.seal_bytes(bytes(PIECE_BYTES) + b"x" * PIECE_BYTES))

    with pytest.raises(FormBroken):
        sealer.unseal_bytes(sealed)


def swapped_pieces_do_not_open(module: ModuleType) -> None:
    def swap(sealed: bytes) -> bytes:
        head, pieces, end = _pieces(sealed)
        return head + pieces[1] + pieces[0] + end

    _refused(module, swap)


def a_cut_file_does_not_open(module: ModuleType) -> None:
    def cut(sealed: bytes) -> bytes:
        head, pieces, end = _pieces(sealed)
        return head + pieces[0] + end

    _refused(module, cut)
    _refused(module, lambda sealed: b"".join([sealed[:34], _pieces(sealed)[1][0]]))


def a_piece_is_no_end(module: ModuleType) -> None:
    """A piece of 32 bytes and the end differ in nothing but their flag."""
    sealer = module.Crypt(bytes(32))
    sealed = sealer.seal_bytes(bytes(32))

    with pytest.raises(FormBroken):
        sealer.unseal_bytes(sealed[:-48])


def pieces_of_two_files_do_not_mix(module: ModuleType) -> None:
    sealer = module.Crypt(bytes(32))
    one, two = (_pieces(sealer.seal_bytes(bytes([each]) * 2 * PIECE_BYTES)) for each in (1, 2))

    with pytest.raises(FormBroken):
        sealer.unseal_bytes(one[0] + one[1][0] + two[1][1] + one[2])


def names_do_not_reveal(module: ModuleType) -> None:
    address = address_of(DATA)

    assert module.Crypt(bytes(32)).name_of(address) not in (address, module.Crypt(b"k" * 32).name_of(address))


def plain_keyrings_are_refused(module: ModuleType) -> None:
    plain = type("PlaintextKeyring", (), {"priority": 9})()
    weak = type("Vault", (), {"priority": 0})()
    chain = type("Chain", (), {"priority": 9, "backends": [plain]})()

    assert not module._is_safe(plain) and not module._is_safe(weak) and not module._is_safe(chain)
    assert module._is_safe(type("Vault", (), {"priority": 9})())


def test_each_guard_of_sealing_is_needed() -> None:
    mutants = [
        ("nonces do not count", 'number.to_bytes(11, "big")', 'bytes(11)'),
        ("the end has no flag", '(b"\\x01" if last else b"\\x00")', 'b"\\x00"'),
        ("the end is not read", "        _opened(cipher, count, file.read(), last=True)\n", "        pass\n"),
        ("one key for all files", 'hmac.digest(self._file_key, salt, "sha256")', "self._file_key"),
        ("names are addresses", 'return hmac.digest(self._name', "return address or hmac.digest(self._name"),
        ("any keyring will do", "not refused and backend.priority >= 1 and", "not refused and"),
        ("plain ones too", "return not refused and", "return"),
        ("a chain is believed", "all(_is_safe(each) for each in chained)", "True"),
    ]  # fmt: skip

    run_mutants(
        Path(crypt.__file__),
        mutants,
        [
            swapped_pieces_do_not_open,
            a_cut_file_does_not_open,
            a_piece_is_no_end,
            pieces_of_two_files_do_not_mix,
            names_do_not_reveal,
            plain_keyrings_are_refused,
        ],
    )


# Archives


def _home(folder: Path) -> Any:
    """As much of a home as a move touches; its ledger looks, at each commit, whether two copies are there."""
    store = blobs.Blobs(folder / "home" / "blobs")
    entries: list[Any] = []
    address = store.put(DATA)

    def commit(batch: Any) -> None:
        assert store.forms(address) and blobs.Blobs(folder / "disk").forms(address)
        entries.extend(batch.drafts)

    def whereabouts(asked: str) -> blobs.Archived | None:
        named = [each.payload for each in entries if each.subject == asked]
        return blobs.Archived(named[-1]["store"], named[-1]["place"]) if named else None

    store.whereabouts = whereabouts
    ledger = SimpleNamespace(commit=commit, read=lambda **_: list(entries))
    (folder / "disk").mkdir()
    return SimpleNamespace(path=folder / "home", blobs=store, ledger=ledger, address=address, entries=entries)


def two_copies_before_the_entry_and_one_after(module: ModuleType) -> None:
    folder = Path(tempfile.mkdtemp())
    home = _home(folder)

    module.archive_blobs(home, [home.address], folder / "disk", "space")

    assert home.blobs.forms(home.address) == [] and home.blobs.get(home.address) == DATA


def an_entry_that_is_not_in_the_log_releases_nothing(module: ModuleType) -> None:
    folder = Path(tempfile.mkdtemp())
    home = _home(folder)
    home.ledger.commit = lambda _: None  # Accepted elsewhere, such as by the spool.

    module.archive_blobs(home, [home.address], folder / "disk", "space")

    assert home.blobs.forms(home.address)


def another_disk_is_refused(module: ModuleType) -> None:
    folder = Path(tempfile.mkdtemp())
    home = _home(folder)
    module.archive_blobs(home, [home.address], folder / "disk", "space")
    (folder / "disk").rename(folder / "drawer")
    (folder / "disk").mkdir()

    with pytest.raises(module.ArchiveUnusable):
        module.archive_blobs(home, [home.blobs.put(b"x")], folder / "disk", "space")


def the_home_is_no_archive(module: ModuleType) -> None:
    home = _home(Path(tempfile.mkdtemp()))
    (home.path / "evidence").mkdir()

    with pytest.raises(module.ArchiveUnusable):
        module.archive_blobs(home, [home.address], home.path / "evidence", "space")


def test_each_guard_of_archives_is_needed() -> None:
    mutants = [
        (
            "released before the entry",
            "        if batch.drafts:\n",
            "        _release(home.blobs.forms(some[0]))\n        if batch.drafts:\n",
        ),
        ("no copy", "                store.adopt(local[0], address)\n", "                pass\n"),
        (
            "released without an entry",
            "store == identity:  # In the log, not on its way.",
            "store == identity or True:",
        ),
        ("any disk will do", "    if was and found not in was:\n", "    if False:\n"),
        (
            "in the home too",
            "    if place.is_relative_to(os.path.realpath(home.path)):\n",
            "    if False:\n",
        ),
    ]

    run_mutants(
        Path(archive.__file__),
        mutants,
        [
            two_copies_before_the_entry_and_one_after,
            an_entry_that_is_not_in_the_log_releases_nothing,
            another_disk_is_refused,
            the_home_is_no_archive,
        ],
    )
