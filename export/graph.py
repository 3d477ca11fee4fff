"""The deployed graph: raw camera bytes in, probabilities out, and where the network looks.

Normalisation, layout and channel order live here.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import onnx
import torch
from torch import Tensor, nn

from gensoup.export.saliency import ClassActivation, SaliencyRange
from gensoup.export.transfer import constant

# ImageNet's statistics in RGB and grey levels: what torchvision's weights expect.
MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


def to_planes(frames: Tensor) -> Tensor:
    """uint8 BGR [N, H, W, 3] → float32 RGB [N, 3, H, W] in grey levels. The cast comes first: TensorRT wants that."""
    planes = frames.to(torch.float32).permute(0, 3, 1, 2)
    return planes.index_select(1, constant((2, 1, 0), frames.device))


def standardise(planes: Tensor) -> Tensor:
    """Grey levels, RGB [N, 3, H, W] → ImageNet's zero mean and unit variance."""
    mean, std = (constant(values, planes.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (planes - mean) / std


class DeployGraph(nn.Module):
    """``frame`` uint8 BGR [1, H, W, 3] → ``probabilities`` float32 [1, K]: softmax of logits over a temperature."""

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature

    def forward(self, frame: Tensor) -> Tensor:
        """Shapes as above; any batch size in PyTorch, one in the exported graph."""
        return torch.softmax(self.model(standardise(to_planes(frame))) / self.temperature, dim=1)


class ExplainedGraph(nn.Module):
    """:class:`DeployGraph` with a second output, ``saliency`` float32 [1, h, w] in [0, 1], for the winning class.

    It is the class's probability times its evidence within the range. Raises NoSaliencyError for some networks.
    """

    floor: Tensor
    gain: Tensor

    def __init__(self, model: nn.Module, temperature: float, shown: SaliencyRange) -> None:
        super().__init__()
        self.activation = ClassActivation(model)
        self.temperature = temperature
        self.register_buffer("floor", torch.tensor(shown.floor))
        self.register_buffer("gain", torch.tensor(shown.gain()))

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """Shapes as above; any batch size in PyTorch, one in the exported graph."""
        logits, evidence = self.activation(standardise(to_planes(frame)))
        probabilities = torch.softmax(logits / self.temperature, dim=1)
        index = logits.argmax(1)
        floor, gain = (values.index_select(0, index).view(-1, 1, 1) for values in (self.floor, self.gain))
        return probabilities, ((evidence - floor) * gain).clamp(0, 1) * probabilities.amax(1).view(-1, 1, 1)


def to_onnx(model: nn.Module, temperature: float, size: int, shown: SaliencyRange | None = None) -> bytes:
    """The ONNX graph of a classifier at ``size`` × ``size``, fp32, static shape.

    shown: adds ``saliency`` in this range; the nodes behind ``probabilities`` stay the same.
    """
    if shown is None:
        graph: nn.Module = DeployGraph(model, temperature).eval()
    else:
        graph = ExplainedGraph(model, temperature, shown).eval()
    outputs = ["probabilities"] if shown is None else ["probabilities", "saliency"]
    example = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph, (example,), dynamo=True, verbose=False, input_names=["frame"], output_names=outputs
        )
    assert program is not None
    proto = program.model_proto
    _strip_traces(proto)
    _rename_weights(proto, "activation.network.", "model.")
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


def _rename_weights(proto: onnx.ModelProto, before: str, after: str) -> None:
    """Give weights the names they have without saliency: other tools know layers by them."""
    names = [initializer.name for initializer in proto.graph.initializer if initializer.name.startswith(before)]
    renamed = {name: after + name.removeprefix(before) for name in names}
    for value in (*proto.graph.initializer, *proto.graph.value_info):
        value.name = renamed.get(value.name, value.name)
    for node in proto.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]


def _strip_traces(proto: onnx.ModelProto) -> None:
    """Take out the exporter's stack traces: paths of the machine it ran on, and most of a small file's bytes."""
    for node in proto.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for values in (proto.graph.value_info, proto.graph.input, proto.graph.output, proto.graph.initializer):
        for value in values:
            value.ClearField("metadata_props")
    proto.graph.ClearField("metadata_props")
    proto.ClearField("metadata_props")


@contextlib.contextmanager
def _quiet():  # type: ignore[no-untyped-def]
    """The exporter prints its steps and logs notes on opsets; neither helps the user of a finished tool."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
