"""What happened to a stream's engine, for logs and displays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EventKind = Literal["failed over", "recovered", "no engine", "swapped"]


@dataclass(frozen=True)
class Event:
    """One change of the engine or bundle that answers.

    failed over: ``engine`` stands in from now on. recovered: ``engine``, the first one, answers again. no engine: the
    one that stood in hangs as well. swapped: another bundle answers, on ``engine``.
    at: ``time.monotonic()`` seconds. reason: why, one line, of the engine that failed or the new bundle's digest.
    """

    kind: EventKind
    at: float
    engine: str
    reason: str
