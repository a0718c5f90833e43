"""The shipped studies are what their commands and their runs make; every step learns."""

import re
from pathlib import Path

import pandas as pd
import pytest
from copied import copy_repository, run

from modernize.steps import STEPS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


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
    shipped = {str(path.relative_to(folder)) for path in folder.rglob("*.svg")}
    assert shipped == set(pictures)


def test_no_two_shipped_results_are_equal(clone: Path) -> None:
    folders = [clone / "results" / name for name in ("paper", *(name for name, _ in SHIPPED))]
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    contents = {path: path.read_bytes() for path in files}
    assert len(set(contents.values())) == len(files) > 10


def test_two_studies_are_shipped() -> None:
    assert [name for name, _ in SHIPPED] == ["reference-nano", "reference-leave-one-out"]


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
