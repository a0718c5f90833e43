"""Mixup and CutMix of timm, with a separate seed for every micro-batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ablations.recipe import Recipe
from modernize.libraries import library


class Mixing:
    """Mixes each image of a micro-batch with another, and their labels in the same way.

    Args:
        recipe: its ``mixup``, ``cutmix`` and ``label_smoothing``.
        num_classes: width of a label.
    """

    def __init__(self, recipe: Recipe, num_classes: int) -> None:
        self._mixup: Any = None
        self.recipe, self.num_classes = recipe, num_classes
        if recipe.mixup or recipe.cutmix:
            self._mixup = library("timm.data.mixup").Mixup(
                mixup_alpha=recipe.mixup,
                cutmix_alpha=recipe.cutmix,
                prob=1.0,
                switch_prob=0.5,
                mode="batch",
                label_smoothing=recipe.label_smoothing,
                num_classes=num_classes,
            )

    def __call__(self, x: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Returns images (B, C, H, W) and class probabilities (B, num_classes).

        The given images may be changed in place.
        """
        if self._mixup is None:
            smooth = self.recipe.label_smoothing
            target = F.one_hot(labels, self.num_classes).to(x.dtype)
            return x, target * (1 - smooth) + smooth / self.num_classes
        with numpy_seed(seed):
            mixed: tuple[Tensor, Tensor] = self._mixup(x, labels)
        return mixed


@contextlib.contextmanager
def numpy_seed(seed: int) -> Iterator[None]:
    """Seeds NumPy's global generator, which timm uses, and restores its state at the end."""
    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(state)
