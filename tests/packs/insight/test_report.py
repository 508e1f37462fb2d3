"""The three files: one model, every figure in it, nothing that a hostile table could smuggle in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.hashing import hash_file
from sterling.kernel.home import Home
from sterling.packs.insight.door import AnalyzeResult

Analyse = Callable[..., AnalyzeResult]
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
HOSTILE = "<script>alert(1)</script>"
ODD = f'id,"{HOSTILE}","a|b `c` *d*","_e_"\n' + "".join(
    f'{n},"<img src=x onerror={n % 3}>","| pipe {n % 4} |","[x](javascript:{n % 5})"\n' for n in range(40)
)


class Shown(HTMLParser):
    """The text a reader of the page sees, its labels included, and every tag."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent += tag == "style"
        self.texts += [value for name, value in attrs if name in ("aria-label", "title", "alt") and value]

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag == "style"

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.texts.append(data)


def shown(path: Path) -> Shown:
    page = Shown()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def figures(text: str) -> set[str]:
    return {found.replace(",", "") for found in NUMBER.findall(text)}


def texts(value: Any) -> Iterator[str]:
    """Every text and figure of a JSON value."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    else:
        yield str(value)


def allowed(result: AnalyzeResult) -> set[str]:
    return {
        figure for text in texts(json.loads(result.files["json"].read_text())) for figure in figures(text)
    }


def unknown_figures(result: AnalyzeResult) -> tuple[set[str], set[str]]:
    known = allowed(result)
    ordinals = {str(n) for n in range(1, len(result.report["body"]["findings"]) + 1)}
    markdown = figures(result.files["md"].read_text()) - known - ordinals
    return markdown, figures("\n".join(shown(result.files["html"]).texts)) - known


def test_every_figure_of_both_pages_stands_in_the_json(sample: Any) -> None:
    markdown, html = unknown_figures(sample.result)

    assert (markdown, html) == (set(), set())


def test_a_figure_that_is_not_in_the_json_is_found_by_this_test(sample: Any, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    text = sample.result.files["html"].read_text().replace("</main>", "<p>987,654 rows</p></main>")
    page.write_text(text)

    assert "987654" in figures("\n".join(shown(page).texts)) - allowed(sample.result)


def test_figures_hold_on_a_hostile_table_too(analyse: Analyse) -> None:
    result = analyse(ODD)

    assert unknown_figures(result) == (set(), set())


def test_a_hostile_table_puts_no_tag_and_no_link_into_the_pages(analyse: Analyse) -> None:
    result = analyse(ODD, name="<b>x.csv")

    page = shown(result.files["html"])
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "img", "iframe", "a", "b", "link", "object", "form"} - {"b"}
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)
    markdown = result.files["md"].read_text()
    assert "](" not in markdown.replace("\\](", "")
    assert re.search(r"(?<!\\)<", markdown) is None


def test_the_page_loads_nothing_and_runs_nothing(sample: Any) -> None:
    text = sample.result.files["html"].read_text()
    page = shown(sample.result.files["html"])

    assert not re.search(r"(src|href)\s*=|url\(|@import|https?://|javascript:", text)
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"} == set()
    assert "default-src 'none'" in text


def test_every_picture_has_a_text(sample: Any) -> None:
    page = shown(sample.result.files["html"])

    pictures = [
        attributes for tag, attributes in page.tags if attributes.get("role") == "img" or tag == "svg"
    ]
    assert pictures and all(found.get("aria-label") for found in pictures)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_words_can_be_read_on_their_ground_by_day_and_by_night(sample: Any) -> None:
    text = sample.result.files["html"].read_text()
    themes = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    pairs = [
        *((ink, ground) for ink in ("ink", "soft", "accent") for ground in ("paper", "card", "well")),
        *((tone, f"{tone}-well") for tone in ("suspect", "notice", "structure")),
        *((tone, "card") for tone in ("suspect", "notice", "structure")),
        ("ink", "bar-soft"),
    ]

    assert len(themes) == 2
    for theme in themes:
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", theme))
        for ink, ground in pairs:
            light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground, colours[ink], colours[ground])


def test_json_and_manifest_keep_their_contracts_and_the_folder_holds_what_is_listed(sample: Any) -> None:
    from sterling.kernel.contracts import load_contracts

    files = sample.result.files
    load_contracts().validate("insight.report-file", json.loads(files["json"].read_text()))
    manifest = json.loads(files["manifest"].read_text())
    load_contracts().validate("insight.manifest", manifest)
    load_contracts().validate("analyze.result", {**sample.result.document, "contract": "analyze.result@1.0"})
    listed = {row["name"]: row["sha256"] for row in manifest["files"]}
    folder = files["json"].parent
    assert {path.name for path in folder.iterdir()} == {*listed, "run_manifest.json"}
    assert all(hash_file(folder / name) == sha256 for name, sha256 in listed.items())


def test_an_empty_lane_has_figures_too(sample: Any) -> None:
    report = sample.result.report

    assert report["body"]["lanes"]["decision"] == {"planned": 0, "ok": 0, "failed": 0, "na": 0, "findings": 0}
    assert report["telemetry"]["lanes"]["decision"] == 0


def test_the_answer_is_short_and_the_findings_are_ranked(sample: Any) -> None:
    body = sample.result.report["body"]
    order = ["suspect", "notice", "structure"]

    assert 1 <= len(body["answer"]) <= 5
    assert [row["place"] for row in body["findings"]] == list(range(1, len(body["findings"]) + 1))
    ranks = [order.index(row["strength"]) for row in body["findings"]]
    assert ranks == sorted(ranks)


def test_wide_tables_and_many_levels_keep_the_limits(analyse: Analyse) -> None:
    wide = 210
    head = ",".join(f"column with a rather long name {place}" for place in range(wide))
    rows = "".join(
        ",".join(f"level {(row * place) % 97} of many" for place in range(wide)) + "\n" for row in range(40)
    )
    result = analyse(head + "\n" + rows, plugins=("column_profile",))

    body = result.report["body"]
    assert (len(body["profiles"]), body["profiles_left_out"]) == (200, 10)
    assert result.files["json"].stat().st_size <= 2_000_000
    assert result.files["md"].stat().st_size <= 200_000
    assert result.files["html"].stat().st_size <= 1_500_000
    assert result.files["html"].read_text().count("<svg") <= 40


def test_rejected_rows_and_unreadable_cells_are_told_on_top(analyse: Analyse) -> None:
    cells = "".join(f"{n},x\n" for n in range(120))
    result = analyse("n,c\n" + cells + "many,y\n7\n8,9,10\n")

    body = result.report["body"]
    assert "2 rows could not be read and are kept apart" in body["answer"][0]
    assert "1 cell did not fit" in body["answer"][0]
    assert [(row["reason"], row["rows"], row["first_lines"]) for row in body["rejects"]] == [
        ("ragged", 2, [123, 124])
    ]


@pytest.mark.parametrize("name", ["report.json", "report.md", "report.html"])
def test_report_files_are_blobs_too(sample: Any, name: str) -> None:
    from sterling.kernel.home import open_home

    with open_home(sample.home, read_only=True) as home:
        (record,) = home.records.read("insight.report")
        (file,) = [file for file in record.document["files"] if file["name"] == name]
        folder = sample.result.files["json"].parent
        assert home.blobs.get(file["blob"]) == (folder / name).read_bytes()


def test_a_folder_that_cannot_be_made_is_refused_before_any_work(
    analyse: Analyse, home: Home, tmp_path: Path
) -> None:
    from sterling.packs.insight.errors import OutUnwritable

    (tmp_path / "taken").write_text("a file")
    size = home.ledger.size()

    with pytest.raises(OutUnwritable):
        analyse("a,b\n1,2\n", out=tmp_path / "taken" / "report")
    assert home.ledger.size() == size


def test_rows_to_look_at_are_shown_with_their_cells_and_ids_and_text_are_not(sample: Any) -> None:
    body = sample.result.report["body"]
    (order,) = [row for row in body["findings"] if row["kind"] == "order-broken" and "end" in row["target"]]
    (repeats,) = [row for row in body["findings"] if row["kind"] == "rows-repeated"]
    page = sample.result.files["html"].read_text()

    row_set = order["evidence"]["row_set"]
    assert row_set["shown"] == ["start", "end"]
    assert all(cells[1] < cells[0] for cells in row_set["cells"])
    assert all(cell in page for cells in row_set["cells"] for cell in cells)
    assert "job_id" not in repeats["evidence"]["row_set"]["shown"]
    assert "J00035" not in page


def test_mail_addresses_in_text_and_ids_do_not_reach_the_report(analyse: Analyse) -> None:
    rows = "".join(f"{n},person{n}@example.org,note {n} to person{n}@example.org\n" for n in range(60))
    result = analyse("n,mail,note\n" + rows + "7,person7@example.org,note 7 to person7@example.org\n")

    for path in (result.files["json"], result.files["md"], result.files["html"]):
        assert "@example" not in path.read_text()
