"""plugins.lock: which plugin code may load, pinned by hash.

The lock lists, for each plugin, the hashes of its manifest, its code and the
contracts it reads and writes, its lane, trust and permissions, and which modules
its code imports (found in its syntax tree, never by importing it). It holds no
time, so the same tree gives the same bytes. `registry.py` compares it with the
disk before any plugin is loaded.

`python -m sterling.runtime.plugin_lock --write` is for builders and grants what
the manifests ask for; `sterling plugins lock` asks for a reason, shows what
changes and refuses to widen a permission that nobody named.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from sterling.kernel.canonical import Json
from sterling.kernel.contracts import Contracts, load_contracts
from sterling.kernel.errors import SterlingError
from sterling.kernel.hashing import address_of
from sterling.kernel.shipped import package_root, shipped
from sterling.runtime.manifest import Manifest, load_manifest
from sterling.runtime.plan import LANE_POLICY_VERSION
from sterling.runtime.plugin_api import API_VERSION
from sterling.runtime.plugin_refusals import (
    PluginDownstreamMissing,
    PluginIdDuplicate,
    PluginLibraryUndeclared,
    PluginLockStale,
    PluginManifestInvalid,
    PluginPermissionWidened,
    PluginRefused,
    PluginUndeclaredImport,
)

__all__ = [
    "Change",
    "Scan",
    "compare_locks",
    "lock_bytes",
    "lock_path",
    "make_lock",
    "mend_contracts",
    "read_lock",
    "refuse_imports",
    "refuse_widening",
    "scan_plugins",
    "write_lock",
]

PACKS = ("autopilot", "ci", "insight", "recall")
_API_MODULE = "sterling.runtime.plugin_api"


@dataclass(frozen=True, slots=True)
class Scan:
    """What lies on the disk: accepted manifests by name, and every refusal."""

    manifests: tuple[Manifest, ...]
    refusals: tuple[PluginRefused, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two locks; `what` is `added`, `removed`, or the part that differs."""

    plugin: str
    what: str
    before: str
    after: str

    def as_json(self) -> Json:
        return {"after": self.after, "before": self.before, "plugin": self.plugin, "what": self.what}


def lock_path() -> Path:
    """Where plugins.lock lies in this installation."""
    return shipped("plugins.lock")


def scan_plugins(packs: Sequence[str] | None = None, *, root: Path | None = None) -> Scan:
    """Read every manifest below `packs/<pack>/plugins`, in order of their paths; no plugin code runs.

    With None all packs are read. `root` is the folder that holds `packs`.
    """
    base = package_root() if root is None else root
    found: list[Manifest] = []
    refusals: list[PluginRefused] = []
    for pack in sorted(PACKS if packs is None else packs):
        folder = base / "packs" / pack / "plugins"
        seen: dict[str, Manifest] = {}
        paths = sorted(folder.rglob("*.toml"))
        for path in paths:
            try:
                manifest = load_manifest(path, pack, folder)
                _refuse_duplicate(manifest, seen)
                refuse_imports(manifest)
            except PluginRefused as refusal:
                refusals.append(refusal)
                continue
            seen[manifest.id] = manifest
        refusals.extend(_codes_without_manifest(folder, pack))
        names = {path.stem for path in paths}
        for manifest in seen.values():
            refusal_of_feeds = _unknown_feeds(manifest, names)
            if refusal_of_feeds is None:
                found.append(manifest)
            else:
                refusals.append(refusal_of_feeds)
    return Scan(tuple(sorted(found, key=lambda manifest: manifest.name)), tuple(refusals))


def make_lock(manifests: Iterable[Manifest], *, root: Path | None = None) -> dict[str, Any]:
    """The lock of these plugins."""
    base = package_root() if root is None else root
    return {
        "api": ".".join(str(part) for part in API_VERSION),
        "lane_policy": LANE_POLICY_VERSION,
        "plugins": {manifest.name: _lock_row(manifest, base) for manifest in manifests},
    }


def lock_bytes(lock: Mapping[str, Any]) -> bytes:
    """The lock as it lies on the disk: sorted, indented, one final line end."""
    return (json.dumps(lock, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8")


def read_lock(path: Path) -> dict[str, Any]:
    """The lock on the disk.

    Raises:
        PluginLockStale: there is none, it is unreadable, or it was made for
            another plugin API or lane policy.
    """
    try:
        lock = json.loads(path.read_bytes())
        api, policy, rows = lock["api"], lock["lane_policy"], lock["plugins"]
        assert isinstance(rows, dict)
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as problem:
        raise PluginLockStale(path.name, f"expected a readable plugin lock, found {problem!r}") from problem
    ours = ".".join(str(part) for part in API_VERSION)
    if api != ours or policy != LANE_POLICY_VERSION:
        raise PluginLockStale(
            path.name,
            f"expected plugin API {ours} and lane policy {LANE_POLICY_VERSION}, found {api} and {policy}",
        )
    return dict(lock)


def write_lock(lock: Mapping[str, Any], path: Path) -> None:
    """Put the lock in its place in one move."""
    growing = path.with_name(f".{path.name}.{os.getpid()}")
    growing.write_bytes(lock_bytes(lock))
    growing.replace(path)


def compare_locks(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Every difference, sorted by plugin and by what differs."""
    old, new = before.get("plugins", {}), after.get("plugins", {})
    changes: list[Change] = []
    for name in sorted(set(old) | set(new)):
        if name not in new:
            changes.append(Change(name, "removed", old[name]["version"], ""))
        elif name not in old:
            changes.append(Change(name, "added", "", new[name]["version"]))
            if new[name]["permissions"]:
                changes.append(Change(name, "permission", "", " ".join(new[name]["permissions"])))
        else:
            changes.extend(_differences(name, old[name], new[name]))
    return changes


def mend_contracts(contracts: Contracts, *, write: bool, path: Path | None = None) -> list[Change]:
    """Plugins whose pinned contracts are not the newest of these; with `write` they are pinned anew.

    Nothing else of the lock changes, and a lock that cannot be read is left to `sterling plugins`.
    """
    place = lock_path() if path is None else path
    try:
        before = read_lock(place)
    except PluginLockStale:
        return []
    after = json.loads(json.dumps(before))
    for row in after["plugins"].values():
        used = [
            contracts.get(name.partition("@")[0]) for name in row["contracts"] if _is_known(contracts, name)
        ]
        row["contracts"] = {contract.id: contract.sha256 for contract in used}
    changes = compare_locks(before, after)
    if write and changes:
        write_lock(after, place)
    return changes


def _is_known(contracts: Contracts, name: str) -> bool:
    return contracts.has(name.partition("@")[0])


def refuse_widening(before: Mapping[str, Any], after: Mapping[str, Any], accepted: Iterable[str]) -> None:
    """Refuse permissions that the old lock did not grant, unless the plugin is named in `accepted`.

    Raises:
        PluginPermissionWidened: for the first plugin, by name, that was not accepted.
    """
    old, new = before.get("plugins", {}), after.get("plugins", {})
    named = set(accepted)
    for name in sorted(new):
        had = set(old.get(name, {}).get("permissions", ()))
        wider = sorted(set(new[name]["permissions"]) - had)
        if wider and name not in named and name.partition("/")[2] not in named:
            raise PluginPermissionWidened(
                name, f"expected no more than {sorted(had)}, found also {', '.join(wider)}"
            )


def refuse_imports(manifest: Manifest) -> None:
    """Refuse code that imports more than the plugin API and the libraries its manifest needs.

    Raises:
        PluginManifestInvalid, PluginUndeclaredImport, PluginLibraryUndeclared: which of them it is.
    """
    try:
        third_party, own = scan_imports(manifest.code_path.read_bytes())
    except (SyntaxError, ValueError) as problem:
        raise PluginManifestInvalid(manifest.name, f"expected Python code, found {problem}") from problem
    foreign = sorted(own - {_API_MODULE})
    if foreign:
        raise PluginUndeclaredImport(
            manifest.name, f"expected only {_API_MODULE}, found {', '.join(foreign)}"
        )
    needed = {_normal(name) for name in manifest.needs.libraries}
    for module in sorted(third_party):
        if not needed & ({_normal(name) for name in _distributions().get(module, ())} | {_normal(module)}):
            raise PluginLibraryUndeclared(
                manifest.name,
                f"expected needs.libraries to name the library of {module}, found {sorted(needed)}",
            )


def _lock_row(manifest: Manifest, base: Path) -> dict[str, Any]:
    contracts = load_contracts()
    third_party, _ = scan_imports(manifest.code_path.read_bytes())
    used = [contracts.get(name) for name in manifest.contracts_in + manifest.contracts_out]
    return {
        "code": {manifest.code_path.relative_to(base).as_posix(): manifest.code_sha256},
        "contracts": {contract.id: contract.sha256 for contract in used},
        "imports": sorted(third_party),
        "lane": manifest.lane,
        "manifest": manifest.path.relative_to(base).as_posix(),
        "manifest_sha256": manifest.manifest_sha256,
        "permissions": sorted(manifest.permissions.words()),
        "trust": manifest.trust,
        "version": manifest.version,
    }


def _differences(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    changes: list[Change] = []
    if old["code"] != new["code"]:
        changes.append(Change(name, "code", _first_value(old["code"]), _first_value(new["code"])))
    if old["contracts"] != new["contracts"]:
        changes.append(
            Change(name, "contracts", " ".join(sorted(old["contracts"])), " ".join(sorted(new["contracts"])))
        )
    for key, what in (("lane", "lane"), ("manifest_sha256", "manifest"), ("trust", "trust")):
        if old[key] != new[key]:
            changes.append(Change(name, what, old[key], new[key]))
    if old["permissions"] != new["permissions"]:
        changes.append(Change(name, "permission", " ".join(old["permissions"]), " ".join(new["permissions"])))
    return sorted(changes, key=lambda change: change.what)


def _first_value(table: Mapping[str, str]) -> str:
    return next(iter(table.values()), "")


def _refuse_duplicate(manifest: Manifest, seen: Mapping[str, Manifest]) -> None:
    if manifest.id in seen:
        first = seen[manifest.id].path
        raise PluginIdDuplicate(
            manifest.name,
            f"expected one plugin of this id, found {manifest.path.parent.name} and {first.parent.name}",
        )


def _unknown_feeds(manifest: Manifest, names: set[str]) -> PluginRefused | None:
    unknown = sorted(set(manifest.feeds) - names)
    if not unknown:
        return None
    text = f"expected feeds to name plugins of this pack, found {', '.join(unknown)}"
    return PluginDownstreamMissing(manifest.name, text)


def _codes_without_manifest(folder: Path, pack: str) -> list[PluginRefused]:
    """Code that no manifest stands beside can never load, so it is a mistake worth a word."""
    lonely = [
        path
        for path in sorted(folder.rglob("*.py"))
        if path.name != "__init__.py" and not path.with_suffix(".toml").exists()
    ]
    return [
        PluginManifestInvalid(f"{pack}/{path.stem}", f"expected a manifest beside {path.name}, found none")
        for path in lonely
    ]


def scan_imports(code: bytes) -> tuple[frozenset[str], frozenset[str]]:
    """Modules that code imports anywhere: (third-party top-level names, full names of our own modules).

    Raises:
        SyntaxError, ValueError: the code does not parse.
    """
    third_party: set[str] = set()
    own: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [_from_name(node, alias.name) for alias in node.names]
        for name in names:
            top = name.partition(".")[0]
            if top in ("sterling", ""):
                own.add(name)
            elif top not in sys.stdlib_module_names:
                third_party.add(top)
    return frozenset(third_party), frozenset(own)


def _from_name(node: ast.ImportFrom, name: str) -> str:
    if node.level:
        return "." * node.level + (node.module or "") + f".{name}"
    module = node.module or ""
    return f"{module}.{name}" if module == "sterling.runtime" or module == "sterling" else module


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def main(arguments: Sequence[str]) -> int:
    """`--write` regenerates the lock; without it the exit status says whether it is current."""
    scan = scan_plugins()
    for refusal in scan.refusals:
        print(f"{refusal.code}: {refusal.message}", file=sys.stderr)
    if scan.refusals:
        return 1
    path = lock_path()
    fresh = make_lock(scan.manifests)
    if "--write" in arguments:
        write_lock(fresh, path)
        print(f"ok {len(scan.manifests)} plugins {address_of(lock_bytes(fresh))}")
        return 0
    if path.is_file() and path.read_bytes() == lock_bytes(fresh):
        return 0
    print(f"plugin.lock-stale: expected {path.name} to be current, found it differs", file=sys.stderr)
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SterlingError as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)
        sys.exit(error.exit)
