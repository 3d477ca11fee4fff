"""What runs on a worker of a Ray cluster: one process, with one GPU or some cores, that trains what it is sent."""

from __future__ import annotations

import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gensoup import __version__
from gensoup.train.constraint import Admission
from gensoup.train.individual import RoleData, Tutor
from gensoup.train.learner import Examples
from gensoup.train.ledger import Record, packed, unpacked
from gensoup.train.meter import ImageMeter
from gensoup.train.settings import Settings
from gensoup.train.shipping import Arrivals, NotHere, ReadShard, ShippedExamples
from gensoup.train.task import Task

Packed = NDArray[np.uint8]


@dataclass(frozen=True)
class Context:
    """What a worker knows of its run. pretrained: initial weights by architecture, as arrays, which workers of one
    machine share in the object store; the admission has none."""

    settings: Settings
    admission: Admission
    pretrained: Mapping[str, dict[str, NDArray[Any]] | None]
    classes: int

    @classmethod
    def of(cls, settings: Settings, admission: Admission, classes: int) -> Context:
        """Ready to be sent."""
        pretrained = {
            one.name: None if one.pretrained is None else {key: value.numpy() for key, value in one.pretrained.items()}
            for one in admission.candidates
        }
        bare = tuple(replace(one, pretrained=None) for one in admission.candidates)
        return cls(settings, replace(admission, candidates=bare), pretrained, classes)

    def whole_admission(self) -> Admission:
        """The admission with its initial weights."""
        return replace(self.admission, candidates=tuple(self._with_weights(one) for one in self.admission.candidates))

    def _with_weights(self, candidate: Any) -> Any:
        arrays = self.pretrained[candidate.name]
        weights = None if arrays is None else {key: torch.from_numpy(value.copy()) for key, value in arrays.items()}
        return replace(candidate, pretrained=weights)


@dataclass(frozen=True)
class Result:
    """An attempt as it is sent back."""

    record: Record
    weights: dict[str, Packed]


def versions() -> dict[str, str]:
    """Of all that decides what comes out of a training."""
    found = {"gensoup": __version__, "python": platform.python_version()}
    for name in ("torch", "torchvision", "numpy", "safetensors"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


class Worker:
    """An actor: trains one individual after the other."""

    def __init__(self, context: Context, device: str) -> None:
        """device: ``cuda`` or ``cpu``."""
        torch.set_num_threads(context.settings.threads)
        admission = context.whole_admission()
        meter = ImageMeter(one.name for one in admission.candidates).__enter__()  # as long as this process lives
        self._arrivals = Arrivals()
        self._here: dict[tuple[str, int], Examples] = {}
        data = RoleData(lambda role, size: self._here[role, size], context.classes)
        self._tutor = Tutor(context.settings, admission, data, meter, device)

    def ready(self) -> tuple[str, str, dict[str, str]]:
        """Where this is, by name and as Ray numbers machines, and what is installed here."""
        import ray

        return socket.gethostname(), ray.get_runtime_context().get_node_id(), versions()

    def train(
        self, task: Task, examples: Mapping[tuple[str, int], Any], parents: Mapping[str, Any], shards: Any
    ) -> Result | None:
        """Train one individual; None where its images are not on this machine and ``shards``, the actor that sends
        them, is None. examples: by role and image size, parents: by name, references to what is in the object store.

        Raises GenSoupError for what a user can mend on this machine; whatever else goes wrong is the individual's own.
        """
        import ray

        for place, reference in examples.items():
            if place not in self._here:
                sent: ShippedExamples = ray.get(reference)
                read = None if shards is None else _reader(ray, shards)
                try:
                    self._here[place] = self._arrivals.examples(sent, read)
                except NotHere:
                    return None

        # Before it begins: what goes wrong in an attempt is the individual's own, and a store that is lost is not.
        inherited = {name: ray.get(reference) for name, reference in parents.items()}

        def weights_of(name: str) -> dict[str, Tensor]:
            return unpacked(inherited[name], name)

        attempt = self._tutor.attempt(task, weights_of)
        return Result(attempt.record, {suffix: packed(state) for suffix, state in attempt.weights.items()})

    def close(self) -> None:
        """Give back what is shared with others of this machine."""
        self._arrivals.close()


def _reader(ray: Any, shards: Any) -> ReadShard:
    """Asks ``shards``; what goes wrong there is raised here as it was there."""

    def read(path: str, start: int, stop: int) -> NDArray[np.uint8]:
        try:
            part: NDArray[np.uint8] = ray.get(shards.read.remote(path, start, stop))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        return part

    return read
