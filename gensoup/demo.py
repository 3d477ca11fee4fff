"""``gensoup demo``: every stage, one after the other, on generated frames or on the user's own."""

from __future__ import annotations

import json as json_module
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

# Small enough for two cores and a few minutes; one of them is over the limits, to show what happens then.
ARCHITECTURES = (
    "squeezenet1_1",
    "mobilenet_v3_small",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5",
    "efficientnet_v2_s",
)
SYNTHETIC_PER_CLASS = 160
# The demo trains on so many images whatever the size of the data set, which bounds its time.
POPULATIONS = (5, 4, 3)
SEARCH_IMAGES, BRANCHES, BRANCH_IMAGES, REFIT_IMAGES = 12_000, 2, 8_000, 14_000
MOST_EPOCHS = 5.0
MIN_FPS = 64.0
VIDEO_SECONDS = 8.0


def demo_command(
    data: Annotated[Path | None, typer.Option(help="Your own labelled folder; default: generated frames.")] = None,
    weights_dir: Annotated[Path | None, typer.Option(help="Folder of ImageNet weights, NAME.safetensors.")] = None,
    out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Another seed, another run.")] = 0,
) -> None:
    """Run the whole path: images, search under a limit, fusion, export, evaluation, video, gate, report."""
    from rich.console import Console

    from gensoup.runtime.errors import MissingDependencyError, UsageError

    try:
        from gensoup.bench.dataset import LabelledFolder
        from gensoup.runtime.device import default_threads
        from gensoup.train.constraint import LimitError
        from gensoup.train.result_table import print_notes
        from gensoup.train.roles import SHARES
        from gensoup.train.settings import Settings
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or "torch", "train") from error

    if weights_dir is not None and not weights_dir.is_dir():
        raise UsageError(f"--weights-dir {weights_dir}: no such folder")
    console = Console(stderr=True)
    started = time.monotonic()
    source = data
    if source is None:
        source = out.parent / f"{out.name}-frames-{seed}"
        _stage(console, 1, "images", f"drawing endoscopy frames into {source}")
        _draw(source, seed)
    else:
        _stage(console, 1, "images", f"{source}")
    size = 96 if data is None else 128
    images = max(1, len(LabelledFolder.open(source)))
    trained_on, refitted_on = SHARES["train"] * images, (SHARES["train"] + SHARES["search"]) * images
    settings = Settings(
        data=str(source),
        sizes=(size,),
        seed=seed,
        architectures=ARCHITECTURES,
        init="random",
        weights_dir=None if weights_dir is None else str(weights_dir),
        min_fps=MIN_FPS,
        generations=len(POPULATIONS),
        population=POPULATIONS[0],
        population_step=1,
        population_min=POPULATIONS[-1],
        epochs=min(MOST_EPOCHS, SEARCH_IMAGES / sum(POPULATIONS) / trained_on),
        branches=BRANCHES,
        branch_epochs=min(4 * MOST_EPOCHS, BRANCH_IMAGES / BRANCHES / trained_on),
        refit_epochs=min(4 * MOST_EPOCHS, REFIT_IMAGES / refitted_on),
        threads=default_threads(),
    )
    try:
        summary = run_stages(settings, out, console)
    except LimitError as error:  # a slow or busy machine: show the rest, and let the gate say so
        console.print(
            f"{error}\nGoing on without a limit on the search; the gate still asks for {MIN_FPS:g}.", highlight=False
        )
        summary = run_stages(replace(settings, min_fps=None), out, console)
    summary["minutes"] = (time.monotonic() - started) / 60
    print_notes(summary["metrics"], Console())
    Console().print(_table(summary))


def run_stages(settings: Any, out: Path, console: Any) -> dict[str, Any]:
    """Train, export, evaluate, serve, gate and report into ``out``; what is there already is not made again."""
    from gensoup.bench.dataset import LabelledFolder
    from gensoup.bench.evaluate import evaluate, evaluation_to_dict
    from gensoup.bench.gate import run_gate
    from gensoup.bench.judge import judge
    from gensoup.bench.result_file import TraceFile, bench_result, write_bench_result
    from gensoup.bench.roles import ROLES_FILE, read_roles
    from gensoup.bench.sensors.watch import SensorWatch
    from gensoup.bench.synth import write_video
    from gensoup.export.exporter import export_run
    from gensoup.runtime.classifier import Classifier
    from gensoup.runtime.console import stage_bars
    from gensoup.runtime.files import write_atomic
    from gensoup.runtime.serve import serve
    from gensoup.runtime.sources import open_source
    from gensoup.train.report import write_report
    from gensoup.train.run import train_run

    resume = _make_room(settings, out, console)
    _stage(
        console,
        2,
        "train",
        f"search at {settings.sizes[0]} px, at most {settings.max_macs:.0f} M multiply-adds"
        + ("" if settings.min_fps is None else f", at least {settings.min_fps:g} frames a second"),
    )
    with stage_bars() as progress:
        metrics = train_run(settings, out, resume=resume, progress=progress)
    bundle = out / "demo.gensoup"
    _stage(console, 3, "export", f"{bundle}, once it equals the trained network")
    with stage_bars() as progress:
        exported = export_run(out, bundle, progress=progress, force=True)
    _stage(console, 4, "eval", "the deployed bundle on the test images")
    classifier = Classifier.load(bundle)
    folder = LabelledFolder.open(settings.data).only(read_roles(out / ROLES_FILE)["test"])
    with stage_bars() as progress:
        evaluation = evaluate(classifier, folder, lambda done, total: progress("eval", done, total))
    write_atomic(
        out / "eval.json", json_module.dumps(evaluation_to_dict(bundle, classifier, folder, evaluation), indent=1)
    )
    _stage(console, 5, "run", "a 1080p video through capture, mailbox, inference and sink")
    video = out / "video.avi"
    with stage_bars() as progress:
        if not video.exists():
            write_video(
                video, VIDEO_SECONDS, seed=settings.seed, progress=lambda done, total: progress("draw", done, total)
            )
        served = serve(
            classifier,
            open_source(str(video)),
            json_out=out / "predictions.jsonl",
            video_out=out / "annotated.avi",
            progress=lambda done, total: progress("serve", done, total or done),
        )
    _stage(console, 6, "bench", f"the gate: 1080p frames at {MIN_FPS:g} Hz for 30 s")
    with stage_bars() as progress:
        measurement = run_gate(
            bundle, MIN_FPS, progress=lambda done, total: progress("bench", done, total), watch=SensorWatch
        )
    verdict = judge(measurement)
    trace = out / "trace.npz"
    measurement.save(trace)
    write_bench_result(out / "bench.json", bench_result(verdict, measurement, TraceFile.of(trace)))
    _stage(console, 7, "report", "")
    report = write_report(out, bench=out / "bench.json", trace=out / "trace.npz", evaluation=out / "eval.json")
    return {
        "metrics": metrics,
        "exported": exported,
        "served": served,
        "verdict": verdict.to_dict(),
        "report": report,
    }


def _make_room(settings: Any, out: Path, console: Any) -> bool:
    """Whether ``out`` holds a run of these very settings, to go on with; another run is moved aside, never removed."""
    from gensoup.bench.dataset import LabelledFolder
    from gensoup.runtime.errors import GenSoupError
    from gensoup.train.run_folder import CONFIG_FILE
    from gensoup.train.settings import Settings

    if not (out / CONFIG_FILE).exists():
        return False
    try:
        before, fingerprint = Settings.load(out)
    except GenSoupError:
        before, fingerprint = None, ""
    if before == settings and fingerprint == LabelledFolder.open(settings.data).fingerprint():
        console.print(f"{out} holds this run: what is finished is kept", highlight=False)
        return True
    number = 1
    while (aside := out.with_name(f"{out.name}-{number}")).exists():
        number += 1
    out.rename(aside)
    console.print(f"{out} held a run with other settings or images: moved to {aside}", highlight=False)
    return False


def _draw(folder: Path, seed: int) -> None:
    from gensoup.bench.synth import write_dataset
    from gensoup.runtime.console import stage_bars

    if folder.exists():
        return
    with stage_bars() as progress:
        write_dataset(folder, SYNTHETIC_PER_CLASS, seed, progress=lambda done, total: progress("images", done, total))


def _stage(console: Any, number: int, name: str, what: str) -> None:
    console.print(f"[bold]{number}/7 {name}[/bold] {what}", highlight=False)


def _table(summary: dict[str, Any]) -> Any:
    from gensoup.train.result_table import result_table

    table = result_table(summary["metrics"])
    exported, verdict, served = summary["exported"], summary["verdict"], summary["served"]
    latency = verdict["latency_ms"]
    table.title = "GenSoup demo"
    table.add_row("bundle", f"{exported.path} ({exported.size_bytes / 1e6:.1f} MB)")
    table.add_row("engine", verdict["engine"])
    times = served.latency_ms
    tail = f", p99 {times['p99']:.1f} ms" if "p99" in times else ""
    table.add_row("video served", f"{served.frames} frames, {served.drops} dropped{tail}")
    shown = ", ".join(
        f"{name} {'∞' if latency[name] is None else f'{latency[name]:.1f} ms'}" for name in ("p50", "p95", "p99")
    )
    table.add_row("a frame at the gate", shown)
    table.add_row("gate", f"{verdict['verdict']}: {verdict['reason']}")
    table.add_row("report", str(summary["report"]))
    table.add_row("took", f"{summary['minutes']:.1f} minutes")
    return table
