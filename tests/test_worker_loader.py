"""Photos through worker processes: timm's pixels, the same batches however they are made."""

import errno
import functools
import importlib
import multiprocessing
import os
import pickle
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ablations.choices import DataChoice
from ablations.data import transforms
from ablations.data.datasets import load_dataset
from ablations.data.images import InMemoryDataset, ListedImages
from ablations.data.loaders import Loaders, make_loaders
from ablations.data.readers import FileReader
from ablations.data.sampling import MicroBatch, Rank, Sampling, derive
from ablations.data.worker_dataset import BadImageError, RawBatch
from ablations.data.worker_loader import WorkerTrainLoader
from ablations.data.worker_pool import PickledBatch, WorkerError
from ablations.recipe import Recipe, load_preset
from ablations.tasks.classification import Classification
from ablations.training.device_context import make_device_context
from modernize.errors import UsageError

CPU = torch.device("cpu")
CLASSES = ("n01440764", "n01443537", "n01484850")
SIZES = ((80, 60), (60, 80), (47, 91), (120, 50), (64, 64))  # landscape and portrait
RAND = "rand-m9-mstd0.5-inc1"
RECIPE: dict[str, Any] = {
    **load_preset("imagenet").recipes.classic.model_dump(), "rand_augment": RAND,
    "random_erasing": 0.5, "batch_size": 8, "micro_batch_size": 4, "epochs": 2, "warmup_epochs": 0,
}  # fmt: skip
TIMM: dict[str, Any] = {"interpolation": "bicubic", "mean": transforms.IMAGENET_MEAN}
Batch = tuple[MicroBatch, Tensor, Tensor]


def make_recipe(**changes: Any) -> Recipe:
    return Recipe(**RECIPE | changes)


def make_choice(root: str | Path = "", **changes: Any) -> DataChoice:
    values = {"name": "image-folder", "source": str(root), "image_size": 48, "resize": 55}
    return DataChoice(**values | changes)


def write_images(root: Path, per_class: int, val_per_class: int) -> None:
    """JPEGs of blurred noise: every pixel differs, and files are small."""
    rng = np.random.default_rng(0)
    for split, count in (("train", per_class), ("val", val_per_class)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
                image = coarse.resize(SIZES[i % len(SIZES)], Image.Resampling.BICUBIC)
                image.save(root / split / name / f"{name}_{i}.JPEG", quality=90)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    write_images(root, per_class=9, val_per_class=5)
    return root


@pytest.fixture(scope="module")
def folder(root: Path) -> ListedImages:
    images = load_dataset(make_choice(root))
    assert isinstance(images, ListedImages)
    return images


def make(images: InMemoryDataset | ListedImages, **options: Any) -> Loaders:
    """Options are those of Recipe, DataChoice, Rank and make_loaders together."""
    recipe = make_recipe(**{k: options.pop(k) for k in list(options) if k in Recipe.model_fields})
    choice = make_choice(
        **{k: options.pop(k) for k in list(options) if k in DataChoice.model_fields}
    )
    rank = Rank(options.pop("rank", 0), options.pop("world", 1))
    sampling = Sampling(
        len(images.train_labels), recipe.batch_size, recipe.micro_batch_size, seed=7, process=rank
    )
    compute = load_preset("nano").compute.model_copy(
        update={k: options.pop(k) for k in ("workers", "channels_last") if k in options}
    )
    return make_loaders(images, choice, recipe, sampling, CPU, compute, **options)


def same(ours: list[Batch], theirs: list[Batch]) -> bool:
    """Whether two streams of batches are one, bit by bit."""
    return len(ours) == len(theirs) and all(
        a.seeds == b.seeds and torch.equal(x, u) and torch.equal(y, v)
        for (a, x, y), (b, u, v) in zip(ours, theirs, strict=True)
    )


@pytest.fixture(scope="module")
def epoch(folder: ListedImages) -> list[Batch]:
    """The epoch that all others must equal."""
    return list(make(folder).train.epoch(epoch=1))


def read(folder: ListedImages, index: int) -> Image.Image:
    return Image.open(Path(folder.source) / os.fsdecode(folder.train[index])).convert("RGB")


def timms(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"timm.data.{module}"), name)


# Batches


def test_batches_are_whole_and_carry_the_right_labels(
    folder: ListedImages, epoch: list[Batch]
) -> None:
    assert [batch.update for batch, *_ in epoch] == [0, 0, 1, 1, 2, 2]
    for batch, x, labels in epoch:
        assert x.shape == (4, 3, 48, 48)
        assert x.dtype == torch.float32
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert labels.dtype == torch.int64
        assert labels.tolist() == folder.train_labels[batch.indices].tolist()
    assert len({i for batch, *_ in epoch for i in batch.indices.tolist()}) == 24


def test_the_other_layout_holds_the_same_numbers(folder: ListedImages, epoch: list[Batch]) -> None:
    plain = list(make(folder, channels_last=False).train.epoch(1))
    assert same(plain, epoch)
    assert all(x.is_contiguous() for _, x, _ in plain)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_validation_yields_every_image_once_over_all_processes(
    folder: ListedImages, world: int
) -> None:
    served = []
    for rank in range(world):
        batches = make(folder, rank=rank, world=world, batch_size=12, micro_batch_size=2)
        parts = list(batches.validation)
        assert [len(x) for x, _ in parts[:-1]] == [4] * (len(parts) - 1)
        served += [(i, y) for x, labels in parts for i, y in zip(x, labels, strict=True)]
    (everything, labels) = next(iter(make(folder, micro_batch_size=8).validation))
    assert len(served) == len(everything) == len(folder.val)
    for image, label in served:
        matches = [i for i in range(len(everything)) if torch.equal(everything[i], image)]
        assert len(matches) == 1
        assert labels[matches[0]] == label


# Against the libraries


def pixels_of(transform: Callable[[Any], Any], image: Image.Image) -> Tensor:
    result = transform(image)
    return result if isinstance(result, Tensor) else torch.from_numpy(np.array(result))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_evaluation_sees_the_pixels_of_timm_and_torchvision(
    folder: ListedImages, interpolation: str
) -> None:
    create_transform = timms("transforms_factory", "create_transform")
    from torchvision import transforms as torchvisions

    choice = make_choice(image_size=224, resize=256, interpolation=interpolation)
    ours = transforms.evaluation_transform(choice)
    timm = create_transform(
        224, crop_pct=224 / 256, interpolation=interpolation, use_prefetcher=True
    )
    mode = torchvisions.InterpolationMode(interpolation)
    plain = torchvisions.Compose([torchvisions.Resize(256, mode), torchvisions.CenterCrop(224)])
    for index in range(len(SIZES)):
        image = read(folder, index)
        assert torch.equal(pixels_of(ours, image), pixels_of(plain, image))
        assert torch.equal(pixels_of(ours, image).permute(2, 0, 1), pixels_of(timm, image))


def test_training_sees_the_pixels_of_timm(folder: ListedImages) -> None:
    """The whole chain to the bytes: crop, flip and RandAugment draw in timm's order.

    Left out are draws for which Pillow refuses what timm asks of it (Posterize to 0 bits).
    """
    timm = timms("transforms_factory", "create_transform")(
        48, is_training=True, auto_augment=RAND, use_prefetcher=True, **TIMM
    )
    ours = transforms.training_transform(make_choice(), make_recipe(), transforms.IMAGENET_MEAN)
    refused = 0
    for seed in range(300):
        image = read(folder, seed % len(folder.train))
        transforms.seed_draws(derive(seed))
        mine = pixels_of(ours, image)
        transforms.seed_draws(derive(seed))
        try:
            theirs = pixels_of(timm, image)
        except ValueError:  # bits must be between or equal to 1 and 8
            refused += 1
            continue
        assert torch.equal(mine.permute(2, 0, 1), theirs)
    assert refused < 10


def test_rand_augment_alone_is_timms(folder: ListedImages) -> None:
    make_timms = timms("auto_augment", "rand_augment_transform")
    settings = {"translate_const": 21, "img_mean": (124, 116, 104), "interpolation": 3}
    for text in (RAND, "rand-m5-n3-mstd1-p0.7-tweights", "rand-m4-t3a-inc0"):
        ours = transforms.rand_augment(text, make_choice(), transforms.IMAGENET_MEAN)
        theirs = make_timms(text, dict(settings))
        for seed in range(40):
            image = read(folder, seed % len(folder.train))
            transforms.seed_draws(seed)
            mine = pixels_of(ours, image)
            transforms.seed_draws(seed)
            assert torch.equal(mine, pixels_of(theirs, image))


def test_posterize_to_no_bits_makes_an_image_black(folder: ListedImages) -> None:
    """What older Pillow did for timm, and Pillow 13 refuses."""
    transform: Any = transforms.rand_augment("rand-m10-p1-inc1", make_choice(), [0.5] * 3)
    op = next(op for op in transform.ops if op.name == "PosterizeIncreasing")
    for mode in ("RGB", "L"):
        assert not np.array(op(read(folder, 0).convert(mode))).any()


def test_whole_batches_are_timms_normalised_and_erased(
    folder: ListedImages, epoch: list[Batch]
) -> None:
    """timm's chain image by image, normalised as its loader does; then erased with the same draws.

    Erasing draws from a separate seed here; timm's continues the state that it finds.
    """
    transform = transforms.training_transform(
        make_choice(), make_recipe(), transforms.IMAGENET_MEAN
    )
    erase = timms("random_erasing", "RandomErasing")(0.5, mode="pixel", device="cpu")
    mean, std = (
        torch.tensor([255 * v for v in values]).view(3, 1, 1)
        for values in (transforms.IMAGENET_MEAN, transforms.IMAGENET_STD)
    )
    erased = 0
    for batch, x, _ in epoch:
        for index, seed, image in zip(batch.indices.tolist(), batch.seeds, x, strict=True):
            transforms.seed_draws(seed)
            expected = pixels_of(transform, read(folder, index)).permute(2, 0, 1).float()
            expected.sub_(mean).div_(std)
            before = expected.clone()
            transforms.seed_draws(derive(seed, "erasing"))
            assert torch.equal(erase(expected), image)
            erased += not torch.equal(before, expected)
    assert 5 < erased < 19  # of 24, at probability 0.5


# The same batches from every loader


@pytest.mark.integration
@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(
    folder: ListedImages, epoch: list[Batch], workers: int
) -> None:
    batches = make(folder, workers=workers)
    next(batches.train.epoch(0))  # a pass left before its end takes nothing from the next
    assert same(list(batches.train.epoch(1)), epoch)
    assert batches.train.data_wait > 0
    alone = list(make(folder).validation)
    for _ in range(2):  # and again with the same workers
        theirs = list(batches.validation)
        assert all(torch.equal(x, u) for (x, _), (u, _) in zip(alone, theirs, strict=True))
    assert same(list(batches.train.epoch(1, first_update=2)), epoch[4:])
    running = len(multiprocessing.active_children())
    assert running >= 2 * workers
    batches.close()
    assert len(multiprocessing.active_children()) == running - 2 * workers


@pytest.mark.integration
@pytest.mark.parametrize("found", [0, None], ids=["none left", "none to be had"])
def test_without_shared_memory_batches_travel_as_bytes(
    folder: ListedImages, epoch: list[Batch], monkeypatch: pytest.MonkeyPatch, found: int | None
) -> None:
    unpacked = []

    def fail(_: Tensor) -> None:
        raise RuntimeError("unable to allocate shared memory(shm)")

    def unpack(packed: PickledBatch) -> RawBatch:
        unpacked.append(packed)
        return usual(packed)

    usual = PickledBatch.unpack
    monkeypatch.setattr(PickledBatch, "unpack", unpack)
    if found is None:
        monkeypatch.setattr(Tensor, "share_memory_", fail)
    else:
        monkeypatch.setattr("ablations.data.worker_pool._free_shared_memory", lambda: found)
    batches = make(folder, workers=1)
    assert same(list(batches.train.epoch(1)), epoch)
    assert len(unpacked) == len(epoch)
    batches.close()


def test_workers_that_cannot_be_started_are_one_message(
    folder: ListedImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch.utils.data.DataLoader, "__iter__", full)
    with pytest.raises(WorkerError, match=r"No space left.*compute\.workers=0"):
        next(make(folder, workers=1).train.epoch(0))


def test_from_any_update_on_the_epoch_is_the_same(folder: ListedImages, epoch: list[Batch]) -> None:
    batches = make(folder)
    for update in range(4):
        assert same(list(batches.train.epoch(1, update)), epoch[2 * update :])
    assert not same(list(batches.train.epoch(2)), epoch)


def test_two_processes_divide_the_batches_of_one(folder: ListedImages, epoch: list[Batch]) -> None:
    shares = [list(make(folder, rank=rank, world=2).train.epoch(1)) for rank in (0, 1)]
    merged = [batch for pair in zip(*shares, strict=True) for batch in pair]
    assert same(merged, epoch)


@pytest.mark.integration
def test_the_global_random_states_stay_as_they_were(folder: ListedImages) -> None:
    def states() -> bytes:
        torchs = torch.get_rng_state().numpy().tobytes()
        return pickle.dumps((random.getstate(), np.random.get_state())) + torchs

    before = states()
    for workers in (0, 1):
        batches = make(folder, workers=workers)
        for _ in batches.train.epoch(0):
            assert states() == before
        for _ in batches.validation:
            assert states() == before


def test_a_pass_ends_when_another_begins(folder: ListedImages) -> None:
    batches = make(folder)
    first = batches.train.epoch(0)
    next(first)
    next(batches.train.epoch(0))
    with pytest.raises(RuntimeError, match="another one began"):
        next(first)


def test_a_split_can_be_sent_to_a_process_that_was_not_forked(folder: ListedImages) -> None:
    loader = make(folder).train
    assert isinstance(loader, WorkerTrainLoader)
    split = loader.pool.dataset
    again = pickle.loads(pickle.dumps(split))  # noqa: S301  # our own
    requests = [(0, 1), (1, 2)]
    assert torch.equal(again.__getitems__(requests).pixels, split.__getitems__(requests).pixels)


# Images in memory


def in_memory(channels: int, size: int = 32) -> InMemoryDataset:
    rng = np.random.default_rng(1)
    train, val = (rng.integers(0, 256, (n, channels, size, size), dtype=np.uint8) for n in (24, 7))
    return InMemoryDataset("small", train, np.arange(24) % 3, val, np.arange(7) % 3, "0")


@pytest.mark.parametrize("channels", [1, 3])
def test_images_in_memory_are_cropped_from_their_padded_selves(channels: int) -> None:
    images = in_memory(channels, size=28)  # which the network sees as 32
    batches = make(
        images, image_size=32, resize=None, resized_crop=None, crop_padding=2, rand_augment=None,
        random_erasing=0.0,
    )  # fmt: skip
    pixels = images.train / 255
    mean, std = (
        torch.from_numpy(v).view(-1, 1, 1).double()
        for v in (pixels.mean((0, 2, 3)), pixels.std((0, 2, 3), ddof=1))
    )
    padded = np.pad(images.train, ((0, 0), (0, 0), (4, 4), (4, 4)))
    seen = set()
    for batch, x, _ in batches.train.epoch(0):
        assert x.is_contiguous(memory_format=torch.channels_last)
        raw = ((x.double() * std + mean) * 255).round().to(torch.uint8).numpy()
        for index, image in zip(batch.indices.tolist(), raw, strict=True):
            matches = [
                (top, left, flip)
                for top in range(5)
                for left in range(5)
                for flip in (1, -1)
                if np.array_equal(
                    padded[index, :, top : top + 32, left : left + 32][:, :, ::flip], image
                )
            ]
            assert len(matches) == 1
            seen |= set(matches)
    assert len(seen) > 12
    ((x, labels),) = batches.validation
    raw = ((x.double() * std + mean) * 255).round().to(torch.uint8).numpy()
    assert np.array_equal(raw[:, :, 2:-2, 2:-2], images.val)
    assert labels.tolist() == images.val_labels.tolist()


@pytest.mark.parametrize("text", [RAND, "rand-m9-inc0", "rand-m9-t3a"])
def test_rand_augment_has_no_operation_that_grey_images_cannot_take(text: str) -> None:
    choice = make_choice(image_size=32)
    grey = Image.fromarray(in_memory(1).train[0, 0])
    transform: Any = transforms.rand_augment(text, choice, [0.3])
    for op in transform.ops:
        op.prob = 1.0
        random.seed(0)
        result = op(grey)
        assert (result.mode, result.size) == ("L", (32, 32))
    batches = make(in_memory(1), image_size=32, resize=None, rand_augment=text)
    assert all(
        x.shape == (4, 1, 32, 32) and x.isfinite().all() for _, x, _ in batches.train.epoch(0)
    )


def test_mean_and_deviation_can_be_given(folder: ListedImages) -> None:
    plain = next(iter(make(folder).validation))[0]
    given = next(iter(make(folder, mean=[0.5] * 3, std=[0.25] * 3).validation))[0]
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (transforms.IMAGENET_MEAN, transforms.IMAGENET_STD)
    )
    assert torch.allclose(given * 0.25 + 0.5, plain * std + mean, atol=1e-5)


# What goes wrong


def test_as_many_means_as_channels(folder: ListedImages) -> None:
    with pytest.raises(UsageError, match=r"data.mean is \[0.5\], .* 3 channels"):
        make(folder, mean=[0.5])


@pytest.fixture
def spoilt(root: Path, tmp_path: Path) -> ListedImages:
    """Two training images and a validation image that cannot be read."""
    shutil.copytree(root, tmp_path / "spoilt")
    train, val = (tmp_path / "spoilt" / split for split in ("train", "val"))
    whole = (train / CLASSES[0] / f"{CLASSES[0]}_8.JPEG").read_bytes()
    (train / CLASSES[0] / f"{CLASSES[0]}_8.JPEG").write_bytes(whole[: len(whole) // 2])
    (train / CLASSES[1] / f"{CLASSES[1]}_0.JPEG").write_text("a page that says 404")
    (val / CLASSES[2] / f"{CLASSES[2]}_1.JPEG").write_text("")
    images = load_dataset(make_choice(tmp_path / "spoilt"), skip_bad_images=True)
    assert isinstance(images, ListedImages)
    return images


@pytest.mark.integration
@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named(spoilt: ListedImages, workers: int) -> None:
    batches = make(spoilt, workers=workers)
    reasons = r"_8.JPEG cannot be read: .*truncated|_0.JPEG cannot be read: it is no image of the"
    with pytest.raises(BadImageError, match=f"({reasons}).*--skip-bad-images") as raised:
        list(batches.train.epoch(0))
    assert str(raised.value).startswith(str(Path(spoilt.source, "train")))
    with pytest.raises(BadImageError, match="it is no image"):
        list(batches.validation)


@pytest.mark.integration
@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_passed_over_if_asked(
    folder: ListedImages, spoilt: ListedImages, workers: int
) -> None:
    options: dict[str, Any] = {"batch_size": 26, "micro_batch_size": 26}  # all images but one
    batches = make(spoilt, workers=workers, skip_bad_images=True, **options)
    served = list(batches.train.epoch(0)) + list(batches.train.epoch(1))
    asked = {i for batch, *_ in served for i in batch.indices.tolist()}
    assert {8, 9} < asked  # the two bad ones, which stand one behind the other
    assert batches.bad_images == 2
    assert sorted(Path(path).name[-7:] for path in batches.train.bad) == ["_0.JPEG", "_8.JPEG"]
    (batch, x, labels) = served[0]
    for place, index in enumerate(batch.indices.tolist()):
        stands = {8: 10, 9: 10}.get(index, index)
        assert labels[place] == folder.train_labels[stands]
    whole = list(make(folder, **options).train.epoch(0))
    good = [i for i, n in enumerate(batch.indices.tolist()) if n not in (8, 9)]
    assert torch.equal(x[good], whole[0][1][good])
    assert sum(len(x) for x, _ in batches.validation) == len(spoilt.val) - 1
    assert batches.bad_images == 3


def test_a_folder_that_is_gone_is_an_error_even_so(folder: ListedImages, tmp_path: Path) -> None:
    gone = replace(folder, reader=functools.partial(FileReader, tmp_path))
    batches = make(gone, skip_bad_images=True)
    with pytest.raises(BadImageError, match=r"99 images before.*No such file"):
        list(batches.train.epoch(0))


def test_validation_images_of_which_none_can_be_read_are_one_error(folder: ListedImages) -> None:
    broken = replace(folder, reader=functools.partial(FileReader, Path(folder.source, "moved")))
    batches = make(broken, skip_bad_images=True)
    context = make_device_context("cpu", load_preset("nano").compute)
    with pytest.raises(BadImageError) as raised:
        Classification().evaluate(torch.nn.Flatten(), batches.validation, context)
    assert f"{broken.source} " in str(raised.value)
    assert os.fsdecode(folder.val[0]) in str(raised.value)


@pytest.mark.integration
def test_a_killed_worker_is_an_error_and_no_hang(folder: ListedImages) -> None:
    batches = make(folder, workers=2, batch_size=2, micro_batch_size=2)
    before = set(multiprocessing.active_children())
    stream = batches.train.epoch(0)
    for _ in range(2):  # so that both have begun
        next(stream)
    workers = set(multiprocessing.active_children()) - before
    os.kill(next(iter(workers)).pid or 0, signal.SIGTERM)  # which they leave to their owner
    next(stream)
    assert all(worker.is_alive() for worker in workers)
    for worker in workers:
        worker.kill()
    with pytest.raises(WorkerError, match=r"killed .*memory"):
        list(stream)


@pytest.mark.integration
def test_a_process_ends_although_a_pass_has_not(folder: ListedImages) -> None:
    kept = []

    def leave() -> None:
        kept.append(make(folder, workers=1).train.epoch(0))
        next(kept[0])

    process = multiprocessing.get_context("fork").Process(target=leave)
    process.start()
    process.join(20)
    status = process.exitcode
    process.kill()
    assert status == 0
