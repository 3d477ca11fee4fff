"""``gensoup data cache``: what training has kept of decoded images, and its removal."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer


def cache_command(
    directory: Annotated[
        Path | None, typer.Option("--dir", help="What gensoup train --cache named; default: this user's own.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove all that no run is just making.")] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Write the list to this file too.")] = None,
) -> None:
    """List the decoded images that training keeps from run to run, or remove them."""
    import time

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from gensoup.runtime.errors import UsageError
    from gensoup.runtime.files import write_atomic
    from gensoup.train.image_cache import ImageCache

    if directory is not None and not directory.is_dir():
        raise UsageError(f"--dir {directory}: no such folder")
    cache, console = ImageCache(directory), Console()
    entries = cache.entries()
    if json is not None:
        kept = [{**vars(entry), "path": str(entry.path)} for entry in entries]
        write_atomic(json, json_module.dumps(kept, indent=1))
    if clear:
        count, size = cache.clear()
        console.print(f"{cache.folder}: {count} removed, {size / 1e9:.2f} GB", markup=False, soft_wrap=True)
        return
    table = Table("Images of", title=str(cache.folder))
    for column in ("Images", "GB", "Last used"):
        table.add_column(column, justify="right")
    for entry in entries:
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        table.add_row(escape(entry.data), f"{entry.images:,}", f"{entry.bytes / 1e9:.2f}", day)
    console.print(table if entries else f"{cache.folder}: nothing is kept", soft_wrap=True)
