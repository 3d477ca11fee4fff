"""Holding the frames that arrive against a certificate, while they arrive."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.certificate import Certificate
from gensoup.runtime.certified import check_frame, check_rate
from gensoup.runtime.errors import CertificateError


class Admission:
    """The first frame is refused if it is larger, or comes more often, than certified; later ones are told of, once."""

    def __init__(self, certificate: Certificate | None, notify: Callable[[str], None] | None) -> None:
        """Without a ``certificate`` everything is admitted."""
        self._certificate = certificate
        self._notify = notify
        self._seen: tuple[tuple[int, ...], float | None] | None = None
        self._told = False

    def check(self, frame: NDArray[np.uint8], rate_hz: float | None) -> None:
        """frame: [height, width, …]. rate_hz: of its source, as stated. Raises CertificateError for the first one."""
        now = (frame.shape, rate_hz)
        if self._certificate is None or now == self._seen:
            return
        first, self._seen = self._seen is None, now
        try:
            check_rate(self._certificate, rate_hz)
            check_frame(self._certificate, *frame.shape[:2])
        except CertificateError as error:
            if first:
                raise
            if self._notify is not None and not self._told:
                self._notify(f"no longer as certified: {error}")
            self._told = True
