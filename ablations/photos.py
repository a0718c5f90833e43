"""Images decoded and augmented one by one, in worker processes, by the libraries of the authors.

What is drawn for an image is drawn from a seed that goes with its place in the epoch, never from
the state of a process: any number of workers, none among them, serves the same batches.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import importlib
import os
import random
import re
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ablations.data import Folder, Images
from ablations.recipe import DataChoice, Recipe
from ablations.sampling import DeviceBatch, Sampling, derive
from modernize.errors import RoadmapError, UsageError
from modernize.torchvision_ops import make_torchvision_importable

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RATIO = (3 / 4, 4 / 3)  # of width to height, of random crops
PREFETCH = 2  # batches that each worker may be ahead
TRIES = 100  # unreadable images in a row that are passed over

# Numbers that fit a CPU's cache. torch leaves as few to one thread; of several, some would have to
# wait for a core that a worker uses, and all for them.
SMALL = 32_768

# timm asserts some of this, and silently passes over the rest, such as "inc" for "inc1".
RAND_AUGMENT = re.compile(
    r"rand(-(m\d+|n[1-9]\d*|p(0|1|0?\.\d+|1\.0+)|mstd\d+(\.\d+)?|mmax[1-9]\d*|inc[01]"
    r"|t(weights|3aw|3a)))*"
)

Transform: TypeAlias = Callable[[Image.Image], Image.Image]
Request: TypeAlias = tuple[int, int]  # the number of an image, and the seed for its augmentation


class BadImageError(RoadmapError):
    """An image that cannot be read; the message names it, and how to go on without it."""


class WorkerError(RoadmapError):
    """A worker process that ended although it had images to serve."""


@dataclasses.dataclass
class Served:
    """A batch, as it comes from a worker.

    Attributes:
        pixels: uint8 (B, H, W, C).
        indices: (B,) numbers of the images it holds; not quite those asked for if some were bad.
        noise: float32 (M,), what random erasing puts into the images, one after the other.
        boxes: place in the batch, top, left, height and width of each erased region.
        bad: what is wrong with each unreadable image met, by its path.
    """

    pixels: Tensor
    indices: list[int]
    noise: Tensor
    boxes: list[tuple[int, int, int, int, int]]
    bad: dict[str, str]

    def pin_memory(self) -> Served:
        """Returns the batch in memory that a GPU can read by itself; a DataLoader calls it."""
        return dataclasses.replace(
            self, pixels=self.pixels.pin_memory(), noise=self.noise.pin_memory()
        )


class PhotoBatches:
    """Images, in memory or on disk, as batches that worker processes prepare.

    Args:
        images: what to serve.
        choice: how images are prepared.
        recipe: how they are augmented; but for Mixup and CutMix, which mix whole batches.
        sampling: which images, and whose turn it is.
        device: where batches are wanted.
        workers: processes that decode and augment; 0: this one does it, when asked for a batch.
        channels_last: how batches are laid out in memory.
        skip_bad_images: whether an unreadable image is passed over: the next one by number takes
            its place in training, and validation leaves it out. Else it is an error.

    Attributes:
        data_wait: seconds spent waiting for workers; set it to 0 to count anew.
        bad_images: unreadable images met so far, each counted once.
        bad: what is wrong with each of them, by its path.

    Raises:
        UsageError: where ``rand_augment``, ``mean`` or ``std`` make no sense.
    """

    def __init__(
        self,
        images: Images | Folder,
        choice: DataChoice,
        recipe: Recipe,
        sampling: Sampling,
        device: torch.device,
        *,
        workers: int,
        channels_last: bool = True,
        skip_bad_images: bool = False,
    ) -> None:
        self.sampling, self.device = sampling, device
        self.channels_last, self.skip_bad_images = channels_last, skip_bad_images
        self.data_wait = 0.0
        self.bad_images = 0
        self.bad: dict[str, str] = {}
        mean, std = normalisation(images, choice)
        # As wide as a row of pixels, for it is slow to go through memory three numbers at a time.
        self._mean = torch.tensor([255 * m for m in mean]).repeat(choice.image_size).to(device)
        self._std = torch.tensor([255 * s for s in std]).repeat(choice.image_size).to(device)
        self._labels = torch.from_numpy(images.train_labels)
        self._val_labels = torch.from_numpy(images.val_labels)

        training = _Split(
            _reader(images, images.train),
            functools.partial(training_transform, choice, recipe, mean),
            channels=images.channels,
            size=choice.image_size,
            skip=skip_bad_images,
            training=True,
            erasing=recipe.random_erasing,
        )
        validation = _Split(
            _reader(images, images.val),
            functools.partial(evaluation_transform, choice),
            channels=images.channels,
            size=choice.image_size,
            skip=skip_bad_images,
        )
        # Built here once to find faults early, and so that workers need not import it again.
        _ = training.transform, training.eraser, validation.transform
        pin = device.type == "cuda"
        self._training = _Loader(training, workers, pin)
        self._validation = _Loader(validation, workers, pin)

    def training(
        self, epoch: int, first_update: int = 0
    ) -> Iterator[tuple[DeviceBatch, Tensor, Tensor]]:
        """Yields this process's device batches of an epoch, from an update on.

        Each comes with its images, float32 (B, C, H, W), augmented and normalised, and their labels
        (B,), both on the device. One pass at a time: a new one ends the one before.

        Raises:
            BadImageError: unless such images are passed over.
            WorkerError: where a worker was killed.
        """
        waiting: collections.deque[DeviceBatch] = collections.deque()  # asked for ahead
        asked = self.sampling.epoch(epoch, first_update)

        def requests() -> Iterator[list[Request]]:  # must not hold this object, which holds it
            for batch in asked:
                waiting.append(batch)
                yield list(zip(batch.indices.tolist(), batch.seeds, strict=True))

        for served in self._serve(self._training, requests()):
            x = self._finish(served)
            yield waiting.popleft(), x, self._to_device(self._labels[served.indices])

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields this process's validation images once, with their labels; no other has them.

        Batches are of twice as many images as go through the network in training; the last one may
        be smaller. Shapes and errors are those of ``training``.
        """
        share, size = self.sampling.share, 2 * self.sampling.device_batch
        mine = range(share.rank, len(self._val_labels), share.world)
        requests = ([(i, 0) for i in mine[at : at + size]] for at in range(0, len(mine), size))
        for served in self._serve(self._validation, requests):
            if served.indices:
                x = self._finish(served)
                yield x, self._to_device(self._val_labels[served.indices])

    def close(self) -> None:
        """Ends the workers; they also end with this object, or with the process."""
        self._training.close()
        self._validation.close()

    def _serve(self, loader: _Loader, requests: Iterable[list[Request]]) -> Iterator[Served]:
        batches = loader.serve(requests)
        while True:
            start = time.perf_counter()
            served = next(batches, None)
            self.data_wait += time.perf_counter() - start
            if served is None:
                return
            if isinstance(served, BadImageError):
                loader.close()
                raise served
            self.bad.update(served.bad)
            self.bad_images = len(self.bad)
            yield served

    def _finish(self, served: Served) -> Tensor:
        """Returns the batch normalised and erased, float32 (B, C, H, W), on the device."""
        pixels = self._to_device(served.pixels)
        n, height, width, channels = pixels.shape
        x = torch.empty((n, height, width, channels), device=self.device)
        rows = max(SMALL // (width * channels), 1) if self.device.type == "cpu" else n * height
        parts = [torch.split(t.view(n * height, width * channels), rows) for t in (pixels, x)]
        for part, result in zip(*parts, strict=True):
            torch.sub(part, self._mean, out=result).div_(self._std)
        x = x.permute(0, 3, 1, 2)  # (B, C, H, W), its memory still (B, H, W, C)
        sizes = [channels * h * w for *_, h, w in served.boxes]
        noises = torch.split(self._to_device(served.noise), sizes) if sizes else ()
        for (i, top, left, h, w), noise in zip(served.boxes, noises, strict=True):
            for channel, values in zip(x[i], noise.view(channels, h, w), strict=True):
                channel[top : top + h, left : left + w] = values
        return x if self.channels_last else x.contiguous()

    def _to_device(self, x: Tensor) -> Tensor:
        return x.to(self.device, non_blocking=True)


def normalisation(
    images: Images | Folder, choice: DataChoice
) -> tuple[Sequence[float], Sequence[float]]:
    """Returns mean and deviation of each channel, of pixels from 0 to 1.

    What a preset leaves open is measured on training images in memory, and is ImageNet's otherwise.

    Raises:
        UsageError: where a preset names more or fewer than there are channels.
    """
    if isinstance(images, Folder):
        known: tuple[Sequence[float], Sequence[float]] = (IMAGENET_MEAN, IMAGENET_STD)
    elif choice.mean is None or choice.std is None:
        known = _measure(images.train)
    else:
        known = (choice.mean, choice.std)
    mean = known[0] if choice.mean is None else choice.mean
    std = known[1] if choice.std is None else choice.std
    if not len(mean) == len(std) == images.channels:
        raise UsageError(
            f"the images have {images.channels} channel(s), but data.mean is {list(mean)} and "
            f"data.std {list(std)}; give as many numbers, or null."
        )
    return mean, std


def _measure(pixels: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Returns mean and deviation of uint8 (N, C, H, W) by channel, from how often each value is."""
    values = np.arange(256) / 255
    mean, std = [], []
    for channel in range(pixels.shape[1]):
        counts = np.bincount(pixels[:, channel].ravel(), minlength=256)
        mean.append(float(counts @ values / counts.sum()))
        std.append(float(np.sqrt(counts @ (values - mean[-1]) ** 2 / (counts.sum() - 1))))
    return mean, std


def evaluation_transform(choice: DataChoice) -> Transform:
    """Returns what prepares an image for evaluation: resize where asked for, and centre crop."""
    transforms = _library("torchvision.transforms")
    crop = transforms.CenterCrop(choice.image_size)
    if choice.resize is None:
        return crop  # type: ignore[no-any-return]
    mode = transforms.InterpolationMode(choice.interpolation)
    return transforms.Compose([transforms.Resize(choice.resize, mode), crop])  # type: ignore[no-any-return]


def training_transform(choice: DataChoice, recipe: Recipe, mean: Sequence[float]) -> Transform:
    """Returns what augments an image: random crop, flip, RandAugment, in timm's order.

    Its draws come from the global states of ``random``, NumPy and torch; see ``seed_draws``.

    Args:
        choice: size and interpolation.
        recipe: which of them, and how much.
        mean: of the channels, which RandAugment fills uncovered corners with.

    Raises:
        UsageError: where ``rand_augment`` is no such text.
    """
    transforms = _library("torchvision.transforms")
    size = choice.image_size
    steps: list[Any] = []
    if recipe.resized_crop:
        low, high = recipe.resized_crop
        steps.append(
            _library("timm.data.transforms").RandomResizedCropAndInterpolation(
                size, scale=(low, high), ratio=RATIO, interpolation=choice.interpolation
            )
        )
    else:
        padding = recipe.crop_padding or 0
        steps += [evaluation_transform(choice), transforms.RandomCrop(size, padding=padding)]
    if recipe.flip:
        steps.append(transforms.RandomHorizontalFlip(recipe.flip))
    if recipe.rand_augment is not None:
        steps.append(rand_augment(recipe.rand_augment, choice, mean))
    return transforms.Compose(steps)  # type: ignore[no-any-return]


def rand_augment(text: str, choice: DataChoice, mean: Sequence[float]) -> Transform:
    """Returns timm's RandAugment as its training script would set it up for these images.

    Raises:
        UsageError: where the text is not one of RandAugment's.
    """
    if not RAND_AUGMENT.fullmatch(text):
        raise UsageError(
            f"rand_augment {text!r} is no RandAugment: write it as rand-m9-mstd0.5-inc1, with any "
            "of m, n, p, mstd, mmax, inc and t (weights, 3a, 3aw) and their values."
        )
    transform = _library("timm.data.auto_augment").rand_augment_transform(
        text,
        {
            "translate_const": int(choice.image_size * 0.45),
            "img_mean": tuple(min(255, round(255 * m)) for m in mean),
            "interpolation": Image.Resampling[choice.interpolation.upper()],
        },
    )
    for op in transform.ops:
        if op.name.startswith("Posterize"):
            op.aug_fn = functools.partial(_posterize, op.aug_fn)
    return transform  # type: ignore[no-any-return]


def _posterize(
    timms: Callable[..., Image.Image], image: Image.Image, bits: int, **options: Any
) -> Image.Image:
    """Does what timm's does, and goes on to make images black at 0 bits, which Pillow 13 refuses.

    The strongest magnitude of RandAugment, reached now and then with ``mstd``, asks for 0 bits.
    """
    return timms(image, bits, **options) if bits else image.point([0] * 256 * len(image.getbands()))


def _library(name: str) -> Any:
    """Returns a module of torchvision or timm; late, for it takes seconds, and has few types."""
    make_torchvision_importable()
    return importlib.import_module(name)


def seed_draws(seed: int) -> None:
    """Seeds ``random``, NumPy and torch's CPU generator with different parts of 63 bits."""
    random.seed(seed)
    np.random.seed(seed >> 31)  # torch takes the low 32 bits, and its algorithm is NumPy's
    torch.default_generator.manual_seed(seed)


@contextlib.contextmanager
def _kept_random_states() -> Iterator[None]:
    """Puts the global random states back as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@dataclasses.dataclass(frozen=True)
class _Files:
    """Reads images from files; raises whatever Pillow does."""

    root: Path
    paths: NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, index: int) -> str:
        return os.path.join(self.root, os.fsdecode(self.paths[index]))  # noqa: PTH118  # speed

    def __call__(self, index: int) -> Image.Image:
        with Image.open(self.path(index)) as image:
            if image.mode != "RGB":  # for RGB it would only make a copy
                return image.convert("RGB")
            image.load()
            return image


@dataclasses.dataclass(frozen=True)
class _Arrays:
    """Takes images out of uint8 (N, C, H, W)."""

    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pixels)

    def path(self, index: int) -> str:
        return f"image {index}"

    def __call__(self, index: int) -> Image.Image:
        pixels = self.pixels[index]
        return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def _reader(images: Images | Folder, split: NDArray[Any]) -> _Files | _Arrays:
    return _Files(images.root, split) if isinstance(images, Folder) else _Arrays(split)


class _Split(Dataset[Any]):
    """Training or validation images, prepared a batch at a time; it lives in each worker.

    Args:
        read: returns an image by its number.
        make_transform: called once in every process, for what it makes may not be sent to others.
        channels, size: of an image when prepared.
        skip: whether unreadable images are passed over.
        training: whether images are augmented, and unreadable ones replaced.
        erasing: probability of random erasing.
    """

    def __init__(
        self,
        read: _Files | _Arrays,
        make_transform: Callable[[], Transform],
        *,
        channels: int,
        size: int,
        skip: bool,
        training: bool = False,
        erasing: float = 0.0,
    ) -> None:
        self.read, self.make_transform = read, make_transform
        self.channels, self.size = channels, size
        self.skip, self.training, self.erasing = skip, training, erasing

    @functools.cached_property
    def transform(self) -> Transform:
        return self.make_transform()

    @functools.cached_property
    def eraser(self) -> Any:
        """Timm's random erasing, or None."""
        if not self.erasing:
            return None
        erasing = _library("timm.data.random_erasing")
        return erasing.RandomErasing(self.erasing, mode="pixel", max_count=1, device="cpu")

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("transform", "eraser")}

    def __getitems__(self, requests: Sequence[Request]) -> Served | BadImageError:
        """Returns a batch; an error is returned, too, so that it arrives as it left."""
        try:
            return self._serve(requests)
        except BadImageError as error:
            return error

    def _serve(self, requests: Sequence[Request]) -> Served:
        size, channels = self.size, self.channels
        pixels = torch.empty((len(requests), size, size, channels), dtype=torch.uint8)
        target = pixels.numpy()
        indices: list[int] = []
        bad: dict[str, str] = {}
        boxes, noises = [], []
        for asked, seed in requests:
            image, index = self._find(asked, bad)
            if image is None:
                continue
            place = len(indices)
            indices.append(index)
            if self.training:
                seed_draws(seed)
            target[place] = np.asarray(self.transform(image)).reshape(size, size, channels)
            if self.eraser is not None:
                seed_draws(derive(seed, "erasing"))
                region = _Region(channels, size)
                self.eraser(region)
                if region.noise is not None:
                    boxes.append((place, region.top, region.left, *region.noise.shape[1:]))
                    noises.append(region.noise.flatten())
        noise = torch.cat(noises) if noises else torch.empty(0)
        return Served(pixels[: len(indices)], indices, noise, boxes, bad)

    def _find(self, index: int, bad: dict[str, str]) -> tuple[Image.Image | None, int]:
        """Returns an image and its number; in training, the next one if it must be passed over."""
        count = len(self.read)
        for other in range(index, index + (TRIES if self.training else 1)):
            path = self.read.path(other % count)
            try:
                return self.read(other % count), other % count
            except Exception as error:  # a broken file can make a decoder raise anything
                reason = _why(error)
            bad[path] = reason
            if not self.skip:
                raise BadImageError(
                    f"{path} cannot be read: {reason}. Replace it, or pass over such images with "
                    "--skip-bad-images."
                )
        if self.training:
            raise BadImageError(
                f"{path} and the {TRIES - 1} images before it cannot be read: {reason}. These are "
                "too many to pass over; is the folder still there?"
            )
        return None, index


def _why(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its text repeats the path
        return "it is no image that Pillow knows"
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


class _Region:
    """Stands in for a normalised image, float32 (C, H, W), and takes down what erasing does to it.

    So timm's own code can draw in a worker what is put into the image on the device.
    """

    dtype = torch.float32

    def __init__(self, channels: int, size: int) -> None:
        self.shape = (channels, size, size)
        self.top = self.left = 0
        self.noise: Tensor | None = None

    def size(self) -> tuple[int, int, int]:
        return self.shape

    def __setitem__(self, where: tuple[slice, slice, slice], noise: Tensor) -> None:
        self.top, self.left = where[1].start, where[2].start
        self.noise = noise


class _Plan:
    """What a DataLoader shall ask its workers for, told anew for every pass."""

    def __init__(self) -> None:
        self.requests: Iterable[list[Request]] = ()

    def __iter__(self) -> Iterator[list[Request]]:
        return iter(self.requests)


class _Loader:
    """A DataLoader whose workers stay from one pass to the next.

    Args:
        split: what they serve.
        workers: how many; they start with the first pass.
        pin: whether batches are put into pinned memory.
    """

    def __init__(self, split: _Split, workers: int, pin: bool) -> None:
        self.split, self.workers, self.pin = split, workers, pin
        self.passes = 0
        self.plan = _Plan()
        self.loader: DataLoader[Any] | None = None

    def serve(
        self, requests: Iterable[list[Request]]
    ) -> collections.abc.Generator[Served | BadImageError, None, None]:
        """Yields what workers make of the requests, in order.

        Raises:
            WorkerError: where one was killed.
            RuntimeError: where another pass has begun since.
        """
        self.passes += 1
        this = self.passes
        self.plan.requests = requests
        if self.loader is None:
            self.loader = self._start()
        batches = self._begin(self.loader)
        while True:
            if self.passes != this:
                raise RuntimeError("this pass over the images ended when another one began")
            try:
                with contextlib.nullcontext() if self.workers else _kept_random_states():
                    served = next(batches, None)
            except (RuntimeError, OSError, EOFError) as error:
                if not self.workers or str(error).startswith("Caught "):
                    raise  # from within a worker, and told by torch; the worker lives
                self.close()
                raise WorkerError(
                    f"a process that decodes images was killed ({error}). Most often memory was "
                    "short: of the machine or job, or of /dev/shm. --set workers to fewer, or ask "
                    "for more; the run goes on from its last checkpoint."
                ) from error
            if served is None:
                return
            yield served

    def close(self) -> None:
        """Ends the workers; a later pass would start new ones."""
        loader, self.loader = self.loader, None
        if loader is not None and loader._iterator is not None:
            loader._iterator._shutdown_workers()  # type: ignore[attr-defined]

    def _start(self) -> DataLoader[Any]:
        several: dict[str, Any] = {}
        if self.workers:
            several = {"persistent_workers": True, "prefetch_factor": PREFETCH}
        return DataLoader(
            self.split,
            batch_sampler=self.plan,
            collate_fn=_as_it_is,
            num_workers=self.workers,
            worker_init_fn=_prepare_worker,
            pin_memory=self.pin,
            generator=torch.Generator(),  # else it would draw from the global one
            **several,
        )

    def _begin(self, loader: DataLoader[Any]) -> Iterator[Any]:
        """Returns the loader's iterator, without the signal handler that comes with workers.

        The handler raises a killed worker's error wherever this process happens to be; without it,
        waiting for the worker's batch does.
        """
        if not self.workers or loader._iterator is not None:
            return iter(loader)
        handler = signal.getsignal(signal.SIGCHLD)
        batches = iter(loader)
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, handler)
        # At exit, torch leaves it to multiprocessing to end them; which asks, and waits for ever.
        Finalize(None, _kill, args=(batches._workers,), exitpriority=1)  # type: ignore[attr-defined]
        return batches


def _kill(processes: Iterable[BaseProcess]) -> None:
    for process in processes:
        process.kill()


def _as_it_is(served: Any) -> Any:
    return served


def _prepare_worker(_worker: int) -> None:
    """Leaves stopping to the process that owns the worker, and warnings about files to nobody.

    Signals are often sent to all processes of a job at once. torch has the worker use one thread,
    and end with its owner.
    """
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)
    warnings.filterwarnings("ignore", module=r"PIL\b")
