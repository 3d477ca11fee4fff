"""The end of a run: the temperature, the refit, the sealed test opened once, and what is written of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gensoup.bench.claims import CLAIM
from gensoup.bench.dataset import GROUPS_FILE
from gensoup.bench.metrics import Scores, confusion_matrix, score, summarise
from gensoup.bench.thresholds import certain, choose_thresholds
from gensoup.export.trained import TrainedModel
from gensoup.runtime.console import StageProgress
from gensoup.runtime.files import write_atomic
from gensoup.train.finish import Finished
from gensoup.train.individual import Trainer
from gensoup.train.ledger import Record
from gensoup.train.refit import refit_and_calibrate
from gensoup.train.run_profile import RunProfile
from gensoup.train.scoring import predict_logits, probabilities
from gensoup.train.split import Split
from gensoup.train.summary import enrich
from gensoup.train.tensorboard import write_events

PREDICTIONS_FILE = "test_predictions.csv"
SCHEMA_VERSION = 2
HELD_OUT = ("search", "soup", "test")


def conclude(
    out: Path,
    split: Split,
    trainer: Trainer,
    finished: Finished,
    fingerprint: str,
    notes: Sequence[str],
    profile: RunProfile,
    progress: StageProgress,
) -> dict[str, Any]:
    """Refit, calibrate, open ``test``, write the model and the predictions.

    fingerprint: of the data; notes: on the run, for who reads its result; profile: whose latencies it was held to.
    ``images_trained`` is what the outcome took: every individual once, as the ledger has it, and all that passed beside
    them, in soups and in scoring them; so it is the same for a run that was cut off and resumed, and what a cut made
    to be done twice is not in it. The sealed test stands apart.
    """
    settings, ancestor = trainer.settings, finished.ancestor
    candidate = trainer.admission.candidate(ancestor.recipe["architecture"])
    final = refit_and_calibrate(trainer, ancestor, finished.model, progress)
    model, temperature = final.model, final.temperature
    # What is not in the ledger: soups (those over the limit too) and their scores; done anew where a run is resumed.
    besides, untested = trainer.meter.spent - trainer.ledger.images_added, trainer.meter.spent
    test_images = split.examples("test", candidate.size).images
    held_out = {**final.logits, "test": predict_logits(model, test_images, torch.device("cpu"))}
    tested = trainer.meter.spent - untested
    outputs = {role: probabilities(held_out[role], temperature) for role in HELD_OUT}
    scores = {role: _score(split, role, outputs[role]) for role in HELD_OUT}
    calibrated = split.folder.targets[split.roles[final.role]]
    thresholds = tuple(map(float, choose_thresholds(calibrated, outputs[final.role])))
    records = trainer.ledger.records()
    individuals = sum(record.images for record in records)
    metrics: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "labels": list(split.folder.labels),
        "architecture": candidate.name,
        "macs": candidate.macs,
        "parameters": candidate.parameters,
        "size": candidate.size,
        "temperature": temperature,
        "calibrated_on": final.role,
        "thresholds": dict(zip(split.folder.labels, thresholds, strict=True)),
        "scores": {role: value.to_dict() for role, value in scores.items()},
        "images_in_role": {role: len(chosen) for role, chosen in split.roles.items()},
        "groups_in_role": {
            role: len({split.groups[index] for index in chosen}) for role, chosen in split.roles.items()
        },
        "grouped_by": GROUPS_FILE if split.folder.groups is not None else "near-duplicates",
        "skipped": dict(split.store.skipped),
        "notes": [*split.notes, *notes, *([f"test: {chance}"] if (chance := scores["test"].chance_remark) else [])],
        "admitted": [
            {
                "architecture": one.name,
                "size": one.size,
                "macs": one.macs,
                "latency_ms": one.latency and one.latency.to_dict(),
            }
            for one in trainer.admission.candidates
        ],
        "excluded": [{"architecture": one.name, "reason": one.reason} for one in trainer.admission.excluded],
        "ancestor": ancestor.name,
        "soup": {
            "ingredients": list(finished.soup.names),
            "judge": settings.judge,
            "loss": finished.soup.loss,
            "steps": [vars(step) for step in finished.soup.steps],
        },
        "individuals": [{"name": record.name, **_plain(record)} for record in records],
        "limit_ms": settings.limit_ms,
        "latency_ms": finished.latency and finished.latency.to_dict(),
        "over_the_limit_when_fused": finished.dropped,
        "images_trained": individuals + besides,
        "images": {"individuals": individuals, "soup": besides, "test": tested},
        "settings": settings.to_dict(),
    }
    write_atomic(out / PREDICTIONS_FILE, _predictions(split, outputs["test"]))
    claim = profile.claim(candidate.name, candidate.size)
    trained = TrainedModel(
        architecture=candidate.name,
        labels=split.folder.labels,
        preprocess=settings.preprocess(candidate.size),
        temperature=temperature,
        macs=candidate.macs,
        parameters=candidate.parameters,
        data=str(Path(settings.data).resolve()),
        thresholds=thresholds,
        metrics={**_summary(scores), "certain": _certain(split, outputs["test"], thresholds)},
        provenance={
            "seed": settings.seed,
            "data_fingerprint": fingerprint,
            "genes": ancestor.genes,
            **({} if claim is None else {CLAIM: claim}),
        },
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


def _certain(split: Split, rows: NDArray[np.float64], thresholds: Sequence[float]) -> dict[str, float | None]:
    """What the thresholds make of the test: the share of images that are called with certainty, and how they fare."""
    kept = certain(rows, np.array(thresholds))
    truth = split.folder.targets[split.roles["test"]][kept]
    values = summarise(confusion_matrix(truth, rows[kept].argmax(1), rows.shape[1]))
    return {
        "coverage": float(kept.mean()),
        **{name: values[name] if len(truth) else None for name in ("accuracy", "mcc")},
    }


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
    """For JSON, which knows no infinity; a refit has no score, since it saw all that it could be scored on."""
    values = vars(record) | {"nll": record.nll if np.isfinite(record.nll) else None}
    return values | {"mcc": None} if record.complete and not record.scored else values
