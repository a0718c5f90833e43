"""The results of a benchmark: figures, medians, ratios and files. No torch here."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from ablations import paper, tables
from ablations.costs.model_costs import OURS
from ablations.metrics import TASKS, Metric
from ablations.records import make_folder, read_json, write_json, write_text
from ablations.records.files import check
from ablations.units import choose_unit, fixed, integer, millions, percent, work
from ablations.value_types import TaskName
from modernize.errors import UsageError
from modernize.text import plural

FILE = "benchmark.json"
MODES = INFERENCE, TRAINING = "inference", "training"
CONDITIONS = ("task", "head", "precision", "memory_format", "compile", "batch_size",
              "image_width", "image_height", "threads")  # fmt: skip
"""The settings that every row of the CSV file repeats."""
Speed = Annotated[float, Field(gt=0, allow_inf_nan=False)]
STEADY = 1.3  # ratio of the fastest to the slowest round above which a note is shown


@dataclasses.dataclass
class Row:
    """The figures of one network in one mode.

    Attributes:
        names, model, library, version, params, flops: as in
            :class:`~ablations.benchmark.networks.BenchmarkNetwork`.
        mode: one of the :data:`MODES`.
        images_per_second: one figure per round.
        memory_mib: the peak memory above the input batch; None if it was not measured.
        failure: why it has no figures; empty if it has.
        spec: the NetSpec of one of our networks, as a dict; None for a reference model.
    """

    names: tuple[str, ...]
    model: str
    library: str
    version: str
    params: int
    flops: int
    mode: str
    images_per_second: list[Speed] = dataclasses.field(default_factory=list)
    memory_mib: float | None = None
    failure: str = ""
    spec: dict[str, Any] | None = None

    @property
    def measured(self) -> bool:
        """Whether it ran without failure."""
        return bool(self.images_per_second) and not self.failure

    @property
    def speed(self) -> float:
        """The median of its images per second."""
        return statistics.median(self.images_per_second)


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How much faster one of our networks is than another in one mode.

    Attributes:
        ours, theirs: the two.
        values: one for each round, in which both were measured shortly after each other.
        published: the paper's ratio; None: unknown.
    """

    ours: Row
    theirs: Row
    values: Sequence[float]
    published: float | None = None

    @property
    def median(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.values)

    @property
    def of_best(self) -> float:
        """The ratio of their fastest rounds, which other programs disturbed least."""
        return max(self.ours.images_per_second) / max(self.theirs.images_per_second)


class _Settings(BaseModel):
    """The settings of a benchmark that are shown or used in a calculation."""

    model_config = ConfigDict(strict=True)
    modes: Annotated[list[Literal["inference", "training"]], Field(min_length=1)]
    device_type: str
    precision: str
    memory_format: str
    compile: bool
    batch_size: int
    image_width: int
    image_height: int
    task: TaskName
    head: str
    threads: int
    rounds: int
    product_macs_per_second: Speed


def _settings(values: dict[str, Any]) -> dict[str, Any]:
    check(values, TypeAdapter(_Settings))
    return values


@dataclasses.dataclass
class Benchmark:
    """A benchmark, measured.

    Attributes:
        title: what was measured.
        regime: of the steps; None: the networks are models of the paper.
        device: name of the device.
        settings: the conditions: batch and image size, precision, memory format, ...
        provenance: versions, commit, times.
        rows: one per network and mode, ours before its reference models.
        study: the name of the study whose variants they are; empty: steps or models.
    """

    title: str
    regime: str | None
    device: str
    settings: Annotated[dict[str, Any], AfterValidator(_settings)]
    provenance: dict[str, Any]
    rows: list[Row]
    study: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the content of ``benchmark.json``."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Returns the benchmark of a dict from :meth:`to_dict`, also after JSON."""
        return TypeAdapter(cls).validate_python(values)

    def write(self, folder: Path) -> list[Path]:
        """Writes ``benchmark.json`` and ``benchmark.csv``, and returns their paths.

        Raises:
            ResultsError: if they cannot be written.
        """
        as_csv = folder / "benchmark.csv"
        make_folder(folder)
        write_json(folder / FILE, self.to_dict())
        write_text(as_csv, tables.as_csv(as_values(self)) + "\n")
        return [folder / FILE, as_csv]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Returns the benchmark in a folder.

        Raises:
            UsageError: if there is none.
            ResultsError: if it cannot be read.
        """
        values = read_json(folder / FILE, TypeAdapter(cls), "measure it again")
        if values is None:
            raise UsageError(f"there is no {FILE} in {folder}.")
        return cls.from_dict(values)

    def share_of_peak(self, row: Row) -> float | None:
        """Returns a network's share of a large product's speed; None if it is not known.

        Training counts three times the FLOPs of inference: backward has twice those of forward.
        """
        if not row.measured or self.settings["head"]:  # whose FLOPs are those of a convention
            return None
        passes = 3 if row.mode == TRAINING else 1
        product: float = self.settings["product_macs_per_second"]
        return passes * row.flops * row.speed / product

    @property
    def image(self) -> str:
        """The size of the images: "224 x 224"."""
        return f"{self.settings['image_width']} x {self.settings['image_height']}"

    @property
    def metric(self) -> Metric:
        """What the networks are compared by."""
        return TASKS[self.settings["task"]].headline

    def measured(self, mode: str, model: str) -> list[Row]:
        """Returns the rows of one model in one mode that have figures."""
        return [r for r in self.rows if r.measured and (r.mode, r.model) == (mode, model)]


def reference_ratios(benchmark: Benchmark) -> list[Ratio]:
    """Returns the ratio of each of our networks to its fastest reference model."""
    ratios = []
    for row in benchmark.rows:
        if row.library == OURS and row.model and row.measured:
            same = benchmark.measured(row.mode, row.model)
            ratios += _to_fastest(row, [other for other in same if other.library != OURS])
    return ratios


def transformer_ratios(benchmark: Benchmark) -> list[Ratio]:
    """Returns our ConvNeXts to the fastest Swin of the same size, as Table 12 pairs them."""
    size = str(benchmark.settings["image_width"])
    printed = paper.select(table="12", metric="images_per_second", image_size=size)
    speeds = {value.model: value.number for value in printed}
    ratios = []
    for row in benchmark.rows:
        swin = _swin_of(row.model)
        if row.library == OURS and swin and row.measured:
            published = None  # the paper has no figures for training
            if row.mode == INFERENCE and {row.model, swin} <= speeds.keys():
                published = speeds[row.model] / speeds[swin]
            ratios += _to_fastest(row, benchmark.measured(row.mode, swin), published)
    return ratios


def _swin_of(model: str) -> str:
    """Returns the other model of the same size in Table 12; empty if there is none."""
    size = model.partition("-")[2]
    names = dict.fromkeys(value.model for value in paper.select(table="12"))
    if model not in names:
        return ""
    return next((n for n in names if n != model and n.partition("-")[2] == size), "")


def _to_fastest(row: Row, others: Sequence[Row], published: float | None = None) -> list[Ratio]:
    """Returns a row's ratio to the fastest of others; nothing if there are no others."""
    best = max(others, key=lambda other: other.speed, default=None)
    if best is None:
        return []
    pairs = zip(row.images_per_second, best.images_per_second, strict=True)
    return [Ratio(row, best, [ours / theirs for ours, theirs in pairs], published)]


# -- output ----------------------------------------------------------------------------------------


def as_values(benchmark: Benchmark) -> list[dict[str, Any]]:
    """Returns a row per network and mode for CSV and JSON; steps that share one have a row each."""
    settings = benchmark.settings
    return [
        {
            "network": name,
            "model": row.model,
            "library": row.library,
            "version": row.version,
            "mode": row.mode,
            "params": row.params,
            "flops": row.flops,
            "images_per_second": row.speed if row.measured else None,
            "images_per_second_min": min(row.images_per_second) if row.measured else None,
            "images_per_second_max": max(row.images_per_second) if row.measured else None,
            "rounds": len(row.images_per_second),
            "share_of_peak": benchmark.share_of_peak(row),
            "memory_mib": row.memory_mib,
            "failure": row.failure,
            "device": benchmark.device,
            **{name: settings[name] for name in CONDITIONS},
        }
        for row in benchmark.rows
        for name in row.names
    ]


_BESIDE = dict(zip(MODES, (("peak", "MiB"), ("peak ", "MiB ")), strict=True))
COLUMNS = tables.Columns(
    numbers=("params (M)", "GFLOPs", "MFLOPs", *(f"{mode} images/s" for mode in MODES),
             *(name for names in _BESIDE.values() for name in names)),
    optional=("MiB ", "MiB", "params (M)", "peak ", "peak", "GFLOPs", "MFLOPs"),
)  # fmt: skip
"""How :func:`as_texts` is shown."""


def as_texts(benchmark: Benchmark) -> list[dict[str, str]]:
    """Returns a row per network as text; a figure is the median (least to most) of the rounds.

    ``peak`` is the share of a large product's speed, ``MiB`` the memory; with a space: in training.
    """
    networks: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in benchmark.rows:
        networks.setdefault((row.names, row.library), {})[row.mode] = row
    unit = choose_unit(row.flops for row in benchmark.rows)
    texts = []
    for (names, library), modes in networks.items():
        row = next(iter(modes.values()))
        text = {
            "network": ", ".join(names),
            "library": library,
            "params (M)": millions(row.params),
            unit.name: unit.show(row.flops),
        }
        for mode, (peak, memory) in _BESIDE.items():
            if mode in benchmark.settings["modes"]:
                share = benchmark.share_of_peak(modes[mode])
                text |= {
                    f"{mode} images/s": _speed(modes[mode]),
                    peak: "" if share is None else percent(100 * share, 1),
                    memory: integer(modes[mode].memory_mib),
                }
        texts.append(text)
    return tables.without_empty(texts) if benchmark.settings["head"] else texts


def footnotes(benchmark: Benchmark) -> list[str]:
    """Returns the lines below the table: conditions, failures, ratios."""
    s = benchmark.settings
    lines = [
        f"{benchmark.device}; {plural(s['threads'], 'CPU thread')}, {s['precision']}, "
        f"{s['memory_format']}, {'compiled' if s['compile'] else 'not compiled'}, batches of "
        f"{s['batch_size']} at {benchmark.image}; median (least to most) of "
        f"{plural(s['rounds'], 'round')}.",
        "FLOPs are counted as by `flops --task`, those of detectors with a fixed number of boxes "
        "and masks; so there is no share of a peak."
        if s["head"]
        else f"Peak: {work(s['product_macs_per_second'])} a second, "
        "the speed of a large product of matrices in this precision; training counts three times "
        "the FLOPs.",
        "Memory is the peak above the input batch. On a CPU it is measured in a separate process; "
        "with --compile it is not reported, because the compiler's memory would count too.",
    ]
    lines += [
        f"{', '.join(row.names)}, {row.library}, {row.mode}: {row.failure}"
        for row in benchmark.rows
        if row.failure
    ]
    unsteady = max((_unsteadiness(row) for row in benchmark.rows if row.measured), default=1.0)
    if unsteady > STEADY:
        lines.append(
            f"Rounds of the same network differ by up to {fixed(unsteady, 1)} times: another "
            "program used the machine. Try again when it is idle, or with OMP_NUM_THREADS=1 and "
            "more --rounds."
        )
    return [*lines, *_ratio_lines([*reference_ratios(benchmark), *transformer_ratios(benchmark)])]


def _ratio_lines(ratios: Sequence[Ratio]) -> list[str]:
    """Returns a line for each network, with the ratios of all modes."""
    lines: dict[str, list[str]] = {}
    for ratio in ratios:
        row, best = ratio.ours, ratio.theirs
        low, high = min(ratio.values), max(ratio.values)
        text = f"{row.mode} {fixed(ratio.median)} ({fixed(low)} to {fixed(high)}, best rounds "
        text += f"{fixed(ratio.of_best)}; {best.library} {best.version}".strip() + ")"
        if ratio.published is not None:
            text += f", in the paper {fixed(ratio.published)}"
        other = "fastest reference" if row.model == best.model else best.model
        lines.setdefault(f"{', '.join(row.names)}: ours / {other}", []).append(text)
    return [f"{head}: {', '.join(texts)}" for head, texts in lines.items()]


def _unsteadiness(row: Row) -> float:
    """Returns the ratio of the fastest round to the slowest."""
    return max(row.images_per_second) / min(row.images_per_second)


def _speed(row: Row) -> str:
    if not row.measured:
        return row.failure.partition(":")[0]
    figures = row.speed, min(row.images_per_second), max(row.images_per_second)
    median, low, high = (fixed(f, 0 if row.speed >= 1000 else 1) for f in figures)
    return f"{median} ({low} to {high})" if len(row.images_per_second) > 1 else median
