"""What a run hands to the export: ``model.safetensors``, weights and their description in one file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from gensoup.export.architectures import build
from gensoup.export.run_files import MODEL_FILE, check_finished
from gensoup.runtime.errors import GenSoupError
from gensoup.runtime.files import write_atomic
from gensoup.runtime.preprocess import Preprocess


@dataclass(frozen=True)
class TrainedModel:
    """The description of a trained network; its weights stand beside it in the same file.

    temperature: divides the logits; thresholds: of each label's probability, in their order, empty in runs of before
    there were any. Both come from images that no training saw. data: the dataset folder it was trained on.
    """

    architecture: str
    labels: tuple[str, ...]
    preprocess: Preprocess
    temperature: float
    macs: int
    parameters: int
    data: str
    thresholds: tuple[float, ...] = ()
    metrics: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def save(self, run: Path, weights: dict[str, Tensor]) -> None:
        """Write ``model.safetensors`` into the run folder, atomically."""
        text = json.dumps({**asdict(self), "preprocess": self.preprocess.to_dict()})
        content = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
        write_atomic(run / MODEL_FILE, save(content, {"gensoup": text}))

    @classmethod
    def load(cls, run: Path) -> tuple[TrainedModel, nn.Module]:
        """The description and the network, in eval mode. Raises DataError when the run is not
        finished, GenSoupError when its model is not whole."""
        path = run / MODEL_FILE
        check_finished(run, MODEL_FILE)
        try:
            with safe_open(path, framework="pt") as file:
                values = json.loads((file.metadata() or {})["gensoup"])
                weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            values["preprocess"] = Preprocess.from_dict(values["preprocess"])
            values["labels"] = tuple(values["labels"])
            values["thresholds"] = tuple(values.get("thresholds", ()))
            trained = cls(**values)
            model = build(trained.architecture, len(trained.labels))
            model.load_state_dict(weights)
        except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise GenSoupError(f"{path}: not a model of this GenSoup ({line})") from error
        return trained, model.eval()
