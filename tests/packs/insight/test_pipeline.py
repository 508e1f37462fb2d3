"""The whole way: the same table gives the same body, and no end of a run goes without its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.home import Home, init_home
from sterling.packs.insight import door
from sterling.packs.insight.door import AnalyzeResult
from sterling.packs.insight.errors import UnknownPlugin, UnreadableSource
from sterling.packs.insight.pipeline import Stopped
from sterling.runtime.plan import PlanModeUnknown
from sterling.runtime.runs import list_runs, read_run
from sterling.testing.fleet import Fleet

Analyse = Callable[..., AnalyzeResult]
SAMPLE = Path(__file__).resolve().parents[3] / "samples" / "insight" / "queue_log.csv"
TEXT = "a,b\n" + "".join(f"{n},x{n % 3}\n" for n in range(30))


def test_another_home_name_and_worker_count_give_the_same_body(
    sample: Any, home: Home, tmp_path: Path
) -> None:
    copy = tmp_path / "renamed.txt"
    copy.write_bytes(SAMPLE.read_bytes())

    result = door.analyze(home, copy, door.options(out=tmp_path / "out", workers=3, home=home))

    assert result.body_sha256 == sample.result.body_sha256
    assert result.run != sample.result.run
    assert result.report["body"] == sample.result.report["body"]


def test_a_second_run_in_the_same_home_gives_the_same_body_and_counts_the_look(
    analyse: Analyse, home: Home
) -> None:
    import json

    first = analyse(TEXT)
    second = analyse(TEXT)

    assert first.body_sha256 == second.body_sha256
    assert json.loads(second.files["manifest"].read_text())["prior_looks"] == 1
    for run in (first.run, second.run):
        assert door.recheck(home, run).problems == []


def test_both_modes_find_the_same(analyse: Analyse) -> None:
    strict, legacy = analyse(TEXT), analyse(TEXT, mode="legacy")

    assert strict.report["body"]["findings"] == legacy.report["body"]["findings"]
    assert legacy.report["body"]["lineage"]["mode"] == "legacy"


def test_another_seed_changes_no_fact(analyse: Analyse) -> None:
    one, two = analyse(TEXT), analyse(TEXT, seed=7)

    assert one.report["body"]["findings"] == two.report["body"]["findings"]
    assert one.body_sha256 != two.body_sha256


def test_one_changed_cell_changes_the_body(analyse: Analyse) -> None:
    assert analyse(TEXT).body_sha256 != analyse(TEXT.replace("7,x1", "7,x2")).body_sha256


@pytest.mark.parametrize("data", [b"", b"a,b\n", b"\x00" * 600, b"a\n\xff\n", b"PAR1 but torn PAR1"])
def test_what_cannot_be_read_opens_no_run(analyse: Analyse, home: Home, data: bytes) -> None:
    with pytest.raises(Exception) as caught:
        analyse(data)

    assert getattr(caught.value, "exit", None) == 2
    assert list_runs(home) == []


def test_unknown_words_are_refused_before_the_table_is_read(analyse: Analyse, home: Home) -> None:
    with pytest.raises(PlanModeUnknown):
        analyse(TEXT, mode="both")
    with pytest.raises(UnknownPlugin, match="column_profile"):
        analyse(TEXT, plugins=("colum_profil",))
    assert list_runs(home) == []


def test_the_records_of_a_run_name_what_they_came_from(sample: Any) -> None:
    from sterling.kernel.home import open_home

    with open_home(sample.home, read_only=True) as home:
        (report,) = home.records.read("insight.report")
        closure = {record.contract.partition("@")[0] for record in home.records.walk(report.id)}
        finding = next(iter(home.records.read("insight.finding")))
        (source,) = home.records.read("insight.source")

        assert closure == {"insight.report", "insight.table", "insight.source"}
        assert [part.role for part in finding.sources] == ["table"]
        assert home.blobs.get(source.document["blob"]) == SAMPLE.read_bytes()
        assert source.document["rows"] + source.document["rejected"] == source.document["counted"]


def test_a_stop_from_the_keyboard_closes_every_step_and_still_writes_the_report(
    analyse: Analyse, home: Home, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sterling.packs.insight.pipeline as pipeline

    carry_on = pipeline.run_plan

    def stopped(*given: Any, **named: Any) -> None:
        def told(step: Any, settled: Any) -> None:
            raise KeyboardInterrupt

        carry_on(*given, **{**named, "on_settled": told, "workers": 1})

    monkeypatch.setattr(pipeline, "run_plan", stopped)
    with pytest.raises(Stopped) as caught:
        analyse(TEXT)

    analysis = caught.value.analysis
    view = read_run(home, analysis.run)
    states = sorted((row["state"], row["reason"]) for row in view.outcomes)
    assert states == [("failed", "run.interrupted"), ("failed", "run.interrupted"), ("ok", "ok")]
    assert (view.state, view.planned, view.settled) == ("failed", 3, 3)
    assert analysis.written.files["report.html"].exists()
    assert door.recheck(home, analysis.run).problems == []


def test_plugins_found_in_another_order_give_the_same_body(
    analyse: Analyse, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = analyse(TEXT)

    manifests = type(fleet.registry()).manifests
    monkeypatch.setattr(
        type(fleet.registry()), "manifests", lambda self, pack=None: manifests(self, pack)[::-1]
    )

    assert analyse(TEXT).body_sha256 == first.body_sha256


def test_a_dry_run_writes_nothing_and_plans_the_same(tmp_path: Path, sample: Any) -> None:
    before = sorted(tmp_path.rglob("*"))
    plan = door.inspect(SAMPLE, door.options())

    assert plan["plan_sha256"] == sample.result.document["plan_sha256"]
    assert plan["columns"] == sample.result.document["columns"]
    assert plan["status"] == "planned" and plan["run"] is None
    assert sorted(tmp_path.rglob("*")) == before


def test_limits_come_from_the_home(tmp_path: Path) -> None:
    from sterling.kernel.home import open_home
    from sterling.packs.insight.errors import LimitExceeded

    init_home(tmp_path / "h").close()
    source = tmp_path / "t.csv"
    source.write_text("a,b,c\n1,2,3\n")
    with open_home(tmp_path / "h", settings=["insight.columns_max=2"]) as home, pytest.raises(LimitExceeded):
        door.analyze(home, source, door.options(out=tmp_path / "out", home=home))


def test_a_folder_is_no_source(home: Home, tmp_path: Path) -> None:
    with pytest.raises(UnreadableSource):
        door.analyze(home, tmp_path, door.options(out=tmp_path / "out"))


def test_names_that_are_no_text_are_read_and_reported_all_the_same(home: Home, tmp_path: Path) -> None:
    import os

    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/t\xff\xfe.csv"))
    source.write_text(TEXT)
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/out\xff"))

    result = door.analyze(home, source, door.options(out=out, home=home))

    assert result.files["html"].is_file()
    assert "t\ufffd\ufffd.csv" in result.report["telemetry"]["source_name"]
    assert door.recheck(home, result.run).problems == []


def test_a_home_whose_name_is_a_pattern_is_only_a_name(tmp_path: Path) -> None:
    source = tmp_path / "t[1]*.csv"
    source.write_text(TEXT)

    with init_home(tmp_path / "o[d]d *?'home") as home:
        result = door.analyze(home, source, door.options(out=tmp_path / "out", home=home))
        assert result.exit == 0
        assert door.recheck(home, result.run).problems == []
