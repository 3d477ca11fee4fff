"""A thousand damaged bundles: each refused in one line, none of them crashes, hangs or takes more than 1 GiB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gensoup.runtime.bundle import MAX_BYTES, Golden, read_bundle, sign_bundle, write_bundle
from gensoup.runtime.engines import load_engine
from gensoup.runtime.seal import seal
from gensoup.runtime.signature import SigningKey, create_key, public_path

EXAMPLES = 1000
MEMORY_MIB = 1024
HERE = Path(__file__).parent


@pytest.fixture
def small(tiny_bundle: Path, tmp_path: Path) -> Path:
    """The tiny bundle with one golden frame of 40 × 40 px, a card and a signature."""
    bundle = read_bundle(tiny_bundle)
    camera = bundle.golden.camera_frames[0][:40, :40].copy()
    frames = bundle.manifest.preprocess(camera)[None]
    probabilities = load_engine(bundle.model, 1).infer(frames[0])[None]
    path = tmp_path / "small.gensoup"
    write_bundle(path, bundle.manifest, bundle.models, Golden((camera,), frames, probabilities), "# Card")
    create_key(tmp_path / "a.key")
    sign_bundle(path, SigningKey.load(tmp_path / "a.key"), path)
    return path


def in_a_process(folder: Path, script: str, *arguments: str | Path) -> dict:
    """What a script beside this one says, its temporary files in ``folder``; that it ended by itself, and not by a
    signal, is the first assertion."""
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_a_thousand_damaged_bundles_are_refused(small: Path, tmp_path: Path) -> None:
    said = in_a_process(tmp_path, "damage.py", small, public_path(tmp_path / "a.key"), EXAMPLES)
    assert said["wrong"] == []
    assert sum(said["kinds"].values()) >= EXAMPLES
    assert len(said["kinds"]) >= 22
    assert min(count for kind, count in said["kinds"].items() if "changed" not in kind) >= 3
    assert said["most_mib"] < MEMORY_MIB
    assert said["longest_s"] < 10  # .1 s on a machine with nothing else to do
    # Spot checks that damage is refused for what it is, and not for a slip of the test's own making.
    answers = said["answers"]
    assert answers["two of one name"] == ["two members of one name, no bundle of ours"]
    assert answers["bombs in golden.npz"] == ["malformed golden.npz"]
    assert any("share bytes" in text for text in answers["overlapping members"])
    assert all("newer than this GenSoup" in text for text in answers["newer schemas"])
    assert "malformed manifest" in answers["deep JSON"]
    assert any("is not signed" in text for text in answers["flipped and sealed again, opened as it was"])


@pytest.mark.slow
def test_the_largest_damaged_bundle_takes_less_than_1_gib(small: Path, tmp_path: Path) -> None:
    bundle = read_bundle(small)
    model = np.random.default_rng(0).bytes(MAX_BYTES - len(small.read_bytes()) - 2000)
    path = tmp_path / "large.gensoup"
    digest = write_bundle(path, bundle.manifest, {"fp32": model}, bundle.golden)
    del model
    signature = SigningKey.load(tmp_path / "a.key").sign(digest)  # by hand: `sign_bundle` would refuse it
    path.write_bytes(seal(path.read_bytes(), [signature]))
    said = in_a_process(tmp_path, "models.py", path, public_path(tmp_path / "a.key"), 0)
    assert said["answers"] == {"as it is": {"malformed model.onnx": 1}}
    assert said["most_mib"] < MEMORY_MIB


def test_graphs_of_foreign_bytes_are_refused_or_prove_themselves(small: Path, tmp_path: Path) -> None:
    """A digest made anew says nothing of the graph: ONNX Runtime reads it, and the golden frames judge it."""
    said = in_a_process(tmp_path, "models.py", small, public_path(tmp_path / "a.key"), 100)
    assert said["wrong"] == []
    assert sum(said["answers"]["damaged"].values()) == 100
    assert said["most_mib"] < MEMORY_MIB
