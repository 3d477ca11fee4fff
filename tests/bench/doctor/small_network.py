"""Makes the small network of ``gensoup doctor``: ``python tests/bench/doctor/small_network.py`` writes it anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FILE = Path(__file__).resolve().parents[3] / "bench/doctor/small_network.onnx"
SIZE, CHANNELS, CLASSES = 224, 24, 2
# Output sizes of the convolutions after the first; they share their weights, so that the file stays small.
STRIDES = (2, 2, 1, 1, 1)


def small_network() -> onnx.ModelProto:
    """Cast, five convolutions of 3 × 3 with ReLU, mean, a convolution of 1 × 1 to two classes, softmax."""
    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        fan_in = int(np.prod(shape[1:]))
        return numpy_helper.from_array(rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["scaled"]),
        helper.make_node(
            "Conv", ["scaled", "first"], ["conv0"], strides=[2, 2], pads=[1, 1, 1, 1], kernel_shape=[3, 3]
        ),
        helper.make_node("Relu", ["conv0"], ["relu0"]),
    ]
    for number, stride in enumerate(STRIDES, 1):
        inner = helper.make_node(
            "Conv",
            [f"relu{number - 1}", "inner"],
            [f"conv{number}"],
            strides=[stride, stride],
            pads=[1, 1, 1, 1],
            kernel_shape=[3, 3],
        )
        nodes += [inner, helper.make_node("Relu", [f"conv{number}"], [f"relu{number}"])]
    nodes += [
        helper.make_node("GlobalAveragePool", [f"relu{len(STRIDES)}"], ["mean"]),
        helper.make_node("Conv", ["mean", "last"], ["logits"], kernel_shape=[1, 1]),
        helper.make_node("Flatten", ["logits"], ["flat"]),
        helper.make_node("Softmax", ["flat"], ["probabilities"], axis=1),
    ]
    constants = [
        numpy_helper.from_array(np.array(1 / 255, np.float32), "scale"),
        weights("first", CHANNELS, 3, 3, 3),
        weights("inner", CHANNELS, CHANNELS, 3, 3),
        weights("last", CLASSES, CHANNELS, 1, 1),
    ]
    graph = helper.make_graph(
        nodes,
        "small_network",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, CLASSES])],
        constants,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10, producer_name="gensoup"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def multiply_adds() -> int:
    """Of the convolutions."""
    side = SIZE // 2
    total = side * side * CHANNELS * 3 * 9
    for stride in STRIDES:
        side //= stride
        total += side * side * CHANNELS * CHANNELS * 9
    return total + CHANNELS * CLASSES


if __name__ == "__main__":
    FILE.write_bytes(small_network().SerializeToString(deterministic=True))
    print(f"{FILE}: {FILE.stat().st_size} bytes, {multiply_adds() / 1e6:.1f} M multiply-adds")
