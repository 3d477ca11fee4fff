"""``gensoup train`` and ``gensoup report``."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer


class Init(str, Enum):
    """Initial weights."""

    pretrained = "pretrained"
    random = "random"


def train_command(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(help="Labelled folder: one sub-folder a class, optionally groups.csv.")],
    out: Annotated[Path, typer.Option(help="The run folder to make.")],
    size: Annotated[int, typer.Option(help="Deploy size in pixels, a multiple of 16.")] = 128,
    seed: Annotated[int, typer.Option(help="The same seed and device profile give the same run.")] = 0,
    architectures: Annotated[
        str | None, typer.Option(help="Comma-separated torchvision classifiers; default: the eleven of the thesis.")
    ] = None,
    max_macs: Annotated[float, typer.Option(help="Most multiply-adds of one frame, in millions.")] = 600.0,
    min_fps: Annotated[
        float | None, typer.Option(help="Frames a second the device must hold; without it nothing is timed.")
    ] = None,
    device_profile: Annotated[
        Path | None, typer.Option(help="Latencies measured on the device; default: this machine is probed.")
    ] = None,
    init: Annotated[
        Init, typer.Option(help="pretrained: ImageNet weights or out; random: never downloads.")
    ] = Init.pretrained,
    weights_dir: Annotated[Path | None, typer.Option(help="Folder of weights, NAME.safetensors or NAME.pth.")] = None,
    generations: Annotated[int, typer.Option(help="Generations of the search.")] = 6,
    population: Annotated[int, typer.Option(help="Individuals of the first generation.")] = 12,
    epochs: Annotated[float, typer.Option(help="Epochs of an individual in a generation.")] = 1.0,
    branch_epochs: Annotated[float, typer.Option(help="Epochs of each of the three final branches.")] = 10.0,
    batch_size: Annotated[int, typer.Option(help="Images a training step.")] = 32,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of the training; default: half of the cores.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the result (metrics.json) to this file too.")
    ] = None,
) -> None:
    """Search for a small network under a hard limit and fuse what was found."""
    from rich.console import Console

    from gensoup.runtime.console import stage_bars
    from gensoup.runtime.errors import MissingDependencyError, UsageError

    try:
        from gensoup.train.report import write_report
        from gensoup.train.run import METRICS_FILE, train_run
        from gensoup.train.settings import ARCHITECTURES, CONFIG_FILE, Settings, default_threads
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or "torch", "train") from error

    if device_profile is not None and min_fps is None:
        raise UsageError("--device-profile: give --min-fps too, the rate that the device must hold")
    if weights_dir is not None and not weights_dir.is_dir():
        raise UsageError(f"--weights-dir {weights_dir}: no such folder")
    asked: dict[str, Any] = {
        "size": size,
        "seed": seed,
        "architectures": ARCHITECTURES if architectures is None else tuple(_names(architectures)),
        "init": init.value,
        "weights_dir": None if weights_dir is None else str(weights_dir),
        "max_macs": max_macs * 1e6,
        "min_fps": min_fps,
        "generations": generations,
        "population": population,
        "epochs": epochs,
        "branch_epochs": branch_epochs,
        "batch_size": batch_size,
        "threads": threads or default_threads(),
    }
    if resume and (out / CONFIG_FILE).exists():  # what is not said again stays as it was
        said = {name: value for name, value in asked.items() if _on_command_line(context, name)}
        settings = replace(Settings.load(out)[0], data=str(data), **said)
    else:
        settings = Settings(data=str(data), **asked)
    with stage_bars() as progress:
        metrics = train_run(settings, out, resume=resume, profile=device_profile, progress=progress)
    report = write_report(out)
    if json is not None:
        from gensoup.runtime.files import write_atomic

        write_atomic(json, (out / METRICS_FILE).read_text(encoding="utf-8"))
    console = Console()
    print_notes(metrics, console)
    console.print(result_table(metrics))
    console.print(f"report: {report}", markup=False, highlight=False, soft_wrap=True)


def report_command(
    run: Annotated[Path, typer.Argument(help="Run folder of a finished training.")],
    trace: Annotated[
        Path | None, typer.Option(help="Trace of gensoup bench --trace: latency timeline, histogram.")
    ] = None,
    bench: Annotated[Path | None, typer.Option(help="Result of gensoup bench --json.")] = None,
    evaluation: Annotated[Path | None, typer.Option("--eval", help="Result of gensoup eval --json.")] = None,
) -> None:
    """Write a run's report.html again, with the deployed bundle's accuracy and frame rate."""
    from rich.console import Console

    from gensoup.runtime.errors import MissingDependencyError

    try:
        from gensoup.train.report import write_report
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or "torch", "train") from error

    Console().print(
        f"report: {write_report(run, bench=bench, trace=trace, evaluation=evaluation)}", markup=False, soft_wrap=True
    )


def print_notes(metrics: dict[str, Any], console: Any) -> None:
    """Name what of the folder was left out, and what may not be as the user thinks."""
    lines = [f"skipped {file}: {reason}" for file, reason in metrics["skipped"].items()]
    for line in [*lines, *metrics["notes"]]:
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def result_table(metrics: dict[str, Any]) -> Any:
    """A rich table of a run's result: what was excluded and why, the network, its scores with intervals."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, title="Result of the search")
    for out in metrics["excluded"]:
        table.add_row("excluded", escape(f"{out['architecture']}: {out['reason']}"))
    for out in metrics["over_the_limit_when_fused"]:
        table.add_row("excluded when fused", escape(f"{out['architecture']}: {out['reason']}"))
    table.add_row("network", f"{metrics['architecture']} at {metrics['size']} px")
    table.add_row("multiply-adds, parameters", f"{metrics['macs'] / 1e6:.1f} M, {metrics['parameters'] / 1e6:.2f} M")
    table.add_row("soup", ", ".join(metrics["soup"]["ingredients"]))
    for role in ("search", "test"):
        scores = metrics["scores"][role]
        low, high = scores["intervals"]["mcc"]
        table.add_row(f"MCC on {role} ({scores['n']} images)", f"{scores['mcc']:.3f} [{low:.3f}, {high:.3f}]")
    if latency := metrics["latency_ms"]:
        text = ", ".join(f"{name[:3]} {latency[name]:.1f} ms" for name in ("p50_ms", "p95_ms", "p99_ms"))
        table.add_row("probed, a whole frame", text)
    table.add_row("images trained", f"{metrics['images_trained']:,} in {metrics['seconds']:.0f} s")
    return table


def _on_command_line(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
