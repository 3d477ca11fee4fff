"""Public datasets in their own layouts, taken in as dataset folders: one module a layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path

from gensoup.bench.importers import breakhis, hyperkvasir, isic_2019, kvasir_v2
from gensoup.bench.importers.plan import Choice, ImportPlan
from gensoup.runtime.errors import UsageError

LAYOUTS: Mapping[str, Callable[[Path, Choice], ImportPlan]] = {
    "kvasir-v2": kvasir_v2.plan,
    "hyperkvasir": hyperkvasir.plan,
    "isic-2019": isic_2019.plan,
    "breakhis": breakhis.plan,
}


def plan_import(layout: str, source: Path, choice: Choice) -> ImportPlan:
    """What an import of ``source`` would take; nothing is written.

    Raises UsageError for an unknown layout or an option that it does not have, DataError for a folder of another
    layout or one that is incomplete.
    """
    if layout not in LAYOUTS:
        near = get_close_matches(layout.lower(), LAYOUTS, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UsageError(f"LAYOUT '{layout}': no such layout; {hint}the layouts are {', '.join(LAYOUTS)}")
    if layout != "breakhis" and choice.magnification != "all":
        raise UsageError(f"--magnification {choice.magnification}: '{layout}' has no magnifications, leave it out")
    if layout != "breakhis" and choice.keep_conflicts:
        raise UsageError(f"--keep-conflicts: '{layout}' has no slides of two labels, leave it out")
    return LAYOUTS[layout](source, choice)
