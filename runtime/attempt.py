"""One frame's classification, whatever becomes of it."""

from __future__ import annotations

import math
from collections.abc import Callable

from gensoup.runtime.classifier import Prediction

NOT_FINITE = "the engine gave a probability that is not finite"


class GaveUp(Exception):
    """The call took so long that it was given up: what it gives now is nobody's. Ends the thread that made it."""


def attempt(classify: Callable[[], Prediction]) -> tuple[Prediction | None, str]:
    """What ``classify`` gives, or None and the reason, a line. Raises GaveUp alone.

    SystemExit fails a frame as well: raised in a thread it would end that one and no other.
    """
    try:
        prediction = classify()
    except GaveUp:
        raise
    except BaseException as caught:
        return None, str(caught) or type(caught).__name__
    return (prediction, "") if math.isfinite(prediction.probability) else (None, NOT_FINITE)
