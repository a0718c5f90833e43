"""From a study file to the networks it compares. torch is imported only for custom layers."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ablations.choices import Start
from ablations.recipe import Recipe, RecipeError, Recipes
from ablations.studies.known_steps import FIELDS, SET_ELSEWHERE, KnownSteps, noting
from ablations.studies.study_file import EACH, BaseVariant, StepList, StudyFile, VariantEntry
from ablations.units import integer
from ablations.yaml_core import Key
from modernize.errors import SpecError, UnknownNameError, UsageError
from modernize.models import MODELS
from modernize.spec import Role
from modernize.steps import (
    STEPS,
    Regime,
    Step,
    Training,
    Variant,
    apply_steps,
    find_regime,
    find_step,
    step_of,
)
from modernize.text import value_text

MAX_COMBINATIONS = 10_000  # of one sweep
LONGEST_KEY = 120  # characters of a variant's key; runs have it in the names of their folders

NOTHING: Mapping[str, Any] = MappingProxyType({})


class DuplicateVariantError(SpecError):
    """A variant has the network and the recipe of another one."""


@dataclasses.dataclass(frozen=True)
class ResolvedStudy:
    """The variants of a study in one regime.

    Attributes:
        name, title: of the study.
        regime: its name.
        variants: in order.
        reference: the variant that costs are compared with.
        omitted: key of each variant that a short form cannot make, and the reason.
        text: of the study's file, if it is a user's.
    """

    name: str
    title: str
    regime: str
    variants: tuple[Variant, ...]
    reference: Variant
    omitted: tuple[tuple[str, str], ...] = ()
    text: str = ""


def resolve_study(
    study: StudyFile, regime: str, recipes: Recipes, start: Start | None = None
) -> ResolvedStudy:
    """Returns the variants of a study in a regime, trained by a preset's recipes.

    Args:
        study: the file.
        regime: its name.
        recipes: of the preset.
        start: the weights that runs start from, if the base and the variant say nothing else.

    Raises:
        UnknownNameError: for an unknown regime.
        UsageError: naming every variant that is impossible, with file, line and reason.
    """
    builder = _VariantBuilder(study, find_regime(regime), recipes, start)
    definition = study.definition
    if definition.base is not None:
        builder.add_base(definition.base)
    if definition.extends and not builder.faults:
        builder.extend_roadmap(definition.steps)
    if builder.base or not definition.base:  # otherwise each variant would repeat the base's faults
        for index, entry in enumerate(definition.variants):
            builder.add(("variants", index), entry)
    if builder.faults:
        raise study.error(builder.faults)
    variants = tuple(builder.variants.values())
    return ResolvedStudy(
        name=study.name,
        title=definition.title,
        regime=regime,
        variants=variants,
        reference=builder.base or variants[0],
        omitted=tuple(dict.fromkeys([*builder.steps.omitted, *builder.omitted])),
        text="" if study.shipped else study.text,
    )


class _VariantBuilder:
    """Builds the variants one by one, and collects the faults of impossible ones."""

    def __init__(
        self, study: StudyFile, regime: Regime, recipes: Recipes, start: Start | None
    ) -> None:
        self.default_start = self.start = start
        self.steps = KnownSteps(study, regime, recipes)
        self.regime, self.recipes = regime, recipes
        self.variants: dict[str, Variant] = {}
        self.keys: dict[tuple[Any, ...], str] = {}  # network and recipe -> variant
        self.omitted: list[tuple[str, str]] = []
        self.faults = self.steps.faults
        self.base: Variant | None = None
        self.base_steps: list[Step] = []
        self.base_fields: Mapping[str, Any] = NOTHING
        self.base_recipe: Mapping[str, Any] = NOTHING

    def add_base(self, base: BaseVariant) -> None:
        """Adds the base, from which the other variants are derived."""
        self.default_start = self.start = _start_of(base, self.default_start)
        with noting(self.faults, ("base",)):
            fields, recipe = base.fields or {}, base.recipe or {}
            if base.model:
                steps, of_model, trained = self._model(base.model)
                fields, recipe = {**of_model, **fields}, {**trained, **recipe}
            else:
                steps = _adopted(self.steps.of_list(base, side_branches=False))
            self.base_fields = fields
            self.base_recipe = self.steps.recipe(recipe, ("base", "recipe"))
            names = base.key, self.regime.fill_names(base.title), "Base"
            self.base_steps, self.base = steps, self._variant(names, steps)
            self._append(self.base)

    def extend_roadmap(self, further: Iterable[str]) -> None:
        """Adds the roadmap, and after it a variant for each of these steps."""
        with noting(self.faults, ("extends",)):
            self._add_path(
                VariantEntry(path=StepList(steps=EACH)), [*STEPS, *self.steps.find(further)]
            )

    def add(self, location: Key, entry: VariantEntry) -> None:
        """Adds the variants of one entry of the file."""
        self.start = _start_of(entry, self.default_start)
        with noting(self.faults, location, f"{entry.key}: " if entry.key else ""):
            if entry.path is not None:
                self._add_path(entry, self.steps.of_list(entry.path))
            elif self.base is None:
                raise UsageError("this needs a base; the study has none")
            elif entry.sweep is not None:
                self._add_sweep(entry, entry.sweep, (*location, "sweep"))
            elif entry.without == EACH:
                self._add_without_each(entry)
            elif entry.with_ == EACH:
                self._add_with_each(entry)
            else:
                self._add_one(entry, (*location, "recipe"))

    # -- the forms -------------------------------------------------------------------------------

    def _add_path(self, entry: VariantEntry, steps: Sequence[Step]) -> None:
        keys: dict[str, str] = {}  # step -> its variant, which may be one of another path
        for step in map(self._resolved, apply_steps(steps, self.regime)):
            twin = self.keys.get(_content(step))
            parent = keys[step.parent] if step.parent else None
            section = entry.section or entry.title or step.section
            if twin and self.base and twin == self.base.key and self.base.parent is None and parent:
                # The path leads to the base: this is its place in the table.
                title = f"{step.title} ({self.base.title})"
                self.base = dataclasses.replace(
                    self.variants.pop(twin), title=title, section=section, parent=parent
                )
                self.variants[twin] = self.base
            keys[step.key] = twin or (f"{entry.key}.{step.key}" if entry.key else step.key)
            if twin is None:
                self._append(
                    dataclasses.replace(step, key=keys[step.key], parent=parent, section=section)
                )

    def _add_sweep(self, entry: VariantEntry, sweep: Mapping[str, Any], location: Key) -> None:
        lists = {name: self.steps.value(name, values) for name, values in sweep.items()}
        of_recipe = [name for name in lists if name in Recipe.model_fields and name not in FIELDS]
        for name, values in lists.items():
            if name not in (*FIELDS, *SET_ELSEWHERE, *of_recipe):
                raise UnknownNameError(
                    "field or key of the recipe",
                    name,
                    dict.fromkeys((*FIELDS, *Recipe.model_fields)),
                )
            if not isinstance(values, list) or not values:
                raise UsageError(f"sweep: {name} is {values!r}; give a list of values")
        combinations = math.prod(map(len, lists.values()))
        if not lists:
            raise UsageError("sweep names no field")
        if combinations > MAX_COMBINATIONS:
            raise UsageError(
                f"sweep has {integer(combinations)} combinations; the maximum is "
                f"{integer(MAX_COMBINATIONS)}"
            )
        for name in of_recipe:
            for value in lists[name]:
                self.steps.recipe({name: value}, location)
        for values in itertools.product(*lists.values()):
            fields = dict(zip(lists, values, strict=True))
            shown = {name.replace("_", " "): value_text(value) for name, value in fields.items()}
            title = ", ".join(f"{name} {value}" for name, value in shown.items())
            key = ".".join(f"{name}-{value}" for name, value in shown.items())
            key = key.replace(" ", "-").replace(",", "-")
            recipe = {name: fields.pop(name) for name in of_recipe}
            with self._omitting(key, DuplicateVariantError):
                names = key, title, entry.section or "Sweep"
                self._append(self._variant(names, self.base_steps, fields, recipe))

    def _add_without_each(self, entry: VariantEntry) -> None:
        first = 0 if self.base_steps[0].changes else 1  # the start of the road changes nothing
        for step in self.base_steps[first:]:
            rest = [other for other in self.base_steps if other is not step]
            names = (
                f"no-{step.key}",
                f"without {self._title_of(step)}",
                entry.section or step.section,
            )
            with self._omitting(names[0], SpecError):
                self._append(self._variant(names, rest))

    def _add_with_each(self, entry: VariantEntry) -> None:
        for step in self.steps.by_key.values():
            if step in self.base_steps:
                continue
            names = step.key, f"with {self._title_of(step)}", entry.section or step.section
            with self._omitting(step.key, SpecError):
                self._append(self._variant(names, [*self.base_steps, *_adopted([step])]))

    def _add_one(self, entry: VariantEntry, location: Key) -> None:
        steps = list(self.base_steps)
        if entry.steps is not None:
            steps = _adopted(self.steps.find(entry.steps))
        fields, trained = entry.fields or {}, entry.recipe or {}
        if entry.model is not None:
            steps, of_model, recipe = self._model(entry.model)
            fields, trained = {**of_model, **fields}, {**recipe, **trained}
        present = [step.key for step in steps]
        for key in entry.without or ():
            if key not in present:
                raise UnknownNameError("step to leave out", key, present)
        steps = [step for step in steps if step.key not in (entry.without or ())]
        steps += _adopted(self.steps.find(entry.with_ or ()))
        if entry.order is not None:
            steps = _reordered(steps, entry.order)
        key = entry.key or ""
        names = key, self.regime.fill_names(entry.title or key), entry.section or "Variants"
        recipe = self.steps.recipe(trained, location)
        self._append(self._variant(names, steps, fields, recipe))

    def _model(self, name: str) -> tuple[list[Step], dict[str, Any], dict[str, Any]]:
        """Returns the steps, and the fields and keys of the recipe, that make a paper's model."""
        spec = MODELS[name]
        road = STEPS[: find_step(step_of(spec) or "downsample") + 1]
        steps = [step for step in road if step.adopted]
        last = apply_steps(steps, self.regime)[-1]
        names = last.spec.diff(spec, (Role.INPUT, Role.HEAD, Role.TRAINING)).keys()
        values = spec.to_dict()
        fields = {field: values[field] for field in (*names, *self.base_fields)}
        return steps, fields, self.recipes.named(last.training).of_size(name)

    # -- shared by the forms ---------------------------------------------------------------------

    @contextlib.contextmanager
    def _omitting(self, key: str, kind: type[SpecError]) -> Iterator[None]:
        """Omits a variant of a short form for which the body raises such an error."""
        try:
            yield
        except kind as error:
            self.omitted.append((key, str(error)))

    def _title_of(self, step: Step) -> str:
        """Returns a step's title without the end of the road, or that of the recipe it changes."""
        title = step.title.removesuffix(" ({end})")
        if not step.changes and not step.recipe:
            title = f"the {step.training} recipe"
        return self.regime.fill_names(title)

    def _variant(
        self,
        names: tuple[str, str, str],
        steps: Sequence[Step],
        fields: Mapping[str, Any] = NOTHING,
        recipe: Mapping[str, Any] = NOTHING,
    ) -> Variant:
        """Returns the variant after some steps, with the base's fields and recipe, and with these.

        Args:
            names: its key, title and section.
            steps: all of them, from the start of the road.
            fields: of the network, and their values.
            recipe: keys of the recipe, and their values in this regime.
        """
        start = self.regime.first(), Training.CLASSIC
        last = (
            apply_steps(steps, self.regime)[-1]
            if steps
            else Variant("", "", "", True, None, *start)
        )
        spec = last.spec.replace(**self.steps.values({**self.base_fields, **fields}))
        recipe = {**last.recipe, **self.base_recipe, **recipe}
        parent = self.base.key if self.base else None
        return self._resolved(Variant(*names, True, parent, spec, last.training, recipe))

    def _resolved(self, variant: Variant) -> Variant:
        """Returns the variant with its start, and the fewest changes that make its recipe.

        Raises:
            SpecError: if its recipe is not valid.
        """
        start = self.start.model_dump() if self.start else None
        variant = dataclasses.replace(variant, start=start)
        if not variant.recipe:
            return variant
        try:
            _, recipe = self.recipes.of_variant(variant, self.regime.name)
        except RecipeError as error:
            raise SpecError(f"the recipe of {variant.key!r}: {error}") from None
        training, changes = self.recipes.nearest(recipe, self.regime.name)
        return dataclasses.replace(variant, training=training, recipe=changes)

    def _append(self, variant: Variant) -> None:
        if len(variant.key) > LONGEST_KEY:
            raise UsageError(
                f"the key {variant.key!r} has {len(variant.key)} characters; the maximum is "
                f"{LONGEST_KEY}. Use shorter keys, or fewer names in a sweep"
            )
        if variant.key in self.variants:
            raise UsageError(f"the key {variant.key!r} is taken; give each variant its own")
        twin = self.keys.get(_content(variant))
        if twin is not None:
            base = " the base," if self.base and twin == self.base.key else ""
            raise DuplicateVariantError(
                f"it changes nothing: the same network as{base} {twin!r}, trained the same way"
            )
        self.variants[variant.key] = variant
        self.keys[_content(variant)] = variant.key


def _content(variant: Variant) -> tuple[Any, ...]:
    """Returns the network, recipe and start of a variant; no other variant has the same."""
    others = json.dumps([variant.recipe, variant.start], sort_keys=True)
    return variant.spec, variant.training, others


def _start_of(part: BaseVariant | VariantEntry, otherwise: Start | None) -> Start | None:
    return part.start if "start" in part.model_fields_set else otherwise


def _adopted(steps: Iterable[Step]) -> list[Step]:
    """Returns the steps, none a side branch: a study that names a side branch builds on it."""
    return [step if step.adopted else dataclasses.replace(step, adopted=True) for step in steps]


def _reordered(steps: Sequence[Step], order: Sequence[str]) -> list[Step]:
    by_key = {step.key: step for step in steps}
    missing = [key for key in by_key if key not in order]
    unknown = [key for key in order if key not in by_key]
    if missing or unknown or len(set(order)) < len(order):
        raise UsageError(
            "order must have the same steps, each once"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; unknown: {', '.join(unknown)}" if unknown else "")
        )
    return [by_key[key] for key in order]
