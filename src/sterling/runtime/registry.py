"""The registry: the plugins that may load, after the lock has been checked.

Building it reads manifests and hashes code; it imports nothing. The first
refusal, by plugin name, is raised: a fleet with an altered member does not run
in part. `inspect` gives every refusal for `sterling plugins check`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sterling.kernel.contracts import load_contracts
from sterling.runtime.manifest import Manifest
from sterling.runtime.plugin_lock import Scan, lock_path, read_lock, scan_plugins
from sterling.runtime.plugin_refusals import PluginAltered, PluginLockStale, PluginNotListed, PluginRefused

__all__ = ["PluginUnknown", "Registry", "inspect", "load_registry"]


class PluginUnknown(PluginRefused):
    """Nobody knows a plugin of this name."""

    code = "plugin.unknown"
    hint = "See the names with `sterling plugins list`."


class Registry:
    """Plugins that passed every check, by pack and id."""

    def __init__(self, manifests: tuple[Manifest, ...]) -> None:
        self._by_name = {manifest.name: manifest for manifest in manifests}

    def manifests(self, pack: str | None = None) -> tuple[Manifest, ...]:
        """Every plugin, or those of one pack, sorted by name."""
        return tuple(
            self._by_name[name] for name in sorted(self._by_name) if pack in (None, self._by_name[name].pack)
        )

    def get(self, pack: str, plugin: str) -> Manifest:
        """One plugin.

        Raises:
            PluginUnknown: there is none of this name.
        """
        try:
            return self._by_name[f"{pack}/{plugin}"]
        except KeyError:
            raise PluginUnknown(f"{pack}/{plugin}", "expected a plugin of this name, found none") from None

    def __len__(self) -> int:
        return len(self._by_name)


def load_registry(pack: str | None = None, *, root: Path | None = None, lock: Path | None = None) -> Registry:
    """The plugins of one pack, or of all, checked against plugins.lock.

    `root` (the folder that holds `packs`) and `lock` default to this installation.

    Raises:
        PluginRefused: the first refusal by plugin name.
    """
    scan = inspect(pack, root=root, lock=lock)
    if scan.refusals:
        raise scan.refusals[0]
    return Registry(scan.manifests)


def inspect(pack: str | None = None, *, root: Path | None = None, lock: Path | None = None) -> Scan:
    """The same checks, with every refusal listed instead of raised."""
    scan = scan_plugins(None if pack is None else (pack,), root=root)
    refusals = list(scan.refusals)
    path = lock_path() if lock is None else lock
    if not scan.manifests and not path.exists():
        return scan
    try:
        rows: Mapping[str, Any] = read_lock(path)["plugins"]
    except PluginLockStale as stale:
        return Scan((), (*refusals, stale))
    accepted: list[Manifest] = []
    for manifest in scan.manifests:
        try:
            accepted.append(_against_lock(manifest, rows))
        except PluginRefused as refusal:
            refusals.append(refusal)
    on_disk = {manifest.name for manifest in scan.manifests} | {refusal.plugin for refusal in refusals}
    for name in sorted(rows):
        if (pack is None or name.startswith(f"{pack}/")) and name not in on_disk:
            refusals.append(PluginAltered(name, "expected the files that the lock pins, found none"))
    return Scan(tuple(accepted), tuple(sorted(refusals, key=lambda refusal: (refusal.plugin, refusal.code))))


def _against_lock(manifest: Manifest, rows: Mapping[str, Any]) -> Manifest:
    row = rows.get(manifest.name)
    if row is None:
        raise PluginNotListed(manifest.name, "expected the lock to list this plugin, found no row")
    contracts = load_contracts()
    pinned = {"manifest": row["manifest_sha256"], "code": sorted(row["code"].values())}
    found = {"manifest": manifest.manifest_sha256, "code": [manifest.code_sha256]}
    for what in ("manifest", "code"):
        if pinned[what] != found[what]:
            raise PluginAltered(manifest.name, f"expected {what} {pinned[what]}, found {found[what]}")
    for name in manifest.contracts_in + manifest.contracts_out:
        contract = contracts.get(name)
        if row["contracts"].get(contract.id) != contract.sha256:
            raise PluginAltered(manifest.name, f"expected contract {contract.id} as pinned, found it changed")
    return replace(manifest, imports=tuple(row["imports"]))
