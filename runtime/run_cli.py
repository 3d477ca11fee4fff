"""The command ``gensoup run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from gensoup.runtime.engine_options import EngineName, EnginesDir, PrecisionName, Threads
from gensoup.runtime.signature_cli import RequireCertificate, RequireCertificateSignature, RequireSignature

if TYPE_CHECKING:
    from gensoup.runtime.classifier import Classifier, Explaining
    from gensoup.runtime.guard import Guarded
    from gensoup.runtime.serve import ServeSummary
    from gensoup.runtime.stream import Mode
    from gensoup.runtime.view import View
    from gensoup.runtime.view.address import Address


class RunCommand(TyperCommand):
    """``gensoup run``, whose ``--view`` may go without its address."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        from gensoup.runtime.view.address import with_default_address

        return super().parse_args(ctx, with_default_address(args))


def run_command(
    bundle: Annotated[Path, typer.Argument(help="The bundle, NAME.gensoup.", show_default=False)],
    source: Annotated[
        str,
        typer.Option(
            help="camera:0, /dev/video0, rtsp://HOST/PATH, gst:PIPELINE, a video file, an image, an image folder or "
            "synthetic:1080p@64; SIZE@HZ may follow a camera too.",
            show_default=False,
        ),
    ],
    mode: Annotated[
        str,
        typer.Option(help="realtime: newest frame wins, at the source's pace; throughput: every frame, on all cores."),
    ] = "realtime",
    pace: Annotated[
        float | None, typer.Option(metavar="HZ", help="Frames per second in realtime mode; default: the source's.")
    ] = None,
    reconnect: Annotated[
        bool, typer.Option("--reconnect/--no-reconnect", help="Wait for a camera or stream that is lost, or end.")
    ] = True,
    frames: Annotated[int | None, typer.Option(metavar="N", help="Stop after N frames.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write one line of JSON per frame.")] = None,
    video: Annotated[
        Path | None,
        typer.Option(help="Write an annotated video, .avi or .mp4; every frame is in it with --mode throughput."),
    ] = None,
    saliency: Annotated[
        bool, typer.Option("--saliency", help="Draw into the video or view where the evidence for the label lies.")
    ] = False,
    smooth: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="Smoothing over time: exponential, vote or none; default: exponential, none for single images.",
            show_default=False,
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Record annotated video and results into a folder, for its owner alone."),
    ] = None,
    rotate_minutes: Annotated[
        float | None,
        typer.Option(help="Begin a new file after so many minutes of recording; default: 10.", show_default=False),
    ] = None,
    rotate_mb: Annotated[
        float | None,
        typer.Option(help="Begin a new file after so many MB of recording; default: 1000.", show_default=False),
    ] = None,
    keep_free_mb: Annotated[
        float | None,
        typer.Option(help="Stop recording when the disk has less left; default: 500.", show_default=False),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:PORT]",
            help="Show the stream live in the browser; default 127.0.0.1:8064, for this machine alone. Any other host "
            "comes with a token.",
        ),
    ] = None,
    engine: EngineName = "auto",
    precision: PrecisionName = None,
    engines_dir: EnginesDir = None,
    threads: Threads = None,
    require_signature: RequireSignature = None,
    require_certificate: RequireCertificate = None,
    require_certificate_signature: RequireCertificateSignature = None,
    failover: Annotated[
        bool | None,
        typer.Option(
            "--failover/--no-failover",
            help="Keep ONNX Runtime's CPU engine ready for the case that the engine raises, hangs or is slow; default: "
            "in realtime mode, where it is installed.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Classify live or recorded frames with a bundle."""
    from contextlib import ExitStack

    from gensoup.runtime.interrupts import heeded_interrupts

    with ExitStack() as stack:
        started = stack.enter_context(heeded_interrupts())  # imports are most of the start
        from typing import get_args

        from rich.console import Console
        from rich.progress import Progress

        from gensoup.runtime.console import stage_bars
        from gensoup.runtime.errors import DataError, EngineError, UsageError
        from gensoup.runtime.failover import load_live
        from gensoup.runtime.files import check_outputs
        from gensoup.runtime.recording import RecordingOptions
        from gensoup.runtime.serve import check_options, serve
        from gensoup.runtime.smoothing import Smoothing
        from gensoup.runtime.sources import open_source
        from gensoup.runtime.stream import Mode
        from gensoup.runtime.swap import released
        from gensoup.runtime.video_file import check_video_name
        from gensoup.runtime.view.address import parse_address

        if mode not in get_args(Mode):
            raise UsageError(f"--mode '{mode}': must be one of {', '.join(get_args(Mode))}")
        if saliency and video is None and record is None and view is None:
            raise UsageError("--saliency: draws into pictures; take --video FILE.mp4, --record DIR or --view")
        if failover and mode == "throughput":
            raise UsageError("--failover: throughput mode has no deadline and watches no engine; leave it out")
        read = (bundle, Path(source), require_signature, require_certificate, require_certificate_signature)
        check_outputs({"--json": json_out, "--video": video}, read)
        address = None if view is None else parse_address(view)
        limits = {"rotate_minutes": rotate_minutes, "rotate_mb": rotate_mb, "keep_free_mb": keep_free_mb}
        given = {name: value for name, value in limits.items() if value is not None}
        if record is None and given:
            raise UsageError(f"--{next(iter(given)).replace('_', '-')}: is for recordings; take --record DIR with it")
        recording = None if record is None else RecordingOptions(record, **given)
        if video is not None:
            check_video_name(video)
        if smooth is not None:
            Smoothing(smooth)  # type: ignore[arg-type]  # told before the source is opened
        console = Console(stderr=True)
        watched: View | None = None

        def tell(text: str) -> None:
            console.print(text, markup=False, highlight=False, soft_wrap=True)
            if watched is not None:
                watched.board.note(text)

        opened = open_source(source, reconnect=reconnect, on_event=lambda event: tell(event.text))
        check_options(opened, mode, pace, frames)  # type: ignore[arg-type]  # told before engines are opened
        images = opened.rate_hz is None and opened.frames is not None
        smoothing = Smoothing(smooth or ("none" if images else "exponential"))  # type: ignore[arg-type]
        with stage_bars() as report:
            # In throughput mode the threads are the workers, each with an engine's copy of one thread.
            engine_threads = 1 if mode == "throughput" else threads
            options = (bundle, engine, precision, engine_threads, require_signature, engines_dir, report)
            classifier = load_live(
                *options,
                failover=failover,
                saliency=saliency,
                realtime=mode == "realtime",
                require_certificate=require_certificate,
                require_certificate_signature=require_certificate_signature,
            )
        besides = {"--video": video, "--record": record, "--view": view}
        if require_certificate is not None and (load := [name for name, value in besides.items() if value is not None]):
            tell(f"certified without {', '.join(load)}, which takes cores beside the frames")
        stack.enter_context(released(classifier))
        if address is not None:
            watched = stack.enter_context(_view(address, classifier, bundle, opened.name, mode))  # type: ignore[arg-type]
            console.print(f"live view: {watched.url}", markup=False, highlight=False, soft_wrap=True)
        bar = stack.enter_context(Progress(console=console, transient=True))
        task = bar.add_task("frames", total=None)
        started()
        summary = serve(
            classifier,
            opened,
            mode=mode,  # type: ignore[arg-type]
            pace_hz=pace,
            json_out=json_out,
            video_out=video,
            max_frames=frames,
            preprocess=classifier.preprocess if saliency else None,
            workers=threads,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            smoothing=smoothing,
            recording=recording,
            notify=tell,
            view=watched,
        )
    _print_summary(summary, opened.name)
    if summary.source_failure:
        raise DataError(f"{opened.name}: lost ({summary.source_failure}); --reconnect would wait for it")
    if summary.results and summary.states.get("FAILED") == summary.results:
        raise EngineError(f"{bundle}: {summary.engine} failed on every frame ({summary.failure})")


def _view(
    address: Address, classifier: Classifier | Explaining | Guarded, bundle: Path, source: str, mode: Mode
) -> View:
    from gensoup.runtime.smoothing import Labelling
    from gensoup.runtime.view import About, View

    labelling = Labelling.of_classifier(classifier)
    about = About(
        labels=classifier.labels,
        bundle=bundle.name,
        source=source,
        mode=mode,
        sha256=classifier.sha256,
        precision=classifier.precision,
        thresholds={
            label: float(least) for label, least in zip(labelling.labels, labelling.thresholds, strict=True) if least
        },
    )
    return View(address, about, classifier.preprocess)


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
    for event in summary.events:
        console.print(f"{event.kind}: {event.engine} ({event.reason})", markup=False, highlight=False, soft_wrap=True)
    if summary.losses:
        console.print(
            f"source lost {summary.losses} ×, connected again {summary.reconnects} ×, "
            f"{summary.away_s:.1f} s without it",
            highlight=False,
        )
    for line in _kept_lines(summary):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if summary.failure:
        console.print(f"first failure: {summary.failure}", markup=False, highlight=False, soft_wrap=True)
    if summary.undelivered:
        console.print(f"writing fell behind: {summary.undelivered} results not written", highlight=False)
    if summary.video_skipped:
        console.print(
            f"drawing fell behind: {summary.video_skipped} results are not in the video, the picture before stays; "
            "of a recording, --mode throughput leaves none out",
            highlight=False,
            soft_wrap=True,
        )
    for line in summary.skipped:
        console.print(f"skipped {line}", markup=False, highlight=False, soft_wrap=True)


def _kept_lines(summary: ServeSummary) -> list[str]:
    """What smoothing and recording did."""
    lines = [] if summary.smoothing is None else summary.smoothing.lines_to_show()
    return lines + ([] if summary.recording is None else summary.recording.lines_to_show())
