"""What ``gensoup run`` keeps of the results: counts, lines, pictures for the video, the recording and the view."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.annotated_video import AnnotatedVideo
from gensoup.runtime.events import Event
from gensoup.runtime.files import write_error, write_whole
from gensoup.runtime.recording import Recording
from gensoup.runtime.replay_smoother import ReplaySmoother
from gensoup.runtime.result import Result
from gensoup.runtime.result_line import json_line, result_values
from gensoup.runtime.smoothing_lag import LagMeter
from gensoup.runtime.tally import Tally

if TYPE_CHECKING:
    from gensoup.runtime.view import View

_KEPT_EVENTS = 20
# In real time frames wait for their results, but not all of them while an engine hangs: dropped ones are among them.
_KEPT_BYTES, _KEPT_LEAST = 256 << 20, 4


@dataclass(frozen=True)
class Takers:
    """Who takes results and their frames, None where nobody asked. replay smooths what comes without a smoother."""

    video: AnnotatedVideo | None = None
    recording: Recording | None = None
    view: View | None = None
    replay: ReplaySmoother | None = None
    lag: LagMeter | None = None


class RunRecord:
    """Takes results in the sink thread: counts, writes lines, passes frames on to those who take them."""

    def __init__(self, json_out: Path | None, takers: Takers, stack: ExitStack, *, realtime: bool = False) -> None:
        """realtime: frames may be dropped, so that no more than 256 MiB of them are kept for their results.

        Raises WriteError where ``json_out`` cannot be written; ``stack`` closes it.
        """
        self.states: Counter[str] = Counter()
        self.latencies = Tally()  # ms
        self.ages = Tally()
        self.failure = ""
        self.events: list[Event] = []
        self._json_out = json_out
        self._file = None
        if json_out is not None:
            try:
                self._file = stack.enter_context(json_out.open("wb", buffering=0))
            except OSError as error:
                raise write_error(json_out, error, "--json") from error
        self._takers = takers
        self._realtime = realtime
        self._frames: dict[int, NDArray[np.uint8]] = {}
        self._first_push = math.inf
        self._last_done = -math.inf

    def expect(self, frame_id: int, frame: NDArray[np.uint8]) -> None:
        """Keep a frame until its result comes, where it is shown; to be called before it is pushed."""
        to = self._takers
        if to.replay is not None:
            to.replay.expect(frame_id, frame)
        if to.view is not None:
            to.view.expect(frame_id, frame)
        if to.video is not None or to.recording is not None:
            self._frames[frame_id] = frame
            most = max(_KEPT_LEAST, _KEPT_BYTES // max(1, frame.nbytes))
            while self._realtime and len(self._frames) > most:
                self._frames.pop(next(iter(tuple(self._frames)), frame_id), None)

    def drop(self, frame_id: int) -> None:
        """Let go of a frame that has no result to come."""
        self._frames.pop(frame_id, None)

    def add(self, result: Result) -> None:
        """Take a result; frames before it that have none were dropped, and are let go."""
        to = self._takers
        if to.replay is not None:
            result = to.replay.smoothed(result)
        if to.lag is not None:
            to.lag.add(result)
        self.states[result.state.value] += 1
        self._first_push = min(self._first_push, result.pushed_at)
        self._last_done = result.done_at
        if result.prediction is not None:
            self.latencies.add(result.latency_ms)
            self.ages.add(result.age_ms)
        self.failure = self.failure or result.error
        self._write(result)
        if to.view is not None:
            to.view.add(result)
        if to.video is None and to.recording is None:
            return
        frame = self._frames.get(result.frame_id)
        for frame_id in [known for known in tuple(self._frames) if known <= result.frame_id]:
            self._frames.pop(frame_id, None)
        if to.recording is not None:
            to.recording.add(frame, result)
        if to.video is not None:
            to.video.add(frame, result)

    def note(self, event: Event) -> None:
        """Keep an event for the summary."""
        if len(self.events) < _KEPT_EVENTS:
            self.events.append(event)

    def fps(self) -> float:
        """Results per second from the first push to the last result."""
        seconds = self._last_done - self._first_push
        return sum(self.states.values()) / seconds if seconds > 0 else 0.0

    def _write(self, result: Result) -> None:
        if self._file is None or self._json_out is None:
            return
        try:
            write_whole(self._file, json_line(result_values(result)))
        except OSError as error:
            raise write_error(self._json_out, error, "--json") from error
