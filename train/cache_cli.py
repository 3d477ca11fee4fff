"""``gensoup data cache``, what training has kept of decoded images, and the options of ``gensoup train`` about it."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gensoup.runtime.errors import UsageError, WriteError

if TYPE_CHECKING:
    from gensoup.train.image_cache import ImageCache


def check_cache_options(cache: Path | None, no_cache: bool, data: Path, out: Path) -> None:
    """Raise UsageError for what cannot be meant."""
    if cache is None:
        return
    if no_cache:
        raise UsageError(f"--cache {cache}: and --no-cache exclude each other; leave one out")
    if cache.resolve().is_relative_to(data.resolve()):
        raise UsageError(f"--cache {cache}: lies in the dataset folder, which is never written to; name another place")
    if cache.resolve().is_relative_to(out.resolve()):
        raise UsageError(f"--cache {cache}: lies in the run folder, --out; name a place that outlasts the run")


def opened_cache(cache: Path | None, limit_gb: float, no_cache: bool, note: Callable[[str], None]) -> ImageCache | None:
    """Where a training keeps decoded images; None for nowhere.

    Where the user's own cache cannot be written, ``note`` takes a line that says so, and nothing is kept: it only saves
    time, and was not asked for. Raises WriteError where the one that was named cannot be.
    """
    from gensoup.train.image_cache import ImageCache

    if no_cache:
        return None
    opened = ImageCache(cache, limit_gb)
    try:
        opened.check()
    except WriteError as error:
        if cache is not None:
            raise WriteError(f"--cache {error}") from error
        note(f"decoded images are not kept for later runs: {error}")
        return None
    return opened


def cache_command(
    directory: Annotated[
        Path | None, typer.Option("--dir", help="What gensoup train --cache named; default: this user's own cache.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove all that no run is making or using.")] = False,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the list to this file too, as it is before --clear.")
    ] = None,
) -> None:
    """List or remove the decoded images that training keeps."""
    import time

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from gensoup.runtime.files import check_outputs, write_atomic
    from gensoup.train.image_cache import ImageCache
    from gensoup.train.shipping import sweep

    if directory is not None and not directory.is_dir():
        raise UsageError(f"--dir {directory}: no such folder; name the one that gensoup train --cache named")
    check_outputs({"--json": json}, ())
    cache, console = ImageCache(directory), Console()
    entries = cache.entries()
    if json is not None:
        kept = [{**vars(entry), "path": str(entry.path)} for entry in entries]
        write_atomic(json, json_module.dumps(kept, indent=1))
    if clear:
        count, size, left = cache.clear()
        if directory is None:
            sweep()  # what workers of killed runs left on this machine
        stays = f"; {left} in use {'stays' if left == 1 else 'stay'}" if left else ""
        told = f"{cache.folder}: {count} removed, {size / 1e6:,.1f} MB{stays}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)
        return
    if not entries:
        console.print(f"{cache.folder}: nothing is kept", markup=False, highlight=False, soft_wrap=True)
        return
    table = Table("Images of", title=escape(str(cache.folder)))
    for column in ("Images", "MB", "Last used"):
        table.add_column(column, justify="right")
    for entry in entries:
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        table.add_row(escape(entry.data), f"{entry.images:,}", f"{entry.bytes / 1e6:,.1f}", day)
    console.print(table, soft_wrap=True)
