"""What a finished run folder has for the export, by name. Imports no PyTorch."""

from __future__ import annotations

from pathlib import Path

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
