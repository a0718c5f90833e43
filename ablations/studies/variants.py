"""From a study file to the networks it compares. torch is imported only for custom layers."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ablations.studies.study_file import EACH, Base, CustomStep, Entry, Rows, WrittenStudy
from ablations.yaml_core import Key
from modernize.custom_layers import TABLES, builtin
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

MOST = 10_000  # variants of one sweep

# Fields that a study cannot set, and what sets them.
SET_ELSEWHERE = {
    **dict.fromkeys(fields_with(Role.INPUT, Role.HEAD), "the images decide it"),
    **{
        name: f"the preset's recipes decide it (--set {name}=...)"
        for name in fields_with(Role.TRAINING)
    },
}


class NothingNewError(SpecError):
    """A variant that is the same as another one."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A study in one regime.

    Attributes:
        name, title: of the study.
        regime: its name.
        variants: what is compared, in order.
        reference: the variant whose cost the others' are set beside.
        left_out: what a short form would have made, and why it is not among the variants.
        own_file: the study's file as it was written, where it is not one of ours.
    """

    name: str
    title: str
    regime: str
    variants: tuple[Variant, ...]
    reference: Variant
    left_out: tuple[tuple[str, str], ...] = ()
    own_file: str = ""


def compare(study: WrittenStudy, regime: str) -> Comparison:
    """Returns the networks that a study compares.

    Raises:
        UnknownNameError: for an unknown regime.
        UsageError: naming every variant that cannot be, with file, line and the reason.
    """
    maker = _Maker(study, find_regime(regime))
    if study.file.base is not None:
        maker.add_base(study.file.base)
    if maker.base or not study.file.base:  # else each variant would repeat the base's faults
        for index, entry in enumerate(study.file.variants):
            maker.add(("variants", index), entry)
    if maker.faults:
        raise study.refuse(maker.faults)
    variants = tuple(maker.variants.values())
    return Comparison(
        name=study.name,
        title=study.file.title,
        regime=regime,
        variants=variants,
        reference=variants[0],
        left_out=tuple(maker.left_out),
        own_file="" if study.shipped else study.text,
    )


class _Maker:
    """Makes variants one after the other, and collects the faults of those that cannot be."""

    def __init__(self, study: WrittenStudy, regime: Regime) -> None:
        self.regime, self.custom_layers = regime, study.custom_layers
        self.variants: dict[str, Variant] = {}
        self.alike: dict[tuple[NetSpec, Training], str] = {}  # network and recipe -> variant
        self.left_out: list[tuple[str, str]] = []
        self.faults: list[tuple[Key, str]] = []
        self.base: Variant | None = None
        self.base_steps: list[Step] = []
        self.steps = {step.key: step for step in STEPS}
        for key, own in study.file.steps.items():
            self._add_step(("steps", key), key, own)

    def _add_step(self, place: Key, key: str, own: CustomStep) -> None:
        if key in self.steps:
            self.faults.append((place, "the roadmap has a step of this name; call it otherwise"))
            return
        training = Training(own.training) if own.training else None
        try:
            changes = self._values(own.changes)
            self.regime.first().replace(**changes)
        except UsageError as error:
            self.faults.append(((*place, "changes"), str(error)))
            return
        self.steps[key] = Step(key, own.title, own.section, changes, training, own.adopted)

    def add_base(self, base: Base) -> None:
        """Makes the base, of which the other variants are made."""
        try:
            self.base_steps = _adopt(self._rows(base, side_branches=False))
            spec, training = self._network(self.base_steps, base.fields)
        except UsageError as error:
            self.faults.append((("base",), str(error)))
            return
        title = self.regime.names_in(base.title)
        self.base = Variant(base.key, title, "Base", True, None, spec, training)
        self._put(self.base)

    def add(self, place: Key, entry: Entry) -> None:
        """Makes what one entry of the file stands for."""
        try:
            if entry.path is not None:
                self._add_path(entry, self._rows(entry.path))
            elif self.base is None:
                raise UsageError("this needs a base; the study has none")
            elif entry.sweep is not None:
                self._add_sweep(entry, entry.sweep)
            elif entry.without == EACH:
                start = self.base_steps[:1] if not self.base_steps[0].changes else []
                for step in self.base_steps[len(start) :]:
                    self._add_without(entry, step)
            elif entry.with_ == EACH:
                for step in self.steps.values():
                    if step not in self.base_steps:
                        self._add_with(entry, step)
            else:
                self._add_one(entry)
        except UsageError as error:
            name = f"{entry.key}: " if entry.key else ""
            self.faults.append((place, f"{name}{error}"))

    # -- the forms -------------------------------------------------------------------------------

    def _add_path(self, entry: Entry, rows: Sequence[Step]) -> None:
        names: dict[str, str] = {}  # step -> the variant that stands for it
        for step in apply_steps(rows, self.regime):
            twin = self.alike.get((step.spec, step.training))
            names[step.key] = twin or (f"{entry.key}.{step.key}" if entry.key else step.key)
            if twin is None:
                parent = names[step.parent] if step.parent else None
                section = entry.section or entry.title or step.section
                self._put(
                    dataclasses.replace(step, key=names[step.key], parent=parent, section=section)
                )

    def _add_sweep(self, entry: Entry, sweep: Mapping[str, Any]) -> None:
        lists = {name: self._of_regime(name, values) for name, values in sweep.items()}
        for name, values in lists.items():
            if not isinstance(values, list) or not values:
                raise UsageError(f"sweep: {name} is {values!r}; give a list of values")
        combinations = math.prod(map(len, lists.values()))
        if not lists:
            raise UsageError("sweep names no field")
        if combinations > MOST:
            raise UsageError(f"sweep has {combinations:,} combinations; at most {MOST:,} are made")
        for values in itertools.product(*lists.values()):
            fields = dict(zip(lists, values, strict=True))
            name = ", ".join(f"{_words(field)} {_show(value)}" for field, value in fields.items())
            key = ".".join(
                f"{field.replace('_', '-')}-{_show(value).replace(',', '-')}"
                for field, value in fields.items()
            )
            spec, training = self._network(self.base_steps, fields)
            with self._leaving_out(key, NothingNewError):
                self._put(self._made(key, name, entry.section or "Sweep", spec, training))

    def _add_without(self, entry: Entry, step: Step) -> None:
        key, title = f"no-{step.key}", f"without {self._named_in(step)}"
        with self._leaving_out(key, SpecError):
            rest = [other for other in self.base_steps if other is not step]
            spec, training = self._network(rest, None)
            self._put(self._made(key, title, entry.section or step.section, spec, training))

    def _add_with(self, entry: Entry, step: Step) -> None:
        title = f"with {self._named_in(step)}"
        with self._leaving_out(step.key, SpecError):
            spec, training = self._network([*self.base_steps, *_adopt([step])], None)
            self._put(self._made(step.key, title, entry.section or step.section, spec, training))

    @contextlib.contextmanager
    def _leaving_out(self, key: str, kind: type[SpecError]) -> Iterator[None]:
        """Notes why a variant of a short form cannot be, where an error says so."""
        try:
            yield
        except kind as error:
            self.left_out.append((key, str(error)))

    def _add_one(self, entry: Entry) -> None:
        rows = list(self.base_steps)
        if entry.steps is not None:
            rows = _adopt(self._named(entry.steps))
        present = [row.key for row in rows]
        for name in entry.without or ():
            if name not in present:
                raise UnknownNameError("step to leave out", name, present)
        rows = [row for row in rows if row.key not in (entry.without or ())]
        rows += _adopt(self._named(entry.with_ or ()))
        if entry.order is not None:
            rows = _reorder(rows, entry.order)
        spec, training = self._network(rows, entry.fields)
        key = entry.key or ""
        title = self.regime.names_in(entry.title or key)
        self._put(self._made(key, title, entry.section or "Variants", spec, training))

    def _named_in(self, step: Step) -> str:
        """What a step alone is called: where it changes but the recipe, that; no road's end."""
        title = (
            step.title.removesuffix(" ({end})") if step.changes else f"the {step.training} recipe"
        )
        return self.regime.names_in(title)

    # -- what they share -------------------------------------------------------------------------

    def _made(self, key: str, title: str, section: str, spec: NetSpec, by: Training) -> Variant:
        return Variant(key, title, section, True, self.base.key if self.base else None, spec, by)

    def _put(self, variant: Variant) -> None:
        if variant.key in self.variants:
            raise UsageError(f"the key {variant.key!r} is taken; give each variant its own")
        twin = self.alike.get((variant.spec, variant.training))
        if twin is not None:
            base = " the base," if self.base and twin == self.base.key else ""
            raise NothingNewError(
                f"it changes nothing: the same network as{base} {twin!r}, trained the same way"
            )
        self.variants[variant.key] = variant
        self.alike[variant.spec, variant.training] = variant.key

    def _network(
        self, rows: Sequence[Step], fields: Mapping[str, Any] | None
    ) -> tuple[NetSpec, Training]:
        """Returns the network at the end of some steps, with these fields."""
        if rows is self.base_steps and self.base is not None:
            spec, training = self.base.spec, self.base.training
        elif rows:
            last = apply_steps(rows, self.regime)[-1]
            spec, training = last.spec, last.training
        else:
            spec, training = self.regime.first(), Training.CLASSIC
        return (spec.replace(**self._values(fields)) if fields else spec), training

    def _rows(self, rows: Rows, *, side_branches: bool = True) -> list[Step]:
        if rows.until is not None or rows.steps == EACH:
            steps = STEPS[: find_step(rows.until) + 1] if rows.until else STEPS
            return [step for step in steps if step.adopted or side_branches]
        return self._named(rows.steps or ())

    def _named(self, names: Iterable[str]) -> list[Step]:
        for name in names:
            if name not in self.steps:
                raise UnknownNameError("step", name, self.steps)
        return [self.steps[name] for name in names]

    def _values(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Returns fields with the regime's values, and custom layers as such."""
        values = {name: self._of_regime(name, value) for name, value in fields.items()}
        for name in values:
            if name in SET_ELSEWHERE:
                raise UsageError(f"a study cannot set {name}: {SET_ELSEWHERE[name]}")
        for name in TABLES.keys() & values.keys():
            custom = isinstance(values[name], str) and values[name] not in builtin(name)
            if self.custom_layers and custom:
                values[name] = self.custom_layers.named(name, values[name])
        return values

    def _of_regime(self, name: str, value: Any) -> Any:
        """Returns a value, which may be given as one for each regime."""
        if not isinstance(value, dict):
            return value
        if self.regime.name not in value:
            raise UnknownNameError(f"regime for the values of {name}:", self.regime.name, value)
        return value[self.regime.name]


def _adopt(steps: Iterable[Step]) -> list[Step]:
    """A side branch of the paper is built upon where a study names it."""
    return [step if step.adopted else dataclasses.replace(step, adopted=True) for step in steps]


def _reorder(rows: Sequence[Step], order: Sequence[str]) -> list[Step]:
    by_key = {row.key: row for row in rows}
    lacking = [key for key in by_key if key not in order]
    unknown = [key for key in order if key not in by_key]
    if lacking or unknown or len(set(order)) < len(order):
        raise UsageError(
            "order must have the same steps, each once"
            + (f"; it lacks {', '.join(lacking)}" if lacking else "")
            + (f"; there is no {', '.join(unknown)}" if unknown else "")
        )
    return [by_key[key] for key in order]


def _words(field: str) -> str:
    return field.replace("_", " ")


def _show(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
