"""Custom data sets: a Python file that the user names."""

import shutil
from pathlib import Path

import pytest
import torch
from data_kinds import Row, choose, epoch, refused, write

from ablations.commands.launch import design
from ablations.data.datasets import load_dataset
from ablations.launching.experiment import Experiment
from modernize.errors import UsageError


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("import nothing_like_this", "nothing_like_this"),
        ("def train(): return [(0, 0)]", "CLASSES"),
        ("CLASSES = ['a', 'b']", "train"),
        ("CLASSES = ['a', 'a']\ndef train(): return []", "twice"),
        ("CLASSES = ['a', 'b']\ndef train(): return []\nval = train", "0 images"),
        ("CLASSES = ['a', 'b']\ndef train(): return [(0, 2)]\nval = train", "2 of image 0"),
        ("CLASSES = ['a', 'b']\ndef train(): return [('x', 1)]\nval = train", "str"),
        ("CLASSES = ['a', 'b']\ndef train(): return 1 / 0\nval = train", "line 2"),
    ],
)
def test_a_file_that_defines_no_set_is_refused(code: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(code)
    text = refused(choose("custom", file))
    assert str(file) in text or "mine.py" in text
    assert named in text


DRAWING = """
import random
import numpy as np

CLASSES = ["a", "b"]

class Noise:
    labels = [i % 2 for i in range(20)]

    def __len__(self):
        return 20

    def __getitem__(self, i):
        return np.full((40, 40, 3), random.randrange(256), np.uint8), self.labels[i]

def train():
    return Noise()

val = train
"""


@pytest.mark.integration
def test_random_numbers_of_a_custom_set_are_seeded_by_place(tmp_path: Path) -> None:
    (tmp_path / "noise.py").write_text(DRAWING)
    choice = choose("custom", tmp_path / "noise.py")
    images = load_dataset(choice)
    first, second = (
        [batch for batch in epoch(images, choice, workers) if len(batch) == 3] for workers in (0, 2)
    )
    assert all(torch.equal(a[1], b[1]) for a, b in zip(first, second, strict=True))


def test_a_study_keeps_a_copy_of_the_file_and_trains_with_it(
    rows: list[Row], tmp_path: Path
) -> None:
    choice = write("custom", tmp_path / "set", rows)

    def plan() -> Experiment:
        return design(
            name="mine", skip_bad_images=False, loggers=(), results=tmp_path,
            study="roadmap", first=None, last=None, only=("ln",), seeds=1, preset="imagenet-100",
            regime="nano", data=choice.source, check_images=True, start=None, start_ema=False,
            settings=("data.name=custom", "batch_size=8", "micro_batch_size=4", "epochs=1",
                      "warmup_epochs=0"),
        )  # fmt: skip

    with plan().locked() as experiment:
        [job] = experiment.jobs()
    copy = Path(job.data.source)
    assert copy.parent == tmp_path / "mine" / "data"
    assert copy.read_bytes() == Path(choice.source).read_bytes()
    assert load_dataset(job.data).identity() == job.run.images
    name = job.run.name
    Path(choice.source).write_text(copy.read_text() + "# changed")
    with pytest.raises(UsageError, match="sha256"):
        plan()
    assert load_dataset(job.data).identity() == job.run.images  # of the jobs that are queued
    shutil.rmtree(tmp_path / "mine")
    assert plan().planned[0].run.name != name
