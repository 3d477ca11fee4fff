"""Table 3.3 of the thesis: mean test accuracy on the Sign Language Digits, split 60/20/20, beside .9918.

python benchmarks/thesis_table_3_3.py --data sign-digits --weights-dir FOLDER --out results.jsonl

The thesis' mean is over 30 runs; it does not say on which part of the images. A plain fine-tune with mild augmentation
reached .993 once. Fitness is Matthews' correlation on the validation part, as there; near-duplicates stay on one side
of every split, which the thesis does not mention. Scale: 25 generations of 50 individuals become three of four, their
three epochs what an equal part of a third of the budget bears, 448 px become --size with the search at a quarter of it,
and 50 epochs at full size take the other two thirds. Networks are three, of which SqueezeNet alone has ImageNet
weights. Methods, on equal numbers of images passed through networks:

gen-soup    the product's default, scaled; its likelihoods, too, are taken on the one validation part
gen-cnn     preset gen-cnn-thesis, scaled: no refit, the validation part is never trained on
plain       the good recipe on SqueezeNet, trained on train and validation part: the reference to beat
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from quality_comparison import code_note, comparison_of, parser, run
from quality_results import Row, student_interval, tables
from search_quality import METHODS as QUALITY
from search_quality import OURS

from gensoup.runtime.errors import GenSoupError
from gensoup.train.roles import THREE_SHARES

THESIS_MEAN, PLAIN_ONCE = 0.9918, 0.993
METHODS: dict[str, dict[str, Any]] = {
    OURS: {**QUALITY[OURS], "changed": {**QUALITY[OURS]["changed"], "roles": "three"}, "merged": True},
    "gen-cnn": {
        "kind": "genetic",
        "revision": 1,
        "preset": "gen-cnn-thesis",
        "changed": {"generations": 3, "population": 4, "population_min": 4},
        "search": 1 / 3,
        "refit": 0.0,
        "merged": True,
        "retrain": False,
    },
    "plain": QUALITY["plain"],
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print accuracies with their intervals beside the thesis'."""
    options = parser(__doc__, images=30_000, size=128, seeds=10).parse_args(arguments)
    try:
        comparison, chosen = comparison_of(options, METHODS, THREE_SHARES)
        for name, rows in run(comparison, options, chosen).items():
            kept = [row for row in rows if row["method"] in chosen]
            print(f"\n## {name}: {options.images} images a run, {options.size} px\n")
            print("\n".join(tables(kept, [one for one in METHODS if one in chosen], OURS, "accuracy")))
            print("\n".join(["", *against_references(kept), *code_note(rows)]))
    except GenSoupError as error:
        sys.exit(f"error: {error}")


def against_references(rows: Sequence[Row]) -> list[str]:
    """A table in Markdown: Student's interval of each method's mean accuracy, and where the references lie to it."""
    lines = [
        f"| method | runs | mean accuracy [95%, Student] | {THESIS_MEAN} (thesis) | {PLAIN_ONCE} (plain, once) |",
        "|---|---|---|---|---|",
    ]
    for method in METHODS:
        values = np.array([row["accuracy"] for row in rows if row["method"] == method])
        if len(values) >= 2:
            low, high = student_interval(values)
            beside = " | ".join(_beside(low, high, reference) for reference in (THESIS_MEAN, PLAIN_ONCE))
            lines.append(f"| {method} | {len(values)} | {values.mean():.4f} [{low:.4f}, {high:.4f}] | {beside} |")
    return lines


def _beside(low: float, high: float, reference: float) -> str:
    return "above it" if low > reference else "below it" if high < reference else "not told apart"


if __name__ == "__main__":
    main()
