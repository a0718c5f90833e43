"""Loaders of images with objects and label maps: order, padding, workers, processes."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from ablations.data.dense.loaders import (
    DenseTrainLoader,
    DenseValidationLoader,
    collate_labels,
    collate_objects,
    collate_tests,
)
from ablations.data.dense.scenes import scenes_with_labels, scenes_with_objects
from ablations.data.dense.splits import Objects
from ablations.data.dense.transforms import (
    DetectionAugmentation,
    Resize,
    SegmentationAugmentation,
    Size,
)
from ablations.data.sampling import Rank, Sampling
from ablations.data.transforms import BatchFormat
from ablations.data.worker_dataset import BadImageError

BATCHES = BatchFormat((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), torch.device("cpu"))
AUGMENTATION = DetectionAugmentation(
    sizes=(64, 80, 96), longest=150, crop_sizes=(80, 100), crop_range=(40, 90)
)


class Varied:
    """Images of different sizes, each with some objects and a crowd."""

    def __init__(self, count: int, bad: tuple[int, ...] = ()) -> None:
        self.count, self.bad = count, bad

    def __len__(self) -> int:
        return self.count

    def path(self, index: int) -> str:
        return f"varied/{index}.png"

    def size(self, index: int) -> tuple[int, int]:
        return 40 + index % 30, 50 + 7 * index % 40

    def pixels(self, index: int) -> Any:
        if index in self.bad:
            raise OSError("broken on purpose")
        height, width = self.size(index)
        return np.full((height, width, 3), index, np.uint8)

    def target(self, index: int) -> Objects:
        height, width = self.size(index)
        masks = np.zeros((index % 4, height, width), np.uint8)
        masks[:, 2:9, 3:12] = 1
        boxes = np.array([[3, 2, 12, 9]] * len(masks), np.float32).reshape(-1, 4)
        ignored = np.array([[0, 0, 5, 5]] * (index % 2), np.float32).reshape(-1, 4)
        return Objects(boxes, np.full(len(masks), index), masks, ignored)


def train_objects(rank: Rank | None = None, workers: int = 0, **options: Any) -> Any:
    split = options.pop("split", None) or scenes_with_objects(32, 1).train
    sampling = Sampling(len(split), 8, 2, seed=5, process=rank or Rank())
    transform = options.pop("transform", AUGMENTATION)
    return DenseTrainLoader(
        split, transform, collate_objects, sampling, BATCHES, workers=workers, **options
    )


def train_labels(rank: Rank | None = None, workers: int = 0) -> Any:
    sampling = Sampling(32, 8, 2, seed=5, process=rank or Rank())
    transform = SegmentationAugmentation(Size(128, 256), crop=96)
    split = scenes_with_labels(32, 1).train
    return DenseTrainLoader(split, transform, collate_labels, sampling, BATCHES, workers=workers)


def flat(loader: Any, epoch: int = 0, update: int = 0) -> Iterator[tuple[Any, ...]]:
    """Each micro-batch as plain values, which can be compared."""
    for batch, images, targets in loader.epoch(epoch, update):
        if not isinstance(targets, torch.Tensor):
            targets = [
                {k: v.tolist() if isinstance(v, torch.Tensor) else v for k, v in target.items()}
                for target in targets
            ]
        else:
            targets = targets.tolist()
        yield batch.update, batch.indices.tolist(), images.tolist(), targets
    loader.close()


@pytest.mark.integration
@pytest.mark.parametrize("make", [train_objects, train_labels])
def test_any_number_of_workers_and_processes_yields_the_same(make: Callable[..., Any]) -> None:
    alone = list(flat(make()))
    assert len(alone) == 16
    assert list(flat(make(workers=2))) == alone
    two = [list(flat(make(Rank(rank, 2)))) for rank in range(2)]
    assert sorted((b[0], b[1]) for part in two for b in part) == sorted((b[0], b[1]) for b in alone)
    assert all(batch in alone for part in two for batch in part)
    assert list(flat(make(), update=2)) == alone[8:]  # resumed at an update
    assert list(flat(make(), epoch=1)) != alone


def test_images_are_padded_to_a_multiple_of_32_and_targets_with_them() -> None:
    split = Varied(30)
    loader = train_objects(split=split, transform=Resize(None))
    for batch, images, targets in loader.epoch(0):
        sizes = [split.size(i) for i in batch.indices.tolist()]
        height, width = (-(-max(s[axis] for s in sizes) // 32) * 32 for axis in (0, 1))
        assert images.shape == (2, 3, height, width)
        assert images.is_contiguous(memory_format=torch.channels_last)
        for i, size, image, target in zip(
            batch.indices.tolist(), sizes, images, targets, strict=True
        ):
            h, w = target["size"]
            assert (h, w) == size
            expected = (i / 255 - torch.tensor(BATCHES.mean)) / torch.tensor(BATCHES.std)
            assert torch.allclose(image[:, :h, :w], expected[:, None, None], atol=1e-5)
            assert not image[:, h:].any()
            assert not image[:, :, w:].any()
            assert target["masks"].shape == (i % 4, height, width)
            assert target["masks"].dtype == torch.uint8
            assert target["labels"].tolist() == [i] * (i % 4)
            assert target["labels"].dtype == torch.int64
            assert target["boxes"].tolist() == [[3, 2, 12, 9]] * (i % 4)
            assert target["ignored"].shape == (i % 2, 4)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_validation_yields_each_image_once(world: int) -> None:
    split, seen = Varied(7), []
    for rank in range(world):
        loader = DenseValidationLoader(
            split, Resize(Size(80, 100)), collate_tests, BATCHES,
            source="here", batch_size=2, process=Rank(rank, world), workers=0,
        )  # fmt: skip
        for images, targets in loader:
            assert len(images) == len(targets)
            for target in targets:
                index = target["index"]
                seen.append(index)
                assert target["original"] == split.size(index)
                assert target["size"] == Size(80, 100).of(*split.size(index))
    assert sorted(seen) == list(range(7))


def test_validation_of_label_maps_has_original_images() -> None:
    images = scenes_with_labels(1, 5)
    loader = DenseValidationLoader(
        images.val, Resize(None), collate_labels, BATCHES, source="", batch_size=2, workers=0
    )
    found = torch.cat([labels for _, labels in loader])
    assert found.dtype == torch.int64
    assert torch.equal(found, torch.from_numpy(np.stack([images.val.target(i) for i in range(5)])))


def test_smaller_crops_are_padded_with_the_ignored_label() -> None:
    split = scenes_with_labels(8, 1).train
    transform = SegmentationAugmentation(Size(64), ratios=(1, 1), crop=96, distort=False)
    sampling = Sampling(8, 4, 4, seed=0)
    loader = DenseTrainLoader(split, transform, collate_labels, sampling, BATCHES, workers=0)
    for _, images, labels in loader.epoch(0):
        assert images.shape == (4, 3, 96, 96)
        assert (labels[:, :64, :64] != 255).all()
        for part in (labels[:, 64:], labels[:, :, 64:]):
            assert (part == 255).all()
        assert not images[:, :, 64:].any()


@pytest.mark.integration
@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_images_are_an_error_or_skipped(workers: int) -> None:
    split = Varied(16, bad=(3, 4))
    loader = train_objects(split=split, transform=Resize(None), workers=workers)
    with pytest.raises(BadImageError, match=r"varied/[34]\.png.*broken on purpose"):
        list(loader.epoch(0))
    loader = train_objects(
        split=split, transform=Resize(None), workers=workers, skip_bad_images=True
    )
    labels = {label for _, _, targets in loader.epoch(0) for t in targets for label in t["labels"].tolist()}  # fmt: skip  # noqa: E501
    loader.close()
    assert not {3, 4} & labels
    assert set(loader.bad) == {"varied/3.png", "varied/4.png"}
    val = DenseValidationLoader(
        split, Resize(None), collate_tests, BATCHES,
        source="", workers=workers, skip_bad_images=True,
    )  # fmt: skip
    seen = [target["index"] for _, targets in val for target in targets]
    val.close()
    assert seen == [i for i in range(16) if i not in (3, 4)]
