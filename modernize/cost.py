"""What a network costs: parameters, FLOPs and activations, counted on the built network by fvcore.

The convention, everywhere in this project, for one image:

* ``flops`` are the MACs of convolutions and linear layers. This is "FLOPs" in the paper's tables
  and in ours.
* ``flops_total`` is fvcore's default total. It adds 2 per element of a BatchNorm in evaluation
  mode, 5 per element of a LayerNorm and 1 per input element of the global average pooling;
  activations, additions, max pooling and Layer Scale count as nothing.
* ``activations`` are the outputs of all convolutions and linear layers, as fvcore's
  ``ActivationCountAnalysis`` counts them.
* ``params`` are all learned numbers.

A count is valid for one network, one image size, one version of this code and one version of torch
and fvcore. :func:`cost` caches it on disk under all of these, and reads it without torch.
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
    from torch import Tensor, nn

    from modernize.network import Network

_COUNTED_SOURCES = ("network.py", "ops.py", "spec.py", "cost.py")
_COUNTED_PACKAGES = ("torch", "fvcore")
_HEADLINE_OPERATORS = ("conv", "linear", "addmm")  # fvcore's names; addmm is also a linear layer
_ACTIVATIONS = "activations"


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of one image in one network; the module's docstring states the convention.

    Attributes:
        params: learned numbers.
        flops: MACs of convolutions and linear layers.
        flops_total: fvcore's default total, norms and global pooling included.
        activations: outputs of convolutions and linear layers.
    """

    params: int
    flops: int
    flops_total: int
    activations: int


def cost(spec: NetSpec, image_size: int) -> Cost:
    """Returns the cost of a network, from the cache on disk or else counted now.

    Args:
        spec: the network.
        image_size: height and width of the image in pixels.

    Raises:
        UsageError: for an image smaller than ``spec.total_stride``.
        CustomLayersError: if its custom layers are not loaded, or fail.
    """
    spec.check_image_size(image_size)
    key = f"{spec.without_training().digest()}-{image_size}"  # one count for all recipes
    return cache.cached(cache_path(), key, Cost, lambda: count(spec, image_size))


def count(spec: NetSpec, image_size: int) -> Cost:
    """Returns the cost of a network, counted on the built network once per process.

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

    Their FLOPs are fvcore's, so that they add up to ``flops_total``, with norms and pooling.

    Args:
        spec: the network.
        image_size: height and width of the image in pixels.
        depth: of the modules: 1 for the stages, 2 for the blocks, 3 for the parts of the blocks.

    Raises:
        UsageError: for an image smaller than ``spec.total_stride``.
    """
    with _analyses(spec, image_size) as (fvcore, flops, activations):
        rows = [
            f"{operator:<20} {number:>16,} {activations.by_operator()[operator]:>14,}"
            for operator, number in flops.by_operator().most_common()
        ]
        by_module = fvcore.flop_count_table(flops, max_depth=depth + 1, activations=activations)
    head = f"{'operator':<20} {'FLOPs':>16} {'activations':>14}"
    return "\n".join([head, *rows, "", str(by_module)])


@dataclasses.dataclass(frozen=True)
class Part:
    """The cost of one kind of operator or of one module, as counted by :func:`breakdown`.

    Attributes:
        kind: "operator" or "module".
        name: its name; empty for the whole network.
        flops, activations: of everything in it.
    """

    kind: str
    name: str
    flops: int
    activations: int


def parts(spec: NetSpec, image_size: int, depth: int = 2) -> list[Part]:
    """Returns the numbers of :func:`breakdown`: first the operators, then the modules."""
    with _analyses(spec, image_size) as (_, flops, activations):
        outputs, inside = activations.by_operator(), activations.by_module()
        operators = flops.by_operator().most_common()
        modules = [(n, m) for n, m in flops.by_module().items() if n.count(".") < depth]
        return [
            *(Part("operator", name, int(n), int(outputs[name])) for name, n in operators),
            *(Part("module", name, int(n), int(inside[name])) for name, n in modules),
        ]


def flops_by_module(spec: NetSpec, image_size: int) -> dict[str, int]:
    """Returns ``{module: its flops}`` of one network, as :class:`Cost` counts them.

    The keys are the paths of ``named_modules()``: ``"stages.2"`` is the third stage,
    ``"stages.2.blocks.1"`` its second block, ``""`` the whole network. The FLOPs of a module
    include those of all modules in it.

    Args:
        spec: the network.
        image_size: height and width of the image in pixels.

    Raises:
        UsageError: for an image smaller than ``spec.total_stride``.
    """
    with _analyses(spec, image_size) as (_, flops, _):
        counted = flops.by_module_and_operator()
    return {
        module: int(sum(operators.get(name, 0) for name in _HEADLINE_OPERATORS))
        for module, operators in counted.items()
    }


# -- counting ------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def _count(spec: NetSpec, image_size: int) -> Cost:
    """Returns all counts of a network."""
    network, images = _network_and_empty_batch(spec, image_size)
    return count_module(network, images, spec, f"be run on an image of {image_size} pixels")


def count_module(module: nn.Module, images: Tensor, spec: NetSpec, what: str) -> Cost:
    """Returns all counts of a module in evaluation mode, from one trace.

    Args:
        module: a network, or a part of it.
        images: (1, C, H, W), or (0, C, H, W) if it has no custom layers.
        spec: of the network.
        what: it is to do, for the message of an error.

    Raises:
        CustomLayersError: if its custom layers fail.
    """
    with _fvcore() as fvcore:
        flops_of, outputs_of = fvcore.jit_handles, fvcore.jit_handles.generic_activation_jit()
        handles = {
            "aten::_convolution": _combined("conv", flops_of.conv_flop_jit, outputs_of),
            "aten::linear": _combined("linear", flops_of.linear_flop_jit, outputs_of),
            "aten::addmm": _combined("addmm", flops_of.addmm_flop_jit, outputs_of),
        }
        analysis = _analysis(fvcore.FlopCountAnalysis, module, images).set_op_handle(**handles)
        with running(spec, what):
            by_operator = Counter(analysis.by_operator())
    activations = by_operator.pop(_ACTIVATIONS)
    return Cost(
        params=sum(p.numel() for p in module.parameters()),
        flops=int(sum(by_operator[name] for name in _HEADLINE_OPERATORS)),
        flops_total=int(sum(by_operator.values())),
        activations=int(activations),
    )


def _network_and_empty_batch(spec: NetSpec, image_size: int) -> tuple[Network, Tensor]:
    """Returns the network in evaluation mode and a batch (0, in_channels, H, W) of no images.

    Initial weights and convolutions would take most of the time, and counting needs neither. So the
    weights are uninitialised memory, and the network runs on a batch of size 0: each tensor then
    has its usual shape, except for the 0, and nothing is computed. Custom layers may not work with
    either, so a network with custom layers is initialised and gets one image.
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
    """Yields ``fvcore.nn``, with gradients off and without torch's warnings about it."""
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        # fvcore uses torch.jit to trace, and at import to script a loss; newer versions of torch
        # warn that it is deprecated.
        warnings.filterwarnings("ignore", message=r".*torch\.jit")
        yield importlib.import_module("fvcore.nn")


@contextlib.contextmanager
def _analyses(spec: NetSpec, image_size: int) -> Iterator[tuple[Any, Any, Any]]:
    """Yields ``fvcore.nn`` and its analyses of a network's FLOPs and activations."""
    spec.check_image_size(image_size)
    with _fvcore() as fvcore:
        network, images = _network_and_empty_batch(spec, image_size)
        flops = _analysis(fvcore.FlopCountAnalysis, network, images)
        yield fvcore, flops, _analysis(fvcore.ActivationCountAnalysis, network, images)


def _analysis(kind: Any, network: nn.Module, images: Tensor) -> Any:
    """Returns one of fvcore's analyses, modified to count one image for a batch of size 0."""

    class ForOneImage(kind):  # type: ignore[misc]  # fvcore has no types
        def set_op_handle(self, **handles: Callable[..., Any]) -> Any:
            return super().set_op_handle(**{name: _for_one_image(h) for name, h in handles.items()})

    # No warnings of operators without a count and modules that are not called.
    analysis = ForOneImage(network, images)
    return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)


def _for_one_image(handle: Callable[..., Any]) -> Callable[..., Any]:
    """Returns one of fvcore's handles, modified to see a batch of size 1 for one of size 0."""
    return lambda inputs, outputs: handle([*map(_Value, inputs)], [*map(_Value, outputs)])


class _Value:
    """A value in a traced graph, with the attributes that fvcore's handles use."""

    def __init__(self, value: Any) -> None:
        self._value = value
        self.isCompleteTensor = value.isCompleteTensor
        self.toIValue = value.toIValue

    def type(self) -> _Value:
        return self

    def sizes(self) -> list[int]:
        return [size or 1 for size in self._value.type().sizes()]


def _combined(
    name: str, flops_of: Callable[..., Any], outputs_of: Callable[..., Any]
) -> Callable[..., Counter[str]]:
    """Combines two of fvcore's handles: one trace counts an operator's FLOPs and outputs."""

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        flops = flops_of(inputs, outputs)  # a number, or a Counter with the operator's name
        return Counter(
            {
                name: flops[name] if isinstance(flops, Counter) else flops,
                _ACTIVATIONS: outputs_of(inputs, outputs),
            }
        )

    return handle


# -- the cache on disk ---------------------------------------------------------------------------


def cache_path() -> Path:
    """Returns the cache file of the counts that are valid for this code and these libraries."""
    return cache.cache_folder() / f"cost-{_fingerprint()}.json"


@functools.cache
def _fingerprint() -> str:
    here = Path(__file__)
    return cache.fingerprint(map(here.with_name, _COUNTED_SOURCES), _COUNTED_PACKAGES)
