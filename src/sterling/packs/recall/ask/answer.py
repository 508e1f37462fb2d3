"""From a question to a recorded answer: understood, searched, checked, judged, kept.

The steps are phases of an attended run, so every question has an end that
anybody can read back. A claim is made only from pixels that were read; where
something was not looked at, the answer says what, and which command looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sterling.kernel.batch import Batch
from sterling.kernel.canonical import Json
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home
from sterling.kernel.records import Source
from sterling.packs.recall.ask.check import SINGLE, Check, Checker, known_check
from sterling.packs.recall.ask.cite import cite, line_of
from sterling.packs.recall.ask.entail import is_entailed
from sterling.packs.recall.ask.operators import SEEN_AT, Proposal, Question, propose
from sterling.packs.recall.ask.plan import PLAN_VERSION, Plan, plan_question
from sterling.packs.recall.ask.retrieve import Found, find_screens, sightings_of
from sterling.packs.recall.ask.states import Verdict, decide
from sterling.packs.recall.coverage import Coverage, Gap, coverage_of, gaps_of
from sterling.packs.recall.moments import zone_of
from sterling.packs.recall.reasons import REASONS, Reason
from sterling.packs.recall.search.index import RecallIndex, open_index
from sterling.packs.recall.search.support import supports
from sterling.packs.recall.stage2 import last_failure
from sterling.packs.recall.time.parse import TimeParse, parse
from sterling.packs.recall.time.window import Window
from sterling.runtime.plan import of_phases
from sterling.runtime.runs import Run, open_run

__all__ = ["Answer", "answer"]

_PHASES = (("understand", ()), ("search", ("understand",)), ("check", ("search",)), ("answer", ("check",)))
_TRIES_MAX = 3
_QUESTION_KEPT = 4000
_TWO_OF_THREE = "Two of three readings of the cited pixels agree; the third is kept beside them."
_DROP_SLACK = 0.001
_MISS_LEAST = 0.35
_MISSES_MAX = 3
_TIME_REFUSALS = frozenset({Reason.TIME_FUTURE})


@dataclass(frozen=True, slots=True)
class Answer:
    """A recorded answer: its document (`recall.answer`), and where it is kept."""

    document: dict[str, Json]
    record: str
    record_hash: str
    run: str
    entry: int

    @property
    def state(self) -> str:
        return str(self.document["state"])


@dataclass(frozen=True, slots=True)
class _Heard:
    """A question, understood: its time, its plan, and the windows to look at."""

    text: str
    now_us: int
    zone: str
    time: TimeParse
    plan: Plan
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one way of understanding found."""

    heard: _Heard
    found: Found
    proposals: tuple[Proposal, ...]


def answer(
    home: Home,
    question: str,
    *,
    now_us: int | None = None,
    zone: str | None = None,
    window: Window | None = None,
    check: bool = True,
) -> Answer:
    """Ask the record. The answer, whatever its state, is a record of its own.

    `check` reads the cited pixels a second time where that was not done before.
    Errors: ZoneUnknown, IndexBehind, and what an altered store raises.
    """
    moment = home.clock.wall_us() if now_us is None else now_us
    plan = of_phases("recall", _PHASES)
    title = "ask" if home.is_encrypted else "ask " + " ".join(question.split())[:60]
    with (
        open_run(home, pack="recall", plan=plan, origin="attended", title=title) as run,
        open_index(home) as index,
    ):
        return _Asking(home, run, index, check).ask(question, moment, zone, window)


class _Asking:
    """One question on its way through the phases."""

    def __init__(self, home: Home, run: Run, index: RecallIndex, check: bool) -> None:
        self._home, self._run, self._index, self._check = home, run, index, check

    def ask(self, question: str, now_us: int, zone: str | None, window: Window | None) -> Answer:
        heard = self._hear(question, now_us, zone or self._zone(), window)
        stop = _stop(heard)
        if stop is not None:
            self._pass_over(("search", "check"), stop)
            coverage = coverage_of(self._index.connection, heard.windows)
            return self._keep(heard, None, stop, [], [], coverage, [], [])
        seen = self._search(heard)
        coverage = coverage_of(self._index.connection, seen.heard.windows)
        gaps = self._gaps(seen.heard, coverage)
        claims, dropped = self._claim(seen)
        verdict = decide(
            seen.heard.plan.operator, [claim["check"]["verdict"] for claim in claims], len(dropped), gaps
        )
        if verdict.state == "answered" and any(claim["check"]["against"] for claim in claims):
            verdict = replace(verdict, sentence=_TWO_OF_THREE)
        misses = [] if claims else self._misses(seen)
        return self._keep(seen.heard, seen.found, verdict, claims, dropped, coverage, gaps, misses)

    # Understanding

    def _zone(self) -> str:
        row = self._index.connection.execute(
            """SELECT s.zone FROM ticks JOIN sessions s ON s.record = ticks.session
               ORDER BY ticks.entry DESC LIMIT 1"""
        ).fetchone()
        return "UTC" if row is None else str(row[0])

    def _hear(self, question: str, now_us: int, zone: str, window: Window | None) -> _Heard:
        zone_of(zone)
        time = parse(question, now_us=now_us, zone=zone)
        taken = time.spans if time.role in ("seen", "unsure") else ()
        plan = plan_question(question, taken)
        windows = time.windows if time.role in ("seen", "unsure") else ()
        if window is not None:
            windows = tuple(item.meet(window) for item in windows) or (window,)
        words = f"{plan.operator} of kind {plan.kind}, {len(plan.wanted)} words"
        self._run.settle(
            "understand", "ok", "ok", words if plan.refusal is None else f"Refused: {plan.refusal}."
        )
        return _Heard(question, now_us, zone, time, plan, windows)

    def _search(self, heard: _Heard) -> _Seen:
        seen = self._look(heard)
        if heard.time.role == "unsure" and not seen.proposals:
            as_content = TimeParse(role="content", words=heard.time.words, notes=heard.time.notes)
            plan = plan_question(heard.text)
            other = self._look(_Heard(heard.text, heard.now_us, heard.zone, as_content, plan, ()))
            seen = other if other.proposals else seen
        words = f"{len(seen.found.screens)} of {seen.found.total} screens, {len(seen.proposals)} proposals"
        self._run.settle("search", "ok", "ok", words)
        return seen

    def _look(self, heard: _Heard) -> _Seen:
        found = find_screens(self._index.connection, heard.plan, heard.windows)
        question = Question(self._index.connection, heard.plan, found, heard.windows, heard.zone)
        return _Seen(heard, found, tuple(propose(question)))

    def _gaps(self, heard: _Heard, coverage: Coverage) -> list[Gap]:
        """What was not looked at; frames whose last reading failed are named by what failed."""
        gaps = gaps_of(self._index.connection, heard.windows, coverage)
        unread = next((gap for gap in gaps if gap.reason is Reason.READING_MISSING), None)
        failed = None if unread is None else last_failure(self._home)
        if unread is None or failed is None:
            return gaps
        code, because = failed
        reason = Reason(code) if code in (str(item) for item in Reason) else unread.reason
        sentence = f"{unread.sentence} The last try ended with {code}: {because}"
        return [
            replace(gap, reason=reason, sentence=sentence[:600]) if gap is unread else gap for gap in gaps
        ]

    # Claiming

    def _claim(self, seen: _Seen) -> tuple[list[dict[str, Json]], list[dict[str, Json]]]:
        claims: list[dict[str, Json]] = []
        dropped: list[dict[str, Json]] = []
        several = seen.heard.plan.operator in ("list", "when")
        checker = Checker(self._home, self._run.id, "check") if self._check else None
        problem = ""
        for proposal in seen.proposals:
            if len(dropped) >= _TRIES_MAX or (claims and not several):
                break
            if dropped and proposal.score < seen.proposals[0].score - _DROP_SLACK:
                break  # The next best is about something else; a guess is worse than none.
            screen, spans, _ = proposal.places[0]
            quoted = proposal.text if proposal.kind not in (SEEN_AT, "count") else proposal.candidate.text
            if not is_entailed(quoted, screen, spans, seen.found.terms):
                continue
            check = known_check(self._home, self._index, screen, spans)
            if check is None:
                check = SINGLE if checker is None else checker.check(screen, spans)
            problem = problem or check.because
            claim = self._document(proposal, check)
            (dropped if check.verdict == "disagreed" else claims).append(claim)
        self._settle_check(claims, dropped, problem)
        return claims, dropped

    def _settle_check(
        self, claims: Sequence[dict[str, Json]], dropped: Sequence[dict[str, Json]], problem: str
    ) -> None:
        verdicts = [claim["check"]["verdict"] for claim in (*claims, *dropped)]
        if problem:
            code = problem.partition(":")[0]
            self._run.settle("check", "failed", code if "." in code else str(Reason.CHECK_PENDING), problem)
        elif not verdicts or set(verdicts) == {"single"}:
            why = "There is no claim to check." if not verdicts else "No second reading was asked for."
            self._run.settle("check", "na", str(Reason.CHECK_PENDING), why)
        else:
            counted = ", ".join(f"{verdicts.count(name)} {name}" for name in sorted(set(verdicts)))
            self._run.settle("check", "ok", "ok", counted)

    def _document(self, proposal: Proposal, check: Check) -> dict[str, Json]:
        return {
            "text": proposal.text,
            "kind": proposal.kind,
            "line": line_of(proposal.candidate),
            "score_bp": min(20_000, round(proposal.score * 10_000)),
            "check": check.as_json(),
            "citations": [cite(self._home, *place) for place in proposal.places],
        }

    def _misses(self, seen: _Seen) -> list[dict[str, Json]]:
        rated: list[tuple[float, int, str, str]] = []
        for screen in seen.found.screens[:20]:
            for support in supports(screen, seen.found.terms):
                if support.share >= _MISS_LEAST:
                    text = screen.text_of(screen.segments[support.segment])
                    rated.append((support.share, screen.entry, text[:2000], screen.frame))
        rated.sort(key=lambda item: (-round(item[0], 6), -item[1], item[2]))
        misses = []
        for share, _, text, frame in rated[:_MISSES_MAX]:
            looks = sightings_of(self._index.connection, frame, seen.heard.windows)
            if looks:
                score = min(20_000, round(share * 10_000))
                misses.append({"text": text, "frame": frame, "at_us": looks[-1].at_us, "score_bp": score})
        return misses

    # Keeping

    def _pass_over(self, steps: Sequence[str], verdict: Verdict) -> None:
        for step in steps:
            self._run.settle(step, "na", str(verdict.reason), verdict.sentence)

    def _keep(
        self,
        heard: _Heard,
        found: Found | None,
        verdict: Verdict,
        claims: list[dict[str, Json]],
        dropped: list[dict[str, Json]],
        coverage: Coverage,
        gaps: list[Gap],
        misses: list[dict[str, Json]],
    ) -> Answer:
        manifest = self._index.manifest()
        offers = [gap.command for gap in gaps]
        if verdict.reason is Reason.CHECK_PENDING:
            offers.append(REASONS[Reason.CHECK_PENDING].next)
        document: dict[str, Json] = {
            "question": heard.text[:_QUESTION_KEPT],
            "now_us": heard.now_us,
            "zone": heard.zone,
            "plan": _plan_json(heard.plan, found),
            "time": _time_json(heard),
            "state": verdict.state,
            "reason": None if verdict.reason is None else str(verdict.reason),
            "sentence": verdict.sentence,
            "claims": claims,
            "dropped": dropped,
            "misses": misses,
            "coverage": coverage.as_json(),
            "gaps": [gap.as_json() for gap in gaps],
            "offers": list(dict.fromkeys(offers)),
            "index": manifest.as_json(),
        }
        batch = Batch(run=self._run.id, step="answer")
        ref = self._home.records.put(batch, "recall.answer", document, _sources(claims + dropped))
        self._run.settle("answer", "ok", "ok", f"{verdict.state}: {verdict.sentence}", batch=batch)
        try:
            receipt = self._home.ledger.commit(batch)
        except SterlingError:
            self._run.unsettle("answer")
            raise
        return Answer(document, ref.id, ref.hash, self._run.id, receipt.first)


def _stop(heard: _Heard) -> Verdict | None:
    """Why a question goes no further, or None."""
    refusal, problem = heard.plan.refusal, heard.time.problem
    if refusal is not None and (problem is None or refusal is not Reason.QUESTION_EMPTY):
        return Verdict("refused", refusal, REASONS[refusal].sentence)
    if problem is None:
        return None
    state = "refused" if problem in _TIME_REFUSALS else "indeterminate"
    return Verdict(state, problem, f"{REASONS[problem].sentence} {heard.time.because}")


def _sources(claims: Sequence[dict[str, Json]]) -> list[Source]:
    named = {
        (role, str(citation[field]))
        for claim in claims
        for citation in claim["citations"]
        for role, field in (
            ("frame", "frame"),
            ("text", "text"),
            ("state-text", "state_text"),
            ("tick", "tick"),
        )
    }
    return [Source(role, record=record) for role, record in sorted(named)]


def _plan_json(plan: Plan, found: Found | None) -> dict[str, Json]:
    terms = []
    for number, wanted in enumerate(plan.wanted):
        weight = 0 if found is None else round(found.terms[number].weight * 10_000)
        count = 0 if found is None else found.counts[number]
        terms.append({"text": wanted.text[:400], "must": wanted.must, "weight_bp": weight, "found": count})
    return {
        "operator": plan.operator,
        "kind": plan.kind,
        "terms": terms,
        "remainder": [word[:400] for word in plan.remainder],
        "version": PLAN_VERSION,
    }


def _time_json(heard: _Heard) -> dict[str, Json]:
    return {
        "windows": [{"from_us": window.from_us, "to_us": window.to_us} for window in heard.windows],
        "role": heard.time.role,
        "words": [word[:400] for word in heard.time.words],
        "notes": [note[:400] for note in heard.time.notes],
    }
