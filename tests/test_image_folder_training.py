"""The recipe of the paper on a folder of JPEGs, from the command line to the record."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import call
from PIL import Image

SYNSETS = ("n01440764", "n01443537", "n01484850", "n01491361")
SMALL = ["batch_size=32", "micro_batch_size=16", "epochs=2", "warmup_epochs=1",
         "data.image_size=64", "data.resize=72", "compute.workers=1"]  # fmt: skip


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ImageNet's layout with four classes that differ in colour."""
    folder = tmp_path_factory.mktemp("jpegs")
    draw = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 9)):
        for number, synset in enumerate(SYNSETS):
            class_folder = folder / split / synset
            class_folder.mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(0, 256, (6, 8, 3), dtype=np.uint8)
                pixels[..., number % 3] //= 4
                image = Image.fromarray(pixels).resize((120 + 7 * (i % 5), 110))
                image.save(class_folder / f"{synset}_{i}.JPEG", quality=85)
    return folder


def train(results: Path, images: Path, *arguments: str, status: int = 0) -> str:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    return call(
        "--preset", "imagenet-100", "--regime", "nano", "--only", "downsample", "--name", "folder",
        *settings, "--data", images, "--results", results, *arguments, status=status,
    )  # fmt: skip


@pytest.mark.slow
def test_the_whole_recipe_on_a_folder_of_jpegs(jpegs: Path, tmp_path: Path) -> None:
    told = train(tmp_path, jpegs)
    assert "96 training images and 36 validation images" in told
    assert "top-1" in told
    run = next((tmp_path / "folder" / "runs").iterdir())
    speed = [json.loads(line) for line in (run / "speed.jsonl").read_text().splitlines()]
    assert all(0 <= row["data_wait"] <= 1 for row in speed)
    record = json.loads((run / "record.json").read_text())
    assert record["epochs"] == 2
    assert record["provenance"]["bad_images"] == 0


@pytest.mark.slow
def test_an_unreadable_image_is_named_and_passed_over_on_request(
    jpegs: Path, tmp_path: Path
) -> None:
    bad = jpegs / "train" / SYNSETS[1] / f"{SYNSETS[1]}_3.JPEG"
    whole = bad.read_bytes()
    try:
        bad.write_bytes(whole[:200])
        told = train(tmp_path, jpegs, status=1)
        assert bad.name in told
        assert "--skip-bad-images" in told
        train(tmp_path, jpegs, "--skip-bad-images")
        run = next((tmp_path / "folder" / "runs").iterdir())
        assert json.loads((run / "record.json").read_text())["provenance"]["bad_images"] == 1
    finally:
        bad.write_bytes(whole)


def test_a_folder_without_train_and_val(tmp_path: Path) -> None:
    told = train(tmp_path / "results", tmp_path, "--dry-run", status=2)
    assert "train" in told
    assert str(tmp_path) in told
