"""``gensoup probe``: every graph of a kit, on every engine wanted, into a device profile; killed, it goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gensoup.bench.device_profile import DeviceProfile, KitTold, LatencyEstimate, profile_key
from gensoup.bench.probe_kit import KIT_FILE, KitGraph, ProbeKit
from gensoup.bench.probe_plan import ProbePlan
from gensoup.bench.probe_process import probe_apart
from gensoup.bench.same_device import differences, told
from gensoup.runtime.device import fingerprint
from gensoup.runtime.engines.catalogue import COMPILING, ENGINES, check_engine, obstacle
from gensoup.runtime.errors import EngineError, GenSoupError, UsageError
from gensoup.runtime.file_lock import lock
from gensoup.runtime.files import write_error

ALL = "all"
_LOCK_PATIENCE_S = 10.0
_NOT_TOLD = 0.0  # seconds of older versions' profiles


@dataclass(frozen=True)
class Step:
    """Where a probe is. done: graphs, with the part of the one in work. outcome: of a graph that was just finished."""

    key: str
    done: float
    total: int
    outcome: LatencyEstimate | str | None = None


Told = Callable[[Step], None]


def engines_named(text: str) -> tuple[str, ...]:
    """Engines of ``--engine``: names with commas between, or "all": those usable here that need not compile first.

    Raises UsageError for a name that does not exist or cannot be used here, GenSoupError when none can.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if names != (ALL,):
        for name in names:
            if name == "auto":
                raise UsageError("--engine auto: name engines, or all: which is fastest depends on the network")
            if name == ALL:
                raise UsageError(f"--engine {text}: all stands alone; name engines, or all")
            check_engine(name, ALL)
        if not names:
            raise UsageError("--engine: names no engine")
        return names
    found = tuple(name for name in ENGINES if name not in COMPILING and obstacle(name) is None)
    if not found:
        raise obstacle(ENGINES[0]) or EngineError("no engine can be used here")
    return found


def probe_kit(
    kit: ProbeKit,
    out: Path,
    plan: ProbePlan,
    engines: Sequence[str],
    *,
    retry: bool = False,
    told_step: Told = lambda step: None,
) -> DeviceProfile:
    """Measure every graph of a kit on each of ``engines`` and write the profile to ``out`` after each; go on with one
    that was begun there.

    retry: measure what failed before once more. Raises DataError for a damaged kit, before anything is measured;
    UsageError when ``out`` holds something else: of another kit, device, engine version, power mode or plan.
    """
    with _alone(kit):
        kit.check()
        profile = _begun(kit, out, plan, engines)
        if retry:
            profile = replace(profile, failures={})
        profile.save(out)  # now, and not only when the first graph is done: it may not be writable
        total = len(kit.graphs) * len(engines)
        for graph in kit.graphs:
            for engine in engines:
                key = profile_key(graph.architecture, graph.size, graph.precision, engine)
                if key in profile.estimates or key in profile.failures:
                    continue
                done = len(profile.estimates) + len(profile.failures)
                outcome = _measured(kit, graph, engine, plan, lambda part: told_step(Step(key, done + part, total)))  # noqa: B023
                if isinstance(outcome, str):
                    profile = replace(profile, failures={**profile.failures, key: outcome})
                else:
                    profile = replace(profile, estimates={**profile.estimates, key: outcome})
                profile.save(out)
                told_step(Step(key, done + 1, total, outcome))
        return profile


def _measured(
    kit: ProbeKit, graph: KitGraph, engine: str, plan: ProbePlan, share: Callable[[float], None]
) -> LatencyEstimate | str:
    share(0.0)
    try:
        return probe_apart(kit, graph, engine, plan, share)
    except EngineError as error:
        return str(error)


def _begun(kit: ProbeKit, out: Path, plan: ProbePlan, engines: Sequence[str]) -> DeviceProfile:
    """The profile in ``out`` so far, or an empty one. Raises UsageError when it is of something else."""
    kit_told = KitTold(
        sha256=kit.sha256,
        graphs=len(kit.graphs) * len(engines),
        fits={str(graph.size): graph.preprocess.fit for graph in kit.graphs},
        engines=tuple(engines),
        allowed_ms=plan.bound_ms,
        height=plan.height,
        width=plan.width,
        threads=plan.threads,
        made_by=dict(kit.made_by),
        seconds=plan.seconds,
    )
    fresh = DeviceProfile(fingerprint(), plan.rate_hz, kit=kit_told)
    if not out.exists():
        return fresh
    try:
        found = DeviceProfile.load(out)
    except GenSoupError as error:
        raise UsageError(f"--out {error}; or name another file") from error
    if (other := of_something_else(found, fresh)) is not None:
        raise UsageError(f"--out {out}: holds a profile of {other}; name another file, or remove that one")
    return found


def of_something_else(found: DeviceProfile, wanted: DeviceProfile) -> str | None:
    """In what a profile is of something else than wanted; None where it can be gone on with."""
    kit = wanted.kit
    assert kit is not None
    plan = ProbePlan(wanted.rate_hz, kit.allowed_ms, kit.seconds, kit.height, kit.width, kit.threads)
    if (other := of_another_plan(found, kit.sha256, plan)) is not None:
        return other
    assert found.kit is not None
    if found.kit.engines != kit.engines:
        return _planned("--engine", ",".join(found.kit.engines), ",".join(kit.engines))
    changed = differences(found.device, wanted.device, kit.engines)
    return told(changed) if changed else None


def of_another_plan(found: DeviceProfile, kit_sha256: str, plan: ProbePlan) -> str | None:
    """As :func:`of_something_else`, in what can be told before it is known which engines the device has."""
    kit = found.kit
    if kit is None:
        return "no kit (training's own)"
    if kit.sha256 != kit_sha256:
        return "another kit"
    if not math.isclose(found.rate_hz, plan.rate_hz):
        return f"{found.rate_hz:g} frames a second"
    if not math.isclose(kit.allowed_ms, plan.bound_ms):
        return _planned("the latency allowed", f"{kit.allowed_ms:.2f} ms", f"{plan.bound_ms:.2f} ms")
    if (kit.width, kit.height) != (plan.width, plan.height):
        return _planned("--frames", f"{kit.width}x{kit.height}", f"{plan.width}x{plan.height}")
    if kit.threads != plan.threads:
        return _planned("--threads", kit.threads, plan.threads)
    if kit.seconds != plan.seconds and _NOT_TOLD not in (kit.seconds, plan.seconds):
        return _planned("--seconds", kit.seconds, plan.seconds)
    return None


def _planned(what: str, then: str | float | None, now: str | float | None) -> str:
    said = ["the default" if one is None else one if isinstance(one, str) else f"{one:g}" for one in (then, now)]
    return f"another plan ({what}: {said[0]} then, {said[1]} now)"


@contextmanager
def _alone(kit: ProbeKit) -> Iterator[None]:
    """Hold the kit: two that measure at once measure each other. One that was told to end is waited for.

    Raises UsageError when another process measures with this kit.
    """
    path = kit.path / KIT_FILE
    try:
        file = path.open("rb")
    except OSError as error:
        raise write_error(path, error) from error
    with file:
        until = time.monotonic() + _LOCK_PATIENCE_S
        while not lock(file.fileno()):
            if time.monotonic() > until:
                raise UsageError(f"{kit.path}: another gensoup probe measures with this kit; wait for it")
            time.sleep(0.2)
        yield
