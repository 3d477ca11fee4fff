"""The workers of a run on a Ray cluster: started, given one job after the other, replaced when they die."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gensoup.runtime.errors import GenSoupError
from gensoup.train.ray_share import Share
from gensoup.train.ray_worker import Context, Result, Worker, versions
from gensoup.train.shipping import Shards, sweep
from gensoup.train.task import Task

TRIES = 3  # how many workers one individual may lose before it counts as the cause
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
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, int]] = {}  # reference → worker, index of its job
        self._shards: Any = None
        self._lost = False  # whether a worker ever died
        self._seen_worker = time.monotonic()

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
        waiting, losses = deque(range(len(jobs))), Counter[int]()
        self._seen_worker = time.monotonic()
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
            for worker, _ in self._busy.values():  # on an error or an interruption
                self._ray.kill(worker)
            self._busy.clear()

    def close(self) -> None:
        """Let all workers go; each gives back what it shares with others of its machine."""
        with contextlib.suppress(Exception):  # a cluster that is gone has nothing to give back
            goodbyes = [worker.close.remote() for worker in self._idle]
            self._ray.wait(goodbyes, num_returns=len(goodbyes), timeout=CLOSE_S) if goodbyes else None
            for worker in [*self._idle, *self._starting.values(), *([self._shards] if self._shards else [])]:
                self._ray.kill(worker)
            if self._shards and self._lost:
                self._sweep()
        self._idle, self._starting, self._shards, self._lost = [], {}, None, False

    def _sweep(self) -> None:
        """Remove the images that workers which died left on their machines."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        places = [
            NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in self._ray.nodes() if node["Alive"]
        ]
        task = self._ray.remote(sweep)
        swept = [task.options(num_cpus=0, scheduling_strategy=place).remote() for place in places]
        self._ray.wait(swept, num_returns=len(swept), timeout=SWEEP_S)

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
        """Take a worker that has started among the idle ones; one that died before is forgotten."""
        worker = self._starting.pop(reference)
        try:
            host, found, _ = self._ray.get(reference)
        except Exception as error:
            if not _is_loss(self._ray, error) or getattr(error, "actor_init_failed", False):
                raise GenSoupError(
                    f"a worker cannot start ({_cause(error)}); install the same gensoup[train,ray] on every machine"
                ) from error
            return
        ours = versions()
        if different := [
            f"{name} {found.get(name)}, here {ours[name]}" for name in ours if found.get(name) != ours[name]
        ]:
            raise GenSoupError(
                f"{host}: has other versions ({'; '.join(different)}); install the same on every machine"
            )
        self._idle.append(worker)
        self._seen_worker = time.monotonic()

    def _give(self, worker: Any, index: int, jobs: Sequence[Job]) -> None:
        job = jobs[index]
        reference = worker.train.remote(job.task, job.examples, job.parents, self._shards)
        self._busy[reference] = worker, index

    def _take(self, reference: Any, jobs: Sequence[Job], losses: Counter[int]) -> tuple[int, Result | Lost | None]:
        """The outcome of a job; None where it is to be done again."""
        worker, index = self._busy.pop(reference)
        try:
            result: Result | None = self._ray.get(reference)
        except Exception as error:
            if not _is_loss(self._ray, error):
                raise _told(error) from error
            with contextlib.suppress(Exception):
                self._ray.kill(worker)  # where only its result was lost
            losses[index] += 1
            self._lost = True
            if losses[index] < TRIES:
                self._tell(f"a worker died ({_cause(error)}); {jobs[index].name} is run again")
                return index, None
            self._tell(f"a worker died ({_cause(error)}); {jobs[index].name} has lost {TRIES} and is given up")
            return index, Lost(f"its worker died {TRIES} times ({_cause(error)})")
        self._idle.append(worker)
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
            raise GenSoupError(
                f"no worker has come up for {PATIENCE_S:.0f} s: the cluster has no room or no machines left (see ray "
                "status); --resume goes on"
            )
        elif not self._at_work:
            time.sleep(LOOK_S)


def _is_loss(ray: Any, error: BaseException) -> bool:
    """Whether a worker, its machine or what it had made is gone, rather than something was wrong in it."""
    kinds = ("RayActorError", "WorkerCrashedError", "NodeDiedError", "ObjectLostError", "OutOfMemoryError")
    return isinstance(error, tuple(getattr(ray.exceptions, name) for name in kinds))


def _told(error: Exception) -> Exception:
    """What a user is told of an error that ends the run."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, GenSoupError):
        return GenSoupError(f"a worker: {(str(cause).splitlines() or ['?'])[0]}")
    if cause is not None:
        return RuntimeError(f"a worker: {type(cause).__name__}: {cause}")
    return lost_cluster(error)


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
        r"(The actor (?:is dead|died) because .*)",
    ):
        if found := re.search(pattern, text):
            line = found[1]
            break
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        line = lines[-1] if lines else type(error).__name__
    return line.split(". ")[0].rstrip(".")[:160]
