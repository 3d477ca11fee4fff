"""The command ``gensoup bench``: the real-time gate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gensoup.runtime.engine_options import EngineName, EnginesDir, PrecisionName, Threads
from gensoup.runtime.signature_cli import RequireSignature

if TYPE_CHECKING:
    from rich.console import Console

    from gensoup.bench.gate import Verdict


def bench_command(
    bundle: Annotated[Path, typer.Argument(help="The bundle, NAME.gensoup.", show_default=False)],
    min_fps: Annotated[float, typer.Option(metavar="HZ", help="Frames per second the camera sends.")] = 64.0,
    source: Annotated[
        str, typer.Option(help="Frames to send: video file, image folder, 'synthetic' (1080p) or 'synthetic:720p'.")
    ] = "synthetic",
    engine: EngineName = "auto",
    precision: PrecisionName = None,
    engines_dir: EnginesDir = None,
    threads: Threads = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the verdict as JSON.")] = None,
    trace_out: Annotated[Path | None, typer.Option("--trace", help="Write every frame's times, .npz.")] = None,
    require_signature: RequireSignature = None,
) -> None:
    """Check that a bundle keeps up with a camera on this machine. Exit code: 0 PASS, 1 FAIL, 2 INVALID."""
    import json

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from gensoup.bench.gate import run_gate
    from gensoup.runtime.files import check_outputs, write_atomic

    read = (bundle, None if source is None else Path(source), require_signature)
    check_outputs({"--json": json_out, "--trace": trace_out}, read)

    columns = (TextColumn("measuring"), BarColumn(), TextColumn("{task.percentage:.0f}%"), TimeRemainingColumn())
    # No refresh of its own: drawing takes the interpreter from the frames, so it is done once a second and no more.
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("measuring", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, refresh=True)

        verdict, trace = run_gate(
            bundle,
            min_fps,
            source,
            engine=engine,
            precision=precision,
            engines_dir=engines_dir,
            threads=threads,
            progress=show,
            require_signature=require_signature,
        )
    if json_out is not None:
        write_atomic(json_out, json.dumps(verdict.to_dict(), indent=2, allow_nan=False) + "\n")
    if trace_out is not None:
        trace.save(trace_out)
    print_verdict(verdict, bundle.name, Console())
    raise typer.Exit(verdict.verdict.exit_code)


def print_verdict(verdict: Verdict, name: str, console: Console) -> None:
    """A table of the numbers and one sentence."""
    from rich.markup import escape
    from rich.table import Table

    console.print(
        f"{escape(name)} at {verdict.rate_hz:g} Hz, {verdict.engine} {verdict.precision}",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(box=None)
    for column in ("ms", "p50", "p95", "p99", "max"):
        table.add_column(column, justify="left" if column == "ms" else "right")
    for row, values in {"latency": verdict.latency_ms, **verdict.stages_ms}.items():
        table.add_row(row if row == "latency" else f"  {row}", *(_number(value) for value in values.values()))
    console.print(table)
    capacity = "unknown" if verdict.capacity_fps is None else f"{verdict.capacity_fps:.0f} frames/s"
    console.print(
        f"{verdict.frames} frames, {verdict.misses} misses ({verdict.drops} drops, {verdict.failures} failures), "
        f"longest run {verdict.longest_miss_run}, 99% bound {verdict.miss_rate_upper:.2%}; closed loop: {capacity}",
        highlight=False,
        soft_wrap=True,
    )
    color = {"PASS": "green", "FAIL": "red", "INVALID": "yellow"}[verdict.verdict.value]
    console.print(
        f"[bold {color}]{verdict.verdict.value}[/]: {escape(verdict.reason)}", highlight=False, soft_wrap=True
    )


def _number(value: float) -> str:
    """Milliseconds; ∞ for drops, – for unknown."""
    return "–" if value != value else "∞" if value == float("inf") else f"{value:.2f}"
