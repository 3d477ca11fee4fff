"""Images in the training device's memory; a CPU stands in for the device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from gensoup.bench.dataset import LabelledFolder
from gensoup.export.architectures import initial_model
from gensoup.runtime.preprocess import Preprocess
from gensoup.train.genes import Recipe
from gensoup.train.images import Selection
from gensoup.train.learner import Course, train
from gensoup.train.residence import MOST_OF_MEMORY, Residence
from gensoup.train.scoring import predict_logits
from gensoup.train.split import split_folder

CPU = torch.device("cpu")


def test_resident_images_train_and_score_as_mapped_ones(shapes: Path, tmp_path: Path, one_thread: None) -> None:
    split = split_folder(LabelledFolder.open(shapes), [Preprocess(32)], "four", 0, tmp_path, lambda *call: None)
    mapped, residence = split.examples("train", 32), Residence(CPU)
    assert isinstance(mapped.images, Selection)
    resident = residence.moved(mapped.images, 1 << 30)
    assert isinstance(resident, Selection) and isinstance(resident.images, torch.Tensor)
    assert len(resident) == len(mapped)
    for index in (slice(2, 5), np.array([7, 0, 3])):
        np.testing.assert_array_equal(np.asarray(resident[index]), mapped.images[index])
    search = split.examples("search", 32).images
    assert isinstance(search, Selection)
    assert residence.moved(search, 0).images is resident.images  # type: ignore[union-attr]  # one stage for all roles
    recipe = Recipe("shufflenet_v2_x0_5", 1e-3, 0.0, "cross_entropy", "adamw", 0.3)
    outcomes = []
    for images in (mapped.images, resident):
        model = initial_model(recipe.architecture, 3, 0, None)
        train(model, type(mapped)(images, mapped.targets, 3), recipe, Course(0.3, 16, 1), CPU)
        outcomes.append(predict_logits(model, images, CPU))
    np.testing.assert_array_equal(*outcomes)


def test_what_does_not_fit_stays_where_it_is(shapes: Path) -> None:
    images = np.zeros((10, 8, 8, 3), np.uint8)
    selection = Selection(images, np.arange(10))
    least = int(images.nbytes / MOST_OF_MEMORY)
    assert Residence(CPU).moved(selection, least - 8) is selection
    residence = Residence(CPU)
    assert residence.moved(selection, least + 8) is not selection


def test_all_stages_together_keep_to_their_share() -> None:
    """Each taking its share of what the others left, four would leave an eighth for the networks."""
    residence, free, placed = Residence(CPU), 10_000, 0
    for _ in range(10):
        images = np.zeros((10, 8, 8, 3), np.uint8)
        if residence.moved(selection := Selection(images, np.arange(10)), free - placed) is not selection:
            placed += images.nbytes
    assert placed == 1920 * (int(MOST_OF_MEMORY * free) // 1920)
