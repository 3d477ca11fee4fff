"""Genes and what they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from gensoup.runtime.errors import UsageError
from gensoup.train.genes import ASTROCYTE_SCALE, DEFAULT_SCALES, Alphabet, Scale
from gensoup.train.losses import LOSSES
from gensoup.train.optimizers import DEFAULT_OPTIMIZERS, OPTIMIZERS

ALPHABET = Alphabet(("a", "b", "c"))
NAMES = ("architecture", "loss", "optimizer", "learning_rate", "weight_decay", "augmentation")
MIDDLE = dict.fromkeys(NAMES, 0.5)
LEARNING_RATE_SCALE = (1e-2, 3.0)
WEIGHT_DECAY = (1e-6, 1e-1)


def test_the_genes_are_those_whose_bounds_differ() -> None:
    assert ALPHABET.names == NAMES
    scales = {**DEFAULT_SCALES, "strong": ASTROCYTE_SCALE, "augmentation": Scale("linear", 1.0, 1.0)}
    other = Alphabet(("a",), scales=scales)
    assert other.names == (*NAMES[:-1], "strong")
    recipe = other.decode({**dict.fromkeys(other.names, 0.5), "strong": 0.25})
    assert (recipe.augmentation, recipe.strong, recipe.weak) == (1.0, 0.75, 1.0)


def test_astrocytes_factors_go_beyond_their_bounds_but_must_be_numbers() -> None:
    alphabet = Alphabet(("a",), scales={**DEFAULT_SCALES, "strong": ASTROCYTE_SCALE, "weak": ASTROCYTE_SCALE})
    genes = {**MIDDLE, "strong": 1.25, "weak": -0.75}
    assert (alphabet.decode(genes).strong, alphabet.decode(genes).weak) == (1.75, -0.25)
    with pytest.raises(ValueError, match="weak"):
        alphabet.decode({**genes, "weak": float("nan")})


@pytest.mark.parametrize(
    ("scale", "low", "middle", "high"),
    [
        (Scale("linear", 1e-5, 1.0), 1e-5, 0.500005, 1.0),
        (Scale("log", 1e-2, 1.0), 1e-2, 0.1, 1.0),
        (Scale("log_or_zero", 1e-2, 1.0), 0.0, 1e-2 * 100 ** (4 / 9), 1.0),
    ],
)
def test_scales(scale: Scale, low: float, middle: float, high: float) -> None:
    assert [scale.decode(gene) for gene in (0.0, 0.5, 1.0)] == pytest.approx([low, middle, high])
    for gene in (0.2, 0.5, 1.0):
        assert scale.encode(scale.decode(gene)) == pytest.approx(gene)
    assert scale.encode(99.0) == 1.0


@pytest.mark.parametrize(
    ("kind", "low", "high", "named"),
    [
        ("linear", 3.0, 1.0, "wrong way round"),
        ("log", 0.0, 1.0, "above 0"),
        ("log", 1e-3, float("inf"), "finite"),
        ("cubic", 0.0, 1.0, "cubic"),
    ],
)
def test_bounds_that_make_no_sense(kind: str, low: float, high: float, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Scale(kind, low, high)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_bounds_of_every_gene_decode(value: float) -> None:
    recipe = ALPHABET.decode(dict.fromkeys(NAMES, value))
    end = 0 if value == 0 else -1
    assert recipe.architecture == ("a", "b", "c")[end]
    assert recipe.loss == list(LOSSES)[end]
    assert recipe.optimizer == DEFAULT_OPTIMIZERS[end]
    assert recipe.augmentation == value
    scale = recipe.learning_rate / OPTIMIZERS[recipe.optimizer].learning_rate
    assert scale == pytest.approx(LEARNING_RATE_SCALE[end])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [-1e-9, 1.0000001, float("nan")])
def test_a_gene_outside_of_its_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        ALPHABET.decode({**MIDDLE, name: value})


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_gene_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        ALPHABET.decode({key: value for key, value in MIDDLE.items() if key != name})


def test_learning_rate_is_logarithmic_and_relative_to_the_optimizers_default() -> None:
    low, high = LEARNING_RATE_SCALE
    for optimizer in DEFAULT_OPTIMIZERS:
        kind = OPTIMIZERS[optimizer]
        choice = ALPHABET.encode_choice("optimizer", optimizer)
        recipe = ALPHABET.decode({**MIDDLE, "optimizer": choice, "learning_rate": 0.5})
        assert recipe.optimizer == optimizer
        assert recipe.learning_rate == pytest.approx(kind.learning_rate * np.sqrt(low * high))


def test_default_learning_rates_are_the_fixed_table() -> None:
    table = {"adam": 1e-3, "adamw": 1e-3, "adamax": 2e-3, "nadam": 2e-3, "radam": 1e-3, "rmsprop": 1e-2, "sgd": 1e-2}
    table |= {"adagrad": 1e-2, "asgd": 1e-2, "rprop": 1e-2, "lbfgs": 1.0}
    assert {name: kind.learning_rate for name, kind in OPTIMIZERS.items()} == table


def test_weight_decay_is_exactly_zero_at_the_low_end_and_logarithmic_above() -> None:
    def decay(gene: float) -> float:
        return ALPHABET.decode({**MIDDLE, "weight_decay": gene}).weight_decay

    assert decay(0.0) == 0.0
    assert decay(0.0999) == 0.0
    assert decay(0.1) == pytest.approx(WEIGHT_DECAY[0])
    assert decay(0.55) == pytest.approx(np.sqrt(WEIGHT_DECAY[0] * WEIGHT_DECAY[1]))
    assert decay(1.0) == pytest.approx(WEIGHT_DECAY[1])


@pytest.mark.parametrize("count", [1, 2, 3, 7, 11])
def test_encoded_choices_decode_to_themselves(count: int) -> None:
    alphabet = Alphabet(tuple(f"net{number}" for number in range(count)))
    for name, options in [
        ("architecture", alphabet.architectures),
        ("loss", alphabet.losses),
        ("optimizer", alphabet.optimizers),
    ]:
        for option in options:
            recipe = alphabet.decode({**MIDDLE, name: alphabet.encode_choice(name, option)})
            assert recipe.to_dict()[name] == option


def test_each_choice_has_an_equal_part_of_the_range() -> None:
    genes = (np.arange(3000) + 0.5) / 3000
    drawn = [ALPHABET.decode({**MIDDLE, "architecture": float(gene)}).architecture for gene in genes]
    assert [drawn.count(name) for name in ("a", "b", "c")] == [1000, 1000, 1000]


@pytest.mark.parametrize("kind", ["linear", "log", "log_or_zero"])
def test_equal_bounds_fix_a_number_on_every_scale(kind: str) -> None:
    scale = Scale(kind, 0.01, 0.01)  # type: ignore[arg-type]
    assert scale.fixed and [scale.decode(gene) for gene in (0.0, 0.05, 1.0)] == [0.01] * 3
