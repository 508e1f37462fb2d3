"""What the doctor tries on a home: stores, roles, the ledger and its proofs, keys, leases, telemetry.

Each probe raises the error whose code and next step stand in its row. What would
leave marks in a ledger (a lease stepped through its life, a blob) is done in a
scratch home on the same disk, through the same code, and is gone afterwards.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import tempfile
from functools import partial
from pathlib import Path

from sterling.kernel.batch import Batch, FenceHolds
from sterling.kernel.checkpoint import open_note
from sterling.kernel.clock import SystemClock
from sterling.kernel.config import load_config
from sterling.kernel.crypt import key_place, readable_facts
from sterling.kernel.effect_table import EffectState
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home, is_home, open_home, scratch_home
from sterling.kernel.integrity import Forked, NoAnchor, ProjectionAltered, RolledBack
from sterling.kernel.keys import KeyUnusable, load_key, load_public_key
from sterling.kernel.lease_table import LeaseExpired, LeaseLost
from sterling.kernel.liveness import ProcessName, is_alive
from sterling.kernel.locks import Role, RoleTaken
from sterling.kernel.projections import PROJECTIONS, rebuild
from sterling.kernel.signing import Verifier, parse_verifier, verify_signature
from sterling.kernel.sinks import whole_lines
from sterling.kernel.telemetry import STREAMS, check_counters
from sterling.runtime.doctor import NotTried, Patient, Probe

__all__ = ["ROLES", "home_probes"]

ROLES = ("conductor", "authority", "recorder", "server", "migrate")
_STORES = ("blobs", "telemetry", "run", "keys")
_PROBE_BYTES = 64 * 1024
_TURN_MS = 1000
_LOG = ("ledger",)
_LINES_READ = 50
_HOLDER = re.compile(r"pid (\d+) \(start tick (\d+)\)")


class StoreUnusable(SterlingError):
    """A folder does not keep what is written into it."""

    code = "doctor.store-unusable"
    hint = "Give the folder back its place, its rights and its room, then run `sterling doctor`."


class SpaceLow(SterlingError):
    """The disk of the home is nearly full."""

    code = "doctor.space-low"
    hint = "Make room on that disk, then run `sterling doctor`."


class RoleOrphaned(SterlingError):
    """A role is held by a process that never took it or does nothing with it, such as a stopped one."""

    code = "doctor.role-orphaned"
    hint = "Find it with `fuser -v` on the lock in `run/` and end it, then run `sterling doctor`."


class ClockBehind(SterlingError):
    """The wall clock is behind the newest entry."""

    code = "doctor.clock-behind"
    hint = "Set the clock, such as with `timedatectl set-ntp true`, then run `sterling doctor`."


class LeaseMisbehaves(SterlingError):
    """A lease went another way than its table says."""

    code = "doctor.lease-misbehaves"
    hint = "Do not rely on leases of this installation; run `sterling plugins check` and install it again."


class TelemetryUnreadable(SterlingError):
    """A telemetry file does not end in whole lines of OTLP."""

    code = "doctor.telemetry-unreadable"
    hint = "Have a torn line cut off: `sterling doctor --telemetry`. Move a file of other content aside."


class CountersDiffer(SterlingError):
    """A line of counters is not what the ledger says."""

    code = "doctor.counters-differ"
    hint = "Believe `sterling doctor --counters`, and move `telemetry/counters.jsonl` aside."


class EffectsDead(SterlingError):
    """Effects were given up, and hold back those behind them."""

    code = "doctor.effects-dead"
    hint = "See them and decide: `sterling outbox list`, then `sterling outbox retry` or `abandon`."


class SealMisbehaves(SterlingError):
    """What the key of the home seals cannot be opened with it."""

    code = "doctor.seal-misbehaves"
    hint = "Store nothing here until `sterling plugins check` is clean and `sterling doctor` is, too."


def home_probes() -> list[Probe]:
    """What acts on the home; stands on the rows of the machine."""
    disk, run = ("store.home",), ("store.run",)
    stores = [
        Probe(f"store.{name}", f"{name}/ keeps a probe.", partial(_store, folder=name), disk)
        for name in _STORES
    ]
    roles = [
        Probe(f"role.{name}", f"Role {name} can be taken and lost.", partial(_role, name=name), run)
        for name in ROLES
    ]
    tables = [
        Probe(f"table.{name}", f"Table {name} is what the entries say.", partial(_table, name=name), _LOG)
        for name in PROJECTIONS
    ]
    keys = [
        Probe(f"key.{name}", f"Key {name} signs and is the home's.", partial(_key, purpose=name), needs)
        for name, needs in (("ledger", _LOG), ("attest", ("home",)))
    ]
    scratch = ("contracts", "store.run")
    outside, newest = (
        "The folder of the copies outside keeps a probe.",
        "The newest copy outside fits the ledger.",
    )
    return [
        Probe("settings", "sterling.toml is valid.", _settings),
        Probe("store.home", "The home keeps a probe: written, synced, read back.", _store_home),
        Probe("home", "The home opens.", _home, blames=disk),
        Probe("space", "The home's disk has room.", _space, ("home", *disk)),
        *stores,
        Probe("store.spool", "The spool, on a second disk or not, keeps a probe.", _store_spool, disk),
        Probe("store.anchors", outside, _store_anchors, ("home",), blames=disk),
        *roles,
        Probe("turn", "The turn to write passes on.", _turn, run),
        Probe("ledger", "Every entry follows from the one before it.", _ledger, ("sqlite", "home")),
        *tables,
        Probe("anchor", newest, _anchor, (*_LOG, "store.anchors")),
        Probe("clock", "The wall clock is not behind the newest entry.", _clock, _LOG),
        *keys,
        Probe("lease", "A lease goes through acquire, renew, expiry and takeover.", _lease, scratch),
        Probe("blob", "A blob is put and read back.", _blob, scratch),
        Probe("sealed", "What is sealed can be opened.", _sealed, ("home",)),
        Probe("effects", "No effect waits for a person.", _effects, ("table.effects",)),
        Probe("quarantine", "What was set aside as damaged.", _quarantine, ("store.blobs",)),
        Probe("telemetry", "The telemetry files end in whole OTLP lines.", _telemetry, ("store.telemetry",)),
        Probe("counters", "The counters written are what the ledger says.", _counters, (*_LOG, "telemetry")),
    ]


def _settings(patient: Patient) -> str:
    if not is_home(patient.path):
        raise NotTried("there is no home to read settings from")
    config = load_config(patient.path / "sterling.toml", patient.settings)
    return f"settings {config.sha256[:12]}"


def _home(patient: Patient) -> str:
    patient.home = open_home(patient.path, read_only=True, clock=patient.clock, settings=patient.settings)
    return f"{patient.home.id}, {patient.home.ledger.size()} entries"


def _space(patient: Patient) -> str:
    free = shutil.disk_usage(patient.path).free
    least = int(patient.opened.config.get("store.free_hard_mb")) << 20
    if free < least:
        raise SpaceLow(f"expected {least} bytes free at {patient.path}, found {free}")
    return f"{free >> 20} MiB free"


def _store_home(patient: Patient) -> str:
    if not patient.path.is_dir():
        raise NotTried(f"there is no folder {patient.path}")
    return _keeps(patient.path)


def _store(patient: Patient, *, folder: str) -> str:
    return _keeps(patient.path / folder)


def _store_spool(patient: Patient) -> str:
    spool = None if patient.home is None else patient.home.spool
    return _keeps(patient.path / "spool" if spool is None else spool.folder.parent)


def _store_anchors(patient: Patient) -> str:
    folder = patient.opened.anchors.folder
    if not folder.exists():
        folder = next(parent for parent in folder.parents if parent.exists())
    return _keeps(folder)


def _keeps(folder: Path) -> str:
    """Write a probe into a nameless file, sync it, read it back."""
    probe = secrets.token_bytes(_PROBE_BYTES)
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            left = memoryview(probe)
            while left:
                left = left[os.write(file.fileno(), left) :]
            os.fsync(file.fileno())
            found = os.pread(file.fileno(), _PROBE_BYTES, 0)
    except OSError as problem:
        missing = problem.errno == errno.ENOENT
        cure = f"`mkdir -m 700 {folder}`, then `sterling doctor`" if missing else None
        raise StoreUnusable(
            f"expected {folder} to keep a probe, found: {problem.strerror}", hint=cure
        ) from problem
    if found != probe:
        raise StoreUnusable(f"expected {folder} to give a probe back, found other bytes")
    return f"{_PROBE_BYTES} bytes written, synced and read back"


def _role(patient: Patient, *, name: str) -> str:
    role = Role(patient.path / "run", name)
    try:
        role.take(wait_ms=100)
    except RoleTaken as taken:
        holder = str(taken.details["holder"])
        named = _HOLDER.search(holder)
        boot_id = patient.clock.boot_id()
        if named is None or not is_alive(ProcessName(int(named[1]), int(named[2]), boot_id), boot_id):
            lock = patient.path / "run" / f"{name}.lock"
            raise RoleOrphaned(
                f"expected the holder of {lock} to live, found it held and named {holder or 'by nobody'}"
            ) from taken
        raise NotTried(f"held by {holder}, which is at work") from None
    role.release()
    return "taken and lost"


def _turn(patient: Patient) -> str:
    """The turn is held for a transaction at a time: nobody may keep it and write nothing."""
    before = 0 if patient.home is None else patient.home.ledger.size()
    role = Role(patient.path / "run", "writer")
    try:
        role.take(wait_ms=_TURN_MS)
    except RoleTaken as taken:
        if patient.home is not None and patient.home.ledger.size() > before:
            raise NotTried("other processes are writing without a pause") from None
        raise RoleOrphaned(
            f"expected the turn to write to pass on within {_TURN_MS} ms, found it held and nothing written"
        ) from taken
    role.release()
    return "taken and given back"


def _ledger(patient: Patient) -> str:
    home = patient.opened
    try:
        anchored = home.anchors.latest_size() or 0
    except SterlingError:
        anchored = 0  # The row `anchor` says it.
    patient.rebuilt = rebuild(home.path / "ledger.db", root_at=anchored)
    return f"{patient.rebuilt.size} entries recomputed"


def _table(patient: Patient, *, name: str) -> str:
    assert patient.rebuilt is not None
    if name in patient.rebuilt.different:
        raise ProjectionAltered(patient.rebuilt.different[name])
    return "rebuilt and equal"


def _anchor(patient: Patient) -> str:
    assert patient.rebuilt is not None
    anchors, size = patient.opened.anchors, patient.rebuilt.size
    note, pin = anchors.latest(), anchors.read_pin()
    if note is None or pin is None:
        lacks = "no note" if note is None else "no pinned key"
        raise NoAnchor(f"expected a copy outside in {anchors.folder}, found {lacks}")
    pinned = parse_verifier(pin.verifier)
    later = [Verifier(pinned.name, bytes.fromhex(key)) for key in _rotated_to(patient.opened, "ledger")]
    checkpoint = open_note(note, [pinned, *later])
    if checkpoint.size > size:
        raise RolledBack(f"expected at least {checkpoint.size} entries (anchored), found {size}")
    if checkpoint.root != patient.rebuilt.root:
        raise Forked(
            f"expected root {checkpoint.root.hex()} at size {checkpoint.size} (anchored), found another"
        )
    return f"anchored to {checkpoint.size}, {size - checkpoint.size} newer"


def _clock(patient: Patient) -> str:
    last = patient.opened.ledger.entry(patient.opened.ledger.size() - 1)
    now_us = patient.clock.wall_us()
    if last is not None and now_us < last.at_us:
        raise ClockBehind(
            f"expected the clock at or after the newest entry, found it {last.at_us - now_us} us behind"
        )
    return "at or after the newest entry"


def _key(patient: Patient, *, purpose: str) -> str:
    home = patient.opened
    folder, message = home.path / "keys", secrets.token_bytes(64)
    signer = load_key(folder, purpose)
    public = load_public_key(folder, purpose)
    if public != signer.public_key:
        raise KeyUnusable(f"expected {purpose}.pub beside its key in {folder}, found another or none")
    verify_signature(public, signer.sign(message), message)
    changed = _rotated_to(home, purpose)
    if changed and public.hex() != changed[-1]:
        raise KeyUnusable(f"expected the {purpose} key {changed[-1]}, which the ledger names, found another")
    if purpose == "ledger" and not changed:
        named = next(home.ledger.read(kind="home.created")).payload["key"]
        if signer.fingerprint != named:
            raise KeyUnusable(f"expected the key that the ledger names, {named}, found {signer.fingerprint}")
    return f"signed and verified, {signer.fingerprint[:12]}"


def _rotated_to(home: Home, purpose: str) -> list[str]:
    """The public keys, in hex, that the ledger says this purpose was given after its first."""
    entries = home.ledger.read(kind="key.rotated")
    return [str(entry.payload["new"]) for entry in entries if entry.payload["purpose"] == purpose]


class _SteppedClock(SystemClock):
    """The machine's clock with time that can be let pass."""

    passed_us = 0

    def wall_us(self) -> int:
        return super().wall_us() + self.passed_us

    def boot_us(self) -> int:
        return super().boot_us() + self.passed_us


def _lease(patient: Patient) -> str:
    clock = _SteppedClock()
    with scratch_home(patient.path / "run", clock) as home:
        first = home.leases.acquire("doctor", 600, holder="first")
        clock.passed_us = 300_000_000
        renewed = home.leases.renew(first)
        if renewed.token != first.token or renewed.expires_us <= first.expires_us:
            raise LeaseMisbehaves("expected a renewal to keep the token and move the end, found otherwise")
        clock.passed_us = 1_000_000_000
        try:
            home.leases.renew(renewed)
        except LeaseExpired:
            second = home.leases.acquire("doctor", 600, holder="second")
        else:
            raise LeaseMisbehaves("expected an expired lease to stay expired, found it renewed")
        if second.token <= first.token:
            raise LeaseMisbehaves(
                f"expected a token above {first.token} after a takeover, found {second.token}"
            )
        stale = Batch()
        stale.append("process.ended", {"command": "doctor", "exit": 0})
        stale.require(FenceHolds("doctor", first.token))
        try:
            home.ledger.commit(stale)
        except (LeaseLost, LeaseExpired):
            return "acquired, renewed, expired, taken over; the old holder's write was refused"
    raise LeaseMisbehaves("expected a write under an old token to be refused, found it accepted")


def _blob(patient: Patient) -> str:
    data = secrets.token_bytes(_PROBE_BYTES)
    with scratch_home(patient.path / "run") as home:
        address = home.blobs.put(data)
        if home.blobs.get(address) != data:
            raise StoreUnusable(f"expected blob {address} back, found other bytes")
    return f"{_PROBE_BYTES} bytes put and read back"


def _sealed(patient: Patient) -> str:
    crypt, probe = patient.opened.blobs.crypt, secrets.token_bytes(_PROBE_BYTES)
    readable = "; ".join(readable_facts(encrypted=crypt is not None))
    if crypt is None:
        return f"this home is not encrypted; readable on its disk are {readable}"
    if crypt.unseal_bytes(crypt.seal_bytes(probe)) != probe:
        raise SealMisbehaves("expected sealed bytes back, found others")
    return f"sealed and opened, key in {key_place(patient.path / 'keys')}; readable without it are {readable}"


def _effects(patient: Patient) -> str:
    effects = patient.opened.outbox.effects()
    dead = [row.id for row in effects if row.state is EffectState.DEAD]
    if dead:
        raise EffectsDead(f"expected no dead effect, found {len(dead)}: {', '.join(dead[:3])}")
    return f"none of {len(effects)} is dead"


def _quarantine(patient: Patient) -> str:
    folders = [patient.path / "blobs" / ".quarantine"]
    if patient.home is not None and patient.home.spool is not None:
        folders.append(patient.home.spool.folder / "quarantine")
    count = sum(1 for folder in folders if folder.is_dir() for _ in folder.iterdir())
    return f"{count} files set aside"


def _telemetry(patient: Patient) -> str:
    read = 0
    for stream in STREAMS:
        path = patient.path / "telemetry" / f"{stream}.jsonl"
        if not path.exists():
            continue
        if _is_torn(path):
            role = Role(patient.path / "run", "telemetry")
            try:
                role.take(wait_ms=2000)  # Whoever is in the middle of a line ends it.
            except RoleTaken as taken:
                raise NotTried(f"being written by {taken.details['holder']}") from None
            role.release()
            if _is_torn(path):
                raise TelemetryUnreadable(f"expected {path} to end in a whole line, found a torn one")
        outer = "resourceSpans" if stream == "traces" else "resourceMetrics"
        for line in whole_lines(path)[-_LINES_READ:]:
            try:
                whole = set(json.loads(line)) == {outer}
            except (ValueError, TypeError):
                whole = False
            if not whole:
                raise TelemetryUnreadable(f"expected lines of {outer} in {path}, found {line[:60]!r}")
            read += 1
    if not read:
        raise NotTried("no run has ended yet, so nothing was written")
    return f"{read} newest lines parsed"


def _counters(patient: Patient) -> str:
    problems = check_counters(patient.opened, patient.counter_rules)
    if problems:
        raise CountersDiffer(problems[0])
    return "recomputed and equal"


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
