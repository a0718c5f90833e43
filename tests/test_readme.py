"""Every command in the README works as written there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from ablations.data.datasets import EMBEDDED
from modernize.steps import STEPS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, flags=re.DOTALL)
LINES = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines() if line]
COMMANDS = [line.split("#")[0].split() for line in LINES]
MAKE = [words for words in COMMANDS if words[0] == "make"]
OURS = [words for words in COMMANDS if words[:2] == ["python", "run_roadmap.py"]]
TRAINING = [words for words in OURS if words[2].startswith("--") and "--dry-run" not in words]
LATER = [  # once runs have ended
    words for words in OURS if words[2] in ("collect", "evaluate") or words[3:] == ["mine"]
]
MEASURING = [words for words in OURS if "benchmark" in words or "--measure" in words]
QUICK = [words for words in OURS if words not in [*TRAINING, *LATER, *MEASURING]]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, so that what the commands write stays out of it."""
    return copy_repository(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def small_clone(tmp_path_factory: pytest.TempPathFactory, few_images: Path) -> Path:
    """A copy whose embedded images are few, so that commands train as written, but for seconds."""
    folder = copy_repository(tmp_path_factory.mktemp("small"))
    embedded = folder / EMBEDDED.relative_to(ROOT)
    shutil.rmtree(embedded)
    shutil.copytree(few_images, embedded)
    return folder


def copy_repository(folder: Path) -> Path:
    for name in ("modernize", "ablations", "results"):
        skip = shutil.ignore_patterns("__pycache__", "runs")
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    shutil.copy(ROOT / "run_roadmap.py", folder)
    return folder


def run(words: list[str], clone: Path) -> str:
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=clone, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_command_is_of_a_kind_that_is_tested() -> None:
    assert sorted(COMMANDS) == sorted([*MAKE, *OURS])
    assert len(MAKE) == 2
    assert len(TRAINING) == 3
    assert len(QUICK) >= 6


@pytest.mark.parametrize("words", QUICK, ids=" ".join)
def test_quick_commands(words: list[str], clone: Path) -> None:
    assert run(words, clone)


@pytest.mark.slow
@pytest.mark.parametrize("words", MEASURING, ids=" ".join)
def test_measuring_commands(words: list[str], clone: Path) -> None:
    assert run(words, clone)


@pytest.mark.parametrize("target", [words[1] for words in MAKE] + ["lint", "test-all", "golden"])
def test_make_has_the_target(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", [text for kind, text in BLOCKS if kind == "python"])
def test_the_python_in_it_runs(code: str, clone: Path) -> None:
    assert "ln" in run(["python", "-c", code], clone)


@pytest.mark.parametrize("link", re.findall(r"\]\(((?!http)[^)]+)\)", README))
def test_what_it_links_to_is_there(link: str) -> None:
    path, _, heading = link.partition("#")
    assert (ROOT / path).exists()
    headings = re.findall(r"^##? (.+)$", README, flags=re.MULTILINE)
    assert not heading or heading in {
        re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings
    }


SHIPPED = re.findall(r"\| \[(reference-[\w-]+)\]\(\S+\) \| .+? \| `(.+?)` \|", README)


@pytest.mark.parametrize(("name", "options"), SHIPPED)
def test_the_shipped_studies_are_what_their_commands_make(
    name: str, options: str, clone: Path
) -> None:
    command = ["python", "run_roadmap.py", *options.split(), "--name", name, "--dry-run"]
    said = run(command, clone)
    runs = len((ROOT / "results" / name / "runs.jsonl").read_text().splitlines())
    assert f"\n0 of {runs} runs to do" in said
    assert said.count("(in runs.jsonl)") == said.count("skip: finished") == runs


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


@pytest.mark.slow
def test_training_commands(small_clone: Path) -> None:
    for words in TRAINING:
        assert "roadmap.png" in run(words, small_clone)
    told = {words[2]: run(words, small_clone) for words in LATER}
    assert "finished" in told["collect"]
    assert "stage-ratio is not in the table" in told["compare"]
    top1, recorded = re.search(
        r"top-1 +([\d.]+) % +\(its record: ([\d.]+)\)", told["evaluate"]
    ).groups()
    assert top1 == recorded


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
