"""What one worker of a Ray cluster takes of its machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gensoup.runtime.errors import UsageError


@dataclass(frozen=True)
class Share:
    """gpus: None is one where the cluster has any. cpus: None is, without a GPU, as many as a training has threads."""

    cpus: int | None = None
    gpus: float | None = None

    def __post_init__(self) -> None:
        if self.cpus is not None and self.cpus < 1:
            raise UsageError(f"--worker-cpus {self.cpus}: must be at least 1")
        if self.gpus is not None and (self.gpus < 0 or (self.gpus > 1 and self.gpus != int(self.gpus))):
            raise UsageError(f"--worker-gpus {self.gpus:g}: must be a share of one, as 0.5, or a whole number")

    def resources(self, offered: Mapping[str, float], threads: int) -> dict[str, float]:
        """What a worker asks of Ray (``num_cpus``, ``num_gpus``) of a cluster that offers so many ``CPU`` and ``GPU``.

        Raises UsageError when it could not have that.
        """
        all_cpus, all_gpus = offered.get("CPU", 0), offered.get("GPU", 0)
        gpus = self.gpus if self.gpus is not None else float(all_gpus >= 1)
        if gpus > all_gpus:
            raise UsageError(
                f"--worker-gpus {gpus:g}: the cluster offers {all_gpus:g} GPUs; leave it out, or start Ray with "
                "--num-gpus on the machines that have some"
            )
        cpus = self.cpus if self.cpus is not None else (0 if gpus else threads)
        if cpus > all_cpus:
            name = "--threads" if self.cpus is None else "--worker-cpus"
            raise UsageError(f"{name} {cpus}: the cluster offers {all_cpus:g} cores; ask for fewer")
        return {"num_gpus": gpus, "num_cpus": cpus}

    def notes(self, offered: Mapping[str, float]) -> list[str]:
        """What may not be as the user thinks."""
        if self.gpus == 0 and offered.get("GPU", 0) >= 1:
            return [
                f"--worker-gpus 0: the cluster offers {offered['GPU']:g} GPUs, none of which is used; leave the option "
                "out to use them"
            ]
        return []
