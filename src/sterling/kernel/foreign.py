"""Hash-chained JSON lines of other tools, checked under those tools' own rule.

A profile (TOML) states the rule; docs/reference/bundle-format.md lists its keys.
The file is kept as one blob, the profile as another, and the verdict as a record,
also when the chain is broken. A chain says nothing of fields that its hash does
not cover, and nothing of lines cut off its end: the first are listed, the second
nobody can know.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sterling.kernel.batch import Batch
from sterling.kernel.canonical import Json, canonical_bytes
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.home import Home
from sterling.kernel.records import Source

__all__ = [
    "ForeignVerdict",
    "Profile",
    "ProfileInvalid",
    "check_chain",
    "import_chain",
    "parse_profile",
]

_FORMS = ("jcs", "json-sorted", "json-as-written", "fields")
_ALGORITHMS = ("sha256", "sha384", "sha512", "sha3_256", "blake2b")
_INPUTS = ("content", "previous+content", "content+previous")


class ProfileInvalid(SterlingError):
    """A profile does not state a rule that can be followed."""

    code = "foreign.profile-invalid"
    hint = "Compare with docs/reference/bundle-format.md. See `sterling ledger import --help`."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Profile:
    """How another tool makes the hash of a line.

    The content is the line's object without the fields in `omit`, written as
    `form` says, or for `fields` the values named in `order`, joined by `joint`.
    The hash is of the `input`; a line keeps it in the field `hash`, after `prefix`.
    A line keeps the hash before it in the field `previous` (empty: nowhere), the
    first line keeps `genesis`.
    """

    name: str
    hash: str
    form: str
    genesis: str = ""
    previous: str = ""
    input: str = "content"
    algorithm: str = "sha256"
    prefix: str = ""
    joint: str = ""
    omit: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    ascii: bool = False
    spaces: bool = False


@dataclass(frozen=True, slots=True)
class ForeignVerdict:
    """What the rule says: `holds`, or `broken` at a line (counted from 1) with a reason."""

    verdict: str
    lines: int
    head: str
    bad_line: int | None
    reason: str
    uncovered: tuple[str, ...]


def parse_profile(data: bytes) -> Profile:
    """Errors: ProfileInvalid."""
    try:
        given = tomllib.loads(data.decode("utf-8"))
    except ValueError as problem:
        raise ProfileInvalid(f"expected TOML, found: {problem}") from problem
    lists = {"omit", "order"}
    for name, value in given.items():
        kind = next((str(each.type) for each in fields(Profile) if each.name == name), "")
        is_list = name in lists and isinstance(value, list) and all(type(each) is str for each in value)
        if not is_list and kind != type(value).__name__:
            raise ProfileInvalid(f"expected a profile's keys and types, found {name} = {value!r:.80}")
    missing = [name for name in ("name", "hash", "form") if not given.get(name)]
    if missing:
        raise ProfileInvalid(f"expected {', '.join(missing)}, found nothing")
    values: dict[str, Any] = {name: tuple(each) if name in lists else each for name, each in given.items()}
    profile = Profile(**values)
    for name, allowed in (("form", _FORMS), ("algorithm", _ALGORITHMS), ("input", _INPUTS)):
        if getattr(profile, name) not in allowed:
            raise ProfileInvalid(f"expected {name} one of {', '.join(allowed)}, found {given[name]!r:.80}")
    if (profile.form == "fields") != bool(profile.order):
        raise ProfileInvalid("expected an order of fields for the form fields, and for no other")
    if profile.form != "fields" and profile.hash not in profile.omit:
        raise ProfileInvalid(f"expected {profile.hash} among the omitted fields: no hash covers itself")
    is_linked = "previous" in profile.input or (
        profile.previous and (profile.previous in profile.order or profile.form != "fields")
    )
    if not is_linked or (
        profile.previous and profile.input == "content" and profile.previous in profile.omit
    ):
        raise ProfileInvalid("expected the hash to cover the hash before it, found a rule without a chain")
    return profile


def check_chain(data: bytes, profile: Profile) -> ForeignVerdict:
    """Check a file under a rule; the first line that does not follow decides."""
    head, count, uncovered = profile.genesis, 0, set[str]()
    for count, raw in enumerate(_lines(data), start=1):
        try:
            line = json.loads(raw.decode("utf-8"), object_pairs_hook=_object)
            if not isinstance(line, dict):
                raise ValueError("it is no object")
            if profile.previous and line.get(profile.previous) != head:
                raise ValueError(f"its {profile.previous} is not the hash of the line before it")
            content, covered = _content(line, profile)
            found = profile.prefix + _digest(content, head, profile)
            if line.get(profile.hash) != found:
                raise ValueError(f"its {profile.hash} is not the hash of its content")
        except (SterlingError, ValueError, LookupError, RecursionError) as problem:
            return ForeignVerdict("broken", count - 1, head, count, str(problem), tuple(sorted(uncovered)))
        head = found
        uncovered |= line.keys() - covered - {profile.hash, profile.previous}
    if not count:
        return ForeignVerdict("broken", 0, head, 1, "there is no line", ())
    return ForeignVerdict("holds", count, head, None, "", tuple(sorted(uncovered)))


def import_chain(home: Home, file: Path, profile_file: Path) -> dict[str, Json]:
    """Keep the file, the profile and the verdict; says what was found and where it is kept.

    Cost:   the file is held in memory.
    Errors: ProfileInvalid, BlobSourceUnreadable.
    """
    try:
        rule = profile_file.read_bytes()
    except OSError as problem:
        raise ProfileInvalid(f"expected to read {profile_file}, found: {problem.strerror}") from problem
    profile = parse_profile(rule)
    address = home.blobs.put_file(file)
    found = check_chain(home.blobs.get(address), profile)
    bad = None if found.bad_line is None else {"line": found.bad_line, "reason": found.reason[:1000]}
    document: dict[str, Json] = {
        "first_bad": bad,
        "head": found.head,
        "lines": found.lines,
        "rule": profile.name,
        "uncovered": list(found.uncovered),
        "verdict": found.verdict,
    }
    batch = Batch()
    sources = [Source("chain", blob=address), Source("profile", blob=home.blobs.put(rule))]
    record = home.records.put(batch, "foreign.chain", document, sources)
    if not home.records.has(record.id):
        home.ledger.commit(batch)
    same = {name: document[name] for name in ("first_bad", "uncovered", "verdict")}
    return same | {"origin": profile.name, "entries": found.lines, "blob": address, "record": record.id}


def _lines(data: bytes) -> Iterator[bytes]:
    """Every line; only the newline at the very end stands for nothing."""
    lines = data.split(b"\n")
    yield from lines[:-1] if not lines[-1] else lines


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    line = dict(pairs)
    if len(line) != len(pairs):
        raise ValueError("it names a field twice")
    return line


def _content(line: dict[str, Json], profile: Profile) -> tuple[bytes, set[str]]:
    """The bytes that the hash covers, and the fields that they hold."""
    if profile.form == "fields":
        parts = [_plain(line[name]) for name in profile.order]
        return profile.joint.encode("utf-8").join(parts), set(profile.order)
    kept = {name: value for name, value in line.items() if name not in profile.omit}
    if profile.form == "jcs":
        return canonical_bytes(kept, floats=True), set(kept)
    separators = (", ", ": ") if profile.spaces else (",", ":")
    is_sorted = profile.form == "json-sorted"
    text = json.dumps(kept, sort_keys=is_sorted, separators=separators, ensure_ascii=profile.ascii)
    return text.encode("utf-8"), set(kept)


def _plain(value: Json) -> bytes:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8")


def _digest(content: bytes, previous: str, profile: Profile) -> str:
    joint, before = profile.joint.encode("utf-8"), previous.encode("utf-8")
    whole = {
        "content": content,
        "previous+content": before + joint + content,
        "content+previous": content + joint + before,
    }
    return hashlib.new(profile.algorithm, whole[profile.input]).hexdigest()
