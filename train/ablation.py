"""An ablation of the astrocytes: the same run with them, without them, and with their counters shuffled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import UsageError
from gensoup.runtime.files import write_atomic
from gensoup.train.genes import ASTROCYTE_SCALE
from gensoup.train.run import train_run
from gensoup.train.settings import CONFIG_FILE, Settings

ABLATION_FILE = "ablation.json"
SCHEMA_VERSION = 1
# Folder of each arm → what its counters are; the genes and all random numbers of the three are the same at the start.
ARMS = {"with": "own", "without": "off", "shuffled": "shuffled"}


def ablate(
    settings: Settings, out: Path, *, resume: bool = False, profile: Path | None = None, progress: StageProgress
) -> dict[str, Any]:
    """Three runs under ``out``, one an arm, and how they differ, which ``ablation.json`` keeps.

    The factors are searched in [.5, 1.5] unless the settings say otherwise. What one run shows is one draw: repeat with
    other seeds before it means anything. Raises what :func:`gensoup.train.run.train_run` raises.
    """
    if out.exists() and not resume and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: is not an empty folder; name a new one, or go on with it by --resume")
    if settings.scales["strong"].fixed and settings.scales["weak"].fixed:
        scales = {**settings.scales, "strong": ASTROCYTE_SCALE, "weak": ASTROCYTE_SCALE}
        settings = replace(settings, scales=scales)
    arms = {}
    for name, counters in ARMS.items():
        chosen = replace(settings, astrocyte_counters=counters)
        begun = (out / name / CONFIG_FILE).exists()
        metrics = train_run(
            chosen, out / name, resume=resume and begun, profile=profile, progress=_named(name, progress)
        )
        arms[name] = _arm(metrics)
    result = {"schema_version": SCHEMA_VERSION, "arms": arms, "differences": differences(arms)}
    write_atomic(out / ABLATION_FILE, json.dumps(result, indent=1))
    return result


def differences(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Test MCC with astrocytes less that of each control."""
    return {name: arms["with"]["test_mcc"] - arms[name]["test_mcc"] for name in arms if name != "with"}


def _arm(metrics: Mapping[str, Any]) -> dict[str, Any]:
    scores = metrics["scores"]
    changed = [one["extra"]["astrocytes"] for one in metrics["individuals"] if one.get("extra", {}).get("astrocytes")]
    rounds = sum(counts["rounds"] * counts["filters"] for counts in changed)
    return {
        "architecture": metrics["architecture"],
        "search_mcc": scores["search"]["mcc"],
        "test_mcc": scores["test"]["mcc"],
        "test_interval": scores["test"]["intervals"]["mcc"],
        "images": metrics["images_trained"],
        "potentiated": sum(counts["potentiated"] for counts in changed) / rounds if rounds else 0.0,
        "attenuated": sum(counts["attenuated"] for counts in changed) / rounds if rounds else 0.0,
    }


def _named(arm: str, progress: StageProgress) -> StageProgress:
    return lambda stage, done, total: progress(f"{arm}: {stage}", done, total)
