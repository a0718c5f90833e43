"""Which networks a benchmark measures: ours, and the same ones from elsewhere. No torch here."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ablations.benchmark.official import OfficialNetwork, is_released
from ablations.costs.model_costs import OURS
from ablations.costs.reference_costs import reference_cost
from ablations.costs.reference_models import (
    REFERENCE_MODELS,
    ReferenceModel,
    import_libraries,
    without_stochastic_depth,
)
from ablations.records import PROGRAM, REPOSITORY, commit_of
from modernize.cost import cost
from modernize.errors import UnknownNameError
from modernize.models import MODELS
from modernize.spec import NetSpec
from modernize.steps import Regime, Variant

if TYPE_CHECKING:
    from torch import nn

TABLE_12 = ("ConvNeXt-T", "ConvNeXt-S", "ConvNeXt-B", "Swin-T", "Swin-S", "Swin-B")
"""The models of the paper's Table 12 that a single GPU of any kind can train."""


class Source(Protocol):
    """Where a network comes from; can be sent to another process."""

    def load(self) -> None:
        """Imports what building it needs."""

    def build(self) -> nn.Module:
        """Returns it with random weights and without stochastic depth, in training mode."""


@dataclasses.dataclass(frozen=True)
class OurNetwork:
    """A network of this project."""

    spec: NetSpec

    def load(self) -> None:
        """Imports what building it needs."""
        importlib.import_module("modernize.network")

    def build(self) -> nn.Module:
        """Returns it, from images (N, in_channels, H, W) to logits (N, num_classes)."""
        from modernize.network import Network

        return Network(self.spec.replace(drop_path=0.0))


@dataclasses.dataclass(frozen=True)
class ReferenceNetwork:
    """A network of another library."""

    reference: ReferenceModel

    def load(self) -> None:
        """Imports what building it needs."""
        import_libraries()

    def build(self) -> nn.Module:
        """Returns it, from images (N, 3, H, W) to logits (N, 1000)."""
        return without_stochastic_depth(self.reference.build())


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A network to be measured.

    Attributes:
        names: the steps that it is the network of, or its name in the paper's tables.
        model: its name in the paper's tables; empty where it has none.
        library, version: whose it is.
        params: learned numbers.
        flops: multiply-accumulates for one image, of attention too.
        source: builds it.
    """

    names: tuple[str, ...]
    model: str
    library: str
    version: str
    params: int
    flops: int
    source: Source


def of_steps(
    variants: Sequence[Variant], regime: Regime, image_size: int, rivals: Rivals
) -> list[Contestant]:
    """Returns each different network among some steps, its references behind it.

    Steps that differ in nothing but the recipe share one. The regime's Transformer joins the
    network that it is set beside.

    Raises:
        UsageError: for an image that is too small.
    """
    steps: dict[NetSpec, list[str]] = {}
    for variant in variants:
        steps.setdefault(variant.spec, []).append(variant.key)
    found = []
    for spec, keys in steps.items():
        model = next((name for name, known in MODELS.items() if known == spec), "")
        found.append(_ours(tuple(keys), model, spec, image_size))
        found += rivals.of(model, tuple(keys), image_size)
        if model == regime.end and regime.reference:
            found += rivals.of(regime.reference, (regime.reference,), image_size)
    return found


def of_models(models: Iterable[str], image_size: int, rivals: Rivals) -> list[Contestant]:
    """Returns the networks of this name in the paper's tables, ours and their references.

    Raises:
        UnknownNameError: for one that nobody has for images of this size.
        UsageError: for an image that is too small.
    """
    references = [reference.model for reference in REFERENCE_MODELS if reference.takes(image_size)]
    found: list[Contestant] = []
    for model in dict.fromkeys(models):
        if model not in MODELS and model not in references:
            raise UnknownNameError(
                f"model at {image_size} pixels", model, dict.fromkeys([*MODELS, *references])
            )
        if model in MODELS:
            found.append(_ours((model,), model, MODELS[model], image_size))
            found += rivals.of(model, (model,), image_size)
        else:  # somebody has to be it
            found += dataclasses.replace(rivals, libraries=True).of(model, (model,), image_size)
    return found


@dataclasses.dataclass(frozen=True)
class Rivals:
    """Whose networks are measured beside ours.

    Attributes:
        libraries: whether torchvision's and timm's are.
        official: a checkout of the released ConvNeXt, whose are measured as well.
    """

    libraries: bool = True
    official: Path | None = None

    def of(self, model: str, names: tuple[str, ...], image_size: int) -> list[Contestant]:
        """Returns the others' networks of one model, to go by these names."""
        found = []
        for reference in REFERENCE_MODELS if self.libraries else ():
            if reference.model == model and reference.takes(image_size):
                counted = reference_cost(reference, image_size)
                flops = counted.flops + counted.attention
                version = importlib.metadata.version(reference.library)
                source, params = ReferenceNetwork(reference), counted.params
                found.append(
                    Contestant(names, model, reference.library, version, params, flops, source)
                )
        if self.official and model in MODELS and is_released(MODELS[model]):
            spec = MODELS[model]
            own, network = cost(spec, image_size), OfficialNetwork(self.official, spec)
            version = _commit(self.official)
            found.append(
                Contestant(names, model, "official", version, own.params, own.flops, network)
            )
        return found


def _ours(names: tuple[str, ...], model: str, spec: NetSpec, image_size: int) -> Contestant:
    own, version = cost(spec, image_size), _commit(REPOSITORY, *PROGRAM)
    return Contestant(names, model, OURS, version, own.params, own.flops, OurNetwork(spec))


def _commit(code: Path, *paths: str) -> str:
    """Returns the short commit of a checkout; a plus sign: with changes, in these paths or any."""
    known = commit_of(code, *paths)
    return f"{(known['commit'] or '')[:10]}{'+' if known['dirty'] else ''}"
