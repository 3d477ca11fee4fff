"""``gensoup export``: a finished run becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export_command(
    run: Annotated[Path, typer.Argument(help="Run folder of a finished training.")],
    out: Annotated[Path, typer.Option(help="The bundle to write, NAME.gensoup.")],
    data: Annotated[
        Path | None, typer.Option(help="The dataset folder, where it is no more where the run was trained.")
    ] = None,
) -> None:
    """Export a run as one .gensoup bundle, once it is proven equal to the trained network."""
    from rich.console import Console

    from gensoup.runtime.console import stage_bars
    from gensoup.runtime.errors import MissingDependencyError

    try:
        from gensoup.export.exporter import export_run
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or "torch", "train") from error

    with stage_bars() as progress:
        exported = export_run(run, out, data, progress)
    parity = exported.parity
    Console().print(
        f"{exported.path}: {exported.size_bytes / 1e6:.1f} MB, sha256 {exported.sha256[:16]}…\n"
        f"parity on {parity.frames} validation images: {parity.engine} against {parity.reference}, probabilities apart "
        f"by at most {parity.largest_difference:.1e} (tolerance {parity.tolerance:.0e}), labels agree on "
        f"{parity.label_agreement:.1%}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
