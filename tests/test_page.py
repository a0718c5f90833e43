"""Reports agree with the records, and show the text of files as text."""

import dataclasses
import itertools
import re
import statistics
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from browser import open_browser, require_browser
from command_line import run_without_torch
from reporting import HOSTILE, finished, write_study

from ablations.analysis.accuracies import BEST, of_study
from ablations.analysis.comparison import compare
from ablations.analysis.comparison_text import notes
from ablations.analysis.summary import write_summary
from ablations.charts import chart
from ablations.charts.canvas import render
from ablations.charts.figures import paper_figure, study_figure
from ablations.charts.settings import ChartSettings
from ablations.cli import main
from ablations.records import Record, Status, Study
from ablations.report import data, pictures
from ablations.report.figures import (
    tornado_figure,
)
from ablations.report.html import as_html, compact
from ablations.report.markdown import as_markdown
from ablations.report.page import Page, make, tornado_table
from ablations.report.sections import GONE, Section, Text, sections
from ablations.report.writer import write
from modernize import files
from modernize.errors import RoadmapError, UsageError

SKETCH = b"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 4 3'/>"
ROOT = Path(__file__).parent.parent
TITLES = ["Findings", "Chart", "Results", "Changes", "Blocks", "Learning curves",
          "Accuracy and cost", "Failed runs", "Provenance", "Reproduction"]  # fmt: skip
RECIPE, STAGES = [85.0, 85.5, 85.25], [86.0, 86.4, 86.1]
DIVERGED = Record(
    Status.DIVERGED, "the loss became nan at iteration 7", metrics={"top1": 20.0}, epochs=3
)
FAILED = Record(Status.FAILED, HOSTILE)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Four steps of three seeds: two whole, one with every bad end, one that never began."""
    made = write_study(
        tmp_path / "mixed",
        {"recipe": RECIPE, "stage-ratio": STAGES, "patchify": [DIVERGED, FAILED, None], "ln": []},
    )
    for variant, run, folder in made.runs():
        if variant.key == "patchify":
            lines = [f"line {number} of seed {run.seed}" for number in range(100)]
            if folder.path.is_dir():
                folder.log.write_text("\n".join([*lines, HOSTILE]))
    return made


@pytest.fixture
def star(tmp_path: Path) -> Study:
    """A study in which all steps leave from one baseline."""
    ends = {"resnet": [80.0, 80.2, 80.1], "recipe": [80.3, 80.4, 80.4],
            "patchify": [77.0, 77.5, 77.1], "ln": [81.0, 81.4, 81.2]}  # fmt: skip

    def change(variant):
        parent = None if variant.key == "resnet" else "resnet"
        return dataclasses.replace(variant, parent=parent, title=f"without {variant.title}")

    return write_study(tmp_path / "star", ends, change=change)


@pytest.fixture
def drawn() -> None:
    """Has the pictures drawn, which takes most of a report's time."""


@pytest.fixture(autouse=True)
def _sketches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the pictures out where a test is not about them."""
    if "drawn" not in request.fixturenames:
        for name in ("cost_figure", "curves_figure", "tornado_figure"):
            monkeypatch.setattr(pictures, name, lambda *_: None)
        monkeypatch.setattr(pictures.chart_figures, "study_figure", lambda *_, **__: None)
        monkeypatch.setattr(pictures, "render", lambda *_: SKETCH)


class Reader(HTMLParser):
    """Collects what a page has: tags with their attributes, texts, and the cells of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.tables: list[list[list[str]]] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "source"):
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        for tag in self._open:
            self.texts[tag][-1] += data
        if self._open and self._open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


def read(page: Page) -> Reader:
    return Reader(as_html(page))


def shown(section: Section) -> bool:
    """Returns whether a section has a list, a table, pictures or code, not only paragraphs."""
    return any(not isinstance(part, Text) for part in section.parts)


def rows(table: list[list[str]]) -> dict[str, dict[str, str]]:
    return {cells[0]: dict(zip(table[0], cells, strict=True)) for cells in table[1:]}


@pytest.mark.integration
def test_the_numbers_on_the_page_are_the_records(study: Study) -> None:
    results, changes, _ = map(rows, read(make(study)).tables)
    assert list(results) == ["recipe", "stage-ratio", "patchify", "ln"]
    for step, values in (("recipe", RECIPE), ("stage-ratio", STAGES)):
        assert results[step]["n"] == "3"
        assert results[step]["top-1"] == f"{statistics.mean(values):.2f}"
        assert results[step]["std"] == f"{statistics.stdev(values):.2f}"
    assert results["recipe"]["parameters"] == "580,346"
    assert results["recipe"]["seconds"] == "30"
    assert results["patchify"]["n"] == "0"
    assert results["patchify"]["top-1"] == ""
    assert results["patchify"]["status"] == (
        "diverged (seed 0 diverged, seed 1 failed, seed 2 missing)"
    )
    assert results["ln"]["status"] == "missing (seeds 0 to 2 missing)"
    table = compare(of_study(study)).set_index("step")
    assert changes["stage-ratio"]["conclusion"] == table.loc["stage-ratio", "conclusion"]
    assert changes["stage-ratio"]["p"] == f"{table.loc['stage-ratio', 'p']:.3f}"


@pytest.mark.integration
def test_the_findings_are_those_of_compare(study: Study) -> None:
    page, found = make(study), of_study(study)
    assert [*page.findings, *page.how_to_read] == notes(found, compare(found), "parent")
    items = read(page).texts["li"]
    assert set(page.findings) | set(page.how_to_read) <= set(items)
    assert "Distinguishable from zero: stage-ratio +0.92." in items


def test_the_head_says_what_was_compared_on_what(study: Study) -> None:
    text = " ".join(read(make(study)).texts["header"][0].split())
    assert (
        "The roadmap, Fashion-MNIST subset, 32 x 32: 4 networks of the regime ResNet-nano" in text
    )
    assert "5 epochs from 3 seeds on 1,200 images of fashion-mnist, and evaluated on 34" in text
    assert "6 of 12 runs finished, 1 diverged, 1 failed, 4 missing." in text


def test_what_failed_is_told_with_its_reason_and_the_end_of_its_log(study: Study) -> None:
    page = make(study)
    failed = read(page).texts
    assert failed["h3"] == ["patchify, seed 0: diverged", "patchify, seed 1: failed"]
    assert "the loss became nan at iteration 7" in failed["pre"]
    assert HOSTILE in failed["pre"]
    assert page.unfinished == "4 missing"
    log = next(text for text in failed["pre"] if "line 99 of seed 1" in text)
    assert "line 50" not in log
    assert log.endswith(HOSTILE)


@pytest.mark.integration
def test_hostile_text_stays_text(study: Study) -> None:
    (tag_names, attributes) = zip(*read(make(study)).tags, strict=True)
    assert "script" not in tag_names
    assert not any(name.startswith("on") for found in attributes for name in found)
    assert as_html(make(study)).count("{{7*7}}") == 3  # in a reason and two logs


def test_hostile_titles_and_values_stay_text(tmp_path: Path) -> None:
    made = write_study(
        tmp_path / "x",
        {"recipe": [finished(80.0, device=HOSTILE)], "patchify": [81.0]},
        change=lambda v: dataclasses.replace(v, title=f"{HOSTILE} | `{v.key}`", section=HOSTILE),
    )
    page = make(made)
    reader = read(page)
    assert {name for name, _ in reader.tags}.isdisjoint({"script", "iframe", "object"})
    assert any(HOSTILE in cell for row in reader.tables[0] for cell in row)
    text = as_markdown(page)
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert re.findall(r"(?<!\\)<", outside) == []
    line = next(line for line in outside.splitlines() if line.startswith("| recipe"))
    header = next(line for line in outside.splitlines() if line.startswith("| step"))
    assert len(re.findall(r"(?<!\\)\|", line)) == header.count("|")


def test_the_page_asks_for_nothing_from_elsewhere(study: Study) -> None:
    reader = read(make(study))
    for name, attributes in reader.tags:
        for attribute in ("src", "srcset", "data", "poster", "action", "href"):
            value = attributes.get(attribute)
            if value is None:
                continue
            inside = value.startswith(("data:image/svg+xml,", "#"))
            assert inside or (name == "a" and value.startswith("https://arxiv.org/")), value
    assert {name for name, _ in reader.tags}.isdisjoint({"script", "link", "base", "iframe"})
    assert "url(" not in reader.texts["style"][0]
    assert "@import" not in reader.texts["style"][0]


def test_it_can_be_read_without_seeing(study: Study) -> None:
    reader = read(make(study))
    assert reader.texts["h1"] == ["mixed"]
    assert reader.texts["h2"] == TITLES
    images = [attributes for name, attributes in reader.tags if name == "img"]
    assert len(images) == 2 + 3 + 2  # the chart, the blocks, three steps' curves, two costs
    assert all(len(str(attributes["alt"])) > 20 for attributes in images)
    ids = {str(attributes["id"]) for _, attributes in reader.tags if "id" in attributes}
    for _, attributes in reader.tags:
        for name in ("aria-labelledby", "href"):
            if (value := attributes.get(name, "") or "").startswith("#") or name != "href":
                assert not value or value.removeprefix("#") in ids
    scopes = [attributes.get("scope") for name, attributes in reader.tags if name == "th"]
    assert set(scopes) == {"col", "row"}
    assert ("html", {"lang": "en"}) in reader.tags


def test_a_study_of_which_nothing_has_ended(tmp_path: Path) -> None:
    made = write_study(tmp_path / "new", {"recipe": [None, None], "ln": [None]})
    (made.folder / "runs").rmdir()
    page = make(made)  # there is not even a folder for its runs
    text = as_html(page)
    assert "0 of 4 runs finished, 4 missing." in text
    assert "No change can be tested" in text
    empty = {section.key for section in sections(page) if not shown(section)}
    assert empty == {"curves", "cost", "failed", "provenance"}
    assert page.unfinished == "4 missing"


@pytest.mark.usefixtures("drawn")
def test_a_run_that_is_under_way_shows_its_epochs(tmp_path: Path) -> None:
    made = write_study(tmp_path / "begun", {"recipe": [None]})
    ((_, run, folder),) = made.runs()
    folder.prepare(run)
    folder.write_progress(fraction=0.5)
    folder.write_metrics([{"epoch": 1, "top1": 50.0}, {"epoch": 2, "top1": 60.0}])
    page = make(made)
    assert page.unfinished == "1 running"
    (curve,) = page.curves
    assert "no finished run, 1 unfinished" in curve.alt
    assert b"top1-unfinished-0" in curve.content
    assert "Dashed" in page.curves_note


def test_one_seed_has_no_deviation_and_no_test(tmp_path: Path) -> None:
    page = make(write_study(tmp_path / "one", {"recipe": [85.0], "stage-ratio": [86.0]}))
    assert "std" not in page.results[0]
    assert page.changes[-1]["conclusion"] == "+1.00; one run each: no test"
    assert "Thick line" not in page.curves_note
    assert page.how_to_read == []


@pytest.mark.integration
def test_a_study_of_which_only_the_summary_is_kept(study: Study) -> None:
    whole = make(study)
    write_summary(study)
    (study.folder / "runs").rename(study.folder / "elsewhere")
    page = make(study)
    assert page.only_summary
    assert [row["top-1"] for row in page.results] == [row["top-1"] for row in whole.results]
    text = as_html(page)
    assert text.count(GONE) == 3
    assert "6 of 12 runs finished." in text
    assert page.costs
    with pytest.raises(UsageError, match="--best-epoch"):
        make(study, best_epoch=True)


@pytest.mark.integration
@pytest.mark.usefixtures("drawn")
def test_the_best_epoch_is_labelled_wherever_it_stands(study: Study) -> None:
    page = make(study, best_epoch=True)
    assert page.epoch == BEST
    assert page.results[0]["top-1"] == f"{statistics.mean(RECIPE) + 1:.2f}"
    assert page.findings[0].startswith("OPTIMISTIC")
    assert all(text.count(BEST) == 2 for text in (as_html(page), as_markdown(page)))
    assert 'class="optimistic"' in as_html(page)
    assert 'class="optimistic"' not in as_html(make(study))
    assert page.chart.content != make(study).chart.content


def test_damaged_files_are_named_and_stop_nothing(study: Study) -> None:
    folders = {(v.key, r.seed): f.path for v, r, f in study.runs()}
    (folders["recipe", 0] / "record.json").write_text('{"status": "fin')
    (folders["recipe", 1] / "metrics.jsonl").write_text('{"epoch": 1, "to')
    page = make(study)
    found = {(t.step, t.seed): t for t in page.failed_runs}
    assert found["recipe", 0].status == found["recipe", 1].status == "unreadable"
    assert "damaged" in found["recipe", 0].reason
    assert page.results[0]["n"] == "2"  # the second has a good record


def test_of_many_failures_the_first_are_shown_and_the_others_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "MOST_LOGS", 2)
    page = make(write_study(tmp_path / "bad", {"recipe": [FAILED] * 5}))
    assert len(page.failed_runs) == 2
    assert "And 3 more" in as_html(page)
    assert "And 3 more" in as_markdown(page)


def test_each_file_is_read_once(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    read, opened = files.read_bytes, []

    def count(path: Path) -> bytes:
        opened.append(path)
        return read(path)

    monkeypatch.setattr(files, "read_bytes", count)
    make(study)
    ours = [path for path in opened if path.name in ("record.json", "metrics.jsonl")]
    records = [path for path in ours if path.name == "record.json" and path.exists()]
    assert len(records) == 8
    assert len(ours) == len(set(ours))


def test_the_page_names_the_front(tmp_path: Path) -> None:
    ends = {"recipe": [85.0], "stage-ratio": [84.0], "patchify": [86.0], "depthwise": [83.0]}
    page = make(write_study(tmp_path / "front", ends))
    # Of these patchify costs less than stage-ratio and more than recipe, depthwise least.
    assert page.front == (
        "by FLOPs: depthwise, recipe, patchify; by parameters: depthwise, recipe, patchify"
    )
    assert page.front in as_html(page)


@pytest.mark.integration
def test_the_tornado_is_sorted_by_size(star: Study) -> None:
    table = tornado_table(compare(of_study(star)))
    assert table is not None
    assert set(table["baseline"]) == {"resnet"}
    figure = tornado_figure(table)
    bars = [a for a in figure.findobj() if (a.get_gid() or "").startswith("change-")]
    places = {bar.get_gid(): (bar.get_y(), bar.get_width()) for bar in bars}
    assert sorted(places, key=lambda name: places[name][0]) == [
        "change-patchify", "change-ln", "change-recipe"
    ]  # fmt: skip
    assert places["change-patchify"][1] == pytest.approx(-2.9)
    page = make(star)
    assert page.tornado_baseline == "resnet"
    assert page.tornado is not None
    assert "patchify with -2.90" in page.tornado.alt
    assert "Changes of top-1 from resnet" in as_html(page)


@pytest.mark.integration
def test_there_is_no_tornado_where_the_parents_differ(study: Study, star: Study) -> None:
    assert make(study).tornado is None
    table = compare(of_study(star))
    assert tornado_table(table[table["step"] != "resnet"]) is None  # the baseline is not in it
    assert tornado_table(table[:2]) is None  # one difference is no tornado
    table["change"] = float("nan")
    assert tornado_table(table) is None


@pytest.mark.integration
@pytest.mark.usefixtures("drawn")
def test_the_markdown_has_it_all(study: Study) -> None:
    html_file, text_file = write(study, best_epoch=False)
    text = text_file.read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == TITLES
    assert f"| {statistics.mean(STAGES):.2f} |" in text
    assert "line 99 of seed 1" in text
    shown = re.findall(r"!\[.+?\]\((.+?)\)", text)
    assert len(shown) == 7
    for path in shown:
        assert (study.folder / path).read_text(encoding="utf-8").startswith("<?xml")
    for line in make(study).findings:
        assert line.replace("_", r"\_") in text
    assert html_file.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.integration
@pytest.mark.usefixtures("drawn")
def test_the_report_shares_its_chart_with_collect_unless_it_differs(tmp_path: Path) -> None:
    made = write_study(tmp_path / "two", {"recipe": RECIPE, "stage-ratio": STAGES})
    collected = chart.save_figure(study_figure(made), tmp_path / "collected.svg").read_bytes()
    write(made, best_epoch=False)
    shared, other = made.folder / "roadmap.svg", made.folder / "report" / "chart.svg"
    assert shared.read_bytes() == collected
    assert not other.exists()
    for different in ({"best_epoch": True}, {"best_epoch": False, "baseline": "stage-ratio"}):
        write(made, **different)
        assert other.read_bytes() != collected
        assert "](report/chart.svg)" in (made.folder / "report.md").read_text(encoding="utf-8")
    assert shared.read_bytes() == collected


def test_a_log_cannot_leave_its_block(study: Study) -> None:
    for variant, _, folder in study.runs():
        if variant.key == "patchify" and folder.path.is_dir():
            folder.log.write_text("```\n# a heading\n````\n")
    text = as_markdown(make(study))
    assert "`````\n```\n# a heading\n````\n`````" in text


@pytest.mark.integration
@pytest.mark.usefixtures("drawn")
def test_the_same_files_give_the_same_pictures(study: Study) -> None:
    first, second = make(study), make(study)
    for ours, theirs in itertools.zip_longest(
        [first.chart, *first.curves, *first.costs], [second.chart, *second.curves, *second.costs]
    ):
        assert ours.content == theirs.content


@pytest.mark.integration
def test_the_command_writes_both_and_says_so(study: Study, capsys, monkeypatch) -> None:
    monkeypatch.chdir(study.folder.parent)
    options = ["--results", str(study.folder.parent)]
    for which in (["mixed"], []):
        monkeypatch.setattr(sys, "argv", ["run_roadmap.py", "report", *which, *options])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0
        assert capsys.readouterr().out == "Wrote mixed/report.html, mixed/report.md\n"


@pytest.mark.integration
def test_the_command_imports_no_torch(star: Study) -> None:
    make(star)  # counts the networks, with torch; asked again, without
    run_without_torch("report", "star", "--results", star.folder.parent)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "no study 'nothing'"),
    ],
)
def test_wrong_use_is_named(study, arguments, words, capsys, monkeypatch) -> None:
    options = ["--results", str(study.folder.parent)]
    monkeypatch.setattr(sys, "argv", ["run_roadmap.py", "report", *arguments, *options])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert words in capsys.readouterr().err


def test_what_cannot_be_written_is_named(study: Study) -> None:
    (study.folder / "report").write_text("in the way")
    with pytest.raises(RoadmapError, match=r"cannot write .*report"):
        write(study, best_epoch=False)


@pytest.mark.usefixtures("drawn")
def test_a_step_on_its_own_without_parents(tmp_path: Path) -> None:
    page = make(write_study(tmp_path / "alone", {"resnet": [80.0, 81.0]}))
    assert page.changes == []
    assert "changes" not in {section.key for section in sections(page) if shown(section)}
    assert page.costs == []


@pytest.mark.slow
@pytest.mark.parametrize("which", ["mixed", "star"])
@pytest.mark.usefixtures("drawn")
def test_a_real_browser_shows_it_without_a_network(study, star, which, tmp_path) -> None:
    require_browser()
    page, _ = write({"mixed": study, "star": star}[which], best_epoch=False)
    with open_browser(tmp_path / "profile") as browser:
        for width in (1200, 390):
            browser.open(page, width)
            assert browser.requests() == [page.as_uri()]
            assert browser.complaints() == []
            heads = browser.ask("Array.from(document.querySelectorAll('h2'), h => h.innerText)")
            assert heads == TITLES
            sizes = browser.ask(
                "Array.from(document.images, i => [i.complete, i.naturalWidth, i.clientWidth])"
            )
            assert len(sizes) == {"mixed": 7, "star": 9}[which]
            assert all(done and natural > 0 and shown > 100 for done, natural, shown in sizes)
            browser.ask("document.querySelectorAll('details').forEach(it => { it.open = true })")
            assert browser.ask("window.innerWidth") == width
            assert browser.ask("document.documentElement.scrollWidth") <= width
        assert browser.ask("document.querySelectorAll('script').length") == 0


@pytest.mark.slow
def test_the_browser_would_tell_of_what_a_page_asks_for(tmp_path: Path) -> None:
    """The checks above can fail: a page with all that they look for."""
    page = tmp_path / "page.html"
    page.write_text(
        "<!DOCTYPE html><body style='width:900px'><img src='http://example.org/x.png'>"
        "<script>console.error('complaint')</script>"
    )
    with open_browser(tmp_path / "profile") as browser:
        browser.open(page, 390)
        assert browser.requests() == [page.as_uri(), "http://example.org/x.png"]
        assert any("complaint" in line for line in browser.complaints())
        assert browser.ask("document.images[0].naturalWidth") == 0
        assert browser.ask("document.documentElement.scrollWidth") > 390


def test_the_blocks_of_the_steps_that_change_them_are_drawn() -> None:
    drawn = pictures.blocks(Study.open(ROOT / "results" / "reference-nano"), ChartSettings())
    assert drawn is not None
    keys = set(drawn.alt.partition("in ")[2].partition(", with")[0].split(", "))
    assert {"resnet", "depthwise", "ln", "downsample"} <= keys
    assert not {"recipe", "stage-ratio", "patchify"} & keys
    assert len(drawn.content) < 400_000


def _shapes(svg: str) -> list[tuple[str, list[float], str]]:
    """Each element that an SVG shows: its tag, its numbers, and its text."""
    root = ElementTree.fromstring(svg)  # noqa: S314
    named = {f"#{e.get('id')}": e for e in root.iter() if e.get("id")}
    found = []
    for element in root.iter():
        tag = element.tag.rpartition("}")[2]
        if tag not in ("path", "use", "text", "rect"):
            continue
        moved = element.get("x") or (element.get("transform") or "").removeprefix("translate(")
        at = [float(number) for number in re.findall(r"-?[\d.]+", moved)[:1]]
        target = named[element.get("{http://www.w3.org/1999/xlink}href")] if tag == "use" else None
        path = (element if target is None else target).get("d", "")
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", path)]
        found.append((tag, numbers + at, "".join(element.itertext()) if tag == "text" else ""))
    return found


@pytest.mark.parametrize("svg_text", [False, True])
def test_pictures_in_the_page_are_smaller_and_look_the_same(svg_text: bool) -> None:
    settings = ChartSettings(svg_text=svg_text)
    figure = paper_figure("resnet50", settings=settings)
    figure.axes[0].text(1, 1, 'a  b ("#figure_1") id="figure_1" d="M 1.23456 2"; --> <g>')
    svg = render(figure, "svg", settings).decode()
    small = compact(svg)
    assert len(small) < (0.8 if svg_text else 0.65) * len(svg)
    for (tag, numbers, text), (small_tag, small_numbers, small_text) in zip(
        _shapes(svg), _shapes(small), strict=True
    ):
        assert (small_tag, small_text) == (tag, text)
        assert small_numbers == pytest.approx(numbers, abs=0.5 if tag == "use" else 0.006)
    assert ("a  b" in "".join(text for *_, text in _shapes(small))) == svg_text
