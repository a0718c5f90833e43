"""Small images on the device: crops, flips and normalisation."""

import numpy as np
import pytest
import torch

from ablations.data.images import InMemoryDataset
from ablations.data.in_memory_loader import InMemoryTrainLoader, InMemoryValidationLoader
from ablations.data.loaders import Loaders, make_loaders
from ablations.data.sampling import Rank, Sampling, derive
from ablations.data.transforms import batch_format
from ablations.recipe import load_preset


def small(count: int = 40) -> InMemoryDataset:
    """Images that differ in every pixel, so that a wrong crop or flip shows."""
    pixels = np.arange(count * 28 * 28, dtype=np.int64) % 251
    train = pixels.astype(np.uint8).reshape(count, 1, 28, 28)
    labels = np.arange(count) % 10
    return InMemoryDataset("small", train, labels, train[:7], labels[:7], "0")


def make(*settings: str, rank: Rank | None = None, channels_last: bool = True) -> Loaders:
    preset = load_preset("nano", ["batch_size=16", "micro_batch_size=8", *settings])
    sampling = Sampling(40, 16, 8, seed=0, process=rank or Rank())
    recipe, device = preset.recipes.enhanced, torch.device("cpu")
    compute = preset.compute.model_copy(update={"channels_last": channels_last})
    return make_loaders(small(), preset.data, recipe, sampling, device, compute)


def augment(loaders: Loaders, x: torch.Tensor, seeds: list[int]) -> torch.Tensor:
    assert isinstance(loaders.train, InMemoryTrainLoader)
    return loaders.train._augment(x, seeds)


def normalised(x: torch.Tensor) -> torch.Tensor:
    pixels = torch.from_numpy(small().train).double() / 255
    return (x.double() / 255 - pixels.mean()) / pixels.std()


@pytest.mark.parametrize("world", [1, 2, 3])
def test_validation_yields_every_image_once_padded_and_normalised(world: int) -> None:
    served: dict[int, torch.Tensor] = {}
    for rank in range(world):
        preset = load_preset("nano")
        loader = InMemoryValidationLoader(
            small(),
            preset.data,
            Rank(rank, world),
            batch_format(small(), preset.data, torch.device("cpu")),
            batch_size=2,
        )
        for x, labels in loader:
            for image, label in zip(x, labels, strict=True):
                assert int(label) not in served
                served[int(label)] = image
    assert sorted(served) == list(range(7))  # the labels of these images are their numbers
    for number, image in served.items():
        expected = normalised(torch.from_numpy(small().val[number]))
        assert image.shape == (1, 32, 32)
        assert torch.allclose(image[:, 2:-2, 2:-2].double(), expected, atol=1e-5)


def test_training_yields_the_images_of_the_sampling() -> None:
    batches = make("flip=0.0", "crop_padding=0")
    images = small()
    for batch, x, labels in batches.train.epoch(0):
        assert torch.equal(labels, torch.from_numpy(images.train_labels)[batch.indices])
        expected = normalised(torch.from_numpy(images.train)[batch.indices])
        assert torch.allclose(x[:, :, 2:-2, 2:-2].double(), expected, atol=1e-5)


def test_two_processes_divide_the_batches_of_one() -> None:
    def served(rank: Rank) -> dict[int, torch.Tensor]:
        return {batch.seed: x for batch, x, _ in make(rank=rank).train.epoch(1)}

    alone = served(Rank())
    together = served(Rank(0, 2)) | served(Rank(1, 2))
    assert alone.keys() == together.keys()
    assert all(torch.equal(alone[seed], together[seed]) for seed in alone)


def test_from_any_update_on_the_batches_are_the_same() -> None:
    whole = [x for _, x, _ in make().train.epoch(0)]
    rest = [x for _, x, _ in make().train.epoch(0, first_update=1)]
    assert len(rest) == len(whole) - 2
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], rest, strict=True))


def test_augmentation_is_a_crop_of_the_padded_image_flipped_or_not() -> None:
    batches = make("crop_padding=2", "flip=0.5")
    plain = torch.nn.functional.pad(torch.from_numpy(small().train), (2, 2, 2, 2))
    padded = torch.nn.functional.pad(plain, (2, 2, 2, 2))
    candidates = {}
    for top in range(5):
        for left in range(5):
            window = padded[:, :, top : top + 32, left : left + 32]
            candidates[top, left, False] = window
            candidates[top, left, True] = window.flip(3)
    seen = []
    for round_ in range(25):
        x = augment(batches, plain, [derive("image", round_, i) for i in range(40)])
        for i in range(40):
            matches = [key for key, window in candidates.items() if torch.equal(window[i], x[i])]
            assert len(matches) == 1
            seen.append(matches[0])
    # 1,000 draws of 50 equally likely outcomes: each about 20 times, and flips about half.
    counts = {key: seen.count(key) for key in candidates}
    assert min(counts.values()) >= 5
    assert 440 <= sum(flipped for *_, flipped in seen) <= 560


def test_flips_come_as_often_as_asked() -> None:
    x = torch.arange(28).expand(1000, 1, 28, 28).to(torch.uint8)
    for probability in (0.0, 0.2, 1.0):
        batches = make("crop_padding=0", f"flip={probability}")
        y = augment(batches, x, [derive(probability, i) for i in range(1000)])
        rank = (y[:, 0, 0, 0] == 27).float().mean().item()
        assert rank == pytest.approx(probability, abs=0.05 if 0 < probability < 1 else 0)


@pytest.mark.parametrize("channels_last", [True, False])
def test_memory_is_laid_out_as_asked(channels_last: bool) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    batches = make("data.mean=[0.5]", "data.std=[0.25]", channels_last=channels_last)
    _, x, _ = next(iter(batches.train.epoch(0)))
    assert x.is_contiguous(memory_format=layout)
    assert x.min() >= -2
    assert x.max() <= 2
