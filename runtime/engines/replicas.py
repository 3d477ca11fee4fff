"""One engine for several threads: copies where the library has them, else one after the other."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.engines import Engine, Layer


@runtime_checkable
class Replicable(Protocol):
    """An engine that can be had several times without loading it anew from the bundle."""

    def replica(self) -> Engine:
        """The same network with the same settings, to be used by one other thread at the same time."""
        ...


def replicas_of(engine: Engine, count: int) -> list[Engine]:
    """``count`` engines, the given one among them, each for one thread, all at the same time.

    An engine that cannot be had twice, as those on a GPU, is shared in turns: while it runs one thread's frame, the
    others decode and resize theirs. Raises EngineError when a copy cannot be loaded.
    """
    if isinstance(engine, Replicable):
        return [engine, *(engine.replica() for _ in range(count - 1))]
    lock = threading.Lock()
    return [EngineInTurns(engine, lock) for _ in range(count)]


class EngineInTurns:
    """One thread's access to an engine that all share: it waits for its turn."""

    def __init__(self, engine: Engine, lock: threading.Lock) -> None:
        """``lock``: the same for all who share ``engine``."""
        self.name = engine.name
        self._engine = engine
        self._lock = lock

    def infer(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See :class:`gensoup.runtime.engines.Engine`."""
        with self._lock:
            return self._engine.infer(frame)

    def explain(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See :class:`gensoup.runtime.engines.Engine`."""
        with self._lock:
            return self._engine.explain(frame)

    def close(self) -> None:
        """See :class:`gensoup.runtime.engines.Engine`; closes it for all."""
        with self._lock:
            self._engine.close()

    def layers(self) -> Sequence[Layer]:
        """See :func:`gensoup.runtime.engines.inspect_engine`."""
        with self._lock:
            return self._engine.layers()
