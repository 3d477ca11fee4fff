"""Images that a bundle has learnt are not scored unnoticed, and roles only count for their own run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gensoup.bench.dataset import LabelledFolder
from gensoup.bench.held_out import seen_remark, unseen_images
from gensoup.bench.roles import read_roles, roles_digest, write_roles
from gensoup.runtime.bundle import read_bundle, write_bundle
from gensoup.runtime.errors import DataError
from gensoup.runtime.manifest import Manifest

Run = Callable[..., tuple[int, str, str]]
ROLES = {"train": ("blue/0.png", "red/0.png"), "test": ("red/1.png", "blue/1.png")}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for label in ("blue", "red"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(2):
            cv2.imwrite(str(tmp_path / "data" / label / f"{number}.png"), np.full((9, 9, 3), number, np.uint8))
    return tmp_path / "data"


@pytest.fixture
def roles(tmp_path: Path) -> Path:
    write_roles(tmp_path / "roles.csv", ROLES)
    return tmp_path / "roles.csv"


def manifest(bundle: Path, **provenance: Any) -> Manifest:
    return replace(read_bundle(bundle).manifest, provenance=provenance)


def test_the_digest_knows_no_order_but_every_role() -> None:
    assert roles_digest(ROLES) == roles_digest({"test": ROLES["test"][::-1], "train": ROLES["train"]})
    assert roles_digest(ROLES) != roles_digest({"test": ROLES["train"], "train": ROLES["test"]})


def test_only_the_runs_own_roles_and_data_are_taken(data: Path, roles: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = LabelledFolder.open(data)
    noted = {"roles_sha256": roles_digest(read_roles(roles)), "data_fingerprint": folder.fingerprint()}
    ours = manifest(tiny_bundle, **noted)
    assert set(unseen_images(folder, roles, ours).files) == set(ROLES["test"])
    assert set(unseen_images(folder, roles, manifest(tiny_bundle)).files) == set(
        ROLES["test"]
    )  # of before it was noted
    write_roles(tmp_path / "other.csv", {"train": ROLES["test"], "test": ROLES["train"]})
    with pytest.raises(
        DataError, match=rf"other.csv: of another run \(roles .*…, the bundle's {noted['roles_sha256'][:12]}"
    ):
        unseen_images(folder, tmp_path / "other.csv", ours)
    cv2.imwrite(str(data / "red" / "2.png"), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(DataError, match=rf"data: not the data of --roles .*{noted['data_fingerprint'][:12]}"):
        unseen_images(LabelledFolder.open(data), roles, ours)
    write_roles(tmp_path / "none.csv", {"train": ROLES["train"]})
    with pytest.raises(DataError, match=r"none.csv: names no test images"):
        unseen_images(folder, tmp_path / "none.csv", manifest(tiny_bundle))


def test_eval_warns_of_the_training_folder(
    data: Path, roles: Path, tiny_bundle: Path, tmp_path: Path, gensoup: Run
) -> None:
    bundle, ours = read_bundle(tiny_bundle), tmp_path / "ours.gensoup"
    fingerprint = LabelledFolder.open(data).fingerprint()
    write_bundle(ours, manifest(tiny_bundle, data_fingerprint=fingerprint), bundle.models, bundle.golden)
    code, out, _ = gensoup("eval", ours, data, "--threads", 1)
    assert code == 0 and "--roles RUN/roles.csv scores its test images alone" in out
    code, out, _ = gensoup("eval", ours, data, "--threads", 1, "--roles", roles)
    assert code == 0 and "RUN/roles.csv" not in out and "2 images" in out
    assert seen_remark(LabelledFolder.open(data), None) is None
