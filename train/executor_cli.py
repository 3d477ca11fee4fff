"""The options of ``gensoup train`` that say who trains the individuals."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from gensoup.runtime.errors import UsageError

if TYPE_CHECKING:
    from gensoup.train.executor import Executor


class ExecutorKind(str, Enum):
    """Who trains the individuals."""

    inline = "inline"
    ray = "ray"


@dataclass(frozen=True)
class Workers:
    """What was said of them. address: of a Ray cluster, None is this machine alone; cpus, gpus: of each worker."""

    kind: ExecutorKind
    address: str | None = None
    cpus: int | None = None
    gpus: float | None = None

    def check(self) -> None:
        """Raise UsageError for what cannot be meant, MissingDependencyError without Ray; both at a glance."""
        said = {"--ray-address": self.address, "--worker-cpus": self.cpus, "--worker-gpus": self.gpus}
        given = [f"{name} {value}" for name, value in said.items() if value is not None]
        if self.kind is ExecutorKind.inline:
            if given:
                raise UsageError(f"{given[0]}: is for --executor ray; give that too, or leave it out")
            return
        from gensoup.train.ray_cluster import check_address, import_ray
        from gensoup.train.ray_share import Share

        Share(self.cpus, self.gpus)
        if self.address is not None:
            check_address(self.address)
        import_ray()

    @contextlib.contextmanager
    def opened(self, threads: int, note: Callable[[str], None]) -> Iterator[Executor]:
        """The executor, its workers at hand for the time of the block. threads: of a training. note: takes a line that
        the user should see."""
        if self.kind is ExecutorKind.inline:
            from gensoup.train.executor import Inline

            yield Inline()
            return
        from gensoup.train.ray_executor import ray_executor
        from gensoup.train.ray_share import Share

        with ray_executor(self.address, Share(self.cpus, self.gpus), threads, note) as executor:
            for line in executor.notes:
                note(line)
            yield executor
