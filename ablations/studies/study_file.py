"""Study files: which variants are compared, as a person writes it. Read, and checked for form.

``ablations/study_files`` has the shipped ones; :mod:`~ablations.studies.variants` makes the
networks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from ablations import yaml_file
from ablations.paths import expand
from ablations.recipe import RegimeName, Seeds
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


class Rows(Table):
    """Some steps, one after the other.

    Attributes:
        until: all of the roadmap up to this one.
        steps: these, by their keys; ``each``: the whole roadmap.
    """

    until: str | None = None
    steps: EachOrSteps | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.until is None) == (not self.steps):
            raise ValueError("give one of until and steps")
        return self


class Base(Rows):
    """The network that variants are made from and compared with.

    Attributes:
        key, title: what it is called; ``{start}`` and ``{end}`` are the regime's networks.
        fields: NetSpec fields and their values, after the steps.
    """

    key: KeyName = "base"
    title: str = "the base"
    fields: Fields | None = None


class CustomStep(Table):
    """A step of one's own, as :class:`modernize.steps.Step` has it."""

    title: str
    section: str = "Own steps"
    changes: Fields
    training: Literal["classic", "enhanced"] | None = None
    adopted: bool = True


class Entry(Table):
    """One variant, or several in short.

    Attributes:
        key, title, section: what it is called, in tables and charts.
        steps: instead of the base's.
        without: steps left out; ``each``: a variant for each of the base's.
        with_: steps added at the end; ``each``: a variant for each that the base has not.
        order: the same steps, in this order.
        fields: NetSpec fields and their values, after the steps.
        sweep: NetSpec fields and lists of values: a variant for each combination.
        path: steps, each of which leads to a variant, compared with the one before.
    """

    key: KeyName | None = None
    title: str | None = None
    section: str | None = None
    steps: Steps | None = None
    without: EachOrSteps | None = None
    with_: EachOrSteps | None = Field(default=None, alias="with")
    order: Steps | None = None
    fields: Fields | None = None
    sweep: Fields | None = None
    path: Rows | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        forms = {
            "steps": self.steps,
            "without": self.without,
            "with": self.with_,
            "order": self.order,
            "fields": self.fields,
            "sweep": self.sweep,
            "path": self.path,
        }
        given = [name for name, value in forms.items() if value is not None]
        short = [name for name in given if name in ("sweep", "path") or forms[name] == EACH]
        if not given:
            raise ValueError(f"say what it is, with any of {', '.join(forms)}")
        if short and len(given) > 1:
            raise ValueError(f"{short[0]} here means several variants; nothing goes with it")
        if not short and self.key is None:
            raise ValueError("give it a key")
        if short and self.path is None and (self.key or self.title):
            raise ValueError(f"{short[0]} here means several variants; they name themselves")
        return self


class StudyFile(Table):
    """A study as it is written.

    Attributes:
        title: at the head of charts.
        preset: its name or file; the command line's goes before it.
        regime: None: the preset's.
        seeds: runs of each variant.
        base: what variants are made from; not needed by a ``path``.
        steps: of one's own, beside the roadmap's.
        layers: a Python file beside this one that defines custom layers.
        variants: what is compared.
    """

    title: str
    preset: str = "nano"
    regime: RegimeName | None = None
    seeds: Seeds = 1
    base: Base | None = None
    steps: dict[KeyName, CustomStep] = Field(default_factory=dict)
    layers: str | None = None
    variants: Annotated[list[Entry], Field(min_length=1)]


@dataclasses.dataclass(frozen=True)
class WrittenStudy:
    """A study file that was read.

    Attributes:
        name: the file's, without its ending.
        path: of the file.
        file: what it says.
        text: the same as it was written.
        places: where each key stands.
        custom_layers: its file of custom layers, if it names one.
    """

    name: str
    path: Path
    file: StudyFile
    text: str
    places: Mapping[Key, str]
    custom_layers: CustomLayersFile | None

    @property
    def preset(self) -> str:
        """The preset's name, or its file, which may stand beside the study's."""
        if not yaml_file.is_file_name(self.file.preset):
            return self.file.preset
        given = expand(self.file.preset, self.path.parent)
        beside = self.path.parent / given
        return str(beside) if beside.is_file() else given

    @property
    def shipped(self) -> bool:
        """Whether it is one of ours, and not its user's."""
        return self.path.resolve().parent == STUDIES

    def refuse(self, faults: list[tuple[Key, str]]) -> UsageError:
        """Returns the error that names these faults of the file with their lines."""
        name = f"the study {self.name!r}"
        return yaml_file.refusal(faults, name, self.places, self.path.name)


def study_names() -> list[str]:
    """Returns the names of the studies shipped here."""
    return yaml_file.shipped_names(STUDIES)


def read_study(name: str) -> WrittenStudy:
    """Returns a study file, and runs the Python file of custom layers that it names, if any.

    Args:
        name: a shipped study's name, or the path of a YAML file.

    Raises:
        UsageError: naming every fault of its form at once, with file and line.
        CustomLayersError: if its custom layers cannot be used.
    """
    written = read_form(yaml_file.find(name, STUDIES, "study"))
    if not written.file.layers:
        return written
    beside = written.path.parent / expand(written.file.layers, written.path.parent)
    return dataclasses.replace(written, custom_layers=load_custom_layers(beside))


def read_form(path: Path) -> WrittenStudy:
    """Returns a study file as it is written; its custom layers, if any, are not loaded.

    Raises:
        UsageError: naming every fault of its form at once, with file and line.
    """
    values, places = yaml_file.read(path, StudyFile, "study")
    file = yaml_file.check(values, StudyFile, f"the study {path.stem!r}", places, path.name)
    return WrittenStudy(path.stem, path, file, yaml_file.read_text(path), places, None)
