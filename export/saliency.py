"""Where the network looks: a class activation map of the winning class, without gradients at run time.

Grad-CAM (Selvaraju et al., 2017) weighs the channels of the last feature map by the mean derivative of a class's logit
and keeps what is positive. Every network of the search space pools that map and sends it through a short head, so the
derivative has a closed form of a few ordinary operations; :class:`ClassActivation` adds them to the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from gensoup.runtime.errors import GenSoupError

# Derivatives of the activations that torchvision's heads use.
_SLOPES: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.Hardswish: lambda x: torch.where(x <= -3, 0.0, torch.where(x < 3, x / 3 + 0.5, 1.0)),
    nn.ReLU: lambda x: (x > 0).to(x.dtype),
    nn.Tanh: lambda x: 1 - x.tanh().square(),
}


class NoSaliencyError(GenSoupError):
    """The network admits no map in closed form; the text says why."""


@dataclass(frozen=True)
class SaliencyRange:
    """Per class, the evidence that is shown as 0 and as 1, before the probability scales it.

    floor: the most any cell of a dark frame gives for the class; top: what the strongest cell of nine in ten of the
        class's frames stays below, at least twice the floor. size: height and width of the map. frames: how many
        training frames it comes from.
    """

    floor: tuple[float, ...]
    top: tuple[float, ...]
    size: tuple[int, int]
    frames: int

    def gain(self) -> tuple[float, ...]:
        """Per class, 1 / (top − floor); 0 for a class that nothing speaks for, whose map stays dark."""
        return tuple(1 / (top - floor) if top > floor else 0.0 for floor, top in zip(self.floor, self.top, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """The manifest's ``saliency``."""
        ranges = {"floor": list(self.floor), "top": list(self.top)}
        return {"available": True, "size": list(self.size), **ranges, "frames": self.frames}


@dataclass(frozen=True)
class _Step:
    """A layer of the head and its place in the traced network."""

    node: fx.Node
    layer: nn.Module

    @property
    def bends(self) -> bool:
        """Whether its derivative depends on its input."""
        return isinstance(self.layer, (*_SLOPES, nn.LayerNorm))


class ClassActivation(nn.Module):
    """Standardised planes [N, 3, H, W] → logits [N, K] and the evidence [N, h, w] for one class each.

    Evidence is h·w times Grad-CAM before its ReLU: what a cell adds to the class's logit, to first order. Under a
    linear head the map's mean is the logit without its bias. ``model`` is left as it is, in eval mode.
    Raises NoSaliencyError for a network whose logits do not come from an average-pooled map through a known head.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        layers = dict(model.eval().named_modules())
        try:
            graph = _Tracer().trace(model)
        except Exception as error:  # tracing runs the network's own code
            raise NoSaliencyError("the network's code cannot be traced") from error
        output = next(node for node in graph.nodes if node.op == "output")
        features, steps = _head(output.args[0], layers)
        bending = [step for step in steps if step.bends]
        output.args = ((output.args[0], features, *(step.node.args[0] for step in bending)),)
        network = fx.GraphModule(model, graph)
        for step in bending:
            if getattr(step.layer, "inplace", False):  # it would overwrite the input its slope is taken from
                network.set_submodule(str(step.node.target), type(step.layer)())
        self.network = network
        # From the logits back to the features; a tuple, so that their weights are known by the network's names alone.
        self.steps = tuple(step.layer for step in steps)

    def forward(self, planes: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``index`` int64 [N]: the classes asked about; None: those with the largest logits."""
        logits, features, *inputs = self.network(planes)
        slope = self._slope(logits.argmax(1) if index is None else index, inputs)
        channels = features.shape[1]
        if slope.shape[1] != channels:  # pooled to several bins, as VGG does: a bin is a mean, so their slopes add up
            slope = slope.unflatten(1, (channels, -1)).sum(2)
        evidence = torch.matmul(slope.unsqueeze(1), features.flatten(2))
        return logits, evidence.unflatten(2, features.shape[2:]).squeeze(1)

    def _slope(self, index: Tensor, inputs: list[Tensor]) -> Tensor:
        """The derivative of logit ``index`` by each pooled feature [N, C]."""
        first, *rest = self.steps
        slope = _matrix(first).index_select(0, index)
        for layer in rest:
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                slope = slope @ _matrix(layer)
                continue
            entry = inputs.pop(0).flatten(1)
            if isinstance(layer, nn.LayerNorm):
                slope = _through_norm(layer, entry, slope)
            else:
                slope = slope * _SLOPES[type(layer)](entry)
        return slope


def _through_norm(layer: nn.LayerNorm, entry: Tensor, slope: Tensor) -> Tensor:
    """A layer normalisation's transposed Jacobian at its input ``entry`` [N, C], times the ``slope`` behind it."""
    centred = entry - entry.mean(1, keepdim=True)
    deviation = (centred.square().mean(1, keepdim=True) + layer.eps).sqrt()
    normal = centred / deviation
    if layer.weight is not None:
        slope = slope * layer.weight
    return (slope - slope.mean(1, keepdim=True) - normal * (slope * normal).mean(1, keepdim=True)) / deviation


def _matrix(layer: nn.Module) -> Tensor:
    """The weights [out, in] of a linear layer or a 1 × 1 convolution."""
    return cast(Tensor, layer.weight).flatten(1)


class _Tracer(fx.Tracer):
    """Layer normalisations stay whole, torchvision's variants too."""

    def is_leaf_module(self, layer: nn.Module, name: str) -> bool:
        return isinstance(layer, nn.LayerNorm) or super().is_leaf_module(layer, name)


def _head(logits: Any, layers: dict[str, nn.Module]) -> tuple[fx.Node, list[_Step]]:
    """The last feature map's node, and the layers behind it that have a derivative, from the logits back.

    A 1 × 1 convolution straight before a pool that gives the logits, as in SqueezeNet, belongs to the head: a mean and
    a linear map may change places.
    """
    steps: list[_Step] = []
    node, pool = logits, None
    while isinstance(node, fx.Node) and node.args:
        layer = layers[str(node.target)] if node.op == "call_module" else None
        if pool is None and (pool := _pool_size(node, layer)) is not None:
            if pool > 1 and not steps:
                break
        elif pool is not None and (steps or not (_passive(node, layer) or _pointwise(layer))):
            break
        elif not _passive(node, layer):
            if not (_pointwise(layer) or isinstance(layer, (nn.Linear, nn.LayerNorm, *_SLOPES))):
                raise NoSaliencyError(f"no derivative is known of a step of its head ({_name(node, layer)})")
            steps.append(_Step(node, cast(nn.Module, layer)))
        node = node.args[0]
    if pool is None or not isinstance(node, fx.Node):
        raise NoSaliencyError("its head follows no average-pooled feature map")
    if not steps or not (_pointwise(steps[0].layer) or isinstance(steps[0].layer, nn.Linear)):
        raise NoSaliencyError("its logits do not come from a linear layer")
    return node, steps


def _passive(node: fx.Node, layer: nn.Module | None) -> bool:
    """Whether a step only hands its values on, in eval mode."""
    return isinstance(layer, (nn.Dropout, nn.Identity, nn.Flatten)) or node.target in (torch.flatten, "flatten")


def _pointwise(layer: nn.Module | None) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups == 1 and {*layer.kernel_size, *layer.stride} == {1}


def _pool_size(node: fx.Node, layer: nn.Module | None) -> int | None:
    """The number of means an average pool over a map gives for each channel; None for any other step."""
    if node.target in (torch.mean, "mean"):
        return 1 if node.args[1:2] in (([2, 3],), ((2, 3),)) else None
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        size: Any = layer.output_size
    elif node.target is functional.adaptive_avg_pool2d:
        size = node.args[1]
    else:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    return int(height * width)


def _name(node: fx.Node, layer: nn.Module | None) -> str:
    return type(layer).__name__ if layer is not None else getattr(node.target, "__name__", str(node.target))
