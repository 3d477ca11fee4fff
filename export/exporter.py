"""From a finished run to a bundle: graphs, golden frames, parity, and only then the file."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch

import gensoup
from gensoup.export.card import card_of_run
from gensoup.export.golden_frames import constant_error, golden_frames
from gensoup.export.graph import to_onnx
from gensoup.export.parity import MAX_INT8_TOLERANCE, TOLERANCE, Parity, ParityError, reference_probabilities
from gensoup.export.parity_page import Compared, ParityReport
from gensoup.export.precisions import BuiltGraph, build_graph
from gensoup.export.proof import Proof, largest_difference
from gensoup.export.request import check_out, parse_engines, parse_precisions, parse_targets
from gensoup.export.run_files import fingerprints
from gensoup.export.saliency_calibration import describe
from gensoup.export.saliency_parity import MAX_FRAMES as MAX_SALIENCY_FRAMES
from gensoup.export.saliency_parity import prove_saliency, reference_maps
from gensoup.export.samples import (
    CALIBRATION_ROLES,
    MAX_CALIBRATION_FRAMES,
    MAX_PARITY_FRAMES,
    PARITY_ROLES,
    evenly,
    read_samples,
)
from gensoup.export.targets import staged
from gensoup.export.trained import TrainedModel
from gensoup.runtime.bundle import MODEL_FILES, Golden, bundle_digest, pack_bundle, parse_bundle
from gensoup.runtime.classifier import Classifier, LoadOptions
from gensoup.runtime.console import StageProgress
from gensoup.runtime.engines import Engine
from gensoup.runtime.engines.catalogue import REFERENCE
from gensoup.runtime.files import write_atomic
from gensoup.runtime.manifest import Manifest

# Of a probability on golden frames: other engines round int8 otherwise than those that were here.
LEAST_INT8_TOLERANCE = 0.05
# Of what a constant answer is off by on the golden frames, the most that any engine may be.
BELOW_CONSTANT = 0.8


@dataclass(frozen=True)
class Exported:
    """The written bundle and the parity that allowed it. target_files: what was written beside it; removed: what an
    earlier export had left there."""

    path: Path
    sha256: str
    size_bytes: int
    report: ParityReport
    target_files: tuple[Path, ...] = ()
    removed: tuple[Path, ...] = ()

    @property
    def parity(self) -> Parity:
        """That of the fp32 graph on the reference engine."""
        return self.report.compared[0].parity


def export_run(
    run: Path,
    out: Path,
    data: Path | None = None,
    progress: StageProgress | None = None,
    *,
    precisions: Sequence[str] = ("fp32",),
    targets: Sequence[str] = (),
    engines: Sequence[str] | None = None,
    parity_json: Path | None = None,
    parity_page: Path | None = None,
    force: bool = False,
) -> Exported:
    """Export a finished run as a bundle with a graph for each precision.

    Every graph is compared with PyTorch on the run's validation images, read and preprocessed anew from ``data``
    (None: the folder the run was trained on), on every engine of ``engines`` (None: all that are usable here). The
    bundle and the files of ``targets`` are written only if all agree, after it was opened once as a cart would. The
    parity report is written either way, where a file for it is named. force: replace an earlier export, with all that
    it left beside the bundle.
    Raises ParityError, DataError, UsageError, GenSoupError.
    """
    asked, targets, proven_on = parse_precisions(precisions), parse_targets(targets), parse_engines(engines)
    former = check_out(out, asked, targets, force)
    report = progress or (lambda stage, done, total: None)
    trained, model = TrainedModel.load(run)
    folder = data or Path(trained.data)
    samples = read_samples(run, folder, trained, PARITY_ROLES, MAX_PARITY_FRAMES, report)
    expected = reference_probabilities(model, trained.temperature, samples.frames)
    training_frames = read_samples(run, folder, trained, CALIBRATION_ROLES, MAX_CALIBRATION_FRAMES, report).frames
    report("graph", 0, 1)
    shown, saliency = describe(model, training_frames)
    graph = to_onnx(model, trained.temperature, trained.preprocess.size, shown)
    report("graph", 1, 1)
    explained = samples.frames[evenly(len(samples), MAX_SALIENCY_FRAMES)]
    maps = reference_maps(model, trained.temperature, shown, explained) if shown is not None else ()
    proof = Proof(expected, samples, trained.labels, proven_on)

    graphs: dict[str, BuiltGraph] = {}
    compared: list[Compared] = []
    for precision in asked:
        built = graphs[precision] = build_graph(precision, graph, training_frames, proof, report)
        report(f"parity {precision}", 0, 1)
        compared += proof.compared(built.model, precision)
        report(f"parity {precision}", 1, 1)
    outcome = ParityReport(run.name, tuple(compared), {name: built.stated() for name, built in graphs.items()})
    if parity_json is not None:
        write_atomic(parity_json, json.dumps(outcome.to_dict(), indent=1, ensure_ascii=False, allow_nan=False))
    if parity_page is not None:
        write_atomic(parity_page, outcome.to_html(samples))
    for one in compared:
        one.parity.check()
    graphs = {
        name: prove_saliency(built, maps, explained, proof.open(built.model, name)) for name, built in graphs.items()
    }
    opened = {name: list(proof.open(built.model, name)) for name, built in graphs.items()}
    quantised = opened.get("int8")
    golden = golden_frames(
        model,
        trained.temperature,
        trained.preprocess,
        (lambda *frame: largest_difference(quantised, *frame)) if quantised else None,
    )
    manifest = Manifest(
        labels=trained.labels,
        preprocess=trained.preprocess,
        architecture=trained.architecture,
        macs=trained.macs,
        parameters=trained.parameters,
        precisions={name: _stated(built, outcome, golden, opened[name]) for name, built in graphs.items()},
        thresholds=dict(zip(trained.labels, trained.thresholds, strict=False)),
        metrics=trained.metrics,
        provenance={**trained.provenance, **fingerprints(run), "versions": versions()},
        saliency=saliency,
    )
    models = {name: built.model for name, built in graphs.items()}
    content = pack_bundle(out, manifest, models, golden, card_of_run(manifest, Path(trained.data).name, run))
    packed = parse_bundle(out, content)
    for precision in models:  # not "auto": the machine that exports is seldom the one that runs it
        Classifier.of(packed, LoadOptions(REFERENCE, precision)).engine.close()
    with staged(targets, out, models, manifest, golden) as files:
        write_atomic(out, content)
    removed = [path for path in former if path not in (out, *files)]
    for path in removed:
        path.unlink(missing_ok=True)
    return Exported(out, bundle_digest(content), len(content), outcome, tuple(files), tuple(removed))


def versions() -> dict[str, str]:
    """Versions of what made the bundle."""
    return {
        "gensoup": gensoup.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def _stated(built: BuiltGraph, outcome: ParityReport, golden: Golden, engines: Sequence[Engine]) -> Mapping[str, Any]:
    """What the manifest says of a precision: what was asked, built and reached, by the reference engine and the others.

    The tolerance is that of the golden frames on any engine. int8's depends on the network, for what int8 does to one
    frame has no bound of its own: it is what was seen on validation and golden frames, on the engines here. No
    precision's is so wide that an engine would pass which always gives one answer. engines: with the graph loaded.
    """
    parities = [one.parity for one in outcome.compared if one.parity.precision == built.precision]
    apart = largest_difference(engines, golden.frames, golden.probabilities)
    tolerance = parities[0].tolerance
    if tolerance is None:
        seen = max(2 * apart, *(parity.largest_difference for parity in parities))
        tolerance = min(max(seen, LEAST_INT8_TOLERANCE), MAX_INT8_TOLERANCE)
    tolerance = max(min(tolerance, BELOW_CONSTANT * constant_error(golden.probabilities)), TOLERANCE["fp32"])
    if not apart <= tolerance:
        remedy = "" if built.precision == "fp32" else f"; leave {built.precision} out of --precision"
        raise ParityError(
            f"{built.precision}: golden frames are apart by {apart:.2g} from {parities[0].reference}, allowed: "
            f"{tolerance:.2g}{remedy}"
        )
    return {
        "member": MODEL_FILES[built.precision],
        **asdict(parities[0]),
        "tolerance": tolerance,
        **built.stated(),
        "engines": [asdict(parity) for parity in parities[1:]],
    }
