"""The reproduction of a study: the command that makes it again, and its preset as text."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from ablations.choices import Start
from ablations.recipe import Preset, load_preset, preset_names
from ablations.records import COMMAND, STUDY_FILE, Study
from ablations.studies import selection, study_file, variants
from modernize.errors import UsageError
from modernize.files import read_bytes
from modernize.steps import Variant
from modernize.text import shell

ROADMAP = "roadmap"
PRESET_FILE = "preset.yaml"
LINE = 80  # the longest command that is one line, in characters
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_/-]*(,? [A-Za-z0-9_/-]+)*")  # texts without quotes
MOST_SETTINGS = 10  # of a command; a preset that needs more is a file


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """How to make a study again.

    Attributes:
        command: for a shell; empty if no command makes these variants.
        preset: the resolved preset as YAML, which ``--preset`` takes.
        files: name -> text of files that the command reads and that do not come with the program.
        needed: what else it reads, the weights that runs start from; may be empty.
    """

    command: str
    preset: str
    files: Mapping[str, str]
    needed: str = ""


def reproduction(study: Study) -> Reproduction:
    """Returns how to make a study again.

    Raises:
        ResultsError: if another version of this program wrote it.
    """
    text = as_yaml(study.preset)
    try:
        own = _own_file(study)
        files = _own_files(study, own) if own else {}
    except (OSError, ValueError, UsageError) as error:
        study.faults[study.folder / STUDY_FILE] = f"The study's own file or custom layers: {error}"
        return Reproduction("", text, {})
    chosen = _which_variants(study, own)
    if chosen is None:
        return Reproduction("", text, {})
    preset = _which_preset(study.preset)
    if preset is None:
        files[PRESET_FILE] = text
        preset = ["--preset", PRESET_FILE]
    words = [*preset, *chosen, "--seeds", str(study.seeds), "--name", study.name]
    return Reproduction(_command(words), text, files, _needed(common_start(study)))


def _needed(start: Start | None) -> str:
    if start is None:
        return ""
    if start.study is None:
        return f"the weights in {start.file}"
    return f"the study {start.study} with the weights of its runs, in the same results folder"


def as_yaml(preset: Preset) -> str:
    """Returns a preset as YAML, which any version of YAML reads as the same preset.

    Keys that are optional and have their default are left out.
    """
    values = preset.model_dump(mode="json", exclude_defaults=True)
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML could read as anything but text."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style=None if PLAIN.fullmatch(text) else '"'
    ),
)


def _command(words: Sequence[str]) -> str:
    """Returns the command; a long one with a line for each option."""
    line = " ".join([COMMAND, *map(shell, words)])
    broken = "".join((" \\\n    " if w.startswith("--") else " ") + shell(w) for w in words)
    return line if len(line) <= LINE else COMMAND + broken


def _own_file(study: Study) -> study_file.StudyFile | None:
    """Returns the study's own file, if it has one; its custom layers are not loaded."""
    path = study.folder / STUDY_FILE
    if not path.exists() and not path.is_symlink():
        return None
    read_bytes(path)  # raises if it is not a file
    return study_file.read_study_file(path)


def _own_name(study: Study) -> str:
    return f"{study.manifest['study']}.yaml"


def _own_files(study: Study, own: study_file.StudyFile) -> dict[str, str]:
    """Returns name -> text of the study's own file and of its custom layers, if it has any."""
    files = {_own_name(study): own.text}
    copies = [path for v in study.variants if (path := study.layers_file(v.spec))]
    if own.definition.layers and copies:
        files[own.definition.layers] = read_bytes(copies[0]).decode()
    return files


def _which_variants(study: Study, own: study_file.StudyFile | None) -> list[str] | None:
    """Returns the options that select these variants of the study's file, or None."""
    name, regime = study.manifest.get("study", ROADMAP), study.manifest["regime"]
    if own is None and name not in study_file.study_names():
        return None
    written = own or study_file.read_study(name)
    keys = [v.key for v in study.variants]
    # Building networks with custom layers would run their file.
    whole = study.order if written.definition.layers else _keys_if_equal(study, written)
    if not whole:
        return None
    if own is not None:
        options = ["--study", _own_name(study)]
    else:
        options = [] if name == ROADMAP else ["--study", name]
    if regime != (written.definition.regime or study.preset.regime):
        options += ["--regime", regime]
    options += _start_options(study, written)
    if len(keys) == len(whole):
        return options
    if len(keys) > 1 and keys == whole[: len(keys)]:
        return [*options, "--until", keys[-1]]
    return [*options, "--only", ",".join(keys)]


def _start_options(study: Study, written: study_file.StudyFile) -> list[str]:
    """Returns the options of the weights that all runs start from, if neither file has them."""
    start, given = common_start(study), written.definition.start or study.preset.start
    if start is None or start == given:
        return []
    return ["--start", start.text, *(["--start-ema"] if start.ema else [])]


def common_start(study: Study) -> Start | None:
    """Returns the weights that all runs start from; None for fresh ones, or if variants differ."""
    first = study.variants[0].start
    same = first is not None and all(v.start == first for v in study.variants)
    return Start.model_validate(dict(first)) if first and same else None


def _keys_if_equal(study: Study, written: study_file.StudyFile) -> list[str]:
    """Returns the keys of all variants of a file; none if it makes other networks now."""
    try:
        start = common_start(study) or written.definition.start or study.preset.start
        resolved = variants.resolve_study(
            written, study.manifest["regime"], study.preset.recipes, start
        )
        whole = resolved.variants
        chosen = selection.select_variants(whole, only=[v.key for v in study.variants])
    except UsageError:
        return []
    first = study.variants[0].spec
    fitted = selection.fit_to_images(chosen, first.in_channels, first.num_classes)
    same = [_content(v) for v in fitted] == [_content(v) for v in study.variants]
    return [v.key for v in whole] if same else []


def _content(variant: Variant) -> tuple[Any, ...]:
    return variant.key, variant.spec, variant.training, variant.recipe, variant.start


def _which_preset(preset: Preset) -> list[str] | None:
    """Returns the options that make a preset from a shipped one, or None."""
    dumped = preset.model_dump(mode="json")
    if preset.start is not None and not preset.start.ema:
        dumped["start"] = preset.start.text
    ours = dict(_leaves(dumped))
    candidates = {}
    for name in preset_names():
        shipped = dict(_leaves(load_preset(name).model_dump(mode="json")))
        differ = {key: value for key, value in ours.items() if shipped.get(key) != value}
        candidates[name] = _values(differ)
    name = min(candidates, key=lambda name: len(candidates[name]))
    values = candidates[name]
    if len(values) > MOST_SETTINGS:
        return None
    settings = [f"{key}={_plain(value)}" for key, value in values.items()]
    if "\0" in "".join(settings) or not _equals(name, settings, preset):
        return None
    return ["--preset", name, *(w for setting in settings for w in ("--set", setting))]


def _equals(name: str, settings: Sequence[str], preset: Preset) -> bool:
    """Tells whether a shipped preset with these settings is this one."""
    try:
        return load_preset(name, settings) == preset
    except UsageError:
        return False


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns key -> value; a value that is the same in both recipes has its short key."""
    found = {}
    for key, value in values.items():
        classic, _, short = key.rpartition(".")
        if classic == "recipes.enhanced" and values.get(f"recipes.classic.{short}") == value:
            continue
        both = classic == "recipes.classic" and values.get(f"recipes.enhanced.{short}") == value
        found[short if both else key] = value
    return found


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
