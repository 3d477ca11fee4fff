"""What is left of an exception that cost one individual: a line for the ledger; its memory is given back."""

from __future__ import annotations

import gc
from collections.abc import Mapping

import torch

from gensoup.train.allocator import return_freed_memory

# How PyTorch says it on the CPU, where it raises a plain RuntimeError, and on other devices.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class DivergedError(RuntimeError):
    """A training that led to what is no number."""


def reason_of(error: Exception) -> str:
    """Why an individual failed, in one line."""
    line = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}".removesuffix(": ")
    return f"out of memory ({line})" if _is_out_of_memory(error) else line


def release_memory() -> None:
    """Free what a handled exception's traceback held, the network, its gradients and optimizer.

    A batch's future, its exception and the frame that waited for it refer to each other, so that only the garbage
    collector frees them. Call it after the except block, not within.
    """
    gc.collect()
    return_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def check_finite(state: Mapping[str, torch.Tensor]) -> None:
    """Raise DivergedError when a weight is no number: the last loss cannot tell."""
    for name, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise DivergedError(f"the weights '{name}' are no numbers")


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
