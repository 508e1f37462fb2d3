"""The step cache beside a run: gathers key material, finds rows, keeps results and gives them back.

Rows are entries. `runtime.cached` has the subject `cache/KEY` and says how a
step ended under that key and at which addresses its result lies;
`runtime.step-key` has the subject `step-key/PACK/STEP` and keeps the parts of
the step's last execution, so that a miss can say what changed. Both are written
in the batch that settles the step. The ledger finds the newest entry of a
subject by its index, so a lookup costs the same in a long history.

A row is not evidence, and no report cites one. What a hit gives back is hashed
again, judged and accepted like a fresh result, and recorded in the new run.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sterling.kernel.batch import Batch
from sterling.kernel.blobs import BlobAbsent, BlobAltered
from sterling.kernel.canonical import Json
from sterling.kernel.contracts import load_contracts
from sterling.kernel.errors import SterlingError
from sterling.kernel.hashing import address_of
from sterling.kernel.home import Home
from sterling.runtime.cache import (
    CacheReason,
    Hit,
    KeyPartMissing,
    KeyParts,
    Material,
    Miss,
    Row,
    judge,
    key_parts,
    outcome_hash,
)
from sterling.runtime.engine import TaskEnd
from sterling.runtime.fingerprint import ParsedCode, code_hash, interpreter_words
from sterling.runtime.manifest import Manifest
from sterling.runtime.outcomes import Settled
from sterling.runtime.plan import LANE_POLICY_VERSION, Plan, Step

__all__ = ["Caching", "Look", "StepCache"]

_WORKER = "sterling.runtime.worker"
_JOURNAL = "journal"
_OUT = "out/"


@dataclass(frozen=True, slots=True)
class Caching:
    """What a pack says so that its steps may be reused.

    `inputs_of` names what a step reads by content: addresses and values, never
    paths. `journal_of` is the file that a worker writes beside its result, if
    any. `models` maps names to hashes of weights.
    """

    inputs_of: Callable[[Step], Mapping[str, Json]]
    journal_of: Callable[[Step], Path] | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    bypass: bool = False


@dataclass(slots=True)
class Look:
    """What was found for a step: its key, the verdict, and with a hit the end to settle."""

    parts: KeyParts | None
    verdict: Hit | Miss
    end: TaskEnd | None = None
    cached_from: str = ""
    detail: str = ""
    kept: Mapping[str, str] = field(default_factory=dict)

    def words(self) -> dict[str, Json]:
        """What the outcome of the step carries."""
        reasons = self.verdict.reasons if isinstance(self.verdict, Miss) else ()
        return {
            "cache_detail": self.detail,
            "cache_key": "" if self.parts is None else self.parts.key,
            "cache_reasons": [f"cache.{reason}" for reason in reasons],
            "cached_from": self.cached_from,
        }


class StepCache:
    """The cache as one run sees it."""

    def __init__(
        self,
        home: Home,
        run_id: str,
        plan: Plan,
        caching: Caching,
        *,
        provider: str,
        libraries: Mapping[str, str],
        settings: Mapping[str, Mapping[str, Json]],
    ) -> None:
        self._home, self._run_id, self._plan, self._caching = home, run_id, plan, caching
        self._modules = (provider, _WORKER) if provider else (_WORKER,)
        self._libraries, self._settings = libraries, settings
        self._outcomes: dict[str, str] = {}
        self._parsed = ParsedCode()

    def look(self, step: Step, manifest: Manifest, out_dir: Path) -> Look:
        """Whether the step may be reused; with a hit its files lie where a worker would have put them."""
        try:
            parts = key_parts(self._material(step, manifest))
        except (SterlingError, OSError) as problem:
            detail = problem.message if isinstance(problem, SterlingError) else str(problem)
            return Look(None, judge(None, None, None, bypass=self._caching.bypass), detail=detail[:500])
        entry = self._home.ledger.newest(f"cache/{parts.key}")
        row = None if entry is None else Row(entry.payload["state"], entry.kind != "runtime.cached")
        look = Look(parts, judge(parts, row, self._last(step), bypass=self._caching.bypass))
        if isinstance(look.verdict, Hit):
            assert entry is not None
            self._give_back(step, look, entry.payload, out_dir)
        return look

    def settle(
        self,
        batch: Batch,
        step: Step,
        look: Look | None,
        settled: Settled,
        end: TaskEnd | None,
        out_dir: Path,
    ) -> None:
        """Keep what a step that ran gave, add its rows to the batch, and tell the steps that need it."""
        kept: Mapping[str, str] = {} if look is None else look.kept
        if look is not None and end is not None:
            is_reused = isinstance(look.verdict, Hit)
            try:
                if not is_reused and settled.state != "failed":
                    kept = self._keep(step, end, out_dir)  # Without a key too: what follows sees its bytes.
                if look.parts is not None and (not is_reused or settled.state == "failed"):
                    self._add_rows(batch, step, look.parts, settled, kept)
            except (SterlingError, OSError):
                return  # What cannot be kept is not reused, nor what needs it; the step is unharmed.
        self._outcomes[step.id] = outcome_hash(settled.state, settled.reason, settled.because, kept)

    def _add_rows(
        self, batch: Batch, step: Step, parts: KeyParts, settled: Settled, kept: Mapping[str, str]
    ) -> None:
        about: dict[str, Json] = {"key": parts.key, "pack": self._plan.pack, "step": step.id}
        last = {**about, "parts": parts.as_json()}
        batch.append("runtime.step-key", last, subject=f"step-key/{self._plan.pack}/{step.id}")
        files = [{"blob": address, "name": name} for name, address in sorted(kept.items())]
        row: dict[str, Json] = {
            **about,
            "files": files if settled.state != "failed" else [],
            "source": f"{self._run_id}/{step.id}",
            "state": settled.state,
        }
        batch.append("runtime.cached", row, subject=f"cache/{parts.key}")

    def _keep(self, step: Step, end: TaskEnd, out_dir: Path) -> dict[str, str]:
        """Put what a step gave into the blobs; addresses by name."""
        put = self._home.blobs
        kept = {"result": put.put(json.dumps(end.result, ensure_ascii=False).encode())}
        for artifact in (end.result or {}).get("artifacts", ()):
            path = out_dir / artifact["path"]
            if not path.resolve().is_relative_to(out_dir.resolve()):
                raise KeyPartMissing(
                    f"expected artifact {artifact['path']} inside its folder, found a link out"
                )
            kept[_OUT + artifact["path"]] = put.put_file(path)
        if self._caching.journal_of is not None and self._caching.journal_of(step).exists():
            kept[_JOURNAL] = put.put_file(self._caching.journal_of(step))
        return kept

    def _material(self, step: Step, manifest: Manifest) -> Material:
        code, raw = manifest.code_path.read_bytes(), manifest.path.read_bytes()
        for what, data, expected in (
            ("code", code, manifest.code_sha256),
            ("manifest", raw, manifest.manifest_sha256),
        ):
            if address_of(data) != expected:
                raise KeyPartMissing(
                    f"expected {what} of {manifest.name} as it was checked, found it changed"
                )
        lacking = sorted(set(manifest.needs.models) - set(self._caching.models))
        if lacking:
            raise KeyPartMissing(f"expected hashes of models {', '.join(lacking)}, found none")
        unseen = sorted(set(step.needs) - set(self._outcomes))
        if unseen:
            raise KeyPartMissing(f"expected what {', '.join(unseen)} gave to be kept, found it was not")
        contracts = load_contracts()
        used = [contracts.get(name) for name in manifest.contracts_in + manifest.contracts_out]
        return Material(
            step=f"{manifest.name} {step.id}",
            code=code_hash(code, self._modules, parsed=self._parsed),
            manifest=tomllib.loads(raw.decode("utf-8")),
            settings={**manifest.settings, **self._settings.get(step.id, {})},
            inputs=self._caching.inputs_of(step),
            upstream={need: self._outcomes[need] for need in step.needs},
            seed=self._plan.seed,
            mode=self._plan.mode,
            lane_policy_version=LANE_POLICY_VERSION,
            interpreter=interpreter_words(),
            libraries=self._libraries,
            models={name: self._caching.models[name] for name in manifest.needs.models},
            contracts={contract.id: contract.sha256 for contract in used},
        )

    def _last(self, step: Step) -> KeyParts | None:
        entry = self._home.ledger.newest(f"step-key/{self._plan.pack}/{step.id}")
        return None if entry is None else KeyParts(**entry.payload["parts"])

    def _give_back(self, step: Step, look: Look, row: Mapping[str, Any], out_dir: Path) -> None:
        """Read and hash everything the row names, then write the files; wrong bytes make the hit a miss."""
        found: dict[str, bytes] = {}
        for file in row["files"]:
            try:
                found[file["name"]] = self._home.blobs.get(file["blob"])
            except (BlobAltered, BlobAbsent) as problem:
                self._tell_tampered(row, file["blob"])
                look.verdict, look.detail = Miss((CacheReason.TAMPERED,)), problem.message[:500]
                return
            except SterlingError as problem:  # Archived out of reach, or under a key that is not here.
                look.verdict, look.detail = Miss((CacheReason.KEY_ERROR,)), problem.message[:500]
                return
        for name, data in found.items():
            if name.startswith(_OUT):
                path = out_dir / name.removeprefix(_OUT)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            elif name == _JOURNAL and self._caching.journal_of is not None:
                self._caching.journal_of(step).write_bytes(data)
        look.end = TaskEnd(step.id, "returned", json.loads(found["result"]))
        look.cached_from = row["source"]
        look.kept = {file["name"]: file["blob"] for file in row["files"]}

    def _tell_tampered(self, row: Mapping[str, Any], address: str) -> None:
        """Written at once: until a fresh result is kept, nobody reuses this row again."""
        batch = Batch(run=self._run_id)
        about = {name: row[name] for name in ("key", "pack", "step", "source", "state")}
        batch.append("runtime.cache-tampered", {**about, "address": address}, subject=f"cache/{row['key']}")
        self._home.ledger.commit(batch)
