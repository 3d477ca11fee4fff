"""Smoothing over time: a label that does not flicker, and "uncertain" where the evidence does not reach its threshold.

Raw predictions stay what they are; a :class:`Smoothed` stands beside them. A label changes only when another one leads
by a margin for a while (hysteresis, after Schmitt, *A thermionic trigger*, 1938, and a hold time). What was seen before
a gap in time or a scene cut is forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.classifier import Prediction
from gensoup.runtime.errors import UsageError
from gensoup.runtime.evidence import Evidence, ExponentialEvidence, LatestEvidence, VoteEvidence
from gensoup.runtime.scene_cut import SceneCut, Thumbnail

Frame = NDArray[np.uint8] | Thumbnail
Method = Literal["exponential", "vote", "none"]
# Why a result starts anew: the first frame; time without frames; another scene; time ran backwards; other labels.
Reset = Literal["", "start", "gap", "cut", "clock", "labels"]

_ROUNDING = 1e-9  # of scores and of seconds, which are sums


@dataclass(frozen=True)
class Smoothing:
    """How results are smoothed; all times in seconds, so that the frame rate does not matter.

    method: ``exponential``: frames count less the older they are, by ``time_constant_s``; ``vote``: each frame of the
        last ``window_s`` has one vote; ``none``: each frame for itself, thresholds alone apply.
    margin, hold_s: another label takes over once its score (mean probability, or share of votes) has led by so much for
        so long. gap_s: after so long without a prediction the past is forgotten. cuts: at scene cuts too.
    """

    method: Method = "exponential"
    time_constant_s: float = 0.2
    window_s: float = 0.5
    margin: float = 0.1
    hold_s: float = 0.1
    gap_s: float = 0.5
    cuts: bool = True

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise UsageError(f"--smooth '{self.method}': must be one of {', '.join(get_args(Method))}")
        for name in ("time_constant_s", "window_s", "gap_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"smoothing: {name} {getattr(self, name):g} must be more than 0 seconds")
        if not 0 <= self.hold_s < math.inf or not 0 <= self.margin < 1:
            raise UsageError(f"smoothing: hold_s {self.hold_s:g} must be at least 0, margin {self.margin:g} in 0…1")


@dataclass(frozen=True)
class Labelling:
    """A bundle's labels, and the least probability of each at which it is certain (none: all are)."""

    labels: tuple[str, ...]
    thresholds: NDArray[np.float64]

    @classmethod
    def of(cls, labels: tuple[str, ...], thresholds: Mapping[str, float] | None = None) -> Labelling:
        """``thresholds``: label → probability, as in the manifest; empty or None: every label is always certain."""
        return cls(labels, np.array([(thresholds or {}).get(label, 0.0) for label in labels]))

    @classmethod
    def of_classifier(cls, classifier: object) -> Labelling:
        """What the bundle of a classifier says, or of the one that it has within (``current``, ``classifier``)."""
        while (inner := getattr(classifier, "current", None) or getattr(classifier, "classifier", None)) is not None:
            classifier = inner
        manifest = getattr(classifier, "manifest", None)
        return cls.of(tuple(getattr(classifier, "labels", ())), manifest.thresholds if manifest is not None else None)


@dataclass(frozen=True)
class Smoothed:
    """A prediction in the light of those before it.

    label: None where the probability lies below its class's threshold: the answer is "uncertain"; index: even then.
    probability: the label's mean over what counts; probabilities: float32 [K].
    lag_ms: the mean age of what counts, in ms before this frame, by its weights: how old the answer's evidence is.
    reset: why the past was forgotten with this frame, empty when it was not.
    """

    label: str | None
    index: int
    probability: float
    probabilities: NDArray[np.float32]
    certain: bool
    lag_ms: float
    reset: Reset = ""


class Smoother:
    """Turns predictions, in the order of their frames, into :class:`Smoothed` ones; not thread-safe."""

    def __init__(self, labelling: Labelling | Callable[[], Labelling], smoothing: Smoothing | None = None) -> None:
        """labelling: a function is asked with each prediction, for streams whose bundle changes."""
        self.smoothing = smoothing or Smoothing()
        self._labelling: Callable[[], Labelling] = labelling if callable(labelling) else lambda: labelling
        self._current = self._labelling()
        self._started = False
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next prediction has other labels."""
        self._evidence: Evidence | None = None
        self._held = 0
        self._challenger: tuple[int, float] | None = None
        self._at = math.nan
        self._cut = SceneCut()

    def update(self, prediction: Prediction, captured_at: float, frame: Frame | None = None) -> Smoothed:
        """Take the next prediction.

        captured_at: seconds of any clock. frame: what was classified, BGR uint8 [height, width, 3] of any size, or its
        :func:`gensoup.runtime.scene_cut.thumbnail`, for finding scene cuts; it is not kept. Without it none are found.
        Raises UsageError for other than one probability a label.
        """
        labelling = self._labelling()
        probabilities = np.asarray(prediction.probabilities, np.float64)
        if len(probabilities) != len(labelling.labels):
            raise UsageError(f"smoothing: {len(labelling.labels)} labels for {len(probabilities)} probabilities")
        if labelling.labels != self._current.labels:
            self.reset()
        self._current = labelling
        is_cut = self._sees_cut(frame, captured_at)
        reset = self._reason(captured_at, is_cut)
        if reset or self._evidence is None:
            self._evidence = self._fresh(len(probabilities))
            self._challenger = None
        self._started = True
        self._at = captured_at
        evidence = self._evidence
        evidence.add(probabilities, captured_at)
        self._held = int(np.argmax(evidence.scores)) if reset else self._leader(evidence.scores, captured_at)
        return self._answer(evidence, reset)

    def _sees_cut(self, frame: Frame | None, at: float) -> bool:
        if frame is None or not self.smoothing.cuts or self.smoothing.method == "none":
            return False
        return self._cut(frame, at)

    def _reason(self, at: float, is_cut: bool) -> Reset:
        if self._evidence is None:
            return "labels" if self._started else "start"
        if at < self._at:
            return "clock"
        if at - self._at > self.smoothing.gap_s:
            return "gap"
        return "cut" if is_cut else ""

    def _fresh(self, classes: int) -> Evidence:
        if self.smoothing.method == "exponential":
            return ExponentialEvidence(classes, self.smoothing.time_constant_s)
        if self.smoothing.method == "vote":
            return VoteEvidence(classes, self.smoothing.window_s)
        return LatestEvidence(classes)

    def _leader(self, scores: NDArray[np.float64], at: float) -> int:
        """The label held, or the one that has led by the margin for the hold time."""
        leader = int(np.argmax(scores))
        if self.smoothing.method == "none":
            return leader
        lead = scores[leader] - scores[self._held]
        if lead <= _ROUNDING or lead < self.smoothing.margin - _ROUNDING:
            self._challenger = None
            return self._held
        if self._challenger is None or self._challenger[0] != leader:
            self._challenger = (leader, at)
        if at - self._challenger[1] < self.smoothing.hold_s - _ROUNDING:
            return self._held
        self._challenger = None
        return leader

    def _answer(self, evidence: Evidence, reset: Reset) -> Smoothed:
        index = self._held
        probabilities = evidence.mean.astype(np.float32)
        certain = bool(evidence.mean[index] >= self._current.thresholds[index])
        return Smoothed(
            label=self._current.labels[index] if certain else None,
            index=index,
            probability=float(probabilities[index]),
            probabilities=probabilities,
            certain=certain,
            lag_ms=evidence.age_s * 1e3,
            reset=reset,
        )
