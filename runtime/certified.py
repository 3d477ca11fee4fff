"""Whether what runs here is what a certificate speaks of; each check raises CertificateError, one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gensoup
from gensoup.runtime.archive import shown
from gensoup.runtime.certificate import Certificate
from gensoup.runtime.device import fingerprint, installed_version
from gensoup.runtime.engines.catalogue import AUTO, ENGINES, engine_versions, obstacle
from gensoup.runtime.engines.choice import Request
from gensoup.runtime.errors import CertificateError
from gensoup.runtime.identity import device_facts

# Cameras state 60.0024 Hz for 60: not another limit.
_RATE_TOLERANCE = 1e-3
_AGAIN = "certify it again here"


def frame_path_versions() -> dict[str, str | None]:
    """The versions on which every frame's time depends, whatever the engine."""
    return {"gensoup": gensoup.__version__, "opencv": fingerprint()["opencv"], "numpy": installed_version("numpy")}


def check_bundle(certificate: Certificate, sha256: str) -> None:
    """Refuse another bundle."""
    if sha256 != certificate.bundle_sha256:
        name = shown(str(certificate.values["bundle"].get("name", "")), 60)
        raise _refusal(
            certificate,
            f"certifies the bundle {certificate.bundle_sha256[:16]}… ({name}), not this one ({sha256[:16]}…): "
            "get that bundle, or certify this one",
        )


def check_device(certificate: Certificate) -> None:
    """Refuse another device, another of its power modes, or other versions of what every frame goes through."""
    differing = _differing(certificate.device, device_facts())
    differing += _differing(certificate.versions, frame_path_versions())
    if differing:
        raise _refusal(certificate, f"certifies another device or setting: {'; '.join(differing)}; {_AGAIN}")


def certified_request(certificate: Certificate, request: Request) -> Request:
    """``request`` made exact: what it leaves open is as certified; refuse what it wants otherwise."""
    wanted = {
        "--engine": (None if request.engine == AUTO else request.engine, certificate.engine),
        "--precision": (request.precision, certificate.precision),
        "--threads": (request.threads, certificate.threads),
    }
    for option, (here, certified) in wanted.items():
        if here is not None and here != certified:
            was = "the engine's default" if certified is None else certified
            raise _refusal(certificate, f"certifies {option} {was}, not {here}: leave {option} out, or {_AGAIN}")
    if certificate.engine not in ENGINES:
        raise _refusal(certificate, f"certifies the engine '{shown(certificate.engine, 40)}', which is unknown here")
    if (reason := obstacle(certificate.engine)) is not None:
        raise _refusal(certificate, f"certifies the engine {certificate.engine}, which cannot be used here ({reason})")
    if differing := _differing(certificate.engine_versions, engine_versions(certificate.engine)):
        raise _refusal(certificate, f"certifies another build of {certificate.engine}: {differing[0]}; {_AGAIN}")
    return replace(request, engine=certificate.engine, precision=certificate.precision, threads=certificate.threads)


def check_rate(certificate: Certificate, rate_hz: float | None) -> None:
    """Refuse more frames a second than certified, or a source that does not say how many it sends."""
    limit = f"{certificate.rate_hz:g} frames a second"
    if rate_hz is None:
        raise _refusal(
            certificate, f"certifies {limit}, and the source states no rate: write it, such as camera:0:1080p@60"
        )
    if rate_hz > certificate.rate_hz * (1 + _RATE_TOLERANCE):
        raise _refusal(
            certificate, f"certifies {limit}, and the source sends {rate_hz:g}: certify with --min-fps {rate_hz:g}"
        )


def check_deadline(certificate: Certificate, limit_ms: float) -> None:
    """Refuse a deadline shorter than the certified one."""
    if limit_ms < certificate.limit_ms * (1 - _RATE_TOLERANCE):
        raise _refusal(
            certificate,
            f"certifies a latency of {certificate.limit_ms:g} ms, not of {limit_ms:g}: "
            f"give limit_ms={certificate.limit_ms:g}, or certify with --min-fps {1e3 / limit_ms:g}",
        )


def check_frame(certificate: Certificate, height: int, width: int) -> None:
    """Refuse frames of more pixels than certified: copy and resize take their time."""
    if height * width > certificate.height * certificate.width:
        raise _refusal(
            certificate,
            f"certifies frames of {certificate.width} × {certificate.height}, the source sends {width} × {height}: "
            f"certify with --source synthetic:{width}x{height}",
        )


def check_plain(certificate: Certificate, *, saliency: bool = False, realtime: bool = True) -> None:
    """Refuse what the gate does not measure: saliency maps, and a mode without a deadline."""
    if saliency:
        raise _refusal(certificate, "certifies the graph without saliency, which takes longer: leave --saliency out")
    if not realtime:
        raise _refusal(certificate, "certifies real time: throughput mode has no deadline to hold; leave --mode out")


def check_stream(classifier: object, limit_ms: float, *, realtime: bool) -> None:
    """Refuse a stream whose classifier was loaded with a certificate that does not reach so far."""
    certificate: Certificate | None = getattr(classifier, "certificate", None)
    if certificate is not None:
        check_plain(certificate, realtime=realtime)
        check_deadline(certificate, limit_ms)


def check_successor(running: object, fresh: object) -> None:
    """Refuse to let a classifier answer in a certified one's place unless it was loaded with the same certificate."""
    certificate: Certificate | None = getattr(running, "certificate", None)
    if certificate is not None and getattr(fresh, "certificate", None) != certificate:
        raise _refusal(certificate, "certifies the classifier that runs, not the one to take its place: load it alike")


def _differing(certified: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """A phrase for each value that is not the same, the certificate's first; facts it does not know are left out."""

    def told(value: Any) -> str:
        return "unknown" if value is None else shown(str(value), 60)

    return [
        f"{shown(name, 40).replace('_', ' ')} {told(value)} certified, {told(here.get(name))} here"
        for name, value in certified.items()
        if here.get(name) != value
    ]


def _refusal(certificate: Certificate, text: str) -> CertificateError:
    return CertificateError(f"{certificate.source}: {text}")
