"""A study: runs that are compared with each other, and the folder of their files."""

from __future__ import annotations

import functools
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations.metrics import TASKS, TaskMetrics
from ablations.recipe import Preset
from ablations.records.archive import ARCHIVE, ArchivedRun, read_archive, write_archive
from ablations.records.files import (
    Faults,
    ResultsError,
    make_folder,
    write_bytes,
    write_json,
    write_text,
)
from ablations.records.manifest import (
    MANIFEST_FILE,
    ROADMAP,
    merge,
    read_manifest,
    variant_from_dict,
    variant_to_dict,
)
from ablations.records.record import Record
from ablations.records.run import Run, RunFolder
from ablations.tasks.registry import make_task
from modernize.custom_layers import loaded_files
from modernize.errors import UsageError
from modernize.spec import NetSpec
from modernize.steps import STEPS, Variant, find_key, until

STUDY_FILE = "study.yaml"


class Study:
    """A folder of runs that are compared with each other.

    Attributes:
        folder: of its files.
        manifest: the content of study.json.
        study_text: the text of the user's study file, before the study is written.
        requested: the part of the manifest that this launch requests, before the study is written.
        files_before: digests, before this launch, of the modification times of the images' files
            and, if they were read, of their contents.
        new_records: run name -> record of a run that ended in this launch; it may not be on disk.
        faults: damaged files that were found when the study was read, a sentence for each.
    """

    def __init__(
        self,
        folder: Path,
        manifest: dict[str, Any],
        study_text: str = "",
        requested: dict[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.study_text = study_text
        self.requested = requested
        self.files_before: Mapping[str, str] = {}
        self.new_records: dict[str, Record] = {}
        self.faults: Faults = {}

    @property
    def name(self) -> str:
        """The study's name."""
        return self.folder.name

    @functools.cached_property
    def variants(self) -> tuple[Variant, ...]:
        """The variants that are compared, in order."""
        return tuple(variant_from_dict(values) for values in self.manifest["variants"])

    @property
    def title(self) -> str:
        """The title: what the study compares."""
        return str(self.manifest.get("title", "The roadmap"))

    @property
    def order(self) -> list[str]:
        """The keys of all variants that the study may have, in order."""
        return list(self.manifest.get("order", [step.key for step in STEPS]))

    @property
    def parents(self) -> dict[str, str | None]:
        """Step -> the step that it builds on, for all variants that the study may have."""
        known = self.manifest.get("parents")
        if known is None and self.manifest.get("study", ROADMAP) == ROADMAP:
            known = {v.key: v.parent for v in until(STEPS[-1].key, self.manifest["regime"])}
        return {**(known or {}), **{v.key: v.parent for v in self.variants}}

    @property
    def sections(self) -> list[str]:
        """The sections of all variants that the study may have, in order."""
        ours = [variant.section for variant in self.variants]
        return list(dict.fromkeys([*self.manifest.get("sections", []), *ours]))

    def key_of(self, step: str) -> str:
        """Returns the key of a variant, which is given by its key or its number in the order.

        Raises:
            UnknownNameError: listing the keys.
        """
        return self.order[find_key(step, self.order)]

    def cost_of(self, variant: Variant) -> tuple[int, int]:
        """Returns a network's parameters and FLOPs for one image, by formula.

        There is no formula for custom layers. Networks with any were counted when the study was
        planned, so that reading it later runs no code of the user.
        """
        if variant.key in (known := self.manifest.get("custom_costs", {})):
            params, flops = known[variant.key]
            return params, flops
        task = make_task(self.preset.task_choice)
        return task.cost(variant.spec, self.preset.data.image_size)

    def layers_file(self, spec: NetSpec) -> Path | None:
        """Returns the study's copy of the file of a network's custom layers, if it has any."""
        digests = {layer.digest for layer in spec.custom_layers.values()}
        return self.folder / "layers" / f"{digests.pop()}.py" if digests else None

    @property
    def seeds(self) -> int:
        """Runs of each variant, with seeds from 0 to this number minus 1."""
        return int(self.manifest["seeds"])

    @functools.cached_property
    def preset(self) -> Preset:
        """The preset of the study, with the settings of its launch."""
        return Preset.model_validate(self.manifest["preset"])

    @property
    def metrics(self) -> TaskMetrics:
        """What its runs measure."""
        return TASKS[self.preset.task]

    def run(self, variant: Variant, seed: int) -> Run:
        """Returns one run of this study."""
        return next(self._runs_of(variant, [seed]))

    def runs(self) -> Iterator[tuple[Variant, Run, RunFolder]]:
        """Yields every run of the study, variant by variant."""
        for variant in self.variants:
            for run in self._runs_of(variant, range(self.seeds)):
                yield variant, run, self.folder_of(run)

    def _runs_of(self, variant: Variant, seeds: Iterable[int]) -> Iterator[Run]:
        spec, recipe = self.preset.recipes.of_variant(variant, self.manifest["regime"])
        images, task = self.manifest["images"], self.preset.task_choice
        run = Run(variant.key, spec, recipe, images, 0, task=task)
        for seed in seeds:
            file = self.start_of(variant.key, seed)
            yield run.with_seed(seed, file["digest"] if file else None)

    def start_of(self, key: str, seed: int) -> dict[str, Any] | None:
        """Returns the weights that a run starts from: ``path`` (absolute), ``digest`` and ``ema``.

        None: it starts from fresh weights, or was not requested yet.
        """
        files: list[dict[str, Any]] = self.manifest.get("starts", {}).get(key, [])
        if seed >= len(files):
            return None
        return {**files[seed], "path": str(self.folder.parent.absolute() / files[seed]["path"])}

    def folder_of(self, run: Run) -> RunFolder:
        """Returns the folder of a run's files, which need not exist."""
        path = self.folder / f"runs/{run.name}"
        archived, ended = self._archived.get(run.name), self.new_records.get(run.name)
        return RunFolder(path, archived, ended, self.faults)

    @functools.cached_property
    def _archived(self) -> dict[str, ArchivedRun]:
        return read_archive(self.folder, self.faults)

    @property
    def has_runs(self) -> bool:
        """Whether there are runs to read: their folders, or their archive."""
        return (self.folder / "runs").is_dir() or (self.folder / ARCHIVE).is_file()

    def example_runs(self) -> list[tuple[Run, RunFolder]]:
        """Returns the runs whose validation images a report shows.

        They are of the first and the last step that has any, and of the lowest seed.
        """
        found: dict[str, tuple[Run, RunFolder]] = {}
        for _, run, folder in self.runs():
            if run.key not in found and folder.examples.is_file():
                found[run.key] = run, folder
        keys = [*found]
        return [found[key] for key in dict.fromkeys([*keys[:1], *keys[-1:]])]

    def archive(self) -> tuple[Path, int]:
        """Writes ``runs.jsonl``, and returns its path and the number of runs in it.

        It has each run with a record, without its weights, so that the folders of the runs can be
        deleted. A run that is trained again keeps its line until it has a new record. The folder
        ``examples`` gets the validation images that a report shows.

        Raises:
            ResultsError: if a file of a run is damaged, because its folder must not be deleted; or
                if the archive cannot be written.
        """
        runs = []
        for _, run, folder in self.runs():
            if (record := folder.read_record()) is not None:
                metrics, tallies = folder.read_metrics(), folder.read_tallies()
                runs.append(ArchivedRun(run.name, record.values(), metrics, tallies))
            elif folder.archived is not None:
                runs.append(folder.archived)
        if self.faults:
            first = next(iter(self.faults.values()))
            raise ResultsError(
                f"{first} {self.folder / ARCHIVE} was not written, because it would lack data of "
                "the runs. Repair or delete the damaged files."
            )
        for _, folder in self.example_runs():
            if (values := folder.read_examples()) is not None:
                make_folder(folder.archived_examples.parent)
                write_json(folder.archived_examples, values)
        return write_archive(self.folder, runs), len(runs)

    def write(self) -> None:
        """Creates the folder and writes study.json, the user's study file and custom layers."""
        make_folder(self.folder / "runs")
        if self.study_text:
            write_text(self.folder / STUDY_FILE, self.study_text)
        for variant in self.variants:
            for file in loaded_files(variant.spec):
                make_folder(self.folder / "layers")
                write_bytes(self.folder / "layers" / f"{file.digest}.py", file.content)
        write_json(self.folder / MANIFEST_FILE, self.manifest)

    @classmethod
    def open(cls, folder: Path) -> Study:
        """Returns the study in this folder.

        Raises:
            UsageError: if there is none.
            ResultsError: if it cannot be read.
        """
        manifest = read_manifest(folder)
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
        custom_costs: Mapping[str, Sequence[int]] | None = None,
        starts: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        study_text: str = "",
    ) -> Study:
        """Returns the study in this folder, extended by variants and seeds; writes nothing.

        Args:
            folder: of the study; it need not exist.
            preset: data and recipes.
            regime: its name.
            images: their identity.
            variants: what to compare.
            seeds: runs of each.
            order: keys of all variants that the study may have, in the order of tables and charts.
            whole: these variants, if they are known.
            files: digests of the images' files, not part of a run's identity: ``times`` of their
                modification, and ``contents`` if they were read.
            name: of the study.
            title: what it compares.
            custom_costs: parameters and FLOPs of variants with custom layers.
            starts: for variants that start from weights, those of each seed; see :meth:`start_of`.
            study_text: the text of the user's study file; empty for a study of this package.

        Raises:
            UsageError: if the folder has a study with other conditions, which are named.
        """
        requested: dict[str, Any] = {
            "study": name,
            "title": title,
            "order": list(order),
            "preset": preset.model_dump(mode="json"),
            "regime": regime,
            "images": dict(images),
            "variants": [variant_to_dict(variant) for variant in variants],
            "seeds": seeds,
        }
        if whole:
            requested["parents"] = {variant.key: variant.parent for variant in whole}
            requested["sections"] = list(dict.fromkeys(variant.section for variant in whole))
        if files:
            requested["files"] = dict(files)
        if custom_costs:
            requested["custom_costs"] = {key: list(costs) for key, costs in custom_costs.items()}
        if starts:
            requested["starts"] = {key: [dict(f) for f in files] for key, files in starts.items()}
        return cls._merged(folder, requested, study_text)

    def reload(self) -> Study:
        """Returns the same study, merged again with its folder as it is now; writes nothing."""
        requested = self.requested or self.manifest
        study = self._merged(self.folder, requested, self.study_text)
        study.faults = self.faults
        return study

    @classmethod
    def _merged(cls, folder: Path, requested: dict[str, Any], study_text: str) -> Study:
        there = read_manifest(folder)
        if there is None:
            return cls(folder, requested, study_text, requested)
        manifest = merge(there, requested, folder)
        study = cls(folder, manifest, study_text, requested)
        study.files_before = there.get("files", {})
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
    composed = unicodedata.normalize("NFC", study)  # as a launch writes it
    return results / (study if os.path.lexists(results / study) else composed)


def open_study(study: Study | Path | str, results: Path | str = "results") -> Study:
    """Returns a study, given by its name, by its folder, or open.

    Args:
        study: which one; a text is a name, or a path if it has a ``/``.
        results: the folder of the studies, if a name is given.

    Raises:
        UsageError: if there is none.
        ResultsError: if it cannot be read.
    """
    if isinstance(study, Study):
        return study
    folder = study if isinstance(study, Path) else study_folder(Path(results), study)
    return Study.open(folder)


def study_names(results: Path) -> list[str]:
    """Returns the names of the studies in a results folder."""
    return sorted(path.parent.name for path in results.glob(f"*/{MANIFEST_FILE}"))
