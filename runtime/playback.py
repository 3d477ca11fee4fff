"""A video that plays as long as what it shows took, whatever was left out of it."""

from __future__ import annotations

import math

MOST_HZ = 32.0
_EARLY = 0.25  # of a picture: not half of one, on whose edge every second frame of twice the rate would fall
_HELD_S = 0.25  # for so long what a picture says could pass as current


def played_rate(rate_hz: float) -> float:
    """Pictures a second for frames that come at ``rate_hz``: every frame, every second one, … 32 Hz at most.

    To draw and encode a 1080p picture takes as long as to classify it, and the stream comes first.
    """
    return rate_hz / math.ceil(rate_hz / MOST_HZ)


class Playback:
    """Gives each result its place among pictures that are ``1 / rate_hz`` seconds apart."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._start: float | None = None
        self._written = 0

    def holds(self, captured_at: float) -> int | None:
        """How often the picture before is to be shown again, before the one that was captured then is shown.

        None: leave it out, for its place is taken. A picture is held for a quarter of a second at most; a longer gap is
        a cut, and so is a time before that of the picture before. captured_at: ``time.monotonic()`` seconds.
        """
        most = math.ceil(_HELD_S * self._rate_hz)
        if self._start is None:
            self._start = captured_at
        ahead = math.floor((captured_at - self._start) * self._rate_hz + _EARLY) - self._written
        if ahead > most or ahead < -most:
            held = most if ahead > 0 else 0
            self._start = captured_at - (self._written + held) / self._rate_hz
            ahead = held
        if ahead < -1:  # by one it may be early: cameras are not exact
            return None
        holds = max(0, ahead)
        self._written += holds + 1
        return holds
