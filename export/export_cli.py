"""``gensoup export``: a finished run becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from gensoup.export.parity_page import ParityReport


def export_command(
    run: Annotated[Path, typer.Argument(help="Run folder of a finished training.")],
    out: Annotated[Path, typer.Option(help="The bundle to write, NAME.gensoup.")],
    data: Annotated[
        Path | None, typer.Option(help="The dataset folder, where it is no more where the run was trained.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Comma-separated: fp32, fp16, int8. fp32, reference and fail-over, is always in.")
    ] = "fp32",
    parity_report: Annotated[
        Path | None, typer.Option(help="Write parity with the worst frames shown to this HTML file.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write parity in full to this file.")] = None,
) -> None:
    """Export a run as one .gensoup bundle, once it is proven equal to the trained network."""
    from rich.console import Console

    from gensoup.runtime.console import stage_bars
    from gensoup.runtime.errors import MissingDependencyError

    try:
        from gensoup.export.exporter import export_run
    except ModuleNotFoundError as error:
        package = error.name or "torch"
        raise MissingDependencyError(package, "cpu" if package == "onnxruntime" else "train") from error

    with stage_bars() as progress:
        exported = export_run(
            run,
            out,
            data,
            progress,
            precisions=precision.split(","),
            parity_json=json,
            parity_page=parity_report,
        )
    console = Console()
    _show(console, exported.report)
    console.print(
        f"{exported.path}: {exported.size_bytes / 1e6:.1f} MB, sha256 {exported.sha256[:16]}…",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _show(console: Console, report: ParityReport) -> None:
    """A row an engine and precision; then what was built of what was asked for."""
    from rich.box import SIMPLE
    from rich.table import Table

    first = report.compared[0].parity
    console.print(f"parity with {first.reference} on {first.frames} validation images", markup=False, highlight=False)
    table = Table(box=SIMPLE)
    for heading in (
        "",
        "engine",
        "apart:\nlargest,\nmean",
        "labels\nagree",
        f"MCC on soup ({first.soup_frames}):\ntrained,\nengine",
    ):
        table.add_column(heading, overflow="fold")
    table.add_column("loss\n(95%)", justify="right")
    for parity in (one.parity for one in report.compared):
        before = _interval(parity.soup_mcc_reference, parity.soup_mcc_reference_interval)
        after = _interval(parity.soup_mcc_engine, parity.soup_mcc_engine_interval)
        table.add_row(
            parity.precision,
            parity.engine,
            f"{parity.largest_difference:.1e}\n{parity.mean_difference:.1e}",
            f"{parity.label_agreement:.1%}",
            f"{before}\n{after}",
            f"{parity.mcc_loss_upper:+.4f}",
        )
    console.print(table)
    for precision, built in report.built.items():
        layers = ", ".join(f"{count} {kind}" for kind, count in built["built"].items())
        kept = built.get("kept_in_fp32")
        console.print(
            f"{precision}: built with layers of {layers}" + (f"; left in fp32: {', '.join(kept)}" if kept else ""),
            markup=False,
            highlight=False,
        )


def _interval(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.3f}" + ("" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]")
