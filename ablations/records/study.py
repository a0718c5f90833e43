"""A study: the runs that are compared with each other, and the folder they lie in."""

from __future__ import annotations

import dataclasses
import functools
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ablations.recipe import Preset
from ablations.records.archive import ARCHIVE, ArchivedRun, read_archive, write_archive
from ablations.records.files import (
    Faults,
    ResultsError,
    check,
    make_folder,
    read_json,
    write_bytes,
    write_json,
    write_text,
)
from ablations.records.forms import MANIFEST, OBJECT
from ablations.records.record import Record
from ablations.records.run import Run, RunFolder
from modernize.closed_form import closed_form
from modernize.custom_layers import loaded_files
from modernize.errors import RoadmapError, UsageError
from modernize.spec import NetSpec
from modernize.steps import STEPS, Training, Variant, find_key, until

OWN_FILE = "study.yaml"
ROADMAP = "roadmap"


class Study:
    """A folder of runs that are compared with each other.

    Attributes:
        folder: where it lies.
        manifest: what study.json says.
        own_file: the text of the user's study file, if the study is about to be written.
        asked: what of the manifest was asked for, where it is about to be written.
        files_before: what was on record of the images' files before this launch: digests of their
            modification times and, if it was asked for, of their contents.
        new_records: run name -> record of a run that ended in this launch, written or not.
        faults: damaged files that were met as the study was read, a sentence for each.
    """

    def __init__(
        self,
        folder: Path,
        manifest: dict[str, Any],
        own_file: str = "",
        asked: dict[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.own_file = own_file
        self.asked = asked
        self.files_before: Mapping[str, str] = {}
        self.new_records: dict[str, Record] = {}
        self.faults: Faults = {}

    @property
    def name(self) -> str:
        """The study's name."""
        return self.folder.name

    @functools.cached_property
    def variants(self) -> tuple[Variant, ...]:
        """What is compared, in order."""
        return tuple(_variant_from(values) for values in self.manifest["variants"])

    @property
    def title(self) -> str:
        """What the study compares, in words."""
        return str(self.manifest.get("title", "The roadmap"))

    @property
    def order(self) -> list[str]:
        """The keys of all variants that there may be, in order."""
        return list(self.manifest.get("order", [step.key for step in STEPS]))

    @property
    def parents(self) -> dict[str, str | None]:
        """Step -> the step that it builds on, of all variants that there may be."""
        known = self.manifest.get("parents")
        if known is None and self.manifest.get("study", ROADMAP) == ROADMAP:
            known = {v.key: v.parent for v in until(STEPS[-1].key, self.manifest["regime"])}
        return {**(known or {}), **{v.key: v.parent for v in self.variants}}

    @property
    def sections(self) -> list[str]:
        """The sections of all variants that there may be, in order."""
        ours = [variant.section for variant in self.variants]
        return list(dict.fromkeys([*self.manifest.get("sections", []), *ours]))

    def key_of(self, step: str) -> str:
        """Returns the key of a variant, given by itself or by its place in the order.

        Raises:
            UnknownNameError: listing the keys.
        """
        return self.order[find_key(step, self.order)]

    def cost_of(self, variant: Variant) -> tuple[int, int]:
        """Returns a network's parameters and FLOPs for one image, by formula.

        There is no formula for custom layers. Networks with any were counted when the study was
        planned, so that reading it later runs no code of the user.
        """
        if variant.key in (known := self.manifest.get("own_costs", {})):
            params, flops = known[variant.key]
            return params, flops
        return closed_form(variant.spec, self.preset.data.image_size)

    def layers_file(self, spec: NetSpec) -> Path | None:
        """Returns the study's copy of the file of a network's custom layers, if it has any."""
        digests = {layer.digest for layer in spec.custom_layers.values()}
        return self.folder / "layers" / f"{digests.pop()}.py" if digests else None

    @property
    def seeds(self) -> int:
        """Runs of each variant: seeds 0 to this number less one."""
        return int(self.manifest["seeds"])

    @functools.cached_property
    def preset(self) -> Preset:
        """The preset it was launched with, settings included."""
        return Preset.model_validate(self.manifest["preset"])

    def run(self, variant: Variant, seed: int) -> Run:
        """Returns one run of this study."""
        return next(self._runs_of(variant, [seed]))

    def runs(self) -> Iterator[tuple[Variant, Run, RunFolder]]:
        """Yields every run that the study asks for, variant by variant."""
        for variant in self.variants:
            for run in self._runs_of(variant, range(self.seeds)):
                yield variant, run, self.folder_of(run)

    def _runs_of(self, variant: Variant, seeds: Iterable[int]) -> Iterator[Run]:
        recipe = self.preset.recipes.of(variant.training, self.manifest["regime"])
        spec = recipe.apply_to(variant.spec)
        for seed in seeds:
            yield Run(variant.key, spec, recipe, self.manifest["images"], seed)

    def folder_of(self, run: Run) -> RunFolder:
        """Returns where a run's files lie, whether or not they are there yet."""
        path = self.folder / "runs" / run.name
        archived, ended = self._archived.get(run.name), self.new_records.get(run.name)
        return RunFolder(path, archived, ended, self.faults)

    @functools.cached_property
    def _archived(self) -> dict[str, ArchivedRun]:
        return read_archive(self.folder, self.faults)

    @property
    def has_runs(self) -> bool:
        """Whether there are runs to read: their folders, or their archive."""
        return (self.folder / "runs").is_dir() or (self.folder / ARCHIVE).is_file()

    def archive(self) -> tuple[Path, int]:
        """Writes ``runs.jsonl``, and returns its path and the number of runs in it.

        It holds each run that has a record, without its weights, so that the folders of the runs
        may go. A run that is trained again keeps its line until it has a new record.

        Raises:
            ResultsError: if a file of a run is damaged, since its folder must not go; or if the
                archive cannot be written.
        """
        runs = []
        for _, run, folder in self.runs():
            if (record := folder.read_record()) is not None:
                values = dataclasses.asdict(record)
                runs.append(ArchivedRun(run.name, values, folder.read_metrics()))
            elif folder.archived is not None:
                runs.append(folder.archived)
        if self.faults:
            first = next(iter(self.faults.values()))
            raise ResultsError(
                f"{first} {self.folder / ARCHIVE} was not written: it would not hold all that the "
                "folders of the runs do. Mend or delete what is damaged."
            )
        return write_archive(self.folder, runs), len(runs)

    def write(self) -> None:
        """Makes the folder and writes study.json, and what is its own as it was planned with."""
        make_folder(self.folder / "runs")
        if self.own_file:
            write_text(self.folder / OWN_FILE, self.own_file)
        for variant in self.variants:
            for file in loaded_files(variant.spec):
                make_folder(self.folder / "layers")
                write_bytes(self.folder / "layers" / f"{file.digest}.py", file.content)
        write_json(self.folder / "study.json", self.manifest)

    @classmethod
    def open(cls, folder: Path) -> Study:
        """Returns the study in this folder.

        Raises:
            UsageError: where there is none.
            ResultsError: where it cannot be read.
        """
        manifest = _read_manifest(folder)
        if manifest is None:
            raise UsageError(
                f"no study {folder.name!r} in {folder.parent}. "
                f"Studies there: {', '.join(study_names(folder.parent)) or 'none yet'}."
            )
        return cls(folder, manifest)

    @classmethod
    def merge(
        cls,
        folder: Path,
        *,
        preset: Preset,
        regime: str,
        images: Mapping[str, str | int],
        variants: Sequence[Variant],
        seeds: int,
        order: Sequence[str],
        whole: Sequence[Variant] = (),
        files: Mapping[str, str] | None = None,
        name: str = ROADMAP,
        title: str = "The roadmap",
        own_costs: Mapping[str, Sequence[int]] | None = None,
        own_file: str = "",
    ) -> Study:
        """Returns the study in this folder, widened by these variants and seeds; writes nothing.

        Args:
            folder: there or not.
            preset: what to train on, and how.
            regime: its name.
            images: their identity.
            variants: what to compare.
            seeds: runs of each.
            order: keys of all variants there may be, as tables and charts show them.
            whole: these variants, where they are known.
            files: digests of the images' files, which are no part of a run's identity: ``times``
                of modification, and ``contents`` if they were read.
            name: of the study.
            title: what it compares, in words.
            own_costs: parameters and FLOPs of variants with custom layers.
            own_file: the text of the study's file, where it is not one of ours.

        Raises:
            UsageError: where the folder holds a study under other conditions, naming them.
        """
        asked: dict[str, Any] = {
            "study": name,
            "title": title,
            "order": list(order),
            "preset": preset.model_dump(mode="json"),
            "regime": regime,
            "images": dict(images),
            "variants": [_variant_dict(variant) for variant in variants],
            "seeds": seeds,
        }
        if whole:
            asked["parents"] = {variant.key: variant.parent for variant in whole}
            asked["sections"] = list(dict.fromkeys(variant.section for variant in whole))
        if files:
            asked["files"] = dict(files)
        if own_costs:
            asked["own_costs"] = {key: list(numbers) for key, numbers in own_costs.items()}
        return cls._merged(folder, asked, own_file)

    def reload(self) -> Study:
        """Returns the same study, merged again with what its folder holds now; writes nothing."""
        asked = self.asked or self.manifest
        study = self._merged(self.folder, asked, self.own_file)
        study.faults = self.faults
        return study

    @classmethod
    def _merged(cls, folder: Path, asked: dict[str, Any], own_file: str) -> Study:
        there = _read_manifest(folder)
        if there is None:
            return cls(folder, asked, own_file, asked)
        before = {v["key"]: v for v in there["variants"]}
        differ = [
            *_differences("", {"study": there.get("study", ROADMAP)}, asked),
            *_differences("preset.", _unnamed(there["preset"]), asked["preset"]),
            *_differences("", {k: there[k] for k in ("regime", "images")}, asked),
            *(
                line
                for v in asked["variants"]
                if v["key"] in before
                for line in _differences(f"step {v['key']}.", _unnamed(before[v["key"]]), v)
            ),
        ]
        files, files_before = asked.get("files", {}), there.get("files", {})
        if changed := {"contents"} & files.keys() & files_before.keys():
            known = {name: files_before[name] for name in changed}
            differ += _differences(
                "the images' files have the same names and sizes, but ", known, files
            )
        if differ:
            raise UsageError(
                f"{folder} holds a study under other conditions:\n  "
                + "\n  ".join(differ)
                + "\nGive this one a name of its own with --name, or remove that folder."
            )
        # What the study no longer lists, but has, comes last.
        keys = [*asked["order"], *(key for key in before if key not in asked["order"])]
        places = {key: place for place, key in enumerate(keys)}
        variants_now = {**before, **{v["key"]: v for v in asked["variants"]}}
        merged = sorted(variants_now.values(), key=lambda v: places[v["key"]])
        manifest = {**asked, "variants": merged, "order": keys}
        manifest["seeds"] = max(asked["seeds"], there["seeds"])
        for name in ("own_costs", "parents"):
            if merged_values := {**there.get(name, {}), **asked.get(name, {})}:
                manifest[name] = merged_values
        if sections := [*asked.get("sections", []), *there.get("sections", [])]:
            manifest["sections"] = list(dict.fromkeys(sections))
        if files or files_before:  # the times of the beginning stay until contents were compared
            manifest["files"] = files if "contents" in files else {**files, **files_before}
        study = cls(folder, manifest, own_file, asked)
        study.files_before = files_before
        return study


def study_folder(results: Path, study: str) -> Path:
    """Returns the folder of a study.

    Args:
        results: the folder of the studies.
        study: a study's name, or the path of its folder, which has a ``/``, as a shell completes
            it: ``two``, or ``results/two`` or ``results/two/``.

    Raises:
        UsageError: for a text that is neither.
    """
    if study in ("", ".", "..") or "\0" in study:
        raise UsageError(
            f"{study!r} is not a study: give a study's name, or the path of its folder, such as "
            f"{results.name}/NAME."
        )
    if "/" in study:
        folder = Path(study)
        return folder if folder.name not in ("", "..") else folder.resolve()
    composed = unicodedata.normalize("NFC", study)  # as launching wrote it
    return results / (study if os.path.lexists(results / study) else composed)


def study_names(results: Path) -> list[str]:
    """Returns the names of the studies in a results folder."""
    return sorted(path.parent.name for path in results.glob("*/study.json"))


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """Returns what study.json says; None if there is none.

    Raises:
        ResultsError: if it is damaged, or another version of this program wrote it.
    """
    path = folder / "study.json"
    advice = "delete it and launch the study again: runs that have finished are found again"
    manifest = read_json(path, OBJECT, advice)
    if manifest is None:
        return None
    try:
        check(manifest, MANIFEST)
        keys = [_variant_from(values).key for values in manifest["variants"]]
        if len(set(keys)) < len(keys):
            raise ValueError("variants: a key occurs twice")
        Preset.model_validate(manifest["preset"])
    except ValidationError as error:
        reason = ", ".join("preset." + ".".join(map(str, f["loc"])) for f in error.errors())
    except (ValueError, TypeError, RoadmapError) as error:
        reason = str(error)
    else:
        return manifest
    raise ResultsError(
        f"{path} is damaged or of another version of this program ({reason}); use that version, "
        "or run the study again under another --name."
    )


def _variant_dict(variant: Variant) -> dict[str, Any]:
    return {
        **{f.name: getattr(variant, f.name) for f in dataclasses.fields(variant)},
        "spec": variant.spec.to_dict(),
        "training": str(variant.training),
    }


def _unnamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a variant or a preset is, without what people call it, which may change."""
    return {name: value for name, value in values.items() if name not in ("title", "section")}


def _variant_from(values: Mapping[str, Any]) -> Variant:
    spec, training = NetSpec.from_dict(values["spec"]), Training(values["training"])
    return Variant(**{**values, "spec": spec, "training": training})


def _differences(prefix: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in there.items():
        other = here.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            lines += _differences(f"{prefix}{name}.", value, other)
        elif value != other:
            lines.append(f"{prefix}{name}: {value!r} there, {other!r} here")
    return lines
