"""The deployed graph: raw camera bytes in, probabilities out. Normalisation, layout and channel order live here."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import onnx
import torch
from torch import Tensor, nn

# ImageNet's statistics in RGB and grey levels: what torchvision's weights expect.
MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


def to_planes(frames: Tensor) -> Tensor:
    """uint8 BGR [N, H, W, 3] → float32 RGB [N, 3, H, W] in grey levels. The cast comes first: TensorRT wants that."""
    planes = frames.to(torch.float32).permute(0, 3, 1, 2)
    return planes.index_select(1, torch.tensor([2, 1, 0], device=frames.device))


def standardise(planes: Tensor) -> Tensor:
    """Grey levels, RGB [N, 3, H, W] → ImageNet's zero mean and unit variance."""
    mean = torch.tensor(MEAN, device=planes.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=planes.device).view(1, 3, 1, 1)
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


def to_onnx(model: nn.Module, temperature: float, size: int) -> bytes:
    """The ONNX graph of a classifier at ``size`` × ``size``, fp32, static shape."""
    graph = DeployGraph(model, temperature).eval()
    example = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph, (example,), dynamo=True, verbose=False, input_names=["frame"], output_names=["probabilities"]
        )
    assert program is not None
    proto = program.model_proto
    _strip_traces(proto)
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


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
