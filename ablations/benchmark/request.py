"""The request for a benchmark; carries it out, shows it and writes its files."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ablations import tables
from ablations.benchmark import results as benchmark_results
from ablations.benchmark.results import MODES, Benchmark
from ablations.tasks.registry import make_task
from ablations.units import about
from modernize.errors import RoadmapError, UnknownNameError, UsageError
from modernize.text import plural

if TYPE_CHECKING:
    from ablations.benchmark.measurement import Plan, Setup, Trial
    from ablations.benchmark.networks import BenchmarkNetwork
    from ablations.benchmark.throughput_figure import Accuracy
    from ablations.charts.settings import ChartSettings


class NothingMeasuredError(RoadmapError):
    """Every network failed."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What to measure and how.

    Attributes:
        modes: of the :data:`~ablations.benchmark.results.MODES`.
        device: ``cuda`` or ``cpu``; None: the GPU, if there is one.
        batch_size: images at once; None: a default for the device.
        size: (width, height) of an image in pixels.
        choice: of the task.
        precision: ``auto``, ``fp32``, ``tf32``, ``bf16`` or ``fp16``.
        memory_format: ``channels-last`` or ``contiguous``.
        compile: whether to use ``torch.compile``.
        rounds: measurements of each network in each mode.
        seconds: to time in each measurement.
    """

    modes: tuple[str, ...]
    device: str | None
    batch_size: int | None
    size: tuple[int, int]
    choice: Mapping[str, str]
    precision: str
    memory_format: str
    compile: bool
    rounds: int
    seconds: float

    def setup(self) -> Setup:
        """Returns the conditions for this machine.

        Raises:
            UsageError: if the device does not exist or does not support the precision.
        """
        from ablations.devices import core_count
        from ablations.processes import wait_passively

        wait_passively()  # before torch is imported, as in training
        import torch

        from ablations.benchmark.measurement import Setup
        from ablations.choices import Compute

        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        if device == "cuda" and not torch.cuda.is_available():
            raise UsageError("--device cuda: torch finds no GPU on this machine.")
        if device == "cpu" and self.precision in ("tf32", "fp16"):
            raise UsageError(
                f"--precision {self.precision} needs a CUDA GPU; use bf16, fp32 or auto on a CPU."
            )
        compute = Compute(
            precision="fp32" if self.precision == "tf32" else self.precision,  # type: ignore[arg-type]  # checked by pydantic
            channels_last=self.memory_format == "channels-last",
            compile=self.compile,
            tf32=self.precision == "tf32",
            workers=0,
        )
        of_task = make_task(self.choice).noise.batch_size
        batch_size = self.batch_size or of_task or default_batch_size(device, self.size[0])
        threads = min(torch.get_num_threads(), core_count())
        return Setup(device, compute, batch_size, self.size, threads, self.choice)


def default_batch_size(device: str, image_size: int) -> int:
    """Returns a batch size that fills a device and takes a second or two."""
    small = image_size <= 64
    if device == "cuda":
        return 1024 if small else 128
    return 128 if small else 8


def parse_modes(asked: Sequence[str]) -> tuple[str, ...]:
    """Returns the modes of these names, each once.

    Raises:
        UnknownNameError: for a mode that does not exist.
    """
    for mode in asked:
        if mode not in MODES:
            raise UnknownNameError("mode", mode, MODES)
    return tuple(mode for mode in MODES if mode in asked)


def run(
    networks: Sequence[BenchmarkNetwork],
    request: Request,
    setup: Setup,
    *,
    title: str,
    study: str,
    regime: str | None,
    console: Console,
) -> Benchmark:
    """Measures the networks, and prints the progress.

    If it is interrupted, it returns the complete rounds, if there are any.

    Raises:
        NothingMeasuredError: if every network failed.
    """
    from ablations.benchmark import measurement
    from ablations.records import provenance
    from ablations.training.step import seconds_per_iteration

    context = setup.context()
    started = time.time()
    plan = measurement.make_plan(networks, request.modes)
    rows = [row for _, own_rows in plan for row in own_rows]
    console.print(
        f"{title} on {context.name()}: {plural(len(networks), 'network')}, "
        f"{' and '.join(request.modes)}, batches of {setup.batch_size}. First, each network runs "
        "twice, to measure its memory and to estimate the time.",
        soft_wrap=True,
    )
    product = measurement.product_speed(context)
    trials = _run_trials(plan, setup, console)
    timed = measurement.load_networks(plan, setup)
    expected = measurement.expected_seconds(trials, request.rounds, request.seconds)
    console.print(f"Measuring: {plural(request.rounds, 'round')}, {about(expected)}")

    def images_per_second(iterate: measurement.Iterate) -> float:
        return setup.batch_size / seconds_per_iteration(
            iterate, request.seconds, context.synchronize, at_least=measurement.LEAST
        )

    done = 0
    try:
        for done in measurement.run_rounds(timed, request.rounds, images_per_second):
            console.print(f"round {done} of {request.rounds} done")
    except KeyboardInterrupt:
        if not done:
            raise
        console.print(f"Interrupted: only {done} of {plural(request.rounds, 'round')} are kept.")
    for row in rows:
        del row.images_per_second[done:]
    if not any(row.measured for row in rows):
        raise NothingMeasuredError(f"no network could be measured; the first: {rows[0].failure}")
    return Benchmark(
        title=title,
        study=study,
        regime=regime,
        device=context.name(),
        settings={
            "modes": list(request.modes),
            "device_type": context.device.type,
            "batch_size": setup.batch_size,
            "task": setup.task.metrics.task,
            "head": request.choice.get("head", ""),
            "image_width": setup.size[0],
            "image_height": setup.size[1],
            "precision": describe_precision(request.precision, str(context.dtype)),
            "memory_format": request.memory_format,
            "compile": request.compile,
            "threads": setup.threads,
            "rounds": done,
            "seconds": request.seconds,
            "product_macs_per_second": product,
        },
        provenance=provenance(context.name(), setup.threads)
        | {"started": started, "ended": time.time()},
        rows=rows,
    )


def describe_precision(asked: str, dtype: str) -> str:
    """Returns the precision that was used, as the command line names it."""
    names = {"torch.float32": "fp32", "torch.bfloat16": "bf16", "torch.float16": "fp16"}
    return asked if asked == "tf32" else names[dtype]


def show(benchmark: Benchmark, style: str, console: Console) -> None:
    """Prints the table and its footnotes."""
    tables.Report(
        benchmark_results.as_values(benchmark),
        benchmark_results.as_texts(benchmark),
        benchmark_results.COLUMNS,
        benchmark.title,
        benchmark_results.footnotes(benchmark),
    ).show(console, style)


def write(
    benchmark: Benchmark,
    folder: Path,
    known: Mapping[str, Accuracy],
    source: str,
    settings: ChartSettings,
) -> list[Path]:
    """Writes the figures, and the chart if there are accuracies; returns the paths.

    Args:
        benchmark: the figures.
        folder: where the files go.
        known: network -> its accuracy.
        source: of the accuracies.
        settings: how the chart looks.
    """
    from ablations.benchmark.throughput_figure import throughput_figure
    from ablations.charts import chart

    written = benchmark.write(folder)
    figure = throughput_figure(benchmark, known, source, settings)
    if figure is not None:
        written += [
            chart.save_figure(figure, folder / f"throughput.{kind}", settings)
            for kind in ("png", "svg", "pdf")
        ]
    return written


def default_folder(benchmark: Benchmark, results: Path) -> Path:
    """Returns the default folder of a benchmark's files: of its study, head, regime and device."""
    from ablations.training.device_name import slug

    head = benchmark.settings["head"]
    parts = benchmark.study, head, benchmark.regime or "models", slug(benchmark.device)
    return results / "-".join(["benchmark", *filter(None, parts)])


def _run_trials(plan: Plan, setup: Setup, console: Console) -> list[Trial]:
    """Returns the trials that did not fail; prints the others."""
    from ablations.benchmark.measurement import run_trials

    trials = []
    for row, trial in run_trials(plan, setup):
        if trial.failure:
            console.print(
                f"{', '.join(row.names)}, {row.library}, {row.mode}: {trial.failure}",
                soft_wrap=True,
            )
        else:
            trials.append(trial)
    return trials
