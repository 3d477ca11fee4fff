"""How busy the machine was while a benchmark ran."""

from __future__ import annotations

from gensoup.runtime.device import CpuTimes, cpu_times


def print_idle(before: CpuTimes | None) -> None:
    """A line on the share of the cores' time that was idle since ``before``; nothing where that cannot be told."""
    after = cpu_times()
    if before and after:
        print(f"Idle while all this ran: {(before.idle_fraction_until(after) or 0):.2f} of the cores' time.")
