"""What a benchmark is asked to measure, and how it is carried out, shown and written."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ablations import tables, terminal
from ablations.benchmark import results as benchmark_results
from ablations.benchmark.results import MODES, Benchmark, Row
from ablations.units import duration
from modernize.errors import RoadmapError, UnknownNameError, UsageError
from modernize.text import markdown, plural

if TYPE_CHECKING:
    from ablations.benchmark.contestants import Contestant
    from ablations.benchmark.measurement import Conditions, Look
    from ablations.benchmark.throughput_figure import Accuracy

PRECISIONS = ("auto", "fp32", "tf32", "bf16", "fp16")
MEMORY_FORMATS = ("channels-last", "contiguous")


class NothingMeasuredError(RoadmapError):
    """Every network failed."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be measured and how, as it was asked for.

    Attributes:
        modes: of the :data:`~ablations.benchmark.results.MODES`.
        device: ``cuda`` or ``cpu``; None: the GPU where there is one.
        batch_size: images at once; None: as suits the device.
        image_size: height and width in pixels.
        precision: one of the :data:`PRECISIONS`.
        memory_format: one of the :data:`MEMORY_FORMATS`.
        compile: whether ``torch.compile`` is used.
        rounds: turns of each network in each mode.
        seconds: timed in each turn.
    """

    modes: tuple[str, ...]
    device: str | None
    batch_size: int | None
    image_size: int
    precision: str
    memory_format: str
    compile: bool
    rounds: int
    seconds: float

    def conditions(self) -> Conditions:
        """Returns the conditions for this machine.

        Raises:
            UsageError: for what the device cannot have.
        """
        from ablations.devices import core_count
        from ablations.processes import process_context

        process_context()  # before torch is imported: its threads wait here as they do in training
        import torch

        from ablations.benchmark.measurement import Conditions
        from ablations.recipe import Compute

        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        if device == "cuda" and not torch.cuda.is_available():
            raise UsageError("--device cuda: torch finds no GPU here.")
        if device == "cpu" and self.precision in ("tf32", "fp16"):
            raise UsageError(
                f"--precision {self.precision} needs a CUDA GPU; take bf16, fp32 or auto on a CPU."
            )
        compute = Compute(
            precision="fp32" if self.precision == "tf32" else self.precision,  # type: ignore[arg-type]  # checked by pydantic
            channels_last=self.memory_format == "channels-last",
            compile=self.compile,
            tf32=self.precision == "tf32",
            workers=0,
        )
        batch_size = self.batch_size or default_batch_size(device, self.image_size)
        threads = min(torch.get_num_threads(), core_count())
        return Conditions(device, compute, batch_size, self.image_size, threads)


def default_batch_size(device: str, image_size: int) -> int:
    """Returns a batch that fills a device, and that it is through with in a second or two."""
    small = image_size <= 64
    if device == "cuda":
        return 1024 if small else 128
    return 128 if small else 8


def parse_modes(asked: Sequence[str]) -> tuple[str, ...]:
    """Returns the modes of these names, each once.

    Raises:
        UnknownNameError: for one that there is not.
    """
    for mode in asked:
        if mode not in MODES:
            raise UnknownNameError("mode", mode, MODES)
    return tuple(mode for mode in MODES if mode in asked)


def run(
    contestants: Sequence[Contestant],
    request: Request,
    conditions: Conditions,
    *,
    title: str,
    regime: str | None,
    console: Console,
) -> Benchmark:
    """Measures, and says how it comes along.

    Interrupted, it returns the rounds that are complete, if there are any.

    Raises:
        NothingMeasuredError: where every network failed.
    """
    from ablations.benchmark import measurement as measure
    from ablations.records import provenance

    context = conditions.context()
    started = time.time()
    rows = measure.make_rows(contestants, request.modes)
    device = describe_device(context.describe())
    console.print(
        f"{title} on {device}: {plural(len(contestants), 'network')}, "
        f"{' and '.join(request.modes)}, batches of {conditions.batch_size}. Each is run twice "
        "first, for its memory and to say how long all will take.",
        soft_wrap=True,
    )
    product = measure.product_speed(context)
    looks = _look(contestants, rows, conditions, console)
    lanes = measure.make_lanes(contestants, rows, conditions)
    expected = measure.expected_seconds(looks, request.rounds, request.seconds)
    console.print(f"Measuring: {plural(request.rounds, 'round')}, about {duration(expected)}")
    synchronize = measure.synchronizer(context)
    done = 0
    try:
        for done in measure.run_rounds(
            lanes,
            request.rounds,
            lambda iterate: measure.take_turn(
                iterate, conditions.batch_size, request.seconds, synchronize
            ),
        ):
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
        regime=regime,
        device=device,
        settings={
            "modes": list(request.modes),
            "batch_size": conditions.batch_size,
            "image_size": conditions.image_size,
            "precision": describe_precision(request.precision, str(context.dtype)),
            "memory_format": request.memory_format,
            "compile": request.compile,
            "threads": conditions.threads,
            "rounds": done,
            "seconds": request.seconds,
            "product_macs_per_second": product,
        },
        provenance=provenance(device, conditions.threads)
        | {"started": started, "ended": time.time()},
        rows=rows,
    )


def describe_device(name: str) -> str:
    """Returns a device's name; for a CPU its model."""
    from ablations.training.device_name import cpu_name

    return cpu_name() if name == "cpu" else name


def describe_precision(asked: str, dtype: str) -> str:
    """Returns the precision that was computed in, in the words of the command line."""
    names = {"torch.float32": "fp32", "torch.bfloat16": "bf16", "torch.float16": "fp16"}
    return asked if asked == "tf32" else names[dtype]


def show(benchmark: Benchmark, style: str, console: Console) -> None:
    """Prints the table, and below it what there is to say."""
    if style in ("csv", "json"):
        terminal.echo(tables.for_programs(benchmark_results.as_values(benchmark), style))
        return
    texts = benchmark_results.as_texts(benchmark)
    if style == "markdown":
        terminal.echo(f"{tables.as_markdown(texts, benchmark_results.COLUMNS)}\n")
    else:
        tables.print_table(console, texts, benchmark_results.COLUMNS, benchmark.title)
    for line in benchmark_results.footnotes(benchmark):
        terminal.echo(f"- {markdown(line)}" if style == "markdown" else line)


def write(
    benchmark: Benchmark, folder: Path, known: Mapping[str, Accuracy], source: str
) -> list[Path]:
    """Writes the figures, and the chart where there are accuracies; returns the paths.

    Args:
        benchmark: the figures.
        folder: where the files go.
        known: network -> its accuracy.
        source: where the accuracies are from.
    """
    from ablations.benchmark.throughput_figure import throughput_figure
    from ablations.charts import chart

    written = benchmark.write(folder)
    figure = throughput_figure(benchmark, known, source)
    if figure is not None:
        written += [chart.save(figure, folder / f"throughput.{kind}") for kind in ("png", "svg")]
    return written


def default_folder(benchmark: Benchmark, results: Path) -> Path:
    """Returns where a benchmark's files go if nobody says: a folder for each regime and device."""
    from ablations.training.device_name import slug

    return results / f"benchmark-{benchmark.regime or 'models'}-{slug(benchmark.device)}"


def _look(
    contestants: Sequence[Contestant],
    rows: Sequence[Row],
    conditions: Conditions,
    console: Console,
) -> list[Look]:
    """Returns a look for each row that has not failed."""
    from ablations.benchmark.measurement import look_at_all

    looks = []
    for row, look in look_at_all(contestants, rows, conditions):
        if look.failure:
            console.print(
                f"{', '.join(row.names)}, {row.library}, {row.mode}: {look.failure}",
                soft_wrap=True,
            )
        else:
            looks.append(look)
    return looks
