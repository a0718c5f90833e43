"""What a network costs: parameters, FLOPs and activations, counted on the built network by fvcore.

The convention, everywhere in this project, for one image:

* ``flops`` are the multiply-accumulates of convolutions and linear layers. This is what the paper's
  tables print, and what "FLOPs" means in ours.
* ``flops_total`` is the total fvcore gives by default. It adds 2 per element of a BatchNorm in
  evaluation mode, 5 per element of a LayerNorm and 1 per element that the global average pooling
  takes in; activations, additions, max pooling and Layer Scale count nothing.
* ``activations`` are the outputs of all convolutions and linear layers, as fvcore's
  ``ActivationCountAnalysis`` counts them.
* ``params`` are all learned numbers.

A count holds for one network, one image size, one text of this code and one version of torch and
fvcore, so :func:`cost` keeps it on disk under all of these, and answers from there without torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modernize import cache
from modernize.custom_layers import running
from modernize.spec import NetSpec

if TYPE_CHECKING:
    from torch import Tensor

    from modernize.network import Network

_COUNTED_SOURCES = ("network.py", "ops.py", "spec.py", "cost.py")
_COUNTED_PACKAGES = ("torch", "fvcore")
_HEADLINE_OPERATORS = ("conv", "linear", "addmm")  # fvcore's names; addmm is a linear layer as well
_ACTIVATIONS = "activations"


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one image costs in one network; the module's text states the convention.

    Attributes:
        params: learned numbers.
        flops: multiply-accumulates of convolutions and linear layers.
        flops_total: fvcore's default total, norms and global pooling included.
        activations: outputs of convolutions and linear layers.
    """

    params: int
    flops: int
    flops_total: int
    activations: int


def cost(spec: NetSpec, image_size: int) -> Cost:
    """Returns what a network costs, from the disk where it was counted before, else counted now.

    Args:
        spec: the network.
        image_size: height and width of the image in pixels.

    Raises:
        UsageError: for an image smaller than ``spec.total_stride``.
        CustomLayersError: if its custom layers are not loaded, or fail.
    """
    spec.check_image_size(image_size)
    key = f"{spec.without_training().digest()}-{image_size}"  # one count for all recipes
    return cache.remember(cache_path(), key, Cost, lambda: count(spec, image_size))


def count(spec: NetSpec, image_size: int) -> Cost:
    """Builds a network and counts it; a network counted in this process is not counted again.

    Args:
        spec: the network.
        image_size: height and width of the image in pixels.

    Raises:
        UsageError: for an image smaller than ``spec.total_stride``.
        CustomLayersError: if its custom layers are not loaded, or fail.
    """
    spec.check_image_size(image_size)
    return _count(spec.without_training(), image_size)


def breakdown(spec: NetSpec, image_size: int, depth: int = 2) -> str:
    """Returns fvcore's tables of one network: by operator, then by module.

    Their FLOPs are fvcore's, so that they sum to ``flops_total``, norms and pooling included.

    Args:
        spec: the network.
        image_size: height and width of the image in pixels.
        depth: how deep into the modules: 1 for the stages, 2 for the blocks, 3 for what is inside.

    Raises:
        UsageError: for an image smaller than ``spec.total_stride``.
    """
    spec.check_image_size(image_size)
    with _fvcore() as fvcore:
        network, images = _network_and_no_images(spec, image_size)
        flops = _analysis(fvcore.FlopCountAnalysis, network, images)
        activations = _analysis(fvcore.ActivationCountAnalysis, network, images)
        rows = [
            f"{operator:<20} {number:>16,} {activations.by_operator()[operator]:>14,}"
            for operator, number in flops.by_operator().most_common()
        ]
        by_module = fvcore.flop_count_table(flops, max_depth=depth + 1, activations=activations)
    head = f"{'operator':<20} {'FLOPs':>16} {'activations':>14}"
    return "\n".join([head, *rows, "", str(by_module)])


@dataclasses.dataclass(frozen=True)
class Part:
    """What one kind of operator or one module costs, as :func:`breakdown` counts it.

    Attributes:
        kind: "operator" or "module".
        name: its name; of the whole network empty.
        flops, activations: of all that is in it.
    """

    kind: str
    name: str
    flops: int
    activations: int


def parts(spec: NetSpec, image_size: int, depth: int = 2) -> list[Part]:
    """Returns the numbers of :func:`breakdown`: the operators, and then the modules."""
    spec.check_image_size(image_size)
    with _fvcore() as fvcore:
        network, images = _network_and_no_images(spec, image_size)
        flops = _analysis(fvcore.FlopCountAnalysis, network, images)
        activations = _analysis(fvcore.ActivationCountAnalysis, network, images)
        outputs, inside = activations.by_operator(), activations.by_module()
        operators = flops.by_operator().most_common()
        modules = [(n, m) for n, m in flops.by_module().items() if n.count(".") < depth]
        return [
            *(Part("operator", name, int(n), int(outputs[name])) for name, n in operators),
            *(Part("module", name, int(n), int(inside[name])) for name, n in modules),
        ]


def flops_by_module(spec: NetSpec, image_size: int) -> dict[str, int]:
    """Returns ``{module: its flops}`` of one network, as :class:`Cost` counts them.

    A module is named by its path, as in the network's ``named_modules()``: ``"stages.2"`` is the
    third stage, ``"stages.2.1"`` the second of what stands in it, ``""`` the whole network. Each
    holds the FLOPs of all that is inside it.

    Args:
        spec: the network.
        image_size: height and width of the image in pixels.

    Raises:
        UsageError: for an image smaller than ``spec.total_stride``.
    """
    spec.check_image_size(image_size)
    with _fvcore() as fvcore:
        analysis = _analysis(fvcore.FlopCountAnalysis, *_network_and_no_images(spec, image_size))
        counted = analysis.by_module_and_operator()
    return {
        module: int(sum(operators.get(name, 0) for name in _HEADLINE_OPERATORS))
        for module, operators in counted.items()
    }


# -- counting ------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def _count(spec: NetSpec, image_size: int) -> Cost:
    """Counts everything in one trace of the network."""
    with _fvcore() as fvcore:
        network, images = _network_and_no_images(spec, image_size)
        flops_of, outputs_of = fvcore.jit_handles, fvcore.jit_handles.generic_activation_jit()
        handles = {
            "aten::_convolution": _both("conv", flops_of.conv_flop_jit, outputs_of),
            "aten::linear": _both("linear", flops_of.linear_flop_jit, outputs_of),
            "aten::addmm": _both("addmm", flops_of.addmm_flop_jit, outputs_of),
        }
        analysis = _analysis(fvcore.FlopCountAnalysis, network, images).set_op_handle(**handles)
        with running(spec, f"be run on an image of {image_size} pixels"):
            by_operator = Counter(analysis.by_operator())
    activations = by_operator.pop(_ACTIVATIONS)
    return Cost(
        params=sum(p.numel() for p in network.parameters()),
        flops=int(sum(by_operator[name] for name in _HEADLINE_OPERATORS)),
        flops_total=int(sum(by_operator.values())),
        activations=int(activations),
    )


def _network_and_no_images(spec: NetSpec, image_size: int) -> tuple[Network, Tensor]:
    """Returns the network in evaluation mode, and a batch (0, in_channels, H, W) of no images.

    To draw weights and to convolve would take most of the time, and counting needs neither. So the
    weights stay as the memory happens to be, and the network runs on a batch of none: every tensor
    in it then has the shape it would have, but for the 0, and nothing is computed. Layers of one's
    own need not bear either, so that with them it is a network like any other, and one image.
    """
    import torch

    from modernize.network import Network

    if spec.custom_layers:
        network = Network(spec)
        return network.eval(), torch.zeros(1, spec.in_channels, image_size, image_size)
    with torch.device("meta"):  # which fvcore cannot trace, so only to build
        network = Network(spec)
    images = torch.empty(0, spec.in_channels, image_size, image_size)
    return network.to_empty(device="cpu").eval(), images


@contextlib.contextmanager
def _fvcore() -> Iterator[Any]:
    """Gives ``fvcore.nn`` to count with, without gradients and without torch's warnings of it."""
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        # fvcore traces with torch.jit, and scripts a loss with it as it is imported; newer
        # versions of torch warn that it is deprecated.
        warnings.filterwarnings("ignore", message=r".*torch\.jit")
        yield importlib.import_module("fvcore.nn")


def _analysis(kind: Any, network: Network, images: Tensor) -> Any:
    """Returns one of fvcore's analyses, which counts one image where it has traced none."""

    class OfOneImage(kind):  # type: ignore[misc]  # fvcore has no types
        def set_op_handle(self, **handles: Callable[..., Any]) -> Any:
            return super().set_op_handle(**{name: _of_one(h) for name, h in handles.items()})

    # Operators that count nothing, and modules without any, are no news.
    analysis = OfOneImage(network, images)
    return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)


def _of_one(handle: Callable[..., Any]) -> Callable[..., Any]:
    """Lets one of fvcore's handles see a batch of one image for a batch of none."""
    return lambda inputs, outputs: handle([*map(_Value, inputs)], [*map(_Value, outputs)])


class _Value:
    """A value in a traced graph, as far as fvcore's handles ask for it."""

    def __init__(self, value: Any) -> None:
        self._value = value
        self.isCompleteTensor = value.isCompleteTensor
        self.toIValue = value.toIValue

    def type(self) -> _Value:
        return self

    def sizes(self) -> list[int]:
        return [size or 1 for size in self._value.type().sizes()]


def _both(
    name: str, flops_of: Callable[..., Any], outputs_of: Callable[..., Any]
) -> Callable[..., Counter[str]]:
    """Joins two of fvcore's handles, so that one trace counts an operator's FLOPs and outputs."""

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        flops = flops_of(inputs, outputs)  # a number, or a Counter with the operator's name
        return Counter(
            {
                name: flops[name] if isinstance(flops, Counter) else flops,
                _ACTIVATIONS: outputs_of(inputs, outputs),
            }
        )

    return handle


# -- the counts on disk --------------------------------------------------------------------------


def cache_path() -> Path:
    """Returns the file of the counts that hold for this code and these libraries."""
    return cache.cache_folder() / f"cost-{_fingerprint()}.json"


@functools.cache
def _fingerprint() -> str:
    here = Path(__file__)
    return cache.fingerprint(map(here.with_name, _COUNTED_SOURCES), _COUNTED_PACKAGES)
