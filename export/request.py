"""What an export is asked for, checked before any work and before anything heavy is imported."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path

from gensoup.runtime.bundle import MODEL_FILES, SUFFIX
from gensoup.runtime.engines.catalogue import COMPILING, ENGINES, REFERENCE, obstacle
from gensoup.runtime.engines.tensorrt_library import LIBRARIES
from gensoup.runtime.errors import MissingDependencyError, UsageError

PRECISIONS = tuple(MODEL_FILES)
# Target → the endings of its files, of which a bundle has one set a precision.
_FILES: Mapping[str, tuple[str, ...]] = {"onnx": (".onnx",), "openvino": (".xml", ".bin")}
TARGETS = tuple(_FILES)


def parse_precisions(names: Iterable[str], always: str = "fp32") -> tuple[str, ...]:
    """The precisions to build, each once, ``always`` among them. Raises UsageError for what is none."""
    asked = [name.strip() for name in names if name.strip()]
    for name in asked:
        if name not in PRECISIONS:
            raise UsageError(f"--precision: '{name}' is unknown, choose from {', '.join(PRECISIONS)}")
    return tuple(name for name in PRECISIONS if name in asked or name == always)


def parse_targets(names: Iterable[str]) -> tuple[str, ...]:
    """The targets to write, each once. Raises UsageError for what is none, MissingDependencyError before any work."""
    asked = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    for name in asked:
        if name not in TARGETS:
            raise UsageError(f"--target: '{name}' is unknown, choose from {', '.join((*TARGETS, *LIBRARIES))}")
    if "openvino" in asked and importlib.util.find_spec("openvino") is None:
        raise MissingDependencyError("openvino", "openvino")
    return asked


def parse_engines(names: Iterable[str] | None) -> tuple[str, ...]:
    """Names of engines to prove graphs on, the reference engine first and always; None: all that are usable here and
    need not compile first.

    Raises UsageError for an unknown name or an engine that is proven where it is built, the engine's own error for one
    that cannot be used here.
    """
    if names is None:
        return tuple(
            name for name in ENGINES if name == REFERENCE or (name not in COMPILING and obstacle(name) is None)
        )
    asked = [name.strip() for name in names if name.strip()]
    for name in asked:
        if name not in ENGINES:
            raise UsageError(f"--engines: '{name}' is unknown, choose from {', '.join(ENGINES)}")
        if name in LIBRARIES:
            raise UsageError(f"--engines {name}: is built from a bundle, and proven then; --target {name} does both")
        if (reason := obstacle(name)) is not None:
            raise reason
    return tuple(name for name in ENGINES if name in asked or name == REFERENCE)


def target_path(out: Path, precision: str, suffix: str) -> Path:
    """A target's file beside the bundle ``out``: NAME.onnx, NAME.int8.onnx, NAME.fp16.xml and so on."""
    return out.with_name(out.stem + MODEL_FILES[precision].removeprefix("model").removesuffix(".onnx") + suffix)


def check_out(out: Path, precisions: Iterable[str], targets: Iterable[str], force: bool) -> list[Path]:
    """The files that an export to ``out`` takes the place of: of the same names, and where a bundle of that name is
    there, all that an earlier export may have left beside it, lest its graphs be taken for the new one's.

    Raises UsageError for a name that is none of a bundle, for a folder in the way and, unless ``force``, for any file.
    """
    if out.suffix != SUFFIX:
        raise UsageError(f"--out {out}: a bundle's name ends in {SUFFIX}")
    if out.exists():
        precisions, targets = PRECISIONS, TARGETS
    beside = [target_path(out, one, suffix) for one in precisions for target in targets for suffix in _FILES[target]]
    former = [path for path in (out, *beside) if path.exists()]
    for path in former:
        if path.is_dir():
            raise UsageError(f"--out {out}: {path} is a folder; name another file")
    if former and not force:
        others = f" ({', '.join(path.name for path in former if path != out)} beside it)" if former != [out] else ""
        there = "exists already" + others if former[0] == out else f"{former[0].name} beside it exists already"
        raise UsageError(f"--out {out}: {there}; --force replaces it with all that was exported beside it")
    return former
