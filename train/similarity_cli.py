"""``gensoup train similarity``: how alike two trained networks see the same images, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from gensoup.bench.dataset import LabelledFolder
    from gensoup.runtime.console import StageProgress
    from gensoup.runtime.preprocess import Preprocess
    from gensoup.train.similarity import Comparison, LayerSimilarity

SCHEMA_VERSION = 1


def similarity_command(
    a: Annotated[Path, typer.Argument(help="Run folder of a finished training.")],
    b: Annotated[Path, typer.Argument(help="Another one; any architecture.")],
    data: Annotated[Path, typer.Argument(help="Labelled folder whose images both networks are shown.")],
    images: Annotated[int, typer.Option(min=2, help="How many images, drawn at random.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Draws the images and the positions compared.")] = 0,
    json: Annotated[Path | None, typer.Option("--json", help="Write the result to this file.")] = None,
) -> None:
    """Compare what two networks' layers see (PWCCA, 0 to 1).

    One architecture is compared layer by layer, two by every pair of stages. Read a similarity beside its chance level,
    what the same layers reach on images that do not correspond.
    """
    from json import dumps

    from rich.console import Console

    from gensoup.runtime.console import stage_bars
    from gensoup.runtime.errors import MissingDependencyError

    try:
        from gensoup.export.trained import TrainedModel
        from gensoup.train.similarity import compare_activations
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or "torch", "train") from error

    from gensoup.bench.dataset import LabelledFolder
    from gensoup.runtime.files import write_atomic

    (trained_a, model_a), (trained_b, model_b) = TrainedModel.load(a), TrainedModel.load(b)
    folder = LabelledFolder.open(data)
    with stage_bars() as progress:
        steps = trained_a.preprocess, trained_b.preprocess
        (frames_a, frames_b), skipped = _read(folder, steps, images, seed, progress)
        comparison = compare_activations(
            model_a,
            model_b,
            frames_a,
            images_b=frames_b,
            seed=seed,
            on_layer=lambda done, total: progress("compare", done, total),
        )
    architectures = trained_a.architecture, trained_b.architecture
    _show(Console(), architectures, len(frames_a), comparison, skipped)
    if json is not None:
        values = _to_dict((a, b), architectures, len(frames_a), seed, comparison, skipped)
        write_atomic(json, dumps(values, indent=1, ensure_ascii=False) + "\n")


def _read(
    folder: LabelledFolder,
    steps: tuple[Preprocess, Preprocess],
    count: int,
    seed: int,
    progress: StageProgress,
) -> tuple[tuple[NDArray[np.uint8], NDArray[np.uint8]], dict[str, str]]:
    """``count`` images of the folder, or all it has, as each network wants them; broken ones are named and replaced."""
    import numpy as np

    from gensoup.runtime.errors import DataError
    from gensoup.runtime.images import read_image

    wanted = min(count, len(folder))
    frames: tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]] = ([], [])
    skipped: dict[str, str] = {}
    for index in np.random.default_rng(seed).permutation(len(folder)):
        file = folder.files[index]
        try:
            image = read_image(folder.path / file)
        except DataError as error:
            skipped[file] = str(error).removeprefix(f"{folder.path / file}: ")
            continue
        for step, kept in zip(steps, frames, strict=True):
            kept.append(step(image))
        progress("images", len(frames[0]), wanted)
        if len(frames[0]) == wanted:
            break
    if not frames[0]:
        file, reason = next(iter(skipped.items()))
        raise DataError(f"{folder.path}: no image in it can be read ({file}: {reason}), check the folder")
    return (np.stack(frames[0]), np.stack(frames[1])), skipped


def _show(
    console: Console,
    architectures: tuple[str, str],
    images: int,
    comparison: Comparison,
    skipped: dict[str, str],
) -> None:
    from rich.markup import escape
    from rich.table import Table

    title = f"PWCCA of {architectures[0]} and {architectures[1]} on {images} images (chance in brackets)"
    if comparison.paired:
        table = Table("Layer", "Channels", "Samples", "Similarity", title=title)
        for one in comparison.layers:
            widths = dict.fromkeys(str(number) for number in one.channels)
            table.add_row(escape(one.layer_a), " / ".join(widths), f"{one.rows:,}", _cell(one))
    else:
        columns = dict.fromkeys(one.layer_b for one in comparison.layers)
        table = Table(f"{architectures[0]} \\ {architectures[1]}", *map(escape, columns), title=title)
        for name in dict.fromkeys(one.layer_a for one in comparison.layers):
            cells = (_cell(one) for one in comparison.layers if one.layer_a == name)
            table.add_row(escape(name), *cells)
    console.print(table)
    if comparison.paired and comparison.mean is not None:
        console.print(f"mean over layers: {comparison.mean:.3f}", highlight=False)
    left_out: dict[str, list[str]] = {}
    for one in comparison.layers:
        if one.reason:
            left_out.setdefault(one.reason, []).append(one.layer_a)
    lines = [f"— {', '.join(names) + ': ' if comparison.paired else ''}{why}" for why, names in left_out.items()]
    for line in [*lines, *(f"skipped {file}: {reason}" for file, reason in skipped.items())]:
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _cell(one: LayerSimilarity) -> str:
    return "—" if one.similarity is None else f"{one.similarity:.3f} ({one.chance:.2f})"


def _to_dict(
    runs: tuple[Path, Path],
    architectures: tuple[str, str],
    images: int,
    seed: int,
    comparison: Comparison,
    skipped: dict[str, str],
) -> dict[str, Any]:
    named = [{"run": str(run), "architecture": name} for run, name in zip(runs, architectures, strict=True)]
    return {
        "schema_version": SCHEMA_VERSION,
        "measure": "pwcca",
        "a": named[0],
        "b": named[1],
        "images": images,
        "seed": seed,
        "paired": comparison.paired,
        "mean": comparison.mean,
        "layers": [vars(one) for one in comparison.layers],
        "skipped": skipped,
    }
