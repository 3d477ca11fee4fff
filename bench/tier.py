"""How long the gate measures, and what it demands (DESIGN, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

CONFIDENCE = 0.99
# The drift rule: fails when the last p99 is over both.
DRIFT_RATIO = 1.1
DRIFT_OF_LIMIT = 0.8


@dataclass(frozen=True)
class Tier:
    """The rules of one tier; ``repetitions`` times ``seconds`` are measured, each after ``warmup_s`` seconds.

    max_miss_rate: what the one-sided 99% bound of the miss rate may reach. max_miss_run: the most misses in a row,
    None: any number. block_s: length of the blocks whose means give a second bound, which holds where misses cluster;
    None: no such bound. drift_s: length of the first and the last part whose 99th percentiles are compared; None: no
    drift is judged. throttling_fails: whether a throttled device fails. claim: what PASS says.
    """

    name: str
    repetitions: int
    seconds: float
    warmup_s: float
    max_miss_rate: float
    max_miss_run: int | None
    block_s: float | None
    drift_s: float | None
    throttling_fails: bool
    claim: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Tier:
        """The inverse of :meth:`to_dict`. Raises KeyError or TypeError for anything else."""
        return cls(**{entry.name: values[entry.name] for entry in fields(cls)})


QUICK = Tier(
    name="quick",
    repetitions=1,
    seconds=30.0,
    warmup_s=5.0,
    max_miss_rate=0.01,
    max_miss_run=2,
    block_s=None,
    drift_s=None,
    throttling_fails=False,
    claim="not refuted: a screen, not a certificate",
)
CERTIFY = Tier(
    name="certify",
    repetitions=3,
    seconds=600.0,
    warmup_s=30.0,
    max_miss_rate=0.01,
    max_miss_run=None,
    block_s=1.0,
    drift_s=60.0,
    throttling_fails=True,
    claim="keeps up",
)
TIERS = {tier.name: tier for tier in (QUICK, CERTIFY)}
