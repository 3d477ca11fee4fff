"""The model card inside a bundle: what it is for, what it was made from, how well it does, what is not known of it.

Sections after Mitchell et al., "Model Cards for Model Reporting" (2019); the head is Hugging Face's card metadata.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from gensoup.bench.dataset import GROUPS_FILE
from gensoup.bench.metrics import TITLES
from gensoup.bench.roles import ROLES_FILE, read_roles
from gensoup.export.run_files import METRICS_FILE
from gensoup.runtime.manifest import Manifest

_EMPHASIS = re.compile(r"(?<![^\W_])_|_(?![^\W_])")  # an underscore inside a word stands for itself
_UNUSUAL = ("f1_of_macros",)  # a second F1 would be taken for the usual one
_RATIOS = ("precision", "recall", "specificity", "f1")
# Torchvision's own trainings and conversions; what it distributes under other terms (SWAG) is not among them.
_TORCHVISION_BSD = (
    "convnext_",
    "efficientnet_",
    "mnasnet",
    "mobilenet_",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "resnet",
    "shufflenet_",
    "squeezenet",
)
_BSD = (
    "published with torchvision (BSD-3-Clause) and trained on ImageNet-1k, whose terms allow non-commercial research "
    "and education; torchvision leaves it to the user to find out whether that covers the use at hand"
)


def model_card(
    manifest: Manifest, data: str, roles: Mapping[str, Sequence[str]], run: Mapping[str, Any] | None = None
) -> str:
    """The text of ``card.md``, a pure function.

    data: the dataset folder's name, without its path. roles: role → files "CLASS/…". run: what the run's
    ``metrics.json`` holds, None where it is gone: the card then says what the manifest alone knows.
    """
    run = run or {}
    sections = {
        "Model details": _details(manifest),
        "Intended use": _intended_use(manifest),
        "Data": _data(manifest, data, roles, run),
        "Metrics": _metrics(manifest, run),
        "Calibration and certainty": _calibration(manifest, run),
        "Speed": _speed(run),
        "Limits": _limits(manifest, run),
        "Licence of the initial weights": initial_weights(manifest.architecture, run.get("settings")),
        "Provenance": _provenance(manifest),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"{_head(manifest, data)}\n# {_text(manifest.architecture)} for {_text(data)}\n\n{body}\n"


def card_of_run(manifest: Manifest, data: str, run: Path) -> str:
    """The card of a bundle made from a run folder. What the folder lacks, the card leaves out or calls unknown."""
    roles, metrics = run / ROLES_FILE, run / METRICS_FILE
    try:
        values = json.loads(metrics.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        values = None
    return model_card(manifest, data, read_roles(roles) if roles.is_file() else {}, values)


def initial_weights(architecture: str, settings: Mapping[str, Any] | None) -> str:
    """Where the initial weights came from and under which terms, as far as a run's ``settings`` tell."""
    if settings is None:
        return "Unknown: the run's settings were not at hand when this bundle was made."
    folder, pretrained = settings.get("weights_dir"), settings.get("init") == "pretrained"
    if folder is None and not pretrained:
        return "None: the weights were drawn at random before training."
    known = architecture.startswith(_TORCHVISION_BSD)
    published = (
        f"If they are torchvision's: {_BSD}." if known else "Torchvision's page on the architecture names its terms."
    )
    if folder is not None:
        return (
            f"Unknown: they may come from a file of `--weights-dir` ({_text(PurePosixPath(str(folder)).name)}), whose "
            f"origin and terms a run does not record. {published}"
        )
    if known:
        return f"Torchvision's default weights for {_text(architecture)}, {_BSD}."
    return f"Torchvision's default weights for {_text(architecture)}; their terms are not known here. {published}"


def _head(manifest: Manifest, data: str) -> str:
    """YAML, every value spelt as JSON, which YAML includes."""
    values: dict[str, Any] = {
        "library_name": "gensoup",
        "pipeline_tag": "image-classification",
        "license": "unknown",
        "tags": ["endoscopy", "real-time", "onnx", manifest.architecture],
        "metrics": ["accuracy", "matthews_correlation", "f1"],
    }
    results = [
        {"type": kind, "value": round(float(manifest.metrics[name]), 4)}
        for name, kind in (("accuracy", "accuracy"), ("mcc", "matthews_correlation"), ("macro_f1", "f1"))
        if name in manifest.metrics
    ]
    if results:
        dataset = {"name": data, "type": data, "split": "test"}
        result = {"task": {"type": "image-classification"}, "dataset": dataset, "metrics": results}
        values["model-index"] = [{"name": manifest.architecture, "results": [result]}]
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
    return "\n".join(["---", *lines, "---", ""])


def _details(manifest: Manifest) -> str:
    precisions = ", ".join(manifest.precisions)
    return _list(
        f"Network: {_text(manifest.architecture)}, found and trained by GenSoup's genetic search, its weights fused",
        f"Input: one BGR frame of any size, brought to {manifest.preprocess.size} × {manifest.preprocess.size} px "
        f"({manifest.preprocess.fit})",
        f"Output: a probability for each of {len(manifest.labels)} classes: {', '.join(map(_text, manifest.labels))}",
        f"Cost of a frame: {manifest.macs / 1e6:.1f} million multiply-adds; {manifest.parameters:,} parameters",
        f"Precisions in this bundle: {precisions}",
    )


def _intended_use(manifest: Manifest) -> str:
    return (
        "Research on classifying endoscopic video frames in real time, and measuring such systems. **Not a medical "
        "device:** it is approved by nobody, and neither diagnosis nor treatment may rest on it.\n\nOut of scope: any "
        "clinical decision; frames of other organs, endoscopes or processing than those of the data; telling whether "
        f"a frame shows something that none of the {len(manifest.labels)} classes stands for: it always names one."
    )


def _data(manifest: Manifest, data: str, roles: Mapping[str, Sequence[str]], run: Mapping[str, Any]) -> str:
    counts = {
        role: Counter(unicodedata.normalize("NFC", PurePosixPath(file).parts[0]) for file in files)
        for role, files in roles.items()
    }
    lines = [f"Folder `{_text(data)}`, fingerprint `{manifest.provenance.get('data_fingerprint', 'unknown')}`."]
    if counts:
        groups = run.get("groups_in_role", {})
        rows = [[name, *(str(count[name]) for count in counts.values())] for name in manifest.labels]
        rows.append(["all images", *(str(sum(count.values())) for count in counts.values())])
        if groups:
            rows.append(["groups", *(str(groups.get(role, "unknown")) for role in counts)])
        lines.append(_table(["class", *counts], rows))
    by = run.get("grouped_by")
    if by == GROUPS_FILE:
        lines.append(
            "Roles were dealt by the groups of `groups.csv` (patient, examination or scene): none is on two sides."
        )
    elif by is not None:
        lines.append(
            "The folder names no patients: groups are near-duplicate frames found by perceptual hash, so frames of one "
            "patient may lie on both sides of a split, which flatters the numbers below."
        )
    skipped = run.get("skipped", {})
    if skipped:
        lines.append(f"{len(skipped)} images could not be read and were left out.")
    lines += [f"Note: {_text(str(note))}." for note in run.get("notes", ())]
    return "\n\n".join(lines)


def _metrics(manifest: Manifest, run: Mapping[str, Any]) -> str:
    metrics = manifest.metrics
    if "n" not in metrics:
        return "None were recorded."
    intervals = metrics.get("intervals", {})
    rows = [
        [title, f"{metrics[name]:.4f}", _interval(intervals.get(name))]
        for name, title in TITLES.items()
        if name in metrics and name not in _UNUSUAL
    ]
    text = (
        f"On the sealed test, {metrics['n']} images that neither training nor search nor fusion saw, opened once. "
        "Intervals are 95%, by bootstrap over groups.\n\n" + _table(["metric", "value", "interval"], rows)
    )
    scores = run.get("scores", {}).get("test", {})
    if columns := scores.get("per_class"):
        spans = run.get("summary", {}).get("per_class_intervals", {})
        rows = []
        for index, label in enumerate(manifest.labels):
            cells = [_with_interval(columns[name][index], spans.get(name), index) for name in _RATIOS]
            rows.append([label, str(columns["support"][index]), *cells])
        text += "\n\n" + _table(["class", "images", *_RATIOS], rows)
    if confusion := scores.get("confusion_matrix"):
        rows = [[label, *map(str, row)] for label, row in zip(manifest.labels, confusion, strict=True)]
        text += "\n\nRows are the truth, columns the answers.\n\n" + _table(["", *manifest.labels], rows)
    return text


def _calibration(manifest: Manifest, run: Mapping[str, Any]) -> str:
    lines = []
    role = run.get("calibrated_on", "search")
    seen = ", before the network was trained on it" if run.get("settings", {}).get("refit_epochs") else ""
    if "temperature" in run:
        lines.append(f"A temperature of {run['temperature']:.3f}, fitted on `{role}`{seen}, is part of the graph.")
    if "calibration_error" in manifest.metrics:
        lines.append(
            f"On the test a stated probability is off by {manifest.metrics['calibration_error']:.3f} on average "
            "(expected calibration error)."
        )
    if not manifest.thresholds:
        return " ".join([*lines, "No thresholds were chosen: every answer counts as certain."])
    lines.append(
        f"Below its class's threshold an answer should count as uncertain. Thresholds were chosen on `{role}`{seen}: "
        "the highest F1 that leaves a recall of .85 where the network has it."
    )
    table = _table(["class", "threshold"], [[label, f"{value:.3f}"] for label, value in manifest.thresholds.items()])
    text = " ".join(lines) + "\n\n" + table
    if certain := manifest.metrics.get("certain"):
        among = "" if certain["accuracy"] is None else f", and of these {certain['accuracy']:.1%} are right"
        text += f"\n\nOn the test {certain['coverage']:.1%} of the images are called with certainty{among}."
    return text


def _speed(run: Mapping[str, Any]) -> str:
    latency, limit = run.get("latency_ms"), run.get("limit_ms")
    if not latency or limit is None:
        return "Not measured in this run. `gensoup bench` measures it on the device."
    values = ", ".join(
        f"{name} {latency[f'{name}_ms']:.2f} ms"
        for name in ("p50", "p95", "p99")
        if latency.get(f"{name}_ms") is not None
    )
    device = run.get("device") or {}
    named = device.get("model") or device.get("cpu")
    where = f" on {_text(str(named))}" if named else ""
    return (
        f"The whole path of a frame{where}: {values or 'dropped frames'}; the limit was {limit:.2f} ms. A short probe, "
        "no proof: `gensoup bench` judges the device at hand."
    )


def _limits(manifest: Manifest, run: Mapping[str, Any]) -> str:
    metrics = manifest.metrics
    lines = [
        "Not recorded, hence unknown: the centres, endoscopes, patients and annotators behind the images. Numbers from "
        "one folder say nothing about another hospital; score the bundle on its frames first (`gensoup eval`).",
        "A network can read a class off overlays or borders of the frame instead of the tissue. Whether this data "
        "invites that was not recorded here; `gensoup data audit` measures it.",
    ]
    support = run.get("scores", {}).get("test", {}).get("per_class", {}).get("support")
    if support:
        fewest = min(range(len(support)), key=support.__getitem__)
        lines.append(
            f"The smallest class of the test, {_text(manifest.labels[fewest])}, has {support[fewest]} images: its "
            "numbers are the least certain."
        )
    if any(low == high for low, high in metrics.get("intervals", {}).values()):
        lines.append(
            "An interval without width comes from a test without mistakes; it does not mean that there are none."
        )
    lines.append("Still frames were scored. Blur, bleeding, instruments and light of live video may not be among them.")
    return _list(*lines)


def _provenance(manifest: Manifest) -> str:
    provenance = manifest.provenance
    versions = ", ".join(f"{name} {version}" for name, version in provenance.get("versions", {}).items())
    genes = json.dumps(provenance.get("genes", {}), ensure_ascii=False)
    return _list(
        f"Versions: {versions or 'unknown'}",
        f"Seed: {provenance.get('seed', 'unknown')}",
        f"Genes: `{genes}`",
        "Parity of every graph with the trained network, and the hash of every part: `manifest.json`",
    )


def _with_interval(value: float, spans: Sequence[Sequence[float] | None] | None, index: int) -> str:
    """A class that a resampling never predicts, or never holds, has no interval."""
    span = spans[index] if spans else None
    return f"{value:.3f}" + (f" ({span[0]:.2f}–{span[1]:.2f})" if span else "")


def _interval(pair: Sequence[float] | None) -> str:
    return "unknown" if pair is None else f"{pair[0]:.4f} … {pair[1]:.4f}"


def _list(*entries: str) -> str:
    return "\n".join(f"* {entry}" for entry in entries)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [[_text(cell) for cell in row] for row in (head, *rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    """A name so that Markdown and HTML show it as it is: class folders are called as they like."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    escaped = "".join(f"\\{sign}" if sign in "\\`*|[]#$" else sign for sign in escaped)
    return _EMPHASIS.sub(r"\\_", escaped)
