"""Results side by side: what is worse than in the first one, beyond noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

SCHEMA_VERSION = 1
# A latency must be worse by so much, as a share: less is noise between runs, which no single run knows of.
TOLERANCE = 0.05
P_VALUE = 0.01

_NAMES = ("bundle", "trace")  # what a result calls the files that it is of, wherever they lie by now

ResultKind = Literal["bench", "eval"]


class Flag(str, Enum):
    """What a value is beside the first result's. UNKNOWN: cannot be told, or must not be compared."""

    REFERENCE = "reference"
    WORSE = "worse"
    BETTER = "better"
    SAME = "same"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Cell:
    """One result's value of one quantity. text: as it is shown. low, high: its interval, None where there is none.

    change: from the first result, as it is shown. why: how the flag was come to, or why it could not be.
    """

    text: str
    flag: Flag
    value: float | None = None
    low: float | None = None
    high: float | None = None
    change: str = ""
    why: str = ""


@dataclass(frozen=True)
class Row:
    """One quantity over all results. key: as JSON names it."""

    key: str
    title: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Condition:
    """Under what was measured: one text a result. matters: values measured under another one are of another thing."""

    key: str
    title: str
    values: tuple[str, ...]
    matters: bool = False

    @property
    def differs(self) -> bool:
        """Whether not all results have the same."""
        return len(set(self.values)) > 1


@dataclass(frozen=True)
class Result:
    """A result file. name: to tell it from the others. values: its JSON."""

    name: str
    path: Path
    kind: ResultKind
    values: Mapping[str, Any]


def told_twice(results: Sequence[Result]) -> list[str]:
    """A note of each result that is one and the same measurement as an earlier one: a copy, or judged once more."""
    notes = []
    for place, result in enumerate(results):
        if earlier := next((one for one in results[:place] if _same_measurement(one.values, result.values)), None):
            notes.append(
                f"{result.name} and {earlier.name} are one and the same measurement: that they agree says nothing; "
                "measure once more to compare"
            )
    return notes


def _same_measurement(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    traces = [(values.get("trace") or {}).get("sha256") for values in (one, other)]
    numbers = [{name: value for name, value in values.items() if name not in _NAMES} for values in (one, other)]
    return (traces[0] is not None and traces[0] == traces[1]) or numbers[0] == numbers[1]


@dataclass(frozen=True)
class Comparison:
    """Results of one kind side by side, the first is what the others are held against.

    notes: what a reader must know before believing it, a sentence each.
    """

    kind: ResultKind
    names: tuple[str, ...]
    conditions: tuple[Condition, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def worse(self) -> tuple[tuple[str, str], ...]:
        """(result, quantity) of all that is worse."""
        return tuple((name, row.title) for name, row, _ in self._flagged(Flag.WORSE))

    @property
    def not_compared(self) -> tuple[str, ...]:
        """Results of which no quantity could be compared."""
        untold = (Flag.UNKNOWN, Flag.REFERENCE)
        return tuple(
            name
            for place, name in enumerate(self.names[1:], 1)
            if all(row.cells[place].flag in untold for row in self.rows)
        )

    @property
    def sentence(self) -> str:
        """What came out, in one sentence without a full stop."""
        first = self.names[0]
        if worse := self._flagged(Flag.WORSE):
            return f"worse than {first} beyond noise: {self._listed(worse)}"
        if self.not_compared:
            return f"cannot be told: {', '.join(self.not_compared)} could not be compared with {first}"
        said, better = f"nothing is worse than in {first} beyond noise", self._flagged(Flag.BETTER)
        return f"{said}; better: {self._listed(better)}" if better else said

    def _flagged(self, flag: Flag) -> list[tuple[str, Row, Cell]]:
        return [
            (name, row, row.cells[place])
            for place, name in enumerate(self.names[1:], 1)
            for row in self.rows
            if row.cells[place].flag is flag
        ]

    def _listed(self, flagged: Sequence[tuple[str, Row, Cell]]) -> str:
        several = len(self.names) > 2
        told = []
        for name, row, cell in flagged:
            change = f" ({cell.change})" if cell.change else ""
            told.append(f"{row.title}{f' of {name}' if several else ''}{change}")
        return ", ".join(told)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``gensoup compare --json``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": self.kind,
            "sentence": self.sentence,
            "worse": [{"result": name, "quantity": title} for name, title in self.worse],
            "not_compared": list(self.not_compared),
            "results": list(self.names),
            "notes": list(self.notes),
            "conditions": [
                {**asdict(one), "values": list(one.values), "differs": one.differs} for one in self.conditions
            ],
            "rows": [
                {
                    "key": row.key,
                    "title": row.title,
                    "cells": [{**_finite(asdict(cell)), "flag": cell.flag.value} for cell in row.cells],
                }
                for row in self.rows
            ],
        }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(one, float) and not math.isfinite(one) else one for name, one in values.items()}
