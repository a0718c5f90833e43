"""From a study file to the networks it compares. torch is imported only for custom layers."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ablations.studies.study_file import EACH, BaseVariant, StepList, StudyFile, VariantEntry
from ablations.yaml_core import Key
from modernize.custom_layers import TABLES, builtin_names
from modernize.errors import SpecError, UnknownNameError, UsageError
from modernize.spec import NetSpec, Role, fields_with
from modernize.steps import (
    STEPS,
    Regime,
    Step,
    Training,
    Variant,
    apply_steps,
    find_regime,
    find_step,
)

MAX_COMBINATIONS = 10_000  # of one sweep

# Fields that a study cannot set, and what sets them.
SET_ELSEWHERE = {
    **dict.fromkeys(fields_with(Role.INPUT, Role.HEAD), "the images decide it"),
    **{
        name: f"the preset's recipes decide it (--set {name}=...)"
        for name in fields_with(Role.TRAINING)
    },
}


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


def resolve_study(study: StudyFile, regime: str) -> ResolvedStudy:
    """Returns the variants of a study in a regime.

    Raises:
        UnknownNameError: for an unknown regime.
        UsageError: naming every variant that is impossible, with file, line and reason.
    """
    builder = _VariantBuilder(study, find_regime(regime))
    definition = study.definition
    if definition.base is not None:
        builder.add_base(definition.base)
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
        reference=variants[0],
        omitted=tuple(builder.omitted),
        text="" if study.shipped else study.text,
    )


class _Steps:
    """The roadmap's steps and a study's custom steps, and values of fields, in one regime."""

    def __init__(self, study: StudyFile, regime: Regime) -> None:
        self.regime, self.custom_layers = regime, study.custom_layers
        self.by_key = {step.key: step for step in STEPS}
        self.faults: list[tuple[Key, str]] = []
        for key, custom in study.definition.steps.items():
            if key in self.by_key:
                self.faults.append((("steps", key), "the roadmap has a step with this key; rename"))
                continue
            training = Training(custom.training) if custom.training else None
            try:
                changes = self.values(custom.changes)
                regime.first().replace(**changes)
            except UsageError as error:
                self.faults.append((("steps", key, "changes"), str(error)))
                continue
            self.by_key[key] = Step(
                key, custom.title, custom.section, changes, training, custom.adopted
            )

    def find(self, keys: Iterable[str]) -> list[Step]:
        """Returns steps by their keys."""
        for key in keys:
            if key not in self.by_key:
                raise UnknownNameError("step", key, self.by_key)
        return [self.by_key[key] for key in keys]

    def of_list(self, steps: StepList, *, side_branches: bool = True) -> list[Step]:
        """Returns the steps of a list in a study file."""
        if steps.until is None and steps.steps != EACH:
            return self.find(steps.steps or ())
        road = STEPS[: find_step(steps.until) + 1] if steps.until else STEPS
        return [step for step in road if step.adopted or side_branches]

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

    def value(self, name: str, value: Any) -> Any:
        """Returns the value of a field, which may be a mapping with a value for each regime."""
        if not isinstance(value, dict):
            return value
        if self.regime.name not in value:
            raise UnknownNameError(f"regime for the values of {name}:", self.regime.name, value)
        return value[self.regime.name]


class _VariantBuilder:
    """Builds the variants one by one, and collects the faults of impossible ones."""

    def __init__(self, study: StudyFile, regime: Regime) -> None:
        self.steps = _Steps(study, regime)
        self.regime = regime
        self.variants: dict[str, Variant] = {}
        self.keys: dict[tuple[NetSpec, Training], str] = {}  # network and recipe -> variant
        self.omitted: list[tuple[str, str]] = []
        self.faults = self.steps.faults
        self.base: Variant | None = None
        self.base_steps: list[Step] = []

    def add_base(self, base: BaseVariant) -> None:
        """Adds the base, from which the other variants are derived."""
        try:
            self.base_steps = _adopted(self.steps.of_list(base, side_branches=False))
            network = self._network(self.base_steps, base.fields)
        except UsageError as error:
            self.faults.append((("base",), str(error)))
            return
        title = self.regime.fill_names(base.title)
        self.base = Variant(base.key, title, "Base", True, None, *network)
        self._append(self.base)

    def add(self, location: Key, entry: VariantEntry) -> None:
        """Adds the variants of one entry of the file."""
        try:
            if entry.path is not None:
                self._add_path(entry, self.steps.of_list(entry.path))
            elif self.base is None:
                raise UsageError("this needs a base; the study has none")
            elif entry.sweep is not None:
                self._add_sweep(entry, entry.sweep)
            elif entry.without == EACH:
                self._add_without_each(entry)
            elif entry.with_ == EACH:
                self._add_with_each(entry)
            else:
                self._add_one(entry)
        except UsageError as error:
            name = f"{entry.key}: " if entry.key else ""
            self.faults.append((location, f"{name}{error}"))

    # -- the forms -------------------------------------------------------------------------------

    def _add_path(self, entry: VariantEntry, steps: Sequence[Step]) -> None:
        keys: dict[str, str] = {}  # step -> its variant, which may be one of another path
        for step in apply_steps(steps, self.regime):
            twin = self.keys.get((step.spec, step.training))
            keys[step.key] = twin or (f"{entry.key}.{step.key}" if entry.key else step.key)
            if twin is None:
                parent = keys[step.parent] if step.parent else None
                section = entry.section or entry.title or step.section
                self._append(
                    dataclasses.replace(step, key=keys[step.key], parent=parent, section=section)
                )

    def _add_sweep(self, entry: VariantEntry, sweep: Mapping[str, Any]) -> None:
        lists = {name: self.steps.value(name, values) for name, values in sweep.items()}
        for name, values in lists.items():
            if not isinstance(values, list) or not values:
                raise UsageError(f"sweep: {name} is {values!r}; give a list of values")
        combinations = math.prod(map(len, lists.values()))
        if not lists:
            raise UsageError("sweep names no field")
        if combinations > MAX_COMBINATIONS:
            raise UsageError(
                f"sweep has {combinations:,} combinations; the maximum is {MAX_COMBINATIONS:,}"
            )
        for values in itertools.product(*lists.values()):
            fields = dict(zip(lists, values, strict=True))
            shown = {name.replace("_", " "): _show(value) for name, value in fields.items()}
            title = ", ".join(f"{name} {value}" for name, value in shown.items())
            key = ".".join(f"{name}-{value}" for name, value in shown.items())
            key = key.replace(" ", "-").replace(",", "-")
            network = self._network(self.base_steps, fields)
            with self._omitting(key, DuplicateVariantError):
                self._add_variant(key, title, entry.section or "Sweep", network)

    def _add_without_each(self, entry: VariantEntry) -> None:
        first = 0 if self.base_steps[0].changes else 1  # the start of the road changes nothing
        for step in self.base_steps[first:]:
            rest = [other for other in self.base_steps if other is not step]
            key, title = f"no-{step.key}", f"without {self._title_of(step)}"
            with self._omitting(key, SpecError):
                network = self._network(rest)
                self._add_variant(key, title, entry.section or step.section, network)

    def _add_with_each(self, entry: VariantEntry) -> None:
        for step in self.steps.by_key.values():
            if step in self.base_steps:
                continue
            title = f"with {self._title_of(step)}"
            with self._omitting(step.key, SpecError):
                network = self._network([*self.base_steps, *_adopted([step])])
                self._add_variant(step.key, title, entry.section or step.section, network)

    def _add_one(self, entry: VariantEntry) -> None:
        steps = list(self.base_steps)
        if entry.steps is not None:
            steps = _adopted(self.steps.find(entry.steps))
        present = [step.key for step in steps]
        for key in entry.without or ():
            if key not in present:
                raise UnknownNameError("step to leave out", key, present)
        steps = [step for step in steps if step.key not in (entry.without or ())]
        steps += _adopted(self.steps.find(entry.with_ or ()))
        if entry.order is not None:
            steps = _reordered(steps, entry.order)
        key = entry.key or ""
        title = self.regime.fill_names(entry.title or key)
        network = self._network(steps, entry.fields)
        self._add_variant(key, title, entry.section or "Variants", network)

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
        title = (
            step.title.removesuffix(" ({end})") if step.changes else f"the {step.training} recipe"
        )
        return self.regime.fill_names(title)

    def _network(
        self, steps: Sequence[Step], fields: Mapping[str, Any] | None = None
    ) -> tuple[NetSpec, Training]:
        """Returns the network and the recipe after some steps, with these fields."""
        if steps is self.base_steps and self.base is not None:
            spec, training = self.base.spec, self.base.training
        elif steps:
            last = apply_steps(steps, self.regime)[-1]
            spec, training = last.spec, last.training
        else:
            spec, training = self.regime.first(), Training.CLASSIC
        return (spec.replace(**self.steps.values(fields)) if fields else spec), training

    def _add_variant(
        self, key: str, title: str, section: str, network: tuple[NetSpec, Training]
    ) -> None:
        parent = self.base.key if self.base else None
        self._append(Variant(key, title, section, True, parent, *network))

    def _append(self, variant: Variant) -> None:
        if variant.key in self.variants:
            raise UsageError(f"the key {variant.key!r} is taken; give each variant its own")
        twin = self.keys.get((variant.spec, variant.training))
        if twin is not None:
            base = " the base," if self.base and twin == self.base.key else ""
            raise DuplicateVariantError(
                f"it changes nothing: the same network as{base} {twin!r}, trained the same way"
            )
        self.variants[variant.key] = variant
        self.keys[variant.spec, variant.training] = variant.key


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


def _show(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
