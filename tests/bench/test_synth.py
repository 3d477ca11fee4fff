"""Synthetic datasets and videos: complete or absent, grouped, and told apart by structure alone."""

import csv
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import matthews_corrcoef
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from gensoup.bench.synth import write_dataset, write_video
from gensoup.runtime.errors import GenSoupError, UsageError
from gensoup.runtime.images import read_image
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.sources.synthetic import LABELS


def groups_of(folder: Path) -> dict[str, str]:
    with (folder / "groups.csv").open(newline="") as file:
        return {row["file"]: row["group"] for row in csv.DictReader(file)}


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))


def test_dataset_is_complete_and_grouped(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_dataset(tmp_path / "d", 5, height=64, width=80, frames_per_scene=3, progress=lambda *at: seen.append(at))
    files, groups = files_of(tmp_path / "d"), groups_of(tmp_path / "d")
    assert sorted(groups) == files and len(files) == 5 * len(LABELS)
    assert sorted(path.name for path in (tmp_path / "d").iterdir() if path.is_dir()) == sorted(LABELS)
    assert len(set(groups.values())) == 2 * len(LABELS)
    for file, group in groups.items():
        assert group == file.rpartition("_")[0].replace("/", "-")
        assert read_image(tmp_path / "d" / file).shape == (64, 80, 3)
    assert seen[-1] == (len(files), len(files)) and sorted(seen) == seen
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_dataset_repeats_and_depends_on_the_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        write_dataset(tmp_path / name, 2, seed=seed, height=48, width=48, frames_per_scene=2)
    contents = [[(tmp_path / name / file).read_bytes() for file in files_of(tmp_path / name)] for name in "abc"]
    assert contents[0] == contents[1]
    assert all(first != second for first, second in zip(contents[0], contents[2], strict=True))
    assert len(set(contents[0])) == len(contents[0])


def test_an_empty_folder_is_used_and_a_full_one_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_dataset(tmp_path / "empty", 1, height=32, width=32)
    assert len(files_of(tmp_path / "empty")) == len(LABELS)
    before = files_of(tmp_path / "empty")
    with pytest.raises(UsageError, match="empty: exists already"):
        write_dataset(tmp_path / "empty", 1, height=32, width=32)
    assert files_of(tmp_path / "empty") == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="file: exists already"):
        write_dataset(tmp_path / "file", 1)
    with pytest.raises(GenSoupError, match="cannot be written"):
        write_dataset(tmp_path / "file" / "below", 1)


def test_an_interrupted_dataset_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "d", 4, height=32, width=32, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"per_class": 0}, {"frames_per_scene": 0}, {"height": 8}, {"seed": -1}])
def test_numbers_that_make_no_sense(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=str(next(iter(wrong.values())))):
        write_dataset(tmp_path / "d", **{"per_class": 1, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_video_plays_and_cuts_between_labels(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    labels = write_video(
        tmp_path / "v.avi", 14.0, 4.0, height=96, width=160, seed=1, progress=lambda *at: seen.append(at)
    )
    assert len(labels) == 56 and set(labels) == set(LABELS) and seen[-1] == (56, 56)
    cuts = [number for number in range(1, 56) if labels[number] != labels[number - 1]]
    assert len(cuts) == 7
    video = cv2.VideoCapture(str(tmp_path / "v.avi"))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(4)
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1].astype(float))
    assert len(frames) == 56 and frames[0].shape == (96, 160, 3)
    steps = np.array([np.abs(after - before).mean() for before, after in pairwise(frames)])
    at_cut = np.isin(np.arange(1, 56), cuts)
    assert steps[at_cut].min() > np.median(steps[~at_cut]) * 1.5
    assert [path.name for path in tmp_path.iterdir()] == ["v.avi"]


def test_video_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"v\.mp4.*v\.avi"):
        write_video(tmp_path / "v.mp4")
    with pytest.raises(UsageError, match="0 s"):
        write_video(tmp_path / "v.avi", seconds=0)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_video_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "v.avi", 1.0, height=64, width=64, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


class Split:
    """A dataset at network size, cut by scene: ``train`` marks the rows to learn from."""

    def __init__(self, folder: Path, size: int) -> None:
        preprocess, files = Preprocess(size), files_of(folder)
        groups = groups_of(folder)
        self.images = np.stack([preprocess(read_image(folder / file)) for file in files])
        self.targets = np.array([LABELS.index(file.partition("/")[0]) for file in files])
        scenes = np.array([int(groups[file][-4:]) for file in files])
        self.train = scenes < 0.7 * (scenes.max() + 1)

    def linear_mcc(self, features: np.ndarray) -> float:
        """Test MCC of a regularised logistic regression on ``features`` [N, …]."""
        flat = features.reshape(len(features), -1).astype(float)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
        model.fit(flat[self.train], self.targets[self.train])
        return float(matthews_corrcoef(self.targets[~self.train], model.predict(flat[~self.train])))


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("synth") / "d"
    write_dataset(folder, 96, seed=11, height=144, width=180, frames_per_scene=1)
    return Split(folder, 96)


@pytest.mark.slow
def test_colour_and_border_say_nothing(split: Split) -> None:
    means, spreads = split.images.mean(axis=(1, 2)), split.images.std(axis=(1, 2))
    assert split.linear_mcc(means) < 0.12
    assert split.linear_mcc(np.concatenate([means, spreads], axis=1)) < 0.25
    thumbnails = np.stack([cv2.resize(image, (20, 20), interpolation=cv2.INTER_AREA) for image in split.images])
    border = np.ones((20, 20), bool)
    border[2:-2, 2:-2] = False
    assert split.linear_mcc(thumbnails[:, border]) < 0.12
    bins = [cv2.calcHist([image], [0, 1, 2], None, [6, 6, 6], [0, 256] * 3).ravel() for image in split.images]
    assert split.linear_mcc(np.sqrt(np.stack(bins))) < 0.35  # 0.47 with a stain of its own for each class


class SmallCnn(nn.Module):
    """Four convolutions, mean and maximum over the image, one linear layer: just able to see local structure."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, stride in ((3, 16, 2), (16, 32, 1), (32, 64, 2), (64, 96, 2)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(2 * 96, len(LABELS))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.layers(images)
        return self.head(torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1))


def cnn_mcc(split: Split, epochs: int) -> float:
    """Test MCC of a small CNN trained from random weights with flips and quarter turns."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images = (torch.from_numpy(split.images).permute(0, 3, 1, 2).float() / 255 - 0.45) / 0.25
    targets = torch.from_numpy(split.targets)
    train, test = np.flatnonzero(split.train), np.flatnonzero(~split.train)
    net = SmallCnn()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
    steps = epochs * (len(train) // 24)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        if step % (len(train) // 24) == 0:
            order = rng.permutation(train)
        batch = order[step % (len(train) // 24) * 24 :][:24]
        turned = torch.rot90(images[batch], int(rng.integers(4)), (2, 3))
        turned = turned.flip(3) if rng.uniform() < 0.5 else turned
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(turned), targets[batch]).backward()
        optimizer.step()
        schedule.step()
    net.eval()
    with torch.no_grad():
        guesses = torch.cat([net(images[part]).argmax(1) for part in np.array_split(test, 8)])
    return float(matthews_corrcoef(split.targets[test], guesses.numpy()))


@pytest.mark.slow
def test_it_takes_local_structure_to_tell_the_classes_apart(split: Split) -> None:
    thumbnails = np.stack([cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA) for image in split.images])
    linear, cnn = split.linear_mcc(thumbnails), cnn_mcc(split, epochs=7)
    assert linear < 0.35
    print(f"MCC: linear {linear:.3f}, CNN {cnn:.3f}")
    assert cnn > 0.6 and cnn > linear + 0.35
