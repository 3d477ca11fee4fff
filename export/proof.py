"""The proof of a graph: the engines of this machine beside the trained network, on the run's validation images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gensoup.export.half import rounding
from gensoup.export.parity import Parity, compare, engine_probabilities
from gensoup.export.parity_page import Compared, worst_frames
from gensoup.export.samples import Samples
from gensoup.runtime.engines import Engine, load_engine, precisions_run
from gensoup.runtime.engines.catalogue import open_engine

SIMULATED = "fp16 arithmetic, simulated"


@dataclass(frozen=True, eq=False)
class Proof:
    """What every graph is compared with.

    expected: the reference's probabilities float32 [N, K] on ``samples``. engines: names of those that must agree.
    """

    expected: NDArray[np.float32]
    samples: Samples
    labels: tuple[str, ...]
    engines: tuple[str, ...]

    def open(self, model: bytes, precision: str) -> Iterator[Engine]:
        """Each engine with ``model`` loaded, the reference engine first, one at a time."""
        for name in self.engines:
            yield open_engine(name, model, precision)

    def judge_int8(self, model: bytes) -> Parity:
        """The parity of the engine that is worst at an int8 graph."""
        return max(
            (
                self._parity(engine.name, engine_probabilities(engine, self.samples.frames), "int8")
                for engine in self.open(model, "int8")
            ),
            key=lambda parity: (parity.shortfall, parity.mcc_loss_upper),
        )

    def compared(self, model: bytes, precision: str) -> Iterator[Compared]:
        """Parity and worst frames on every engine, and what it runs in; of fp16 also in an arithmetic that overflows as
        a GPU's does."""
        for engine in self.open(model, precision):
            one = self._compared(engine.name, engine, precision)
            yield replace(one, parity=replace(one.parity, ran=precisions_run(engine)))
        if precision == "fp16":
            yield self._compared(SIMULATED, load_engine(rounding(model)), precision)

    def _compared(self, name: str, engine: Engine, precision: str) -> Compared:
        got = engine_probabilities(engine, self.samples.frames)
        return Compared(self._parity(name, got, precision), worst_frames(self.expected, got, self.samples, self.labels))

    def _parity(self, name: str, got: NDArray[np.float32], precision: str) -> Parity:
        return compare(self.expected, got, self.samples, precision=precision, engine=name)


def largest_difference(engines: Iterable[Engine], frames: NDArray[np.uint8], expected: NDArray[np.float32]) -> float:
    """The largest difference of a probability on network inputs uint8 [N, H, W, 3], over several engines.

    NaN where any of them gives what is no number.
    """
    return float(np.max([np.abs(engine_probabilities(engine, frames) - expected).max() for engine in engines]))
