"""A home: one directory that holds a ledger, its blobs, keys and settings.

`init_home` makes it whole or leaves nothing. `open_home` checks, in order: it
exists, its disk is this machine's, nobody else can read it, its version is known, its settings are valid.
The checks of a ledger's tail happen with the first write.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType

import platformdirs

from sterling.kernel.anchors import Anchors
from sterling.kernel.append import Appender, Prepared, Receipt
from sterling.kernel.ballast import Ballast
from sterling.kernel.batch import Batch, ConfigIs, ContractsAre, Draft
from sterling.kernel.blobs import BlobNoSpace, open_blobs
from sterling.kernel.canonical import canonical_bytes
from sterling.kernel.checkpoint import origin_of
from sterling.kernel.clock import Clock, SystemClock
from sterling.kernel.config import Config, load_config, write_defaults
from sterling.kernel.contract_lock_file import lock_sha256
from sterling.kernel.contracts import Contracts, load_contracts
from sterling.kernel.crypt import is_encrypted, make_crypt
from sterling.kernel.errors import EXIT_BROKEN, EXIT_USAGE, SterlingError
from sterling.kernel.filesystem import require_local
from sterling.kernel.hashing import address_of
from sterling.kernel.ids import random_id
from sterling.kernel.keys import KeyUnusable, load_key, make_key
from sterling.kernel.leases import Leases
from sterling.kernel.ledger import Ledger
from sterling.kernel.outbox import Outbox
from sterling.kernel.pressure import Pressure, RoomLimits, pressure
from sterling.kernel.records import Records
from sterling.kernel.signing_keys import key_in_force, put_entered_keys_in_place
from sterling.kernel.spool import Drained, Spool
from sterling.kernel.store_sqlite import (
    HOME_VERSION,
    connect_reader,
    connect_writer,
    create_store,
    read_meta,
    read_rows,
    require_tables,
)
from sterling.kernel.writer import StorePressure

__all__ = [
    "Home",
    "HomeMissing",
    "HomeNotMade",
    "HomePermissions",
    "HomeTaken",
    "HomeTooNew",
    "HomeTooOld",
    "LedgerMissing",
    "default_home_path",
    "init_home",
    "is_home",
    "open_home",
    "scratch_home",
]

_README = """This folder is a Sterling home: a record of what programs did here, with its evidence.

ledger.db      the record: an append-only, hash-chained log in SQLite
blobs/         the evidence: files named by the SHA-256 of their bytes
keys/          the keys that sign the log's checkpoints; keep them private
evidence/      readable copies made from the record
sterling.toml  settings

To check it with Sterling:      sterling verify --home THIS_FOLDER --blobs
To check it without Sterling:   python standalone_verify.py THIS_FOLDER
That file stands in the Sterling package (kernel/standalone_verify.py). It needs Python and `cryptography`.
A blob can be checked by hand: `sha256sum blobs/ab/cdef...` prints abcdef...
Nothing here is ever deleted by Sterling.
"""
_README_ENCRYPTED = """
This home is encrypted: the files in blobs/ are sealed, their names are no hashes, and only Sterling can
check them, with the key in keys/blobs.key or in its owner's keyring. Keep a copy of the key elsewhere.
"""


class HomeMissing(SterlingError):
    """There is no home at a path."""

    code = "home.missing"
    hint = "Make one with `sterling init`, or name another with --home."
    exit = EXIT_USAGE


class LedgerMissing(SterlingError):
    """An anchor remembers a home that is not there any more."""

    code = "integrity.ledger-missing"
    hint = "Restore the folder from a backup, then run `sterling verify`."
    exit = EXIT_BROKEN


class HomeTaken(SterlingError):
    """A path that should become a home holds something else."""

    code = "home.taken"
    hint = "Name an empty or new folder: `sterling init --home FOLDER`."
    exit = EXIT_USAGE


class HomeNotMade(SterlingError):
    """The disk refuses a home at a path."""

    code = "home.not-made"
    hint = "Name a folder that you may write to: `sterling init --home FOLDER`."
    exit = EXIT_USAGE


class HomePermissions(SterlingError):
    """Others may read the home, or it lies where nobody may write to it."""

    code = "home.permissions"
    hint = "Run `chmod 700` on the folder, or set safety.shared_home in its sterling.toml."
    exit = EXIT_USAGE


class HomeTooNew(SterlingError):
    """The home was written by a newer Sterling."""

    code = "home.too-new"
    hint = "Use the newer Sterling; `sterling verify` still reads it."
    exit = EXIT_USAGE


class HomeTooOld(SterlingError):
    """The home was written by an older Sterling, and something wants to write to it."""

    code = "home.too-old"
    hint = "Run `sterling migrate`; it keeps a verified copy. Reading works without."
    exit = EXIT_USAGE


class Home:
    """An open home; use it as a context manager, or call `close`."""

    def __init__(
        self,
        path: Path,
        *,
        home_id: str,
        demo: bool,
        config: Config,
        clock: Clock,
        read_only: bool,
        contracts: Contracts | None = None,
        anchors: Anchors | None = None,
    ) -> None:
        self.path, self.id, self.demo = path, home_id, demo
        self.config, self.clock, self.read_only = config, clock, read_only
        self.contracts = load_contracts() if contracts is None else contracts
        self.blobs = open_blobs(path / "blobs")
        self.anchors = Anchors.open(home_id) if anchors is None else anchors
        self.ledger = Ledger(
            path / "ledger.db",
            home_id=home_id,
            blobs=self.blobs,
            contracts=self.contracts,
            anchors=self.anchors,
            signer=lambda connection: key_in_force(path / "keys", "ledger", connection),
            clock=clock,
            wait_ms=int(config.get("store.wait_ms_max")),
            lag=(int(config.get("anchor.lag_entries_max")), int(config.get("anchor.lag_s_max"))),
            read_only=read_only,
            in_force={
                ConfigIs: lambda: load_config(path / "sterling.toml").sha256,
                ContractsAre: lock_sha256,
            },
        )
        place = str(config.get("spool.path"))
        self.spool = Spool(Path(place), home_id, self.blobs.crypt) if place else None
        self.blobs.stores = tuple(Path(str(place)) for place in config.get("archive.stores"))
        self.blobs.whereabouts = self.ledger.whereabouts
        self.records = Records(self.ledger, self.blobs, self.contracts)
        self.leases = Leases(self.ledger, clock)
        self.outbox = Outbox(
            self.ledger,
            blobs=self.blobs,
            leases=self.leases,
            contracts=self.contracts,
            clock=clock,
            adapters=config.get("outbox.adapters"),
        )

    def room(self, *, refused: bool = False) -> Pressure:
        """How short the home's disk is of room; `refused` says that a write was refused for it."""
        disk = os.statvfs(self.path)
        limits = [int(self.config.get(f"store.free_{name}_mb")) << 20 for name in ("warn", "soft", "hard")]
        spare = None if self.spool is None else self.spool.free_bytes()
        return pressure(disk.f_bavail * disk.f_frsize, spare, RoomLimits(*limits), refused=refused)

    def store(self, batch: Batch, blobs: Sequence[bytes] = ()) -> Receipt:
        """Write a batch together with its blobs: into the home, or into the spool while the disk is short.

        Errors: those of `Ledger.commit`; blob.no-space when neither has room, and the caller counts the gap.
        """
        state = self.room()
        if state not in (Pressure.SPOOLING, Pressure.FULL):
            try:
                for data in blobs:
                    self.blobs.put(data)
                return self.ledger.commit(batch)
            except (BlobNoSpace, StorePressure):
                state = self.room(refused=True)
                if self.spool is None:
                    raise
        if state is Pressure.FULL or self.spool is None:
            raise BlobNoSpace(f"expected room on the home's disk or in a spool, found none: {self.path}")
        self.spool.accept(batch, {address_of(data): data for data in blobs}, self.clock.wall_us())
        return Receipt(-1, -1, b"", durable="spool")

    def drain_spool(self, limit: int = 256) -> Drained:
        """Put what waits in the spool into the log, where there is room for it again."""
        if self.spool is None or self.room() is Pressure.SPOOLING:
            return Drained(0, 0, 0 if self.spool is None else len(self.spool.waiting()))
        return self.spool.drain(self.blobs.put, self.ledger.commit, self.path / "run", limit)

    def fill_ballast(self) -> bool:
        """Allocate the room that is kept for a full disk; False when there is too little of it."""
        return Ballast(self.path / "ballast").fill()

    @property
    def is_encrypted(self) -> bool:
        """Whether what it stores is sealed."""
        return self.blobs.crypt is not None

    def close(self) -> None:
        """Checkpoint what this process wrote and give its roles back."""
        self.ledger.close()

    def __enter__(self) -> Home:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def default_home_path() -> Path:
    """`STERLING_HOME`, else the platform's folder for a user's data."""
    named = os.environ.get("STERLING_HOME", "")
    return Path(named) if named else Path(platformdirs.user_data_dir("sterling"))


def is_home(path: Path) -> bool:
    """Whether a ledger lies at this path."""
    return (path / "ledger.db").is_file()


def init_home(path: Path, *, clock: Clock | None = None, demo: bool = False, encrypt: bool = False) -> Home:
    """Make a home with its id, keys, settings, first entry, first checkpoint and first anchor.

    Errors: home.filesystem-unsupported, home.taken when the folder is not empty,
            home.not-made when the disk refuses one.
    """
    ticking = clock or SystemClock()
    require_local(path)
    if os.path.lexists(path) and (not path.is_dir() or any(path.iterdir())):
        raise HomeTaken(f"expected a new or empty folder, found {path} in use", path=str(path))
    growing = path.parent / f".{path.name}.{secrets.token_hex(4)}.incoming"
    home_id = random_id("home")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _furnish(growing, home_id, ticking, demo=demo, encrypt=encrypt)
        growing.rename(path)
    except OSError as problem:
        shutil.rmtree(growing, ignore_errors=True)
        found = f"found {problem.strerror}: {problem.filename or path}"
        raise HomeNotMade(f"expected a place for a home at {path}, {found}", path=str(path)) from problem
    except BaseException:
        shutil.rmtree(growing, ignore_errors=True)
        raise
    key = load_key(path / "keys", "ledger")
    Anchors.open(home_id).pin(key.verifier(origin_of(home_id)), path.resolve())
    home = open_home(path, clock=ticking)
    home.ledger.checkpoint()
    return home


def open_home(
    path: Path,
    *,
    read_only: bool = False,
    clock: Clock | None = None,
    settings: Sequence[str] = (),
    contracts: Contracts | None = None,
) -> Home:
    """Open a home; `settings` are `key=value` overrides for this process.

    `contracts` stands in for the package's own while those are being mended.

    Errors: home.missing, integrity.ledger-missing, home.filesystem-unsupported, home.permissions,
            home.too-new, home.too-old (only to write), store.unreadable, keys.unusable, config.*.
    """
    if not is_home(path):
        remembered = Anchors.remembered_homes().get(os.path.realpath(path))
        if remembered is not None:
            raise LedgerMissing(
                f"expected the ledger of {remembered} at {path}, found none",
                path=str(path),
                home_id=remembered,
            )
        raise HomeMissing(f"expected a home at {path}, found none", path=str(path))
    if not read_only:
        require_local(path)
    config = load_config(path / "sterling.toml", settings)
    if path.stat().st_mode & 0o077 and not config.get("safety.shared_home"):
        raise HomePermissions(f"expected mode 0700 on {path}, found {path.stat().st_mode & 0o777:o}")
    if not read_only and not os.access(path, os.W_OK):
        raise HomePermissions(
            f"expected a home that can be written, found {path} readable only",
            hint="Read it where it lies, as `sterling status` does, or copy it to where you may write.",
        )
    home_id, version, demo = _read_identity(path / "ledger.db")
    if version > HOME_VERSION:
        raise HomeTooNew(f"expected home version {HOME_VERSION} at most, found {version}")
    if version < HOME_VERSION and not read_only:
        raise HomeTooOld(f"expected home version {HOME_VERSION} to write to, found {version}")
    if not read_only:
        put_entered_keys_in_place(path)
    _check_encryption(path)
    return Home(
        path,
        home_id=home_id,
        demo=demo,
        config=config,
        clock=clock or SystemClock(),
        read_only=read_only,
        contracts=contracts,
    )


@contextmanager
def scratch_home(beside: Path, clock: Clock | None = None) -> Iterator[Home]:
    """A whole home in a folder of its own, anchors included, to try a disk with; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=beside) as folder:
        path, home_id, ticking = Path(folder) / "home", random_id("home"), clock or SystemClock()
        _furnish(path, home_id, ticking, demo=False, encrypt=False)
        config, anchors = load_config(path / "sterling.toml", ()), Anchors(home_id, Path(folder) / "anchors")
        anchors.pin(load_key(path / "keys", "ledger").verifier(origin_of(home_id)), path)
        with Home(
            path,
            home_id=home_id,
            demo=False,
            config=config,
            clock=ticking,
            read_only=False,
            anchors=anchors,
        ) as home:
            yield home


def _read_identity(database: Path) -> tuple[str, int, bool]:
    try:
        with closing(connect_reader(database)) as connection:
            names = ("home_id", "home_version", "demo")
            home_id, version, demo = (read_meta(connection, name) for name in names)
            if version == str(HOME_VERSION):
                require_tables(connection)
    except sqlite3.DatabaseError as problem:
        raise HomeMissing(f"expected a ledger in {database}, found: {problem}") from problem
    if home_id is None or version is None or not version.isdigit():
        raise HomeMissing(f"expected the name of a home in {database}, found none")
    return home_id, int(version), demo == "1"


def _check_encryption(path: Path) -> None:
    """Refuse an encrypted home whose key is gone, before anything is written in plain."""
    with closing(connect_reader(path / "ledger.db")) as connection:
        first = next(read_rows(connection, {}, after=-1, until=1), None)
    says = first is not None and b'"encrypted":true' in first[8]
    if says != is_encrypted(path / "keys"):
        found = "the key of an encrypted one" if not says else "no key for its blobs"
        raise KeyUnusable(f"expected {path / 'keys'} to fit the home's first entry, found {found}")


def _furnish(path: Path, home_id: str, clock: Clock, *, demo: bool, encrypt: bool) -> None:
    """Everything a home holds, its first entry included: killed before the rename, there is no home."""
    for folder in ("", "blobs", "blobs/.incoming", "keys", "run", "spool", "index", "evidence", "telemetry"):
        (path / folder).mkdir(mode=0o700, exist_ok=True)
    write_defaults(path / "sterling.toml")
    (path / "README.txt").write_text(_README + (_README_ENCRYPTED if encrypt else ""), encoding="utf-8")
    key = make_key(path / "keys", "ledger")
    make_key(path / "keys", "attest")
    create_store(path / "ledger.db", home_id, demo=demo)
    payload = {"home_id": home_id, "version": HOME_VERSION, "key": key.fingerprint, "demo": demo}
    if encrypt:
        make_crypt(path / "keys", home_id)
        payload["encrypted"] = True
    _write_first_entry(path / "ledger.db", Draft("home.created", payload, subject=home_id), clock)
    for file in (path / "sterling.toml", path / "README.txt", path / "ledger.db"):
        file.chmod(0o600)


def _write_first_entry(database: Path, draft: Draft, clock: Clock) -> None:
    load_contracts().validate(draft.kind, draft.payload)
    prepared = Prepared(Batch(drafts=[draft]), ((draft, canonical_bytes(draft.payload)),))
    with closing(connect_writer(database)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        Appender(connection, clock).apply(prepared)
        connection.execute("COMMIT")
