"""Which layers stay in fp32 when the rest goes to int8: the most sensitive ones, as few as will do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.metrics import LEAST_PROBABILITY
from gensoup.export.int8 import Calibrated
from gensoup.export.layers import WeightedLayer
from gensoup.export.parity import Parity, engine_probabilities
from gensoup.runtime.console import StageProgress
from gensoup.runtime.engines import Engine, load_engine

SENSITIVITY_FRAMES = 32
# Beyond that little would be left in int8.
MOST_KEPT = 0.5


@dataclass(frozen=True, eq=False)
class Int8Choice:
    """The int8 graph that was settled on, accepted or not.

    kept: the layers left in fp32, the most sensitive first. parity: of ``model`` on the validation images.
    """

    model: bytes
    kept: tuple[WeightedLayer, ...]
    parity: Parity

    @property
    def accepted(self) -> bool:
        """Whether it may stand for the fp32 graph."""
        return self.parity.holds


def choose_int8(
    calibrated: Calibrated,
    training_frames: NDArray[np.uint8],
    judge: Callable[[bytes], Parity],
    engines: Callable[[bytes], Iterable[Engine]],
    progress: StageProgress | None = None,
) -> Int8Choice:
    """The int8 graph with the fewest layers in fp32 that ``judge`` accepts, found by halving.

    All layers go to int8 first. Where that is refused, they are ranked by the error each causes alone on training
    frames (uint8 BGR [N, H, W, 3], of which SENSITIVITY_FRAMES are taken), and 1, 2, 4, … of the worst are kept until
    the graph is accepted, then fewer again. Where none is accepted, the one that came closest.
    engines: opens a graph on every engine that has to run it.
    """
    report = progress or (lambda stage, done, total: None)
    names = [layer.node for layer in calibrated.layers]
    tried: dict[int, Int8Choice] = {}
    most_tries = 2 * len(names).bit_length()

    def attempt(count: int, ranked: Sequence[WeightedLayer]) -> Int8Choice:
        if count not in tried:
            kept = tuple(ranked[:count])
            model = calibrated.quantised([name for name in names if name not in {layer.node for layer in kept}])
            tried[count] = Int8Choice(model, kept, judge(model))
            report("int8", len(tried), most_tries)
        return tried[count]

    choice = attempt(0, ())
    if not choice.accepted:
        ranked = rank_layers(calibrated, training_frames, engines, report)
        refused, count, most = 0, 1, max(1, int(MOST_KEPT * len(names)))
        while not (choice := attempt(min(count, most), ranked)).accepted and count < most:
            refused, count = count, 2 * count
        accepted = len(choice.kept)
        while choice.accepted and accepted - refused > 1:
            middle = (accepted + refused) // 2
            if attempt(middle, ranked).accepted:
                choice, accepted = tried[middle], middle
            else:
                refused = middle
    report("int8", most_tries, most_tries)
    return choice if choice.accepted else min(tried.values(), key=lambda one: one.parity.shortfall)


def rank_layers(
    calibrated: Calibrated,
    training_frames: NDArray[np.uint8],
    engines: Callable[[bytes], Iterable[Engine]],
    progress: StageProgress | None = None,
) -> list[WeightedLayer]:
    """The layers by the error each causes when it alone is in int8, the worst first.

    The error is the mean Kullback–Leibler divergence, in nats, of the probabilities from fp32's, on the engine where it
    is largest: OpenVINO was seen to be wrong on layers that ONNX Runtime has right.
    """
    spread = np.linspace(0, len(training_frames) - 1, min(SENSITIVITY_FRAMES, len(training_frames))).round().astype(int)
    frames = training_frames[np.unique(spread)]
    expected = engine_probabilities(load_engine(calibrated.model), frames)
    errors = []
    for number, layer in enumerate(calibrated.layers):
        opened = engines(calibrated.quantised([layer.node]))
        errors.append(max(divergence(expected, engine_probabilities(engine, frames)) for engine in opened))
        if progress is not None:
            progress("sensitivity", number + 1, len(calibrated.layers))
    return [calibrated.layers[place] for place in np.argsort(-np.array(errors), kind="stable")]


def divergence(expected: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """Mean Kullback–Leibler divergence of probabilities [N, K], in nats; infinite where one is no number."""
    if not np.isfinite(got).all():
        return float("inf")
    before, after = (np.clip(part.astype(np.float64), LEAST_PROBABILITY, 1) for part in (expected, got))
    return float((before * np.log(before / after)).sum(1).mean())
