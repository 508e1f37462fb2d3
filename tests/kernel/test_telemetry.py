"""Telemetry comes out of the ledger: valid OTLP, no content, the same twice, and never in the way."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from sterling import app
from sterling.kernel import sinks, telemetry
from sterling.kernel.adapters import Ability
from sterling.kernel.batch import Batch
from sterling.kernel.home import Home, init_home, open_home
from sterling.kernel.lease_table import LeaseExpired
from sterling.kernel.ledger import StoredEntry
from sterling.kernel.locks import Role
from sterling.kernel.outbox import Effect
from sterling.kernel.sinks import whole_lines
from sterling.kernel.telemetry import Recorded, check_counters, has_ended_runs, record_telemetry, spans_of
from sterling.runtime.plan import of_phases
from sterling.runtime.runs import open_run
from sterling.testing.clock import FakeClock
from sterling.testing.receiver import FakeReceiver

SECRET = "the person wrote this sentence about a patient"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def home(tmp_path: Path, clock: FakeClock) -> Iterator[Home]:
    with init_home(tmp_path / "home", clock=clock) as made:
        yield made


def do_run(home: Home, *, state: str = "ok", steps: int = 2) -> str:
    names = [f"step-{number}" for number in range(steps)]
    plan = of_phases("insight", [(name, ()) for name in names], seed=1, mode="two_lane_strict")
    with open_run(home, pack="insight", plan=plan, origin="attended", title=SECRET, inputs=[SECRET]) as run:
        lease = home.leases.acquire("task/a", holder=SECRET)
        for name in names:
            home.clock.advance(2_000_000)  # type: ignore[attr-defined]
            run.settle(name, state, "ok" if state == "ok" else "plugin.raised", SECRET, wall_us=1_500_000)
        home.leases.release(lease)
    return run.id


def record(home: Home, **options: bool) -> Recorded:
    done = record_telemetry(home, app.span_rules(), app.counter_rules(), **options)
    assert done is not None
    return done


def spans(home: Home) -> list[Span]:
    """Every span of the file, read by the official schema; its hex ids become the bytes they mean."""
    found = []
    for line in whole_lines(home.path / "telemetry" / "traces.jsonl"):
        document = json.loads(line)
        for name in ("traceId", "spanId", "parentSpanId"):
            span = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
            if name in span:
                span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
        parsed = json_format.ParseDict(document, TracesData())
        found.append(parsed.resource_spans[0].scope_spans[0].spans[0])
    return found


def attributes(span: Span) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def test_a_run_gives_one_span_a_step_a_lease_and_the_run_in_one_trace(home: Home) -> None:
    run = do_run(home)

    done = record(home)

    found = spans(home)
    assert done.spans == 4 and not done.dropped
    assert [span.name for span in found] == [
        "sterling.step",
        "sterling.step",
        "sterling.lease",
        "sterling.run",
    ]
    *steps, lease, whole = found
    assert {len(span.trace_id) for span in found} == {16} and {len(span.span_id) for span in found} == {8}
    assert len({span.span_id for span in found}) == 4 and len({s.trace_id for s in (*steps, whole)}) == 1
    assert all(step.parent_span_id == whole.span_id for step in steps) and not whole.parent_span_id
    assert [s.end_time_unix_nano - s.start_time_unix_nano for s in (*steps, whole)] == [
        1_500_000_000,
        1_500_000_000,
        4_000_000_000,
    ]
    assert lease.end_time_unix_nano - lease.start_time_unix_nano == 4_000_000_000
    assert attributes(whole)["sterling.run"] == run and attributes(whole)["sterling.pack"] == "insight"


def test_a_lease_that_ran_out_ends_in_an_error(home: Home, clock: FakeClock) -> None:
    lease = home.leases.acquire("task/a", 1, holder="first")
    clock.advance(5_000_000)
    with pytest.raises(LeaseExpired):
        home.leases.release(lease)

    record(home)

    (span,) = spans(home)
    assert (span.name, span.status.code, span.status.message) == ("sterling.lease", 2, "lease.expired")
    assert span.end_time_unix_nano - span.start_time_unix_nano == 1_000_000_000


@pytest.mark.parametrize(
    ("script", "kind", "status", "why"),
    [
        ("ok", "effect.done", 0, ""),
        ("refused", "effect.dead", 2, "effect.refused"),
        ("abandoned", "effect.abandoned", 2, "person"),
    ],
)
def test_an_effect_is_a_span_from_its_putting_to_where_it_came(
    script: str, kind: str, status: int, why: str, home: Home, clock: FakeClock
) -> None:
    receiver, batch = FakeReceiver(Ability.FINDS), Batch()
    receiver.default = script
    effect = home.outbox.put(batch, Effect(SECRET, "file", "notes", {"n": SECRET}))
    home.ledger.commit(batch)
    other = Batch()
    home.outbox.put(other, Effect("another", "file", "later", {"n": 2}))
    home.ledger.commit(other)
    clock.advance(3_000_000)
    if script == "abandoned":
        home.outbox.abandon(effect, SECRET, "somebody")
    else:
        home.outbox.run_once({"file": receiver}, limit=1)

    record(home)

    (span,) = [span for span in spans(home) if span.name == "sterling.effect"]
    given = attributes(span)
    entry = next(home.ledger.read(kind=kind))
    assert given["sterling.entry.hash"] == entry.hash.hex() and entry.subject == effect
    assert span.end_time_unix_nano - span.start_time_unix_nano == 3_000_000_000
    assert (span.status.code, span.status.message) == (status, why) and not span.parent_span_id
    assert (given["sterling.adapter"], given["sterling.order_key"]) == ("file", "notes")
    assert SECRET not in str(given)


def test_every_span_names_the_entry_it_was_made_from(home: Home) -> None:
    do_run(home)
    record(home)

    for span in spans(home):
        given = attributes(span)
        entry = home.ledger.entry(given["sterling.entry.index"])
        assert entry is not None and entry.hash.hex() == given["sterling.entry.hash"]
        assert span.end_time_unix_nano == entry.at_us * 1000


def test_a_step_that_failed_is_an_error_with_its_code(home: Home) -> None:
    do_run(home, state="failed", steps=1)
    record(home)

    step, _, run = spans(home)
    assert (step.status.code, step.status.message) == (2, "plugin.raised")
    assert run.status.code == 2


def test_no_word_of_content_reaches_a_file(home: Home) -> None:
    do_run(home, state="failed")
    record(home, recount=True)

    written = b"".join(path.read_bytes() for path in (home.path / "telemetry").iterdir())
    assert b"sterling.step" in written
    for word in (*SECRET.split(" ")[1:3], "sentence", "patient"):
        assert word.encode() not in written


@pytest.mark.parametrize(
    "value", ["two words", "a\nb", "", "x" * 121, "ünï", "/etc/passwd", '{"a":1}', "<b>"]
)
def test_text_that_is_no_id_and_no_code_is_left_out(home: Home, value: str) -> None:
    payload = {"name": value, "token": 1, "renewals": 0, "held_us": 5}
    entry = StoredEntry(7, bytes(32), bytes(32), "lease.released", "", "", "", 10, b"", payload=payload)

    (span,) = spans_of(entry, app.span_rules(), home)

    assert "sterling.name" not in dict(span.attributes or {})
    assert dict(span.attributes or {})["sterling.token"] == 1


def test_every_line_of_every_file_parses_by_the_otlp_schema(home: Home) -> None:
    do_run(home)
    record(home)
    do_run(home)
    record(home, recount=True)

    folder = home.path / "telemetry"
    assert len(spans(home)) == 8
    for stream in ("metrics", "counters"):
        lines = whole_lines(folder / f"{stream}.jsonl")
        assert len(lines) == 2
        for line in lines:
            parsed = json_format.Parse(line, MetricsData())
            assert parsed.resource_metrics[0].scope_metrics[0].metrics


def test_a_second_pass_writes_only_what_is_new(home: Home) -> None:
    do_run(home)
    record(home)
    again = record(home)
    do_run(home, steps=1)
    third = record(home)

    assert (again.spans, third.spans) == (0, 3) and len(spans(home)) == 7


def test_the_same_ledger_gives_the_same_lines(home: Home) -> None:
    do_run(home)
    record(home)
    path = home.path / "telemetry" / "traces.jsonl"
    first = path.read_bytes()
    for name in ("state.json", "traces.jsonl"):
        (home.path / "telemetry" / name).rename(home.path / "telemetry" / f"{name}.old")

    record(home)

    assert path.read_bytes() == first


def test_a_note_of_the_last_pass_that_is_damaged_means_from_the_start(home: Home) -> None:
    do_run(home)
    record(home)
    for damage in (b"", b"{", b'{"next": 3}x', b'{"unknown": 1}', b"[]"):
        (home.path / "telemetry" / "state.json").write_bytes(damage)
        assert record(home).spans == 4


def test_counters_are_written_with_the_index_they_were_computed_at(home: Home) -> None:
    do_run(home)
    size = home.ledger.size()
    record(home)

    parsed = json_format.Parse(whole_lines(home.path / "telemetry" / "counters.jsonl")[0], MetricsData())
    resource = {each.key: each.value for each in parsed.resource_metrics[0].resource.attributes}
    metrics = {m.name: m for m in parsed.resource_metrics[0].scope_metrics[0].metrics}
    assert resource["sterling.entry.index"].int_value == size - 1
    points = metrics["sterling.steps_settled"].sum.data_points
    assert [(point.as_int, {a.key: a.value.string_value for a in point.attributes}) for point in points] == [
        (2, {"state": "ok", "reason": "ok"})
    ]
    assert [point.as_int for point in metrics["sterling.spans_dropped"].sum.data_points] == [0]


def test_counters_that_were_not_tampered_with_compare_equal_at_each_size(home: Home) -> None:
    for _ in range(3):
        do_run(home, steps=1)
        record(home, recount=True)

    assert len(whole_lines(home.path / "telemetry" / "counters.jsonl")) == 3
    assert check_counters(home, app.counter_rules()) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b'"asInt":"2"', b'"asInt":"3"', "steps_settled is not what the entries say: expected 2, found 3"),
        (b"sterling.writes_refused", b"sterling.writes_refusee", "found nothing"),
        (b'"intValue":"LAST"', b'"intValue":"4"', "is not what the entries say"),
        (b'"intValue":"LAST"', b'"intValue":"900"', "expected a ledger of that size"),
        (b"resourceMetrics", b"resourceMetric5", "is no line of counters"),
    ],
)
def test_a_line_of_counters_that_was_edited_is_found(home: Home, old: bytes, new: bytes, said: str) -> None:
    do_run(home)
    record(home)
    path = home.path / "telemetry" / "counters.jsonl"
    content = path.read_bytes()
    old = old.replace(b"LAST", b"%d" % (home.ledger.size() - 1))
    assert old in content
    path.write_bytes(content.replace(old, new, 1))

    problems = check_counters(home, app.counter_rules())

    assert problems and any(said in problem for problem in problems)


def test_counters_of_another_version_are_not_compared(home: Home) -> None:
    do_run(home)
    record(home)
    path = home.path / "telemetry" / "counters.jsonl"
    edited = path.read_bytes().replace(b'"asInt":"2"', b'"asInt":"3"')
    path.write_bytes(
        edited.replace(f'"version":"{telemetry.scope_version()}"'.encode(), b'"version":"0.0.0"')
    )

    assert check_counters(home, app.counter_rules()) == []


def test_what_was_dropped_is_an_entry_and_a_counter(home: Home) -> None:
    (home.path / "telemetry" / "traces.jsonl").mkdir()
    do_run(home)

    done = record(home)

    (entry,) = home.ledger.read(kind="telemetry.dropped")
    assert dict(done.dropped) == {"write-failed": 4}
    assert entry.payload == {"spans": 4, "causes": {"write-failed": 4}, "torn_lines": 0}
    assert telemetry.read_counters(home, app.counter_rules()).counts["spans_dropped"].value == 4


def test_drops_are_reported_at_most_once_a_minute_and_none_is_forgotten(home: Home, clock: FakeClock) -> None:
    (home.path / "telemetry" / "traces.jsonl").mkdir()
    for _ in range(3):
        do_run(home, steps=1)
        record(home)
    assert [e.payload["spans"] for e in home.ledger.read(kind="telemetry.dropped")] == [3]

    clock.advance(60_000_000)
    record(home)

    assert [e.payload["spans"] for e in home.ledger.read(kind="telemetry.dropped")] == [3, 6]


def test_a_torn_line_is_reported_too(home: Home) -> None:
    (home.path / "telemetry" / "traces.jsonl").write_bytes(b'{"resourceSp')
    do_run(home)

    assert record(home).torn_lines == 1
    (entry,) = home.ledger.read(kind="telemetry.dropped")
    assert entry.payload == {"spans": 0, "causes": {}, "torn_lines": 1} and len(spans(home)) == 4


def test_spans_made_plus_dropped_are_all_spans(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    do_run(home, steps=40)
    monkeypatch.setattr(telemetry, "LineSink", lambda folder: sinks.LineSink(folder, queue_lines_max=1))

    done = record(home)

    assert done.spans == 42
    assert (
        len(spans(home)) + sum(e.payload["spans"] for e in home.ledger.read(kind="telemetry.dropped")) == 42
    )


def test_a_long_backlog_is_written_in_passes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    do_run(home, steps=30)
    monkeypatch.setattr(telemetry, "_PASS_SPANS_MAX", 10)

    made = []
    while not made or made[-1].size < home.ledger.size():
        made.append(record(home))

    assert [done.spans for done in made] == [10, 10, 10, 2] and len(spans(home)) == 32
    assert len({span.span_id for span in spans(home)}) == 32


def test_counters_are_due_when_the_ledger_has_grown_by_a_tenth(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home.path / "telemetry" / "counters.jsonl"
    do_run(home, steps=100)
    record(home)
    do_run(home, steps=1)
    record(home)
    assert len(whole_lines(path)) == 1

    do_run(home, steps=10)
    record(home)
    assert len(whole_lines(path)) == 2

    monkeypatch.setattr(telemetry, "_COUNTED_ENTRIES_MAX", 100)
    do_run(home, steps=100)
    record(home)
    assert len(whole_lines(path)) == 2
    record(home, recount=True)
    assert len(whole_lines(path)) == 3


def test_two_processes_never_write_at_once(home: Home) -> None:
    do_run(home)
    other = Role(home.path / "run", "telemetry")
    other.take()

    assert record_telemetry(home, app.span_rules(), app.counter_rules()) is None

    other.release()
    assert record(home).spans == 4


def test_a_pass_is_due_once_a_run_has_ended(home: Home) -> None:
    batch = Batch()
    batch.append("process.ended", {"command": "x", "exit": 0})
    home.ledger.commit(batch)
    assert not has_ended_runs(home)

    do_run(home)
    assert has_ended_runs(home)

    record(home)
    assert not has_ended_runs(home)


def test_a_command_that_ends_a_run_leaves_telemetry_behind(tmp_path: Path) -> None:
    path = tmp_path / "home"
    init_home(path).close()
    plan = of_phases("insight", [("only", ())], seed=1, mode="two_lane_strict")

    with (
        app.open_app_home(path, read_only=False, create=False, settings=(), say=print) as opened,
        open_run(opened, pack="insight", plan=plan, origin="attended") as run,
    ):
        run.settle("only", "ok", "ok", "done")

    with open_home(path, read_only=True) as looked:
        assert [span.name for span in spans(looked)] == ["sterling.step", "sterling.run"]
        assert check_counters(looked, app.counter_rules()) == []


def test_a_failure_of_telemetry_is_said_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, said = tmp_path / "home", []
    init_home(path).close()
    (path / "telemetry").rmdir()
    (path / "telemetry").write_text("in the way")
    plan = of_phases("insight", [("only", ())], seed=1, mode="two_lane_strict")

    with (
        app.open_app_home(path, read_only=False, create=False, settings=(), say=said.append) as opened,
        open_run(opened, pack="insight", plan=plan, origin="attended") as run,
    ):
        run.settle("only", "ok", "ok", "done")

    assert len(said) == 1 and said[0].startswith("telemetry was not written: ")
    with open_home(path, read_only=True) as looked:
        assert [entry.payload["state"] for entry in looked.ledger.read(kind="run.closed")] == ["ok"]
        assert list(looked.ledger.read(kind="telemetry.dropped")) == []  # The spans are still due.


def test_every_span_rule_reads_fields_of_its_contract() -> None:
    known = app_contracts()

    for rule in app.span_rules():
        fields = known.get(rule.contract or rule.kind).schema["properties"]
        if rule.each:
            fields = fields[rule.each]["items"]["properties"]
        if rule.opened_by:
            fields = {**fields, **known.get(rule.opened_by).schema["properties"]}
        wanted = {*rule.attributes, *([rule.lasted] if rule.lasted else [])}
        assert wanted <= set(fields), rule.name


def app_contracts() -> Any:
    from sterling.kernel.contracts import load_contracts

    return load_contracts()


def test_the_sdk_is_imported_only_when_a_span_is_made(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom sterling import app\n"
        "from sterling.kernel.home import init_home\nfrom sterling.kernel.batch import Batch\n"
        "path = Path(sys.argv[1])\ninit_home(path).close()\n"
        "with app.open_app_home(path, read_only=False, create=False, settings=(), say=print) as home:\n"
        "    batch = Batch()\n    batch.append('process.ended', {'command': 'x', 'exit': 0})\n"
        "    home.ledger.commit(batch)\n"
        "print([name for name in ('opentelemetry', 'keyring', 'google.protobuf') if name in sys.modules])\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "home")], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"


def put(contract: str, document: dict[str, Any]) -> StoredEntry:
    payload = {
        "contract": f"{contract}@1.0",
        "id": "r-x",
        "hash": "0" * 64,
        "sources": [],
        "document": document,
    }
    return StoredEntry(
        9, b"\x01" * 32, bytes(32), "record.put", contract, "r-x", "run-1", 1_000, b"", payload=payload
    )


def test_a_refused_move_is_a_validation_with_the_event_of_a_violation(home: Home) -> None:
    document = {"task": "t-1", "from": "PLAN", "to": "VERIFY", "direction": "skip", "severity": "critical"}

    (span,) = spans_of(
        put("autopilot.transition", {**document, "decision": "refuse", "code": "transition.skip"}),
        app.span_rules(),
        home,
    )

    assert span.name == "process.validation" and span.status.description == "transition.skip"
    (event,) = span.events
    assert (event.name, dict(event.attributes or {})) == (
        "process.violation",
        {"sterling.code": "transition.skip"},
    )


def test_an_allowed_move_is_a_transition(home: Home) -> None:
    document = {
        "task": "t-1",
        "from": "PLAN",
        "to": "THINK",
        "direction": "forward",
        "decision": "allow",
        "code": "ok",
    }

    (span,) = spans_of(put("autopilot.transition", document), app.span_rules(), home)

    assert span.name == "agent.state.transition" and not span.events
    assert dict(span.attributes or {})["sterling.to"] == "THINK"


def test_every_gate_of_a_decision_is_a_span(home: Home) -> None:
    gates = [
        {"gate": "new-failures", "outcome": "failed", "code": "ci.new-failure", "closes": True},
        {"gate": "collection", "outcome": "ok", "code": "ok", "closes": True},
    ]

    failed, passed = spans_of(put("ci.decision", {"gates": gates}), app.span_rules(), home)

    assert failed.name == passed.name == "sterling.gate" and failed.context != passed.context
    assert failed.status.description == "ci.new-failure" and passed.status.description is None
    assert dict(failed.attributes or {})["sterling.gate"] == "new-failures"


def test_a_check_of_the_authority_lasts_as_long_as_it_ran(home: Home) -> None:
    document = {
        "task": "t-1",
        "phase": "VERIFY",
        "name": "tests",
        "state": "ok",
        "code": "ok",
        "wall_us": 700,
    }

    (span,) = spans_of(put("autopilot.check", document), app.span_rules(), home)

    assert (span.name, (span.end_time or 0) - (span.start_time or 0)) == ("agent.verify", 700_000)


def test_a_record_whose_document_is_not_here_gives_no_span(home: Home) -> None:
    entry = put("ci.decision", {})
    lacking = {key: value for key, value in entry.payload.items() if key != "document"}

    assert list(spans_of(replace(entry, payload=lacking), app.span_rules(), home)) == []


def test_a_pass_that_is_killed_is_made_up_for_and_ids_tell_what_came_twice(tmp_path: Path) -> None:
    path = tmp_path / "home"
    with init_home(path, clock=FakeClock()) as home:
        do_run(home, steps=60)
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom sterling import app\n"
        "from sterling.kernel import sinks\nfrom sterling.kernel.home import open_home\n"
        "from sterling.kernel.telemetry import record_telemetry\n"
        "really, written = sinks._write_all, []\n"
        "def write(descriptor, data):\n"
        "    written.append(data)\n"
        "    really(descriptor, data if len(written) < 30 else data[:100])\n"
        "    if len(written) == 30: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sinks._write_all = write\n"
        "with open_home(Path(sys.argv[1])) as home:\n"
        "    record_telemetry(home, app.span_rules(), app.counter_rules())\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(path)], check=False)

    with open_home(path) as home:
        done = record(home)
        found = [span.span_id for span in spans(home)]

    assert killed.returncode == -9 and done.torn_lines == 1 and done.spans == 62
    assert len(found) == 29 + 62 and len(set(found)) == 62
