"""Who else used the processor: every process' time before and after a measurement, and nothing in between."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_WORTH_NAMING = 5.0  # percent of one core
_MOST_NAMED = 5


@dataclass(frozen=True)
class ProcessTime:
    """A process' name and the processor time it had so far, in seconds."""

    name: str
    seconds: float


Processes = Mapping[tuple[int, float], ProcessTime]


def process_times(library: Any) -> Processes:
    """(pid, time of its start) → time spent, of all processes but this one and its children. ``library``: psutil."""
    found = {}
    mine = {os.getpid()}
    with suppress(library.Error):
        mine |= {child.pid for child in library.Process().children(recursive=True)}
    for process in library.process_iter(["pid", "name", "create_time", "cpu_times"]):
        told = process.info
        if told["pid"] in mine or told["cpu_times"] is None:
            continue
        spent = told["cpu_times"].user + told["cpu_times"].system
        found[told["pid"], told["create_time"]] = ProcessTime(told["name"] or "?", spent)
    return found


def busiest(before: Processes, after: Processes, seconds: float) -> dict[str, float]:
    """ "name (pid)" → percent of one core, of those that took 5% or more over ``seconds``; the five busiest first.

    A process that began in between counts with all its time; one that ended in between is not seen.
    """
    if seconds <= 0:
        return {}
    shares = {
        f"{now.name} ({pid})": 100 * (now.seconds - before.get((pid, start), ProcessTime("", 0.0)).seconds) / seconds
        for (pid, start), now in after.items()
    }
    most = sorted(shares.items(), key=lambda item: -item[1])[:_MOST_NAMED]
    return {name: round(share, 1) for name, share in most if share >= _WORTH_NAMING}
