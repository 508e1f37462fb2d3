"""Scene `insight`: what two real tables say, every figure re-executed."""

from __future__ import annotations

from sterling.cli import plain
from sterling.cli.tour.stage import Scene, Stage, short_path

__all__ = ["SCENE"]

TABLES = ("birdstrikes.csv", "queue_log.csv")


def play(stage: Stage) -> None:
    for table in TABLES:
        source = stage.samples / "insight" / table
        out = stage.folder / f"report-{source.stem}"
        stage.command("analyze", short_path(source), "--out", short_path(out))
        result = stage.run("analyze", str(source), "--out", str(out)).data
        lane = result["lanes"]["explanation"]
        stage.tell(
            f"{table}: {result['rows']} rows, {lane['ok']} plugins with findings, {lane['na']} na, "
            f"body {result['body_sha256'][:12]}…"
        )
        for finding in result["findings"][:2]:
            stage.tell(f"finding: {plain.text(finding['claim'], width=150)}")
        stage.command("verify", result["run"])
        checked = stage.run("verify", result["run"]).data
        stage.demand(checked["verdict"] == "ok", f"expected every figure to hold, found {checked['verdict']}")
        stage.tell("Every figure of the report was computed again from the stored bytes and agrees.")
        stage.look = str(out / "report.html")


SCENE = Scene("insight", "What does this table really say?", play)
