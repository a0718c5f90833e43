"""Runs of small networks on a few images, for the tests of training."""

import dataclasses
from collections.abc import Callable

import torch

from ablations.data.datasets import load_dataset
from ablations.data.images import InMemoryDataset
from ablations.data.loaders import Loaders, make_loaders
from ablations.data.sampling import Rank, Sampling
from ablations.recipe import load_preset
from ablations.records import Run
from ablations.training.device_context import make_device_context
from modernize import spec_of
from modernize.network import Network
from modernize.steps import Training
from modernize.weights import Weights, from_state_dict

CPU = torch.device("cpu")
PRESET = load_preset("nano")
CONTEXT = make_device_context("cpu", PRESET.compute)


def take_images(train: int = 512, val: int = 200) -> InMemoryDataset:
    """The first images of the embedded set."""
    full = load_dataset(PRESET.data)
    if not isinstance(full, InMemoryDataset):
        raise TypeError(full)
    return dataclasses.replace(
        full,
        train=full.train[:train],
        train_labels=full.train_labels[:train],
        val=full.val[:val],
        val_labels=full.val_labels[:val],
    )


def make_run(
    images: InMemoryDataset, *settings: str, step: str = "ln", seed: int = 0, started: bool = False
) -> Run:
    """A run of a small network; ``started``: from the weights that :func:`first_weights` gives."""
    preset = load_preset("nano", ["batch_size=64", "micro_batch_size=64", "epochs=3", *settings])
    training = Training.CLASSIC if step == "resnet" else Training.ENHANCED
    recipe = preset.recipes.of(training, "nano")
    spec = spec_of(step, "nano", in_channels=1, num_classes=10, depths=[1, 1, 1, 1], width=8)
    run = Run(step, recipe.apply_to(spec), recipe, images.identity(), seed)
    return dataclasses.replace(run, start=_weights(run).digest()) if started else run


def first_weights(run: Run) -> Weights | None:
    """The weights that a run starts from, of a network with other classes; None: fresh ones."""
    return _weights(run) if run.start else None


def _weights(run: Run) -> Weights:
    torch.manual_seed(7)
    network = Network(run.spec.replace(num_classes=4))
    return from_state_dict(network.state_dict(), network.spec)


def make_small_loaders(images: InMemoryDataset, run: Run, rank: Rank | None = None) -> Loaders:
    recipe = run.recipe
    sampling = Sampling.of(recipe, len(images.train), run.seed, rank or Rank())
    return make_loaders(images, PRESET.data, recipe, sampling, CPU, PRESET.compute)


def stop_after(updates: int) -> Callable[[], bool]:
    """Has a run stop once it has made so many updates."""
    answers = iter([True] * (updates - 1))
    return lambda: next(answers, False)
