"""Every command, code block and link in README and docs works as written there."""

import shutil
import subprocess
from pathlib import Path

import documents
import pytest
import torch
from copied import copy_repository, run
from documents import PATHS, PROGRAM, ROOT, anchors, blocks, files, links
from PIL import Image

from modernize import build
from modernize.weights import to_state_dict

CHECKPOINT = "convnext_tiny_1k_224_ema.pth"
RUN_ELSEWHERE = {"torchrun": "test_distributed.py", "--slurm-config": "test_slurm.py"}
NEEDS_NETWORK = "torchvision"  # as the weights to evaluate


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, few_images: Path) -> Path:
    """A copy of the repository with few embedded images, so that training takes seconds."""
    folder = copy_repository(tmp_path_factory.mktemp("clone"), few_images)
    for path in PATHS:
        for name, text in files(path).items():
            (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def users_files(clone: Path) -> None:
    """Files that a document's reader is taken to have: a checkpoint and images."""
    network = build("downsample", num_classes=1000)
    torch.save({"model": to_state_dict(network, "official")}, clone / CHECKPOINT)
    for synset in ("n01440764", "n01443537"):
        folder = clone / "imagenet" / "val" / synset
        folder.mkdir(parents=True)
        Image.new("RGB", (80, 70), "teal").save(folder / "1.png")
    lines = ["path,label,split"]
    for number in range(2 * 512):  # one of the preset's batches, and as many for validation
        image = clone / "animals" / f"{number}.png"
        image.parent.mkdir(exist_ok=True)
        image.hardlink_to(clone / "imagenet" / "val" / "n01440764" / "1.png")
        split = "val" if number % 2 else "train"
        lines.append(f"animals/{number}.png,{'cat' if number % 4 < 2 else 'dog'},{split}")
    (clone / "animals.csv").write_text("\n".join(lines))


def is_ours(words: list[str]) -> bool:
    return " ".join(words).startswith(PROGRAM)


def trains(words: list[str]) -> bool:
    """Whether a command takes more than some seconds."""
    launches = words[2].startswith("-") and "--dry-run" not in words
    return launches or words[2] == "benchmark" or "--measure" in words


COMMANDS = {
    path: [
        (words, output)
        for block in blocks(path, "bash", "console")
        if block.name != "slurm"
        for words, output in block.commands()
    ]
    for path in PATHS
}
QUICK, LONG = [], []
for _path, _commands in COMMANDS.items():
    found = [item for item in _commands if is_ours(item[0])]
    for item in [] if any(trains(words) for words, _ in found) else found:
        QUICK.append(pytest.param(*item, id=f"{_path.name}: {' '.join(item[0][2:])}"))
    if any(trains(words) for words, _ in found):
        LONG.append(pytest.param(found, id=_path.name))


def check(words: list[str], output: str, clone: Path, *, exactly: bool) -> None:
    """Runs a command; it must print the lines that the document shows.

    Args:
        words: the command.
        output: what the document shows; a line of three dots stands for any lines.
        clone: where to run it.
        exactly: whether lines must be equal; if not, only their beginnings, as far as the first
            number or the third word.
    """
    lines = [line.rstrip() for line in run(words, clone).splitlines()]
    for shown in output.splitlines():
        beginning = shown if exactly else documents.beginning(shown)
        found = any(line == shown or (not exactly and line.startswith(beginning)) for line in lines)
        assert found or shown in ("", "..."), f"{shown}\nis not in\n{lines}"


def test_commands_are_ours_or_known() -> None:
    for commands in COMMANDS.values():
        for words, _ in commands:
            assert is_ours(words) or words[0] == "make"


@pytest.mark.integration
@pytest.mark.parametrize(("words", "output"), QUICK)
def test_quick_commands(words: list[str], output: str, clone: Path) -> None:
    check(words, output, clone, exactly=True)


@pytest.mark.slow
@pytest.mark.parametrize("commands", LONG)
def test_documents_with_training(commands: list[tuple[list[str], str]], clone: Path) -> None:
    """In order: later commands show what earlier ones trained."""
    for words, output in commands:
        check(words, output, clone, exactly=words[2] == "flops")


def small_commands(path: Path) -> list[list[str]]:
    """The commands of a document that train for minutes, and those that use what these trained."""
    named = [block for block in blocks(path, "sh") if block.name == "small"]
    return [words for block in named for words, _ in block.commands()]


SMALL = ("data.limit=16", "epochs=1", "warmup_epochs=0", "batch_size=4", "micro_batch_size=2")


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in PATHS if small_commands(path)])
def test_commands_that_train_for_minutes(path: Path, clone: Path) -> None:
    """In order, on few images, with the files that the document names."""
    Image.new("RGB", (160, 140), "teal").save(clone / "street.jpg")
    for words in small_commands(path):
        small = [f"--set={setting}" for setting in SMALL] if trains(words) else []
        run([*(str(next(clone.glob(w))) if "*" in w else w for w in words), *small], clone)
        for weights in clone.glob("results/detector/runs/*/weights.pt"):
            shutil.copy(weights, clone)
    assert (clone / "street.predicted.png").is_file()
    assert (clone / "pictures" / "street.predicted.png").is_file()


FOR_USERS_FILES = [
    words
    for path in PATHS
    for block in blocks(path, "sh")
    if block.name != "small"
    for words, _ in block.commands()
    if not set(RUN_ELSEWHERE) & set(words)
]


@pytest.mark.integration
@pytest.mark.parametrize("words", FOR_USERS_FILES, ids=lambda words: " ".join(words[2:]))
@pytest.mark.usefixtures("users_files")
def test_commands_for_users_files(words: list[str], clone: Path) -> None:
    """Those that would take long are only planned, or parsed."""
    if NEEDS_NETWORK in words or words[2] in ("benchmark", "robustness") or "--test" in words:
        run([*words, "--help"], clone)  # parses what is before it
    elif "--study" in words:
        run([*words, "--dry-run"], clone)
    else:
        run(words, clone)


@pytest.mark.integration
def test_the_make_targets_exist() -> None:
    targets = {w[1] for commands in COMMANDS.values() for w, _ in commands if w[0] == "make"}
    assert {"roadmap", "test"} <= targets
    subprocess.run(["make", "-n", *targets, "lint", "test-all", "golden"], cwd=ROOT, check=True,
                   capture_output=True)  # fmt: skip


PYTHON = [
    pytest.param(block.text, id=path.name)
    for path in PATHS
    for block in blocks(path, "python")
    if not block.name
]


@pytest.mark.integration
@pytest.mark.parametrize("code", PYTHON)
def test_the_python_in_it_runs(code: str, clone: Path) -> None:
    assert run(["python", "-c", code], clone)


LINKS = [
    pytest.param(path, link, id=f"{path.name}: {link}") for path in PATHS for link in links(path)
]


@pytest.mark.parametrize(("path", "link"), LINKS)
def test_links_lead_somewhere(path: Path, link: str) -> None:
    file, _, anchor = link.partition("#")
    target = path.parent / file if file else path
    assert target.exists()
    assert not anchor or anchor in anchors(target)
