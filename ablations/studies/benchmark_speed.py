"""Hours and memory of a study from a benchmark that measured its networks. No torch is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ablations.benchmark.results import FILE, TRAINING, Benchmark, Row
from ablations.recipe import Preset, Recipe
from ablations.studies.estimates import PlanRow, Speed
from modernize.errors import UsageError
from modernize.spec import NetSpec, Role, fields_with

_BYTES = 4  # of a weight, a gradient or a moment: all are kept in fp32
_MOMENTS = {"sgd": 1, "adamw": 2}  # of the gradient, that an optimizer keeps for each weight
_MEASURED_COPIES = 2 + _MOMENTS["adamw"]  # of each weight, with its gradient, in a benchmark
_MIB = 2**20
# A network has the same layers for images and classes of another kind.
_IGNORED = (Role.INPUT, Role.HEAD, Role.INITIAL, Role.TRAINING)


def find_benchmarks(results: Path, device: str) -> Iterator[tuple[Path, Benchmark]]:
    """Yields the benchmarks of a device in a results folder, with their folders; newest first.

    Args:
        results: the folder of the studies.
        device: its name.
    """
    files = sorted(results.glob(f"benchmark-*/{FILE}"), key=lambda p: p.stat().st_mtime)
    for path in reversed(files):
        benchmark = Benchmark.read(path.parent)
        if benchmark.device == device:
            yield path.parent, benchmark


def benchmark_speed(
    benchmark: Benchmark,
    folder: Path,
    rows: Sequence[PlanRow],
    reference: PlanRow,
    preset: Preset,
) -> Speed:
    """Returns how fast a study's networks train on the device of a benchmark, and their memory.

    Time and activations are proportional to the number of pixels. Weights, gradients and the
    optimizer's moments are counted; the memory that a GPU's libraries take is not included. A
    network that was not measured takes the time of the measured one with the most similar FLOPs, in
    proportion, and has no memory.

    Args:
        benchmark: its figures.
        folder: of its files.
        rows: the variants.
        reference: the variant that costs are compared with.
        preset: of the study: its task, and the size of its images.

    Raises:
        UsageError: if the benchmark has no figures of any of these networks in training, or of
            another task or head.
    """
    settings = benchmark.settings
    if (settings["task"], settings["head"]) != (preset.task, preset.head or ""):
        raise UsageError(
            f"the benchmark in {folder} measured {_described(settings['task'], settings['head'])}, "
            f"not {_described(preset.task, preset.head or '')}."
        )
    measured = {
        _layers(NetSpec.from_dict(row.spec)): row
        for row in benchmark.rows
        if row.spec and row.mode == TRAINING and row.measured
    }
    flops = {row.spec: row.cost.flops for row in [reference, *rows]}
    found = {spec: measured.get(_layers(spec)) for spec in flops}
    known = {spec: figures for spec, figures in found.items() if figures}
    if not known:
        raise UsageError(
            f"the benchmark in {folder} has no network of this study in training: it measured "
            f"{benchmark.title}. Run `benchmark` with this study's --regime."
        )
    pixels = preset.data.image_size**2 / (settings["image_width"] * settings["image_height"])
    seconds = {spec: pixels / row.speed for spec, row in known.items()}
    for spec in found.keys() - known.keys():
        near = min(known, key=lambda other: abs(flops[other] - flops[spec]))
        seconds[spec] = seconds[near] * flops[spec] / flops[near]
    memory = {}
    for row in rows:
        figures = known.get(row.spec)
        if figures is not None and figures.memory_mib is not None:
            per_image = _activations(figures, benchmark.settings["batch_size"]) * pixels
            memory[row.key] = _memory(row, per_image)
    conditions = [settings["precision"], settings["memory_format"]]
    conditions += ["compiled"] if settings["compile"] else []
    how = f"the benchmark in {folder} on {benchmark.device} ({', '.join(conditions)}"
    if pixels != 1:
        how += f"; measured at {benchmark.image} pixels, in proportion to the pixels"
    if missing := len(found) - len(known):
        how += f"; {missing} of {len(found)} networks by the FLOPs of a measured one"
    base = seconds[reference.spec], reference.cost.flops
    return Speed(seconds, base, f"{how})", memory, settings["device_type"] == "cpu")


def _described(task: str, head: str) -> str:
    return f"{task} with {head}" if head else task


def _layers(spec: NetSpec) -> str:
    """Returns a text that is the same for networks with the same layers."""
    ignored = fields_with(*_IGNORED)
    return repr([item for item in spec.to_dict().items() if item[0] not in ignored])


def _activations(row: Row, batch_size: int) -> float:
    """Returns MiB per image of all that grows with the batch."""
    fixed = _MEASURED_COPIES * _BYTES * row.params / _MIB
    return max((row.memory_mib or 0) - fixed, 0) / batch_size


def _memory(row: PlanRow, per_image: float) -> float:
    """Returns the peak memory of training a variant, in MiB."""
    weights = _BYTES * row.cost.params / _MIB
    return _copies(row.recipe) * weights + per_image * row.recipe.micro_batch_size


def _copies(recipe: Recipe) -> int:
    """Returns how many numbers are kept for each weight: itself, gradient, moments, average."""
    return 2 + _MOMENTS[recipe.optimizer] + (recipe.ema_decay is not None)
