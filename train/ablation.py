"""An ablation of the astrocytes: the same run with them, without them, and with their counters shuffled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gensoup.bench.dataset import LabelledFolder
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import GenSoupError, UsageError, WriteError
from gensoup.runtime.files import write_atomic
from gensoup.train.constraint import admit
from gensoup.train.executor import Executor
from gensoup.train.genes import ASTROCYTE_SCALE
from gensoup.train.image_cache import ImageCache
from gensoup.train.report import write_report
from gensoup.train.run import ALPHABET_FILE, train_run
from gensoup.train.run_folder import ARMS, CONFIG_FILE, held
from gensoup.train.run_profile import PROFILE_FILE, RunProfile
from gensoup.train.settings import Settings

ABLATION_FILE = "ablation.json"
SCHEMA_VERSION = 1


def ablate(
    settings: Settings,
    out: Path,
    *,
    resume: bool = False,
    profile: Path | None = None,
    cache: ImageCache | None = None,
    executor: Executor | None = None,
    ledger: str | None = None,
    progress: StageProgress,
) -> dict[str, Any]:
    """Three runs under ``out``, one an arm, each with its report, and how they differ, which ``ablation.json`` keeps.

    The factors are searched in [.5, 1.5] unless the settings say otherwise. With a limit of time this machine is probed
    once, into ``out``, and every arm takes that profile: the arms differ in their counters, not in what was measured
    when. cache, executor, ledger: as for train_run; with a cache, images are decoded once for all three. What one run
    shows is one draw: repeat with other seeds before it means anything. Raises what
    :func:`gensoup.train.run.train_run` raises.
    """
    if resume and not out.is_dir():
        raise UsageError(f"--resume: no run in {out} to go on with; leave the option out to begin one")
    if out.exists() and not resume and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: is not an empty folder; name a new one, or go on with it by --resume")
    if settings.scales["strong"].fixed and settings.scales["weak"].fixed:
        scales = {**settings.scales, "strong": ASTROCYTE_SCALE, "weak": ASTROCYTE_SCALE}
        settings = replace(settings, scales=scales)
    folder = LabelledFolder.open(settings.data)
    made = not out.exists()
    arms, alphabets = {}, {}
    with held(out):
        shared = profile
        if shared is None and settings.limit_ms is not None:
            shared = _probed(settings, len(folder.labels), out, made, progress)
        for name, counters in ARMS.items():
            chosen = replace(settings, astrocyte_counters=counters)
            begun = (out / name / CONFIG_FILE).exists()
            metrics = train_run(
                chosen,
                out / name,
                resume=resume and begun,
                profile=shared,
                cache=cache,
                executor=executor,
                ledger=ledger,
                progress=_named(name, progress),
            )
            alphabets[name] = json.loads((out / name / ALPHABET_FILE).read_text(encoding="utf-8"))
            check_alphabets(alphabets)
            arms[name] = _arm(metrics)
            write_report(out / name)
        result = {"schema_version": SCHEMA_VERSION, "arms": arms, "differences": differences(arms)}
        write_atomic(out / ABLATION_FILE, json.dumps(result, indent=1))
    return result


def check_alphabets(alphabets: Mapping[str, Mapping[str, str]]) -> None:
    """Raise GenSoupError unless every arm chose from the same architectures with the same initial weights: else their
    difference would not be the astrocytes'. alphabets: arm → architecture → digest of its weights."""
    first, *others = alphabets
    for name in others:
        if alphabets[name] != alphabets[first]:
            raise GenSoupError(
                f"the runs '{first}' and '{name}' chose from other architectures or weights "
                f"({', '.join(alphabets[first])}; {', '.join(alphabets[name])}), so they compare with nothing; "
                "start the ablation anew"
            )


def _probed(settings: Settings, classes: int, out: Path, made: bool, progress: StageProgress) -> Path:
    """The profile that all arms share: what this machine needs for every architecture that may be admitted."""
    try:
        admit(settings, classes, RunProfile(out, settings, None), progress)
    except WriteError:
        raise
    except GenSoupError:  # nothing was begun: leave nothing in a corrected call's way
        if not any((out / name).exists() for name in ARMS):
            (out / PROFILE_FILE).unlink(missing_ok=True)
            if made:
                out.rmdir()
        raise
    return out / PROFILE_FILE


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
        "notes": list(metrics["notes"]),
        "attenuated": sum(counts["attenuated"] for counts in changed) / rounds if rounds else 0.0,
    }


def _named(arm: str, progress: StageProgress) -> StageProgress:
    return lambda stage, done, total: progress(f"{arm}: {stage}", done, total)
