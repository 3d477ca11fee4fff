"""Batch-norm statistics of networks whose weights are an average, or were drawn: nobody has fitted them."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gensoup.export.graph import standardise, to_planes

BATCH_NORM_BATCH = 64
BATCH_NORM_IMAGES = 256


class Images(Protocol):
    """uint8 BGR [N, H, W, 3], in memory or not."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: NDArray[np.integer], /) -> NDArray[np.uint8] | Tensor:
        """Those at ``index`` [n], in memory or on the device."""
        ...


def reestimate_batch_norm(model: nn.Module, images: Images, device: torch.device) -> int:
    """Estimate batch-norm statistics again on clean training images (uint8 BGR [N, H, W, 3]), as an average fits none.

    At most BATCH_NORM_IMAGES, evenly spread. Returns how many images passed; 0 where there is no batch norm.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        return 0
    kept = [(layer.momentum, layer.training) for layer in layers]
    training = model.training
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative mean over the batches
        layer.train()
    count = min(BATCH_NORM_IMAGES, len(images))
    chosen = np.linspace(0, len(images) - 1, count).round().astype(int)  # evenly: images come sorted by class
    order = np.random.default_rng(0).permutation(chosen)  # a batch must not be of one class alone
    with torch.inference_mode():
        for batch in np.array_split(order, -(-count // BATCH_NORM_BATCH)):  # of equal size, for each weighs the same
            model(standardise(to_planes(torch.as_tensor(images[np.sort(batch)]).to(device))))
    model.train(training)
    for layer, (momentum, was_training) in zip(layers, kept, strict=True):
        layer.momentum = momentum
        layer.train(was_training)
    return count
