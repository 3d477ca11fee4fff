"""Buffers for frames on their way, used again and again: fresh memory costs as much as the copy into it."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]


class FramePool:
    """As many buffers as are ever in use at once; those of another size go when one is asked for."""

    def __init__(self) -> None:
        self._spare: list[Frame] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Buffers that wait to be used again."""
        return len(self._spare)

    def take(self, shape: tuple[int, ...]) -> Frame:
        """A contiguous uint8 array of that shape, with anything in it."""
        with self._lock:
            while self._spare:
                buffer = self._spare.pop()
                if buffer.shape == shape:
                    return buffer
        return np.empty(shape, np.uint8)

    def give_back(self, buffer: Frame) -> None:
        """Let a buffer be used again; nobody may read it any more."""
        with self._lock:
            self._spare.append(buffer)
