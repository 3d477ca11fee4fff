"""The command ``gensoup compare``: results of bench and eval side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from gensoup.bench.comparison import Cell, Comparison

# What a flag looks like beside its word: never colour alone.
STYLES = {"worse": ("bold red", "▲ worse"), "better": ("green", "▽ better"), "same": ("", "≈"), "unknown": ("dim", "?")}
WORSE, NOTHING_COMPARED = 1, 2


def compare_command(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="A.json B.json …",
            help="What `gensoup bench --json` or `gensoup eval --json` wrote, two or more; the first is the reference. "
            "A bench's trace is taken into account where it lies beside its result.",
            show_default=False,
        ),
    ],
    tolerance: Annotated[
        float, typer.Option(metavar="SHARE", help="By how much a latency must be worse, to be called so.")
    ] = 0.05,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the comparison as JSON.")] = None,
    html_out: Annotated[Path | None, typer.Option("--html", help="Write it as a page, whole in itself.")] = None,
    fail_on_worse: Annotated[
        bool,
        typer.Option(
            "--fail-on-worse", help="Exit with 1 where something is worse, 2 where nothing could be compared."
        ),
    ] = False,
) -> None:
    """Set bundles, engines or dated results side by side, and say what is worse than in the first beyond noise."""
    import json

    from rich.console import Console

    from gensoup.bench.compare import compare, read_results
    from gensoup.bench.page import check_pages
    from gensoup.runtime.errors import UsageError
    from gensoup.runtime.files import check_outputs, write_atomic

    if not 0 <= tolerance < 10:
        raise UsageError(f"--tolerance {tolerance:g}: a share, such as 0.05 for 5%")
    check_outputs({"--json": json_out, "--html": html_out}, results)
    if html_out is not None:
        check_pages()
    comparisons, traces = compare(read_results(results), tolerance)
    console = Console()
    for comparison in comparisons:
        print_comparison(comparison, console)
    if json_out is not None:
        told = [comparison.to_dict() for comparison in comparisons]
        write_atomic(json_out, json.dumps({"comparisons": told}, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    if html_out is not None:
        from gensoup.bench.compare_page import compare_page

        write_atomic(html_out, compare_page(comparisons, traces))
    if fail_on_worse:
        raise typer.Exit(exit_code(comparisons))


def exit_code(comparisons: Sequence[Comparison]) -> int:
    """Of ``--fail-on-worse``: 1 as soon as something is worse, else 2 where a result could not be compared at all."""
    if any(one.worse for one in comparisons):
        return WORSE
    return NOTHING_COMPARED if any(one.not_compared for one in comparisons) else 0


def print_comparison(comparison: Comparison, console: Console) -> None:
    """The sentence first, then the conditions and the numbers."""
    from rich.markup import escape
    from rich.table import Table

    style = "bold red" if comparison.worse else "bold yellow" if comparison.not_compared else "bold green"
    console.print(comparison.sentence, style=style, markup=False, highlight=False, soft_wrap=True)
    for note in comparison.notes:
        console.print(f"• {note}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in comparison.names:
        table.add_column(escape(name), overflow="fold")
    for condition in comparison.conditions:
        told = [
            f"[bold]{escape(value)}[/]" if condition.differs and condition.key != "started_at" else escape(value)
            for value in condition.values
        ]
        table.add_row(f"[dim]{escape(condition.title)}[/]", *told)
    table.add_section()
    for row in comparison.rows:
        table.add_row(escape(row.title), *(_cell(cell) for cell in row.cells))
    console.print(table)
    for row in comparison.rows:
        for name, cell in zip(comparison.names, row.cells, strict=True):
            if cell.flag.value in ("worse", "better"):
                why = f"  {row.title} of {name} is {cell.flag.value}: {cell.why}"
                console.print(why, style="dim", markup=False, highlight=False, soft_wrap=True)


def _cell(cell: Cell) -> str:
    from rich.markup import escape

    style, word = STYLES.get(cell.flag.value, ("", ""))
    told = " ".join(part for part in (cell.text, cell.change, word) if part)
    return f"[{style}]{escape(told)}[/]" if style else escape(told)
