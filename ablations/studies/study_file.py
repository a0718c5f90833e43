"""Study files: the variants of a study as its author writes them, read and checked.

``ablations/study_files`` has the shipped ones; :mod:`~ablations.studies.variants` builds the
variants.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from ablations import yaml_file
from ablations.choices import Start
from ablations.paths import expand
from ablations.value_types import ModelName, RegimeName, Seeds
from ablations.yaml_core import Key
from ablations.yaml_file import Table
from modernize.custom_layers import CustomLayersFile, load_custom_layers
from modernize.errors import UsageError

STUDIES = Path(__file__).parents[1] / "study_files"
EACH = "each"


def _each_or_names(value: Any) -> Any:
    if value == EACH or (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        return value
    raise ValueError("write 'each', or a list of steps")


KeyName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
Steps: TypeAlias = Annotated[list[str], Field(min_length=1)]
EachOrSteps: TypeAlias = Annotated[Any, AfterValidator(_each_or_names)]
Fields: TypeAlias = dict[str, Any]


class StepList(Table):
    """A list of steps.

    Attributes:
        until: all steps of the roadmap up to this one.
        steps: the keys of further steps; ``each`` alone: the whole roadmap.
        recipe_parts: whether a step to another recipe becomes one step for each of its parts.
    """

    example: ClassVar[str] = "{until: ln} or {steps: [resnet, recipe, gelu]}"

    until: str | None = None
    steps: EachOrSteps | None = None
    recipe_parts: bool = False

    @model_validator(mode="after")
    def _has_steps(self) -> Self:
        self._check_steps()
        return self

    def _check_steps(self) -> None:
        if not self.until and not self.steps:
            raise ValueError("give until, steps or both")
        if self.until and self.steps == EACH:
            raise ValueError("until and 'each' both mean steps of the roadmap; give one")


class BaseVariant(StepList):
    """The variant that others are derived from and compared with.

    Attributes:
        key, title: its names; ``{start}`` and ``{end}`` are the regime's networks.
        model: one of the paper's, in place of steps.
        fields: NetSpec fields and their values, after the steps.
        recipe: keys of the recipe and their values, after the steps.
        start: the weights that runs start from, those of other variants too; null: fresh ones.
    """

    example: ClassVar[str] = "{until: downsample}"

    key: KeyName = "base"
    title: str = "the base"
    model: ModelName | None = None
    fields: Fields | None = None
    recipe: Fields | None = None
    start: Start | None = None

    def _check_steps(self) -> None:
        if not self.model:
            super()._check_steps()
        elif self.until or self.steps:
            raise ValueError("a model has its own steps; give no until and steps")


class CustomStep(Table):
    """A custom step; its fields are those of :class:`modernize.steps.Step`."""

    example: ClassVar[str] = "{title: kernel size 13, changes: {kernel_size: 13}}"

    title: str
    section: str = "Custom steps"
    changes: Fields = Field(default_factory=dict)
    recipe: Fields = Field(default_factory=dict)
    training: Literal["classic", "enhanced"] | None = None
    adopted: bool = True


_FORMS = ("model", "steps", "without", "with_", "order", "fields", "recipe", "sweep", "path")


class VariantEntry(Table):
    """One variant, or several variants in a short form.

    Attributes:
        key, title, section: its names in tables and charts.
        model: one of the paper's, in place of the base's steps, fields and recipe.
        steps: replace the base's steps.
        without: steps to remove; ``each``: a variant without each step of the base.
        with_: steps to append; ``each``: a variant with each step that the base does not have.
        order: the same steps, in this order.
        fields: NetSpec fields and their values, after the steps.
        recipe: keys of the recipe and their values, after the steps.
        sweep: NetSpec fields or keys of the recipe, and lists of values: a variant for each
            combination.
        path: steps; each makes a variant, which is compared with the one before.
        start: the weights that its runs start from; null: fresh ones.
    """

    example: ClassVar[str] = "{path: {until: ln}} or {key: narrow, fields: {width: 18}}"

    key: KeyName | None = None
    title: str | None = None
    section: str | None = None
    model: ModelName | None = None
    steps: Steps | None = Field(default=None, examples=["[resnet, recipe, gelu]"])
    without: EachOrSteps | None = None
    with_: EachOrSteps | None = Field(default=None, alias="with")
    order: Steps | None = None
    fields: Fields | None = Field(default=None, examples=["{width: 18}"])
    recipe: Fields | None = Field(default=None, examples=["{mixup: 0, drop_path: 0.2}"])
    sweep: Fields | None = Field(default=None, examples=["{kernel_size: [5, 9]}"])
    path: StepList | None = None
    start: Start | None = None

    @model_validator(mode="after")
    def _has_one_form(self) -> Self:
        forms = {name.removesuffix("_"): getattr(self, name) for name in _FORMS}
        given = [name for name, value in forms.items() if value is not None]
        short = [name for name in given if name in ("sweep", "path") or forms[name] == EACH]
        if not given and "start" not in self.model_fields_set:
            raise ValueError(f"give one of the keys {', '.join([*forms, 'start'])}")
        if short and len(given) > 1:
            raise ValueError(f"{short[0]} makes several variants here; it must be the only key")
        if self.model and {"steps", "without", "with", "order"} & {*given}:
            raise ValueError("a model has its own steps; give no others")
        if not short and self.key is None:
            raise ValueError("give it a key")
        if short and self.path is None and (self.key or self.title):
            raise ValueError(f"{short[0]} makes several variants here; they get keys and titles")
        return self


class StudyDefinition(Table):
    """The content of a study file.

    Attributes:
        title: the title of tables and charts.
        extends: ``roadmap``: its variants, and one for each custom step, come first.
        preset: its name or file, unless the command line gives one.
        regime: None: the preset's.
        seeds: runs of each variant.
        start: the weights that runs start from, unless the command line gives others; by default,
            those of the preset.
        base: the variant that others are derived from; a ``path`` needs none.
        steps: custom steps, in addition to the roadmap's.
        layers: a Python file that defines custom layers, relative to this one.
        variants: the variants to compare.
    """

    title: str
    extends: Literal["roadmap"] | None = None
    preset: str = "nano"
    regime: RegimeName | None = None
    seeds: Seeds = 1
    start: Start | None = None
    base: BaseVariant | None = None
    steps: dict[KeyName, CustomStep] = Field(
        default_factory=dict, examples=[f"{{kernel-13: {CustomStep.example}}}"]
    )
    layers: str | None = None
    variants: list[VariantEntry] = Field(
        default_factory=list,
        examples=["[{path: {until: ln}}] (or, for the whole road: extends: roadmap)"],
    )

    @model_validator(mode="after")
    def _has_variants(self) -> Self:
        if not self.variants and self.extends is None:
            raise ValueError("give variants, or extends: roadmap with steps")
        return self


@dataclasses.dataclass(frozen=True)
class StudyFile:
    """A study file that was read.

    Attributes:
        name: of the file, without its suffix.
        path: of the file.
        definition: its content.
        text: its text.
        locations: file and line of each key.
        custom_layers: its file of custom layers, if it names one.
    """

    name: str
    path: Path
    definition: StudyDefinition
    text: str
    locations: Mapping[Key, str]
    custom_layers: CustomLayersFile | None

    @property
    def preset(self) -> str:
        """The preset's name, or its file, which may be relative to the study's."""
        if not yaml_file.is_file_name(self.definition.preset):
            return self.definition.preset
        given = expand(self.definition.preset, self.path.parent)
        beside = self.path.parent / given
        return str(beside) if beside.is_file() else given

    @property
    def shipped(self) -> bool:
        """Whether it is part of this program, not a user's file."""
        return self.path.resolve().parent == STUDIES

    def error(self, faults: list[tuple[Key, str]]) -> UsageError:
        """Returns the error that names these faults of the file with their lines."""
        name = f"the study {self.name!r}"
        return yaml_file.faults_error(faults, name, self.locations, self.path.name)


def study_names() -> list[str]:
    """Returns the names of the studies shipped here."""
    return yaml_file.shipped_names(STUDIES)


def read_study(name: str) -> StudyFile:
    """Returns a study file, and runs the Python file of custom layers that it names, if any.

    Args:
        name: a shipped study's name, or the path of a YAML file.

    Raises:
        UsageError: naming every fault of its form at once, with file and line.
        CustomLayersError: if its custom layers cannot be used.
    """
    written = read_study_file(yaml_file.find(name, STUDIES, "study"))
    if not written.definition.layers:
        return written
    beside = written.path.parent / expand(written.definition.layers, written.path.parent)
    return dataclasses.replace(written, custom_layers=load_custom_layers(beside))


def read_study_file(path: Path) -> StudyFile:
    """Returns a study file; its custom layers, if any, are not loaded.

    Raises:
        UsageError: naming every fault of its form at once, with file and line.
    """
    values, locations = yaml_file.read(path, StudyDefinition, "study")
    name = f"the study {path.stem!r}"
    definition = yaml_file.check(values, StudyDefinition, name, locations, path.name)
    return StudyFile(path.stem, path, definition, yaml_file.read_text(path), locations, None)
