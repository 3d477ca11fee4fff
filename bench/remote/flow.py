"""``gensoup probe --host``: connect, bring what is lacking, measure there, fetch the profile; cut off, it goes on."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gensoup.bench.device_profile import HEADROOM, DeviceProfile, LatencyEstimate
from gensoup.bench.probe_kit import ProbeKit
from gensoup.bench.probe_plan import ProbePlan
from gensoup.bench.probe_run import Step, Told, of_another_plan, of_something_else
from gensoup.bench.remote.address import Address
from gensoup.bench.remote.cart import Cart, Note
from gensoup.bench.remote.connection import MAX_SAID, Connection, Done, connected
from gensoup.bench.remote.failures import LostConnection, RemoteError, Unreachable
from gensoup.bench.remote.wheel import build_wheel
from gensoup.runtime.archive import shown
from gensoup.runtime.engines.catalogue import COMPILING
from gensoup.runtime.errors import GenSoupError, UsageError
from gensoup.runtime.files import write_atomic

# After the connection was lost; from the start again whenever a graph was finished meanwhile.
WAITS_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
_SILENCE_S = 300.0  # longer than a graph may be silent before it is taken for hung
_SILENCE_BUILDING_S = 3700.0
_NOTE_EVERY_S = 5.0


@dataclass(frozen=True)
class Job:
    """What to measure there, and how; as the options of ``gensoup probe`` have it."""

    kit: ProbeKit
    out: Path
    plan: ProbePlan
    engine: str
    retry: bool = False
    remote_dir: str | None = None
    install: str | None = None
    wheels: Path | None = None


def probe_remotely(
    address: Address,
    job: Job,
    told_step: Told,
    note: Note,
    sleep: Callable[[float], None] = time.sleep,
) -> DeviceProfile:
    """Measure a kit on a device over ssh and write its profile to ``job.out``.

    A connection that is lost is made again, for a minute or so; what was measured stays there, so that calling it again
    goes on too. Raises UsageError, DataError or RemoteError, one line each.
    """
    job.kit.check()
    _check_out(job)
    if job.wheels is not None and not job.wheels.is_dir():
        raise UsageError(f"--wheels {job.wheels}: no such folder")
    wheel = build_wheel()
    waits, reached, retry = list(WAITS_S), False, job.retry

    def watch(step: Step) -> None:
        nonlocal waits, retry
        retry = False  # it measures, so it has forgotten by now what failed before; what fails from here on is news
        if step.outcome is not None:
            waits = list(WAITS_S)
        told_step(step)

    while True:
        try:
            with connected(address) as connection:
                reached = True
                content = _measured(connection, job, wheel, watch, note, retry=retry)
            return _fetched(content, job)
        except (LostConnection, Unreachable) as error:
            if not reached:
                raise
            if not waits:
                raise RemoteError(
                    f"{error}; what was measured is kept there: call the same command again to go on"
                ) from error
            wait = waits.pop(0)
            note(f"{error}; connecting again in {wait:g} s")
            sleep(wait)


def _measured(
    connection: Connection, job: Job, wheel: tuple[str, bytes], told_step: Told, note: Note, *, retry: bool
) -> bytes:
    """The content of the profile that the device wrote."""
    asked = connection.address.asked
    cart = Cart(connection, job.remote_dir, note)
    extras = None if job.install is None else [one.strip() for one in job.install.split(",") if one.strip()]
    gensoup = cart.bring_environment(wheel, extras, job.wheels)
    kit = cart.bring_kit(job.kit, _now_and_then(f"{asked}: copied", note))
    options = _options(job)
    name = hashlib.sha256(repr((job.kit.sha256, options)).encode()).hexdigest()[:12]
    profile = f"{cart.folder}/profile-{name}.json"
    command = [gensoup, "probe", kit, "--out", profile, "--lines", *options, *(["--retry"] if retry else [])]
    note(f"{asked}: measuring {len(job.kit.graphs)} graphs")
    building = any(one in COMPILING for one in job.engine.split(","))
    done = connection.run(
        "exec " + " ".join(map(shlex.quote, command)),
        _SILENCE_BUILDING_S if building else _SILENCE_S,
        lambda line: _told(line, told_step),
    )
    if done.code != 0:
        raise RemoteError(f"{asked}: {_complaint(done)}")
    content = connection.get(profile)
    if content is None:
        raise RemoteError(f"{asked}: {profile} was not written ({done.last_line})")
    return content


def _options(job: Job) -> list[str]:
    """The plan as options. Its latency is the allowed one, of which the option's limit is the whole."""
    plan = job.plan
    options = ["--min-fps", repr(plan.rate_hz), "--max-latency-ms", repr(plan.bound_ms / HEADROOM)]
    options += ["--engine", job.engine, "--frames", f"{plan.width}x{plan.height}"]
    options += ["--seconds", repr(plan.seconds)] if plan.seconds is not None else []
    return options + (["--threads", str(plan.threads)] if plan.threads is not None else [])


def _now_and_then(what: str, note: Note) -> Callable[[int, int], None]:
    """Notes of a long transfer."""
    last = time.monotonic()

    def sent(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > _NOTE_EVERY_S:
            last = time.monotonic()
            note(f"{what} {done / 1e6:.0f} of {total / 1e6:.0f} MB")

    return sent


def _told(line: str, told_step: Told) -> None:
    """Pass a line of progress on; what is none (a library's own words) is left out."""
    try:
        values: dict[str, Any] = json.loads(line)
        outcome = values["outcome"]
        if isinstance(outcome, dict):
            outcome = LatencyEstimate.from_dict(outcome)
        elif outcome is not None:
            outcome = shown(str(outcome), MAX_SAID)
        step = Step(shown(str(values["key"])), float(values["done"]), int(values["total"]), outcome)
    except (ValueError, KeyError, TypeError):
        return
    told_step(step)


def _complaint(done: Done) -> str:
    said = [line.removeprefix("error: ") for line in done.err.splitlines() if line.startswith("error: ")]
    return shown(said[-1], MAX_SAID) if said else f"gensoup probe ended with {done.code} ({done.last_line})"


def _check_out(job: Job) -> None:
    """Refuse now, and not after an hour, a file that is not to be overwritten."""
    if not job.out.exists():
        return
    try:
        found = DeviceProfile.load(job.out)
    except GenSoupError as error:
        raise UsageError(f"--out {error}; or name another file") from error
    if (other := of_another_plan(found, job.kit.sha256, job.plan)) is not None:
        raise UsageError(f"--out {job.out}: holds a profile of {other}; name another file, or remove that one")


def _fetched(content: bytes, job: Job) -> DeviceProfile:
    """Keep the profile under the name wanted, unless that holds another device's."""
    partly = job.out.with_name(f".{job.out.name}.fetched")
    write_atomic(partly, content)
    try:
        profile = DeviceProfile.load(partly)
        if job.out.exists() and (other := of_something_else(DeviceProfile.load(job.out), profile)) is not None:
            raise UsageError(
                f"--out {job.out}: holds a profile of {other}; name another file: what was measured is kept there"
            )
        partly.replace(job.out)
    finally:
        partly.unlink(missing_ok=True)
    return profile
