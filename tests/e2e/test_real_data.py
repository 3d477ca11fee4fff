"""The whole way on real images, where there are any."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gensoup.bench.dataset import LabelledFolder
from gensoup.bench.evaluate import evaluate
from gensoup.bench.roles import ROLES_FILE, read_roles
from gensoup.export.exporter import export_run
from gensoup.runtime.classifier import Classifier
from gensoup.train.report import write_report
from gensoup.train.run import train_run


@pytest.fixture(scope="module")
def hyperkvasir() -> Path:
    root = os.environ.get("GENSOUP_DATA")
    if not root or not (Path(root) / "hyperkvasir5").is_dir():
        pytest.skip("GENSOUP_DATA names no folder with hyperkvasir5 in it")
    return Path(root) / "hyperkvasir5"


@pytest.mark.slow
@pytest.mark.real_data
def test_real_frames_all_the_way(hyperkvasir: Path, make_settings: Callable[..., Any], tmp_path: Path) -> None:
    before = LabelledFolder.open(hyperkvasir)
    run, bundle = tmp_path / "run", tmp_path / "b.gensoup"
    settings = make_settings(hyperkvasir, sizes=(48,), generations=1, population=2, branch_epochs=5.0)
    metrics = train_run(settings, run, progress=lambda stage, done, total: None)
    exported = export_run(run, bundle)
    folder = before.only(read_roles(run / ROLES_FILE)["test"])
    scores = evaluate(Classifier.load(bundle, threads=1), folder).scores
    assert exported.parity.frames > 200
    assert scores.n == metrics["scores"]["test"]["n"] > 150
    assert scores.mcc == pytest.approx(metrics["scores"]["test"]["mcc"], abs=0.01)
    # Six passes at 48 px from random weights: far from good, but better than knowing the classes' shares alone.
    shares = np.bincount(before.targets) / len(before)
    assert scores.negative_log_likelihood < -(shares * np.log(shares)).sum()
    assert scores.mcc > 0.1
    assert "<h2>Test images</h2>" in write_report(run).read_text(encoding="utf-8")
    after = LabelledFolder.open(hyperkvasir)
    assert (after.files, after.fingerprint()) == (before.files, before.fingerprint())
