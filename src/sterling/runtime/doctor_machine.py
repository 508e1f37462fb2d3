"""What the doctor tries on the machine: SQLite, the locks of this installation, the key store, programs."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess

from sterling.kernel.errors import SterlingError
from sterling.runtime.doctor import NotTried, Patient, Probe
from sterling.runtime.doctor_sandbox import sandbox_probe

__all__ = ["machine_probes"]

_SQLITE_LEAST = (3, 37, 0)  # STRICT tables.


class SqliteUnfit(SterlingError):
    """This machine's SQLite lacks what a ledger needs."""

    code = "doctor.sqlite-unfit"
    hint = "Run Sterling on a Python with a newer SQLite, then run `sterling doctor`."


class ToolBroken(SterlingError):
    """A program that packs call is there and does not run."""

    code = "doctor.tool-broken"
    hint = "Install the program again, then run `sterling doctor`."


def machine_probes() -> list[Probe]:
    """What needs no home."""
    return [
        Probe("sqlite", "SQLite's version and compile options are enough for a ledger.", _sqlite),
        Probe("contracts", "Every schema file is a contract and is the locked one.", _contracts),
        Probe("plugins", "Every plugin is the locked one.", _plugins),
        Probe("keyring", "The desktop's key store opens.", _keyring),
        Probe("tool.git", "git runs.", _git),
        sandbox_probe(),
    ]


def _sqlite(_: Patient) -> str:
    version = tuple(int(part) for part in sqlite3.sqlite_version.split("."))
    if version < _SQLITE_LEAST:
        raise SqliteUnfit(f"expected SQLite 3.37.0 at least, found {sqlite3.sqlite_version}")
    connection = sqlite3.connect(":memory:")
    options = {str(row[0]) for row in connection.execute("PRAGMA compile_options")}
    connection.close()
    if "THREADSAFE=0" in options or "ENABLE_FTS5" not in options:
        raise SqliteUnfit("expected SQLite with threads and FTS5, found it compiled without")
    return f"SQLite {sqlite3.sqlite_version}, {len(options)} compile options"


def _contracts(_: Patient) -> str:
    from sterling.kernel.contract_lock import check
    from sterling.kernel.contracts import load_contracts
    from sterling.kernel.shipped import shipped

    contracts = load_contracts()
    check(contracts, shipped("contracts.lock"))
    return f"{len(contracts.names())} contracts agree with the lock"


def _plugins(_: Patient) -> str:
    from sterling.runtime.registry import inspect

    scan = inspect()
    if scan.refusals:
        raise scan.refusals[0]
    return f"{len(scan.manifests)} plugins agree with the lock"


def _keyring(_: Patient) -> str:
    import keyring
    from keyring.backends import fail, null
    from keyring.errors import KeyringError

    backend = keyring.get_keyring()
    if isinstance(backend, fail.Keyring | null.Keyring):
        raise NotTried("no key store of a desktop can be reached; keys lie in files of mode 0600")
    try:
        keyring.get_password("sterling", "doctor")
    except KeyringError as problem:
        raise NotTried(
            f"the key store does not open ({problem!r:.100}); keys lie in files of mode 0600"
        ) from None
    return f"{type(backend).__module__} answers"


def _git(_: Patient) -> str:
    found = shutil.which("git")
    if found is None:
        raise NotTried("git is not installed; test evidence and coding tasks need it", "apt-get install git")
    try:
        done = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise ToolBroken(f"expected {found} to run, found: {problem!r:.200}") from problem
    if done.returncode != 0:
        raise ToolBroken(
            f"expected {found} to run, found exit {done.returncode}: {done.stderr.strip()[:200]}"
        )
    return done.stdout.strip()
