"""The weights that runs start from: found and checked when planned, and read when training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ablations.choices import Start
from ablations.paths import expand
from ablations.records import WEIGHTS, RunFolder, Status, Study, study_folder
from modernize.errors import RoadmapError, UsageError, WeightsError
from modernize.spec import NetSpec
from modernize.steps import Variant
from modernize.text import plural

if TYPE_CHECKING:
    from modernize.weights import Weights

SHOWN = 10  # runs whose fault is named


@dataclasses.dataclass(frozen=True)
class StartFile:
    """A file of weights that a run starts from.

    Attributes:
        path: absolute.
        digest: of its tensors, in any layout; 64 hexadecimal digits.
        ema: whether the run starts from the moving average of the weights in it.
    """

    path: str
    digest: str
    ema: bool

    def read(self, spec: NetSpec) -> Weights:
        """Returns the weights for the run's network.

        Raises:
            WeightsError: if they cannot be read, do not fit, or changed since the run was planned.
        """
        from modernize.weights import read_start

        found = read_start(self.path, spec, ema=self.ema)
        if found.digest() != self.digest:
            raise WeightsError(
                f"{self.path} changed since the run was planned: restore its weights, or launch "
                "the study again under another --name."
            )
        return found


@dataclasses.dataclass(frozen=True)
class Starts:
    """The weights that the runs of a study start from.

    Attributes:
        files: key of a step -> for each seed, the fields of a :class:`StartFile`; the path is from
            the results folder if the weights are in it.
        missing: (key, seed) of runs whose weights are not there now -> why. The study has their
            digests from an earlier launch, so that these runs are known, but cannot be trained.
    """

    files: Mapping[str, Sequence[Mapping[str, Any]]]
    missing: Mapping[tuple[str, int], str]

    def check(self, needed: Iterable[tuple[str, int]]) -> None:
        """Raises UsageError if the weights of a run that is to be trained are not there."""
        faults: dict[str, list[str]] = {}
        for key, seed in needed:
            if fault := self.missing.get((key, seed)):
                faults.setdefault(fault, []).append(f"{key}, seed {seed}")
        if faults:
            raise UsageError("\n".join(_lines(faults)))


def find_starts(
    variants: Sequence[Variant],
    seeds: int,
    results: Path,
    known: Mapping[str, Sequence[Mapping[str, Any]]] = MappingProxyType({}),
) -> Starts:
    """Returns the weights that runs start from.

    Steps with fresh weights are left out. All files are read and checked.

    Args:
        variants: their networks must fit the images.
        seeds: runs of each variant.
        results: the folder of the studies.
        known: ``files`` of an earlier launch of the same study.

    Raises:
        UsageError: naming every run whose start is missing or does not fit, unless it is known.
    """
    files: dict[str, list[Mapping[str, Any]]] = {}
    missing: dict[tuple[str, int], str] = {}
    digests: dict[tuple[Path, bool, NetSpec], str] = {}
    root = results.absolute()
    for variant in variants:
        if variant.start is None:
            continue
        start = Start.model_validate(dict(variant.start))
        for seed in range(seeds):
            try:
                path = _path(start, variant.key, seed, results)
                key = path, start.ema, variant.spec
                if key not in digests:
                    digests[key] = _digest(*key)
                where = path.relative_to(root) if path.is_relative_to(root) else path
                file = StartFile(str(where), digests[key], start.ema)
                files.setdefault(variant.key, []).append(dataclasses.asdict(file))
            except RoadmapError as error:
                missing[variant.key, seed] = str(error)
                before = known.get(variant.key, [])[seed : seed + 1]
                files.setdefault(variant.key, []).extend(before)
    found = Starts(files, missing)
    found.check((key, seed) for key, seed in missing if seed >= len(known.get(key, [])))
    return found


def _path(start: Start, key: str, seed: int, results: Path) -> Path:
    """Returns the file of weights of one run's start."""
    if start.file:
        path = Path(expand(start.file)).absolute()
        if path.is_dir() and not (path / WEIGHTS).is_file():
            raise UsageError(
                f"{path} is not the folder of a finished run, which has {WEIGHTS}; name a folder "
                "in results/<study>/runs/, or a file of weights"
            )
        return path / WEIGHTS if path.is_dir() else path
    study = Study.open(study_folder(results, start.study or "").absolute())
    variant = next((v for v in study.variants if v.key == key), None)
    if variant is None:
        steps = ", ".join(v.key for v in study.variants)
        raise UsageError(f"the study {study.name} does not have this step; it has {steps}")
    if seed >= study.seeds:
        raise UsageError(
            f"the study {study.name} does not have this seed; it has {plural(study.seeds, 'seed')}"
        )
    folder = study.folder_of(study.run(variant, seed))
    _check_finished(folder, study.name)
    return folder.path / WEIGHTS


def _check_finished(folder: RunFolder, study: str) -> None:
    record = folder.read_record()
    if record is None or record.status not in (Status.FINISHED, Status.COLLAPSED):
        status = record.status if record else "not finished"
        raise UsageError(f"the study {study} has this run, but it is {status}; train it first")
    if not (folder.path / WEIGHTS).is_file():
        raise UsageError(
            f"the study {study} has this run without its weights ({WEIGHTS}); train that study "
            "again under another --name, and start from it"
        )


def _digest(path: Path, ema: bool, spec: NetSpec) -> str:
    from modernize.weights import read_start

    return read_start(path, spec, ema=ema).digest()


def _lines(faults: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield "these runs cannot start from the weights that were requested:"
    for fault, runs in list(faults.items())[:SHOWN]:
        more = f" and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
        yield f"  {'; '.join(runs[:SHOWN])}{more}: {fault.removesuffix('.')}."
    if len(faults) > SHOWN:
        yield f"  and {len(faults) - SHOWN} more"
