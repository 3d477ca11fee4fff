"""Progress on the terminal's error stream; results go to its standard output."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

# Called with a stage's name and how many of how many steps are done.
StageProgress = Callable[[str, int, int], None]

_LOG_EVERY_S = 15.0
_DRAW_EVERY_S = 0.5


@contextmanager
def stage_bars() -> Iterator[StageProgress]:
    """One progress bar a stage, each appearing with its first step; lines now and then where there is no terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    drawn = 0.0
    # No thread that redraws ten times a second: drawing takes a core from what is measured meanwhile.
    with Progress(*columns, console=console, auto_refresh=False) as bars:

        def show(stage: str, done: int, total: int) -> None:
            nonlocal drawn
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)
            if done >= total or time.monotonic() - drawn > _DRAW_EVERY_S:
                bars.refresh()
                drawn = time.monotonic()

        yield show


def _lines(console: Console) -> StageProgress:
    started: dict[str, float] = {}
    last: dict[str, float] = {}

    finished: set[str] = set()

    def show(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        started.setdefault(stage, now)
        if stage in finished:
            return
        if done >= total:
            finished.add(stage)
        if done >= total or now - last.setdefault(stage, now) > _LOG_EVERY_S:
            last[stage] = now
            console.print(f"  {stage} {done}/{total} ({now - started[stage]:.0f} s)", highlight=False)

    return show
