"""The cost of detectors and segmenters on each step, and on the paper's backbones.

Everything is in closed form (:mod:`modernize.heads.cost`), so torch is not imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from ablations import tables
from ablations.costs.dense_backbones import BACKBONES
from ablations.heads import HEADS, HeadSpec
from ablations.metrics import DETECTION, SEGMENTATION
from ablations.paper import PrintedValue, select
from ablations.units import Unit, choose_unit, fixed, integer, millions
from modernize.heads.cost import DenseCost, backbone, head_cost
from modernize.steps import Regime, Variant


@dataclasses.dataclass(frozen=True)
class Convention:
    """A way to count that a published figure may follow.

    Attributes:
        name: as tables show it.
        meaning: the operations that are counted.
        count: returns the count.
    """

    name: str
    meaning: str
    count: Callable[[DenseCost], int]


_MACS = Convention("macs", "MACs of convolutions and linear layers", lambda c: c.macs)


@dataclasses.dataclass(frozen=True)
class DenseTask:
    """Detection or segmentation, for counting.

    Attributes:
        table: of the published figures, in ``paper_tables/values.csv``.
        specs: name -> spec, of all its heads.
        heads: name of a head of the paper's size -> of the same for the regime `nano`, whose
            images are scenes of 128 x 128 pixels.
        methods: the table's name of a method -> name of the head.
        conventions: those that a published figure may follow, in the order of the columns.
    """

    table: str
    specs: Mapping[str, HeadSpec]
    heads: Mapping[str, str]
    methods: Mapping[str, str]
    conventions: Sequence[Convention]

    def names(self, regime: Regime | None) -> dict[str, str]:
        """Returns the name of each head -> its name in a preset, for the images of a regime."""
        small = regime is not None and regime.name in _SMALL_REGIMES
        return {name: nano if small else name for name, nano in self.heads.items()}


_SMALL_REGIMES = ("nano",)
TASKS: Mapping[str, DenseTask] = {
    DETECTION.task: DenseTask(
        "coco",
        HEADS[DETECTION.task],
        {"mask-rcnn": "mask-rcnn-nano", "cascade-mask-rcnn": "cascade-mask-rcnn-nano"},
        {"Mask R-CNN 3x": "mask-rcnn", "Cascade Mask R-CNN 3x": "cascade-mask-rcnn"},
        (
            _MACS,
            Convention("mmcv", "the count of mmcv's counter", lambda c: c.mmcv),
            Convention(
                "mmcv + attention",
                "the same, and the MACs of attention's two matrix products",
                lambda c: c.mmcv + c.attention,
            ),
        ),
    ),
    SEGMENTATION.task: DenseTask(
        "ade20k",
        HEADS[SEGMENTATION.task],
        {"upernet": "upernet-nano"},
        {"UperNet": "upernet"},
        (
            _MACS,
            Convention(
                "mmcv",
                "the count of mmcv's counter, with the BatchNorms of the head",
                lambda c: c.mmcv + c.head_norms,
            ),
            Convention(
                "mmcv + attention",
                "the same, and the MACs of attention's two matrix products",
                lambda c: c.mmcv + c.head_norms + c.attention,
            ),
        ),
    ),
}
"""Task -> its heads and published figures."""

# -- steps ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class StepRow:
    """One step with one head.

    Attributes:
        step, head: their names.
        params: learned numbers, those of an auxiliary head included.
        macs: MACs of convolutions and linear layers for one image.
        mmcv: the count of mmcv's counter for one image, the task's convention.
        label: the step's title.
        regime: its name.
        image_width, image_height: in pixels.
        classes: of the head.
    """

    step: str
    head: str
    params: int
    macs: int
    mmcv: int
    label: str
    regime: str
    image_width: int
    image_height: int
    classes: int


def step_rows(task: DenseTask, variants: Sequence[Variant], regime: Regime) -> list[StepRow]:
    """Returns a row for each variant and head, in this order.

    Raises:
        UsageError: for a network without four stages.
        CustomLayersError: if its custom layers are not loaded, or fail.
    """
    _, mmcv, _ = task.conventions
    rows = []
    for variant in variants:
        spec = variant.spec.replace(in_channels=3)
        for name, known in task.names(regime).items():
            head = task.specs[known]
            width, height = head.image_size
            counted = head_cost(backbone(spec, (height, width)), head)
            rows.append(
                StepRow(
                    step=variant.key,
                    head=name,
                    params=counted.params,
                    macs=counted.macs,
                    mmcv=mmcv.count(counted),
                    label=variant.title,
                    regime=regime.name,
                    image_width=width,
                    image_height=height,
                    classes=head.num_classes,
                )
            )
    return rows


def step_report(task: DenseTask, rows: Sequence[StepRow], title: str) -> tables.Report:
    """Returns the rows of steps for programs and for people."""
    unit = choose_unit(row.macs for row in rows)
    texts = [_step_text(row, unit) for row in rows]
    columns = tables.Columns(
        numbers=("parameters", unit.name, f"mmcv {unit.name}"), optional=("label",),
        wrapped={"label": 16},
    )  # fmt: skip
    notes = [f"{unit.name}: {task.conventions[0].meaning}; mmcv: {task.conventions[1].meaning}."]
    return tables.Report([dataclasses.asdict(r) for r in rows], texts, columns, title, notes)


def step_title(rows: Sequence[StepRow], networks: str) -> str:
    """Returns the networks and images of rows: "ResNet-50 to ConvNeXt-T at 1280 x 800 ..."."""
    first = rows[0]
    return f"{networks} at {first.image_width} x {first.image_height}, {first.classes} classes"


def _step_text(row: StepRow, unit: Unit) -> dict[str, str]:
    return {
        "step": row.step,
        "label": row.label,
        "head": row.head,
        "parameters": integer(row.params),
        unit.name: unit.show(row.macs),
        f"mmcv {unit.name}": unit.show(row.mmcv),
    }


# -- the paper's backbones ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ModelRow:
    """One of the paper's backbones with one head, at one image size.

    Attributes:
        model, head: their names.
        image_width, image_height: in pixels.
        cost: the count.
        printed_params, printed_flops: the published figures, in 1e6 and 1e9; None: not published.
        met_by: names of the conventions that give the published FLOPs to the last digit.
        note: the explanation of a figure that follows another convention than its table, or none.
    """

    model: str
    head: str
    image_width: int
    image_height: int
    cost: DenseCost
    printed_params: str | None
    printed_flops: str | None
    met_by: tuple[str, ...] = ()
    note: str = ""


def model_rows(task: DenseTask) -> list[ModelRow]:
    """Returns every backbone of the task's published table, once for each head and image size."""
    values = [v for v in select(table=task.table) if v.metric in ("params", "flops")]
    rows: list[ModelRow] = []
    for method, head in task.methods.items():
        spec = task.specs[head]
        of_method = [v for v in values if v.method == method]
        for model, size in dict.fromkeys(_place(v, spec, of_method) for v in of_method):
            found = [v for v in of_method if _place(v, spec, of_method) == (model, size)]
            cost = head_cost(BACKBONES[model].maps((size[1], size[0])), spec)
            printed = {v.metric: v.printed for v in found}
            met = tuple(
                c.name
                for c in task.conventions
                if _rounded(c.count(cost), 9) == printed.get("flops")
                and (cost.attention or c is not task.conventions[-1])
            )
            rows.append(
                ModelRow(model, head, *size, cost, printed.get("params"), printed.get("flops"), met)
            )
    return [dataclasses.replace(row, note=_note(task, row, rows)) for row in rows]


def _place(
    value: PrintedValue, spec: HeadSpec, values: Sequence[PrintedValue]
) -> tuple[str, tuple[int, int]]:
    """Returns the model and the (width, height) that a figure is of.

    Parameters are printed with the crop of the training, or without a size: theirs is that of the
    FLOPs of the same model and pre-training.
    """
    sizes = [
        v.image_size
        for v in values
        if v.metric == "flops" and (v.model, v.pretraining) == (value.model, value.pretraining)
    ]
    width, height = map(int, sizes[0].split("x")) if sizes else spec.image_size
    return value.model, (width, height)


def _rounded(count: int, digits: int) -> str:
    return str(Decimal(count).scaleb(-digits).quantize(Decimal(1), ROUND_HALF_EVEN))


def _note(task: DenseTask, row: ModelRow, rows: Sequence[ModelRow]) -> str:
    """Returns the explanation of a row's published FLOPs; empty if it needs none."""
    if row.printed_flops is None:
        return ""
    plain, with_attention = task.conventions[1:]
    nearest = (with_attention if row.cost.attention else plain).count(row.cost)
    if not row.met_by:
        return f"no convention gives it; the count is {fixed(nearest / 1e9, 1)}"
    if row.cost.attention and with_attention.name not in row.met_by:
        others = [r.model for r in rows if with_attention.name in r.met_by and r.head == row.head]
        return (
            f"counted without attention; with it, as {', '.join(dict.fromkeys(others))} in the "
            f"same table, it would be {_rounded(nearest, 9)}"
        )
    return ""


def model_report(task: DenseTask) -> tables.Report:
    """Returns the rows of the paper's backbones for programs and for people."""
    rows = model_rows(task)
    texts = [_model_text(task, row) for row in rows]
    for name in ("head", "image"):
        if len({text[name] for text in texts}) == 1:
            texts = [{key: cell for key, cell in text.items() if key != name} for text in texts]
    names = [f"{c.name} (G)" for c in task.conventions]
    columns = tables.Columns(
        numbers=("parameters (M)", "paper (M)", *names, "paper (G)"),
        optional=("met by", "macs (G)", "paper (M)", "parameters (M)"),
        wrapped={"head": 12, "met by": 12},
    )
    notes = [
        f"* {row.model}, {row.head} at {row.image_width} x {row.image_height}: {row.note}."
        for row in rows
        if row.note
    ]
    notes += [f"{c.name}: {c.meaning}." for c in task.conventions]
    values = [_model_value(task, row) for row in rows]
    return tables.Report(values, texts, columns, notes=notes)


def _model_value(task: DenseTask, row: ModelRow) -> dict[str, Any]:
    return {
        "model": row.model,
        "head": row.head,
        "params": row.cost.params,
        **{c.name.replace(" + ", "_"): c.count(row.cost) for c in task.conventions},
        "printed_params_m": row.printed_params,
        "printed_gflops": row.printed_flops,
        "agrees_params": _agrees(row.printed_params, row.cost.params),
        "agrees": None if row.printed_flops is None else bool(row.met_by),
        "met_by": ", ".join(row.met_by) or None,
        "note": row.note or None,
        "image_width": row.image_width,
        "image_height": row.image_height,
    }


def _agrees(printed: str | None, count: int) -> bool | None:
    return None if printed is None else _rounded(count, 6) == printed


def _model_text(task: DenseTask, row: ModelRow) -> dict[str, str]:
    plain, with_attention = task.conventions[:-1], task.conventions[-1]
    attention = fixed(with_attention.count(row.cost) / 1e9, 3) if row.cost.attention else ""
    return {
        "model": row.model,
        "head": row.head,
        "image": f"{row.image_width} x {row.image_height}",
        "parameters (M)": millions(row.cost.params),
        "paper (M)": row.printed_params or "",
        **{f"{c.name} (G)": fixed(c.count(row.cost) / 1e9, 3) for c in plain},
        f"{with_attention.name} (G)": attention,
        "paper (G)": (row.printed_flops or "") + (" *" if row.note else ""),
        "met by": ", ".join(row.met_by),
    }
