"""Studies for the tests of reports, written as runs would leave them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ablations.recipe import load_preset
from ablations.records import Record, Status, Study
from ablations.studies.selection import fit_to_images, roadmap
from modernize.steps import STEPS, Variant

PROVENANCE = {
    "device": "cpu", "threads": 2, "platform": "Linux", "python": "3.12.1",
    "commit": "abcdef012345", "dirty": False, "packages": {"torch": "2.9.0"},
    "processes": 1, "precision": "float32",
    "bad_images": 0, "started": 1.7e9, "ended": 1.7e9 + 60,
}  # fmt: skip
HOSTILE = "<script>alert('x')</script> & <img src=http://x.org/x.png onerror=alert(1)> {{7*7}}"

Outcomes = Mapping[str, Sequence[Record | float | None]]


def finished(top1: float, **provenance: object) -> Record:
    """A run with this accuracy after its last epoch, and one point more after the one before."""
    return Record(
        Status.FINISHED, metrics={"top1": top1, "top5": 99.0, "top1_best": top1 + 1},
        best_epoch=2, epochs=3, train_loss=0.5, seconds=30.0,
        provenance={**PROVENANCE, **provenance},
    )  # fmt: skip


def write_study(
    folder: Path,
    ends: Outcomes,
    *,
    settings: Sequence[str] = (),
    change: Callable[[Variant], Variant] = lambda variant: variant,
) -> Study:
    """Writes a study of the ends of its runs, by step and seed; a number is a finished run's."""
    variants = fit_to_images(roadmap("nano", only=list(ends)), 1, 10)
    study = Study.merge(
        folder,
        preset=load_preset("nano", settings),
        regime="nano",
        images={"name": "fashion-mnist", "train_images": 1200, "val_images": 34, "sha256": "0"},
        variants=[change(variant) for variant in variants],
        seeds=max(map(len, ends.values())),
        order=[step.key for step in STEPS],
    )
    study.write()
    for variant, run, run_folder in study.runs():
        end = dict(enumerate(ends[variant.key])).get(run.seed)
        if end is None:
            continue
        record = end if isinstance(end, Record) else finished(end)
        run_folder.prepare(run)
        if "top1" in record.metrics:
            last = record.metrics["top1"]
            curve = (last / 2, last + 1, last)
            run_folder.write_metrics(
                {"epoch": epoch, "train_loss": 1.0, "top1": top1, "top5": 99.0}
                for epoch, top1 in enumerate(curve, 1)
            )
        run_folder.write_record(record)
    return study
