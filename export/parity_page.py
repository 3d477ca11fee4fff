"""Parity of every engine and precision as JSON and as one HTML page, the worst frames shown. No script, no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

from gensoup.export.parity import MAX_MCC_LOSS, MIN_AGREEMENT, Parity
from gensoup.export.samples import Samples

WORST_FRAMES = 8


@dataclass(frozen=True)
class Answer:
    """The winning class and its probability."""

    label: str
    probability: float


@dataclass(frozen=True)
class WorstFrame:
    """A frame on which an engine and the reference differ most. difference: of a probability, the largest.

    place: among the samples. true_label: that of its folder.
    """

    file: str
    place: int
    true_label: str
    reference: Answer
    engine: Answer
    difference: float


@dataclass(frozen=True)
class Compared:
    """Parity of one precision on one engine, with its worst frames. They name the user's files, so they stay out of the
    bundle."""

    parity: Parity
    worst: tuple[WorstFrame, ...]


@dataclass(frozen=True)
class ParityReport:
    """All that was compared, in order, and what each precision's graph was built of."""

    title: str
    compared: tuple[Compared, ...]
    built: Mapping[str, Mapping[str, Any]]

    @property
    def holds(self) -> bool:
        """Whether every engine may stand for the reference."""
        return all(one.parity.holds for one in self.compared)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        rows = [{**asdict(one.parity), "holds": one.parity.holds, "worst": _plain(one.worst)} for one in self.compared]
        return {
            "title": self.title,
            "holds": self.holds,
            "needed": {"label_agreement": MIN_AGREEMENT, "mcc_loss_upper": MAX_MCC_LOSS},
            "built": {name: dict(one) for name, one in self.built.items()},
            "parity": rows,
        }

    def to_html(self, samples: Samples) -> str:
        """The page; ``samples`` are those that were compared."""
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
        )
        shown = {frame.place for one in self.compared for frame in one.worst}
        return environment.get_template("parity.html.j2").render(
            report=self,
            frames=len(samples),
            grouped=samples.groups is not None,
            pictures={place: _picture(samples.frames[place]) for place in shown},
            agreement=MIN_AGREEMENT,
            loss=MAX_MCC_LOSS,
        )


def worst_frames(
    expected: NDArray[np.float32],
    got: NDArray[np.float32],
    samples: Samples,
    labels: Sequence[str],
    most: int = WORST_FRAMES,
) -> tuple[WorstFrame, ...]:
    """The frames on which probabilities [N, K] differ most, the worst first; another label goes before a larger gap."""
    difference = np.nan_to_num(np.abs(got - expected), nan=1.0, posinf=1.0).max(1)
    flipped = got.argmax(1) != expected.argmax(1)
    order = np.lexsort((-difference, ~flipped))[:most]

    def answer(row: NDArray[np.float32]) -> Answer:
        return Answer(labels[int(row.argmax())], float(np.nan_to_num(row.max(), posinf=0.0)))  # 0: it is no number

    return tuple(
        WorstFrame(
            file=samples.files[place],
            place=int(place),
            true_label=labels[int(samples.targets[place])],
            reference=answer(expected[place]),
            engine=answer(got[place]),
            difference=float(difference[place]),
        )
        for place in order
    )


def _plain(worst: Sequence[WorstFrame]) -> list[dict[str, Any]]:
    return [{name: value for name, value in asdict(frame).items() if name != "place"} for frame in worst]


def _picture(frame: NDArray[np.uint8]) -> str:
    """A network input as a data URI."""
    jpeg = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
