"""Evidence in and out of the ledger: attempts, facts and baselines as records.

What grows with a suite (results, listings) lies in blobs that the records name;
records hold summaries. Everything that was used to read a report is kept beside
it, so that the reading can be repeated from the ledger alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sterling.kernel.batch import Batch
from sterling.kernel.canonical import Json, canonical_bytes, parse_canonical
from sterling.kernel.home import Home
from sterling.kernel.records import Record, RecordRef, Source
from sterling.packs.ci.baseline import Baseline, KeyParts, baseline_from_json
from sterling.packs.ci.delta import Delta
from sterling.packs.ci.exits import ProcessEnd
from sterling.packs.ci.facts import Facts, clean_text, facts_from_json
from sterling.packs.ci.runner import Attempt, Prepared, profile_of

__all__ = [
    "AttemptRefs",
    "ReadingInputs",
    "key_parts",
    "load_baseline",
    "load_delta_states",
    "load_facts",
    "read_blob_json",
    "record_attempt",
    "record_baseline",
    "record_delta",
    "record_facts",
]


@dataclass(frozen=True, slots=True)
class AttemptRefs:
    """The records of one attempt."""

    run: RecordRef
    facts: RecordRef
    environment: RecordRef
    snapshot: RecordRef | None


@dataclass(frozen=True, slots=True)
class ReadingInputs:
    """What besides its bytes decided how a report was read."""

    paths: Sequence[str] = ()
    runner: str = ""
    root: str = ""
    end: ProcessEnd | None = None

    def as_json(self, home: Home) -> dict[str, Json]:
        end = self.end
        return {
            "paths": home.blobs.put(canonical_bytes(list(self.paths))),
            "runner": self.runner,
            "root": self.root,
            "end": None
            if end is None
            else {"status": end.status, "signal": end.signal, "limit": end.limit, "started": end.started},
        }


def record_facts(
    home: Home,
    batch: Batch,
    facts: Facts,
    *,
    inputs: ReadingInputs,
    attempt: str = "",
    purpose: str = "ingest",
) -> RecordRef:
    """Add a `ci.facts` record; its results go to a blob."""
    results = home.blobs.put(canonical_bytes(facts.results_json()))
    document = {
        **facts.summary_json(),
        "run": batch.run,
        "attempt": attempt,
        "purpose": purpose,
        "results": {"blob": results, "tests": len(facts.tests), "collectors": len(facts.collectors)},
        "reading": inputs.as_json(home),
    }
    sources = [Source("results", blob=results)]
    sources += [
        Source("report", blob=address) for address in dict.fromkeys(one.blob for one in facts.sources)
    ]
    return home.records.put(batch, "ci.facts", document, sources)


def record_attempt(home: Home, batch: Batch, attempt: Attempt, *, purpose: str) -> AttemptRefs:
    """Add everything one attempt left: environment, snapshot, run and facts."""
    prepared = attempt.prepared
    environment = home.records.put(
        batch,
        "ci.environment",
        {**prepared.environment.as_json(), "fingerprint": prepared.environment.fingerprint},
    )
    snapshot = None
    if attempt.snapshot is not None:
        kept = [("listing", attempt.snapshot["files"]["blob"])]
        kept += [("content", address) for address in sorted(set(attempt.snapshot["contents"].values()))]
        sources = [Source(role, blob=address) for role, address in kept]
        snapshot = home.records.put(batch, "ci.snapshot", attempt.snapshot, sources)
    inputs = ReadingInputs(
        paths=[entry.path for entry in prepared.listing.entries],
        runner=profile_of(prepared.order.argv),
        root=str(prepared.place.tree),
        end=_process_end(attempt),
    )
    facts = record_facts(home, batch, attempt.facts, inputs=inputs, attempt=attempt.id, purpose=purpose)
    document = {
        **_run_document(attempt),
        "purpose": purpose,
        "environment": environment.id,
        "snapshot": snapshot.id if snapshot else "",
    }
    sources = [Source("environment", record=environment.id), Source("facts", record=facts.id)]
    sources += [Source(name, blob=stream["blob"]) for name, stream in sorted(attempt.streams.items())]
    if snapshot:
        sources.append(Source("snapshot", record=snapshot.id))
    run = home.records.put(batch, "ci.run", document, sources)
    return AttemptRefs(run, facts, environment, snapshot)


def record_baseline(home: Home, batch: Batch, baseline: Baseline, facts: Sequence[RecordRef]) -> RecordRef:
    """Add a `ci.baseline` record; the whole baseline lies in a blob, as the one-file form holds it."""
    content = home.blobs.put(canonical_bytes(baseline.as_json()))
    document = {
        "key": baseline.key,
        "parts": baseline.parts.as_json(),
        "facts": facts[0].id if facts else "",
        "runs": [ref.id for ref in facts],
        "healthy": baseline.healthy,
        "why": baseline.why,
        "unstable": list(baseline.unstable),
        "commit": baseline.commit,
        "dirty": baseline.dirty,
        "tally": dict(baseline.facts.tally),
        "gate_hash": baseline.facts.gate_hash,
        "content": content,
        "notes": list(baseline.notes),
    }
    sources = [Source("content", blob=content), *(Source("facts", record=ref.id) for ref in facts)]
    return home.records.put(batch, "ci.baseline", document, sources)


def record_delta(
    home: Home, batch: Batch, delta: Delta, *, baseline: str, facts: str, reruns: Sequence[str]
) -> RecordRef:
    """Add a `ci.delta` record; the states lie in a blob."""
    whole = delta.as_json()
    states = home.blobs.put(canonical_bytes(whole.pop("states")))
    document = {
        **whole,
        "baseline": baseline,
        "facts": facts,
        "reruns": list(reruns),
        "states": {"blob": states, "count": len(delta.states)},
    }
    sources = [Source("states", blob=states), Source("facts", record=facts)]
    sources += [Source("rerun", record=name) for name in reruns]
    if baseline:
        sources.append(Source("baseline", record=baseline))
    return home.records.put(batch, "ci.delta", document, sources)


def load_facts(home: Home, record_id: str) -> Facts:
    """The facts of a `ci.facts` record.

    Errors: record.absent, integrity.record-altered, blob.altered, blob.absent.
    """
    document = home.records.get(record_id).document
    return facts_from_json(document, read_blob_json(home, document["results"]["blob"]))


def load_baseline(home: Home, record: Record) -> Baseline:
    """The baseline of a `ci.baseline` record. Errors: as `load_facts`."""
    return baseline_from_json(read_blob_json(home, record.document["content"]))


def load_delta_states(home: Home, record: Record) -> dict[str, Json]:
    """The states of a `ci.delta` record, by test id. Errors: as `load_facts`."""
    states: dict[str, Json] = read_blob_json(home, record.document["states"]["blob"])
    return states


def read_blob_json(home: Home, address: str) -> Json:
    """The document in a blob that this pack wrote."""
    data = home.blobs.get(address)
    return parse_canonical(data, limit=len(data))


def key_parts(prepared: Prepared) -> KeyParts:
    """What a baseline of this copy would hold for."""
    return KeyParts(
        tree=prepared.tree,
        lock=prepared.environment.lock,
        argv=tuple(clean_text(word) for word in prepared.given),
        version=prepared.environment.version,
        platform=prepared.environment.platform,
        plugins=prepared.environment.plugins,
    )


def _run_document(attempt: Attempt) -> dict[str, Json]:
    """The attempt itself: what was run where, under which bounds, and how it ended."""
    prepared, end = attempt.prepared, attempt.end
    checkout, limits, status = prepared.checkout, prepared.order.limits, _process_end(attempt)
    return {
        "attempt": attempt.id,
        "argv_given": [clean_text(word) for word in prepared.given],
        "argv_run": [clean_text(word) for word in attempt.argv_run],
        "prefix": clean_text(prepared.order.repository.prefix),
        "tree": prepared.tree,
        "commit": checkout.commit,
        "dirty": checkout.dirty,
        "left_out": {
            "submodules": [clean_text(name) for name in checkout.submodules],
            "pointers": [clean_text(name) for name in checkout.pointers],
            "others": [clean_text(name) for name in checkout.left_out],
        },
        "lock": prepared.environment.lock,
        "led_to_copy": bool(prepared.variables.get("PYTHONPATH")),
        "started_us": attempt.started_us,
        "ended_us": attempt.ended_us,
        "exit": {
            "raw": status.status,
            "signal": status.signal,
            "limit": status.limit,
            "class": attempt.facts.exit_class,
        },
        "limits": {
            "wall_ms": limits.wall_ms,
            "memory_bytes": limits.memory_bytes,
            "output_bytes": limits.output_bytes,
            "processes": limits.processes,
        },
        "walls": sorted(end.walls) if end else [],
        "used": {
            "wall_us": end.wall_us if end else 0,
            "cpu_us": end.cpu_us if end else 0,
            "memory_bytes_max": end.rss_max if end else 0,
            "left_behind": end.left_behind if end else 0,
        },
        "streams": attempt.streams,
        "reports": [source.as_json() for source in attempt.facts.sources],
        "last_test": attempt.last_test,
    }


def _process_end(attempt: Attempt) -> ProcessEnd:
    end = attempt.end
    if end is None:
        return ProcessEnd(started=False)
    return ProcessEnd(end.status, end.signal, end.limit or "")
