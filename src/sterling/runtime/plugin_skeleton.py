"""The beginning of a plugin: a manifest, code that works, and a test that passes.

The skeleton asks a small real question of a table, so its author changes
something that runs. It is written where the author says, never over anything,
and never into a lock: `sterling plugins lock` is a step of its own.
"""

from __future__ import annotations

import re
from pathlib import Path

from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.runtime.manifest import load_manifest
from sterling.runtime.plugin_lock import PACKS

__all__ = ["PluginNotBegun", "write_skeleton"]

_ID = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_LANES = {
    "decision": "decision_capable = true",
    "explanation": "decision_capable = false\nterminal_context = true",
}
_MANIFEST = """\
id = "{id}"
version = "0.1.0"
title = "{title}: which rows have an empty cell"
lane = "{lane}"
{flags}
access = ["table"]
family = "plain"
estimate_ms = 100
api = "1"

[needs]
rows_min = 1

[limits]
memory_bytes = 268435456
wall_ms = 60000
"""
_CODE = '''\
"""{title}: which rows have an empty cell."""

from sterling.runtime.plugin_api import Finding, Na, Ok, Outcome, Table


def run(table: Table) -> Outcome:
    if table.row_count == 0:
        return Na("{pack}.too-few-rows", "The table has no row to look at.")
    empty = [index for index, row in enumerate(table.rows()) if any(cell in (None, "") for cell in row)]
    claim = f"{{len(empty)}} of {{table.row_count}} rows have an empty cell."
    return Ok([Finding("{kind}", claim, evidence=table.cite(empty), values={{"rows": len(empty)}})])
'''
_TEST = '''\
"""{title}: the promises of every plugin, and its own answer."""

from pathlib import Path

from sterling.testing.plugin_contract import PluginContract


class Test{camel}(PluginContract):
    manifest = Path(__file__).with_name("{id}.toml")
    pack = "{pack}"

    def test_rows_with_an_empty_cell_are_counted_and_cited(self) -> None:
        (finding,) = self.answer(self.table)["findings"]

        assert finding["values"] == {{"rows": 1}}
        assert finding["evidence"]["rows"] == [1]
'''


class PluginNotBegun(SterlingError):
    """A plugin cannot be begun under this id, for this pack or in this folder."""

    code = "plugin.not-begun"
    hint = "Name another id or folder: `sterling plugins new ID --out FOLDER`."
    exit = EXIT_USAGE


def write_skeleton(plugin: str, *, lane: str, pack: str, folder: Path) -> list[Path]:
    """Write manifest, code and test into the folder; gives their paths.

    Raises:
        PluginNotBegun: the id is no id, the pack does not exist, or a file is there already.
    """
    if not _ID.fullmatch(plugin):
        raise PluginNotBegun(f"expected an id of small letters, digits, _ and -, found {plugin[:100]!r}")
    if pack not in PACKS or lane not in _LANES:
        raise PluginNotBegun(f"expected a pack of {', '.join(PACKS)}, found {pack[:100]!r}")
    words = plugin.replace("_", " ").replace("-", " ")
    fields = {
        "camel": "".join(word.capitalize() for word in words.split()),
        "flags": _LANES[lane],
        "id": plugin,
        "kind": plugin.replace("_", "-"),
        "lane": lane,
        "pack": pack,
        "title": words.capitalize(),
    }
    files = {
        folder / f"{plugin}.toml": _MANIFEST,
        folder / f"{plugin}.py": _CODE,
        folder / f"test_{plugin.replace('-', '_')}.py": _TEST,
    }
    there = [path for path in files if path.exists() or path.is_symlink()]
    if there:
        raise PluginNotBegun(f"expected no file yet, found {there[0]}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, template in files.items():
            with path.open("x", encoding="utf-8") as file:
                file.write(template.format(**fields))
    except OSError as problem:
        raise PluginNotBegun(f"expected a folder that can be written, found {problem}") from problem
    load_manifest(folder / f"{plugin}.toml", pack, folder)
    return list(files)
