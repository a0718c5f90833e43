"""Selection of steps and variants, their description, and networks that fit the images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from modernize.errors import UnknownNameError, UsageError
from modernize.models import MODELS
from modernize.steps import (
    STEPS,
    Training,
    Variant,
    apply_steps,
    find_key,
    find_regime,
)
from modernize.text import value_text


def roadmap(
    regime: str,
    first: str | None = None,
    last: str | None = None,
    only: Sequence[str] = (),
) -> tuple[Variant, ...]:
    """Returns variants of the roadmap; arguments and errors as for :func:`select_variants`."""
    return select_variants(apply_steps(STEPS, find_regime(regime)), first, last, only)


def select_variants(
    variants: Sequence[Variant],
    first: str | None = None,
    last: str | None = None,
    only: Sequence[str] = (),
) -> tuple[Variant, ...]:
    """Returns some of a study's variants, in its order.

    Args:
        variants: all of them.
        first: key or index of the first one wanted; None: the study's first.
        last: key or index of the last one wanted; None: the study's last.
        only: keys or indices of those wanted; empty: all.

    Raises:
        UnknownNameError: for an unknown variant.
        UsageError: if no variant is left.
    """
    keys = [v.key for v in variants]
    begin = find_key(first, keys) if first is not None else 0
    end = find_key(last, keys) if last is not None else len(keys) - 1
    wanted = {find_key(key, keys) for key in only} or set(range(len(keys)))
    chosen = tuple(v for i, v in enumerate(variants) if begin <= i <= end and i in wanted)
    if not chosen:
        asked = [f"--from {first}"] * bool(first) + [f"--until {last}"] * bool(last)
        asked += [f"--only {','.join(only)}"] * bool(only)
        raise UsageError(f"{' '.join(asked)} leaves no step. Their order: {', '.join(keys)}.")
    return chosen


def find_network(name: str, variants: Sequence[Variant]) -> Variant:
    """Returns a network by name: of a step or variant, or of a model of the paper.

    Args:
        name: a variant's key or index, or a name of :data:`modernize.models.MODELS`.
        variants: of the roadmap or of a study.

    Raises:
        UnknownNameError: for an unknown step or model, listing both.
    """
    models = {model.lower(): model for model in MODELS}
    if model := models.get(name.lower()):
        return Variant(model, model, "Models", True, None, MODELS[model], Training.ENHANCED)
    keys = [variant.key for variant in variants]
    if not name.isdigit() and name not in keys:
        raise UnknownNameError("step or model", name, [*keys, *MODELS])
    return variants[find_key(name, keys)]


def parent_of(variant: Variant, variants: Sequence[Variant]) -> Variant | None:
    """Returns the variant that one builds on; None if it is not among the variants."""
    return next((other for other in variants if other.key == variant.parent), None)


def fit_to_images(
    variants: Sequence[Variant], channels: int, num_classes: int
) -> tuple[Variant, ...]:
    """Returns the variants with networks for images of these channels and classes."""
    return tuple(
        dataclasses.replace(v, spec=v.spec.replace(in_channels=channels, num_classes=num_classes))
        for v in variants
    )


def step_rows(variants: Sequence[Variant]) -> list[dict[str, str]]:
    """Returns a row of text for each step or variant, with its name and its changes."""
    by_key = {v.key: v for v in variants}
    return [
        {
            "index": str(index),
            "step": v.key,
            "title": v.title,
            "section": v.section + ("" if v.adopted else " (side branch)"),
            "changes": "; ".join(_changes(by_key.get(v.parent or ""), v)) or "the starting point",
        }
        for index, v in enumerate(variants)
    ]


def describe_step(name: str, variants: Sequence[Variant], regime: str) -> str:
    """Returns a network's fields as text, with the changes that its step makes.

    Args:
        name: of the network, as for :func:`find_network`.
        variants: of the roadmap or of a study.
        regime: its name.

    Raises:
        UnknownNameError: for an unknown step or model, listing both.
    """
    v = find_network(name, variants)
    parent = parent_of(v, variants)
    changes = "; ".join(_changes(parent, v))
    after = f"\nchanges after {v.parent}: {changes}" if parent else ""
    return f"{v.title} ({v.key}), regime {regime}{after}\n\n{v.spec.text()}".rstrip()


def _changes(parent: Variant | None, variant: Variant) -> list[str]:
    if parent is None:
        return []
    fields = parent.spec.diff(variant.spec).items()
    lines = [f"{name} {value_text(old)} to {value_text(new)}" for name, (old, new) in fields]
    if parent.training is not variant.training:
        lines.insert(0, f"recipe {parent.training} to {variant.recipe_name}")
    elif parent.recipe != variant.recipe:
        lines.insert(0, f"recipe with {variant.recipe_changes or 'no changes'}")
    return lines
