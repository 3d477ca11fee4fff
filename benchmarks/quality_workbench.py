"""What a method gets for one run, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from quality_meter import ImageMeter
from quality_pool import Pool
from torch import nn

from gensoup.runtime.console import StageProgress
from gensoup.train.constraint import Admission, admit
from gensoup.train.presets import compose
from gensoup.train.run_profile import RunProfile
from gensoup.train.settings import Settings

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Workbench:
    """All that a method gets for one run. base: settings every method shares; run: an empty folder."""

    pool: Pool
    admission: Admission
    base: Mapping[str, Any]
    meter: ImageMeter
    run: Path
    progress: StageProgress

    @property
    def seed(self) -> int:
        """Of the run."""
        return int(self.base["seed"])

    @property
    def size(self) -> int:
        """The deploy size."""
        return int(self.base["sizes"][0])

    def settings(self, preset: str, changed: Mapping[str, Any]) -> Settings:
        """A preset with what is changed in it, over the images and networks of the comparison."""
        return compose("", preset, None, {**changed, **self.base})


@dataclass(frozen=True)
class Found:
    """A method's result: a network for frames of the deploy size, its temperature, and what to note of its making."""

    model: nn.Module
    temperature: float
    notes: Mapping[str, Any]


def admission_of(settings: Settings, classes: int, run: Path, progress: StageProgress) -> Admission:
    """The networks of a comparison with their initial weights; nothing is timed."""
    return admit(settings, classes, RunProfile(run, settings, None), progress)
