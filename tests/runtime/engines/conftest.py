"""Small graphs of every kind that bundles hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

SIZE, CHANNELS, CLASSES = 32, 16, 3


def make_graph(precision: str = "fp32", saliency: bool = False, seed: int = 0, size: int = SIZE) -> bytes:
    """Cast → transpose → scale → two convolutions → mean → softmax, in fp32, fp16 (float32 outputs) or int8.

    int8: Q/DQ around the convolutions only, per-channel weights, no quantised biases. saliency: the second output,
    the sigmoid of the features' mean over channels.
    """
    rng = np.random.default_rng(seed)
    float_type, dtype = (TensorProto.FLOAT16, np.float16) if precision == "fp16" else (TensorProto.FLOAT, np.float32)
    weights: dict[str, Any] = {
        "scale": np.array(1 / 255, dtype),
        "w1": rng.normal(0, 0.5, (CHANNELS, 3, 3, 3)).astype(dtype),
        "w2": rng.normal(0, 0.2, (CHANNELS, CHANNELS, 3, 3)).astype(dtype),
        "w3": rng.normal(0, 0.5, (CHANNELS, CLASSES)).astype(dtype),
        "space": np.array([2, 3], np.int64),
        "channels": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], "cast", to=float_type),
        helper.make_node("Transpose", ["float"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["scaled"], "scale_it"),
    ]

    def convolution(number: int, source: str, largest: float) -> str:
        weight, name = f"w{number}", f"conv{number}"
        if precision == "int8":
            channel_scale = np.abs(weights[weight]).max((1, 2, 3)) / np.float32(127)
            quantised = np.round(weights.pop(weight) / channel_scale[:, None, None, None]).astype(np.int8)
            weights[f"{weight}_q"] = quantised
            weights[f"{weight}_scale"] = channel_scale.astype(np.float32)
            weights[f"{weight}_zero"] = np.zeros(CHANNELS, np.int8)
            weights[f"{name}_scale"], weights[f"{name}_zero"] = (
                np.array(largest / 127, np.float32),
                np.array(0, np.int8),
            )
            around = [f"{name}_scale", f"{name}_zero"]
            nodes.extend(
                [
                    helper.make_node("QuantizeLinear", [source, *around], [f"{name}_q"], f"{name}_quantise"),
                    helper.make_node("DequantizeLinear", [f"{name}_q", *around], [f"{name}_d"], f"{name}_dequantise"),
                    helper.make_node(
                        "DequantizeLinear",
                        [f"{weight}_q", f"{weight}_scale", f"{weight}_zero"],
                        [f"{weight}_d"],
                        f"{weight}_dequantise",
                        axis=0,
                    ),
                ]
            )
            source, weight = f"{name}_d", f"{weight}_d"
        nodes.append(helper.make_node("Conv", [source, weight], [f"{name}_out"], name, pads=[1] * 4, strides=[2, 2]))
        nodes.append(helper.make_node("Relu", [f"{name}_out"], [f"relu{number}"], f"relu{number}"))
        return f"relu{number}"

    features = convolution(2, convolution(1, "scaled", 1.0), 6.0)
    last = "probabilities" if precision != "fp16" else "half"
    nodes += [
        helper.make_node("ReduceMean", [features, "space"], ["mean"], "mean", keepdims=0),
        helper.make_node("MatMul", ["mean", "w3"], ["logits"], "head"),
        helper.make_node("Softmax", ["logits"], [last], "softmax", axis=1),
    ]
    if precision == "fp16":
        nodes.append(helper.make_node("Cast", ["half"], ["probabilities"], "up", to=TensorProto.FLOAT))
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, CLASSES])]
    if saliency:
        nodes += [
            helper.make_node("ReduceMean", [features, "channels"], ["map"], "map_mean", keepdims=0),
            helper.make_node("Sigmoid", ["map"], ["mapped"], "map_sigmoid"),
            helper.make_node("Cast", ["mapped"], ["saliency"], "map_cast", to=TensorProto.FLOAT),
        ]
        outputs.append(helper.make_tensor_value_info("saliency", TensorProto.FLOAT, [1, size // 4, size // 4]))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, size, size, 3])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def length_delimited(number: int, content: bytes) -> bytes:
    """A field of a protobuf message, as it stands in a file."""
    size, length = len(content), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


@pytest.fixture(scope="session")
def field() -> Callable[[int, bytes], bytes]:
    """Makes fields of protobuf messages: (number, content) → bytes."""
    return length_delimited


@pytest.fixture(scope="session")
def small_graph() -> Callable[..., bytes]:
    """Makes ONNX bytes: (precision="fp32", saliency=False, seed=0, size=32)."""
    return make_graph


@pytest.fixture
def frames() -> list[np.ndarray]:
    """Five network inputs."""
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(5)]
