"""What was measured of the deployed bundle, for the report: of one bundle, and of the run's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gensoup.export.run_files import MODEL_FILE, model_digest
from gensoup.runtime.archive import shown
from gensoup.runtime.errors import DataError

_SHOWN = 12  # hexadecimal digits of a hash


@dataclass(frozen=True)
class Deployed:
    """Results of ``gensoup bench --json`` and ``gensoup eval --json``; None where there are none."""

    gate: Mapping[str, Any] | None = None
    evaluation: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, run: Path, bench: Path | None, evaluation: Path | None) -> Deployed:
        """Raises DataError for what is no such result, or one of a bundle that is not this run's, naming both hashes.

        A result without the hash, or a run without its network, is taken at the user's word.
        """
        gate = None if bench is None else _json(bench, "verdict", "gensoup bench --json")
        deployed = None if evaluation is None else _json(evaluation, "confusion_matrix", "gensoup eval --json")
        ours = model_digest(run) if (run / MODEL_FILE).is_file() else None
        for path, values in ((bench, gate), (evaluation, deployed)):
            theirs = values and values.get("model_sha256")
            if theirs and ours and theirs != ours:
                raise DataError(
                    f"{path}: of a bundle of another run (its network {_hash(theirs)}, {run}'s {_hash(ours)}); measure "
                    "the bundle that was exported from this run"
                )
        if gate and deployed:
            timed, scored = gate.get("bundle_sha256"), deployed.get("bundle_sha256")
            if timed and scored and timed != scored:
                raise DataError(
                    f"{bench}: of bundle {_hash(timed)}, and {evaluation} of {_hash(scored)}; both must be of one"
                )
        return cls(gate, deployed)


def _json(path: Path, key: str, command: str) -> Mapping[str, Any]:
    """A command's result, known by a key that it has."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a result in JSON ({error}); write it with `{command}`") from error
    if not isinstance(values, dict) or key not in values:
        raise DataError(f"{path}: not a result of `{command}`")
    return values


def _hash(value: object) -> str:
    return f"{shown(str(value)[:_SHOWN])}…"
