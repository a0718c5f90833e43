"""The main job: what there is to run, running it, and what came of it."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import unicodedata
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ablations import fit
from ablations.data.content_digest import digest_contents
from ablations.data.datasets import Images, load_images
from ablations.data.image_folder import Folder
from ablations.devices import Slot
from ablations.fit import Machine, Wanted
from ablations.launching import in_process, local_queue
from ablations.launching.job import Job
from ablations.paths import expand
from ablations.recipe import Preset
from ablations.records import (
    ARCHIVE,
    DamagedError,
    Record,
    ResultsError,
    Run,
    RunFolder,
    RunStatus,
    Status,
    Study,
    read_statuses,
)
from ablations.records.lock import study_lock
from ablations.studies import selection
from ablations.studies.estimates import PlanRow, TrainingImages, count, plan_rows
from ablations.studies.variants import Comparison
from modernize.closed_form import ClosedFormCost
from modernize.errors import UsageError
from modernize.spec import Norm
from modernize.steps import Training, Variant
from modernize.text import plural

if TYPE_CHECKING:
    from ablations.data.sampling import Rank

LONGEST_NAME = 200  # bytes
PAPER_MICRO_BATCH_SIZE = 128  # 4 x 8 GPUs of the authors' step-by-step code


@dataclasses.dataclass(frozen=True)
class Planned:
    """One run of a study, before it is launched.

    Attributes:
        variant, now: what it is, and its status.
        cost: of the network at the preset's image size.
        epochs_done: epochs that an unfinished run has behind it.
    """

    variant: Variant
    now: RunStatus
    cost: ClosedFormCost
    epochs_done: int

    @property
    def run(self) -> Run:
        """The run."""
        return self.now.run

    @property
    def folder(self) -> RunFolder:
        """The folder of its files."""
        return self.now.folder

    @property
    def blocked(self) -> str:
        """Why it must not be trained now; empty: it may be."""
        if self.now.with_scheduler:
            return f"{self.now.status}{f' as job {self.now.job}' if self.now.job else ''}"
        unknown = self.now.fault is not None and not isinstance(self.now.fault, DamagedError)
        return self.now.detail if unknown else ""  # it may be settled

    @property
    def needed(self) -> bool:
        """Whether it is still to be trained."""
        return not self.blocked and not self.now.status.settled

    @property
    def macs_left(self) -> int:
        """MACs per training image, times the epochs still to be trained."""
        return self.cost.flops * (self.run.recipe.epochs - self.epochs_done)

    @property
    def fraction_left(self) -> float:
        """The fraction of its epochs that is still to be trained."""
        return 1 - self.epochs_done / self.run.recipe.epochs if self.needed else 0.0

    @property
    def action(self) -> str:
        """What a launch does with it, in a few words."""
        record = self.now.record
        if record and record.settled:
            accuracy = "" if record.top1 is None else f", top-1 {record.top1:.2f} %"
            source = f" (in {ARCHIVE})" if self.folder.only_archived else ""
            return f"skip: {record.status}{accuracy}{source}"
        if self.blocked:
            return f"skip: {self.blocked}"
        if self.now.fault:
            return "run again: its record is damaged"
        if self.epochs_done:
            return f"continue after epoch {self.epochs_done}"
        return "run again: it failed" if record else "run"


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A study, and the runs of it that were asked for.

    Attributes:
        study, preset: what it is.
        planned: its runs.
        comparison: what the study compares in all.
        skip_bad_images: whether an unreadable image is passed over.
        tensorboard: whether the metrics are written for TensorBoard, too.
        notes: which of the images are passed over, a sentence each.
    """

    study: Study
    preset: Preset
    planned: Sequence[Planned]
    comparison: Comparison
    skip_bad_images: bool = False
    tensorboard: bool = False
    notes: Sequence[str] = ()

    @property
    def needed(self) -> list[Planned]:
        """The runs still to be run."""
        return [p for p in self.planned if p.needed]

    def rows(self) -> tuple[list[PlanRow], PlanRow]:
        """Returns what each variant asked for costs, for one run; and what the reference does."""
        images, spec = self.study.manifest["images"], self.planned[0].run.spec
        return plan_rows(
            self.comparison,
            list(dict.fromkeys(p.variant for p in self.planned)),
            self.preset,
            1,
            TrainingImages(images["train_images"], spec.in_channels, spec.num_classes),
        )

    @contextlib.contextmanager
    def claimed(self, rank: Rank | None = None) -> Iterator[Experiment]:
        """Holds the study's lock, and gives the experiment as it stands now, the study written.

        Whatever is decided and changed is decided and changed inside: before, other processes may
        train, widen and write the study.

        Args:
            rank: which of the processes that train together this is, where it is one of them. The
                first one holds the lock, writes and decides for all.

        Raises:
            UsageError: where another process holds the lock; then nothing was changed.
        """
        with contextlib.ExitStack() as stack:

            def claim() -> Experiment:
                stack.enter_context(study_lock(self.study.folder))
                claimed = self._anew()
                claimed.study.write()
                return claimed

            if rank is None or rank.world_size == 1:
                yield claim()
                return
            from ablations.training.device_context import agree

            claimed: list[Experiment] = []

            def decide() -> Sequence[Planned]:
                claimed.append(claim())
                return claimed[0].planned

            planned = agree(rank, decide)
            yield claimed[0] if claimed else dataclasses.replace(self, planned=planned)

    def _anew(self) -> Experiment:
        """Returns the same experiment as it stands now, in the study as it is now."""
        asked, study = [(p.variant, p.run.seed) for p in self.planned], self.study.reload()
        return dataclasses.replace(self, study=study, planned=_plan(study, asked))

    def cautions(self) -> list[str]:
        """Returns what its user should know beforehand, a sentence or two each."""
        archived = sum(p.folder.only_archived for p in self.planned if not p.needed)
        lines = list(self.notes)
        if archived:
            lines.append(
                f"taken from {ARCHIVE}: {plural(archived, 'run')}; to train here, give another "
                "--name."
            )
        seen = {
            p.run.recipe.micro_batch_size
            for p in self.planned
            if p.run.spec.norm is Norm.BATCH and p.variant.training is Training.ENHANCED
        }
        return lines + [
            f"BatchNorm sees {plural(batch, 'image')} at a time (micro_batch_size); in the "
            f"paper, {PAPER_MICRO_BATCH_SIZE}. "
            "Steps with BatchNorm depend on it, those with LayerNorm do not."
            for batch in sorted(seen - {PAPER_MICRO_BATCH_SIZE})
        ]

    def run(self, slots: Sequence[Slot]) -> Generator[local_queue.Tick, None, None]:
        """Trains what is needed, yielding how it stands; closing it stops what runs.

        One at a time, runs keep the order of the road. Several at a time, the longest come first,
        so that no slot idles for long at the end.
        """
        planned = self.needed
        if len(slots) > 1:
            planned.sort(key=lambda p: p.macs_left, reverse=True)
        with contextlib.closing(local_queue.run_queue(self._jobs(planned), slots)) as ticks:
            for tick in ticks:
                for job, record in tick.ended:
                    self.study.ends[job.run.name] = record
                yield tick

    def run_together(self, device: str, rank: Rank) -> Iterator[tuple[Job, Record]]:
        """Trains what is needed, one run at a time, in all processes that torchrun started."""
        return self._remember(in_process.train_distributed(self.jobs(), device, rank))

    def run_here(self, slot: Slot) -> Iterator[tuple[Job, Record]]:
        """Trains what is needed in this process, for a debugger; an error is raised as it comes."""
        return self._remember(in_process.train_one_by_one(self.jobs(), slot))

    def _remember(self, ends: Iterable[tuple[Job, Record]]) -> Iterator[tuple[Job, Record]]:
        for job, record in ends:
            self.study.ends[job.run.name] = record
            yield job, record

    def ends(self) -> list[tuple[Planned, Record | None]]:
        """Returns how the runs ended that were not held back; None: not yet."""
        found: list[tuple[Planned, Record | None]] = []
        for p in self.planned:
            try:
                found.append((p, self.study.folder_of(p.run).read_record()))
            except ResultsError as error:
                found.append((p, Record(Status.FAILED, str(error))))
        return [(p, record) for p, record in found if record or not p.blocked]

    def check(self, machine: Machine) -> None:
        """Raises UsageError if some of what is needed cannot be trained on that machine."""
        images = int(self.study.manifest["images"]["train_images"])
        rest = images, self.preset.data, self.preset.compute, self.tensorboard
        runs = (p.run for p in self.needed)
        fit.check(((run.key, Wanted(run.recipe, run.spec, *rest)) for run in runs), machine)

    def jobs(self) -> list[Job]:
        """Returns the runs still to be run; paths in them hold wherever they are run."""
        return self._jobs(self.needed)

    def _jobs(self, planned: Sequence[Planned]) -> list[Job]:
        data, compute = self.preset.data, self.preset.compute
        if data.is_folder:
            data = data.model_copy(update={"source": str(Path(expand(data.source)).absolute())})
        return [
            Job(
                p.run,
                p.folder.path.absolute(),
                data,
                compute,
                self.skip_bad_images,
                self.tensorboard,
                layers.absolute() if layers else None,
            )
            for p, layers in ((p, self.study.layers_file(p.run.spec)) for p in planned)
        ]


def study_name(name: str | None, otherwise: str) -> str:
    """Returns the name of a study's folder: as given, or made of what the study is called.

    Args:
        name: as given, of letters and digits of any script, '.', '_' and '-'.
        otherwise: of the study's file and preset; what cannot be in a name becomes '-'.

    Raises:
        UsageError: for a name that is no plain folder name, or that is taken.
    """
    wanted = unicodedata.normalize("NFC", otherwise if name is None else name)
    if name is None:
        wanted = re.sub(r"[^\w.-]+", "-", wanted).strip("-.")[: LONGEST_NAME // 4]
    source = f"a study called {otherwise!r}" if name is None else f"--name {name!r}"
    remedy = "give it another name with --name" if name is None else "choose another"
    if not re.fullmatch(r"\w[\w.-]*", wanted) or len(wanted.encode()) > LONGEST_NAME:
        raise UsageError(
            f"{source} cannot name a folder: {remedy}, of letters, digits, '.', '_' and '-', at "
            f"most {LONGEST_NAME} bytes, the first no '.' or '-'."
        )
    if wanted.casefold() == "paper":
        raise UsageError(f"{source}: this name is taken by the published tables; {remedy}.")
    return wanted


def design(
    folder: Path,
    preset: Preset,
    comparison: Comparison,
    variants: Sequence[Variant],
    seeds: int,
    *,
    skip_bad_images: bool = False,
    check_images: bool = False,
    tensorboard: bool = False,
) -> Experiment:
    """Returns the experiment, having read the images and whatever the folder holds; writes nothing.

    Args:
        folder: the study's folder, there or not.
        preset: what to train on, and how.
        comparison: what the study compares in all.
        variants: what of it to train.
        seeds: runs of each, from seeds 0, 1, ...
        skip_bad_images: whether an unreadable image is passed over; else it stops its run.
        check_images: whether the contents of all images are compared with those of the study.
        tensorboard: whether the metrics are written for TensorBoard, too.

    Raises:
        UsageError: where the folder holds a study under other conditions, or the images are amiss.
    """
    images = load_images(preset.data, skip_bad_images=skip_bad_images)
    variants = selection.fit_to_images(variants, images.channels, images.num_classes)
    size = preset.data.image_size
    files = {"times": images.times} if isinstance(images, Folder) else {}
    if check_images and isinstance(images, Folder):
        files["contents"] = digest_contents(images)
    study = Study.merge(
        folder,
        preset=preset,
        regime=comparison.regime,
        images=images.identity(),
        files=files,
        variants=variants,
        seeds=seeds,
        order=[v.key for v in comparison.variants],
        whole=comparison.variants,
        name=comparison.name,
        title=comparison.title,
        own_costs={v.key: count(v.spec, size) for v in variants if v.spec.custom_layers},
        own_file=comparison.own_file,
    )
    asked = [(variant, seed) for variant in variants for seed in range(seeds)]
    planned = _plan(study, asked)
    return Experiment(
        study,
        preset,
        planned,
        comparison,
        skip_bad_images,
        tensorboard,
        (*images.notes, *_notes_on_files(images, files, study.files_before)),
    )


def _notes_on_files(
    images: Images | Folder, now: Mapping[str, str], before: Mapping[str, str]
) -> Iterator[str]:
    """Yields what is known of whether the images are those that the study was begun with."""
    if isinstance(images, Images) or not before:
        return
    if "contents" in now and "contents" in before:
        yield f"The contents of the images in {images.source} are those of the study."
    elif now["times"] != before.get("times"):
        if "contents" in now:
            more = "The study had nothing to compare their contents with; from now on it has."
        elif "contents" in before:
            more = "--check-images reads them all, and compares their contents with those of then."
        else:
            more = "Their contents were not on record; --check-images puts those of now there."
        yield (
            f"The images in {images.source} have the names and sizes of when the study was begun, "
            f"but other modification times; they may have been replaced, or copied. The latest is "
            f"{images.newest}. {more}"
        )


def _plan(study: Study, asked: Sequence[tuple[Variant, int]]) -> list[Planned]:
    """Returns what there is to do about these variants and seeds, as things are now."""
    statuses = {status.run.name: status for status in read_statuses(study)}
    planned = []
    for variant, seed in asked:
        now = statuses[study.run(variant, seed).name]
        done = min(now.folder.epochs_done(), now.run.recipe.epochs)
        network = count(now.run.spec, study.preset.data.image_size)
        planned.append(Planned(variant, now, network, done))
    return planned
