"""The scorer, tried on answers whose score is known beforehand."""

from __future__ import annotations

from typing import Any

import pytest

from sterling.packs.recall.evaluate.score import MEASURES, score
from sterling.packs.recall.evaluate.sets import SetQuestion

SIZES = {"f1": (1000, 800), "f2": (1000, 800)}


def question(
    name: str, kind: str = "lookup", answers: tuple[str, ...] = ("418.20",), state: str = ""
) -> SetQuestion:
    frames = ("f1",) if answers else ()
    boxes = {"f1": [[100, 100, 160, 112]]} if answers else {}
    return SetQuestion(name, kind, "?", answers, frames, boxes, state)


def prediction(
    answer: str | None = "418.20", frame: str = "f1", box: Any = (100, 100, 160, 112), state: str = "answered"
) -> dict[str, Any]:
    cited = [{"frame": frame, "box": list(box) if box is not None else None}] if answer else []
    return {"answer": answer, "state": state, "citations": cited}


def shares(questions: list[SetQuestion], predictions: dict[str, Any], **same: str) -> dict[str, int]:
    found = score(questions, predictions, sizes=SIZES, same_as=same)
    return {name: found.all[name].share_bp for name in MEASURES if found.all[name].of}


QUESTIONS = [question("a"), question("b"), question("c", "unanswerable", ())]


def test_a_perfect_answerer_gets_everything() -> None:
    predictions = {"a": prediction(), "b": prediction(), "c": prediction(None, state="no_evidence")}

    found = shares(QUESTIONS, predictions)

    assert {
        name: found[name] for name in ("answer", "citation_1", "citation_5", "both", "box", "abstention")
    } == dict.fromkeys(("answer", "citation_1", "citation_5", "both", "box", "abstention"), 10000)
    assert found["false_refusal"] == 0


def test_an_answerer_that_says_nothing_gets_nothing_but_abstention() -> None:
    found = shares(QUESTIONS, {})

    assert (found["answer"], found["citation_5"], found["both"]) == (0, 0, 0)
    assert (found["abstention"], found["false_refusal"]) == (10_000, 10_000)


def test_a_whole_page_as_answer_gets_nothing() -> None:
    page = " ".join(["418.20"] + ["word"] * 60)

    found = shares([question("a")], {"a": prediction(page, box=(0, 0, 1000, 800))})

    assert (found["answer"], found["both"]) == (0, 0)


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 1000, 800),
        (300, 300, 360, 312),
        (100, 100, 100, 112),
        (160, 112, 100, 100),
        None,
        ("a",) * 4,
        (1, 2),
    ],
)
def test_a_wrong_box_is_caught(box: Any) -> None:
    assert shares([question("a")], {"a": prediction(box=box)})["box"] == 0


@pytest.mark.parametrize("answer", ["418.2", "1418.20", "418.205", "418,20", "total", "0418.20"])
def test_a_figure_that_only_resembles_the_answer_is_wrong(answer: str) -> None:
    assert shares([question("a")], {"a": prediction(answer)})["answer"] == 0


@pytest.mark.parametrize("answer", ["418.20", "EUR 418.20", "the total is 418.20.", "(418.20)", "418.20 EUR"])
def test_an_answer_may_say_more_than_the_accepted_words(answer: str) -> None:
    assert shares([question("a")], {"a": prediction(answer)})["answer"] == 10_000


def test_accents_and_case_do_not_decide() -> None:
    asked = [question("a", answers=("Karin Öberg",))]

    assert shares(asked, {"a": prediction("karin OBERG")})["answer"] == 10_000


def test_a_frame_that_repeats_an_accepted_one_is_accepted() -> None:
    assert shares([question("a")], {"a": prediction(frame="f2")})["citation_1"] == 0
    assert shares([question("a")], {"a": prediction(frame="f2")}, f2="f1")["citation_1"] == 10_000


def test_frames_that_repeat_each_other_in_a_circle_end_the_search() -> None:
    assert shares([question("a")], {"a": prediction(frame="f2")}, f2="f3", f3="f2")["citation_1"] == 0


def test_a_right_frame_in_fifth_place_counts_only_there() -> None:
    cited = [{"frame": f"x{n}"} for n in range(4)] + [{"frame": "f1"}, {"frame": "f1"}]

    found = shares([question("a")], {"a": {"answer": "418.20", "citations": cited}})

    assert (found["citation_1"], found["citation_5"]) == (0, 10_000)


def test_a_right_citation_under_a_wrong_answer_is_not_both() -> None:
    assert shares([question("a")], {"a": prediction("7")})["both"] == 0


def test_states_are_scored_where_the_set_says_one() -> None:
    asked = [question("a", state="partial"), question("b", "unanswerable", (), state="refused")]

    found = shares(asked, {"a": prediction(state="partial"), "b": prediction(None, state="no_evidence")})

    assert found["state"] == 5_000


def test_intervals_hold_the_share_and_do_not_change_between_runs() -> None:
    predictions = {"a": prediction(), "b": prediction("7")}

    one = score(QUESTIONS, predictions, sizes=SIZES, same_as={})

    assert one == score(QUESTIONS, predictions, sizes=SIZES, same_as={})
    assert one.all["answer"].low_bp <= one.all["answer"].share_bp <= one.all["answer"].high_bp


def test_the_scorer_imports_nothing_of_the_answering_side() -> None:
    import ast
    from pathlib import Path

    from sterling.packs.recall.evaluate import score as module

    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imported = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [getattr(node, "module", "") or ""]
        )
        if isinstance(node, ast.Import | ast.ImportFrom)
    }

    assert not any(name.startswith("sterling") for name in imported)
