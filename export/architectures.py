"""The search's alphabet: torchvision classifiers with a fresh head, their initial weights and their cost."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, fx, nn
from torchvision.models.shufflenetv2 import InvertedResidual

from gensoup.runtime.errors import GenSoupError


class _MNASNet(torchvision.models.MNASNet):
    """MNASNet that loads a plain state dict, as safetensors gives it: torchvision's demands a version beside it."""

    _load_from_state_dict = nn.Module._load_from_state_dict


class _ShuffleUnit(InvertedResidual):
    """ShuffleNetV2's unit, its two halves interleaved in one pass where channels come last.

    torchvision joins them, then shuffles through a layout with channels first, and everything after it is copied back:
    the same values, in a training step of ShuffleNetV2 x1.0 a quarter of its time.
    """

    def forward(self, x: Tensor) -> Tensor:
        """As torchvision's."""
        # What is traced or exported stays as it is.
        graph = isinstance(x, fx.Proxy) or torch.jit.is_tracing() or torch.compiler.is_compiling()
        if graph or not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        kept, changed = x.chunk(2, 1) if self.stride == 1 else (self.branch1(x), x)
        halves = [half.permute(0, 2, 3, 1) for half in (kept, self.branch2(changed))]
        return torch.stack(halves, -1).flatten(3).permute(0, 3, 1, 2)


class WeightsError(GenSoupError):
    """Initial weights that are missing, unreadable or of another network."""


def build(name: str, classes: int) -> nn.Module:
    """A torchvision classifier with ``classes`` logits and random weights.

    SqueezeNet's head ends in a ReLU in torchvision; here it is dropped, for logits must be able to go below zero.
    """
    extra = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # googlenet and inception: about a default they will change
        model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes, **extra)
    if name.startswith("squeezenet"):
        head = model.classifier
        assert isinstance(head, nn.Sequential) and isinstance(head[2], nn.ReLU)
        head[2] = nn.Identity()
    if isinstance(model, torchvision.models.MNASNet):
        model.__class__ = _MNASNet
    for module in model.modules():
        if type(module) is InvertedResidual:
            module.__class__ = _ShuffleUnit
    return model


def initial_model(name: str, classes: int, seed: int, pretrained: dict[str, Tensor] | None) -> nn.Module:
    """The common ancestor of all individuals of one architecture in one run.

    It depends on (seed, architecture) and ``pretrained`` alone, head included, so that descendants can be averaged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_stable_hash(f"{seed}/{name}"))
        model = build(name, classes)
    if pretrained is not None:
        model.load_state_dict(pretrained, strict=False)
    return model


def pretrained_weights(name: str, classes: int, weights_dir: Path | None, download: bool) -> dict[str, Tensor] | None:
    """ImageNet weights of everything but the head, float32; None where there are none to be had.

    A file ``NAME.safetensors`` or ``NAME.pth`` in ``weights_dir`` goes before torchvision's own download, which is
    tried only with ``download``. Raises WeightsError for a file that cannot be read or is of another network.
    """
    for suffix in (".safetensors", ".pth"):
        if weights_dir is not None and (path := weights_dir / f"{name}{suffix}").exists():
            return _fitting(_read_weights(path), name, classes, str(path))
    if not download:
        return None
    try:
        weights = torchvision.models.get_model_weights(name)["DEFAULT"]
        with contextlib.redirect_stdout(io.StringIO()):  # it announces every download, those that fail too
            state = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError, KeyError) as error:
        raise WeightsError(f"no ImageNet weights: not in --weights-dir, download failed ({_line(error)})") from error
    return _fitting(state, name, classes, f"torchvision's weights for {name}")


def count_cost(name: str, classes: int, size: int) -> tuple[int, int]:
    """(multiply-adds of one frame at ``size`` × ``size``, parameters), counted by fvcore.

    fvcore calls a multiply-add one flop, as the thesis does; FLOPs in the usual sense are twice as many.
    """
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about torch.jit's age and shapes read in Python: right for a fixed size
        from fvcore.nn import FlopCountAnalysis

        model = build(name, classes).eval()
        count = FlopCountAnalysis(model, torch.zeros(1, 3, size, size))
        count.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        macs = int(count.total())
    return macs, sum(parameter.numel() for parameter in model.parameters())


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the pickle's protocol
            return dict(torch.load(path, map_location="cpu", weights_only=True))  # refuses anything but tensors
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError) as error:
        raise WeightsError(f"{path}: not a readable weights file ({_line(error)})") from error
    except Exception as error:  # UnpicklingError and what a hostile pickle provokes
        # Not in PyTorch's words, which advise to unpickle it all the same.
        raise WeightsError(f"{path}: refused, more than plain tensors in it; give {path.stem}.safetensors") from error


def _fitting(state: dict[str, Tensor], name: str, classes: int, source: str) -> dict[str, Tensor]:
    """The part of ``state`` outside the head, checked to be complete and of the right shapes."""
    with torch.random.fork_rng(devices=[]):  # not on the meta device: RegNet computes its widths with tensors
        ours, other = build(name, classes).state_dict(), build(name, classes + 1).state_dict()
    body = {key: value for key, value in ours.items() if value.shape == other[key].shape}
    for key, value in body.items():
        if key.endswith("num_batches_tracked"):
            continue
        if key not in state:
            raise WeightsError(f"{source}: not the weights of {name} ('{key}' is missing)")
        if not isinstance(state[key], Tensor):
            raise WeightsError(f"{source}: not the weights of {name} ('{key}' is no tensor)")
        if state[key].shape != value.shape:
            shapes = f"{list(state[key].shape)}, not {list(value.shape)}"
            raise WeightsError(f"{source}: not the weights of {name} ('{key}' is {shapes})")
    return {key: state[key].to(value.dtype) for key, value in body.items() if key in state}


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _stable_hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
