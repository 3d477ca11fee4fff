"""Frames with known answers, by which every device proves preprocessing and engine before the first real frame."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.archive import DEFLATED, STORED, Archive, one_line
from gensoup.runtime.errors import BundleError

GOLDEN_FILE = "golden.npz"
MAX_GOLDEN_BYTES = 64 << 20  # packed as well as unpacked; ours have 5 MB
_MOST_ARRAYS, _LONGEST_SIDE = 64, 8192


@dataclass(frozen=True)
class Golden:
    """Frames with known answers, opened on every device before the bundle is used.

    camera_frames: BGR uint8 arrays [h, w, 3] of odd sizes and 1080p.
    frames: uint8 [N, H, W, 3], what preprocessing must make of them (at most one grey level apart).
    probabilities: float32 [N, K], what the reference makes of ``frames``.
    """

    camera_frames: tuple[NDArray[np.uint8], ...]
    frames: NDArray[np.uint8]
    probabilities: NDArray[np.float32]

    def to_npz(self) -> bytes:
        """The bytes of ``golden.npz``."""
        buffer = io.BytesIO()
        cameras = {f"camera_{index}": frame for index, frame in enumerate(self.camera_frames)}
        np.savez_compressed(buffer, allow_pickle=False, frames=self.frames, probabilities=self.probabilities, **cameras)
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> Golden:
        """The inverse of :meth:`to_npz`. Raises BundleError when arrays are missing, or of the wrong shape or size."""
        try:
            arrays = Archive(
                content, comment=0, most=_MOST_ARRAYS, unpacked=MAX_GOLDEN_BYTES, methods=(STORED, DEFLATED)
            )

            def array(name: str) -> NDArray[Any]:
                return _array(arrays.read(f"{name}.npy", MAX_GOLDEN_BYTES))

            frames, probabilities = array("frames"), array("probabilities")
            cameras = tuple(array(f"camera_{index}") for index in range(len(frames)))
        except BundleError as error:
            raise BundleError(f"malformed {GOLDEN_FILE} ({error})") from error
        except Exception as error:  # numpy raises many kinds on foreign bytes, SyntaxError too
            raise BundleError(f"malformed {GOLDEN_FILE} ({one_line(error)})") from error
        if frames.ndim != 4 or probabilities.ndim != 2 or len(frames) == 0 or len(frames) != len(probabilities):
            raise BundleError(f"malformed {GOLDEN_FILE} (no frames, or not one row of probabilities a frame)")
        for image in (*frames, *cameras):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise BundleError(f"malformed {GOLDEN_FILE} (frames must be uint8 [height, width, 3])")
            if not 1 <= min(image.shape) <= max(image.shape) <= _LONGEST_SIDE:
                raise BundleError(f"malformed {GOLDEN_FILE} (frames must have 1 to {_LONGEST_SIDE} pixels a side)")
        if probabilities.dtype != np.float32:
            raise BundleError(f"malformed {GOLDEN_FILE} (probabilities must be float32)")
        return cls(cameras, frames, probabilities)


def _array(content: bytes) -> NDArray[Any]:
    """One array of an npz. Its header is believed only where it speaks of exactly the bytes that follow."""
    stream = io.BytesIO(content)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, by_column, dtype = read_header[np.lib.format.read_magic(stream)](stream)
    if by_column or dtype.hasobject:
        raise ValueError("arrays must be in C order and hold numbers")
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell() or min(shape, default=0) < 0:
        raise ValueError("an array's size is not that of its bytes")
    return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape)
