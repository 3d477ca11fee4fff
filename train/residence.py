"""Images that lie in the training device's own memory, where a whole stage of them fits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gensoup.train.images import Frames, Selection
from gensoup.train.learner import Examples

MOST_OF_MEMORY = 0.4  # for all image sizes together; networks, their gradients and activations need the rest
CHUNK = 1024  # images copied at once


@dataclass
class Residence:
    """Moves the images of an image size to ``device`` once, for all roles that select from them.

    A CPU has no memory of its own: there everything stays in its memory map.
    """

    device: torch.device
    _stages: dict[int, tuple[object, Tensor]] = field(default_factory=dict)  # by the identity of what is kept with it

    def place(self, examples: Examples) -> Examples:
        """The same examples, their images on the device where they fit."""
        if self.device.type == "cpu" or not isinstance(examples.images, Selection):
            return examples
        return replace(examples, images=self.moved(examples.images, self.free_bytes()))

    def moved(self, selection: Selection, free_bytes: int) -> Frames:
        """The same images from a tensor on the device, if what lies there already and they take no more than their
        share of it and of ``free_bytes``."""
        if isinstance(selection.images, Tensor):
            return selection
        key = id(selection.images)
        if key not in self._stages:
            taken = sum(stage.nbytes for _, stage in self._stages.values())
            if taken + selection.images.nbytes > MOST_OF_MEMORY * (taken + free_bytes):
                return selection
            stage = torch.empty(selection.images.shape, dtype=torch.uint8, device=self.device)
            every = Selection(selection.images, torch.arange(len(selection.images)).numpy())
            for start in range(0, len(every), CHUNK):
                part = torch.as_tensor(every[slice(start, start + CHUNK)])
                stage[start : start + len(part)] = part.to(self.device)
            self._stages[key] = selection.images, stage
        return Selection(self._stages[key][1], selection.rows)

    def free_bytes(self) -> int:
        """Free memory of the device."""
        return int(torch.cuda.mem_get_info(self.device)[0])
