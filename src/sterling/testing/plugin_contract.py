"""What every plugin promises, as a suite: subclass it in the plugin's own test and name the manifest.

The plugin runs in fresh processes, through the worker's own loading and calling,
on a tiny table that the subclass may replace. Inputs beyond the table and what
the worker gives (`settings`, `seed`, `progress`, `should_stop`, `out_dir`) belong
to a pack, whose suite extends this one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from sterling.kernel.canonical import canonical_bytes
from sterling.runtime import plugin_api
from sterling.runtime.manifest import Manifest, load_manifest
from sterling.runtime.outcomes import StepEnd, settle
from sterling.runtime.plugin_lock import refuse_imports
from sterling.runtime.worker import answer

__all__ = ["PluginContract", "TinyTable"]

_WAIT_S = 60


class TinyTable:
    """A table in memory, as the plugin API promises one. A citation names rows by their place."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self.columns = tuple(columns)
        self._rows = [tuple(row) for row in rows]

    @property
    def row_count(self) -> int:
        return len(self._rows)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._rows)

    def cite(self, rows: Sequence[int]) -> Mapping[str, Any]:
        return {"table": "tiny", "rows": list(rows), "of": self.row_count}

    def without_rows(self) -> TinyTable:
        """The same columns and nothing in them."""
        return TinyTable(self.columns, ())

    def as_json(self) -> dict[str, Any]:
        return {"columns": list(self.columns), "rows": [list(row) for row in self._rows]}


class PluginContract:
    """The suite. `manifest` is the plugin's TOML file; its code lies beside it."""

    manifest: ClassVar[Path]
    pack: ClassVar[str] = "insight"
    table: ClassVar[TinyTable] = TinyTable(
        ("id", "name", "amount"), ((1, "Ada", "3.5"), (2, "", "4.0"), (3, "Cy", "3.5"))
    )

    def checked(self) -> Manifest:
        """The manifest, as `sterling plugins check` reads it."""
        return load_manifest(self.manifest, self.pack, self.manifest.parent)

    def answer(self, table: TinyTable, *, hash_seed: int = 1) -> dict[str, Any]:
        """What the plugin returns for this table, from a process of its own."""
        manifest = self.checked()
        task = {
            "access": list(manifest.access),
            "code_path": str(manifest.code_path),
            "code_sha256": manifest.code_sha256,
            "defaults": dict(manifest.settings),
            "own": dict(manifest.own),
            "plugin": manifest.id,
            "provider": "",
            "seed": 1,
            "settings": {},
            "table": table.as_json(),
            "version": manifest.version,
        }
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            input=json.dumps(task).encode(),
            capture_output=True,
            timeout=_WAIT_S,
            env={"PYTHONHASHSEED": str(hash_seed)},
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-2000:]
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    def test_the_manifest_is_valid_and_the_code_imports_what_it_declares(self) -> None:
        refuse_imports(self.checked())

    def test_a_tiny_table_gives_an_outcome_that_the_runtime_accepts(self) -> None:
        settled = settle(self.checked(), self.answer(self.table), StepEnd("returned"))

        assert settled.state == "ok", settled

    def test_every_finding_cites(self) -> None:
        findings = self.answer(self.table)["findings"]

        assert findings
        assert [finding["kind"] for finding in findings if not finding["evidence"]] == []

    def test_the_same_input_gives_the_same_bytes(self) -> None:
        first, second = (self.answer(self.table, hash_seed=seed) for seed in (1, 2))

        assert canonical_bytes(first) == canonical_bytes(second)

    def test_an_empty_input_is_na_with_a_reason(self) -> None:
        settled = settle(self.checked(), self.answer(self.table.without_rows()), StepEnd("returned"))

        assert settled.state == "na", settled


def main() -> None:
    """One task on standard input, its result on standard output; what the plugin prints goes elsewhere."""
    task = json.loads(sys.stdin.buffer.read())
    task["inputs"] = {"table": TinyTable(task["table"]["columns"], task["table"]["rows"])}
    output, sys.stdout = sys.stdout, sys.stderr
    with tempfile.TemporaryDirectory() as folder, plugin_api.wired(Path(folder)):
        result = answer({**task, "out_dir": folder})
    json.dump(result, output, allow_nan=False)


if __name__ == "__main__":
    main()
