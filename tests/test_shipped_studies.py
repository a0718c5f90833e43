"""The shipped studies are what their commands and their runs make; every step learns."""

import re
from pathlib import Path

import pandas as pd
import pytest
from copied import copy_repository, run

from ablations import runs
from ablations.analysis.accuracies import of_paper, of_study
from ablations.analysis.agreement import agreement_of
from ablations.metrics import METRICS
from ablations.records import open_study
from modernize.steps import STEPS

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
README = (ROOT / "README.md").read_text(encoding="utf-8")
STATISTICS = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
TASKS = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, so that what the commands write stays out of it."""
    return copy_repository(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def small_clone(tmp_path_factory: pytest.TempPathFactory, few_images: Path) -> Path:
    """A copy whose embedded images are few, so that commands train as written, but only seconds."""
    return copy_repository(tmp_path_factory.mktemp("small"), few_images)


SHIPPED = re.findall(r"\| \[(reference-[\w-]+)\]\(\S+\) \| .+? \| `(.+?)` \|", README)


@pytest.mark.integration
@pytest.mark.parametrize(("name", "options"), SHIPPED)
def test_the_shipped_studies_are_what_their_commands_make(
    name: str, options: str, clone: Path
) -> None:
    command = ["python", "run_roadmap.py", *options.split(), "--name", name, "--dry-run"]
    said = run(command, clone)
    runs = len((ROOT / "results" / name / "runs.jsonl").read_text().splitlines())
    assert f"\n0 of {runs} runs to do" in said
    assert said.count("(in runs.jsonl)") == said.count("skip: finished") == runs


@pytest.mark.integration
@pytest.mark.parametrize("name", [name for name, _ in SHIPPED])
def test_the_shipped_tables_and_reports_are_what_their_runs_say(name: str, clone: Path) -> None:
    folder = clone / "results" / name
    names = ("summary.csv", "report.md")
    before = {file: (folder / file).read_text(encoding="utf-8") for file in names}
    run(["python", "run_roadmap.py", "collect", name], clone)
    run(["python", "run_roadmap.py", "report", name], clone)
    assert (folder / "summary.csv").read_text() == before["summary.csv"]
    assert (folder / "report.md").read_text() == before["report.md"]
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", before["report.md"])
    shipped = {
        str(path.relative_to(folder))
        for ending in ("svg", "webp")
        for path in folder.rglob(f"*.{ending}")
    }
    assert shipped == set(pictures)


@pytest.mark.parametrize("name", [name for name, _ in SHIPPED])
def test_the_table_of_all_runs_has_the_means_of_the_summary(name: str) -> None:
    summary = pd.read_csv(RESULTS / name / "summary.csv").set_index("step")
    metrics = [metric for metric in METRICS if metric in summary]
    means = runs(RESULTS / name).groupby("step")[metrics].mean().loc[summary.index]
    pd.testing.assert_frame_equal(means, summary[metrics], rtol=1e-5, check_names=False)


def test_no_two_shipped_results_are_equal(clone: Path) -> None:
    folders = [clone / "results" / name for name in ("paper", *(name for name, _ in SHIPPED))]
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    contents = {path: path.read_bytes() for path in files}
    assert len(set(contents.values())) == len(files) > 10


def test_the_shipped_studies_are_in_the_readme() -> None:
    shipped = {path.name for path in RESULTS.glob("reference-*")}
    assert {name for name, _ in SHIPPED} == shipped
    assert len(shipped) == len(SHIPPED) == 4


COLUMNS = [
    ("reference-nano", "top1"),
    ("reference-detection", "box_ap"),
    ("reference-detection", "box_ap50"),
    ("reference-detection", "mask_ap50"),
    ("reference-segmentation", "miou"),
]


def test_the_documented_table_of_tasks_is_that_of_the_runs() -> None:
    shown = dict(re.findall(r"^\| `([\w-]+)` \| (.+±.+) \|$", TASKS, flags=re.MULTILINE))
    assert [*shown] == [step.key for step in STEPS]
    measured = {name: runs(RESULTS / name).groupby("step") for name, _ in COLUMNS}
    for step, cells in shown.items():
        values = [measured[name].get_group(step)[metric] for name, metric in COLUMNS]
        assert cells.split(" | ") == [f"{v.mean():.2f} ± {v.std():.2f}" for v in values]


@pytest.mark.parametrize(("name", "other", "text"), [
    ("reference-nano", "paper", STATISTICS),
    ("reference-detection", "reference-nano", TASKS),
    ("reference-segmentation", "reference-nano", TASKS),
])  # fmt: skip
def test_the_documented_agreement_is_that_of_the_studies(name: str, other: str, text: str) -> None:
    study = of_study(open_study(name, RESULTS))
    theirs = of_paper("resnet50") if other == "paper" else of_study(open_study(other, RESULTS))
    found = agreement_of(study, theirs)
    assert found.over_steps is not None
    assert found.over_seeds is not None
    assert len(found.pairs) == len(STEPS) - 1 == 16
    intervals = ["{:.2f} to {:.2f}".format(*ends) for ends in (found.over_steps, found.over_seeds)]
    numbers = [f"{study.rows[0].n}", f"{found.same_sign}", f"{found.correlation:.2f}", *intervals]
    (row,) = re.findall(rf"^\| [^|]*`{name}`[^|]* \| (.+) \|$", text, flags=re.MULTILINE)
    cells = row.split(" | ")
    assert cells == numbers[: len(cells)]
    assert len(cells) >= 4


def train_whole_road(clone: Path, *options: str) -> pd.DataFrame:
    """Trains every step; returns the summary, a row for each."""
    run(["python", "run_roadmap.py", "--name", "whole", *options], clone)
    table = pd.read_csv(clone / "results" / "whole" / "summary.csv").set_index("step")
    assert len(table) == len(STEPS)
    assert set(table["status"]) == {"finished"}
    return table


@pytest.mark.slow
def test_every_step_learns(small_clone: Path) -> None:
    """In 63 updates on 2,000 images; chance is 10 %."""
    settings = ("epochs=1", "warmup_epochs=0.2", "batch_size=32", "micro_batch_size=32")
    table = train_whole_road(small_clone, *[f"--set={setting}" for setting in settings])
    assert table["top1"].min() >= 40, table["top1"]


@pytest.mark.weekly
def test_every_step_learns_in_the_default_budget(clone: Path) -> None:
    """The main job as `make roadmap` runs it, and the step after: no top-1 below 80 %."""
    table = train_whole_road(clone)
    assert table["top1"].min() >= 80, table["top1"]
