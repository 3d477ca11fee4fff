"""Training the individuals of a generation on the workers of a Ray cluster (``--executor ray``)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gensoup.train.breeding import Plan
from gensoup.train.executor import OnStep
from gensoup.train.individual import Trainer
from gensoup.train.ledger import Record, name_of
from gensoup.train.ray_cluster import connected
from gensoup.train.ray_crew import Crew, Job, Lost, lost_cluster
from gensoup.train.ray_share import Share
from gensoup.train.ray_worker import Context, Result
from gensoup.train.shipping import shipped
from gensoup.train.task import Task


class RayExecutor:
    """Sends individuals to workers and commits what comes back in the order of their places.

    Weights are written as they come, so that they wait on the disk; a parent's go into the object store once a
    generation, whoever asks for them. Steps are not told.
    """

    def __init__(self, ray: Any, share: Share, tell: Callable[[str], None]) -> None:
        """ray: connected. Use :func:`ray_executor`."""
        self._tell = tell
        self._ray = ray
        self._share = share
        self._trainer: Trainer | None = None
        self._crew: Crew | None = None
        self._examples: dict[tuple[str, int], Any] = {}  # references, by role and image size

    @property
    def notes(self) -> list[str]:
        """What may not be as the user thinks, a line each."""
        return self._share.notes(self._ray.cluster_resources())

    def train(self, trainer: Trainer, plans: Sequence[Plan], on_step: OnStep | None = None) -> Iterator[Record]:
        """See :class:`gensoup.train.executor.Executor`; in the order of the plans."""
        started = time.monotonic()
        known = {plan.place: record for plan in plans if (record := trainer.ledger.get(plan.place)) is not None}
        tasks = [trainer.task(plan) for plan in plans if plan.place not in known]
        new: set[Any] = set()
        following = 0
        for index, outcome in self._outcomes(trainer, tasks) if tasks else ():
            if isinstance(outcome, Lost):
                record, weights = trainer.record(tasks[index], 0, time.monotonic() - started, reason=outcome.reason), {}
            else:
                record, weights = outcome.record, outcome.weights
            trainer.meter.add(record.images)
            trainer.ledger.store(record, weights)
            known[record.place] = record
            new.add(record.place)
            while following < len(plans) and plans[following].place in known:
                record = known[plans[following].place]
                if record.place in new:
                    trainer.ledger.commit(record)
                following += 1
                yield record
        for plan in plans[following:]:
            yield known[plan.place]

    def close(self) -> None:
        """Let the workers go."""
        if self._crew is not None:
            self._crew.close()
        self._crew, self._trainer = None, None
        self._examples.clear()

    def _outcomes(self, trainer: Trainer, tasks: Sequence[Task]) -> Iterator[tuple[int, Result | Lost]]:
        try:
            if trainer is not self._trainer or self._crew is None:
                self.close()
                context = Context.of(trainer.settings, trainer.admission, trainer.data.classes)
                self._crew = Crew(self._ray, self._share, context, self._tell)
                self._trainer = trainer
            parents: dict[str, Any] = {}
            jobs = [self._job(trainer, task, parents) for task in tasks]
            yield from self._crew.run(jobs)
        except self._ray.exceptions.RayError as error:
            raise lost_cluster(error) from error

    def _job(self, trainer: Trainer, task: Task, parents: dict[str, Any]) -> Job:
        """parents: references to weights that are in the object store already, by name."""
        names = [parent.name for parent in task.plan.parents] if trainer.inherits(task.plan) else []
        for name in names:
            if name not in parents:
                parents[name] = self._ray.put(trainer.ledger.packed_weights(name))
        scored = trainer.scored_size(task)
        places = {("train", task.size), ("train", scored), ("search", scored)}
        return Job(
            name_of(task.plan.place),
            task,
            {place: self._reference(trainer, *place) for place in sorted(places)},
            {name: parents[name] for name in names},
        )

    def _reference(self, trainer: Trainer, role: str, size: int) -> Any:
        if (role, size) not in self._examples:
            self._examples[role, size] = self._ray.put(shipped(trainer.data.load(role, size)))
        return self._examples[role, size]


@contextlib.contextmanager
def ray_executor(
    address: str | None, share: Share, threads: int, tell: Callable[[str], None] = lambda line: None
) -> Iterator[RayExecutor]:
    """Workers on the cluster at ``address``, None: on this machine alone, for the time of the block.

    threads: of a training. tell: takes a line on each worker that dies. Raises what
    :func:`gensoup.train.ray_cluster.connected` raises, and UsageError where the cluster has no room for one worker.
    """
    with connected(address) as ray:
        share.resources(ray.cluster_resources(), threads)
        executor = RayExecutor(ray, share, tell)
        try:
            yield executor
        finally:
            executor.close()
