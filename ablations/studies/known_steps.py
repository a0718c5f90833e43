"""The steps and values that a study file can name: of the roadmap, its own, parts of a recipe."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ablations.recipe import RecipeError, Recipes
from ablations.recipe_parts import PARTS, parts_between
from ablations.studies.study_file import EACH, StepList, StudyFile
from ablations.yaml_core import Key
from modernize.custom_layers import TABLES, builtin_names
from modernize.errors import UnknownNameError, UsageError
from modernize.spec import Role, field_types, fields_with
from modernize.steps import STEPS, Regime, Step, Training, find_step

Faults = list[tuple[Key, str]]

# Fields that a study cannot set, and what sets them.
SET_ELSEWHERE = {
    **dict.fromkeys(fields_with(Role.INPUT, Role.HEAD), "the images decide it"),
    **{
        name: f"the recipe decides it; write it under recipe: (or for all, --set {name}=...)"
        for name in fields_with(Role.TRAINING)
    },
}

FIELDS = tuple(name for name in field_types() if name not in SET_ELSEWHERE)
"""The fields of a network that a study can set."""


@contextlib.contextmanager
def noting(faults: Faults, location: Key, name: str = "") -> Iterator[None]:
    """Adds the faults of a part of the file, found in the body, to a list.

    Args:
        faults: the list.
        location: of the part.
        name: of the part, before each message.
    """
    try:
        yield
    except RecipeError as error:
        faults += [(key, f"{name}{text}") for key, text in error.faults]
    except UsageError as error:
        faults.append((location, f"{name}{error}"))


class KnownSteps:
    """The steps that a study can name, and values of fields and recipes, in one regime.

    Attributes:
        by_key: the roadmap's steps and the study's custom ones.
        parts: of the recipe, those in which the classic and the enhanced one differ.
        omitted: key of each part that a list leaves out, and the reason.
        faults: of custom steps, with their keys.
    """

    def __init__(self, study: StudyFile, regime: Regime, recipes: Recipes) -> None:
        self.regime, self.recipes, self.custom_layers = regime, recipes, study.custom_layers
        self.by_key = {step.key: step for step in STEPS}
        parts, _ = parts_between(recipes, regime.name, Training.CLASSIC, Training.ENHANCED)
        self.parts = {step.key: step for step in parts}
        self.omitted: list[tuple[str, str]] = []
        self.faults: list[tuple[Key, str]] = []
        taken = {*self.by_key, *(part.key for part in PARTS)}
        for key, custom in study.definition.steps.items():
            place, changes, recipe = ("steps", key), None, None
            with noting(self.faults, (*place, "changes")):
                changes = self.values(custom.changes)
                regime.first().replace(**changes)
            with noting(self.faults, (*place, "recipe")):
                recipe = self.recipe(custom.recipe, (*place, "recipe"))
            if key in taken:
                self.faults.append((place, "a step or a part of a recipe has this key; rename"))
            elif changes is not None and recipe is not None:
                training = Training(custom.training) if custom.training else None
                self.by_key[key] = Step(
                    key, custom.title, custom.section, changes, training, custom.adopted, recipe
                )

    def find(self, keys: Iterable[str]) -> list[Step]:
        """Returns steps by their keys."""
        known = {**self.by_key, **self.parts}
        for key in keys:
            if key not in known:
                raise UnknownNameError("step", key, known)
        return [known[key] for key in keys]

    def of_list(self, steps: StepList, *, side_branches: bool = True) -> list[Step]:
        """Returns the steps of a list in a study file."""
        road = STEPS[: find_step(steps.until) + 1] if steps.until else STEPS
        if steps.until is None and steps.steps != EACH:
            road = ()
        listed = [step for step in road if step.adopted or side_branches]
        if steps.steps != EACH:
            listed += self.find(steps.steps or ())
        return self.in_parts(listed) if steps.recipe_parts else listed

    def in_parts(self, steps: Iterable[Step]) -> list[Step]:
        """Returns the steps, with each step to another recipe divided into parts of the recipe."""
        divided: list[Step] = []
        before = Training.CLASSIC
        for step in steps:
            if step.training in (None, before):
                divided.append(step)
                continue
            parts, equal = parts_between(self.recipes, self.regime.name, before, step.training)
            self.omitted += [(part.key, "both recipes have the same values") for part in equal]
            divided += parts
            if step.changes or step.recipe:
                divided.append(dataclasses.replace(step, training=None))
            before = step.training
        return divided

    def values(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the values of fields in this regime, with custom layers resolved."""
        values = {name: self.value(name, value) for name, value in fields.items()}
        for name in values:
            if name in SET_ELSEWHERE:
                raise UsageError(f"a study cannot set {name}: {SET_ELSEWHERE[name]}")
        for name in TABLES.keys() & values.keys():
            custom = isinstance(values[name], str) and values[name] not in builtin_names(name)
            if self.custom_layers and custom:
                values[name] = self.custom_layers.named(name, values[name])
        return values

    def recipe(self, values: Mapping[str, Any], location: Key) -> dict[str, Any]:
        """Returns the values of keys of a recipe in this regime.

        Raises:
            RecipeError: for an unknown key or a value that is not valid in any recipe; with the
                location of each.
        """
        values = {key: self.value(key, value) for key, value in values.items()}
        try:
            self.recipes.of(Training.ENHANCED, self.regime.name, values)
        except RecipeError as error:
            if not error.conflict:  # it may fit the recipe that it changes
                faults = [((*location, *key), text) for key, text in error.faults]
                raise RecipeError(faults, conflict=False) from None
        return values

    def value(self, name: str, value: Any) -> Any:
        """Returns the value of a field or key, which may be a mapping with one for each regime."""
        if not isinstance(value, dict):
            return value
        if self.regime.name not in value:
            raise UnknownNameError(f"regime for the values of {name}:", self.regime.name, value)
        return value[self.regime.name]
