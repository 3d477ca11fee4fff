"""All that a verdict is a function of, and the one file that holds it: ``gensoup bench --trace`` and ``--from-trace``.

The file is an .npz: the arrays of repetition 1 under ``1_scheduled`` and so on, and ``about``, a JSON text.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from gensoup.bench.finding import Finding
from gensoup.bench.tier import TIERS, Tier
from gensoup.bench.trace import Trace
from gensoup.runtime.errors import DataError
from gensoup.runtime.files import write_atomic
from gensoup.runtime.identity import Fact

SCHEMA_VERSION = 2
SourceKind = Literal["synthetic", "file", "camera"]


@dataclass(frozen=True)
class GateSource:
    """Where the frames came from. height, width: pixels. ring_frames: how many lay in memory, 0 for a camera.

    stated_hz: the source's own rate, as it states it; None where it does not.
    """

    spec: str
    kind: SourceKind
    height: int
    width: int
    ring_frames: int = 0
    stated_hz: float | None = None


@dataclass(frozen=True)
class Measurement:
    """What was measured, before anything is judged; :func:`gensoup.bench.judge.judge` makes the verdict of it.

    min_fps: the limit, frames a second. device: :func:`gensoup.runtime.device.fingerprint`. facts: what a certificate
    takes the device to be, :func:`gensoup.runtime.identity.device_facts`, before the first repetition; empty: was not
    noted. repetitions: those that were finished. findings: what others than the gate found, above all what the device's
    sensors say; they enter the judgement as they are. device_log: the sensors' readings over time, plain values for
    reports, never judged; under "1", "2", … where it was broken off and taken up again. capacity_fps: closed-loop
    frames a second, for information. interruptions: how often it was broken off and taken up again. started_at: UTC,
    ISO 8601. threads: CPU cores that the engine may use, None: its default. bundle: the file's name, for people.
    """

    tier: Tier
    min_fps: float
    source: GateSource
    engine: str
    precision: str
    bundle_sha256: str
    device: Mapping[str, Any]
    repetitions: tuple[Trace, ...] = ()
    findings: tuple[Finding, ...] = ()
    device_log: Mapping[str, Any] = field(default_factory=dict)
    capacity_fps: float | None = None
    interruptions: int = 0
    started_at: str = ""
    gensoup: str = ""
    threads: int | None = None
    bundle: str = ""
    facts: Mapping[str, Fact] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all repetitions of the tier are there."""
        return len(self.repetitions) >= self.tier.repetitions

    def with_repetition(self, trace: Trace) -> Measurement:
        """The measurement with one repetition more."""
        return replace(self, repetitions=(*self.repetitions, trace))

    def save(self, path: Path) -> None:
        """Write an .npz file, atomically."""
        arrays = {
            f"{number}_{name}": values
            for number, trace in enumerate(self.repetitions, 1)
            for name, values in trace.arrays().items()
        }
        about = {
            "schema_version": SCHEMA_VERSION,
            "tier": self.tier.to_dict(),
            "min_fps": self.min_fps,
            "source": vars(self.source),
            "engine": self.engine,
            "precision": self.precision,
            "bundle_sha256": self.bundle_sha256,
            "device": dict(self.device),
            "repetitions": [trace.scalars() for trace in self.repetitions],
            "findings": [finding.to_dict() for finding in self.findings],
            "device_log": dict(self.device_log),
            "capacity_fps": self.capacity_fps,
            "interruptions": self.interruptions,
            "started_at": self.started_at,
            "gensoup": self.gensoup,
            "threads": self.threads,
            "bundle": self.bundle,
            "facts": dict(self.facts),
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, about=np.array(json.dumps(about)), **arrays)
        write_atomic(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Measurement:
        """The inverse of :meth:`save`. Raises DataError, naming the file, for anything else."""
        foreign = DataError(f"{path}: not a trace of gensoup bench; give a file that --trace wrote")
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                if about["schema_version"] != SCHEMA_VERSION:
                    raise DataError(
                        f"{path}: trace of schema {about['schema_version']}, this gensoup reads {SCHEMA_VERSION}; "
                        "judge it with the gensoup that wrote it"
                    )
                return _measurement(about, file)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or 'not a trace'})") from error
        except DataError:
            raise
        except Exception as error:  # of a damaged file NumPy, zipfile, zlib and tokenize each tell in their own way
            raise foreign from error

    def check_rules(self, path: Path) -> None:
        """Raise DataError unless it was measured by the rules of a tier that there is, as they are now."""
        if self.tier not in TIERS.values():
            raise DataError(f"{path}: measured by other rules of tier '{self.tier.name}' than these; measure again")


def _measurement(about: Mapping[str, Any], file: Mapping[str, Any]) -> Measurement:
    source = about["source"]
    if source["kind"] not in get_args(SourceKind):
        raise ValueError(f"source {source['kind']!r}")
    traces = []
    for number, scalars in enumerate(about["repetitions"], 1):
        prefix = f"{number}_"
        arrays = {name[len(prefix) :]: file[name] for name in file if name.startswith(prefix)}
        traces.append(Trace.of(arrays, scalars))
    capacity, stated, min_fps = about["capacity_fps"], source["stated_hz"], float(about["min_fps"])
    if not 0 < min_fps < math.inf:
        raise ValueError(f"min_fps {min_fps}")
    return Measurement(
        tier=Tier.from_dict(about["tier"]),
        min_fps=min_fps,
        source=GateSource(
            spec=str(source["spec"]),
            kind=cast(SourceKind, source["kind"]),
            height=int(source["height"]),
            width=int(source["width"]),
            ring_frames=int(source["ring_frames"]),
            stated_hz=None if stated is None else float(stated),
        ),
        engine=str(about["engine"]),
        precision=str(about["precision"]),
        bundle_sha256=str(about["bundle_sha256"]),
        device=dict(about["device"]),
        repetitions=tuple(traces),
        findings=tuple(map(Finding.from_dict, about["findings"])),
        device_log=dict(about["device_log"]),
        capacity_fps=None if capacity is None else float(capacity),
        interruptions=int(about["interruptions"]),
        started_at=str(about["started_at"]),
        gensoup=str(about["gensoup"]),
        threads=None if about["threads"] is None else int(about["threads"]),
        bundle=str(about["bundle"]),
        facts=dict(about.get("facts") or {}),  # older traces have none, and go for no certificate
    )
