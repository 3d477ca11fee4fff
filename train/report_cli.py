"""``gensoup report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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

    from gensoup.bench.measurement import Measurement
    from gensoup.export.run_files import METRICS_FILE, check_finished
    from gensoup.runtime.errors import MissingDependencyError
    from gensoup.runtime.files import check_writable
    from gensoup.train.deployed import Deployed

    check_finished(run, METRICS_FILE)
    check_writable(run / METRICS_FILE)
    Deployed.read(run, bench, evaluation)
    if trace is not None:
        Measurement.load(trace)
    try:  # after all that can be told without PyTorch, which takes seconds to import
        from gensoup.train.report import write_report
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or "torch", "train") from error

    Console().print(
        f"report: {write_report(run, bench=bench, trace=trace, evaluation=evaluation)}", markup=False, soft_wrap=True
    )
