"""``gensoup data``: making datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make datasets.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def data() -> None:
    """Make datasets."""


@app.command("synth")
def synth_command(
    out: Annotated[Path, typer.Argument(help="The dataset folder to make.")],
    per_class: Annotated[int, typer.Option(min=1, help="Images of each class.")] = 160,
    seed: Annotated[int, typer.Option(help="The same seed gives the same images.")] = 0,
    height: Annotated[int, typer.Option(min=64, max=2160, help="Pixels.")] = 288,
    width: Annotated[int, typer.Option(min=64, max=3840, help="Pixels.")] = 360,
    video: Annotated[Path | None, typer.Option(help="Also write a 1080p video of such scenes, NAME.avi.")] = None,
) -> None:
    """Draw an endoscopy-like image set: folds, vessels, highlights, a moving camera, one kind of lesion a class."""
    from rich.console import Console

    from gensoup.bench.synth import write_dataset, write_video
    from gensoup.runtime.console import stage_bars

    with stage_bars() as progress:
        write_dataset(out, per_class, seed, height, width, progress=lambda done, total: progress("images", done, total))
        if video is not None:
            write_video(video, seed=seed, progress=lambda done, total: progress("video", done, total))
    Console().print(f"{out}: {per_class} images a class, groups.csv", highlight=False, soft_wrap=True)
