"""The main job: the requested runs of a study, their launch and their results."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import unicodedata
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations import fit
from ablations.data.content_digest import digest_content
from ablations.data.images import ListedImages
from ablations.fit import Machine, RunSetup
from ablations.launching.executors import Event, Executor
from ablations.launching.job import Job
from ablations.launching.plan import Planned, plan_runs
from ablations.paths import expand
from ablations.recipe import Preset
from ablations.records import (
    ARCHIVE,
    Record,
    ResultsError,
    Status,
    Study,
    make_folder,
    write_bytes,
)
from ablations.records.lock import study_lock
from ablations.records.manifest import known_starts
from ablations.studies import selection
from ablations.studies.estimates import PlanRow, TrainingImages, plan_rows
from ablations.studies.variants import ResolvedStudy
from ablations.tasks.registry import make_task
from ablations.weights.starts import StartFile, find_starts
from modernize.errors import UsageError
from modernize.spec import Norm
from modernize.steps import Training, Variant
from modernize.text import plural
from modernize.user_code import digest_of

if TYPE_CHECKING:
    from ablations.data.sampling import Rank

LONGEST_NAME = 200  # bytes
PAPER_MICRO_BATCH_SIZE = 128  # 4 x 8 GPUs of the authors' step-by-step code


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A study and its requested runs.

    Attributes:
        study, preset: the study, with data and recipes.
        planned: the requested runs.
        resolved: all variants of the study, in its regime.
        skip_bad_images: whether to skip unreadable images.
        loggers: where the metrics are written, too; of :data:`~ablations.fit.LOGGERS`.
        notes: sentences about the images, such as those that are skipped.
        data_code: the Python file of a custom data set; empty for all others.
    """

    study: Study
    preset: Preset
    planned: Sequence[Planned]
    resolved: ResolvedStudy
    skip_bad_images: bool = False
    loggers: tuple[str, ...] = ()
    notes: Sequence[str] = ()
    data_code: bytes = b""

    @property
    def data_copy(self) -> Path | None:
        """The study's copy of the Python file of a custom data set."""
        if not self.data_code:
            return None
        return self.study.folder / "data" / f"{digest_of(self.data_code)}.py"

    @property
    def needed(self) -> list[Planned]:
        """The runs that are still to be trained."""
        return [p for p in self.planned if p.needed]

    def rows(self) -> tuple[list[PlanRow], PlanRow]:
        """Returns the cost of one run of each requested variant, and that of the reference."""
        images, spec = self.study.manifest["images"], self.planned[0].run.spec
        return plan_rows(
            self.resolved,
            list(dict.fromkeys(p.variant for p in self.planned)),
            self.preset,
            1,
            TrainingImages(images["train_images"], spec.in_channels, spec.num_classes),
        )

    @contextlib.contextmanager
    def locked(self, process: Rank | None = None) -> Iterator[Experiment]:
        """Holds the study's lock, and gives the experiment as it is now, its study written.

        All decisions and changes belong inside: before, other processes may train, extend and write
        the study.

        Args:
            process: this process, if several train together. The first one holds the lock, writes
                and decides for all.

        Raises:
            UsageError: if another process holds the lock; then nothing was changed.
        """
        with contextlib.ExitStack() as stack:

            def lock() -> Experiment:
                stack.enter_context(study_lock(self.study.folder))
                current = self._reloaded()
                current.study.write()
                if (copy := current.data_copy) is not None:
                    make_folder(copy.parent)
                    write_bytes(copy, current.data_code)
                return current

            if process is None or process.world_size == 1:
                yield lock()
                return
            from ablations.training.device_context import agree

            locked: list[Experiment] = []

            def decide() -> Sequence[Planned]:
                locked.append(lock())
                return locked[0].planned

            planned = agree(process, decide)
            yield locked[0] if locked else dataclasses.replace(self, planned=planned)

    def _reloaded(self) -> Experiment:
        """Returns the same experiment with the study as it is on disk now."""
        asked, study = [(p.variant, p.run.seed) for p in self.planned], self.study.reload()
        return dataclasses.replace(self, study=study, planned=plan_runs(study, asked))

    def cautions(self) -> list[str]:
        """Returns notes for the user before the launch, a sentence or two each."""
        archived = sum(p.folder.only_archived for p in self.planned if not p.needed)
        lines = list(self.notes)
        if archived:
            lines.append(
                f"{plural(archived, 'run')} only in {ARCHIVE}; to train again, use another --name."
            )
        if self.preset.head and not any(p.run.start for p in self.planned):
            lines.append(
                "The backbones start from fresh weights. --start study:NAME starts each run from "
                "the classifier of its own step and seed."
            )
        seen = {
            p.run.recipe.micro_batch_size
            for p in self.planned
            if not self.preset.head
            and p.run.spec.norm is Norm.BATCH
            and p.variant.training is Training.ENHANCED
        }
        return lines + [
            f"BatchNorm sees {plural(batch, 'image')} at a time (micro_batch_size); in the "
            f"paper, {PAPER_MICRO_BATCH_SIZE}. "
            "Steps with BatchNorm depend on it, those with LayerNorm do not."
            for batch in sorted(seen - {PAPER_MICRO_BATCH_SIZE})
        ]

    def run(self, executor: Executor) -> Generator[Event, None, None]:
        """Launches the needed runs and yields the executor's events; closing it stops them."""
        events = executor.launch(self.study.folder.absolute(), self.jobs())
        with contextlib.closing(events):
            for event in events:
                for job, record in event.ended:
                    self.study.new_records[job.run.name] = record
                yield event

    def results(self) -> list[tuple[Planned, Record | None]]:
        """Returns the records of the runs that were not blocked; None: the run has not ended."""
        found: list[tuple[Planned, Record | None]] = []
        for p in self.planned:
            try:
                found.append((p, self.study.folder_of(p.run).read_record()))
            except ResultsError as error:
                found.append((p, Record(Status.FAILED, str(error))))
        return [(p, record) for p, record in found if record or not p.blocked]

    def check(self, machine: Machine) -> None:
        """Raises UsageError if some of the needed runs cannot be trained on that machine."""
        images = int(self.study.manifest["images"]["train_images"])
        task = make_task(self.preset.task_choice)
        rest = images, self.preset.data, self.preset.compute, task, self.loggers
        runs = (p.run for p in self.needed)
        setups = ((run.key, RunSetup(run.recipe, run.spec, *rest)) for run in runs)
        fit.check(setups, machine)

    def jobs(self) -> list[Job]:
        """Returns the jobs of the needed runs; their paths are absolute."""
        data, layers_of = self.preset.data, self.study.layers_file
        start_of = self.study.start_of
        if data.is_path:
            source = self.data_copy or Path(expand(data.source))
            data = data.model_copy(update={"source": str(source.absolute())})
        return [
            Job(
                p.run,
                p.folder.path.absolute(),
                data,
                self.preset.compute,
                self.skip_bad_images,
                self.loggers,
                layers.absolute() if (layers := layers_of(p.run.spec)) else None,
                StartFile(**start) if (start := start_of(p.run.key, p.run.seed)) else None,
                p.macs_left,
            )
            for p in self.needed
        ]


def study_name(name: str | None, otherwise: str) -> str:
    """Returns the name of a study's folder: the given one, or a default.

    Args:
        name: given by the user, of letters and digits of any script, '.', '_' and '-'.
        otherwise: the default, from study file and preset; other characters become '-'.

    Raises:
        UsageError: for a name that is not a plain folder name, or that is reserved.
    """
    wanted = unicodedata.normalize("NFC", otherwise if name is None else name)
    if name is None:
        wanted = re.sub(r"[^\w.-]+", "-", wanted).strip("-.")[: LONGEST_NAME // 4]
    source = f"the study {otherwise!r}" if name is None else f"--name {name!r}"
    remedy = "give it another name with --name" if name is None else "choose another"
    if not re.fullmatch(r"\w[\w.-]*", wanted) or len(wanted.encode()) > LONGEST_NAME:
        raise UsageError(
            f"{source} cannot be the name of a folder: {remedy}, of letters, digits, '.', '_' and "
            f"'-', at most {LONGEST_NAME} bytes, that does not start with '.' or '-'."
        )
    if wanted.casefold() == "paper":
        raise UsageError(f"{source}: this name is reserved for the published tables; {remedy}.")
    return wanted


def design(
    folder: Path,
    preset: Preset,
    resolved: ResolvedStudy,
    variants: Sequence[Variant],
    seeds: int,
    *,
    skip_bad_images: bool = False,
    check_images: bool = False,
    loggers: tuple[str, ...] = (),
) -> Experiment:
    """Reads the images and the study's folder, and returns the experiment; writes nothing.

    Args:
        folder: the study's folder; it need not exist.
        preset: data and recipes.
        resolved: all variants of the study, in its regime.
        variants: those to train.
        seeds: runs of each, with seeds 0, 1, ...
        skip_bad_images: whether to skip unreadable images; otherwise they stop their run.
        check_images: whether to compare the contents of all images with those of the study.
        loggers: where the metrics are written, too; of :data:`~ablations.fit.LOGGERS`.

    Raises:
        UsageError: if the folder has a study with other conditions, or the images are not usable.
    """
    task = make_task(preset.task_choice)
    images = task.load(preset.data, skip_bad_images=skip_bad_images)
    variants = selection.fit_to_images(variants, images.channels, images.num_classes)
    size = preset.data.image_size
    files = {"times": images.times} if images.times else {}  # on disk
    if check_images and files:
        files["contents"] = digest_content(images.readers())
    starts = find_starts(variants, seeds, folder.parent, known_starts(folder))
    study = Study.merge(
        folder,
        preset=preset,
        regime=resolved.regime,
        images=images.identity(),
        files=files,
        variants=variants,
        seeds=seeds,
        order=[v.key for v in resolved.variants],
        whole=resolved.variants,
        name=resolved.name,
        title=resolved.title,
        custom_costs={v.key: task.cost(v.spec, size) for v in variants if v.spec.custom_layers},
        starts=starts.files,
        study_text=resolved.text,
    )
    asked = [(variant, seed) for variant in variants for seed in range(seeds)]
    planned = plan_runs(study, asked)
    starts.check((p.run.key, p.run.seed) for p in planned if p.needed)
    return Experiment(
        study,
        preset,
        planned,
        resolved,
        skip_bad_images,
        loggers,
        (*images.notes, *_notes_on_files(images, files, study.files_before)),
        images.code if isinstance(images, ListedImages) else b"",
    )


def _notes_on_files(
    images: Any, now: Mapping[str, str], before: Mapping[str, str]
) -> Iterator[str]:
    """Yields notes on whether the images are those that the study started with."""
    if not now or not before:
        return
    if "contents" in now and "contents" in before:
        yield f"The images in {images.source} have the same contents as when the study started."
    elif now["times"] != before.get("times"):
        if "contents" in now:
            more = "The study has no digest of their contents; this launch stores it."
        elif "contents" in before:
            more = "--check-images compares the contents of all with the stored digest."
        else:
            more = "The study has no digest of their contents; --check-images stores it."
        yield (
            f"The images in {images.source} have the same names and sizes as when the study "
            f"started, but other modification times: they may have been replaced or copied. The "
            f"latest is {images.newest}. {more}"
        )
