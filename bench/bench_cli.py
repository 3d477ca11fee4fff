"""The command ``gensoup bench``: the real-time gate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gensoup.runtime.engine_options import EngineName, EnginesDir, PrecisionName, Threads
from gensoup.runtime.signature_cli import RequireSignature

if TYPE_CHECKING:
    from rich.console import Console

    from gensoup.bench.measurement import Measurement
    from gensoup.bench.tier import Tier
    from gensoup.bench.verdict import RepetitionStatistics, Verdict

_INTERRUPTED = 130


def bench_command(
    bundle: Annotated[
        Path | None, typer.Argument(help="The bundle, NAME.gensoup; none with --from-trace.", show_default=False)
    ] = None,
    tier: Annotated[
        str | None,
        typer.Option(
            metavar="quick|certify",
            help="quick: a screen of 30 s. certify: three times ten minutes, what a claim rests on. Default: quick.",
            show_default=False,
        ),
    ] = None,
    min_fps: Annotated[
        float | None,
        typer.Option(metavar="HZ", help="Frames per second to keep up with. Default: 64.", show_default=False),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Frames to send: 'synthetic' (the default), a video file or image folder, decoded beforehand and sent "
            "at --min-fps; or a camera, such as camera:0:1080p@64, at its own rate.",
            show_default=False,
        ),
    ] = None,
    resolution: Annotated[
        str | None,
        typer.Option(metavar="720p|1080p|4K", help="Of synthetic frames, or asked of a camera. Default: 1080p."),
    ] = None,
    engine: EngineName = "auto",
    precision: PrecisionName = None,
    engines_dir: EnginesDir = None,
    threads: Threads = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the verdict as JSON.")] = None,
    trace_out: Annotated[
        Path | None,
        typer.Option("--trace", help="Write every frame's times, .npz; certify always does: NAME.certify.npz."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a certify that was broken off, from its trace.")
    ] = False,
    from_trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measure nothing: judge what --trace wrote.")
    ] = None,
    require_signature: RequireSignature = None,
) -> None:
    """Check that a bundle keeps up with a camera on this machine.

    Exit code: 0 PASS, 1 FAIL, 2 INVALID (the measurement says nothing), 64 wrong usage, 70 any other error, 130
    interrupted.
    """
    import json

    from rich.console import Console

    from gensoup.bench.claims import claim_notes
    from gensoup.bench.gate import run_gate
    from gensoup.bench.judge import judge
    from gensoup.bench.measurement import Measurement
    from gensoup.bench.sensors.watch import SensorWatch
    from gensoup.runtime.errors import UsageError
    from gensoup.runtime.files import check_outputs, write_atomic

    check_outputs(
        {"--json": json_out, "--trace": trace_out},
        (bundle, None if source is None else Path(source), require_signature, from_trace),
    )
    if from_trace is not None:
        measuring: dict[str, object] = {"BUNDLE": bundle, "--tier": tier, "--min-fps": min_fps, "--source": source}
        measuring |= {"--resolution": resolution, "--trace": trace_out, "--resume": resume or None}
        for name, value in measuring.items():
            if value is not None:
                raise UsageError(f"--from-trace judges what was measured; leave {name} out")
        measurement = Measurement.load(from_trace)
        measurement.check_rules(from_trace)
    else:
        if bundle is None:
            raise UsageError("which bundle? gensoup bench NAME.gensoup")
        rules = _tier(tier)
        rate_hz = 64.0 if min_fps is None else min_fps
        _check_rate(rate_hz, rules)
        trace_out, begun = _kept(bundle, rules, trace_out, resume)
        with _Progress(rules) as show:
            try:
                measurement = run_gate(
                    bundle,
                    rate_hz,
                    source,
                    tier=rules,
                    resolution=resolution,
                    engine=engine,
                    precision=precision,
                    engines_dir=engines_dir,
                    threads=threads,
                    require_signature=require_signature,
                    progress=show,
                    watch=SensorWatch,
                    keep=None if trace_out is None else lambda measured: measured.save(trace_out),
                    begun=begun,
                )
            except KeyboardInterrupt:
                raise typer.Exit(_interrupted(rules, trace_out)) from None
    verdict = judge(measurement)
    if json_out is not None:
        write_atomic(json_out, json.dumps(verdict.to_dict(), indent=2, allow_nan=False) + "\n")
    name = verdict.bundle_sha256[:16] if bundle is None else bundle.name
    print_verdict(verdict, name, Console())
    if bundle is not None:
        for line in claim_notes(bundle, verdict.device, verdict.engine, verdict.precision, verdict.rate_hz):
            Console().print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(verdict.verdict.exit_code)


def print_verdict(verdict: Verdict, name: str, console: Console) -> None:
    """A table of the numbers and one sentence."""
    from rich.markup import escape
    from rich.table import Table

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    source = verdict.source
    say(
        f"{escape(name)} at {verdict.rate_hz:g} Hz, tier {escape(verdict.tier)}, "
        f"{escape(f'{verdict.engine} {verdict.precision}')}, {escape(source.spec)} {source.width}×{source.height}"
    )
    table = Table(box=None)
    for column in ("ms", "p50", "p95", "p99", "max"):
        table.add_column(column, justify="left" if column == "ms" else "right")
    for row, values in {"latency": verdict.latency_ms, **verdict.stages_ms}.items():
        table.add_row(row if row == "latency" else f"  {row}", *(_number(value) for value in values.values()))
    console.print(table)
    if len(verdict.repetitions) > 1:
        for repetition in verdict.repetitions:
            say(_repetition_line(repetition))
    bound = verdict.miss_rate_upper
    clustered = "" if verdict.block_rate_upper is None else f", {verdict.block_rate_upper:.2%} from blocks"
    capacity = "unknown" if verdict.capacity_fps is None else f"{verdict.capacity_fps:.0f} frames/s"
    say(
        f"{verdict.frames} frames, {verdict.misses} misses ({verdict.drops} drops, {verdict.failures} failures), "
        f"longest run {verdict.longest_miss_run}, 99% bound {bound:.2%}{clustered}; closed loop: {capacity}"
    )
    for finding in verdict.findings:
        if finding.text not in verdict.reason:
            where = "" if finding.repetition is None else f" {finding.repetition}"
            say(f"{escape(finding.source)}{where}: {escape(finding.text)}")
    if verdict.interruptions:
        say(f"broken off and taken up again {verdict.interruptions} ×")
    color = {"PASS": "green", "FAIL": "red", "INVALID": "yellow"}[verdict.verdict.value]
    say(f"[bold {color}]{verdict.verdict.value}[/]: {escape(verdict.reason)}")


def _repetition_line(each: RepetitionStatistics) -> str:
    drift = ""
    if each.first_p99_ms is not None and each.last_p99_ms is not None:
        drift = f", p99 {_number(each.first_p99_ms)} → {_number(each.last_p99_ms)} ms"
    return f"repetition {each.number}: {each.frames} frames, {each.misses} misses{drift}"


def _tier(name: str | None) -> Tier:
    from gensoup.bench.tier import QUICK, TIERS
    from gensoup.runtime.errors import UsageError

    if name is None:
        return QUICK
    if name not in TIERS:
        raise UsageError(f"--tier '{name}': must be one of {', '.join(TIERS)}")
    return TIERS[name]


def _check_rate(min_fps: float, tier: Tier) -> None:
    """Raise UsageError where so slow a rate gives too few frames for any verdict but FAIL."""
    from gensoup.bench.statistics import fewest_frames
    from gensoup.runtime.errors import UsageError

    needed = fewest_frames(tier.max_miss_rate)
    if min_fps >= 1 and min_fps * tier.seconds < needed:
        raise UsageError(
            f"--min-fps {min_fps:g}: {tier.seconds:g} s are too few frames to tell, {needed} are needed; "
            "take --tier certify"
        )


def _kept(bundle: Path, tier: Tier, trace: Path | None, resume: bool) -> tuple[Path | None, Measurement | None]:
    """Where the trace goes, and what it holds of a measurement that was broken off."""
    from gensoup.bench.measurement import Measurement
    from gensoup.runtime.errors import DataError, UsageError
    from gensoup.runtime.files import check_outputs

    if tier.repetitions > 1 and trace is None:
        trace = Path(f"{bundle.stem}.{tier.name}.npz")
        check_outputs({"--trace": trace}, (bundle,))
    if resume:
        if tier.repetitions < 2 or trace is None:
            raise UsageError(f"--resume: tier {tier.name} is measured in one go; run it again without")
        return trace, Measurement.load(trace)
    if tier.repetitions > 1 and trace is not None and trace.exists():
        try:
            unfinished = not Measurement.load(trace).complete
        except DataError:
            unfinished = False
        if unfinished:
            raise UsageError(f"{trace}: holds a measurement that was broken off; go on with --resume, or remove it")
    return trace, None


def _interrupted(tier: Tier, trace: Path | None) -> int:
    """Say what is left of an interrupted measurement."""
    from gensoup.bench.measurement import Measurement

    kept = 0
    if tier.repetitions > 1 and trace is not None and trace.exists():
        kept = len(Measurement.load(trace).repetitions)
    remedy = (
        f"{kept} of {tier.repetitions} repetitions are in {trace}; the same command with --resume goes on"
        if kept
        else "nothing was finished; measure again"
    )
    typer.echo(f"error: interrupted; {remedy}", err=True)
    return _INTERRUPTED


class _Progress:
    """A bar on the error stream; lines, now and then, where that is no terminal."""

    def __init__(self, tier: Tier) -> None:
        self._tier = tier

    def __enter__(self) -> _Progress:
        from contextlib import ExitStack

        from gensoup.runtime.console import stage_bars

        self._stack = ExitStack()
        self._show = self._stack.enter_context(stage_bars())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, done: int, total: int) -> None:
        """Frames due so far and all; a bar for each repetition."""
        part = max(1, total // self._tier.repetitions)
        number = min(done // part, self._tier.repetitions - 1)
        several = self._tier.repetitions > 1
        name = f"measuring {number + 1}/{self._tier.repetitions}" if several else "measuring"
        self._show(name, done - number * part, part)


def _number(value: float) -> str:
    """Milliseconds; ∞ for drops, – for unknown."""
    return "–" if value != value else "∞" if value == float("inf") else f"{value:.2f}"
