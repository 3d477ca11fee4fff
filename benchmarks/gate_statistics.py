"""How often the gate's tiers pass a device at the forbidden miss rate, and how often they fail a healthy one.

    python benchmarks/gate_statistics.py [--runs 10000] [--write docs/bench.md]

Simulated runs, judged by the tiers' own rules and functions. Misses come alone, in pairs, or in episodes of so many
frames in a row; episodes begin at random, as often as it takes for the share of missed frames to be the given rate.
``--write``: put the table between its marks in that file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.statistics import block_rate_upper, miss_rate_upper
from gensoup.bench.tier import CERTIFY, QUICK, Tier
from gensoup.runtime.files import write_atomic

RATE_HZ = 64
FORBIDDEN = QUICK.max_miss_rate
BEGIN, END = "<!-- gate_statistics: begin -->\n", "<!-- gate_statistics: end -->\n"
_FRAMES_AT_ONCE = 20_000_000

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """Misses in episodes of ``length`` frames, ``rate`` of all frames together."""

    name: str
    length: int
    rate: float


FAULTY = (
    Case("alone", 1, FORBIDDEN),
    Case("in pairs", 2, FORBIDDEN),
    Case("in episodes of 10", 10, FORBIDDEN),
    Case("in episodes of 20", 20, FORBIDDEN),
    Case("in episodes of a second", RATE_HZ, FORBIDDEN),
)
# Small hiccups: a late frame every 8 s, or two together every 25 s.
HEALTHY = (Case("alone, every 512 frames", 1, 1 / 512), Case("in pairs, every 1,600 frames", 2, 2 / 1600))
BETWEEN = (Case("alone, every 256 frames", 1, 1 / 256), Case("in pairs, every 512 frames", 2, 1 / 256))


@dataclass(frozen=True)
class Share:
    """Of simulated runs that passed: whole runs, and single repetitions. by_count: repetitions, by the count alone."""

    run: float
    repetition: float
    by_count: float


@cache
def simulate(tier: Tier, case: Case, runs: int, seed: int = 0) -> Share:
    """Shares of ``runs`` simulated runs of ``tier`` that pass."""
    passed, by_count = [], []
    for timeline in timelines(tier, case, runs, seed):
        counted = timeline.block_counts.sum(axis=1) <= most_misses(timeline.frames, tier.max_miss_rate)
        by_count.append(counted)
        passed.append(counted & passes_runs(timeline, tier) & passes_blocks(timeline, tier))
    flags = np.concatenate(passed)
    whole = flags.reshape(-1, tier.repetitions).all(axis=1)
    return Share(float(whole.mean()), float(flags.mean()), float(np.concatenate(by_count).mean()))


@dataclass(frozen=True)
class Timeline:
    """``repetitions`` times ``frames`` frames on end. begins: where episodes begin, ascending; lengths: of each, up to
    the next one's begin, the timeline's end at most."""

    repetitions: int
    frames: int
    begins: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def missed(self) -> Flags:
        """Frame by frame, [repetitions, frames]."""
        flags = np.zeros(self.repetitions * self.frames, bool)
        for offset in range(int(self.lengths.max(initial=0))):
            flags[self.begins[self.lengths > offset] + offset] = True
        return flags.reshape(self.repetitions, self.frames)

    @cached_property
    def block_counts(self) -> NDArray[np.float64]:
        """Misses in each second, [repetitions, seconds]; no episode is longer than two of them."""
        seconds = self.repetitions * self.frames // RATE_HZ
        block, place = np.divmod(self.begins, RATE_HZ)
        first = np.minimum(self.lengths, RATE_HZ - place)
        counts = (
            np.bincount(block, first, seconds) + np.bincount(block + 1, self.lengths - first, seconds + 1)[:seconds]
        )
        return counts.reshape(self.repetitions, -1)


def timelines(tier: Tier, case: Case, runs: int, seed: int) -> Iterator[Timeline]:
    """Timelines of ``runs`` runs together, some repetitions at a time."""
    rng = np.random.default_rng(seed)
    frames, wanted = round(tier.seconds * RATE_HZ), runs * tier.repetitions
    begin_rate = 1 - (1 - case.rate) ** (1 / case.length)  # episodes may overlap
    at_once = max(1, _FRAMES_AT_ONCE // frames)
    for start in range(0, wanted, at_once):
        repetitions = min(at_once, wanted - start)
        total = repetitions * frames
        most = int(total * begin_rate * 1.1) + 1000
        begins = np.cumsum(rng.geometric(begin_rate, most)) - case.length  # one may have begun before the first frame
        begins = np.maximum(begins[begins < total], 0)
        lengths = np.minimum(case.length, np.diff(begins, append=total))
        yield Timeline(repetitions, frames, begins, lengths)


@cache
def most_misses(frames: int, limit: float) -> int:
    """The most misses in ``frames`` whose exact bound is at most ``limit``; −1 where even none are too many."""
    return next(count for count in range(-1, frames) if miss_rate_upper(count + 1, frames) > limit)


def passes_runs(timeline: Timeline, tier: Tier) -> Flags:
    """Whether no run of misses is too long, [repetitions]."""
    if tier.max_miss_run is None:
        return np.ones(timeline.repetitions, bool)
    missed, width = timeline.missed(), tier.max_miss_run + 1
    together = np.logical_and.reduce([missed[:, at : timeline.frames - width + 1 + at] for at in range(width)])
    return ~np.asarray(together.any(axis=1))


def passes_blocks(timeline: Timeline, tier: Tier) -> Flags:
    """Whether the bound from blocks of a second is kept, [repetitions]."""
    if tier.block_s is None:
        return np.ones(timeline.repetitions, bool)
    return np.asarray(block_rate_upper(timeline.block_counts / RATE_HZ) <= tier.max_miss_rate)


def table(runs: int) -> str:
    """The table of docs/bench.md."""
    lines = [
        "| misses | quick passes | certify passes | one repetition of it | by the count alone |",
        "| --- | --- | --- | --- | --- |",
    ]
    groups = {"at the forbidden rate of 1%": FAULTY, "healthy: at most 0.2%": HEALTHY, "in between: 0.4%": BETWEEN}
    for title, cases in groups.items():
        lines.append(f"| *{title}* | | | | |")
        for case in cases:
            quick, certify = simulate(QUICK, case, runs), simulate(CERTIFY, case, runs)
            shares = (quick.run, certify.run, certify.repetition, certify.by_count)
            lines.append(f"| {case.name} | {' | '.join(f'{share:.2%}' for share in shares)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table, or put it in its place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    made = table(options.runs)
    print(made, end="")
    if options.write is not None:
        text = options.write.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        _, found, after = rest.partition(END)
        if not found:
            raise SystemExit(f"{options.write}: has no marks {BEGIN.strip()} and {END.strip()}")
        write_atomic(options.write, f"{before}{BEGIN}{made}{END}{after}")


if __name__ == "__main__":
    main()
