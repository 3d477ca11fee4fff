"""``gensoup eval``: the classification metrics of a deployed bundle on a labelled folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gensoup.runtime.engine_options import EngineName, EnginesDir, PrecisionName, Threads
from gensoup.runtime.signature_cli import RequireSignature

if TYPE_CHECKING:
    from rich.console import Console

    from gensoup.bench.dataset import LabelledFolder
    from gensoup.bench.evaluate import Evaluation
    from gensoup.runtime.classifier import Classifier

_LARGEST_SHOWN = 12
_RATIOS = ("precision", "recall", "specificity", "f1")


def eval_command(
    bundle: Annotated[Path, typer.Argument(help="The bundle, NAME.gensoup.")],
    data: Annotated[Path, typer.Argument(help="Labelled folder: one sub-folder a class, optionally groups.csv.")],
    json: Annotated[Path | None, typer.Option("--json", help="Write the metrics to this file.")] = None,
    roles: Annotated[
        Path | None, typer.Option(help="roles.csv of the run: score only its test images, which it has not seen.")
    ] = None,
    engine: EngineName = "auto",
    precision: PrecisionName = None,
    engines_dir: EnginesDir = None,
    threads: Threads = None,
    require_signature: RequireSignature = None,
) -> None:
    """Measure the deployed classifier's accuracy on a labelled folder, with 95% intervals."""
    from json import dumps

    from rich.console import Console

    from gensoup.bench.dataset import LabelledFolder
    from gensoup.bench.evaluate import evaluate, evaluation_to_dict
    from gensoup.bench.held_out import unseen_images
    from gensoup.runtime.classifier import Classifier
    from gensoup.runtime.console import stage_bars
    from gensoup.runtime.files import check_outputs, write_atomic

    check_outputs({"--json": json}, (bundle, roles, require_signature))

    with stage_bars() as progress:
        classifier = Classifier.load(bundle, engine, precision, threads, require_signature, engines_dir, progress)
    folder = LabelledFolder.open(data)
    if roles is not None:
        assert classifier.manifest is not None
        folder = unseen_images(folder, roles, classifier.manifest)
    with stage_bars() as progress:
        evaluation = evaluate(classifier, folder, lambda done, total: progress("eval", done, total))
    _show(Console(), classifier, folder, evaluation)
    if json is not None:
        write_atomic(
            json, dumps(evaluation_to_dict(bundle, classifier, folder, evaluation), indent=2, ensure_ascii=False) + "\n"
        )


def _show(console: Console, classifier: Classifier, folder: LabelledFolder, evaluation: Evaluation) -> None:
    from rich.markup import escape
    from rich.table import Table

    from gensoup.bench.evaluate import remarks
    from gensoup.bench.metrics import TITLES

    scores, labels = evaluation.scores, [escape(label) for label in classifier.labels]
    drawn = "groups" if folder.groups is not None else "images"
    present = len(labels) - len(evaluation.absent)
    over = f", macro means over {present} of {len(labels)} classes" if evaluation.absent else ""
    metrics = Table("Metric", "Value", f"95% interval (over {drawn})", title=f"{scores.n} images{over}")
    for name, title in TITLES.items():
        low, high = scores.intervals.get(name, (None, None))
        interval = "—" if low is None else f"{low:.4f} … {high:.4f}"
        metrics.add_row(title, f"{getattr(scores, name):.4f}", interval)
    console.print(metrics)

    columns = scores.per_class
    classes = Table("Class", "Images", "Precision", "Recall", "Specificity", "F1", title="Classes")
    for index, label in enumerate(labels):
        support = columns["support"][index]
        ratios = (f"{columns[name][index]:.4f}" if support else "—" for name in _RATIOS)
        classes.add_row(label, str(support), *ratios)
    console.print(classes)

    if len(labels) <= _LARGEST_SHOWN:
        confusion = Table("true \\ predicted", *labels, title="Confusion matrix")
        for label, row in zip(labels, scores.confusion_matrix, strict=True):
            confusion.add_row(label, *map(str, row))
        console.print(confusion)

    _show_certain(console, labels, evaluation)
    shown = ", ".join(f"{name} {value:.1f}" for name, value in evaluation.latency_percentiles.items())
    speed = f"{evaluation.frames_per_second:.1f} frames/s, {shown} ms"
    runs = ", ".join(f"{count} {kind}" for kind, count in evaluation.ran.items())
    built = f"{classifier.precision}{f' (runs {runs})' if runs else ''}"
    console.print(
        f"{escape(classifier.engine.name)}, {built}: {speed}, beside reading files; "
        "`gensoup bench` measures real time.",
        highlight=False,
    )
    for line in remarks(classifier, folder, evaluation):
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if folder.unmatched_groups:
        console.print(f"[yellow]groups.csv: {folder.unmatched_groups} lines name no image of this folder[/]")
    if folder.ignored:
        console.print(f"[yellow]{len(folder.ignored)} other files in the folder were ignored[/]")
    for line in evaluation.skipped:
        console.print(f"[yellow]skipped[/] {escape(line)}", highlight=False)


def _show_certain(console: Console, labels: list[str], evaluation: Evaluation) -> None:
    """What the bundle's thresholds make of it: fewer answers, better ones."""
    from rich.table import Table

    certain = evaluation.certain
    if certain is None:
        console.print("The bundle has no thresholds: every answer counts as certain.")
        return
    table = Table("Class", "Threshold", "Called with certainty", "Precision then", "Recall then", title="Thresholds")
    for index, label in enumerate(labels):
        columns = None if certain.scores is None else certain.scores.per_class
        ratios = ["—", "—"] if columns is None else [f"{columns[name][index]:.4f}" for name in ("precision", "recall")]
        table.add_row(label, f"{certain.thresholds[index]:.3f}", f"{certain.class_coverage[index]:.1%}", *ratios)
    console.print(table)
    among = (
        ""
        if certain.scores is None
        else (
            f"; among these: accuracy {certain.scores.accuracy:.4f}, MCC {certain.scores.mcc:.4f}, "
            f"macro recall {certain.scores.macro_recall:.4f}"
        )
    )
    count = int(certain.called.sum())
    console.print(f"{count} of {len(certain.called)} images called with certainty ({certain.coverage:.1%}){among}")
