"""A run: its identity, and its folder."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ablations.metrics import CLASSIFICATION
from ablations.recipe import Recipe
from ablations.records.archive import ARCHIVE, ArchivedRun
from ablations.records.files import (
    AGAIN,
    DamagedError,
    Faults,
    ResultsError,
    append_line,
    make_folder,
    read_json,
    read_lines,
    read_or_note,
    reason_of,
    set_aside,
    unwritable,
    write_json,
    write_text,
)
from ablations.records.heartbeat import ProcessState, heartbeat, state_of, this_process
from ablations.records.record import RECORD, Record
from ablations.records.schemas import EPOCH, EVENT, EXAMPLES, OBJECT, PROGRESS
from ablations.records.tallies import Tallies, read_tallies
from ablations.terminal import echo
from modernize.errors import UsageError
from modernize.spec import NetSpec

WEIGHTS = "weights.pt"
"""File of a finished run: a ``torch.save`` of its state dict, and of its moving average's."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of one variant from one seed.

    Attributes:
        key: the variant's key, for the user; it is not part of the identity.
        spec: the network, with the fields that the recipe sets.
        recipe: how it is trained.
        images: the identity of the images.
        seed: of the initial weights, the order of the images and their augmentation.
        start: digest of the weights that it starts from; None: fresh ones.
        task: its ``name``, and the settings of its head; empty: classification.
    """

    key: str
    spec: NetSpec
    recipe: Recipe
    images: Mapping[str, str | int]
    seed: int
    start: str | None = None
    task: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def task_name(self) -> str:
        """The name of its task: one of :data:`ablations.metrics.TASKS`."""
        return str(self.task.get("name", CLASSIFICATION.task))

    def content(self) -> dict[str, Any]:
        """Returns all that the result depends on, and nothing else."""
        return {
            "spec": self.spec.to_dict(),
            "recipe": self.recipe.model_dump(),
            "images": dict(self.images),
            "seed": self.seed,
            **({"start": self.start} if self.start else {}),
            **({"task": dict(self.task)} if self.task else {}),
        }

    @functools.cached_property
    def name(self) -> str:
        """The name of the folder: key and seed, then 10 digits of the digest of the content.

        Keys of the recipe that have their default value do not count, so that a new key with a
        default leaves the names of runs as they are.
        """
        start = {"start": json.dumps(self.start)} if self.start else {}
        texts = {**self._texts, "seed": str(self.seed), **start}
        canonical = ", ".join(f'"{name}": {texts[name]}' for name in sorted(texts))
        digest = hashlib.sha256(f"{{{canonical}}}".encode()).hexdigest()
        return f"{self.key}-seed{self.seed}-{digest[:10]}"

    @functools.cached_property
    def _texts(self) -> dict[str, str]:
        """The parts of the content that do not depend on the seed, as canonical JSON."""
        parts = {
            "spec": self.spec.to_dict(),
            "recipe": self.recipe.model_dump(exclude_defaults=True),
            "images": dict(self.images),
            **({"task": dict(self.task)} if self.task else {}),
        }
        return {name: json.dumps(part, sort_keys=True) for name, part in parts.items()}

    def with_seed(self, seed: int, start: str | None) -> Run:
        """Returns the run with another seed, from weights with this digest.

        It is quicker than a new run, because both share the text of network and recipe.
        """
        run = dataclasses.replace(self, seed=seed, start=start)
        run.__dict__["_texts"] = self._texts
        return run


class RunOwnershipError(ResultsError):
    """Another process trains this run now; this one must not write to its folder any more."""


class RunFolder:
    """The files of one run.

    The process that prepared the folder last owns it, and only the owner writes. So if a job is
    queued again while one of its old processes is still alive, that process cannot damage the run.
    """

    def __init__(
        self,
        path: Path,
        archived: ArchivedRun | None = None,
        ended: Record | None = None,
        faults: Faults | None = None,
    ) -> None:
        """Takes the folder as it is; it need not exist.

        Args:
            path: of the folder.
            archived: the run in the study's archive, used if the folder is gone.
            ended: the record, if the run ended in this launch; it may not be on disk.
            faults: gets a sentence for each damaged file that is read.
        """
        self.path = path
        self.archived = archived
        self.ended = ended
        self.faults: Faults = {} if faults is None else faults
        self.token: str | None = None  # of the owner, if it is this process

    @property
    def _archived_run(self) -> ArchivedRun | None:
        return self.archived if self.archived and not self.path.is_dir() else None

    @property
    def only_archived(self) -> bool:
        """Whether the folder is gone, and the study's archive has the run."""
        return self._archived_run is not None

    def check_present(self) -> None:
        """Raises UsageError if the folder is gone, with weights and logs."""
        if self.only_archived:
            raise UsageError(
                f"{self.path} does not exist; {ARCHIVE} has this run without weights and logs. "
                "To have them, train the study under another --name."
            )

    def write_config(self, run: Run) -> None:
        """Creates the folder and writes the resolved configuration."""
        make_folder(self.path)
        write_json(self.path / "config.json", {"key": run.key, **run.content()})

    def prepare(self, run: Run, **who: Any) -> Record | None:
        """Writes the configuration, takes ownership, and deletes the record of a failure.

        A damaged record is renamed. A settled record is never changed.

        Args:
            run: the run to be trained here.
            who: more about this process, beside host and process id.

        Returns:
            None; or the record of a settled run, which needs no training.
        """
        if settled := self._read_settled():
            return settled
        self.write_config(run)
        self.token = uuid.uuid4().hex
        process = this_process()
        write_json(self._owner, {"token": self.token, **process, **who})
        # The previous owner may have finished meanwhile; from now on it cannot write.
        if settled := self._read_settled():
            return settled
        try:
            self.add_event("started", host=process["host"], pid=process["pid"], **who)
        except ResultsError as error:  # a damaged history must not stop a run
            echo(error)
        path = self.path / "record.json"
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(path, error) from error
        return None

    def _read_settled(self) -> Record | None:
        """Returns the record on disk if it is settled; renames it if it is damaged.

        Raises:
            ResultsError: if it cannot be read; it may be settled.
        """
        try:
            record = RunFolder(self.path).read_record()
        except DamagedError:
            set_aside(self.path / "record.json")
            return None
        return record if record and record.settled else None

    def check_owner(self) -> None:
        """Raises RunOwnershipError if another process prepared this folder after this one."""
        if self.token is not None and not self._is_mine():
            if not self.path.is_dir():
                raise ResultsError(f"{self.path} is gone: it was removed during the training.")
            raise RunOwnershipError(
                f"another process trains {self.path} now; this process writes no more to it."
            )

    @property
    def _owner(self) -> Path:
        return self.path / "owner.json"

    def read_owner(self) -> dict[str, Any] | None:
        """Returns the process that prepared the folder last; None if it is not known."""
        return read_or_note(self._owner, OBJECT, self.faults)

    def process_state(self) -> ProcessState:
        """Returns the state of the process that prepared the folder last."""
        owner = self.read_owner()
        files = self._owner, self.path / "progress.json"
        return ProcessState.GONE if owner is None else state_of(owner, *files)

    @contextlib.contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Shows other processes, while the body runs, that this process trains the run."""
        try:
            with heartbeat(self._owner, self._is_mine):
                yield
        finally:
            self.release()

    def release(self) -> None:
        """Shows other processes, if it can be written, that no process trains the run now."""
        with contextlib.suppress(ResultsError):
            owner = self.read_owner()
            if owner is not None and self.token in (None, owner.get("token")):
                write_json(self._owner, {**owner, "released": True})

    def _is_mine(self) -> bool:
        with contextlib.suppress(ResultsError):  # a damaged file names no other owner
            return (read_json(self._owner) or {}).get("token") == self.token
        return True

    def add_event(self, event: str, **values: Any) -> None:
        """Appends an event to the run's history."""
        append_line(self._history, {"event": event, "time": time.time(), **values})

    def read_history(self) -> list[dict[str, Any]]:
        """Returns the events of the run, oldest first."""
        return read_lines(self._history, EVENT, self.faults)

    @property
    def _history(self) -> Path:
        return self.path / "history.jsonl"

    def has_checkpoint(self) -> bool:
        """Tells whether there is a checkpoint to resume from."""
        return any(path.is_file() for path in self.path.glob("checkpoint-*.pt"))

    def read_record(self) -> Record | None:
        """Returns the record, or None if there is none yet.

        Raises:
            DamagedError: if the file is not a complete record.
            ResultsError: if it cannot be read.
        """
        if self.ended is not None:
            return self.ended
        values: Mapping[str, Any] | None
        if kept := self._archived_run:
            path, values = self.path.parents[1] / ARCHIVE, kept.record
        else:
            path = self.path / "record.json"
            values = read_json(path)
        try:
            return None if values is None else RECORD.validate_python(values)
        except ValidationError as error:
            raise DamagedError(
                f"{path} has no valid record of {self.path.name} ({reason_of(error)}); {AGAIN}."
            ) from error

    def record_or_fault(self) -> Record | ResultsError | None:
        """Returns the record, None if there is none yet, or the error if it cannot be read."""
        try:
            return self.read_record()
        except ResultsError as error:
            self.faults[self.path / "record.json"] = str(error)
            return error

    def write_record(self, record: Record) -> None:
        """Writes the record.

        A failure does not replace a settled record: an error after the end changes no result.

        Raises:
            RunOwnershipError: if another process trains the run now.
        """
        self.check_owner()
        if self._read_settled() and not record.settled:
            return
        write_json(self.path / "record.json", record.values())

    def read_metrics(self) -> list[dict[str, Any]]:
        """Returns the metrics of the epochs so far, as far as they can be read, oldest first."""
        if kept := self._archived_run:
            return kept.metrics
        return read_lines(self.metrics, EPOCH, self.faults)

    @property
    def examples(self) -> Path:
        """The file of some validation images."""
        return self.archived_examples if self.only_archived else self.path / "examples.json"

    @property
    def archived_examples(self) -> Path:
        """The copy of that file in the study's folder."""
        return self.path.parents[1] / "examples" / f"{self.path.name}.json"

    def write_examples(self, values: Mapping[str, Any]) -> None:
        """Writes some validation images, with true and predicted targets."""
        self.check_owner()
        write_json(self.examples, values)

    def read_examples(self) -> dict[str, Any] | None:
        """Returns the values of :meth:`write_examples`; None if none can be read."""
        return read_or_note(self.examples, EXAMPLES, self.faults)

    @property
    def tallies(self) -> Path:
        """The file of the counts under corruption."""
        return self.path / "robustness.json"

    def read_tallies(self) -> Tallies | None:
        """Returns the counts under corruption; None if there are none that can be read."""
        if kept := self._archived_run:
            return kept.tallies
        return read_tallies(self.tallies, self.faults)

    def epochs_done(self) -> int:
        """Returns the number of epochs done, of a run that has a checkpoint; 0 if it has none."""
        rows = self.read_metrics() if self.has_checkpoint() else []
        return max((row["epoch"] for row in rows), default=0)

    @property
    def log(self) -> Path:
        """The file of the run's output."""
        return self.path / "log.txt"

    @property
    def metrics(self) -> Path:
        """The file of the metrics."""
        return self.path / "metrics.jsonl"

    def write_metrics(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes the metrics of all epochs, one JSON object per line."""
        self.check_owner()
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        write_text(self.metrics, lines)

    def write_speed(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes the speed of each epoch, one JSON object per line.

        It is not among the metrics, which are equal each time the run is trained.
        """
        write_text(self.path / "speed.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def read_progress(self) -> dict[str, Any] | None:
        """Returns the progress that the run wrote last."""
        return read_or_note(self.path / "progress.json", PROGRESS, self.faults)

    def write_progress(self, **values: Any) -> None:
        """Writes the progress of the run; the time is added."""
        self.check_owner()
        values["updated"] = time.time()
        write_json(self.path / "progress.json", values, flush=False)
