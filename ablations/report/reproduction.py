"""How a study is made again: the command, and the preset as text."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from ablations.recipe import Preset, load_preset, preset_names
from ablations.records import Study
from ablations.studies import selection, study_file, variants
from modernize.errors import UsageError
from modernize.steps import Variant

ROADMAP = "roadmap"
LINE = 80  # characters of a command, beyond which it is broken
MOST_SETTINGS = 10  # beyond which a preset's text is easier to read than the options


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """How a study is made again.

    Attributes:
        command: to be typed; empty where no command makes these variants.
        preset: the resolved preset as YAML, which ``--preset`` takes.
        file: what the command calls the preset's file; empty where it needs none.
    """

    command: str
    preset: str
    file: str


def reproduction(study: Study) -> Reproduction:
    """Returns how a study is made again.

    Raises:
        ResultsError: where another version of this program wrote it.
    """
    text = yaml.safe_dump(study.preset.model_dump(mode="json"), sort_keys=False)
    chosen = _which_variants(study)
    if chosen is None:
        return Reproduction("", text, "")
    preset, file = _which_preset(study.preset), ""
    if preset is None:
        file = f"{study.name}.yaml"
        preset = ["--preset", file]
    words = [*preset, *chosen, "--seeds", str(study.seeds), "--name", study.name]
    return Reproduction(_typed(words), text, file)


def _typed(words: Sequence[str]) -> str:
    """Returns the command; where it is long, a line for each option."""
    options = [shlex.join(words[i : i + 2]) for i in range(0, len(words), 2)]
    line = " ".join(["python run_roadmap.py", *options])
    broken = " \\\n    ".join(["python run_roadmap.py", *options])
    return line if len(line) <= LINE else broken


def _which_variants(study: Study) -> list[str] | None:
    """Returns the options that choose these variants from a study that is shipped, or None."""
    name, regime = study.manifest.get("study", ROADMAP), study.manifest["regime"]
    if name not in study_file.study_names():
        return None
    written = study_file.read_study(name)
    try:
        whole = variants.compare(written, regime).variants
        chosen = selection.pick(whole, only=[v.key for v in study.variants])
    except UsageError:  # it has changed since
        return None
    first = study.variants[0].spec
    fitted = selection.fit_to_images(chosen, first.in_channels, first.num_classes)
    if [_content(v) for v in fitted] != [_content(v) for v in study.variants]:
        return None
    options = [] if name == ROADMAP else ["--study", name]
    if regime != (written.file.regime or study.preset.regime):
        options += ["--regime", regime]
    keys = [v.key for v in chosen]
    if len(keys) == len(whole):
        return options
    if len(keys) > 1 and keys == [v.key for v in whole[: len(keys)]]:
        return [*options, "--until", keys[-1]]
    return [*options, "--only", ",".join(keys)]


def _content(variant: Variant) -> tuple[Any, ...]:
    return variant.key, variant.spec, variant.training


def _which_preset(preset: Preset) -> list[str] | None:
    """Returns the options that make a preset of one that is shipped, or None."""
    ours = dict(_leaves(preset.model_dump(mode="json")))
    candidates = {}
    for name in preset_names():
        shipped = dict(_leaves(load_preset(name).model_dump(mode="json")))
        differ = {key: value for key, value in ours.items() if shipped.get(key) != value}
        candidates[name] = _settings(differ)
    name = min(candidates, key=lambda name: len(candidates[name]))
    settings = candidates[name]
    if len(settings) > MOST_SETTINGS or load_preset(name, settings) != preset:
        return None
    return ["--preset", name, *(word for setting in settings for word in ("--set", setting))]


def _settings(values: Mapping[str, Any]) -> list[str]:
    """Returns ``key=value`` texts; what is the same in both recipes by its short name."""
    settings = []
    for key, value in values.items():
        classic, _, short = key.rpartition(".")
        if classic == "recipes.enhanced" and values.get(f"recipes.classic.{short}") == value:
            continue
        both = classic == "recipes.classic" and values.get(f"recipes.enhanced.{short}") == value
        settings.append(f"{short if both else key}={_yaml(value)}")
    return settings


def _yaml(value: Any) -> str:
    """Returns a value in one line, as YAML reads it back."""
    plain = isinstance(value, str) and yaml.safe_load(value) == value
    return value if plain else json.dumps(value)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
