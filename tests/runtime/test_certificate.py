"""Certificates: what one lets through, and every way that it must not."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import rfc8785
from certificates import Change, altered, certify, values_for

from gensoup.cli import main
from gensoup.runtime import Classifier, Prediction, State, Stream, load_guarded
from gensoup.runtime import certified as certified_module
from gensoup.runtime.certificate import read_certificate
from gensoup.runtime.certified import check_deadline, check_frame, check_rate
from gensoup.runtime.errors import CertificateError, UsageError
from gensoup.runtime.failover import load_live
from gensoup.runtime.seal import Signature
from gensoup.runtime.serve import serve
from gensoup.runtime.signature import CERTIFICATE, SigningKey, create_key, public_path
from gensoup.runtime.sources import open_source

FRAME = np.zeros((48, 64, 3), np.uint8)


@pytest.fixture
def values(tiny_bundle: Path) -> dict[str, Any]:
    return values_for(tiny_bundle)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "ours.key", tmp_path / "theirs.key"
    for path in paths:
        create_key(path)
    return paths


def refusal(path: Path, bundle: Path, **options: Any) -> str:
    """Why a bundle is not opened."""
    with pytest.raises(CertificateError) as caught:
        Classifier.load(bundle, require_certificate=path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


def test_what_is_certified_runs_as_certified(tiny_bundle: Path, values: dict[str, Any], tmp_path: Path) -> None:
    path = certify(tmp_path / "c.json", values)
    classifier = Classifier.load(tiny_bundle, require_certificate=path)
    assert (classifier.engine.name, classifier.precision) == ("onnxruntime-cpu", "fp32")
    assert classifier.certificate == read_certificate(path)
    with Stream(classifier) as stream:
        stream.push(FRAME)
    Classifier.load(tiny_bundle, "onnxruntime-cpu", "fp32", 1, require_certificate=path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values["bundle"].update(sha256="ab" * 32), "certifies the bundle abababababababab…"),
        (lambda values: values["device"]["facts"].update(cpu="Another 9000"), "cpu Another 9000 certified"),
        (lambda values: values["device"]["facts"].update(power_mode="0 MAXN"), "power mode 0 MAXN certified"),
        (lambda values: values["device"]["facts"].update(nvidia_driver="1.2"), "nvidia driver 1.2 certified"),
        (lambda values: values["device"]["facts"].update(tpu="v9"), "tpu v9 certified, unknown here"),
        (lambda values: values["versions"].update(gensoup="0.0.1"), "gensoup 0.0.1 certified"),
        (lambda values: values["versions"].update(opencv="4.0"), "opencv 4.0 certified"),
        (lambda values: values["engine"]["versions"].update(onnxruntime="1.0"), "onnxruntime 1.0 certified"),
        (lambda values: values["engine"].update(name="dream"), "engine 'dream', which is unknown here"),
        (lambda values: values["engine"].update(name="tensorrt"), "engine tensorrt, which cannot be used here"),
    ],
)
def test_another_bundle_device_version_or_engine_is_refused(
    tiny_bundle: Path, values: dict[str, Any], tmp_path: Path, change: Change, said: str
) -> None:
    assert said in refusal(certify(tmp_path / "c.json", values, change), tiny_bundle)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": "openvino-cpu"}, "--engine onnxruntime-cpu, not openvino-cpu"),
        ({"precision": "int8"}, "--precision fp32, not int8"),
        ({"threads": 2}, "--threads 1, not 2"),
    ],
)
def test_what_is_asked_for_otherwise_is_refused(
    tiny_bundle: Path, values: dict[str, Any], tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    assert said in refusal(certify(tmp_path / "c.json", values), tiny_bundle, **options)


def test_a_device_that_changed_since_is_refused(
    tiny_bundle: Path, values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certify(tmp_path / "c.json", values)
    now = {**values["device"]["facts"], "power_mode": "1 15W"}
    monkeypatch.setattr(certified_module, "device_facts", lambda: now)
    assert "power mode unknown certified, 1 15W here; certify it again here" in refusal(path, tiny_bundle)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values.update(verdict="FAIL"), "a FAIL of tier certify"),
        (lambda values: values.update(tier="quick"), "a PASS of tier quick"),
        (lambda values: values.update(schema_version=9), "newer than this gensoup reads"),
        (lambda values: values.pop("device"), "lacks 'device'"),
        (lambda values: values["limits"].update(rate_hz=0), "no positive number"),
        (lambda values: values["limits"].update(latency_ms="x\x1b[31m"), "no positive number"),
        (lambda values: values["source"].update(height=10.5), "no positive whole number"),
        (lambda values: values.update(engine=[]), "malformed"),
        (lambda values: values["device"].update(facts={}), "tells of no device"),
        (lambda values: values.update(versions="x"), "malformed"),
    ],
)
def test_what_is_no_certificate_is_neither_written_nor_read(
    tiny_bundle: Path, values: dict[str, Any], tmp_path: Path, change: Change, said: str
) -> None:
    path = tmp_path / "c.json"
    with pytest.raises(CertificateError, match=r"malformed|newer"):
        certify(path, values, change)
    assert not path.exists()
    certify(path, values)
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content["certificate"])
    content["sha256"] = hashlib.sha256(rfc8785.dumps(content["certificate"])).hexdigest()
    path.write_text(json.dumps(content), encoding="utf-8")
    message = refusal(path, tiny_bundle)
    assert said in message and "\x1b" not in message


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"certificate": NaN}', "[" * 100_000, "\xff\xfe"])
def test_other_files_are_one_line(tiny_bundle: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(text, encoding="utf-8")
    assert "not a certificate" in refusal(path, tiny_bundle)
    assert "cannot be read" in refusal(tmp_path / "none.json", tiny_bundle)


def test_an_altered_one_is_refused(tiny_bundle: Path, values: dict[str, Any], tmp_path: Path) -> None:
    path = altered(certify(tmp_path / "c.json", values), lambda values: values["limits"].update(rate_hz=120))
    assert "altered or damaged" in refusal(path, tiny_bundle)


def test_no_flipped_byte_changes_what_is_certified(
    values: dict[str, Any], tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    path = certify(tmp_path / "c.json", values, key=keys[0])
    whole, read = path.read_bytes(), read_certificate(path, public_path(keys[0]))
    generator = np.random.default_rng(0)
    refused = 0
    for at in generator.choice(len(whole), 150, replace=False).tolist():
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << int(generator.integers(8)))]) + whole[at + 1 :])
        try:
            assert read_certificate(path, public_path(keys[0])) == read  # white space
        except CertificateError:
            refused += 1
    assert refused > 75


def test_signatures(tiny_bundle: Path, values: dict[str, Any], tmp_path: Path, keys: tuple[Path, Path]) -> None:
    ours = public_path(keys[0])
    unsigned = certify(tmp_path / "unsigned.json", values)
    assert "is not signed" in refusal(unsigned, tiny_bundle, require_certificate_signature=ours)
    theirs = certify(tmp_path / "theirs.json", values, key=keys[1])
    assert "is signed by" in refusal(theirs, tiny_bundle, require_certificate_signature=ours)
    signed = certify(tmp_path / "signed.json", values, key=keys[0])
    assert Classifier.load(tiny_bundle, require_certificate=signed, require_certificate_signature=ours).certificate
    with pytest.raises(UsageError, match="--require-certificate-signature"):
        Classifier.load(tiny_bundle, require_certificate_signature=ours)


def test_a_made_up_digest_or_another_purpose_does_not_hold(
    tiny_bundle: Path, values: dict[str, Any], tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    path = certify(tmp_path / "c.json", values, key=keys[0])
    content = json.loads(path.read_text(encoding="utf-8"))
    content["certificate"]["limits"]["rate_hz"] = 120
    content["sha256"] = hashlib.sha256(rfc8785.dumps(content["certificate"])).hexdigest()
    path.write_text(json.dumps(content), encoding="utf-8")
    assert read_certificate(path).rate_hz == 120  # whole, as far as a digest can tell
    said = refusal(path, tiny_bundle, require_certificate_signature=public_path(keys[0]))
    assert "altered after signing" in said
    key = SigningKey.load(keys[0])
    as_bundle: Signature = key.sign(content["sha256"])
    content["signatures"] = [{"key": as_bundle.key.hex(), "value": as_bundle.value.hex()}]
    path.write_text(json.dumps(content), encoding="utf-8")
    said = refusal(path, tiny_bundle, require_certificate_signature=public_path(keys[0]))
    assert "altered after signing" in said
    assert key.public.holds(key.sign("x", CERTIFICATE), "x", CERTIFICATE)


def test_limits(tiny_bundle: Path, values: dict[str, Any], tmp_path: Path) -> None:
    certificate = read_certificate(certify(tmp_path / "c.json", values))
    for rate in (30.0, 64.0, 64.06):
        check_rate(certificate, rate)
    check_frame(certificate, 480, 640)
    check_frame(certificate, 640, 480)
    check_deadline(certificate, 15.625)
    check_deadline(certificate, 1000 / 60)
    for check, value, said in (
        (check_rate, (65.0,), "sends 65: certify with --min-fps 65"),
        (check_rate, (None,), "states no rate"),
        (check_frame, (1080, 1920), "the source sends 1920 × 1080"),
        (check_deadline, (8.0,), "not of 8: give limit_ms=15.625"),
    ):
        with pytest.raises(CertificateError, match=re.escape(said)):
            check(certificate, *value)


def test_a_stream_keeps_to_it(tiny_bundle: Path, values: dict[str, Any], tmp_path: Path) -> None:
    path = certify(tmp_path / "c.json", values_for(tiny_bundle, min_fps=30.0))
    classifier = Classifier.load(tiny_bundle, require_certificate=path)
    with pytest.raises(CertificateError, match=r"give limit_ms=33\.3"):
        Stream(classifier)
    with pytest.raises(CertificateError, match="throughput"):
        Stream(classifier, limit_ms=40.0, mode="throughput")
    uncertified = Classifier.load(tiny_bundle, "onnxruntime-cpu", threads=1)
    with Stream(classifier, limit_ms=1000 / 30) as stream:
        with pytest.raises(CertificateError, match="load it alike"):
            stream.swap(uncertified)
        stream.swap(tiny_bundle)


def test_another_bundle_is_not_swapped_in(
    tiny_bundle: Path, looking_bundle: Path, values: dict[str, Any], tmp_path: Path
) -> None:
    path = certify(tmp_path / "c.json", values)
    guard = load_guarded(tiny_bundle, require_certificate=path, slow_ms=None)
    with Stream(guard) as stream, pytest.raises(CertificateError, match="certifies the bundle"):
        stream.swap(looking_bundle)
    guard.close(engines=True)
    with pytest.raises(CertificateError, match="without saliency"):
        load_guarded(looking_bundle, require_certificate=certify(path, values_for(looking_bundle)), saliency=True)


def test_another_engine_that_stands_in_is_degraded(tiny_bundle: Path, values: dict[str, Any], tmp_path: Path) -> None:
    guard = load_guarded(
        tiny_bundle, require_certificate=certify(tmp_path / "c.json", values), slow_ms=None, retry_s=60
    )
    results: list[Any] = []
    with Stream(guard, results.append, sink_size=4) as stream:
        stream.push(FRAME)
        assert stream.drain(10)
        guard._fail_over("for a test")
        stream.push(FRAME)
        assert stream.drain(10)
    guard.close(engines=True)
    assert results[0].state is not State.DEGRADED
    assert results[1].state is State.DEGRADED


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (lambda values: values["limits"].update(rate_hz=10), [], "the source sends 20"),
        (lambda values: None, ["--pace", "100"], "the source sends 100"),
        (lambda values: values["source"].update(height=48), ["--frames", "9"], "the source sends 160 × 120"),
        (lambda values: None, ["--engine", "openvino-cpu"], "--engine onnxruntime-cpu"),
        (lambda values: values["engine"].update(threads=2), ["--threads", "1"], "--threads 2, not 1"),
    ],
)
def test_the_command_refuses_before_the_first_frame(
    tiny_bundle: Path,
    values: dict[str, Any],
    video_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Change,
    options: list[str],
    said: str,
) -> None:
    values["source"].update(width=160, height=120)
    path, lines = certify(tmp_path / "c.json", values, change), tmp_path / "lines.jsonl"
    required = ["--require-certificate", str(path), "--json", str(lines)]
    with pytest.raises(SystemExit) as left:
        main(["run", str(tiny_bundle), "--source", str(video_file), *required, *options])
    assert left.value.code == CertificateError.exit_code
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {path}: ") and said in error
    assert not lines.exists() or lines.read_bytes() == b""


def test_throughput_has_no_deadline_to_certify(
    tiny_bundle: Path, values: dict[str, Any], tmp_path: Path, video_file: Path
) -> None:
    path = certify(tmp_path / "c.json", values)
    with pytest.raises(UsageError, match="throughput mode has no deadline"):
        load_live(
            *(tiny_bundle, "auto", None, 1, None, None, None),
            failover=None,
            saliency=False,
            realtime=False,
            require_certificate=path,
        )
    classifier = Classifier.load(tiny_bundle, require_certificate=path)
    with pytest.raises(CertificateError, match="throughput mode has no deadline"):
        serve(classifier, open_source(str(video_file)), mode="throughput")


def test_the_command_runs_what_is_certified(
    tiny_bundle: Path,
    values: dict[str, Any],
    video_file: Path,
    tmp_path: Path,
    keys: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, lines = certify(tmp_path / "c.json", values, key=keys[0]), tmp_path / "lines.jsonl"
    required = ["--require-certificate", str(path), "--require-certificate-signature", str(public_path(keys[0]))]
    outputs = ["--json", str(lines), "--video", str(tmp_path / "v.avi")]
    with pytest.raises(SystemExit) as left:
        main(["run", str(tiny_bundle), "--source", str(video_file), *required, *outputs])
    assert not left.value.code
    assert lines.read_bytes()
    assert "certified without --video" in capsys.readouterr().err


class Slow:
    """Takes 30 ms a frame: late at 64 Hz, in time for a camera of 1 Hz."""

    def __init__(self, real: Classifier) -> None:
        self.real, self.engine, self.labels = real, real.engine, real.labels
        self.certificate = real.certificate

    def __call__(self, frame: np.ndarray) -> Prediction:
        time.sleep(0.03)
        return self.real(frame)


def test_the_certified_latency_is_the_deadline(tiny_bundle: Path, tmp_path: Path, video_file: Path) -> None:
    path = certify(tmp_path / "c.json", values_for(tiny_bundle, min_fps=1.0))
    source = open_source(str(video_file))
    held = serve(Slow(Classifier.load(tiny_bundle, require_certificate=path)), source, pace_hz=1.0, max_frames=1)
    assert held.states == {"OK": 1}
    free = serve(Slow(Classifier.load(tiny_bundle, threads=1)), source, pace_hz=1.0, max_frames=1)
    assert free.states == {"LATE": 1}


def test_frames_that_grow_later_are_told_of_once(tiny_bundle: Path, values: dict[str, Any], tmp_path: Path) -> None:
    class Growing:
        name, rate_hz, frames = "growing", 50.0, 4
        skipped: ClassVar[list[str]] = []

        def __iter__(self) -> Iterator[np.ndarray]:
            yield from (np.zeros((height, 640, 3), np.uint8) for height in (480, 481, 482, 480))

    told: list[str] = []
    classifier = Classifier.load(tiny_bundle, require_certificate=certify(tmp_path / "c.json", values))
    assert serve(classifier, Growing(), notify=told.append).frames == 4
    assert len(told) == 1 and "no longer as certified" in told[0] and "640 × 481" in told[0]
