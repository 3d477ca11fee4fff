"""One thing that speaks for or against a measurement, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class Kind(str, Enum):
    """What a finding does to the verdict.

    INVALID: the measurement says nothing. FAIL: the device does not keep up. THROTTLED: the device slowed itself down,
    which fails a tier that judges it and is a note elsewhere. NOTE: is reported, decides nothing.
    """

    INVALID = "INVALID"
    FAIL = "FAIL"
    THROTTLED = "THROTTLED"
    NOTE = "NOTE"


@dataclass(frozen=True)
class Finding:
    """``text``: one sentence without a full stop, as it may stand behind the verdict. ``source``: who found it, such as
    "gate" or the name of a sensor. ``repetition``: 1, 2, …; None where it holds for all."""

    kind: Kind
    text: str
    source: str = "gate"
    repetition: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "kind": self.kind.value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Finding:
        """The inverse of :meth:`to_dict`. Raises KeyError, ValueError or TypeError for anything else."""
        number = values.get("repetition")
        return cls(
            Kind(values["kind"]), str(values["text"]), str(values["source"]), None if number is None else int(number)
        )
