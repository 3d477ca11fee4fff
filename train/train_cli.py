"""``gensoup train``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from gensoup.train.cache_cli import check_cache_options, opened_cache
from gensoup.train.executor_cli import ExecutorKind, Workers


class Init(str, Enum):
    """Initial weights."""

    pretrained = "pretrained"
    random = "random"


class Ablation(str, Enum):
    """What can be taken away to see what it does."""

    astrocytes = "astrocytes"


def train_command(
    data: Annotated[Path, typer.Argument(help="Labelled folder: one sub-folder a class, optionally groups.csv.")],
    out: Annotated[Path, typer.Option(help="The run folder to make.")],
    preset: Annotated[
        str | None,
        typer.Option(
            help="Where the settings begin: gen-soup (default), gen-cnn, or the thesis' own: gen-soup-thesis-1, "
            "gen-soup-thesis-2, gen-cnn-thesis, astrocytes-thesis."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of settings over the preset's; another run's config.yaml will do.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Deploy size in pixels; of several (160,192,224) each network gets the largest it fits at."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed, profile and threads give the same run; on a CPU bit for bit.")
    ] = None,
    architectures: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated torchvision classifiers; default: mobilenet_v3_small, mobilenet_v3_large, "
            "shufflenet_v2_x1_0, _x1_5, _x2_0, squeezenet1_1, mnasnet1_0, regnet_x_400mf, regnet_y_400mf, "
            "efficientnet_v2_s, convnext_tiny."
        ),
    ] = None,
    losses: Annotated[str | None, typer.Option(help="Comma-separated losses to choose from.")] = None,
    optimizers: Annotated[str | None, typer.Option(help="Comma-separated optimizers to choose from.")] = None,
    max_macs: Annotated[float | None, typer.Option(help="Most multiply-adds of one frame, in millions (600).")] = None,
    min_fps: Annotated[
        float | None, typer.Option(help="Frames a second the device must hold; without a limit nothing is timed.")
    ] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(help="Most milliseconds from a frame's arrival to its result, as a p99.")
    ] = None,
    device_profile: Annotated[
        Path | None, typer.Option(help="What gensoup probe measured on the device; default: this machine is probed.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="fp32 (default), fp16 or int8: whose latency in the device profile counts, as deployed."),
    ] = None,
    init: Annotated[
        Init | None, typer.Option(help="pretrained (default): ImageNet weights or out; random: never downloads.")
    ] = None,
    weights_dir: Annotated[Path | None, typer.Option(help="Folder of weights, NAME.safetensors or NAME.pth.")] = None,
    generations: Annotated[int | None, typer.Option(help="Generations of the search.")] = None,
    population: Annotated[int | None, typer.Option(help="Individuals of the first generation.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Epochs of an individual in a generation.")] = None,
    halving: Annotated[
        int | None,
        typer.Option(help="Heats of generation 0, after each of which only the better half trains on; 0 (default)."),
    ] = None,
    branch_epochs: Annotated[float | None, typer.Option(help="Epochs of each final branch.")] = None,
    refit_epochs: Annotated[
        float | None, typer.Option(help="Epochs of the fused network on all images but the sealed test's; 0: none.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a training step.")] = None,
    astrocytes: Annotated[bool, typer.Option("--astrocytes", help="Search the astrocytes' factors too.")] = False,
    ablate: Annotated[
        Ablation | None,
        typer.Option(help="Three runs: with astrocytes, without, and with their counters shuffled."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="CPU threads of the training; default: half of the usable cores. All: faster with nothing else to do."
        ),
    ] = None,
    executor: Annotated[
        ExecutorKind,
        typer.Option(help="inline: this process trains one individual after the other; ray: several workers do."),
    ] = ExecutorKind.inline,
    ray_address: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of a Ray cluster's head, or auto; default: workers on this machine alone."),
    ] = None,
    worker_cpus: Annotated[
        int | None, typer.Option(help="Cores that a worker of --executor ray takes; default: --threads.")
    ] = None,
    worker_gpus: Annotated[
        float | None,
        typer.Option(help="GPUs that a worker takes, or a share of one; default: 1 where there are any."),
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(
            help="Database of the run's individuals, postgresql://USER@HOST/NAME; default: a file in the run folder."
        ),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Where decoded images are kept for later runs; default: this user's cache.")
    ] = None,
    cache_gb: Annotated[
        float, typer.Option(min=0, help="Gigabytes above which what was unused for longest goes from there.")
    ] = 20.0,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Keep no decoded images: they go when the run ends.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the result (metrics.json) to this file too.")
    ] = None,
) -> None:
    """Search for a small network under a hard limit and fuse what was found."""
    from gensoup.bench.device_profile import DeviceProfile
    from gensoup.runtime.errors import DataError, MissingDependencyError, UsageError, WriteError

    sizes = None if size is None else _sizes(size)
    check_cache_options(cache, no_cache, data, out)
    _check_paths(data, out, config, weights_dir, device_profile, json, None if ablate is not None else resume)
    asked = min_fps is not None or max_latency_ms is not None
    given = DeviceProfile.load(device_profile) if device_profile is not None and asked else None
    workers = Workers(executor, ray_address, worker_cpus, worker_gpus)
    workers.check()
    from rich.console import Console

    from gensoup.runtime.console import stage_bars
    from gensoup.runtime.files import write_atomic
    from gensoup.train.genes import ASTROCYTE_SCALE
    from gensoup.train.given_profile import check_given
    from gensoup.train.presets import compose, recompose
    from gensoup.train.remarks import remarks
    from gensoup.train.result_table import ablation_notes, ablation_table, print_notes, result_table
    from gensoup.train.run_folder import ARMS, CONFIG_FILE
    from gensoup.train.settings import Settings

    named: dict[str, Any] = {
        "sizes": sizes,
        "seed": seed,
        "architectures": _names(architectures),
        "losses": _names(losses),
        "optimizers": _names(optimizers),
        "init": None if init is None else init.value,
        "weights_dir": None if weights_dir is None else str(weights_dir),
        "max_macs": max_macs,
        "min_fps": min_fps,
        "max_latency_ms": max_latency_ms,
        "precision": precision,
        "generations": generations,
        "population": population,
        "epochs": epochs,
        "halving": halving,
        "branch_epochs": branch_epochs,
        "refit_epochs": refit_epochs,
        "batch_size": batch_size,
        "threads": threads,
        "scales": {"strong": ASTROCYTE_SCALE, "weak": ASTROCYTE_SCALE} if astrocytes else None,
    }
    options = {name: value for name, value in named.items() if value is not None}
    begun = out if ablate is None else out / next(iter(ARMS))
    if resume and (begun / CONFIG_FILE).exists():  # what is not said again stays as it was
        settings = recompose(Settings.load(begun)[0], str(data), preset, config, options)
    else:
        settings = compose(str(data), preset, config, options)
    if device_profile is not None and given is not None:
        check_given(given, settings, device_profile)
    elif device_profile is not None and settings.limit_ms is None:
        raise UsageError("--device-profile: give --min-fps or --max-latency-ms too, what the device must hold")
    if settings.weights_dir is not None and not Path(settings.weights_dir).is_dir():
        raise DataError(f"--weights-dir {settings.weights_dir}: no such folder; name where the weights are")
    try:  # after all that can be told without PyTorch, which takes seconds to import
        from gensoup.export.run_files import METRICS_FILE
        from gensoup.train.ablation import ABLATION_FILE
        from gensoup.train.ablation import ablate as run_ablation
        from gensoup.train.report import REPORT_FILE, write_report
        from gensoup.train.run import train_run
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or "torch", "train") from error
    if precision is not None and settings.limit_ms is None:
        raise UsageError("--precision: says whose latency counts; give --min-fps or --max-latency-ms too")

    def note(line: str) -> None:
        Console().print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)

    said = remarks(settings)  # now, and not only once hours have passed
    for line in said:
        note(line)
    kept = opened_cache(cache, cache_gb, no_cache, note)
    try:
        with workers.opened(settings.threads, note) as trainers, stage_bars() as progress:
            if ablate is not None:
                result = run_ablation(
                    settings,
                    out,
                    resume=resume,
                    profile=device_profile,
                    cache=kept,
                    executor=trainers,
                    ledger=ledger,
                    progress=progress,
                )
                if json is not None:
                    write_atomic(json, (out / ABLATION_FILE).read_text(encoding="utf-8"))
                console = Console()
                for line in ablation_notes(result):
                    note(line)
                console.print(ablation_table(result))
                for name in ARMS:
                    console.print(f"report: {out / name / REPORT_FILE}", markup=False, highlight=False, soft_wrap=True)
                return
            metrics = train_run(
                settings,
                out,
                resume=resume,
                profile=device_profile,
                cache=kept,
                executor=trainers,
                ledger=ledger,
                progress=progress,
            )
        report = write_report(out)
    except WriteError as error:
        goes_on = out.exists() and any(out.rglob(CONFIG_FILE))
        raise WriteError(f"{error}; {'--resume goes on' if goes_on else 'then call it again'}") from error
    if json is not None:
        write_atomic(json, (out / METRICS_FILE).read_text(encoding="utf-8"))
    console = Console()
    print_notes(metrics, console, said)
    console.print(result_table(metrics))
    console.print(f"report: {report}", markup=False, highlight=False, soft_wrap=True)


def _check_paths(
    data: Path,
    out: Path,
    config: Path | None,
    weights_dir: Path | None,
    device_profile: Path | None,
    json: Path | None,
    resume: bool | None,
) -> None:
    """Refuse what is wrong at a glance before PyTorch is imported, which takes seconds. resume: None does not look at
    ``out``."""
    from gensoup.bench.dataset import LabelledFolder
    from gensoup.runtime.errors import DataError, UsageError
    from gensoup.runtime.files import check_outputs, check_writable
    from gensoup.train.run_folder import check_out

    if weights_dir is not None and not weights_dir.is_dir():
        raise DataError(f"--weights-dir {weights_dir}: no such folder; name where the weights are")
    if config is not None and not config.exists():
        raise UsageError(f"--config {config}: no such file or run folder; check the path")
    if resume is not None:
        check_out(out, resume)
    check_outputs({"--json": json}, (config, device_profile))
    check_writable(out, "--out")
    LabelledFolder.open(data)


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _sizes(text: str) -> tuple[int, ...]:
    from gensoup.runtime.errors import UsageError

    try:
        return tuple(int(size) for size in text.split(",") if size.strip())
    except ValueError as error:
        raise UsageError(f"--size {text}: must be a number of pixels, or several with commas between") from error
