"""One way to train one network, measured in a process of its own; see train_throughput.py. Prints a line of JSON."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode, v2

from gensoup.bench.dataset import LabelledFolder
from gensoup.export.architectures import build
from gensoup.export.graph import MEAN, STD
from gensoup.runtime.preprocess import Preprocess
from gensoup.train import learner
from gensoup.train.genes import Recipe
from gensoup.train.image_cache import ImageCache
from gensoup.train.images import Selection
from gensoup.train.learner import Course, Examples, train

WARM_UP = 3  # steps before the clock starts
RATE = 1e-3
STRENGTH = 1.0


class Pictures(Dataset[tuple[Tensor, int]]):
    """Decodes and transforms an image whenever it is asked for: the same augmentation as ours, by torchvision."""

    def __init__(self, folder: LabelledFolder, size: int) -> None:
        self.paths, self.targets = folder.paths, folder.targets
        bilinear = InterpolationMode.BILINEAR
        self.transform = v2.Compose(
            [
                v2.ToImage(),
                v2.Resize((size, size)),
                v2.RandomResizedCrop(size, scale=(0.36, 1.0), ratio=(1.0, 1.0), interpolation=bilinear),
                v2.RandomRotation(90, interpolation=bilinear),
                v2.RandomHorizontalFlip(),
                v2.RandomVerticalFlip(),
                v2.ColorJitter(0.4, 0.4, 0.4),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([value / 255 for value in MEAN], [value / 255 for value in STD]),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.open(self.paths[index]).convert("RGB")), int(self.targets[index])


def sample_by_sample(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss as the thesis' published code adds it up."""
    total = torch.zeros(())
    for number in range(len(logits)):
        total = total + nn.functional.cross_entropy(logits[number : number + 1], targets[number : number + 1])
    return total / len(logits)


def endless(loader: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


def loop(
    options: argparse.Namespace,
    device: torch.device,
    workers: int,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    last: bool,
) -> dict[str, float]:
    """A loop over a DataLoader. last: channels last."""
    folder = LabelledFolder.open(options.data)
    layout = torch.channels_last if last else torch.contiguous_format
    loader = DataLoader(
        Pictures(folder, options.size),
        options.batch_size,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )
    model = build(options.architecture, len(folder.labels)).train().to(device, memory_format=layout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    batches = endless(loader)

    def step(images: Tensor, targets: Tensor) -> None:
        images, targets = images.to(device, memory_format=layout, non_blocking=True), targets.to(device)
        optimizer.zero_grad()
        loss = loss_of(model(images), targets)
        loss.backward()
        optimizer.step()
        loss.item()

    if options.part == "loader":
        return timed(lambda: next(batches), options)
    if options.part == "step":
        batch = next(batches)
        return timed(lambda: step(*batch), options)
    return timed(lambda: step(*next(batches)), options)


def timed(once: Callable[[], object], options: argparse.Namespace) -> dict[str, float]:
    """Seconds of the steps after the warm-up, and core seconds."""
    for _ in range(WARM_UP):
        once()
    before = clocks()
    for _ in range(options.steps):
        once()
    return between(before, clocks())


def clocks() -> tuple[float, float]:
    """The time, when all that was asked of a GPU is done, and the processor time of this process and of its workers."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    spent = time.process_time()
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        spent += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return time.perf_counter(), spent


def between(before: tuple[float, float], after: tuple[float, float]) -> dict[str, float]:
    return {"seconds": after[0] - before[0], "core_seconds": after[1] - before[1]}


def ours(options: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """``learner.train``, from the cache of decoded images, which is made first and timed by itself."""
    torch.set_num_threads(options.threads)
    folder = LabelledFolder.open(options.data)
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        cache = ImageCache(Path(options.cache or scratch))
        store = cache.decoded(folder, [Preprocess(options.size)], False, lambda *call: None)
        decoding = time.perf_counter() - started
        rows = torch.arange(len(folder)).numpy()
        examples = Examples(Selection(store.by_size[options.size], rows), folder.targets, len(folder.labels))
        recipe = Recipe(options.architecture, RATE, 1e-2, "cross_entropy", "adamw", STRENGTH)
        total = options.steps + WARM_UP
        course = Course(total / learner.steps_of_a_pass(examples, options.batch_size), options.batch_size, 0)
        if options.part == "loader":
            learner.keep_freed_memory()
            batches = learner._batches(examples, recipe, course, total, options.batch_size, device)
            return {**timed(lambda: next(batches), options), "decoding_s": decoding}
        if options.part == "step":
            batch = next(learner._batches(examples, recipe, course, 1, options.batch_size, device))
            learner._batches = lambda *_: (batch for _ in range(total))  # type: ignore[assignment]
        at: dict[int, tuple[float, float]] = {}

        def note(step: int, steps: int) -> None:
            if step in (WARM_UP, total):
                at[step] = clocks()

        model = build(options.architecture, len(folder.labels)).to(device)
        train(model, examples, recipe, course, device, note)
        return {**between(at[WARM_UP], at[total]), "decoding_s": decoding}


def peak(options: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Floating-point operations a second of a large product of matrices on all cores, as precise as ours trains: what
    the device can reach."""
    side, best = 2048 if device.type == "cpu" else 8192, float("inf")
    one, other = torch.randn(2, side, side, device=device, dtype=learner.mixed_precision(device))
    for _ in range(12):
        started = time.perf_counter()
        product = one @ other
        product[0, 0].item()
        best = min(best, time.perf_counter() - started)
    return {"flops": 2 * side**3 / best}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=("plain", "ordinary", "ordinary-channels-last", "ours", "peak"))
    parser.add_argument("part", choices=("loader", "step", "all"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--architecture", default="mobilenet_v3_small")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cores, entropy = len(os.sched_getaffinity(0)), nn.functional.cross_entropy
    run: dict[str, Callable[[], dict[str, float]]] = {
        "plain": lambda: loop(options, device, 1, sample_by_sample, False),
        "ordinary": lambda: loop(options, device, cores, entropy, False),
        "ordinary-channels-last": lambda: loop(options, device, cores, entropy, True),
        "ours": lambda: ours(options, device),
        "peak": lambda: peak(options, device),
    }
    found = run[options.name]()
    print(json.dumps({**found, "images": options.steps * options.batch_size, "device": str(device)}))


if __name__ == "__main__":
    main()
