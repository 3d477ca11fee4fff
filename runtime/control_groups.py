"""What Linux' control groups, those of a container above all, leave of the processor to this process."""

from __future__ import annotations

import re
from pathlib import Path

from gensoup.runtime.device import text_of


def quota_cores(root: Path = Path("/")) -> float | None:
    """Cores' worth of time that the control groups of this process allow; None without a limit. Versions 1 and 2."""
    limits = []
    for folder in _cpu_groups(root):
        if (folder / "cpu.max").exists():
            quota, _, period = _text(folder / "cpu.max").partition(" ")
        else:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


def quota_stops(root: Path = Path("/")) -> int:
    """How often a quota has stopped this process' control groups so far."""
    stops = (
        re.search(r"^nr_throttled (\d+)$", _text(folder / "cpu.stat"), re.MULTILINE) for folder in _cpu_groups(root)
    )
    return sum(int(match[1]) for match in stops if match)


def _cpu_groups(root: Path) -> list[Path]:
    """The folders of this process' control group and of those above it, as far as they can be seen from here."""
    mount, inner = root / "sys/fs/cgroup", "/"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" and (mount / "cgroup.controllers").exists():
            inner = path
        elif "cpu" in controllers.split(","):
            mount, inner = root / "sys/fs/cgroup" / "cpu", path
            break
    folder = mount / inner.lstrip("/")
    return [place for place in (folder, *folder.parents) if place == mount or mount in place.parents]


def _text(path: Path) -> str:
    return text_of(path).strip()
