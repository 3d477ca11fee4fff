"""The command ``gensoup doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from gensoup.bench.doctor.examination import Examination

NEEDS_MENDING = 1


def doctor_command(
    bundle: Annotated[
        Path | None,
        typer.Argument(help="Time this bundle, NAME.gensoup, in place of a small network.", show_default=False),
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write what was found as JSON; - for standard output.")
    ] = None,
) -> None:
    """Look at what this machine can run, and how to mend what it cannot. Exit code: 0 healthy, 1 anything is red."""
    import json

    from rich.console import Console

    from gensoup.bench.doctor.examination import PLAUSIBLE, examine
    from gensoup.runtime.files import check_outputs, write_atomic

    to_stdout = str(json_out) == "-"
    if not to_stdout:
        check_outputs({"--json": json_out}, (bundle,))
    with Console(stderr=True).status("examining") as status:

        def show(what: str) -> None:
            if what == PLAUSIBLE:
                status.stop()  # what turns on the terminal takes the interpreter from the frames that are timed
            else:
                status.update(f"examining: {what}")

        found = examine(bundle, show)
    text = json.dumps(found.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    if to_stdout:
        print(text, end="")
    else:
        print_examination(found, Console())
        if json_out is not None:
            write_atomic(json_out, text)
    raise typer.Exit(0 if found.healthy else NEEDS_MENDING)


def print_examination(found: Examination, console: Console) -> None:
    """A table, the remedy below each line that has one, and the result in a sentence."""
    from rich.table import Table
    from rich.text import Text

    from gensoup.bench.doctor import Mark

    signs = {Mark.GOOD: ("✓", "green"), Mark.NOTE: ("·", "yellow"), Mark.RED: ("✗", "bold red")}
    table = Table(box=None, show_header=False, pad_edge=False)
    for style in ("dim", "", "", ""):
        table.add_column(style=style, overflow="fold")
    section = ""
    for line in found.lines:
        sign, style = signs[line.mark]
        told = Text(line.text, style="red" if line.mark is Mark.RED else "")
        if line.remedy:
            told.append(f"\n→ {line.remedy}", style="bold" if line.mark is Mark.RED else "dim")
        table.add_row("" if line.section == section else line.section, Text(sign, style), Text(line.topic), told)
        section = line.section
    console.print(table)
    red = sum(line.mark is Mark.RED for line in found.lines)
    if found.healthy:
        console.print("[bold green]healthy[/]: 64 frames a second at 1080p are plausible", highlight=False)
    else:
        console.print(f"[bold red]{red} to mend[/]: the ✗ above, each with its remedy", highlight=False)
