"""Images through a network: every one, and none twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from gensoup.bench.device_profile import DeviceProfile, LatencyEstimate, profile_key
from gensoup.export.architectures import build, count_cost
from gensoup.export.graph import to_onnx
from gensoup.export.names import ARCHITECTURES
from gensoup.export.run_files import METRICS_FILE
from gensoup.train.ledger import Ledger
from gensoup.train.meter import ImageMeter, _class_of
from gensoup.train.run import train_run
from gensoup.train.run_profile import RunProfile
from gensoup.train.settings import Settings

NAMES = ("shufflenet_v2_x0_5", "squeezenet1_1")


def silent(stage: str, done: int, total: int) -> None:
    """Shows nothing."""


@contextmanager
def stems() -> Iterator[list[int]]:
    """Batch sizes that pass any convolution of three input channels, which is a network's first layer and no other."""
    seen: list[int] = []

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, nn.Conv2d) and module.in_channels == 3 and not torch.jit.is_tracing():
            seen.append(len(inputs[0]))

    handle = register_module_forward_pre_hook(note)
    yield seen
    handle.remove()


def test_it_counts_what_passes_while_entered_and_no_graph_that_is_recorded() -> None:
    model, frames = build(NAMES[0], 3).eval(), torch.zeros(5, 3, 32, 32)
    with ImageMeter(NAMES) as meter:
        model(frames)
        nn.Sequential(nn.Identity(), model)(frames[:2])
        with pytest.raises(RuntimeError):
            model(torch.zeros(4, 1, 32, 32))  # fails within: it was shown all the same
        build("mobilenet_v3_small", 3).eval()(frames)  # another network
        assert meter.spent == 5 + 2 + 4
        count_cost(NAMES[0], 3, 32)
        to_onnx(model, 1.0, 32)
        assert meter.spent == 11
    model(frames)
    assert meter.spent == 11


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_known_by_its_class(name: str) -> None:
    assert isinstance(build(name, 2), _class_of(name))


@pytest.mark.slow
def test_a_whole_run_counts_what_really_passed_and_so_does_one_that_was_cut(
    shapes: Path, make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L-BFGS, which repeats itself, one recipe that fails, a soup over the limit, a refit: all of it counts."""
    settings = make_settings(
        shapes, architectures=NAMES, optimizers=("adamw", "lbfgs", "sgd"), population=5, epochs=0.3, min_fps=64.0
    )
    estimates = {profile_key(name, 32, "fp32"): LatencyEstimate(3.0, 4.0, 5.0, 100, 0) for name in NAMES}
    DeviceProfile({}, 64.0, estimates).save(tmp_path / "cart.json")
    first: list[str] = []

    def slow_first(profile: RunProfile, name: str, size: int, model: nn.Module) -> LatencyEstimate:
        first.append(name)
        value = 99.0 if name == first[0] else 5.0
        return LatencyEstimate(value, value, value, 100, 0)

    monkeypatch.setattr(RunProfile, "fused", slow_first)
    with stems() as passed:
        metrics = train_run(settings, tmp_path / "run", profile=tmp_path / "cart.json", progress=silent)
    assert len(metrics["over_the_limit_when_fused"]) == 1
    assert sum(passed) == metrics["images_trained"] + metrics["images"]["test"]
    assert metrics["images"]["test"] == metrics["images_in_role"]["test"]
    assert metrics["images_trained"] == metrics["images"]["individuals"] + metrics["images"]["soup"]
    assert metrics["images"]["individuals"] == sum(one["images"] for one in metrics["individuals"])

    add, cuts = Ledger.add, iter(["search", "branch", "refit"])
    cut = next(cuts)

    def killed(ledger: Ledger, record: Any, weights: Any) -> None:
        nonlocal cut
        if record.place[0] == cut:
            cut = next(cuts, "")
            raise KeyboardInterrupt
        add(ledger, record, weights)

    monkeypatch.setattr(Ledger, "add", killed)
    first.clear()
    with pytest.raises(KeyboardInterrupt):
        train_run(settings, tmp_path / "cut", profile=tmp_path / "cart.json", progress=silent)
    while cut:
        with pytest.raises(KeyboardInterrupt):
            train_run(settings, tmp_path / "cut", resume=True, progress=silent)
    train_run(settings, tmp_path / "cut", resume=True, progress=silent)
    resumed = json.loads((tmp_path / "cut" / METRICS_FILE).read_text(encoding="utf-8"))
    assert (resumed["images_trained"], resumed["images"]) == (metrics["images_trained"], metrics["images"])
