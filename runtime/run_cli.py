"""The command ``gensoup run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gensoup.runtime.engine_options import EngineName, EnginesDir, PrecisionName, Threads
from gensoup.runtime.signature_cli import RequireSignature

if TYPE_CHECKING:
    from gensoup.runtime.serve import ServeSummary


def run_command(
    bundle: Annotated[Path, typer.Argument(help="The bundle, NAME.gensoup.", show_default=False)],
    source: Annotated[
        str, typer.Option(help="Video file, image, image folder, 'synthetic' or 'synthetic:720p'.", show_default=False)
    ],
    mode: Annotated[
        str, typer.Option(help="realtime: newest frame wins, at the source's pace; throughput: every frame, in order.")
    ] = "realtime",
    pace: Annotated[
        float | None, typer.Option(metavar="HZ", help="Frames per second in realtime mode; default: the source's.")
    ] = None,
    frames: Annotated[int | None, typer.Option(metavar="N", help="Stop after N frames.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write one line of JSON per frame.")] = None,
    video: Annotated[Path | None, typer.Option(help="Write an annotated video, .avi or .mp4.")] = None,
    saliency: Annotated[
        bool, typer.Option("--saliency", help="Draw into the video where the evidence for the label lies.")
    ] = False,
    engine: EngineName = "auto",
    precision: PrecisionName = None,
    engines_dir: EnginesDir = None,
    threads: Threads = None,
    require_signature: RequireSignature = None,
) -> None:
    """Classify live or recorded frames with a bundle."""
    from typing import get_args

    from rich.console import Console
    from rich.progress import Progress

    from gensoup.runtime.classifier import Classifier, Explaining
    from gensoup.runtime.console import stage_bars
    from gensoup.runtime.errors import EngineError, UsageError
    from gensoup.runtime.serve import serve
    from gensoup.runtime.sources import open_source
    from gensoup.runtime.stream import Mode

    if mode not in get_args(Mode):
        raise UsageError(f"--mode '{mode}': must be one of {', '.join(get_args(Mode))}")
    if saliency and video is None:
        raise UsageError("--saliency: draws into the annotated video; name one with --video FILE.mp4")
    opened = open_source(source)
    with stage_bars() as report:
        classifier = Classifier.load(bundle, engine, precision, threads, require_signature, engines_dir, report)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("frames", total=None)
        summary = serve(
            Explaining(classifier) if saliency else classifier,
            opened,
            mode=mode,  # type: ignore[arg-type]
            pace_hz=pace,
            json_out=json_out,
            video_out=video,
            max_frames=frames,
            preprocess=classifier.preprocess if saliency else None,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _print_summary(summary, opened.name)
    if summary.results and summary.states.get("FAILED") == summary.results:
        raise EngineError(f"{bundle}: {summary.engine} failed on every frame ({summary.failure})")


def _print_summary(summary: ServeSummary, source: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    pace = f" at {summary.rate_hz:g} Hz" if summary.rate_hz is not None else ""
    console.print(f"{escape(source)}, {summary.mode}{pace}, {summary.engine}", highlight=False, soft_wrap=True)
    table = Table(box=None)
    for column in ("", "p50", "p95", "p99", "max"):
        table.add_column(column, justify="right" if column else "left")
    for name, values in (("latency, ms", summary.latency_ms), ("age, ms", summary.age_ms)):
        if values:
            table.add_row(name, *(f"{value:.1f}" for value in values.values()))
    console.print(table)
    states = ", ".join(f"{count} {state}" for state, count in sorted(summary.states.items())) or "no results"
    console.print(
        f"{summary.frames} frames, {summary.drops} dropped, {summary.results} results ({states}), "
        f"{summary.fps:.1f} frames/s{', interrupted' if summary.interrupted else ''}",
        highlight=False,
        soft_wrap=True,
    )
    if summary.failure:
        console.print(f"first failure: {summary.failure}", markup=False, highlight=False, soft_wrap=True)
    if summary.undelivered or summary.video_skipped:
        console.print(
            f"writing fell behind: {summary.undelivered} results not written, {summary.video_skipped} not in the video",
            highlight=False,
            soft_wrap=True,
        )
    for line in summary.skipped:
        console.print(f"skipped {line}", markup=False, highlight=False, soft_wrap=True)
