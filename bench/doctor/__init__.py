"""What this machine can run, and how to mend what it cannot: the checks behind ``gensoup doctor``.

Each check is a function of what it looks at (package versions, the root of a file system) and gives lines.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class Mark(str, Enum):
    """GOOD: works. NOTE: absent or worth knowing, and no fault. RED: to be mended; the line says how."""

    GOOD = "good"
    NOTE = "note"
    RED = "red"


@dataclass(frozen=True)
class Line:
    """One line of the table. topic: what it is about. remedy: what to do about it, in one line; empty: nothing."""

    section: str
    topic: str
    mark: Mark
    text: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if self.mark is Mark.RED and not self.remedy:
            raise ValueError(f"{self.topic}: a red line must say how to mend it")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "mark": self.mark.value}
