"""Quotas, from a made-up root."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gensoup.runtime.control_groups import quota_cores, quota_stops

Put = Callable[[str, str], None]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes a file below the made-up root: (path, content)."""

    def write(path: str, content: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content + "\n")

    return write


@pytest.mark.parametrize(
    ("files", "cores", "stops"),
    [
        ({}, None, 0),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cgroup.controllers": "cpu"}, None, 0),
        (
            {
                "proc/self/cgroup": "0::/cart/app",
                "sys/fs/cgroup/cgroup.controllers": "cpu io",
                "sys/fs/cgroup/cart/cpu.max": "150000 100000",
                "sys/fs/cgroup/cart/cpu.stat": "usage_usec 9\nnr_periods 5\nnr_throttled 4",
                "sys/fs/cgroup/cart/app/cpu.max": "max 100000",
                "sys/fs/cgroup/cart/app/cpu.stat": "nr_throttled 0",
            },
            1.5,
            4,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/x\n1:cpu,cpuacct:/docker/ab\n0::/",
                "sys/fs/cgroup/cpu/docker/ab/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu/docker/ab/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu/docker/ab/cpu.stat": "nr_throttled 2",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            0.5,
            2,
        ),
    ],
    ids=["none", "no limit", "version 2, above", "version 1"],
)
def test_quotas_of_control_groups(
    tmp_path: Path, put: Put, files: dict[str, str], cores: float | None, stops: int
) -> None:
    for path, content in files.items():
        put(path, content)
    assert quota_cores(tmp_path) == cores
    assert quota_stops(tmp_path) == stops
