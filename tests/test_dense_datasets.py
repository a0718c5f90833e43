"""Detection and segmentation on users' images, from the command to the record."""

from pathlib import Path

import pytest
import test_coco
import test_label_maps
from dense_runs import go

from ablations.data.content_digest import digest_content
from ablations.data.dense.datasets import load_label_maps, load_objects
from ablations.data.images import DataError
from ablations.data_sets import DENSE
from ablations.recipe import load_preset
from ablations.records import Status

LOADERS = {"nano-detection": load_objects, "nano-segmentation": load_label_maps}


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, list[str]]:
    """The settings of data, by preset."""
    coco = test_coco.write(tmp_path / "coco")
    test_label_maps.write(tmp_path / "maps")
    return {
        "nano-detection": ["data.name=coco", f"data.source={coco}"],
        "nano-segmentation": ["data.name=label-maps", f"data.source={tmp_path / 'maps'}"],
    }


@pytest.mark.parametrize("preset", LOADERS)
@pytest.mark.parametrize(
    "setting", ["data.name=cifar10", "data.validation=0.1", "data.classes=[1, 2]"]
)
def test_wrong_kinds_and_settings_are_refused(preset: str, setting: str) -> None:
    choice = load_preset(preset, [setting]).data
    with pytest.raises(DataError) as caught:
        LOADERS[preset](choice)
    key, _, value = setting.partition("=")
    assert key in str(caught.value)
    assert value.strip("[]").partition(",")[0] in str(caught.value)


@pytest.mark.parametrize("kind", DENSE)
def test_each_kind_is_of_one_task(kind: str, folders: dict[str, list[str]]) -> None:
    right = "nano-detection" if kind == "coco" else "nano-segmentation"
    for preset, load in LOADERS.items():
        choice = load_preset(preset, [*folders[right], f"data.name={kind}"]).data
        if preset == right:
            assert len(load(choice).train) > 0
        else:
            with pytest.raises(DataError, match=kind):
                load(choice)


@pytest.mark.parametrize("preset", LOADERS)
def test_images_that_were_replaced_are_noticed(preset: str, folders: dict[str, list[str]]) -> None:
    choice = load_preset(preset, folders[preset]).data
    before = LOADERS[preset](choice)
    path = Path(before.train.path(0))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # the same size
    after = LOADERS[preset](choice)
    assert after.digest == before.digest
    assert digest_content(after.readers()) != digest_content([])
    changed = digest_content(after.readers())
    path.write_bytes(content)
    assert digest_content(after.readers()) != changed


@pytest.mark.slow
@pytest.mark.parametrize("preset", LOADERS)
def test_a_run_on_images_of_different_sizes(
    preset: str, folders: dict[str, list[str]], tmp_path: Path
) -> None:
    settings = ("batch_size=2", "micro_batch_size=2", *folders[preset])
    record = go(preset, tmp_path / "run", *settings)
    assert record is not None
    assert record.status is Status.FINISHED, record.reason
