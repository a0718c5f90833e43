"""Checkpoints of other implementations, and runs: told what they are, and written anew."""

from __future__ import annotations

from pathlib import Path

from ablations.records import read_json
from ablations.records.schemas import CONFIG
from ablations.training.checkpoint import WEIGHTS
from modernize import weights
from modernize.errors import CustomLayersError, UnknownNameError, UsageError
from modernize.layouts import LAYOUT_NAMES
from modernize.models import model_of
from modernize.spec import NetSpec
from modernize.steps import step_of
from modernize.text import plural
from modernize.weight_files import check_writable


def check_output(source: Path, layout: str, output: Path) -> None:
    """Refuses, before anything is read, what could not be written at the end.

    Raises:
        UsageError: saying what is valid.
    """
    if layout not in LAYOUT_NAMES:
        raise UnknownNameError("layout", layout, LAYOUT_NAMES)
    check_writable(output)
    if output.exists() and output.samefile(_file(source)):
        raise UsageError(f"--output {output} is the file that is read; name another one.")


def read(source: Path, *, ema: bool) -> weights.Weights:
    """Returns the weights of a file, or of a run's folder, whose configuration says the network.

    Args:
        source: the file or folder.
        ema: whether the moving average is meant.

    Raises:
        CustomLayersError: for a network whose custom layers are not loaded.
        WeightsError: where they cannot be read, or are of no network known here.
        UsageError: for a folder that is no run's.
    """
    spec = None
    if source.is_dir():
        config = read_json(source / "config.json", CONFIG)
        if config is None or not _file(source).is_file():
            raise UsageError(
                f"{source} is no folder of a finished run: it needs config.json and {WEIGHTS}. "
                "Name a folder in results/<study>/runs/, or a file of weights."
            )
        spec = NetSpec.from_dict(config["spec"])
    try:
        return weights.read(_file(source), spec, ema=ema)
    except CustomLayersError as error:
        raise CustomLayersError(f"{error} {_where_layers_are(_file(source), str(error))}") from None


def _where_layers_are(file: Path, fault: str) -> str:
    """Returns how to name the custom layers that are missing: the study's copy, if there is one."""
    copies = (file.parent.parent.parent / "layers").glob("*.py")  # beside runs/RUN/weights.pt
    copy = next((path for path in copies if path.stem in fault), None)
    named = f"the study's copy is {copy}" if copy else "it was beside the study's file"
    return f"Name it with --layers FILE, which runs it; {named}."


def describe(source: Path, found: weights.Weights) -> list[str]:
    """Returns lines that say what a file holds."""
    spec = found.spec
    rows = {
        "model": model_of(spec) or "none of the paper's",
        "step": step_of(spec) or "none: no step has this structure",
        "depths": ",".join(map(str, spec.depths)),
        "width": str(spec.width),
        "kernel size": str(spec.kernel_size),
        "layer scale": "yes" if spec.layer_scale else "no",
        "image channels": str(spec.in_channels),
        "classes": str(spec.num_classes),
        "parameters": f"{found.params:,}",
    }
    return [
        f"{source}: {found.layout.title}, all tensors fit",
        *(f"  {name:<15} {value}" for name, value in rows.items()),
    ]


def write(found: weights.Weights, layout: str, output: Path) -> str:
    """Writes weights in another layout, and returns a line that says so."""
    weights.write(found, output, layout)
    size = output.stat().st_size
    tensors = plural(len(found.tensors), "tensor")
    return f"Wrote {output}: layout {layout}, {tensors}, {plural(size, 'byte')}"


def _file(source: Path) -> Path:
    return source / WEIGHTS if source.is_dir() else source
