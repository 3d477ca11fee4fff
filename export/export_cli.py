"""``gensoup export``: a finished run becomes a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gensoup.export.engines_cli import EngineJob, build_engines, split_targets
from gensoup.export.inspect_cli import show_bundle
from gensoup.runtime.signature_cli import RequireSignature, ask_passphrase

if TYPE_CHECKING:
    from gensoup.runtime.signature import SigningKey


def export_command(
    run: Annotated[
        Path | None,
        typer.Argument(help="Run folder of a finished training; with --target tensorrt or tensorrt-rtx a bundle too."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The bundle to write, NAME.gensoup.")] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace a bundle of that name, and what was exported beside it."),
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="The dataset folder, where it is no more where the run was trained.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: fp32, fp16, int8. A bundle always has fp32, its reference and fail-over. Engines "
            "from a bundle: default all that it holds.",
            show_default="fp32",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: onnx, openvino, written beside the bundle, per precision; tensorrt, tensorrt-rtx, "
            "built for this machine's GPU."
        ),
    ] = None,
    sm: Annotated[
        str | None,
        typer.Option(
            help="With --target tensorrt-rtx: build for these GPU generations (75,80,86,89,120,121), without a GPU."
        ),
    ] = None,
    engines_dir: Annotated[Path | None, typer.Option(help="With --sm: the folder for the engines.")] = None,
    engines: Annotated[
        str | None,
        typer.Option(help="Comma-separated engines that must be equal to what was trained; default: all usable here."),
    ] = None,
    parity_report: Annotated[
        Path | None, typer.Option(help="Write parity with the worst frames shown to this HTML file.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write parity, or what --inspect shows, in full to this file.")
    ] = None,
    sign: Annotated[Path | None, typer.Option(metavar="KEY", help="Sign the bundle with this private key.")] = None,
    inspect: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Show what is in a bundle, and export nothing.")
    ] = None,
    require_signature: RequireSignature = None,
    probe_kit: Annotated[
        Path | None,
        typer.Option(help="Write untrained graphs to measure a device with into this folder, or go on there."),
    ] = None,
    architectures: Annotated[
        str | None, typer.Option(help="With --probe-kit: comma-separated torchvision classifiers; default: all eleven.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="With --probe-kit: comma-separated pixels (96,128,224).")] = None,
) -> None:
    """Export a run as one .gensoup bundle, once it is proven equal to the trained network."""
    from gensoup.runtime.errors import MissingDependencyError, UsageError

    bundle: dict[str, object] = {
        "a run folder": run,
        "--out": out,
        "--force": force or None,
        "--data": data,
        "--target": target,
        "--sm": sm,
        "--engines-dir": engines_dir,
        "--sign": sign,
        "--engines": engines,
        "--parity-report": parity_report,
    }
    kit: dict[str, object] = {"--architectures": architectures, "--size": size}
    if inspect is not None:
        named = {**bundle, **kit, "--probe-kit": probe_kit}
        if foreign := _first_given(named):
            raise UsageError(f"--inspect: shows a bundle and takes no {foreign.removeprefix('a ')}; leave it out")
        show_bundle(inspect, json, require_signature)
        return
    files, job = split_targets(target, sm, engines_dir)
    precisions = None if precision is None else [name.strip() for name in precision.split(",")]
    if run is not None and run.is_file():
        _check_from_bundle(run, {**bundle, **kit, "--probe-kit": probe_kit, "--json": json}, files, job)
        if job is not None:
            build_engines(run, job, precisions, require_signature)
        return
    if require_signature is not None:
        raise UsageError("--require-signature: needs a bundle, with --inspect or --target; a new one takes --sign KEY")
    _check_options(probe_kit, bundle={**bundle, "--json": json}, kit=kit)
    asked = (precision or "fp32").split(",")
    try:
        if probe_kit is not None:
            _probe_kit(probe_kit, architectures, size, asked)
        elif run is not None and out is not None:
            names = None if engines is None else engines.split(",")
            written = {"--out": out, "--parity-report": parity_report, "--json": json}
            key = _signing_key(sign)
            _check_bundle(run, written, sign, asked, files, names, force)
            if job is not None:
                job.check()
            _bundle(run, out, data, asked, files, names, parity_report, json, key, force)
            if job is not None:
                build_engines(out, job)
    except ModuleNotFoundError as error:
        package = error.name or "torch"
        raise MissingDependencyError(package, "cpu" if package == "onnxruntime" else "train") from error


def _check_bundle(
    run: Path,
    written: Mapping[str, Path | None],
    sign: Path | None,
    precisions: Sequence[str],
    targets: Sequence[str],
    engines: Sequence[str] | None,
    force: bool,
) -> None:
    """Refuse what is wrong at a glance before PyTorch is imported, which takes seconds."""
    from gensoup.bench.roles import ROLES_FILE
    from gensoup.export.request import check_out, parse_engines, parse_precisions, parse_targets
    from gensoup.export.run_files import METRICS_FILE, MODEL_FILE, check_finished
    from gensoup.runtime.files import check_outputs

    out = written["--out"]
    assert out is not None
    check_finished(run, MODEL_FILE)
    parse_engines(engines)
    check_out(out, parse_precisions(precisions), parse_targets(targets), force)
    check_outputs(written, (sign, *(run / name for name in (MODEL_FILE, METRICS_FILE, ROLES_FILE))))


def _first_given(options: dict[str, object]) -> str | None:
    return next((name for name, value in options.items() if value is not None), None)


def _check_from_bundle(bundle: Path, options: dict[str, object], files: list[str], job: EngineJob | None) -> None:
    """Raise UsageError for what cannot be made from a bundle."""
    from gensoup.runtime.errors import UsageError

    allowed = ("a run folder", "--target", "--sm", "--engines-dir")
    if foreign := _first_given({name: value for name, value in options.items() if name not in allowed}):
        raise UsageError(f"{foreign}: needs a run folder, and {bundle} is a file; leave it out")
    if files or job is None:
        raise UsageError(
            f"{bundle} is a file: from a bundle --target tensorrt or tensorrt-rtx builds engines, all else needs a run"
        )


def _check_options(probe_kit: Path | None, bundle: dict[str, object], kit: dict[str, object]) -> None:
    """Raise UsageError for options of the other use of the command, or when a needed one is missing."""
    from gensoup.runtime.errors import UsageError

    if probe_kit is not None:
        if foreign := _first_given(bundle):
            raise UsageError(
                f"--probe-kit: writes untrained graphs and takes no {foreign.removeprefix('a ')}; leave it out"
            )
        if kit["--size"] is None:
            raise UsageError("--probe-kit: needs --size, the deploy sizes to measure, such as 96,128,224")
        return
    if foreign := _first_given(kit):
        raise UsageError(f"{foreign}: belongs to --probe-kit; a run's network and size are settled")
    for name in ("a run folder", "--out"):
        if bundle[name] is None:
            raise UsageError(f"gensoup export needs {name}: gensoup export RUN --out NAME.gensoup")


def _signing_key(path: Path | None) -> SigningKey | None:
    """Read before the work begins: a wrong key or passphrase must not turn up at its end."""
    from gensoup.runtime.signature import SigningKey

    return None if path is None else SigningKey.load(path, ask_passphrase)


def _bundle(
    run: Path,
    out: Path,
    data: Path | None,
    precisions: Sequence[str],
    targets: Sequence[str],
    engines: Sequence[str] | None,
    parity_report: Path | None,
    json: Path | None,
    key: SigningKey | None,
    force: bool,
) -> None:
    from rich.console import Console

    from gensoup.export.exporter import export_run
    from gensoup.export.parity_table import show_parity
    from gensoup.export.run_files import was_refitted
    from gensoup.runtime.bundle import sign_bundle
    from gensoup.runtime.console import stage_bars

    with stage_bars() as progress:
        exported = export_run(
            run,
            out,
            data,
            progress,
            precisions=precisions,
            targets=targets,
            engines=engines,
            parity_json=json,
            parity_page=parity_report,
            force=force,
        )
    if key is not None:
        sign_bundle(out, key, out)
    console = Console()
    show_parity(console, exported.report, was_refitted(run))
    for path in exported.target_files:
        console.print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", markup=False, highlight=False, soft_wrap=True)
    for path in exported.removed:
        console.print(f"{path}: removed, of an earlier export", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"{exported.path}: {exported.size_bytes / 1e6:.1f} MB, sha256 {exported.sha256[:16]}…"
        + ("" if key is None else f", signed by {key.public.name}"),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _probe_kit(path: Path, architectures: str | None, size: str | None, precisions: Sequence[str]) -> None:
    from rich.console import Console

    from gensoup.export.names import ARCHITECTURES, check_names, check_size
    from gensoup.export.request import parse_precisions
    from gensoup.runtime.console import stage_bars
    from gensoup.runtime.errors import UsageError
    from gensoup.runtime.files import check_writable

    try:
        sizes = [int(text) for text in (size or "").split(",")]
    except ValueError as error:
        raise UsageError(f"--size {size}: must be whole numbers of pixels, such as 96,128,224") from error
    names = ARCHITECTURES if architectures is None else [name.strip() for name in architectures.split(",")]
    asked = parse_precisions(precisions, always="")
    check_names(tuple(names))
    for one in sizes:
        check_size(one)
    check_writable(path, "--probe-kit")
    from gensoup.export.probe_kit import write_probe_kit  # after all that can be told without PyTorch

    with stage_bars() as progress:
        kit = write_probe_kit(path, names, sizes, asked, progress)
    total = sum((path / graph.file).stat().st_size for graph in kit.graphs)
    Console().print(
        f"{path}: {len(kit.graphs)} graphs, {total / 1e6:.1f} MB; untrained, to measure a device with",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
