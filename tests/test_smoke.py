"""``--smoke``: every step from end to end in the least time, apart from all real results."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.data.datasets import load_dataset
from ablations.fit import Machine, RunSetup, check
from ablations.launching.slurm_config import EXAMPLE, load_slurm_config
from ablations.recipe import load_preset, preset_names
from ablations.studies.estimates import find_images
from ablations.tasks.registry import make_task
from modernize import until

Launch = Callable[..., str]


@pytest.mark.integration
def test_a_smoke_test_trains_two_updates_in_a_study_of_its_own(
    launch: Launch, tmp_path: Path
) -> None:
    batches = ["--set", "batch_size=200", "--set", "micro_batch_size=50", "--set", "epochs=9"]
    asked, mine = ["--only", "resnet,ln", *batches], ["--name", "mine"]
    told = launch(*asked, *mine, "--smoke")
    assert "2 of 2 runs to do" in told
    assert [path.name for path in tmp_path.iterdir()] == ["mine-smoke"]
    study = tmp_path / "mine-smoke"
    assert (study / "roadmap.svg").stat().st_size > 5_000
    for record in study.glob("runs/*/record.json"):
        assert json.loads(record.read_text())["epochs"] == 1
        config = json.loads((record.parent / "config.json").read_text())
        assert [config["recipe"][key] for key in ("batch_size", "micro_batch_size")] == [50, 50]
        assert [config["images"][f"{split}_images"] for split in ("train", "val")] == [100, 100]
    assert "0 of 2 runs to do" in launch(*asked, "--smoke", "--name", "mine-smoke", "--dry-run")
    # The real study knows nothing of it, and cannot be begun in its folder.
    assert "2 of 2 runs to do" in launch(*asked, *mine, "--dry-run")
    assert "epochs: 1 there, 9 here" in launch(*asked, "--name", "mine-smoke", status=2)


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize("processes", [1, load_slurm_config(EXAMPLE).processes])
def test_every_shipped_preset_can_be_tried(preset: str, processes: int) -> None:
    """On as many processes as the example SLURM config has."""
    short, _ = load_preset(preset).smoke(processes)
    images, task = short.data.limit or 0, make_task(short.task_choice)
    for variant in until("ln", short.regime):
        spec, recipe = short.recipes.of_variant(variant, short.regime)
        assert images // recipe.batch_size >= 2
        wanted = RunSetup(recipe, spec, images, short.data, short.compute, task)
        check([(variant.key, wanted)], Machine("cuda", processes))


@pytest.mark.parametrize("limit", [1, 7, 499, 500, 501, 1999])
def test_a_limit_takes_images_evenly_and_keeps_the_classes(few_images: Path, limit: int) -> None:
    choice = load_preset("nano", [f"data.limit={limit}"], str(few_images)).data
    some, every = load_dataset(choice), load_dataset(choice.model_copy(update={"limit": None}))
    assert [len(some.train), len(some.val)] == [limit, min(limit, 500)]
    assert some.num_classes == every.num_classes == 10
    assert find_images(choice).count == limit
    assert some.digest != every.digest
    assert len(some.train_labels) == len(some.train)


def test_a_limit_above_all_images_changes_nothing(few_images: Path) -> None:
    choice = load_preset("nano", ["data.limit=2000"], str(few_images)).data
    assert (
        load_dataset(choice).identity()
        == load_dataset(choice.model_copy(update={"limit": None})).identity()
    )
