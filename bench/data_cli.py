"""``gensoup data``: making datasets. ``gensoup data audit`` needs the training stack and lies there."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from gensoup.bench.importers.plan import ImportPlan

app = typer.Typer(help="Make, import and audit datasets.", no_args_is_help=True, rich_markup_mode=None)


class LinkKind(str, Enum):
    """How an imported image gets into the dataset folder."""

    hard = "hard"
    symbolic = "symbolic"
    copy = "copy"


@app.callback()
def data() -> None:
    """Make, import and audit datasets."""


@app.command("synth")
def synth_command(
    out: Annotated[Path, typer.Argument(help="The dataset folder to make.")],
    per_class: Annotated[int, typer.Option(min=1, help="Images of each class, four a scene; training needs 32.")] = 160,
    seed: Annotated[int, typer.Option(help="The same seed gives the same images.")] = 0,
    height: Annotated[int, typer.Option(min=64, max=2160, help="Pixels.")] = 288,
    width: Annotated[int, typer.Option(min=64, max=3840, help="Pixels.")] = 360,
    video: Annotated[Path | None, typer.Option(help="Also write a 1080p video of such scenes, NAME.avi.")] = None,
) -> None:
    """Draw an endoscopy-like image set: folds, vessels, highlights, a moving camera, one kind of lesion a class."""
    from rich.console import Console

    from gensoup.bench.synth import check_video, write_dataset, write_video
    from gensoup.runtime.console import stage_bars
    from gensoup.runtime.files import check_new_folder, check_outputs

    check_new_folder(out)
    if video is not None:
        check_outputs({"--video": video}, ())
        check_video(video)
    with stage_bars() as progress:
        write_dataset(out, per_class, seed, height, width, progress=lambda done, total: progress("images", done, total))
        if video is not None:
            write_video(video, seed=seed, progress=lambda done, total: progress("video", done, total))
    Console().print(f"{out}: {per_class} images a class, groups.csv", highlight=False, soft_wrap=True)


@app.command("import")
def import_command(
    layout: Annotated[str, typer.Argument(help="kvasir-v2, hyperkvasir, isic-2019 or breakhis.")],
    source: Annotated[Path, typer.Argument(help="The unpacked set; it is only read.")],
    out: Annotated[Path, typer.Option(help="The dataset folder to make.")],
    classes: Annotated[str | None, typer.Option(help="Comma-separated classes; default: all.")] = None,
    magnification: Annotated[str, typer.Option(help="BreakHis: 40, 100, 200, 400 or all.")] = "all",
    link: Annotated[
        LinkKind, typer.Option(help="hard: no second copy where that can be, else a copy; symbolic: SOURCE must stay.")
    ] = LinkKind.hard,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out images that the set's table names and that are not there.")
    ] = False,
    keep_conflicts: Annotated[
        bool, typer.Option("--keep-conflicts", help="BreakHis: take slides that stand under two types too.")
    ] = False,
) -> None:
    """Take in a public set's own layout as a dataset folder, with its patients or lesions as groups."""
    from rich.console import Console

    from gensoup.bench.importers import plan_import
    from gensoup.bench.importers.plan import Choice
    from gensoup.bench.importers.write import write_import
    from gensoup.runtime.console import stage_bars
    from gensoup.runtime.errors import UsageError

    names = None if classes is None else tuple(name.strip() for name in classes.split(",") if name.strip())
    if names == ():
        raise UsageError("--classes: names no class, leave it out for all")
    plan = plan_import(layout, source, Choice(names, skip_missing, magnification, keep_conflicts))
    with stage_bars() as progress:
        copied = write_import(plan, out, link.value, lambda done, total: progress("import", done, total))
    _show_import(Console(), plan, out, copied)


def _show_import(console: Console, plan: ImportPlan, out: Path, copied: int) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("Class", "Images", "Groups", title=f"{len(plan.pictures):,} images")
    for label, (images, groups) in plan.table().items():
        table.add_row(escape(label), f"{images:,}", "—" if groups is None else f"{groups:,}")
    console.print(table)
    for line in plan.notes:
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
    groups_file = ", groups.csv" if plan.grouped else ""
    made = f"{out}: {len(plan.pictures):,} images ({copied:,} copied, the others linked){groups_file}"
    console.print(f"{made}\nnext: gensoup data audit {out}", markup=False, highlight=False, soft_wrap=True)
