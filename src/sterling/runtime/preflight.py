"""Preflight: which steps may start at all, decided before any of them does.

The runtime checks what is not data: libraries (by their metadata, never by
importing them), models, contracts, permissions and GPU. What is absent is
`failed: need.*`; there is no other method to fall back to. The pack's own check
of facts (roles, columns, counts) is handed in and keeps its codes. The other
steps run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sterling.runtime.outcomes import Settled

__all__ = ["Facts", "PackCheck", "check", "check_all", "normal_name"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What this installation has. `libraries` maps normal names of distributions to versions."""

    libraries: Mapping[str, str] = field(default_factory=dict)
    contracts: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    permissions: frozenset[str] | None = None  # None: whatever the plugin lock grants.
    has_gpu: bool = False


PackCheck = Callable[[Any], Settled | None]


def normal_name(distribution: str) -> str:
    """A distribution's name as package indexes compare it."""
    return distribution.lower().replace("_", "-").replace(".", "-")


def check(manifest: Any, facts: Facts, pack_check: PackCheck | None = None) -> Settled | None:
    """The outcome of a step that may not start, or None for one that may.

    `manifest` needs `needs`, `permissions`, `contracts_in` and `contracts_out`.
    """
    for reason, what, missing in (
        ("need.library-missing", "library", _missing_libraries(manifest, facts)),
        ("need.model-missing", "model", sorted(set(manifest.needs.models) - facts.models)),
        ("need.contract-missing", "contract", _missing_contracts(manifest, facts)),
        ("need.gpu-missing", "GPU", ["one"] if manifest.permissions.gpu and not facts.has_gpu else []),
    ):
        if missing:
            return Settled("failed", reason, f"Needs {what} {', '.join(missing)}, found none.")
    if facts.permissions is not None:
        wider = sorted(manifest.permissions.words() - facts.permissions)
        if wider:
            return Settled(
                "failed", "plugin.permission-widened", f"Asks for {', '.join(wider)}, not granted."
            )
    return None if pack_check is None else pack_check(manifest)


def check_all(
    manifests: Iterable[Any], facts: Facts, pack_check: PackCheck | None = None
) -> dict[str, Settled]:
    """Every step that may not start, by plugin id."""
    found = ((manifest.id, check(manifest, facts, pack_check)) for manifest in manifests)
    return {plugin: settled for plugin, settled in found if settled is not None}


def _missing_libraries(manifest: Any, facts: Facts) -> list[str]:
    return sorted(name for name in manifest.needs.libraries if normal_name(name) not in facts.libraries)


def _missing_contracts(manifest: Any, facts: Facts) -> list[str]:
    return sorted(set(manifest.contracts_in + manifest.contracts_out) - facts.contracts)
