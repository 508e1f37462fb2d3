"""Walking a citation down to the pixels, recomputing every hash on the way.

The walk trusts nothing that the citation says: each record is read and hashed,
the state text is made again from the reading's own words, the picture rebuilt
from its tiles. The first thing that does not hold is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sterling.kernel.canonical import Json
from sterling.kernel.errors import EXIT_BROKEN, SterlingError
from sterling.kernel.home import Home
from sterling.packs.recall.ask.cite import quote_of
from sterling.packs.recall.ask.entail import is_said
from sterling.packs.recall.ask.operators import SEEN_AT, seen_text
from sterling.packs.recall.ocr.agree import same_token
from sterling.packs.recall.ocr.reading import tokens_of
from sterling.packs.recall.pixels.read import rebuild
from sterling.packs.recall.screen.lines import arrange, union

__all__ = ["CitationBroken", "Recheck", "Step", "check_citation", "check_claim", "recheck", "walk_answer"]


class CitationBroken(SterlingError):
    """A citation does not lead to the pixels it names."""

    code = "recall.citation-broken"
    hint = "Run `sterling verify --blobs`; it names what was changed."
    exit = EXIT_BROKEN


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was recomputed; `because` says why it is broken, '' when it holds."""

    step: str
    what: str
    because: str = ""

    @property
    def state(self) -> str:
        return "broken" if self.because else "ok"

    def as_json(self) -> dict[str, Json]:
        return {
            "step": self.step,
            "what": self.what[:400],
            "state": self.state,
            "because": self.because[:600],
        }


@dataclass(frozen=True, slots=True)
class Recheck:
    """How much of a run was checked again, and what did not hold."""

    checked: int
    problems: tuple[str, ...]


def check_citation(home: Home, citation: Mapping[str, Json]) -> list[Step]:
    """Recompute everything a citation stands on; the steps, all of which hold.

    Errors: CitationBroken, naming the first step that does not.
    """
    steps = walk_citation(home, citation)
    if steps[-1].because:
        last = steps[-1]
        raise CitationBroken(f"{last.step}: {last.because}", step=last.step, what=last.what)
    return steps


def walk_citation(home: Home, citation: Mapping[str, Json]) -> list[Step]:
    """The steps of a citation down to its pixels; the walk ends at the first broken one."""
    steps: list[Step] = []
    for name, what, look in _STEPS:
        named = str(citation.get(what, ""))
        try:
            because = look(home, citation)
        except SterlingError as problem:
            because = f"{problem.code}: {problem.message}"
        except (KeyError, TypeError, ValueError, IndexError, AssertionError) as problem:
            because = f"The citation is not whole: {type(problem).__name__} {problem}."
        steps.append(Step(name, named, because))
        if because:
            break
    return steps


def check_claim(home: Home, claim: Mapping[str, Json], zone: str) -> list[Step]:
    """Walk every citation of a claim, and test that the claim's words stand in what is cited.

    Errors: CitationBroken.
    """
    steps = [step for citation in claim["citations"] for step in check_citation(home, citation)]
    first = claim["citations"][0]
    if claim["kind"] == SEEN_AT:
        said = claim["text"] == seen_text(int(first["at_us"]), zone)
    elif claim["kind"] == "count":
        said = str(claim["text"]).isdigit() and int(claim["text"]) >= len(claim["citations"])
    else:
        said = is_said(str(claim["text"]), str(first["quote"]))
    if not said:
        raise CitationBroken(
            f"claim: the cited characters do not say {str(claim['text'])[:80]!r}", step="claim"
        )
    try:
        because = _look_at_check(home, claim)
    except SterlingError as problem:
        because = f"{problem.code}: {problem.message}"
    if because:
        raise CitationBroken(f"check: {because}", step="check")
    return [*steps, Step("claim", str(claim["text"])), Step("check", str(claim["check"]["verdict"]))]


def walk_answer(home: Home, record_id: str) -> list[tuple[str, list[Step]]]:
    """Every claim of a recorded answer with the steps of its citations, broken ones included."""
    document = home.records.get(record_id).document
    found: list[tuple[str, list[Step]]] = []
    for claim in document["claims"]:
        steps = [step for citation in claim["citations"] for step in walk_citation(home, citation)]
        if not any(step.because for step in steps):
            try:
                steps = check_claim(home, claim, str(document["zone"]))
            except CitationBroken as problem:
                steps.append(Step(str(problem.details["step"]), str(claim["text"]), problem.message))
        found.append((str(claim["text"]), steps))
    return found


def recheck(home: Home, run_id: str) -> Recheck:
    """Check again what a run of this pack claims: its answers' citations, its frames' pixels, its states."""
    checked = 0
    problems: list[str] = []
    for contract, look in _RECHECKS.items():
        for entry in home.ledger.read(kind="record.put", contract=contract, run=run_id):
            checked += 1
            record_id = str(entry.payload["id"])
            try:
                problems += [f"{record_id}: {found}" for found in look(home, record_id)]
            except SterlingError as problem:
                problems.append(f"{record_id}: {problem.code}: {problem.message}")
    return Recheck(checked, tuple(problems))


def _recheck_answer(home: Home, record_id: str) -> list[str]:
    walks = walk_answer(home, record_id)
    return [f"{step.step}: {step.because}" for _, steps in walks for step in steps if step.because]


def _recheck_frame(home: Home, record_id: str) -> list[str]:
    document = home.records.get(record_id).document
    rebuild(document["manifest"], document["frame_hash"], home.blobs.get)
    return []


def _recheck_state_text(home: Home, record_id: str) -> list[str]:
    because = _made_again(home, record_id)
    return [because] if because else []


_RECHECKS: dict[str, Callable[[Home, str], list[str]]] = {
    "recall.answer": _recheck_answer,
    "recall.frame": _recheck_frame,
    "recall.state-text": _recheck_state_text,
}


# The steps, in order. Each returns '' or why it is broken.


def _look_at_entry(home: Home, citation: Mapping[str, Json]) -> str:
    entry = home.ledger.entry(int(citation["entry"]))
    if entry is None or entry.kind != "record.put" or entry.payload["id"] != citation["state_text"]:
        return f"Entry {citation['entry']} does not write the cited state text."
    return ""


def _look_at_state_text(home: Home, citation: Mapping[str, Json]) -> str:
    record = home.records.get(str(citation["state_text"]))
    if record.hash != citation["state_text_hash"]:
        return f"Expected hash {citation['state_text_hash']}, found {record.hash}."
    if record.document["state"] != citation["state"]:
        return "The state text belongs to another state."
    return _made_again(home, record.id)


def _made_again(home: Home, state_text_id: str) -> str:
    """The state text must be what the reading's own words give."""
    record = home.records.get(state_text_id)
    state = home.records.get(str(record.document["state"]))
    text = home.records.get(str(state.document["text"]))
    arranged = arrange(tokens_of(text.document))
    spans = [[start, end, *box] for start, end, box in arranged.spans]
    if arranged.text != record.document["text"] or spans != record.document["spans"]:
        return "The state text is not what its reading gives."
    return ""


def _look_at_span(home: Home, citation: Mapping[str, Json]) -> str:
    document = home.records.get(str(citation["state_text"])).document
    text, spans = str(document["text"]), citation["spans"]
    if not spans or any(not 0 <= start < end <= len(text) for start, end in spans):
        return f"The characters {spans} are not a part of the state text."
    if quote_of(text, spans) != citation["quote"]:
        return f"The cited characters read {quote_of(text, spans)[:80]!r}."
    boxes = []
    for start, end in spans:
        words = [tuple(span[2:]) for span in document["spans"] if span[0] < end and span[1] > start]
        if not words:
            return "The cited characters have no box."
        boxes.append(list(union(words)))
    if boxes != [list(box) for box in citation["boxes"]]:
        return f"Expected the boxes {boxes}, found {citation['boxes']}."
    return ""


def _look_at_reading(home: Home, citation: Mapping[str, Json]) -> str:
    text = home.records.get(str(citation["text"]))
    state = home.records.get(str(citation["state"]))
    if text.hash != citation["text_hash"]:
        return f"Expected hash {citation['text_hash']}, found {text.hash}."
    if state.document["text"] != text.id or state.document["frame"] != citation["frame"]:
        return "The state was made from another reading or frame."
    if text.document["frame"] != citation["frame"]:
        return "The reading is of another frame."
    if [model["sha256"] for model in text.document["models"]] != citation["models"]:
        return "The reading names other model files."
    return ""


def _look_at_tick(home: Home, citation: Mapping[str, Json]) -> str:
    tick = home.records.get(str(citation["tick"]))
    if tick.document["frame"] != citation["frame"] or tick.document["at_us"] != citation["at_us"]:
        return "The look shows another frame, or was taken at another time."
    if tick.entry != citation["tick_entry"]:
        return f"The look was written by entry {tick.entry}."
    return ""


def _look_at_frame(home: Home, citation: Mapping[str, Json]) -> str:
    frame = home.records.get(str(citation["frame"]))
    if frame.hash != citation["frame_record_hash"]:
        return f"Expected hash {citation['frame_record_hash']}, found {frame.hash}."
    if frame.document["frame_hash"] != citation["frame_hash"]:
        return f"Expected the pixels {citation['frame_hash']}, found {frame.document['frame_hash']}."
    return ""


def _look_at_pixels(home: Home, citation: Mapping[str, Json]) -> str:
    document = home.records.get(str(citation["frame"])).document
    rebuild(document["manifest"], str(citation["frame_hash"]), home.blobs.get)
    width, height = int(document["width"]), int(document["height"])
    for left, top, right, bottom in citation["boxes"]:
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            return "A box lies outside the picture."
    return ""


_STEPS: tuple[tuple[str, str, Callable[[Home, Mapping[str, Json]], str]], ...] = (
    ("entry", "entry", _look_at_entry),
    ("state-text", "state_text", _look_at_state_text),
    ("span", "quote", _look_at_span),
    ("reading", "text", _look_at_reading),
    ("tick", "tick", _look_at_tick),
    ("frame", "frame", _look_at_frame),
    ("pixels", "frame_hash", _look_at_pixels),
)


def _look_at_check(home: Home, claim: Mapping[str, Json]) -> str:
    """A verdict of agreed must be what the two recorded readings give."""
    check = claim["check"]
    if check["verdict"] == "single":
        return "" if check["agreement"] is None else "A comparison is named that says nothing."
    record = home.records.get(str(check["agreement"]))
    first = claim["citations"][0]
    if record.document["frame"] != first["frame"] or record.document["a"] != first["text"]:
        return "The comparison is of another reading."
    if record.document["boxes"] != [list(box) for box in first["boxes"]]:
        return "The comparison is of other pixels."
    if record.document["verdict"] != check["verdict"]:
        return f"The comparison says {record.document['verdict']}."
    pairs = record.document["tokens"]
    second = {str(token["text"]) for token in home.records.get(str(record.document["b"])).document["tokens"]}
    if check["verdict"] == "agreed" and not all(
        same_token("".join(pair["a"].split()), "".join(pair["b"].split())) for pair in pairs
    ):
        return "The comparison's words do not agree."
    if any(word not in second for pair in pairs for word in str(pair["b"]).split()):
        return "The second reading does not hold the words of the comparison."
    return ""
