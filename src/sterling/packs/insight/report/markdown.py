"""report.md: the report as plain text. It renders report.json and adds no figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sterling.kernel.canonical import Json

__all__ = ["FINDINGS_SHOWN", "PROFILES_SHOWN", "render"]

FINDINGS_SHOWN = 60
PROFILES_SHOWN = 100
_SPECIAL = str.maketrans({letter: f"\\{letter}" for letter in "\\`*_{}[]<>|#!~"})


def render(report: Mapping[str, Json]) -> str:
    """The report in Markdown."""
    body, telemetry = report["body"], report["telemetry"]
    parts = (
        _top(body, telemetry),
        _findings(body),
        _columns(body),
        _reading(body),
        _outcomes(body),
        _lineage(report),
    )
    return "\n".join(line for part in parts for line in part) + "\n"


def _top(body: Mapping[str, Json], telemetry: Mapping[str, Json]) -> Iterator[str]:
    yield f"# What {_text(telemetry['source_name'])} says"
    yield ""
    yield " ".join(_text(sentence) for sentence in body["answer"])
    yield ""
    yield f"Run {_text(telemetry['run'])}: **{body['status']}**."
    yield ""
    yield "## Actions"
    yield ""
    yield "None. No decision plugin ran, so nothing here is a recommendation."
    yield ""


def _findings(body: Mapping[str, Json]) -> Iterator[str]:
    yield "## Findings"
    yield ""
    if not body["findings"]:
        yield "None."
    for row in body["findings"][:FINDINGS_SHOWN]:
        yield f"{row['place']}. **{row['strength']}** {_text(row['claim'])}"
        row_set = row["evidence"]["row_set"]
        if row_set is not None and row_set["rows"]:
            more = " ..." if row_set["rows"] > len(row_set["first"]) else ""
            yield f"   Rows {', '.join(f'{number:,}' for number in row_set['first'])}{more}."
            if row["strength"] == "suspect":
                yield from _cells(row_set)
        next_step = "" if row["next_step"] == "Nothing to do." else f"{_text(row['next_step'])} "
        yield f"   {next_step}Evidence: {row['record']}."
    yield ""
    left = len(body["findings"]) - FINDINGS_SHOWN + body["findings_left_out"]
    if left > 0:
        yield "More findings stand in report.json and findings.jsonl."
        yield ""


def _cells(row_set: Mapping[str, Json]) -> Iterator[str]:
    """The cells of the first rows, one row a line."""
    for number, cells in zip(row_set["first"], row_set["cells"], strict=False):
        pairs = zip(row_set["shown"], cells, strict=True)
        yield f"   - row {number:,}: " + ", ".join(f"{_text(name)} {_text(cell)}" for name, cell in pairs)


def _columns(body: Mapping[str, Json]) -> Iterator[str]:
    yield "## Columns"
    yield ""
    yield from _table(
        ["column", "type", "filled", "different", "missing %", "from", "to", "most frequent"],
        [
            [
                row["name"],
                row["type"],
                row["facts"]["filled"],
                row["facts"]["distinct"],
                row["missing_percent"],
                row["facts"].get("lowest") or "",
                row["facts"].get("highest") or "",
                _most_frequent(row["facts"]),
            ]
            for row in body["profiles"][:PROFILES_SHOWN]
        ],
    )
    if len(body["profiles"]) > PROFILES_SHOWN or body["profiles_left_out"]:
        yield "More columns stand in report.json and findings.jsonl."
        yield ""


def _most_frequent(facts: Mapping[str, Json]) -> str:
    levels = facts.get("levels") or []
    return f"{levels[0]['level']} ({levels[0]['cells']:,})" if levels else ""


def _reading(body: Mapping[str, Json]) -> Iterator[str]:
    yield "## How it was read"
    yield ""
    for figure in body["figures"]:
        yield f"- {figure['label']}: {figure['value']:,}"
    for row in body["rejects"]:
        lines = ", ".join(f"{line:,}" for line in row["first_lines"])
        yield f"- rejected as {row['reason']}: {row['rows']:,} (first lines: {lines})"
    for note in body["source"]["notes"]:
        yield f"- {_text(note)}"
    yield ""
    noted = [row for row in body["mapping"] if row["notes"] or row["changed"] or row["unparsed"]]
    if noted:
        yield from _table(
            ["column", "type", "rule", "respelled", "unreadable", "why"],
            [
                [
                    row["name"],
                    row["type"],
                    row["reading"],
                    row["changed"],
                    row["unparsed"],
                    "; ".join(row["notes"]),
                ]
                for row in noted[:PROFILES_SHOWN]
            ],
        )
    if body["questions"]:
        yield "### Questions"
        yield ""
        for question in body["questions"][:PROFILES_SHOWN]:
            yield f"- {_text(question['text'])}"
        yield ""


def _outcomes(body: Mapping[str, Json]) -> Iterator[str]:
    yield "## What ran"
    yield ""
    yield from _table(
        ["step", "lane", "outcome", "reason", "because", "next step"],
        [
            [row["step"], row["lane"], row["state"], row["reason"], row["because"], row["next_step"]]
            for row in body["outcomes"]
        ],
    )
    yield from _table(
        ["lane", "planned", "ok", "failed", "na", "findings"],
        [
            [lane, row["planned"], row["ok"], row["failed"], row["na"], row["findings"]]
            for lane, row in sorted(body["lanes"].items())
        ],
    )
    yield from _table(
        ["preflight", "verdict", "because"],
        [[row["plugin"], row["verdict"], row["because"]] for row in body["preflight"]],
    )


def _lineage(report: Mapping[str, Json]) -> Iterator[str]:
    body = report["body"]
    lineage = body["lineage"]
    yield "## Where this comes from"
    yield ""
    yield f"- source SHA-256: {body['source']['sha256']} ({body['source']['size_bytes']:,} bytes)"
    yield f"- normalized table: {body['table']['normalized']}"
    yield f"- records: {lineage['source_record']}, {lineage['table_record']}, {lineage['mapping_record']}"
    yield f"- mode {lineage['mode'].replace('_', ' ')}, seed {lineage['seed']}, plan {lineage['plan_sha256']}"
    for plugin in lineage["plugins"]:
        yield f"- {_text(plugin['id'])} {plugin['version']}, locked as {plugin['lock_sha256']}"
    versions = (f"{name} {text}" for name, text in sorted(lineage["versions"].items()))
    yield f"- computed with {', '.join(versions)}"
    tried = body["registry"]
    yield f"- hypotheses registered: {tried['tests']:,}, with a finding: {tried['reported']:,}"
    yield f"- body SHA-256: {report['body_sha256']}"
    yield ""
    yield f"Check every figure again: `sterling verify {report['telemetry']['run']}`"


def _table(heads: Sequence[str], rows: Sequence[Sequence[Json]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{' --- |' * len(heads)}"
    for row in rows:
        cells = (f"{cell:,}" if isinstance(cell, int) else _text(str(cell)) for cell in row)
        yield f"| {' | '.join(cells)} |"
    yield ""


def _text(untrusted: str) -> str:
    """Text of the data in Markdown: nothing in it is a sign, and it stays on its line."""
    flat = "".join(letter if letter.isprintable() else "\ufffd" for letter in untrusted)
    return flat.translate(_SPECIAL)
