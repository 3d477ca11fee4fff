"""The workers of a run on a Ray cluster: started, given one job after the other, replaced when they die."""

from __future__ import annotations

import contextlib
import re
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gensoup.runtime.errors import GenSoupError
from gensoup.train.ray_share import Share
from gensoup.train.ray_worker import Context, Result, Worker, versions
from gensoup.train.shipping import Shards, sweep
from gensoup.train.task import Task

TRIES = 3  # how many workers one individual may lose, on machines that live, before it counts as the cause
PATIENCE_S = 600.0  # without a single worker
LOOK_S = 1.0  # between two looks whether the cluster has changed
CLOSE_S = 5.0
SWEEP_S = 30.0


@dataclass(frozen=True)
class Job:
    """A task with references to what it needs in the object store. name: of its individual."""

    name: str
    task: Task
    examples: Mapping[tuple[str, int], Any]
    parents: Mapping[str, Any]


@dataclass(frozen=True)
class Lost:
    """A job given up: it has lost so many workers."""

    reason: str


@dataclass(frozen=True)
class Station:
    """A worker and where it is. node: as Ray numbers machines."""

    worker: Any
    host: str
    node: str


class Crew:
    """As many workers as the cluster bears, for one run."""

    def __init__(self, ray: Any, share: Share, context: Context, tell: Callable[[str], None]) -> None:
        """ray: connected. tell: takes a line on each worker that dies. Raises UsageError when the cluster offers no
        place for a single worker."""
        self._ray = ray
        self._tell = tell
        self._resources = share.resources(ray.cluster_resources(), context.settings.threads)
        self._context = ray.put(context)
        self._device = "cuda" if self._resources["num_gpus"] else "cpu"
        self._starting: dict[Any, Any] = {}  # reference → worker
        self._idle: list[Station] = []
        self._busy: dict[Any, tuple[Station, int]] = {}  # reference → who, index of the job
        self._shards: Any = None
        self._untidy = False  # whether a worker ended without giving back what it shares with others
        self._seen_worker = time.monotonic()
        self._last_death = "the cluster has no room or no machines left (see ray status)"

    @property
    def places(self) -> int:
        """How many workers the cluster bears as it is now."""
        offered = self._ray.cluster_resources()
        kind, each = (
            ("GPU", self._resources["num_gpus"]) if self._device == "cuda" else ("CPU", self._resources["num_cpus"])
        )
        return int(offered.get(kind, 0) / each + 1e-9)

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Result | Lost]]:
        """(index, outcome) of every job, as they are finished. No worker is idle while a job waits.

        Raises GenSoupError when workers cannot work at all, or when there has been none for PATIENCE_S.
        """
        waiting, losses = deque(range(len(jobs))), defaultdict[int, list[str]](list)
        self._seen_worker = time.monotonic()
        self._ask_idle()
        try:
            while waiting or self._busy:
                self._fill(len(waiting) + len(self._busy))
                while waiting and self._idle:
                    self._give(self._idle.pop(), waiting.popleft(), jobs)
                done, _ = self._ray.wait([*self._busy, *self._starting], timeout=LOOK_S) if self._at_work else ([], [])
                self._look_at_clock()
                for reference in done:
                    if reference in self._starting:
                        self._welcome(reference)
                        continue
                    index, outcome = self._take(reference, jobs, losses)
                    if outcome is None:
                        waiting.appendleft(index)
                    else:
                        yield index, outcome
        finally:
            self._break_off()  # on an error or an interruption

    def close(self) -> None:
        """Let all workers go; each gives back what it shares with others of its machine."""
        self._break_off()
        self._untidy |= bool(self._starting)
        with contextlib.suppress(Exception):  # a cluster that is gone has nothing to give back
            goodbyes = [station.worker.close.remote() for station in self._idle]
            _, silent = self._ray.wait(goodbyes, num_returns=len(goodbyes), timeout=CLOSE_S) if goodbyes else ((), ())
            for worker in [*(one.worker for one in self._idle), *self._starting.values()]:
                self._ray.kill(worker)
            if self._shards:
                self._ray.kill(self._shards)
                if self._untidy or silent:
                    self._sweep()
        self._idle, self._starting, self._shards, self._untidy = [], {}, None, False

    def _break_off(self) -> None:
        """Kill who is training."""
        for station, _ in self._busy.values():
            self._untidy = True
            with contextlib.suppress(Exception):
                self._ray.kill(station.worker)
        self._busy.clear()

    def _sweep(self) -> None:
        """Remove the images that workers which died, or were killed just now, left on their machines."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        places = [NodeAffinitySchedulingStrategy(node, soft=False) for node in self._living_nodes()]
        task = self._ray.remote(sweep)
        swept = [task.options(num_cpus=0, scheduling_strategy=place).remote(SWEEP_S / 2) for place in places]
        self._ray.wait(swept, num_returns=len(swept), timeout=SWEEP_S)

    def _living_nodes(self) -> set[str]:
        return {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}

    @property
    def _at_work(self) -> bool:
        return bool(self._busy or self._starting)

    def _fill(self, wanted: int) -> None:
        """Start workers up to what is wanted and the cluster bears; the cluster may have grown or shrunk."""
        present = len(self._starting) + len(self._idle) + len(self._busy)
        if present >= wanted:
            return
        for _ in range(min(wanted, self.places) - present):
            worker = (
                self._ray.remote(Worker).options(max_restarts=0, **self._resources).remote(self._context, self._device)
            )
            self._starting[worker.ready.remote()] = worker

    def _welcome(self, reference: Any) -> None:
        """Take a worker that answers among the idle ones; one that is dead is forgotten."""
        worker = self._starting.pop(reference)
        try:
            host, node, found = self._ray.get(reference)
        except Exception as error:
            if not _is_loss(self._ray, error) or getattr(error, "actor_init_failed", False):
                raise GenSoupError(
                    f"a worker cannot start ({_cause(error)}); install the same gensoup[train,ray] on every machine"
                ) from error
            if self._last_death != (told := f"a worker that had nothing to do died ({_cause(error)})"):
                self._tell(told)
            self._untidy, self._last_death = True, told
            return
        ours = versions()
        if different := [
            f"{name} {found.get(name)}, here {ours[name]}" for name in ours if found.get(name) != ours[name]
        ]:
            raise GenSoupError(
                f"{host}: has other versions ({'; '.join(different)}); install the same on every machine"
            )
        self._idle.append(Station(worker, host, node))
        self._seen_worker = time.monotonic()

    def _give(self, station: Station, index: int, jobs: Sequence[Job]) -> None:
        job = jobs[index]
        reference = station.worker.train.remote(job.task, job.examples, job.parents, self._shards)
        self._busy[reference] = station, index

    def _ask_idle(self) -> None:
        """Let those who have nothing to do say that they live before they are given something: a job that came to the
        dead would count as lost by its own fault."""
        for station in self._idle:
            self._starting[station.worker.ready.remote()] = station.worker
        self._idle.clear()

    def _take(
        self, reference: Any, jobs: Sequence[Job], losses: Mapping[int, list[str]]
    ) -> tuple[int, Result | Lost | None]:
        """The outcome of a job; None where it is to be done again. losses: by index of a job, the machines of the
        workers that it lost."""
        station, index = self._busy.pop(reference)
        name = jobs[index].name
        try:
            result: Result | None = self._ray.get(reference)
        except Exception as error:
            if not _is_loss(self._ray, error):
                raise _told(station.host, error) from error
            with contextlib.suppress(Exception):
                self._ray.kill(station.worker)  # where only its result was lost
            self._untidy = True
            self._ask_idle()  # a machine may have died with several
            losses[index].append(station.node)
            living = self._living_nodes()
            tries = sum(node in living for node in losses[index])
            if tries < TRIES:
                self._tell(f"a worker died ({_cause(error)}); {name} is run again")
                return index, None
            self._tell(f"a worker died ({_cause(error)}); {name} has lost {tries} and is given up")
            return index, Lost(f"its worker died {tries} times ({_cause(error)})")
        self._idle.append(station)
        self._seen_worker = time.monotonic()
        if result is None:
            self._shards = self._shards or self._start_shards()
        return index, result

    def _start_shards(self) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
        return self._ray.remote(Shards).options(**options).remote()

    def _look_at_clock(self) -> None:
        if self._busy or self._idle:
            self._seen_worker = time.monotonic()
        elif time.monotonic() - self._seen_worker > PATIENCE_S:
            raise GenSoupError(f"no worker has come up for {PATIENCE_S:.0f} s: {self._last_death}; --resume goes on")
        elif not self._at_work:
            time.sleep(LOOK_S)


def _is_loss(ray: Any, error: BaseException) -> bool:
    """Whether a worker, its machine or what it had made is gone, rather than something was wrong in it."""
    kinds = ("RayActorError", "WorkerCrashedError", "NodeDiedError", "ObjectLostError", "OutOfMemoryError")
    return isinstance(error, tuple(getattr(ray.exceptions, name) for name in kinds))


def _told(host: str, error: Exception) -> Exception:
    """What a user is told of an error on a machine that ends the run."""
    cause = getattr(error, "cause", None) or error
    if type(cause).__module__ == "ray.exceptions":
        return lost_cluster(cause)
    line = (str(cause).splitlines() or ["?"])[0]
    if isinstance(cause, GenSoupError):
        return GenSoupError(f"{host}: {line}; --resume goes on")
    return RuntimeError(f"{host}: {type(cause).__name__}: {line}")


def lost_cluster(error: Exception) -> GenSoupError:
    """For what Ray raises when it is itself the matter."""
    name = type(error).__name__
    if name in ("ObjectStoreFullError", "OutOfDiskError"):
        return GenSoupError(
            "the object store and its disk are full; free some space in Ray's temporary folder; --resume goes on"
        )
    return GenSoupError(f"the Ray cluster was lost ({_cause(error)}); --resume goes on")


def _cause(error: BaseException) -> str:
    """The line of Ray's many that says why."""
    text = str(getattr(error, "cause", None) or error)
    for pattern in (
        r"Worker exit detail: (.*)",
        r"(Task was killed due to .*)",
        r"(The actor (?:is dead|died) because (?!of an error raised).*)",
    ):
        if found := re.search(pattern, text):
            line = found[1]
            break
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        line = lines[-1] if lines else type(error).__name__
    return line.split(". ")[0].rstrip(".")[:160]
