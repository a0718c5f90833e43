"""A run's identity, its folder and its record; the only reader and writer of ``results/``.

A study is a folder of runs::

    results/<study>/study.json          what is compared: preset, regime, images, variants, seeds
    results/<study>/layers/             the study's own layers, by their content
    results/<study>/runs/<run>/         config.json, record.json, metrics.jsonl, progress.json, ...
    results/<study>/submissions/        what was handed to a scheduler, and the code as it was then
    results/<study>/summary.csv         made from the records, as often as one likes

Every file is written aside and renamed, so that a reader never sees half of one. No torch here.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ablations.recipe import Preset, Recipe
from modernize.arithmetic import arithmetic
from modernize.errors import RoadmapError, UsageError
from modernize.layers import Layers
from modernize.spec import NetSpec
from modernize.steps import STEPS, Training, Variant, find_key

REPOSITORY = Path(__file__).parent.parent
RESULTS = REPOSITORY / "results"
FROZEN = "frozen.json"  # beside code that was copied for a submission: the commit it came from


class ResultsError(RoadmapError):
    """A results folder that cannot be read or written."""


class Status(enum.StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    COLLAPSED = "collapsed"  # trained to the end, and no better than chance
    DIVERGED = "diverged"  # the loss became infinite or no number
    FAILED = "failed"  # anything else; the next launch tries it again


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


@dataclasses.dataclass(frozen=True)
class Record:
    """How a run ended.

    Attributes:
        status, reason: the end, and why where it is not a good one.
        top1, top5: accuracy after the last epoch, in percent; None where there is none.
        top1_best, best_epoch: the highest top-1 of all epochs, and its epoch, counted from 1.
        epochs: epochs trained.
        train_loss: mean over the last epoch.
        seconds: spent training and evaluating, over all attempts.
        provenance: versions, device, commit and times.
    """

    status: Status
    reason: str = ""
    top1: float | None = None
    top5: float | None = None
    top1_best: float | None = None
    best_epoch: int | None = None
    epochs: int = 0
    train_loss: float | None = None
    seconds: float = 0.0
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """Whether training it again would only end the same way."""
        return self.status is not Status.FAILED


class TakenOverError(ResultsError):
    """Another process has begun to train this run, and this one must write no more of it."""


class RunFolder:
    """The files of one run.

    Who prepares the folder owns it, until another process does. That is how a run that was queued
    again stays whole while a process of its earlier life lives on: that one can write no more.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "log.txt"
        self.token: str | None = None  # of the owner, where that is us

    def describe(self, run: Run) -> None:
        """Makes the folder, and writes the resolved configuration."""
        _make_folder(self.path)
        write_json(self.path / "config.json", {"key": run.key, **run.content()})

    def prepare(self, run: Run, **who: Any) -> None:
        """Describes the run, makes it this process's, and forgets an earlier end.

        Args:
            run: what will be trained here.
            who: what is noted of this process, beside host and number.
        """
        self.describe(run)
        self.token = uuid.uuid4().hex
        process = {"host": socket.gethostname(), "pid": os.getpid(), **who}
        write_json(self.path / "owner.json", {"token": self.token, **process})
        self.note("started", **process)
        (self.path / "record.json").unlink(missing_ok=True)

    def check_owner(self) -> None:
        """Raises TakenOverError where another process has prepared this folder since we did."""
        if self.token is not None and (self.read_owner() or {}).get("token") != self.token:
            raise TakenOverError(
                f"{self.path} was taken over by another process; this one writes no more."
            )

    def read_owner(self) -> dict[str, Any] | None:
        """Returns the process that prepared the folder last."""
        return read_json(self.path / "owner.json")

    def note(self, event: str, **values: Any) -> None:
        """Adds a line to the run's history."""
        line = json.dumps({"event": event, "time": time.time(), **values}) + "\n"
        try:
            with (self.path / "history.jsonl").open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise _unwritable(self.path / "history.jsonl", error) from error

    def read_history(self) -> list[dict[str, Any]]:
        """Returns what happened to the run, oldest first."""
        return _read_lines(self.path / "history.jsonl")

    def has_checkpoint(self) -> bool:
        """Tells whether there is something to go on from."""
        return any(self.path.glob("checkpoint-*.pt"))

    def read_record(self) -> Record | None:
        """Returns the record, or None where there is none yet.

        Raises:
            ResultsError: where the file is no whole record.
        """
        path = self.path / "record.json"
        values = read_json(path)
        if values is None:
            return None
        try:
            return Record(**{**values, "status": Status(values["status"])})
        except (TypeError, KeyError, ValueError) as error:
            raise ResultsError(
                f"{path} is no whole record ({error}); delete it and run the study again."
            ) from error

    def write_record(self, record: Record) -> None:
        """Writes how the run ended; unless another process has taken it over."""
        self.check_owner()
        write_json(self.path / "record.json", dataclasses.asdict(record))

    def read_metrics(self) -> list[dict[str, Any]]:
        """Returns the metrics of each epoch trained so far, oldest first."""
        return _read_lines(self.path / "metrics.jsonl")

    def write_metrics(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes the metrics of all epochs, one JSON object a line."""
        self.check_owner()
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        _write(self.path / "metrics.jsonl", lines)

    def write_speed(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes how fast each epoch went, one JSON object a line.

        Apart from the metrics, which are the same each time the run is made.
        """
        _write(self.path / "speed.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def read_progress(self) -> dict[str, Any] | None:
        """Returns where the run stood when it last said so."""
        try:
            return read_json(self.path / "progress.json")
        except ResultsError:
            return None

    def write_progress(self, **values: Any) -> None:
        """Says where the run stands; the time is added."""
        self.check_owner()
        write_json(self.path / "progress.json", {**values, "updated": time.time()})


class Study:
    """A folder of runs that are compared with each other.

    Attributes:
        folder: where it lies.
        manifest: what study.json says.
        layers: the study's own, where it is about to be written.
    """

    def __init__(
        self, folder: Path, manifest: dict[str, Any], layers: Layers | None = None
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.layers = layers

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

    def key_of(self, step: str) -> str:
        """Returns the key of a variant, given by itself or by its place in the order.

        Raises:
            UnknownNameError: listing the keys.
        """
        return self.order[find_key(step, self.order)]

    def cost_of(self, variant: Variant) -> tuple[int, int]:
        """Returns a network's parameters and FLOPs for one image, by formula.

        There is none for layers of one's own. Networks that have any were counted when the study
        was planned, so that whoever looks at it later runs no code of its.
        """
        if variant.key in (known := self.manifest.get("own_costs", {})):
            params, flops = known[variant.key]
            return params, flops
        return arithmetic(variant.spec, self.preset.data.image_size)

    def layers_file(self, spec: NetSpec) -> Path | None:
        """Returns the file of a network's own layers, where it has any."""
        digests = {own.digest for own in spec.own_layers.values()}
        return self.folder / "layers" / f"{digests.pop()}.py" if digests else None

    @property
    def seeds(self) -> int:
        """Runs of each variant: seeds 0 to this number less one."""
        return int(self.manifest["seeds"])

    @functools.cached_property
    def preset(self) -> Preset:
        """The preset it was launched with, settings included.

        Raises:
            ResultsError: where another version of this program wrote it, with other keys.
        """
        try:
            return Preset.model_validate(self.manifest["preset"])
        except ValidationError as error:
            keys = ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors())
            raise ResultsError(
                f"{self.folder / 'study.json'} is of another version of this program (it differs "
                f"in {keys}); use that version, or run the study anew under another --name."
            ) from None

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
        return RunFolder(self.folder / "runs" / run.name)

    def write(self) -> None:
        """Makes the folder and writes study.json, and its own layers as they were planned with."""
        _make_folder(self.folder)
        if self.layers is not None:
            _make_folder(self.folder / "layers")
            text = self.layers.content.decode()
            _write(self.folder / "layers" / f"{self.layers.digest}.py", text)
        write_json(self.folder / "study.json", self.manifest)

    @classmethod
    def open(cls, folder: Path) -> Study:
        """Returns the study in this folder.

        Raises:
            UsageError: where there is none.
            ResultsError: where it cannot be read.
        """
        manifest = read_json(folder / "study.json")
        if manifest is None:
            raise UsageError(
                f"no study {folder.name!r} in {folder.parent}. "
                f"Studies there: {', '.join(study_names(folder.parent)) or 'none yet'}."
            )
        return cls(folder, manifest)

    @classmethod
    def join(
        cls,
        folder: Path,
        *,
        preset: Preset,
        regime: str,
        images: Mapping[str, str | int],
        variants: Sequence[Variant],
        seeds: int,
        order: Sequence[str],
        name: str = "roadmap",
        title: str = "The roadmap",
        own_costs: Mapping[str, Sequence[int]] | None = None,
        layers: Layers | None = None,
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
            name: of the study.
            title: what it compares, in words.
            own_costs: parameters and FLOPs of variants with layers of their own.
            layers: the file of these.

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
        if own_costs:
            asked["own_costs"] = {key: list(numbers) for key, numbers in own_costs.items()}
        there = read_json(folder / "study.json")
        if there is None:
            return cls(folder, asked, layers)
        before = {v["key"]: v for v in there["variants"]}
        differ = [
            *_differences("", {"study": there.get("study", "roadmap")}, asked),
            *_differences("", {k: there[k] for k in ("preset", "regime", "images")}, asked),
            *(
                line
                for v in asked["variants"]
                if v["key"] in before
                for line in _differences(f"step {v['key']}.", before[v["key"]], v)
            ),
        ]
        if differ:
            raise UsageError(
                f"{folder} holds a study under other conditions:\n  "
                + "\n  ".join(differ)
                + "\nGive this one a name of its own with --name, or remove that folder."
            )
        new = [v for v in asked["variants"] if v["key"] not in before]
        # What the study no longer lists, but has, comes last.
        keys = [*order, *(key for key in before if key not in order)]
        places = {key: place for place, key in enumerate(keys)}
        merged = sorted([*before.values(), *new], key=lambda v: places[v["key"]])
        manifest = {**asked, "variants": merged, "seeds": max(seeds, there["seeds"]), "order": keys}
        if costs := {**there.get("own_costs", {}), **asked.get("own_costs", {})}:
            manifest["own_costs"] = costs
        return cls(folder, manifest, layers)


def study_names(results: Path) -> list[str]:
    """Returns the names of the studies in a results folder."""
    return sorted(path.parent.name for path in results.glob("*/study.json"))


def provenance(device: str, threads: int) -> dict[str, Any]:
    """Returns what a record says of where, when and with what it was made."""
    packages = ("torch", "torchvision", "timm", "fvcore", "numpy")
    return {
        "device": device,
        "threads": threads,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        **commit_of(REPOSITORY),
    }


def commit_of(code: Path) -> dict[str, Any]:
    """Returns the commit of this program, and whether files differed from it.

    Code that was frozen for a submission says so itself; outside git, nobody knows.
    """
    if (frozen := read_json(code / FROZEN)) is not None:
        return {"commit": frozen["commit"], "dirty": frozen["dirty"]}

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(code), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def read_json(path: Path) -> dict[str, Any] | None:
    """Returns a JSON object, or None where there is no such file.

    Raises:
        ResultsError: where it is there and cannot be read whole.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ResultsError(
            f"{path} cannot be read ({error}); delete it and run the study again."
        ) from error
    if not isinstance(values, dict):
        raise ResultsError(f"{path} is no JSON object; delete it and run the study again.")
    return values


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the JSON objects of a file, one a line; none where there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines()]


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a JSON object, whole or not at all."""
    _write(path, json.dumps(values, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> ResultsError:
    return ResultsError(
        f"cannot write {path}: {error.strerror or error}. Make room or give rights there, "
        "or name another folder with --results."
    )


def _variant_dict(variant: Variant) -> dict[str, Any]:
    return {
        **{f.name: getattr(variant, f.name) for f in dataclasses.fields(variant)},
        "spec": variant.spec.to_dict(),
        "training": str(variant.training),
    }


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
