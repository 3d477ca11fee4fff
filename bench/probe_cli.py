"""The command ``gensoup probe``: what every graph of a probe kit costs on this device, or on one reached over ssh."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gensoup.runtime.engine_options import ThreadsThere, check_threads

if TYPE_CHECKING:
    from gensoup.bench.device_profile import LatencyEstimate
    from gensoup.bench.probe_plan import ProbePlan
    from gensoup.bench.probe_run import Step

_FOR_HOST = "with --host"


def probe_command(
    kit: Annotated[Path, typer.Argument(help="Folder that gensoup export --probe-kit wrote.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Device profile to write, or to go on with.")] = Path("profile.json"),
    min_fps: Annotated[float, typer.Option(metavar="HZ", help="Frames per second the camera sends.")] = 64.0,
    max_latency_ms: Annotated[
        float | None,
        typer.Option(metavar="MS", help="The limit, where a frame may not take as long as the next one needs to come."),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Comma-separated engines; all: those usable here that need not compile first. tensorrt, tensorrt-rtx "
            "and onnxruntime-tensorrt, when named, build each graph.",
        ),
    ] = "all",
    frames: Annotated[str, typer.Option(metavar="SIZE", help="480p, 720p, 1080p, 4k or WIDTHxHEIGHT.")] = "1080p",
    seconds: Annotated[
        float | None, typer.Option(metavar="S", help="Longest for a graph; default: 2,048 frames, at least 32 s.")
    ] = None,
    threads: ThreadsThere = None,
    retry: Annotated[bool, typer.Option("--retry", help="Measure once more what failed before.")] = False,
    host: Annotated[
        str | None,
        typer.Option(metavar="USER@HOST[:PORT]", help="Measure there, over ssh; what it lacks is brought along."),
    ] = None,
    identity: Annotated[
        Path | None, typer.Option(help=f"Private key, {_FOR_HOST}; default: agent, ssh's own files.")
    ] = None,
    known_hosts: Annotated[
        Path | None, typer.Option(help=f"Host keys, {_FOR_HOST}; default: ~/.ssh/known_hosts.")
    ] = None,
    remote_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help=f"Folder there, {_FOR_HOST}; default: ~/.cache/gensoup-probe.")
    ] = None,
    install: Annotated[
        str | None,
        typer.Option(
            metavar="EXTRAS", help=f"Extras to install there, {_FOR_HOST}: cpu,openvino; default: cpu if no engine is."
        ),
    ] = None,
    wheels: Annotated[
        Path | None,
        typer.Option(help=f"Folder of wheels to install from, {_FOR_HOST}, where the device has no network."),
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", hidden=True)] = False,
) -> None:
    """Measure every graph of a probe kit, without PyTorch, for gensoup train --device-profile. Killed, it goes on."""
    from rich.console import Console

    from gensoup.bench.probe_kit import ProbeKit
    from gensoup.bench.probe_run import engines_named, probe_kit
    from gensoup.bench.probe_text import print_profile
    from gensoup.runtime.errors import EngineError, UsageError

    if host is None:
        check_threads(threads)
    plan = _plan(min_fps, max_latency_ms, seconds, frames, threads)
    for_host = {
        "--identity": identity,
        "--known-hosts": known_hosts,
        "--remote-dir": remote_dir,
        "--install": install,
        "--wheels": wheels,
    }
    opened = ProbeKit.load(kit)
    steps: list[Step] = []

    def noted(show: Callable[[Step], None]) -> Callable[[Step], None]:
        def tell(step: Step) -> None:
            steps.append(step)
            show(step)

        return tell

    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; name a file, such as {out / 'profile.json'}")
    if host is None:
        if foreign := [option for option, value in for_host.items() if value is not None]:
            raise UsageError(f"{foreign[0]}: belongs to --host; leave it out to measure this machine")
        engines = engines_named(engine)
        with _lines() if lines else _bar() as show:
            profile = probe_kit(opened, out, plan, engines, retry=retry, told_step=noted(show))
    else:
        from gensoup.bench.remote.address import Address
        from gensoup.bench.remote.flow import Job, probe_remotely

        job = Job(opened, out, plan, engine, retry, remote_dir, install, wheels)
        with _bar() as show:
            profile = probe_remotely(Address.of(host, identity, known_hosts), job, noted(show), _note)
    if lines:
        return
    print_profile(profile, out, Console())
    if profile.estimates:
        old = "" if steps else " (it was finished, nothing was measured; remove it to measure anew)"
        Console().print(f"profile: {out}{old}", markup=False, highlight=False, soft_wrap=True)
        return
    raise EngineError(f"every graph failed, the first: {next(iter(profile.failures.values()))} ({out} has them all)")


def _plan(
    min_fps: float, max_latency_ms: float | None, seconds: float | None, frames: str, threads: int | None
) -> ProbePlan:
    from gensoup.bench.device_profile import HEADROOM
    from gensoup.bench.probe_plan import ProbePlan
    from gensoup.runtime.errors import UsageError
    from gensoup.runtime.sources.address import SIZES, read_format

    if not 1 <= min_fps <= 1000:
        raise UsageError(f"--min-fps {min_fps:g}: must lie between 1 and 1000")
    for option, value in (("--max-latency-ms", max_latency_ms), ("--seconds", seconds)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{option} {value:g}: must be more than 0")
    try:
        asked = read_format(frames, frames)
    except UsageError:
        asked = None
    if asked is None or asked.height is None or asked.width is None or asked.rate_hz is not None:
        raise UsageError(f"--frames {frames}: must be one of {', '.join(SIZES)} or WIDTHxHEIGHT, 32 to 8192 pixels")
    limit = min(1e3 / min_fps, max_latency_ms or float("inf"))
    return ProbePlan(min_fps, HEADROOM * limit, seconds, asked.height, asked.width, threads)


@contextmanager
def _bar() -> Iterator[Callable[[Step], None]]:
    """A bar over all graphs, with the one in work; without a terminal a line for each that is done."""
    from rich.console import Console

    console = Console(stderr=True)

    def say(step: Step) -> None:
        if step.outcome is not None:
            line = f"  {round(step.done)}/{step.total} {step.key}: {_outcome(step.outcome)}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    if not console.is_terminal:
        yield say
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[of]}"), TimeRemainingColumn())
    # Drawn when told alone, about once a second: a thread that draws takes a core from what is measured.
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=None, of="")

        def show(step: Step) -> None:
            of = f"{int(step.done)}/{step.total}"
            bar.update(task, description=step.key, completed=step.done, total=step.total, of=of, refresh=True)
            say(step)

        yield show


@contextmanager
def _lines() -> Iterator[Callable[[Step], None]]:
    """Steps as lines of JSON on standard output, for the machine that asked over ssh."""

    def show(step: Step) -> None:
        outcome = step.outcome if step.outcome is None or isinstance(step.outcome, str) else step.outcome.to_dict()
        values = {"key": step.key, "done": step.done, "total": step.total, "outcome": outcome}
        try:
            print(json.dumps(values), flush=True)
        except BrokenPipeError:  # the connection is gone; what was measured is in the profile
            sys.stdout = None
            raise SystemExit(1) from None

    yield show


def _note(line: str) -> None:
    from rich.console import Console

    Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)


def _outcome(outcome: LatencyEstimate | str) -> str:
    from gensoup.bench.probe_text import milliseconds

    if isinstance(outcome, str):
        return f"failed: {outcome}"
    return f"p99 {milliseconds(outcome.p99_ms)} ms of {outcome.frames} frames, {outcome.drops} dropped"
