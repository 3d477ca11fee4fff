"""What a finished run folder has for the export, by name. Imports no PyTorch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from gensoup.bench.roles import ROLES_FILE, read_roles, roles_digest
from gensoup.runtime.errors import DataError

MODEL_FILE = "model.safetensors"
METRICS_FILE = "metrics.json"


def check_finished(run: Path, file: str) -> None:
    """Raise DataError, with the remedy, unless this is the folder of a training that has come to write ``file``."""
    if not run.exists():
        raise DataError(f"{run}: no such folder; name the run folder that gensoup train --out made")
    if not run.is_dir():
        raise DataError(f"{run}: is a file; name the run folder that gensoup train --out made")
    if not (run / file).is_file():
        raise DataError(f"{run}: no finished run ({file} is missing); finish it with gensoup train --resume")


def fingerprints(run: Path) -> dict[str, str]:
    """What ties a bundle to its run: hashes of the trained network's file and of the images' roles."""
    return {"model_sha256": model_digest(run), "roles_sha256": roles_digest(read_roles(run / ROLES_FILE))}


def was_refitted(run: Path) -> bool:
    """Whether the network trained on the run's validation images in the end; False where the run does not tell."""
    try:
        settings = json.loads((run / METRICS_FILE).read_text(encoding="utf-8"))["settings"]
        return float(settings["refit_epochs"]) > 0
    except (OSError, ValueError, KeyError, TypeError):
        return False


def model_digest(run: Path) -> str:
    """SHA-256 (hex) of the trained network's file. Raises DataError where there is none."""
    check_finished(run, MODEL_FILE)
    return hashlib.sha256((run / MODEL_FILE).read_bytes()).hexdigest()
