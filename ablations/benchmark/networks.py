"""The networks that a benchmark measures: ours and the reference models. No torch here."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ablations.costs.model_costs import OURS
from ablations.costs.reference_costs import reference_cost
from ablations.costs.reference_models import (
    REFERENCE_MODELS,
    ReferenceModel,
    import_libraries,
    without_stochastic_depth,
)
from ablations.records import PROGRAM, REPOSITORY, commit_of
from ablations.tasks.registry import make_task
from modernize.custom_layers import load_custom_layers, loaded_files
from modernize.errors import UnknownNameError
from modernize.models import MODELS
from modernize.spec import NetSpec
from modernize.steps import Regime, Variant

if TYPE_CHECKING:
    from torch import nn

TABLE_12 = ("ConvNeXt-T", "ConvNeXt-S", "ConvNeXt-B", "Swin-T", "Swin-S", "Swin-B")
"""The models of the paper's Table 12 that a single GPU of any kind can train."""


class Source(Protocol):
    """Builds a network; can be sent to another process."""

    def load(self) -> None:
        """Imports the modules that building needs."""

    def build(self) -> nn.Module:
        """Returns it with random weights and without stochastic depth, in training mode."""


@dataclasses.dataclass(frozen=True)
class RoadmapSource:
    """Builds a network of this project.

    Attributes:
        spec: the network.
        layers: the path and the digest of each file of its custom layers.
        choice: of the task, whose head is on the network.
    """

    spec: NetSpec
    layers: tuple[tuple[Path, str], ...] = ()
    choice: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def load(self) -> None:
        """Imports the modules that building needs, and runs the files of custom layers."""
        for name in ("modernize.network", *("modernize.heads.detector",) * bool(self.choice)):
            importlib.import_module(name)
        for path, digest in self.layers:
            load_custom_layers(path, digest)

    def build(self) -> nn.Module:
        """Returns it, from images (N, in_channels, H, W) to the outputs of the task."""
        task = make_task(self.choice)
        model = task.build(self.spec.replace(drop_path=0.0))
        task.keep_busy(model)
        return model


@dataclasses.dataclass(frozen=True)
class ReferenceSource:
    """Builds a reference model."""

    model: ReferenceModel

    def load(self) -> None:
        """Imports the modules that building needs."""
        import_libraries()

    def build(self) -> nn.Module:
        """Returns it, from images (N, 3, H, W) to logits (N, 1000)."""
        return without_stochastic_depth(self.model.build())


@dataclasses.dataclass(frozen=True)
class ReferenceDetectorSource:
    """Builds torchvision's Mask R-CNN.

    Attributes:
        classes: of objects.
        size: (width, height) of the images in pixels.
    """

    classes: int
    size: tuple[int, int]

    def load(self) -> None:
        """Imports the modules that building needs."""
        importlib.import_module("ablations.benchmark.reference_detector")

    def build(self) -> nn.Module:
        """Returns it, from images (N, 3, H, W) and targets to losses or detections."""
        from ablations.benchmark.reference_detector import TorchvisionDetector

        return TorchvisionDetector(self.classes, self.size)


@dataclasses.dataclass(frozen=True)
class BenchmarkNetwork:
    """A network to measure.

    Attributes:
        names: the steps that have this network, or its name in the paper's tables.
        model: its name in the paper's tables; empty if it has none.
        library, version: where it is from.
        params: number of parameters.
        flops: MACs for one image, including attention.
        spec: its NetSpec; None for a reference model.
        source: builds it.
    """

    names: tuple[str, ...]
    model: str
    library: str
    version: str
    params: int
    flops: int
    spec: NetSpec | None
    source: Source


def networks_of_steps(
    variants: Sequence[Variant],
    regime: Regime,
    size: tuple[int, int],
    choice: Mapping[str, str],
    references: bool = True,
) -> list[BenchmarkNetwork]:
    """Returns each different network among some steps, followed by its reference models.

    Steps that differ only in the recipe share a network. The regime's Transformer follows the
    network that the paper compares it with.

    Args:
        variants: the steps.
        regime: which the steps are of.
        size: (width, height) of an image in pixels.
        choice: of the task; empty: classification.
        references: whether reference models are included.

    Raises:
        UsageError: for an image that is too small.
    """
    steps: dict[NetSpec, list[str]] = {}
    for variant in variants:
        steps.setdefault(variant.spec, []).append(variant.key)
    found = []
    for spec, keys in steps.items():
        model = next((name for name, known in MODELS.items() if known == spec), "")
        found.append(_own_network(tuple(keys), model, spec, size, choice))
        if references and choice:
            found += _reference_detectors(found[-1], size, choice)
        elif references:
            found += _reference_networks(model, tuple(keys), size[0])
            if model == regime.end and regime.reference:
                found += _reference_networks(regime.reference, (regime.reference,), size[0])
    return found


def networks_of_models(
    models: Iterable[str],
    size: tuple[int, int],
    choice: Mapping[str, str],
    references: bool = True,
) -> list[BenchmarkNetwork]:
    """Returns the networks with these names in the paper's tables: ours and reference models.

    Args:
        models: their names. A model that this project does not have is always a reference model.
        size: (width, height) of an image in pixels.
        choice: of the task; empty: classification.
        references: whether reference models follow ours.

    Raises:
        UnknownNameError: for a model that does not exist for images of this size.
        UsageError: for an image that is too small.
    """
    image_size = size[0]
    known = [r.model for r in REFERENCE_MODELS if r.takes(image_size) and not choice]
    found: list[BenchmarkNetwork] = []
    for model in dict.fromkeys(models):
        if model not in MODELS and model not in known:
            raise UnknownNameError(
                f"model at {size[0]} x {size[1]} pixels", model, dict.fromkeys([*MODELS, *known])
            )
        if model in MODELS:
            found.append(_own_network((model,), model, MODELS[model], size, choice))
            if references and choice:
                found += _reference_detectors(found[-1], size, choice)
        if (references and not choice) or model not in MODELS:
            found += _reference_networks(model, (model,), image_size)
    return found


def _own_network(
    names: tuple[str, ...],
    model: str,
    spec: NetSpec,
    size: tuple[int, int],
    choice: Mapping[str, str],
) -> BenchmarkNetwork:
    task = make_task(choice)
    spec = spec.replace(in_channels=3, num_classes=task.noise.classes)
    known, counted = commit_of(REPOSITORY, *PROGRAM), task.cost(spec, size)
    version = f"{(known['commit'] or '')[:10]}{'+' if known['dirty'] else ''}"
    layers = tuple((file.path, file.digest) for file in loaded_files(spec))
    source = RoadmapSource(spec, layers, choice)
    return BenchmarkNetwork(
        names, model, OURS, version, counted.params, counted.flops, spec, source
    )


def _reference_detectors(
    ours: BenchmarkNetwork, size: tuple[int, int], choice: Mapping[str, str]
) -> list[BenchmarkNetwork]:
    """Returns torchvision's Mask R-CNN if it has this network; it has no cascade and no UperNet."""
    if (ours.model, choice["head"]) != ("ResNet-50", "mask-rcnn"):
        return []
    import torch

    source = ReferenceDetectorSource(make_task(choice).noise.classes, size)
    with torch.device("meta"):
        params = sum(p.numel() for p in source.build().parameters())
    version = importlib.metadata.version("torchvision")
    theirs = dataclasses.replace(
        ours, library="torchvision", version=version, params=params, spec=None, source=source
    )
    return [theirs]  # its MACs are those of ours


def _reference_networks(
    model: str, names: tuple[str, ...], image_size: int
) -> list[BenchmarkNetwork]:
    """Returns the reference models of one model, under these names."""
    found = []
    for reference in REFERENCE_MODELS:
        if reference.model == model and reference.takes(image_size):
            counted, library = reference_cost(reference, image_size), reference.library
            flops, version = counted.flops + counted.attention, importlib.metadata.version(library)
            source = ReferenceSource(reference)
            found.append(
                BenchmarkNetwork(
                    names, model, library, version, counted.params, flops, None, source
                )
            )
    return found
