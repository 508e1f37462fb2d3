"""Manifests: what a plugin says about itself, read and checked before any of its code.

A manifest is `<id>.toml` beside `<id>.py`. Nothing is inferred and nothing is
overridden at run time: no lane means no plugin. Each fault has its own code
(plugin_refusals.py). The checks here need no lock; `registry.py` compares what
they accept with `plugins.lock`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sterling.kernel.canonical import Json
from sterling.kernel.contracts import load_contracts
from sterling.kernel.errors import SterlingError
from sterling.kernel.hashing import address_of, tagged_hash
from sterling.runtime.plan import LANES
from sterling.runtime.plugin_api import API_VERSION
from sterling.runtime.plugin_refusals import (
    PluginApiRange,
    PluginConflict,
    PluginContractUnknown,
    PluginDownstreamMissing,
    PluginLaneMissing,
    PluginLaneRoleConflict,
    PluginManifestInvalid,
    PluginPathEscape,
    PluginUntrustedNetwork,
)

__all__ = ["Limits", "Manifest", "Needs", "Permissions", "api_accepts", "load_manifest", "parse_manifest"]

MANIFEST_BYTES_MAX = 64 * 1024
_PACKS = ("recall", "insight", "ci", "autopilot")
_CPU_PER_WALL = 4
_PLAIN_FIELDS = (
    "id",
    "version",
    "title",
    "lane",
    "family",
    "decision_capable",
    "diagnostic_only",
    "requires_downstream_mapping",
    "terminal_context",
    "estimate_ms",
    "trust",
    "settings",
    "api",
)
_OUTPUT_BYTES_DEFAULT = 64 * 1024 * 1024
_PLUGIN_TAG = b"sterling/plugin/1"


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be there before the plugin runs."""

    plugins: tuple[str, ...] = ()
    tolerates: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    rows_min: int = 0
    groups_min: int = 0
    libraries: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    on_missing: str = "na"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use, over its whole process tree."""

    memory_bytes: int
    wall_ms: int
    cpu_ms: int
    processes: int = 1
    output_bytes: int = _OUTPUT_BYTES_DEFAULT
    least_slice_ms: int = 0


@dataclass(frozen=True, slots=True)
class Permissions:
    """What the plugin may touch beyond its inputs."""

    read: tuple[str, ...] = ()
    gpu: bool = False
    network: bool = False

    def words(self) -> frozenset[str]:
        """Each permission as one word, for comparing two grants."""
        flags = {name for name in ("gpu", "network") if getattr(self, name)}
        return frozenset({f"read:{name}" for name in self.read} | flags)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked manifest. `own` is the table named after the pack; `imports` comes from the lock."""

    pack: str
    id: str
    version: str
    title: str
    lane: str
    limits: Limits
    family: str
    path: Path
    code_path: Path
    manifest_sha256: str
    code_sha256: str
    decision_capable: bool = False
    diagnostic_only: bool = False
    requires_downstream_mapping: bool = False
    terminal_context: bool = False
    feeds: tuple[str, ...] = ()
    needs: Needs = field(default_factory=Needs)
    access: tuple[str, ...] = ()
    permissions: Permissions = field(default_factory=Permissions)
    contracts_in: tuple[str, ...] = ()
    contracts_out: tuple[str, ...] = ()
    estimate_ms: int = 1000
    trust: str = "package"
    settings: Mapping[str, Json] = field(default_factory=dict)
    api: str = "1"
    own: Mapping[str, Json] = field(default_factory=dict)
    imports: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`pack/id`, unique in an installation."""
        return f"{self.pack}/{self.id}"

    @property
    def lock_sha256(self) -> str:
        """One hash over manifest and code."""
        fields = (self.manifest_sha256.encode(), self.code_sha256.encode())
        return tagged_hash(_PLUGIN_TAG, *fields).hex()

    @property
    def step_needs(self) -> tuple[str, ...]:
        """Ids of the steps that must settle first."""
        return self.needs.plugins

    @property
    def tolerates(self) -> tuple[str, ...]:
        """Ids among the needs whose bad end does not stop this step."""
        return self.needs.tolerates


def load_manifest(path: Path, pack: str, plugins_dir: Path) -> Manifest:
    """Read one manifest and hash its code; no plugin code runs.

    Raises:
        PluginRefused: the subclass says why.
    """
    label = f"{pack}/{path.stem}"
    for file in (path, path.with_suffix(".py")):
        if not file.resolve().is_relative_to(plugins_dir.resolve()):
            raise PluginPathEscape(
                label, f"expected {file.name} inside the plugin folder, found a link out of it"
            )
    raw = _read(path, label)
    code_path = path.with_suffix(".py")
    if not code_path.is_file():
        raise PluginManifestInvalid(label, f"expected its code in {code_path.name}, found no such file")
    document = _parse_toml(raw, label)
    return parse_manifest(
        document,
        pack,
        path=path,
        manifest_sha256=address_of(raw),
        code_sha256=address_of(code_path.read_bytes()),
    )


def parse_manifest(
    document: Mapping[str, Any], pack: str, *, path: Path, manifest_sha256: str = "", code_sha256: str = ""
) -> Manifest:
    """Check a manifest's document, fault by fault in a fixed order.

    Raises:
        PluginRefused: the subclass says why.
    """
    label = f"{pack}/{path.stem}"
    _refuse_escaping_id(document, label)
    _refuse_laneless(document, label)
    _refuse_api(document, label)
    _refuse_against_contract(document, pack, path, label)
    manifest = _build(document, pack, path, manifest_sha256, code_sha256)
    for check in _CHECKS:
        check(manifest)
    return manifest


def api_accepts(text: str) -> bool:
    """Whether this range of plugin API versions holds ours. Anything unreadable does not."""
    try:
        return all(_bound_holds(part.strip()) for part in text.split(","))
    except ValueError:
        return False


def _read(path: Path, label: str) -> bytes:
    raw = path.read_bytes()
    if len(raw) > MANIFEST_BYTES_MAX:
        raise PluginManifestInvalid(label, f"expected at most {MANIFEST_BYTES_MAX} bytes, found {len(raw)}")
    return raw


def _parse_toml(raw: bytes, label: str) -> dict[str, Any]:
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as problem:
        raise PluginManifestInvalid(label, f"expected TOML in UTF-8, found {problem}") from problem


def _refuse_escaping_id(document: Mapping[str, Any], label: str) -> None:
    plugin_id = document.get("id")
    if isinstance(plugin_id, str) and ("/" in plugin_id or "\\" in plugin_id or plugin_id.startswith(".")):
        raise PluginPathEscape(label, f"expected an id that names a file here, found {plugin_id!r}")


def _refuse_laneless(document: Mapping[str, Any], label: str) -> None:
    lane = document.get("lane")
    if lane not in LANES:
        raise PluginLaneMissing(label, f"expected lane {' or '.join(LANES)}, found {lane!r}")


def _refuse_api(document: Mapping[str, Any], label: str) -> None:
    wanted = document.get("api")
    if isinstance(wanted, str) and not api_accepts(wanted):
        ours = ".".join(str(part) for part in API_VERSION)
        raise PluginApiRange(label, f"expected a range that holds plugin API {ours}, found {wanted!r}")


def _refuse_against_contract(document: Mapping[str, Any], pack: str, path: Path, label: str) -> None:
    try:
        load_contracts().validate("plugin.manifest", dict(document))
    except (SterlingError, ValueError, TypeError) as problem:
        raise PluginManifestInvalid(label, str(problem)) from problem
    if document["id"] != path.stem:
        raise PluginManifestInvalid(
            label, f"expected id {path.stem!r} like its file, found {document['id']!r}"
        )
    foreign = sorted(name for name in _PACKS if name in document and name != pack)
    if foreign:
        raise PluginManifestInvalid(
            label, f"expected no table of another pack, found [{'], ['.join(foreign)}]"
        )


def _build(
    document: Mapping[str, Any], pack: str, path: Path, manifest_sha256: str, code_sha256: str
) -> Manifest:
    limits = dict(document["limits"])
    limits.setdefault("cpu_ms", limits["wall_ms"] * _CPU_PER_WALL)
    contracts = document.get("contracts", {})
    simple = {name: document[name] for name in _PLAIN_FIELDS if name in document}
    return Manifest(
        pack=pack,
        path=path,
        code_path=path.with_suffix(".py"),
        manifest_sha256=manifest_sha256,
        code_sha256=code_sha256,
        limits=Limits(**limits),
        needs=Needs(**_tuples(document.get("needs", {}))),
        permissions=Permissions(**_tuples(document.get("permissions", {}))),
        feeds=tuple(document.get("feeds", ())),
        access=tuple(document.get("access", ())),
        contracts_in=tuple(contracts.get("in", ())),
        contracts_out=tuple(contracts.get("out", ())),
        own=document.get(pack, {}),
        **simple,
    )


def _tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}


def _check_roles(manifest: Manifest) -> None:
    if manifest.lane == "decision" and (not manifest.decision_capable or manifest.diagnostic_only):
        raise PluginLaneRoleConflict(
            manifest.name,
            "expected decision_capable and not diagnostic_only in the decision lane, found otherwise",
        )
    if manifest.lane == "explanation" and manifest.decision_capable:
        raise PluginLaneRoleConflict(
            manifest.name, "expected no decision_capable in the explanation lane, found it set"
        )


def _check_downstream(manifest: Manifest) -> None:
    if manifest.requires_downstream_mapping and not manifest.feeds:
        raise PluginDownstreamMissing(
            manifest.name, "expected feeds, because requires_downstream_mapping is set, found none"
        )
    mapped = bool(manifest.feeds) and manifest.requires_downstream_mapping
    if manifest.lane == "explanation" and not mapped and not manifest.terminal_context:
        raise PluginDownstreamMissing(
            manifest.name,
            "expected feeds with requires_downstream_mapping, or terminal_context, found neither",
        )


def _check_conflicts(manifest: Manifest) -> None:
    needs, feeds = set(manifest.needs.plugins), set(manifest.feeds)
    if manifest.id in needs | feeds:
        raise PluginConflict(
            manifest.name, "expected needs and feeds to name others, found the plugin itself"
        )
    both = sorted(needs & feeds)
    if both:
        raise PluginConflict(
            manifest.name, f"expected a plugin to be needed or fed, found both for {', '.join(both)}"
        )
    loose = sorted(set(manifest.needs.tolerates) - needs)
    if loose:
        raise PluginConflict(manifest.name, f"expected tolerates to name needs, found {', '.join(loose)}")


def _check_network(manifest: Manifest) -> None:
    if manifest.trust == "untrusted" and manifest.permissions.network:
        raise PluginUntrustedNetwork(
            manifest.name, "expected no network for an untrusted plugin, found network = true"
        )


def _check_contracts(manifest: Manifest) -> None:
    contracts = load_contracts()
    named = set(manifest.contracts_in + manifest.contracts_out)
    unknown = sorted(name for name in named if not contracts.has(name))
    if unknown:
        raise PluginContractUnknown(
            manifest.name, f"expected contracts that exist, found {', '.join(unknown)}"
        )


_CHECKS: tuple[Callable[[Manifest], None], ...] = (
    _check_roles,
    _check_downstream,
    _check_conflicts,
    _check_network,
    _check_contracts,
)


def _bound_holds(part: str) -> bool:
    for sign in (">=", "<=", "==", "<", ">"):
        if part.startswith(sign):
            bound = _version(part[len(sign) :].strip())
            ours = API_VERSION
            return {
                ">=": ours >= bound,
                "<=": ours <= bound,
                "==": ours == bound,
                "<": ours < bound,
                ">": ours > bound,
            }[sign]
    bound = _version(part)
    return bound[0] == API_VERSION[0] and bound <= API_VERSION


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or "0")
