from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np

from gensoup.bench.doctor import Mark
from gensoup.bench.doctor.plausible import Plausibility, measure, plausible_line
from gensoup.runtime import Classifier, Prediction


class Slow:
    """A real classifier that takes ``seconds`` more for each frame."""

    def __init__(self, real: Classifier, seconds: float) -> None:
        self.real, self.engine = real, real.engine
        self.seconds = seconds

    def __call__(self, frame: np.ndarray) -> Prediction:
        time.sleep(self.seconds)
        return self.real(frame)


def test_an_engine_of_20_ms_is_not_plausible(tiny_bundle: Path) -> None:
    real = Classifier.load(tiny_bundle, "onnxruntime-cpu", threads=1)
    found = measure(Slow(real, 0.02), "a slow one", "none", seconds=0.5)
    assert not found.plausible and found.p50_ms > 20 and found.frames == 32
    line = plausible_line(found)
    assert line.mark is Mark.RED and "a slow one on none: p50" in line.text


def test_the_limit_is_that_of_training() -> None:
    def found(p95: float, taken: float = 0.0) -> Plausibility:
        return Plausibility("n", "e", 5.0, p95, 96, 0, taken)

    assert found(13.2).plausible and not found(13.3).plausible and not found(math.inf).plausible
    assert found(math.inf).to_dict()["p95_ms"] is None
    assert plausible_line(found(13.2)).mark is Mark.GOOD
    assert "others took 40% of the cores' time" in plausible_line(found(20.0, 0.4)).text
