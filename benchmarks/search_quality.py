"""What does the search gain? Six methods, equal numbers of images, the same splits, one sealed test.

python benchmarks/search_quality.py --data FOLDER [FOLDER …] --weights-dir FOLDER --out results.jsonl

Every image that passes through a network counts, in training, scoring, batch-norm estimation and refit; the sealed test
alone does not. All methods share a seed's split, initial weights, learner, augmentation and alphabet; a seed
changes all of them. Methods:

gen-soup         the product's default, scaled: race, search, soup, long refit of the fused network
gen-soup-thesis  preset gen-soup-thesis-1, scaled from some 380 individuals to seven, so this is no verdict on its full
                 length; one validation part; the population's soup, no refit
gen-cnn          preset gen-cnn, scaled; half of the budget searches, the best recipe is trained again on all images but
                 the test's for the other half
random           the good recipe on the pretrained network, then drawn ones, each annealed to zero; half and half
tpe              Optuna's multivariate TPE with a median pruner, begun with the same recipe; half and half
plain            the good recipe on SqueezeNet, on all images but the test's, for all of the budget

Ours keeps ``soup`` out of the refit and fits the temperature there; the others refit on all images but the test's and
keep the temperature of the trial; plain holds nothing back, so its own is 1 (the table's "untempered" column has every
method at 1). Results are durable: called again, only what is missing or changed is run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from quality_comparison import code_note, comparison_of, parser, run
from quality_results import tables

from gensoup.runtime.errors import GenSoupError
from gensoup.train.breeding import GOOD_LOSS, GOOD_OPTIMIZER, GOOD_RECIPE
from gensoup.train.optimizers import OPTIMIZERS
from gensoup.train.roles import SHARES

OURS = "gen-soup"
PLAIN_RECIPE: dict[str, Any] = {
    **GOOD_RECIPE,
    "learning_rate": GOOD_RECIPE["learning_rate"] * OPTIMIZERS[GOOD_OPTIMIZER].learning_rate,
    "loss": GOOD_LOSS,
    "optimizer": GOOD_OPTIMIZER,
}
# Settings of each method: what is tuned is tuned here. A change runs that method anew and no other. search: share of
# the budget after which the search ends; refit: share kept for the last training on all images but the test's.
# revision: raise it when a method's code changes.
METHODS: dict[str, dict[str, Any]] = {
    OURS: {
        "kind": "genetic",
        "revision": 4,
        "preset": "gen-soup",
        # A race of the three networks alone: in trainings of some 200 images, as a second generation leaves them, the
        # race itself is lost to chance.
        "changed": {
            "generations": 1,
            "population": 3,
            "population_step": 0,
            "population_min": 2,
            "branches": 0,
            "refit_average": True,
        },
        "search": 0.25,
        "refit": 0.75,
        "merged": False,
        "retrain": False,
    },
    "gen-soup-thesis": {
        "kind": "genetic",
        "revision": 1,
        "preset": "gen-soup-thesis-1",
        # 20 generations of 50 to 10 individuals, an epoch each, become three of three to two, most of an epoch each.
        "changed": {
            "generations": 3,
            "population": 3,
            "population_step": 1,
            "population_min": 2,
            "steady_generations": 1,
        },
        "search": 1.0,
        "refit": 0.0,
        "merged": True,
        "retrain": False,
    },
    "gen-cnn": {
        "kind": "genetic",
        "revision": 1,
        "preset": "gen-cnn",
        "changed": {"generations": 2, "population": 3, "population_step": 0, "population_min": 3},
        "search": 0.5,
        "refit": 0.5,
        "merged": False,
        "retrain": True,
    },
    "random": {"kind": "random", "revision": 1, "trials": 6, "search": 0.5, "known_first": True},
    "tpe": {
        "kind": "tpe",
        "revision": 1,
        "trials": 6,
        "search": 0.5,
        "known_first": True,
        "startup": 3,
        "report_at": 0.4,
        "report_images": 128,
    },
    "plain": {"kind": "plain", "revision": 1, "architecture": "squeezenet1_1", "recipe": PLAIN_RECIPE},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the tables of each data set."""
    options = parser(__doc__, images=15_000, size=96, seeds=8).parse_args(arguments)
    try:
        comparison, chosen = comparison_of(options, METHODS, SHARES)
        for name, rows in run(comparison, options, chosen).items():
            shown = [method for method in METHODS if method in chosen]
            print(f"\n## {name}: {options.images} images a run, {options.size} px\n")
            print("\n".join(tables([row for row in rows if row["method"] in shown], shown, OURS) + code_note(rows)))
    except GenSoupError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
