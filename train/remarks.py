"""What of a run's settings has no effect, or may not be as its user thinks: a line each, none of them an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gensoup.train.constraint import Admission
    from gensoup.train.settings import Settings


def remarks(settings: Settings) -> list[str]:
    """What can be said before anything is looked at."""
    lines = []
    grows = settings.first_size != settings.last_size and settings.mode == "genetic"
    if grows and 1 < settings.generations <= settings.steady_generations:
        lines.append(
            f"--generations {settings.generations}: are no more than steady_generations, "
            f"{settings.steady_generations}, so that image sizes never grow; raise it, or lower that in --config"
        )
    return lines


def remarks_on_alphabet(settings: Settings, admission: Admission) -> list[str]:
    """What can be said once it is settled which architectures take part."""
    names = [one.name for one in admission.candidates]
    if settings.mode == "astrocyte-schedule":
        if len(names) > 1:
            return [f"an astrocyte schedule trains one network, here {names[0]}; not used: {', '.join(names[1:])}"]
    elif settings.start == "race" and settings.population_of(0) < len(names):
        return [
            f"--population {settings.population}: is less than the {len(names)} architectures of the race, each of "
            f"which takes part; generation 0 had {len(names)}"
        ]
    return []


def by_reason(excluded: Iterable[Mapping[str, str]]) -> list[tuple[str, str]]:
    """What was excluded, of ``architecture`` and ``reason`` each, as (names, reason): what is true of many, such as
    weights that cannot be downloaded, is told once."""
    names: dict[str, list[str]] = {}
    for out in excluded:
        names.setdefault(out["reason"], []).append(out["architecture"])
    return [(", ".join(mine), reason) for reason, mine in names.items()]
