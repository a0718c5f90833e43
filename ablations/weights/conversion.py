"""Describes and converts weights: checkpoints of other implementations, and of runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ablations.records import WEIGHTS, read_json
from ablations.records.schemas import CONFIG
from ablations.units import integer
from modernize import weights
from modernize.errors import CustomLayersError, UnknownNameError, UsageError
from modernize.layouts import LAYOUT_NAMES
from modernize.models import model_of
from modernize.spec import NetSpec
from modernize.steps import step_of
from modernize.text import plural
from modernize.weight_files import check_writable


def check_output(source: Path, layout: str, output: Path) -> None:
    """Checks, before anything is read, that the output can be written.

    Raises:
        UsageError: if it cannot.
    """
    if layout not in LAYOUT_NAMES:
        raise UnknownNameError("layout", layout, LAYOUT_NAMES)
    check_writable(output)
    if output.exists() and output.samefile(file_of(source)):
        raise UsageError(f"--output {output} is also the input; name another file.")


def read(source: Path, *, ema: bool) -> weights.Weights:
    """Returns the weights of a file, or of a run's folder, whose configuration has the network.

    Args:
        source: the file or folder.
        ema: whether to read the moving average.

    Raises:
        CustomLayersError: for a network whose custom layers are not loaded.
        WeightsError: if they cannot be read, or belong to no known network.
        UsageError: for a folder that is not a run's.
    """
    spec = None
    if source.is_dir():
        spec = run_spec(source)
    with hint_at_layers(file_of(source)):
        return weights.read(file_of(source), spec, ema=ema)


def run_spec(folder: Path) -> NetSpec:
    """Returns the network of a finished run.

    Raises:
        UsageError: for a folder that is not a finished run's.
    """
    config = read_json(folder / "config.json", CONFIG)
    if config is None or not file_of(folder).is_file():
        raise UsageError(
            f"{folder} is not the folder of a finished run, which has config.json and "
            f"{WEIGHTS}. Name a folder in results/<study>/runs/, or a file of weights."
        )
    return NetSpec.from_dict(config["spec"])


@contextlib.contextmanager
def hint_at_layers(file: Path) -> Iterator[None]:
    """Adds to errors about custom layers how to load those of a file of weights."""
    try:
        yield
    except CustomLayersError as error:
        raise CustomLayersError(f"{error} {_layers_hint(file, str(error))}") from None


def _layers_hint(file: Path, fault: str) -> str:
    """Returns advice on missing custom layers; it names the study's copy, if there is one."""
    copies = (file.parent.parent.parent / "layers").glob("*.py")  # next to runs/RUN/weights.pt
    copy = next((path for path in copies if path.stem in fault), None)
    hint = f"the study's copy is {copy}" if copy else "it was next to the study file"
    return f"Name it with --layers FILE, which runs the file; {hint}."


def describe(source: Path, found: weights.Weights) -> list[str]:
    """Returns lines that describe the weights of a file."""
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
        "parameters": integer(found.params),
    }
    return [
        f"{source}: {found.layout.title}, all tensors fit",
        *(f"  {name:<15} {value}" for name, value in rows.items()),
    ]


def write(found: weights.Weights, layout: str, output: Path) -> str:
    """Writes weights in another layout, and returns a message."""
    weights.write(found, output, layout)
    size = output.stat().st_size
    tensors = plural(len(found.tensors), "tensor")
    return f"Wrote {output}: layout {layout}, {tensors}, {plural(size, 'byte')}"


def file_of(source: Path) -> Path:
    """Returns a file of weights: itself, or the one in a run's folder."""
    return source / WEIGHTS if source.is_dir() else source
