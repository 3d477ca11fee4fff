"""The closed form against Grad-CAM by differentiation, for every architecture; and whether it points right."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from gensoup.export.architectures import build
from gensoup.export.batch_norm import reestimate_batch_norm
from gensoup.export.graph import ExplainedGraph, standardise, to_onnx, to_planes
from gensoup.export.names import ARCHITECTURES
from gensoup.export.saliency import ClassActivation, SaliencyRange
from gensoup.export.saliency_calibration import calibrate, dark_frames, describe
from gensoup.runtime.engines import load_engine
from gensoup.runtime.sources.synthetic import LABELS, SyntheticEndoscope

SIZE = 128
# The module whose output is the last feature map, named by hand: what the library finds by itself must agree.
LAST_MAP = {
    "regnet_x_400mf": "trunk_output",
    "regnet_y_400mf": "trunk_output",
    "mnasnet1_0": "layers",
    "shufflenet_v2_x1_0": "conv5",
    "shufflenet_v2_x1_5": "conv5",
    "shufflenet_v2_x2_0": "conv5",
    "resnet18": "layer4",
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def endoscopy(count: int, size: int) -> NDArray[np.uint8]:
    """Drawn frames, network inputs uint8 [N, size, size, 3]."""
    return np.stack(
        [SyntheticEndoscope(seed, LABELS[seed % len(LABELS)], size, size).frame(0.0) for seed in range(count)]
    )


def planes_of(frames: NDArray[np.uint8]) -> Tensor:
    return standardise(to_planes(torch.from_numpy(frames)))


def settled(model: nn.Module, frames: NDArray[np.uint8]) -> nn.Module:
    """Random weights, but statistics of batch norm that fit: else a fresh network sees nothing at all."""
    reestimate_batch_norm(model, frames, torch.device("cpu"))
    return model.eval()


def grad_cam(model: nn.Module, layer: str, planes: Tensor, index: Tensor | None = None) -> NDArray[np.float32]:
    """Grad-CAM's map before its ReLU, [N, h, w], by automatic differentiation at a layer's output."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        kept.append(output)
        return output.clone()  # later layers may work in place

    hook = model.get_submodule(layer).register_forward_hook(keep)
    try:
        logits = model(planes)
    finally:
        hook.remove()
    chosen = logits.argmax(1) if index is None else index
    (slope,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), kept[0])
    return np.asarray((slope.mean((2, 3), keepdim=True) * kept[0]).sum(1).detach().numpy())


def check_equal(name: str, model: nn.Module, frames: NDArray[np.uint8]) -> None:
    layer = LAST_MAP.get(name, "features")
    with torch.inference_mode():
        logits, evidence = ClassActivation(model).eval()(planes_of(frames))
        torch.testing.assert_close(logits, model(planes_of(frames)), rtol=0, atol=0)
    expected = grad_cam(model, layer, planes_of(frames))
    assert evidence.shape == expected.shape and evidence.shape[1] > 1
    for got, wanted in zip(evidence.numpy(), expected, strict=True):
        assert np.ptp(wanted) > 1e-3 * np.abs(wanted).max()  # a map without structure has no ranks
        assert spearmanr(got, wanted, axis=None).statistic > 0.99
        np.testing.assert_allclose(got, wanted * wanted.size, rtol=0, atol=1e-4 * np.abs(wanted).max() * wanted.size)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_closed_form_is_grad_cam(name: str) -> None:
    torch.manual_seed(0)
    frames = endoscopy(8, SIZE)
    check_equal(name, settled(build(name, 5), frames), frames[:3])


def test_of_other_torchvision_classifiers_too() -> None:
    frames = endoscopy(4, SIZE)
    for name in ("resnet18", "alexnet"):  # a plain head; one that pools to 6 × 6 and has two hidden layers
        torch.manual_seed(0)
        check_equal(name, settled(build(name, 5), frames), frames[:2])


def test_of_any_class_that_is_asked_about() -> None:
    frames = endoscopy(4, SIZE)
    torch.manual_seed(0)
    model = settled(build("mobilenet_v3_small", 5), frames)
    for index in range(5):
        asked = torch.full((4,), index)
        with torch.inference_mode():
            _, evidence = ClassActivation(model).eval()(planes_of(frames), asked)
        expected = grad_cam(model, "features", planes_of(frames), asked)
        np.testing.assert_allclose(evidence.numpy() / expected[0].size, expected, atol=1e-4 * np.abs(expected).max())


class _MaxPooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, planes: Tensor) -> Tensor:
        return self.fc(self.features(planes).amax((2, 3)))  # type: ignore[no-any-return]


class _Untraceable(nn.Module):
    def forward(self, planes: Tensor) -> Tensor:
        return planes.mean((2, 3)) if planes.sum() > 0 else planes.amax((2, 3))


def test_a_network_that_admits_none_says_why() -> None:
    rectified = build("squeezenet1_1", 2)
    rectified.classifier[2] = nn.ReLU()
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    for model, reason in (
        (build("vit_b_16", 2), "no derivative is known of a step of its head (getitem)"),
        (_MaxPooled(), "no derivative is known of a step of its head (amax)"),
        (_Untraceable(), "cannot be traced"),
        (rectified, "logits do not come from a linear layer"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), "no average-pooled feature map"),
    ):
        shown, stated = describe(model, frames)
        assert shown is None
        assert stated["available"] is False and reason in stated["reason"], stated


def small_convnext(classes: int) -> nn.Module:
    """ConvNeXt's blocks and head, few of them."""
    return ConvNeXt(
        [CNBlockConfig(16, 32, 1), CNBlockConfig(32, 48, 1), CNBlockConfig(48, None, 1)], num_classes=classes
    )


@pytest.mark.parametrize(
    "name",
    [
        "hardswish",
        "convnext",
        "squeezenet1_1",
        pytest.param("mobilenet_v3_small", marks=pytest.mark.slow),
        pytest.param("shufflenet_v2_x0_5", marks=pytest.mark.slow),
    ],
)
def test_the_graph_gives_grad_cam_and_the_same_probabilities_to_the_bit(name: str) -> None:
    frames = endoscopy(6, SIZE)
    torch.manual_seed(0)
    small = {"convnext": small_convnext, "hardswish": _Net}  # the same heads, graphs that are written in a second
    model = settled(small[name](3) if name in small else build(name, 3), frames)
    layer = {"shufflenet_v2_x0_5": "conv5"}.get(name, "features")
    expected = np.maximum(grad_cam(model, layer, planes_of(frames)), 0)
    top = float(expected.max() * expected[0].size)
    shown = SaliencyRange((0.0,) * 3, (top,) * 3, (int(expected.shape[1]), int(expected.shape[2])), 0)
    plain, engine = load_engine(to_onnx(model, 1.3, SIZE), 1), load_engine(to_onnx(model, 1.3, SIZE, shown), 1)
    compared = 0
    for frame, wanted in zip(frames, expected, strict=True):
        probabilities, saliency = engine.explain(frame)
        np.testing.assert_array_equal(probabilities, plain.infer(frame))
        np.testing.assert_array_equal(engine.infer(frame), probabilities)
        assert saliency.dtype == np.float32 and saliency.shape == shown.size
        np.testing.assert_allclose(saliency, wanted * wanted.size / top * probabilities.max(), atol=1e-4)
        if np.count_nonzero(wanted) > 3:  # what the ReLU silences has no ranks
            assert spearmanr(saliency, wanted, axis=None).statistic > 0.9
            compared += 1
    assert compared >= 3


class _Net(nn.Module):
    """A few convolutions under the head of MobileNetV3: learns colours in seconds."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths = (3, 12, 24, 32)
        blocks = [
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
            for a, b in pairwise(widths)
        ]
        self.features, self.avgpool = nn.Sequential(*blocks), nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(32, 32), nn.Hardswish(inplace=True), nn.Dropout(), nn.Linear(32, classes)
        )

    def forward(self, planes: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(planes)).flatten(1))  # type: ignore[no-any-return]


def planted(count: int, seed: int, size: int = 64) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Drawn mucosa with one patch of 14 px: class 0 bluish, 1 greenish. Frames, classes, centres [N, 2]."""
    rng = np.random.default_rng(seed)
    frames = np.stack(
        [SyntheticEndoscope(int(rng.integers(1 << 30)), LABELS[0], size, size).frame(0.0) for _ in range(8)]
    )
    frames = frames[rng.integers(0, 8, count)].copy()
    classes, centres = rng.integers(0, 2, count), rng.integers(8, size - 8, (count, 2))
    for frame, index, (row, column) in zip(frames, classes, centres, strict=True):
        patch = frame[row - 7 : row + 7, column - 7 : column + 7]
        patch[..., index] = np.maximum(patch[..., index], rng.integers(170, 250, patch.shape[:2]))
    return frames, classes.astype(np.int64), centres


@pytest.fixture(scope="module")
def taught() -> nn.Module:
    torch.manual_seed(0)
    model = _Net(2)
    frames, classes, _ = planted(512, seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    rng = np.random.default_rng(0)
    for _ in range(100):
        batch = rng.choice(len(frames), 32, replace=False)
        loss = nn.functional.cross_entropy(model(planes_of(frames[batch])), torch.from_numpy(classes[batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def explained(taught: nn.Module) -> ExplainedGraph:
    return ExplainedGraph(taught, 1.0, calibrate(taught, planted(128, seed=2)[0])).eval()


def test_the_peak_lies_on_what_was_planted(explained: ExplainedGraph) -> None:
    frames, classes, centres = planted(100, seed=3)
    with torch.inference_mode():
        probabilities, saliency = (answer.numpy() for answer in explained(torch.from_numpy(frames)))
    right = probabilities.argmax(1) == classes
    assert right.mean() > 0.9
    cell = frames.shape[1] / saliency.shape[1]
    peaks = np.stack(np.unravel_index(saliency.reshape(100, -1).argmax(1), saliency.shape[1:]), 1)
    apart = np.abs((peaks + 0.5) * cell - centres).max(1)
    assert (apart[right] <= 7 + cell / 2).mean() > 0.95  # on the patch, to half a cell; by chance 1 in 10
    assert 0.5 < np.median(saliency[right].max((1, 2))) <= 1.0
    far = np.abs((np.stack(np.mgrid[0:8, 0:8], -1)[None] + 0.5) * cell - centres[:, None, None]).max(-1) > 20
    assert saliency[right][far[right]].mean() < 0.1


def test_dark_frames_stay_dark_whatever_the_network_says_of_them(taught: nn.Module, explained: ExplainedGraph) -> None:
    unseen = np.random.default_rng(99).integers(0, 11, (8, 64, 64, 3), dtype=np.uint8)
    dark = np.concatenate([dark_frames(64), np.full((1, 64, 64, 3), 8, np.uint8), unseen])
    with torch.inference_mode():
        assert float(explained(torch.from_numpy(dark))[1].max()) < 0.1
    last = taught.classifier[3]
    assert isinstance(last, nn.Linear)
    biased = _Net(2)
    biased.load_state_dict(taught.state_dict())
    with torch.no_grad():  # black now speaks for class 0 as loudly as a patch does
        _, entry = ClassActivation(biased).network(planes_of(dark[:1]))[:2]
        hidden = biased.classifier[1](biased.classifier[0](entry.mean((2, 3))))[0]
        biased.classifier[3].weight[0] += 12 * hidden / hidden.square().sum()
    biased.eval()
    with torch.inference_mode():
        logits, evidence = ClassActivation(biased).eval()(planes_of(dark[:1]))
        shown = calibrate(biased, planted(64, seed=2)[0] // 12)  # of a run on underexposed images
        loud = float(evidence.max()) * shown.gain()[0] * float(logits.softmax(1).amax())
        assert loud > 0.3 and int(logits.argmax()) == 0  # what a frame would show whose class had no floor
        assert float(ExplainedGraph(biased, 1.0, shown).eval()(torch.from_numpy(dark))[1].max()) < 0.1


def test_the_range_is_of_the_training_frames_not_of_the_frame(taught: nn.Module) -> None:
    frames = planted(64, seed=4)[0]
    shown = calibrate(taught, frames)
    assert shown.size == (8, 8) and shown.frames == 64
    assert all(top >= 2 * floor >= 0 for floor, top in zip(shown.floor, shown.top, strict=True))
    with torch.inference_mode():
        logits, evidence = ClassActivation(taught).eval()(planes_of(frames))
        _, saliency = ExplainedGraph(taught, 1.0, shown).eval()(torch.from_numpy(frames))
    winners, peaks = logits.argmax(1).numpy(), evidence.amax((1, 2)).numpy()
    for index in range(2):
        assert shown.top[index] == pytest.approx(np.percentile(peaks[winners == index], 90), rel=1e-4)
    full = saliency.amax((1, 2)).numpy() / logits.softmax(1).amax(1).numpy()
    assert (full >= 1 - 1e-5).mean() == pytest.approx(0.1, abs=0.05)  # the strongest tenth; the others stay below


def test_a_class_without_evidence_stays_dark_and_a_network_without_any_has_no_maps(taught: nn.Module) -> None:
    assert SaliencyRange((0.0, 1.0), (0.0, 3.0), (4, 4), 9).gain() == (0.0, 0.5)
    silent = _Net(2)
    for weight in silent.classifier.parameters():
        nn.init.zeros_(weight)
    shown, stated = describe(silent, planted(8, seed=5)[0])
    assert shown is None and stated == {"available": False, "reason": "no training frame gives its class any evidence"}
