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
from ablations.records.forms import EPOCH, EVENT, OBJECT, PROGRESS
from ablations.records.liveness import Life, heartbeat, life_of, this_process
from ablations.records.record import RECORD, Record
from ablations.terminal import echo
from modernize.errors import UsageError
from modernize.spec import NetSpec


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of one variant from one seed.

    Attributes:
        key: the variant's key; a name for people, no part of the identity.
        spec: the network, with what the recipe says of it.
        recipe: how it is trained.
        images: the identity of the images.
        seed: of the initial weights, the order of the images and their augmentation.
    """

    key: str
    spec: NetSpec
    recipe: Recipe
    images: Mapping[str, str | int]
    seed: int

    def content(self) -> dict[str, Any]:
        """Returns what decides the result, and nothing else."""
        return {
            "spec": self.spec.to_dict(),
            "recipe": self.recipe.model_dump(),
            "images": dict(self.images),
            "seed": self.seed,
        }

    @functools.cached_property
    def name(self) -> str:
        """The run's folder: key and seed for people, then 10 digits that name its content."""
        canonical = json.dumps(self.content(), sort_keys=True)
        return f"{self.key}-seed{self.seed}-{hashlib.sha256(canonical.encode()).hexdigest()[:10]}"


class RunOwnershipError(ResultsError):
    """Another process has begun to train this run, and this one must write no more of it."""


class RunFolder:
    """The files of one run.

    Who prepares the folder owns it, until another process does. That is how a run that was queued
    again stays whole while a process of its earlier life lives on: that one can write no more.
    """

    def __init__(
        self,
        path: Path,
        archived: ArchivedRun | None = None,
        ended: Record | None = None,
        faults: Faults | None = None,
    ) -> None:
        """Names the folder, which need not be there.

        Args:
            path: of the folder.
            archived: what the study's archive has of the run, for where the folder is gone.
            ended: how the run ended a moment ago, whether or not that could be written.
            faults: where damaged files are noted as they are read.
        """
        self.path = path
        self.archived = archived
        self.ended = ended
        self.faults: Faults = {} if faults is None else faults
        self.log = path / "log.txt"
        self.token: str | None = None  # of the owner, where that is us

    @property
    def _kept(self) -> ArchivedRun | None:
        return None if self.path.is_dir() else self.archived

    @property
    def only_archived(self) -> bool:
        """Whether the folder is gone, and the study's archive has the run."""
        return self._kept is not None

    def check_whole(self) -> None:
        """Raises UsageError where the folder is gone, weights, logs and all."""
        if self.only_archived:
            raise UsageError(
                f"{self.path} is gone; of this run only its line in {ARCHIVE} is kept, without "
                "weights and logs. Train the study under another --name to have them."
            )

    def describe(self, run: Run) -> None:
        """Makes the folder, and writes the resolved configuration."""
        make_folder(self.path)
        write_json(self.path / "config.json", {"key": run.key, **run.content()})

    def prepare(self, run: Run, **who: Any) -> Record | None:
        """Describes the run, makes it this process's, and forgets an earlier failure.

        A damaged record is set aside. A settled one is never touched.

        Args:
            run: what will be trained here.
            who: what is noted of this process, beside host and number.

        Returns:
            None; or the record of a run that is settled: then nothing is to be done.
        """
        if settled := self._read_settled():
            return settled
        self.describe(run)
        self.token = uuid.uuid4().hex
        process = this_process()
        write_json(self._owner, {"token": self.token, **process, **who})
        # Who owned it until now may have come to the end meanwhile; it can write no more.
        if settled := self._read_settled():
            return settled
        try:
            self.note("started", host=process["host"], pid=process["pid"], **who)
        except ResultsError as error:  # a damaged history costs itself, and no run
            echo(error)
        path = self.path / "record.json"
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(path, error) from error
        return None

    def _read_settled(self) -> Record | None:
        """Returns the record on disk if it is settled; sets it aside if it is damaged.

        Raises:
            ResultsError: where it cannot be read, so that nobody can tell.
        """
        try:
            record = RunFolder(self.path).read_record()
        except DamagedError:
            set_aside(self.path / "record.json")
            return None
        return record if record and record.settled else None

    def check_owner(self) -> None:
        """Raises RunOwnershipError where another process has prepared this folder since we did."""
        if self.token is not None and not self._is_mine():
            if not self.path.is_dir():
                raise ResultsError(f"{self.path} is gone: it was removed during the training.")
            raise RunOwnershipError(
                f"{self.path} was taken over by another process; this one writes no more."
            )

    @property
    def _owner(self) -> Path:
        return self.path / "owner.json"

    def read_owner(self) -> dict[str, Any] | None:
        """Returns the process that prepared the folder last, if that is known."""
        return read_or_note(self._owner, OBJECT, self.faults)

    def life(self) -> Life:
        """Returns whether the process that prepared the folder last is alive."""
        owner = self.read_owner()
        files = self._owner, self.path / "progress.json"
        return Life.GONE if owner is None else life_of(owner, *files)

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """Shows others that this process trains the run while the body runs, and no longer."""
        try:
            with heartbeat(self._owner, self._is_mine):
                yield
        finally:
            self.release()

    def release(self) -> None:
        """Shows others, if it can be written, that nobody trains the run any more."""
        with contextlib.suppress(ResultsError):
            owner = self.read_owner()
            if owner is not None and self.token in (None, owner.get("token")):
                write_json(self._owner, {**owner, "released": True})

    def _is_mine(self) -> bool:
        with contextlib.suppress(ResultsError):  # a damaged file says of nobody else either
            return (read_json(self._owner) or {}).get("token") == self.token
        return True

    def note(self, event: str, **values: Any) -> None:
        """Adds a line to the run's history."""
        append_line(self._history, {"event": event, "time": time.time(), **values})

    def read_history(self) -> list[dict[str, Any]]:
        """Returns what happened to the run, oldest first."""
        return read_lines(self._history, EVENT, self.faults)

    @property
    def _history(self) -> Path:
        return self.path / "history.jsonl"

    def has_checkpoint(self) -> bool:
        """Tells whether there is something to go on from."""
        return any(path.is_file() for path in self.path.glob("checkpoint-*.pt"))

    def read_record(self) -> Record | None:
        """Returns the record, or None where there is none yet.

        Raises:
            DamagedError: where the file is no whole record.
            ResultsError: where it cannot be read.
        """
        if self.ended is not None:
            return self.ended
        values: Mapping[str, Any] | None
        if kept := self._kept:
            path, values = self.path.parents[1] / ARCHIVE, kept.record
        else:
            path = self.path / "record.json"
            values = read_json(path)
        try:
            return None if values is None else RECORD.validate_python(values)
        except ValidationError as error:
            raise DamagedError(
                f"{path} holds no whole record of {self.path.name} ({reason_of(error)}); {AGAIN}."
            ) from error

    def record_or_fault(self) -> Record | ResultsError | None:
        """Returns the record, or None if there is none yet; a damaged one is noted, and a fault."""
        try:
            return self.read_record()
        except ResultsError as error:
            self.faults[self.path / "record.json"] = str(error)
            return error

    def write_record(self, record: Record) -> None:
        """Writes how the run ended; unless another process has taken it over.

        A failure is not written over a settled record: what fails after the end changes no result.
        """
        self.check_owner()
        if self._read_settled() and not record.settled:
            return
        write_json(self.path / "record.json", dataclasses.asdict(record))

    def read_metrics(self) -> list[dict[str, Any]]:
        """Returns the metrics of each epoch trained so far, as far as known, oldest first."""
        if kept := self._kept:
            return kept.metrics
        return read_lines(self.metrics, EPOCH, self.faults)

    def epochs_done(self) -> int:
        """Returns how many epochs a run that has a checkpoint has behind it; 0 if it has none."""
        rows = self.read_metrics() if self.has_checkpoint() else []
        return max((row["epoch"] for row in rows), default=0)

    @property
    def metrics(self) -> Path:
        """The file of the metrics."""
        return self.path / "metrics.jsonl"

    def write_metrics(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes the metrics of all epochs, one JSON object a line."""
        self.check_owner()
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        write_text(self.metrics, lines)

    def write_speed(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes how fast each epoch went, one JSON object a line.

        Apart from the metrics, which are the same each time the run is made.
        """
        write_text(self.path / "speed.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def read_progress(self) -> dict[str, Any] | None:
        """Returns where the run stood when it last said so."""
        return read_or_note(self.path / "progress.json", PROGRESS, self.faults)

    def write_progress(self, **values: Any) -> None:
        """Says where the run stands; the time is added."""
        self.check_owner()
        said = {**values, "updated": time.time()}
        write_json(self.path / "progress.json", said, flush=False)
