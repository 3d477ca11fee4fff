"""``gensoup export … --target tensorrt|tensorrt-rtx``: engines from a bundle, for this machine's GPU or ahead of time.

Needs no training stack: carts build their own engines with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from gensoup.runtime.errors import UsageError

if TYPE_CHECKING:
    from gensoup.runtime.bundle import Bundle
    from gensoup.runtime.engines.tensorrt_library import Library


@dataclass(frozen=True)
class EngineJob:
    """What to build. sms: GPU generations ("86" for 8.6), empty for this machine's; engines_dir: only with sms."""

    libraries: tuple[Library, ...]
    sms: tuple[str, ...] = ()
    engines_dir: Path | None = None

    def check(self) -> None:
        """Raise MissingDependencyError for a library that is not installed, UsageError for a generation it does not
        know, WriteError for a folder that cannot be written: before the work begins."""
        from gensoup.runtime.engines.tensorrt_build import check_sms
        from gensoup.runtime.engines.tensorrt_library import load_tensorrt
        from gensoup.runtime.files import check_writable

        for library in self.libraries:
            load_tensorrt(library)
        check_sms(self.sms)
        if self.engines_dir is not None:
            if self.engines_dir.exists() and not self.engines_dir.is_dir():
                raise UsageError(f"--engines-dir {self.engines_dir}: is a file; name a folder")
            check_writable(self.engines_dir / "engine", "--engines-dir")


def split_targets(targets: str | None, sm: str | None, engines_dir: Path | None) -> tuple[list[str], EngineJob | None]:
    """The targets that are files beside the bundle, and the engines to build (None: none). Raises UsageError."""
    from gensoup.runtime.engines.tensorrt_library import Library

    names = [name.strip() for name in (targets or "").split(",") if name.strip()]
    libraries: tuple[Library, ...] = tuple(library for library in get_args(Library) if library in names)
    sms = tuple(dict.fromkeys(text.strip().replace(".", "") for text in (sm or "").split(",") if text.strip()))
    if (sm is not None or engines_dir is not None) and "tensorrt-rtx" not in libraries:
        option = "--sm" if sm is not None else "--engines-dir"
        raise UsageError(f"{option}: belongs to --target tensorrt-rtx")
    if sms and "tensorrt" in libraries:
        raise UsageError("--sm: TensorRT builds for the GPU it runs on alone; only --target tensorrt-rtx takes it")
    if sm is not None and not sms:
        raise UsageError("--sm: names no GPU generation, such as 86,89")
    if bool(sms) != (engines_dir is not None):
        missing, given = ("--engines-dir DIR", "--sm") if sms else ("--sm, such as 86,89", "--engines-dir")
        raise UsageError(f"{given}: needs {missing} too; without both, engines are built for this machine's GPU")
    files = [name for name in names if name not in libraries]
    return files, EngineJob(libraries, sms, engines_dir) if libraries else None


def build_engines(
    bundle: Path, job: EngineJob, precisions: Sequence[str] | None = None, require_signature: Path | None = None
) -> None:
    """Build a bundle's engines and print where they lie. ``precisions``: None: all that the bundle holds.

    Those for this machine are held to the golden frames at once; those for others are when they are opened there.
    Raises UsageError for a precision that it lacks, BundleError, EngineError, MissingDependencyError.
    """
    from rich.console import Console

    from gensoup.runtime.bundle import read_bundle
    from gensoup.runtime.console import stage_bars
    from gensoup.runtime.engines.tensorrt_build import build_ahead_of_time, build_here

    job.check()
    opened = read_bundle(bundle, require_signature)
    asked = list(opened.models) if precisions is None else list(precisions)
    if missing := [precision for precision in asked if precision not in opened.models]:
        raise UsageError(f"--precision {','.join(missing)}: {bundle.name} holds {', '.join(opened.models)}")
    paths: list[Path] = []
    with stage_bars() as progress:
        for library in job.libraries:
            for precision in asked:
                model = opened.models[precision]
                if job.engines_dir is not None:
                    paths += build_ahead_of_time(model, precision, job.sms, job.engines_dir, progress)
                else:
                    paths += build_here(library, model, precision, progress)
                    prove(opened, library, precision)
    console = Console()
    for path in paths:
        notes = json.loads(path.with_suffix(".json").read_text())
        layers = ", ".join(f"{count} {precision}" for precision, count in notes["notes"]["built"].items())
        console.print(
            f"{path}: {path.stat().st_size / 1e6:.1f} MB, {'+'.join(notes['key']['outputs'])}, heavy layers {layers}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def prove(bundle: Bundle, engine: str, precision: str) -> None:
    """Hold an engine of this machine to the bundle's golden frames, with saliency too where the graph has it.

    Raises BundleError with the numbers, EngineError.
    """
    from gensoup.runtime.engines.catalogue import open_engine
    from gensoup.runtime.golden_proof import check_engine, check_explaining

    opened = open_engine(engine, bundle.models[precision], precision)
    try:
        check_engine(bundle, opened, precision)
        if bundle.manifest.precisions[precision].get("saliency"):
            check_explaining(bundle, opened, precision)
    finally:
        opened.close()
