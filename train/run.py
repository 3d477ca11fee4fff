"""One run: from a folder of images to a run folder with one fused, scored and timed network."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gensoup.bench.dataset import LabelledFolder
from gensoup.bench.metrics import Scores, score
from gensoup.bench.probe import LatencyEstimate
from gensoup.bench.roles import ROLES_FILE, write_roles
from gensoup.export.trained import MODEL_FILE, TrainedModel
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import GenSoupError, UsageError
from gensoup.runtime.files import write_atomic
from gensoup.train.constraint import GIVEN_FILE, PROFILE_FILE, Admission, LimitError, RunProfile, admit
from gensoup.train.images import ImageStore, decode
from gensoup.train.learner import Examples
from gensoup.train.ledger import Ledger, Record
from gensoup.train.roles import assign_roles, near_duplicate_groups
from gensoup.train.scoring import fit_temperature, predict_logits, probabilities
from gensoup.train.search import RoleData, Search
from gensoup.train.settings import CONFIG_FILE, Settings
from gensoup.train.soup import Soup
from gensoup.train.summary import enrich
from gensoup.train.tensorboard import write_events

METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "test_predictions.csv"
ALPHABET_FILE = "alphabet.json"
CACHE = "cache"
SCHEMA_VERSION = 1
HELD_OUT = ("search", "soup", "test")


@dataclass(frozen=True)
class Split:
    """Usable images of a folder: their decoded store, roles (indices into ``folder.files``) and groups."""

    folder: LabelledFolder
    store: ImageStore
    rows: NDArray[np.int64]
    roles: Mapping[str, NDArray[np.int64]]
    groups: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def examples(self, role: str, size: int) -> Examples:
        """Images of one role at one size, in memory."""
        chosen = self.roles[role]
        images = self.store.by_size[size][self.rows[chosen]]
        return Examples(images, self.folder.targets[chosen], len(self.folder.labels))


def train_run(
    settings: Settings, out: Path, *, resume: bool = False, profile: Path | None = None, progress: StageProgress
) -> dict[str, Any]:
    """Search, fuse, score and time; returns what ``metrics.json`` holds.

    out: the run folder, new or empty, unless ``resume``; a finished run is returned as it is. profile: a device profile
    to take instead of probing this machine. Raises GenSoupError and its kinds for whatever a user can mend.
    """
    folder = LabelledFolder.open(settings.data)
    new, made = not (out / CONFIG_FILE).exists(), not out.exists()
    _open_run_folder(settings, out, folder.fingerprint(), resume)
    if (out / METRICS_FILE).exists() and (out / MODEL_FILE).exists():
        return read_metrics(out)
    started = time.monotonic()
    torch.set_num_threads(settings.threads)
    try:
        try:
            run_profile = RunProfile(out, settings, profile)
            admission = admit(settings, len(folder.labels), run_profile, progress)
            _same_alphabet(out, admission)
            split = _split(folder, settings, out / CACHE, progress)
        except GenSoupError:
            if new:
                _clear(out, made)
            raise
        search = Search(settings, admission, _role_data(split, settings), Ledger(out), progress)
        ranked = search.evolve()
        soup, model, latency, ancestor, dropped = _finish(search, ranked, settings, run_profile)
        metrics = _conclude(out, settings, split, admission, search, soup, model, ancestor)
        metrics |= {
            "latency_ms": None if latency is None else _finite(latency),
            "over_the_limit_when_fused": dropped,
            "seconds": round(time.monotonic() - started, 1),
        }
        write_atomic(out / METRICS_FILE, json.dumps(metrics, indent=1, ensure_ascii=False))
    finally:
        shutil.rmtree(out / CACHE, ignore_errors=True)  # patients' images; decoded again when resumed
    return read_metrics(out)


def read_metrics(run: Path) -> dict[str, Any]:
    """``metrics.json`` of a finished run. Raises GenSoupError."""
    try:
        values: dict[str, Any] = json.loads((run / METRICS_FILE).read_text(encoding="utf-8"))
        return values
    except (OSError, ValueError) as error:
        raise GenSoupError(f"{run}: no finished run ({METRICS_FILE}: {error})") from error


def _open_run_folder(settings: Settings, out: Path, fingerprint: str, resume: bool) -> None:
    if (out / CONFIG_FILE).exists():
        if not resume:
            raise UsageError(f"--out {out}: holds a run already; go on with it by --resume or name another folder")
        before, seen = Settings.load(out)
        if seen != fingerprint:
            raise UsageError(
                f"--resume: the images in {settings.data} have changed since the run began; start a new one"
            )
        if different := before.differences(replace(settings, data=before.data)):
            raise UsageError(f"--resume: the run in {out} has other settings ({'; '.join(different)})")
        return
    if resume:
        raise UsageError(f"--resume: no run in {out} to go on with; leave the option out to begin one")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: is not an empty folder; name a new one")
    settings.save(out, fingerprint)


def _same_alphabet(out: Path, admission: Admission) -> None:
    """Keep what the genes stand for; refuse to go on where other architectures or weights are found than then."""
    path, found = out / ALPHABET_FILE, admission.identity()
    if not path.exists():
        write_atomic(path, json.dumps(found, indent=1))
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    if found != before:
        changed = sorted(name for name in {*found, *before} if found.get(name) != before.get(name))
        raise UsageError(
            f"--resume: {', '.join(changed)} came with other initial weights, or none, when the run began; "
            "give the same --weights-dir and network, or start a new run"
        )


def _clear(out: Path, made: bool) -> None:
    """Take back a run that ended before anything was trained, so that it is not in a corrected call's way."""
    for name in (CONFIG_FILE, PROFILE_FILE, GIVEN_FILE, ALPHABET_FILE):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / CACHE, ignore_errors=True)
    if made:
        with contextlib.suppress(OSError):
            out.rmdir()


def _split(folder: LabelledFolder, settings: Settings, cache: Path, progress: StageProgress) -> Split:
    sizes = [settings.size, *(settings.size_of(generation) for generation in range(settings.generations))]
    store = decode(folder, settings.preprocess, sizes, cache, hashed=folder.groups is None, progress=progress)
    rows = np.array([index for index, file in enumerate(folder.files) if file not in store.skipped], np.int64)
    usable = folder.subset(rows)
    notes = [f"{len(folder.ignored)} other files in the folder were ignored"] if folder.ignored else []
    if store.hashes is not None:
        groups = tuple(near_duplicate_groups(store.hashes[rows]))
    else:
        assert usable.groups is not None
        groups = usable.groups
        alone = sum(group == file for group, file in zip(groups, usable.files, strict=True))
        if folder.unmatched_groups:
            notes.append(f"groups.csv: {folder.unmatched_groups} lines name no image of this folder")
        if alone:
            notes.append(f"groups.csv: {alone} images stand in no line; each counts as a group of its own")
    roles = assign_roles(usable.files, usable.targets, groups, usable.labels, settings.seed)
    return Split(usable, store, rows, roles, groups, tuple(notes))


def _role_data(split: Split, settings: Settings) -> RoleData:
    return RoleData(
        train={size: split.examples("train", size) for size in split.store.by_size},
        search=split.examples("search", settings.size),
        soup=split.examples("soup", settings.size),
    )


def _finish(
    search: Search, ranked: list[Record], settings: Settings, profile: RunProfile
) -> tuple[Soup, nn.Module, LatencyEstimate | None, Record, list[dict[str, str]]]:
    """Fuse the best ancestor's branches and time the result; over the limit, the next architecture's best is taken."""
    dropped: list[dict[str, str]] = []
    for ancestor in _best_of_each_architecture(ranked):
        soup, model = search.finish(ancestor)
        if settings.min_fps is None:
            return soup, model, None, ancestor, dropped
        name, limit = ancestor.recipe["architecture"], 1e3 / settings.min_fps
        latency = profile.fused(name, model)
        if latency is not None and latency.p99_ms <= limit:
            return soup, model, latency, ancestor, dropped
        shown = "not in the device profile" if latency is None else f"fused p99 {latency.p99_ms:.1f} ms"
        dropped.append({"architecture": name, "reason": f"{shown}, limit {limit:.2f} ms"})
    reasons = "; ".join(f"{entry['architecture']}: {entry['reason']}" for entry in dropped)
    raise LimitError(f"no fused network holds --min-fps {settings.min_fps:g} ({reasons})")


def _best_of_each_architecture(ranked: list[Record]) -> list[Record]:
    best: dict[str, Record] = {}
    for record in ranked:
        best.setdefault(record.recipe["architecture"], record)
    return list(best.values())


def _conclude(
    out: Path,
    settings: Settings,
    split: Split,
    admission: Admission,
    search: Search,
    soup: Soup,
    model: nn.Module,
    ancestor: Record,
) -> dict[str, Any]:
    """Fit the temperature on ``search``, open ``test``, write the model, roles and predictions."""
    device = torch.device("cpu")
    logits = {role: predict_logits(model, split.examples(role, settings.size).images, device) for role in HELD_OUT}
    temperature = fit_temperature(logits["search"], split.folder.targets[split.roles["search"]])
    outputs = {role: probabilities(logits[role], temperature) for role in HELD_OUT}
    scores = {role: _score(split, role, outputs[role]) for role in HELD_OUT}
    records = search.ledger.records()
    candidate = admission.candidate(ancestor.recipe["architecture"])
    metrics: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "labels": list(split.folder.labels),
        "architecture": candidate.name,
        "macs": candidate.macs,
        "parameters": candidate.parameters,
        "size": settings.size,
        "temperature": temperature,
        "scores": {role: value.to_dict() for role, value in scores.items()},
        "images_in_role": {role: len(chosen) for role, chosen in split.roles.items()},
        "skipped": dict(split.store.skipped),
        "notes": list(split.notes),
        "admitted": [
            {"architecture": one.name, "macs": one.macs, "latency_ms": one.latency and _finite(one.latency)}
            for one in admission.candidates
        ],
        "excluded": [{"architecture": one.name, "reason": one.reason} for one in admission.excluded],
        "ancestor": ancestor.name,
        "soup": {
            "ingredients": list(soup.names),
            "soup_nll": soup.soup_nll,
            "steps": [vars(step) for step in soup.steps],
        },
        "individuals": [{"name": record.name, **_plain(record)} for record in records],
        "images_trained": sum(record.images for record in records),
        "settings": settings.to_dict(),
    }
    write_roles(
        out / ROLES_FILE,
        {role: tuple(split.folder.files[index] for index in rows) for role, rows in split.roles.items()},
    )
    write_atomic(out / PREDICTIONS_FILE, _predictions(split, outputs["test"]))
    trained = TrainedModel(
        architecture=candidate.name,
        labels=split.folder.labels,
        preprocess=settings.preprocess,
        temperature=temperature,
        macs=candidate.macs,
        parameters=candidate.parameters,
        data=str(Path(settings.data).resolve()),
        metrics=_summary(scores),
        provenance={"seed": settings.seed, "data_fingerprint": Settings.load(out)[1], "genes": ancestor.genes},
    )
    trained.save(out, model.state_dict())
    write_events(out, records, metrics["scores"])
    test = split.roles["test"]
    return enrich(metrics, split.folder.targets[test], outputs["test"], [split.groups[index] for index in test])


def _score(split: Split, role: str, rows: NDArray[np.float64]) -> Scores:
    chosen = split.roles[role]
    groups = [split.groups[index] for index in chosen]
    return score(split.folder.targets[chosen], rows, groups=groups)


def _summary(scores: Mapping[str, Scores]) -> dict[str, Any]:
    """What goes into the bundle's manifest: the test's metrics, and the search's correlation beside them."""
    test = scores["test"].to_dict()
    kept = {name: value for name, value in test.items() if name not in ("per_class", "confusion_matrix")}
    return {**kept, "role": "test", "search_mcc": scores["search"].to_dict()["mcc"]}


def _predictions(split: Split, rows: NDArray[np.float64]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    labels = split.folder.labels
    writer.writerow(["file", "truth", "predicted", *(f"p({label})" for label in labels)])
    for index, row in zip(split.roles["test"], rows, strict=True):
        truth, predicted = labels[split.folder.targets[index]], labels[int(row.argmax())]
        writer.writerow([split.folder.files[index], truth, predicted, *(f"{value:.6f}" for value in row)])
    return text.getvalue()


def _plain(record: Record) -> dict[str, Any]:
    nll = record.nll if np.isfinite(record.nll) else None
    values = vars(replace(record, nll=0.0)) | {"nll": nll}
    return {key: value for key, value in values.items() if key != "extra"}


def _finite(estimate: LatencyEstimate) -> dict[str, float | None]:
    """For JSON, which knows no infinity."""
    return {name: value if np.isfinite(value) else None for name, value in asdict(estimate).items()}
