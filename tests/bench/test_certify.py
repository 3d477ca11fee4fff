"""From a verdict to a certificate that this machine accepts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gate_samples import certified, latencies, measurement_of, spread, trace_of
from rich.console import Console

from gensoup.bench import certify as certify_module
from gensoup.bench.bench_outputs import BenchOutputs, CertificateRequest
from gensoup.bench.certify import certificate_values
from gensoup.bench.judge import judge
from gensoup.bench.measurement import Measurement
from gensoup.bench.result_file import TraceFile
from gensoup.bench.tier import CERTIFY, QUICK
from gensoup.bench.verdict import Outcome
from gensoup.runtime import Classifier
from gensoup.runtime.certificate import read_certificate
from gensoup.runtime.classifier import LoadOptions
from gensoup.runtime.errors import CertificateError, UsageError, WriteError
from gensoup.runtime.identity import device_facts
from gensoup.runtime.signature import create_key, public_path


def passed(bundle: Path) -> Measurement:
    sha256 = LoadOptions().read(bundle).sha256
    return certified(bundle_sha256=sha256, bundle=bundle.name, threads=1, facts=device_facts())


def good(measurement: Measurement) -> Measurement:
    """As if the bundle's file had been checked at the end of each repetition."""
    traces = tuple(replace(one, bundle_after=measurement.bundle_sha256) for one in measurement.repetitions)
    return replace(measurement, repetitions=traces)


def test_a_pass_of_certify_is_signed_and_lets_its_bundle_run(tiny_bundle: Path, tmp_path: Path) -> None:
    create_key(tmp_path / "k")
    path, trace = tmp_path / "c.json", tmp_path / "t.npz"
    measurement = good(passed(tiny_bundle))
    measurement.save(trace)
    console = Console(record=True, width=100, file=(tmp_path / "out").open("w"))
    request = CertificateRequest.of(path, tmp_path / "k", CERTIFY)
    BenchOutputs(certificate=request).write(judge(measurement), measurement, trace, console)
    assert "c.json: certificate, signed by" in console.export_text()
    key = public_path(tmp_path / "k")
    assert Classifier.load(tiny_bundle, require_certificate=path, require_certificate_signature=key).certificate
    values = json.loads(path.read_text(encoding="utf-8"))["certificate"]
    assert values["verdict"] == "PASS" and values["trace"] == {"file": "t.npz", "sha256": TraceFile.of(trace).sha256}
    assert values["bundle"] == {"name": "tiny.gensoup", "sha256": measurement.bundle_sha256}
    assert values["limits"]["rate_hz"] == 64 and values["source"]["height"] == 1080
    assert len(values["statistics"]["repetitions"]) == 3 and values["statistics"]["frames"] == 115_200
    assert values["device"]["facts"] == device_facts() and values["engine"]["threads"] == 1
    assert set(values["versions"]) == {"gensoup", "opencv", "numpy"} and values["issued_at"].endswith("+00:00")
    assert read_certificate(path, key).limit_ms == 15.625


def test_nothing_else_is_certified(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "t.npz").write_bytes(b"")
    trace = TraceFile.of(tmp_path / "t.npz")
    others = {
        "PASS of tier quick": measurement_of(trace_of(latencies())),
        "FAIL of tier certify": certified(spread(500, count=38_400)),
        "INVALID of tier certify": certified(bundle_sha256="0" * 64),
    }
    for said, measurement in others.items():
        with pytest.raises(CertificateError, match=f"no certificate for a {said}"):
            certificate_values(judge(measurement), measurement, trace)
    path = tmp_path / "c.json"
    console = Console(record=True, width=100, file=(tmp_path / "out").open("w"))
    measurement = others["FAIL of tier certify"]
    request = CertificateRequest.of(path, None, CERTIFY)
    BenchOutputs(certificate=request).write(judge(measurement), measurement, tmp_path / "t.npz", console)
    assert "is written for a PASS alone" in console.export_text() and not path.exists()


def test_a_device_that_changed_meanwhile_gets_none(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.npz").write_bytes(b"")
    measurement, trace = good(passed(tiny_bundle)), TraceFile.of(tmp_path / "t.npz")
    monkeypatch.setattr(certify_module, "device_facts", lambda: {**measurement.facts, "power_mode": "other"})
    with pytest.raises(CertificateError, match=r"changed meanwhile \(power mode\)"):
        certificate_values(judge(measurement), measurement, trace)


def test_a_certificate_tells_of_interruptions(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "t.npz").write_bytes(b"")
    measurement = replace(good(passed(tiny_bundle)), interruptions=2)
    verdict = judge(measurement)
    assert verdict.verdict is Outcome.PASS
    assert "taken up again 2 times" in verdict.findings[0].text
    values = certificate_values(verdict, measurement, TraceFile.of(tmp_path / "t.npz"))
    assert values["statistics"]["interruptions"] == 2


def test_what_cannot_come_to_a_certificate_is_told_at_once(tmp_path: Path) -> None:
    create_key(tmp_path / "k")
    cases: list[tuple[str, tuple[Any, ...]]] = [
        ("--certificate: only --tier certify", (tmp_path / "c", None, QUICK)),
        ("--sign: signs a certificate", (None, tmp_path / "k", CERTIFY)),
        ("is a public key", (tmp_path / "c", public_path(tmp_path / "k"), CERTIFY)),
        ("cannot be read", (tmp_path / "c", tmp_path / "none", CERTIFY)),
    ]
    for said, arguments in cases:
        with pytest.raises(UsageError, match=said):
            CertificateRequest.of(*arguments)
    assert CertificateRequest.of(None, None, QUICK) is None


def test_a_file_that_cannot_be_written_hides_no_verdict(tmp_path: Path) -> None:
    measurement = measurement_of(trace_of(latencies()))
    console = Console(record=True, width=100, file=(tmp_path / "out").open("w"))
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        BenchOutputs(json=tmp_path / "file" / "v.json").write(judge(measurement), measurement, None, console)
    assert console.export_text().startswith("PASS")
