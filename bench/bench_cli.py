"""The command ``gensoup bench``: the real-time gate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gensoup.runtime.engine_options import EngineName, EnginesDir, PrecisionName, Threads
from gensoup.runtime.signature_cli import RequireSignature

if TYPE_CHECKING:
    from collections.abc import Callable

    from gensoup.bench.measurement import Measurement
    from gensoup.bench.tier import Tier
    from gensoup.runtime.errors import Interrupted


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
    junit_out: Annotated[
        Path | None, typer.Option("--junit", help="Write it as JUnit XML: FAIL is a failure, INVALID an error.")
    ] = None,
    html_out: Annotated[Path | None, typer.Option("--html", help="Write it as a page, whole in itself.")] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="Write a certificate for `gensoup run --require-certificate`; certify alone.")
    ] = None,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Sign the certificate with this private key of `gensoup keygen`.")
    ] = None,
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
    from gensoup.runtime.errors import UsageError
    from gensoup.runtime.files import check_outputs

    files = {"--json": json_out, "--trace": trace_out, "--junit": junit_out, "--html": html_out}
    check_outputs(
        {**files, "--certificate": certificate},
        (bundle, None if source is None else Path(source), require_signature, from_trace, sign),
    )
    if from_trace is not None:
        measuring: dict[str, object] = {"BUNDLE": bundle, "--tier": tier, "--min-fps": min_fps, "--source": source}
        measuring |= {"--resolution": resolution, "--trace": trace_out, "--resume": resume or None}
        measuring |= {"--certificate": certificate, "--sign": sign}
        for name, value in measuring.items():
            if value is not None:
                raise UsageError(f"--from-trace judges what was measured; leave {name} out")
    elif bundle is None:
        raise UsageError("which bundle? gensoup bench NAME.gensoup")
    rules = _tier(tier)
    from gensoup.runtime.interrupts import heeded_interrupts

    with heeded_interrupts() as started:
        # Only now what takes a moment to import: a mistake in the call is told at once.
        from dataclasses import replace

        from rich.console import Console

        from gensoup.bench.bench_outputs import BenchOutputs, CertificateRequest
        from gensoup.bench.claims import claim_notes
        from gensoup.bench.gate import run_gate
        from gensoup.bench.judge import judge
        from gensoup.bench.measurement import Measurement
        from gensoup.bench.sensors.watch import SensorWatch

        outputs = BenchOutputs(json_out, junit_out, html_out)
        outputs.check()
        if from_trace is not None:
            measurement = Measurement.load(from_trace)
            measurement.check_rules(from_trace)
        else:
            assert bundle is not None
            rate_hz = 64.0 if min_fps is None else min_fps
            _check_rate(rate_hz, rules)
            request = CertificateRequest.of(certificate, sign, rules)
            outputs = replace(outputs, certificate=request)
            trace_out, begun = _kept(bundle, rules, trace_out, resume)
            try:
                with _Progress(rules, started) as show:
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
                raise _interrupted(rules, trace_out) from None
        started()
        verdict = judge(measurement)
        outputs.write(verdict, measurement, from_trace or trace_out, Console())
        if bundle is not None:
            for line in claim_notes(bundle, verdict.device, verdict.engine, verdict.precision, verdict.rate_hz):
                Console().print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(verdict.verdict.exit_code)


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
    from gensoup.runtime.errors import UsageError
    from gensoup.runtime.files import check_outputs

    if tier.repetitions > 1 and trace is None:
        trace = Path(f"{bundle.stem}.{tier.name}.npz")
        check_outputs({"--trace": trace}, (bundle,))
    if resume:
        if tier.repetitions < 2 or trace is None:
            raise UsageError(f"--resume: tier {tier.name} is measured in one go; run it again without")
        if not trace.exists():
            where = f"{trace}: no such trace"
            raise UsageError(f"--resume: {where}; leave the option out to begin, or name the right one with --trace")
        return trace, Measurement.load(trace)
    if trace is not None:
        _check_kept(trace, tier)
    return trace, None


def _check_kept(trace: Path, tier: Tier) -> None:
    """Raise UsageError where saving would take the place of a measurement of half an hour, finished or not, or where
    one of half an hour would take the place of anything at all."""
    from gensoup.bench.measurement import Measurement
    from gensoup.runtime.errors import DataError, UsageError

    if not trace.is_file():
        return
    elsewhere = "or name another file with --trace"
    try:
        held = Measurement.load(trace)
    except DataError as error:
        if tier.repetitions > 1:
            raise UsageError(f"{error}; it is not written over: move it away, {elsewhere}") from error
        return
    if held.tier.repetitions < 2 and tier.repetitions < 2:
        return
    if held.complete:
        remedy = "--from-trace judges it again; move it away or remove it"
        raise UsageError(f"{trace}: holds a finished measurement; {remedy}, {elsewhere}")
    raise UsageError(
        f"{trace}: holds a measurement that was broken off; go on with --resume, or remove it, {elsewhere}"
    )


def _interrupted(tier: Tier, trace: Path | None) -> Interrupted:
    """Says what is left of an interrupted measurement."""
    from gensoup.bench.measurement import Measurement
    from gensoup.runtime.errors import Interrupted

    if tier.repetitions < 2 or trace is None or not trace.is_file():
        return Interrupted("interrupted; nothing was finished, measure again")
    kept = Measurement.load(trace)
    count = f"{len(kept.repetitions)} of {tier.repetitions} repetitions are in {trace}"
    goes_on = f"--from-trace {trace} judges them" if kept.complete else "the same command with --resume goes on"
    return Interrupted(f"interrupted; {count}; {goes_on}")


class _Progress:
    """A bar on the error stream; lines, now and then, where that is no terminal. started: called when there is any."""

    def __init__(self, tier: Tier, started: Callable[[], None]) -> None:
        self._tier, self._started = tier, started

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
        self._started()
        part = max(1, total // self._tier.repetitions)
        number = min(done // part, self._tier.repetitions - 1)
        several = self._tier.repetitions > 1
        name = f"measuring {number + 1}/{self._tier.repetitions}" if several else "measuring"
        self._show(name, done - number * part, part)
