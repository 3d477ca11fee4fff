"""A small network as a graph: quick to make, with layers that low precision can be made to hurt."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gensoup.export.parity import engine_probabilities
from gensoup.export.samples import Samples
from gensoup.runtime.engines import load_engine

SIZE, CLASSES, CHANNELS = 16, 3, 8


def network(gains: tuple[float, float] = (1.0, 1.0), outliers: tuple[float, ...] = ()) -> bytes:
    """See :func:`graph`; its classes are balanced on :func:`frames`."""
    return graph(gains, outliers, _sharpness(), _balance())


def frames() -> np.ndarray:
    """Textures of many colours, uint8 [120, 16, 16, 3]."""
    rng = np.random.default_rng(5)
    base = rng.integers(0, 216, (120, 1, 1, 3))
    return (base + rng.integers(0, 40, (120, SIZE, SIZE, 3))).astype(np.uint8)


@cache
def _soft() -> np.ndarray:
    """Logarithms of the probabilities before they are balanced and sharpened."""
    return np.log(engine_probabilities(load_engine(graph((1.0, 1.0), (), 0.2, np.zeros(CLASSES)), threads=1), frames()))


def _sharpness() -> float:
    return 0.2 * 3 / float(_soft().std(0).mean())


def _balance() -> np.ndarray:
    return -_soft().mean(0) * _sharpness() / 0.2


def graph(gains: tuple[float, float], outliers: tuple[float, ...], sharpness: float, balance: np.ndarray) -> bytes:
    """Three convolutions and a head, input ``frame``, output ``probabilities``; always the same function in fp32.

    gains: what the first convolution's weights are multiplied with and the second's divided by, and the second's and
    the third's: powers of two, so that fp32 gives the very same. outliers: for the second, third convolution, how much
    larger one channel of its input is than the others, made good by its weights.
    """
    rng = np.random.default_rng(3)
    shapes = [(CHANNELS, 3, 3, 3), (CHANNELS, CHANNELS, 3, 3), (CHANNELS, CHANNELS, 3, 3)]
    weights = [rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32) for shape in shapes]
    for number, gain in enumerate(gains):
        weights[number] *= np.float32(gain)
        weights[number + 1] /= np.float32(gain)
    for number, outlier in enumerate(outliers):
        weights[number][0] *= np.float32(outlier)
        weights[number + 1][:, 0] /= np.float32(outlier)
    head = (sharpness * rng.normal(0, 1, (CHANNELS, CLASSES))).astype(np.float32)
    constants: dict[str, np.ndarray] = {
        "middle": np.full((1, 1, 1, 1), 110, np.float32),
        "spread": np.full((1, 1, 1, 1), 60, np.float32),
        "axes": np.array([2, 3], np.int64),
        "balance": balance.astype(np.float32),
        "model.head.weight": head,
    }
    nodes = [
        helper.make_node("Cast", ["frame"], ["wide"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["wide"], ["planes"], name="planes", perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["planes", "middle"], ["centred"], name="centre"),
        helper.make_node("Div", ["centred", "spread"], ["x0"], name="spread"),
    ]
    for number, weight in enumerate(weights):
        name = f"model.conv{number}.weight"
        constants[name] = weight
        nodes += [
            helper.make_node("Conv", [f"x{number}", name], [f"y{number}"], name=f"conv{number}", pads=[1] * 4),
            helper.make_node("Relu", [f"y{number}"], [f"x{number + 1}"], name=f"relu{number}"),
        ]
    nodes += [
        helper.make_node("ReduceMean", ["x3", "axes"], ["pooled"], name="pool", keepdims=0),
        helper.make_node("Gemm", ["pooled", "model.head.weight", "balance"], ["logits"], name="head"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], name="softmax", axis=1),
    ]
    body = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="session")
def make_network() -> Callable[..., bytes]:
    """Makes graphs: (gains=(1, 1), outliers=()) → ONNX bytes."""
    return network


@pytest.fixture(scope="session")
def coloured_frames() -> np.ndarray:
    """Network inputs that the small network finds different, uint8 [120, 16, 16, 3]."""
    return frames()


@pytest.fixture(scope="session")
def expected(coloured_frames: np.ndarray) -> np.ndarray:
    """The small network's probabilities in fp32; every class wins somewhere."""
    probabilities = engine_probabilities(load_engine(network(), threads=1), coloured_frames)
    assert min(np.bincount(probabilities.argmax(1), minlength=CLASSES)) >= 10
    return probabilities


@pytest.fixture(scope="session")
def samples(coloured_frames: np.ndarray, expected: np.ndarray) -> Samples:
    """The frames as validation images in groups of two: the network is right on all of them."""
    count = len(coloured_frames)
    return Samples(
        tuple(f"class/{number:03d}.png" for number in range(count)),
        coloured_frames,
        expected.argmax(1).astype(np.int64),
        tuple("soup" if number % 3 == 0 else "search" for number in range(count)),
        tuple(str(number // 2) for number in range(count)),
    )
