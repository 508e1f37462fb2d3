"""Toy plugins: a fleet written into a folder, with its manifests and its lock.

For tests of plugins and of what runs them. The files are real and the workers
that run them are real; only the ideas are small.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sterling.runtime.plugin_lock import make_lock, scan_plugins, write_lock
from sterling.runtime.registry import Registry, load_registry

__all__ = ["MANIFEST", "Fleet", "toml"]

_MIB = 1024 * 1024

MANIFEST: Mapping[str, Any] = {
    "version": "1.0",
    "title": "A toy",
    "lane": "explanation",
    "decision_capable": False,
    "terminal_context": True,
    "access": [],
    "family": "plain",
    "api": "1",
    "limits": {"memory_bytes": 256 * _MIB, "wall_ms": 20_000, "cpu_ms": 20_000, "output_bytes": _MIB},
}
_OK = 'def run():\n    return Ok([Finding("toy", "A toy was here.", {"rows": [1]})])\n'


class Fleet:
    """A folder that looks like the package: `packs/<pack>/plugins`, and a lock beside it."""

    def __init__(self, root: Path, pack: str = "insight") -> None:
        self.root, self.pack = root, pack
        self.folder = root / "packs" / pack / "plugins"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = root / "plugins.lock"

    def add(self, plugin: str, code: str = _OK, /, *, file: str = "", **changes: Any) -> Path:
        """Write a plugin; `changes` replace keys of its manifest, None leaves one out. Gives its path."""
        document = {"id": plugin, **MANIFEST, **changes}
        document = {name: value for name, value in document.items() if value is not None}
        path = self.folder / f"{file or plugin}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(toml(document), encoding="utf-8")
        words = "from sterling.runtime.plugin_api import *\n\n\n" + code
        path.with_suffix(".py").write_text(words, encoding="utf-8")
        return path

    def decision(self, plugin: str, code: str = _OK, /, **changes: Any) -> Path:
        """Write a plugin of the decision lane."""
        return self.add(
            plugin, code, lane="decision", decision_capable=True, terminal_context=None, **changes
        )

    def write_lock(self) -> None:
        """Pin what lies in the folder now."""
        write_lock(make_lock(scan_plugins((self.pack,), root=self.root).manifests, root=self.root), self.lock)

    def registry(self) -> Registry:
        """Pin and load."""
        self.write_lock()
        return load_registry(self.pack, root=self.root, lock=self.lock)


def toml(document: Mapping[str, Any]) -> str:
    """A manifest as TOML: plain keys first, then tables."""
    plain = [
        f"{name} = {json.dumps(value)}" for name, value in document.items() if not isinstance(value, Mapping)
    ]
    tables = [
        "\n".join(["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())])
        for name, table in document.items()
        if isinstance(table, Mapping)
    ]
    return "\n".join([*plain, *tables]) + "\n"
