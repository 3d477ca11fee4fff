"""From a PASS of certify to the certificate's values: what was held, by which bundle and engine, on which device."""

from __future__ import annotations

import datetime
from typing import Any

from gensoup.bench.measurement import Measurement
from gensoup.bench.result_file import TraceFile
from gensoup.bench.verdict import Outcome, Verdict
from gensoup.runtime.certificate import SCHEMA_VERSION
from gensoup.runtime.certified import frame_path_versions
from gensoup.runtime.engines.catalogue import engine_versions
from gensoup.runtime.errors import CertificateError
from gensoup.runtime.identity import device_facts, fingerprint_of

_STATISTICS = (
    "frames",
    "misses",
    "drops",
    "failures",
    "miss_rate_upper",
    "block_rate_upper",
    "longest_miss_run",
    "interruptions",
    "latency_ms",
    "lateness_ms",
    "stages_ms",
    "idle_fraction",
    "taken_fraction",
    "repetitions",
)
# Worth knowing, but no reason to refuse: these change with every update of the system.
_ENVIRONMENT = ("os", "python")


def certificate_values(verdict: Verdict, measurement: Measurement, trace: TraceFile) -> dict[str, Any]:
    """Plain values for :func:`gensoup.runtime.certificate.write_certificate`.

    Raises CertificateError for anything but a PASS of certify, and where the device is another than before its first
    repetition, be that days ago.
    """
    if verdict.verdict is not Outcome.PASS or verdict.tier != "certify":
        raise CertificateError(f"no certificate for a {verdict.verdict.value} of tier {verdict.tier}")
    facts = device_facts()
    if changed := [name.replace("_", " ") for name in facts if facts[name] != measurement.facts.get(name)]:
        raise CertificateError(f"no certificate: the device changed meanwhile ({', '.join(changed)}); measure again")
    told = verdict.to_dict()
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": told["verdict"],
        "tier": told["tier"],
        "reason": told["reason"],
        "issued_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "measured_at": told["started_at"],
        "bundle": {"name": measurement.bundle, "sha256": told["bundle_sha256"]},
        "engine": {
            "name": told["engine"],
            "precision": told["precision"],
            "threads": verdict.threads,
            "versions": engine_versions(verdict.engine),
        },
        "limits": told["limits"],
        "source": told["source"],
        "statistics": {name: told[name] for name in _STATISTICS},
        "device": {"fingerprint": fingerprint_of(facts), "facts": facts},
        "versions": frame_path_versions(),
        "environment": {name: told["device"].get(name) for name in _ENVIRONMENT},
        "trace": {"file": trace.path.name, "sha256": trace.sha256},
    }
