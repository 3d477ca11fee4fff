"""Bundles: what goes in comes out, and whatever is wrong with one is a single line that names the file."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from gensoup.runtime.bundle import Bundle, Golden, bundle_digest, read_bundle, write_bundle
from gensoup.runtime.errors import BundleError
from gensoup.runtime.manifest import SCHEMA_VERSION, Manifest
from gensoup.runtime.preprocess import Preprocess

Members = dict[str, bytes]


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        read_bundle(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def members_of(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def seal(path: Path, members: Members, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write a zip file with the digest a bundle needs, whatever its members are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.comment = b"0" * 64
    body = buffer.getvalue()[:-64]
    path.write_bytes(body + hashlib.sha256(body).hexdigest().encode())
    return path


def with_manifest(members: Members, /, **changes: Any) -> Members:
    values = {**json.loads(members["manifest.json"]), **changes}
    return {**members, "manifest.json": json.dumps(values).encode()}


def with_golden(members: Members, content: bytes) -> Members:
    digests = {**json.loads(members["manifest.json"])["members"], "golden.npz": hashlib.sha256(content).hexdigest()}
    return {**with_manifest(members, members=digests), "golden.npz": content}


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


@pytest.fixture
def small(bundle: Bundle, tmp_path: Path) -> Path:
    """The tiny bundle with one small golden frame, so that it can be damaged hundreds of times."""
    camera = bundle.golden.camera_frames[0]
    golden = Golden((camera[:20, :20].copy(),), bundle.golden.frames[:1], bundle.golden.probabilities[:1])
    path = tmp_path / "small.gensoup"
    write_bundle(path, bundle.manifest, bundle.models, golden)
    return path


@pytest.fixture
def members(small: Path) -> Members:
    return members_of(small)


def test_what_goes_in_comes_out(bundle: Bundle, tmp_path: Path) -> None:
    manifest = Manifest(
        labels=("Barrett's", "食道", "normal"),
        preprocess=Preprocess(32, "letterbox", (0.1, 0.0, 0.9, 1.0), "area"),
        architecture="channel_classifier",
        macs=12,
        parameters=9,
        precisions={"fp32": {"member": "model.onnx", "tolerance": 1e-4}},
        metrics={"mcc": 0.5, "intervals": {"mcc": [0.4, 0.6]}},
        provenance={"seed": 7, "genes": {"optimizer": "adam"}},
    )
    path = tmp_path / "new folder" / "a.gensoup"
    digest = write_bundle(path, manifest, bundle.models, bundle.golden)
    got = read_bundle(path)
    assert replace(got.manifest, members={}) == manifest
    assert got.manifest.members["model.onnx"] == hashlib.sha256(bundle.model).hexdigest()
    assert got.model == bundle.model
    assert got.sha256 == digest == bundle_digest(path.read_bytes())
    assert got.path == path
    assert np.array_equal(got.golden.frames, bundle.golden.frames)
    assert np.array_equal(got.golden.probabilities, bundle.golden.probabilities)
    for one, other in zip(got.golden.camera_frames, bundle.golden.camera_frames, strict=True):
        assert np.array_equal(one, other)


def test_the_same_content_gives_the_same_bytes(bundle: Bundle, tmp_path: Path) -> None:
    paths = tmp_path / "a.gensoup", tmp_path / "b.gensoup"
    for path in paths:
        write_bundle(path, bundle.manifest, bundle.models, bundle.golden)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_any_zip_tool_opens_it(tiny_bundle: Path) -> None:
    with zipfile.ZipFile(tiny_bundle) as archive:
        assert archive.testzip() is None
        assert set(archive.namelist()) == {"manifest.json", "model.onnx", "golden.npz"}
        assert json.loads(archive.read("manifest.json"))["schema_version"] == SCHEMA_VERSION


def test_other_precisions_and_the_card_come_out_too(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "b.gensoup"
    manifest = replace(bundle.manifest, precisions={**bundle.manifest.precisions, "int8": {"tolerance": 0.1}})
    models = {**bundle.models, "int8": onnx.ModelProto(doc_string="another graph").SerializeToString()}
    write_bundle(path, manifest, models, bundle.golden, "# Karte für den Wagen")
    got = read_bundle(path)
    assert got.models == models
    assert got.card == "# Karte für den Wagen"
    with pytest.raises(ValueError, match="models of"):
        write_bundle(path, manifest, bundle.models, bundle.golden)


def test_a_graph_the_manifest_does_not_name_is_refused(bundle: Bundle, members: Members, tmp_path: Path) -> None:
    content = b"another graph"
    manifest = json.loads(members["manifest.json"])
    manifest["members"]["model.int8.onnx"] = hashlib.sha256(content).hexdigest()
    changed = {**members, "manifest.json": json.dumps(manifest).encode(), "model.int8.onnx": content}
    assert "holds graphs of fp32, int8" in refusal(seal(tmp_path / "b.gensoup", changed))


def test_resealed_members_are_accepted(members: Members, tmp_path: Path) -> None:
    """The refusals below come from what they change, not from the way these tests build a zip file."""
    read_bundle(seal(tmp_path / "b.gensoup", members))


def test_every_flipped_bit_is_refused(small: Path) -> None:
    whole = small.read_bytes()
    generator = np.random.default_rng(0)
    positions = {0, 1, 2, len(whole) - 1, len(whole) - 64, len(whole) - 65, *generator.integers(0, len(whole), 300)}
    for position in map(int, positions):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(generator.integers(8))
        small.write_bytes(damaged)
        refusal(small)


def test_every_truncation_is_refused(small: Path) -> None:
    whole = small.read_bytes()
    lengths = {0, 1, 2, 63, 64, 65, len(whole) - 1, *np.random.default_rng(1).integers(0, len(whole), 50)}
    for length in map(int, lengths):
        small.write_bytes(whole[:length])
        refusal(small)


def test_bytes_appended_or_prepended_are_refused(small: Path) -> None:
    whole = small.read_bytes()
    for content in (whole + b"\n", whole + whole, b"\n" + whole, b"PK" + whole):
        small.write_bytes(content)
        refusal(small)


def test_refuses_what_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "gone.gensoup")
    assert "cannot be read" in refusal(tmp_path)


def test_refuses_what_is_no_bundle(tmp_path: Path) -> None:
    path = tmp_path / "x.gensoup"
    for content in (b"", b"hello", b"\x89PNG" + bytes(200)):
        path.write_bytes(content)
        assert "not a GenSoup bundle" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", "{}" * 100)
    assert "SHA-256" in refusal(path)
    body = b"PK but no zip file"
    path.write_bytes(body + hashlib.sha256(body).hexdigest().encode())
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "golden.npz"])
def test_a_missing_member_is_named(members: Members, name: str, tmp_path: Path) -> None:
    del members[name]
    assert f"lacks {name}" in refusal(seal(tmp_path / "b.gensoup", members))


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
def test_a_member_that_was_exchanged_is_named(members: Members, name: str, tmp_path: Path) -> None:
    members[name] += b"x"
    assert f"{name} does not match the manifest" in refusal(seal(tmp_path / "b.gensoup", members))


def test_a_newer_schema_asks_for_an_update(members: Members, tmp_path: Path) -> None:
    path = seal(tmp_path / "b.gensoup", with_manifest(members, schema_version=SCHEMA_VERSION + 1, novelty=1))
    assert "update gensoup" in refusal(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": "one"},
        {"schema_version": None},
        {"labels": None},
        {"labels": "polyp"},
        {"labels": []},
        {"labels": ["a", "a", "b"]},
        {"preprocess": None},
        {"preprocess": {"size": 32}},
        {"preprocess": {"size": "32", "fit": "stretch", "crop_box": [0, 0, 1, 1], "resize": "area"}},
        {"preprocess": {"size": 32, "fit": "stretch", "crop_box": [0, 0, 1], "resize": "area"}},
        {"preprocess": {"size": 32, "fit": "stretch", "crop_box": [0, 0, 1, 1], "resize": "area", "blur": 3}},
        {"precisions": {}},
        {"precisions": []},
        {"precisions": {"fp32": {"member": "model.onnx"}}},
        {"precisions": {"fp32": {"tolerance": "small"}}},
        {"members": None},
        {"members": 3},
        {"members": []},
        {"surprise": 1},
        {"schema_version": 0},
        {"schema_version": True},
        {"labels": ["a", "b\nerror: c", "d"]},
        {"labels": ["a", "\x1b[2J", "d"]},
        {"labels": ["a", "\ud800", "d"]},
        {"macs": -1},
        {"macs": float("nan")},
        {"macs": "9"},
        {"parameters": -1},
        {"parameters": 1.5},
        {"precisions": {"fp32": {"tolerance": float("nan")}}},
        {"precisions": {"fp32": {"tolerance": -1e-3}}},
        {"precisions": {"fp32": {"tolerance": 2}}},
        {"metrics": {"mcc": float("inf")}},
        {"metrics": {"mcc": [{"deep": float("nan")}]}},
        {"metrics": 3},
        {"thresholds": {"blue": 0.5}},
        {"thresholds": {"blue": 0.5, "green": -0.5, "red": 0.5}},
        {"thresholds": {"blue": 0.5, "green": "high", "red": 0.5}},
        {"thresholds": [0.5, 0.5, 0.5]},
    ],
)
def test_a_malformed_manifest_is_refused(members: Members, changes: dict[str, Any], tmp_path: Path) -> None:
    assert "malformed manifest" in refusal(seal(tmp_path / "b.gensoup", with_manifest(members, **changes)))


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"3", b"{}", b"\xff\xfe{", b"{" * 50, b"[" * 100_000, b'{"a":' * 100_000, b"1e999", b"9" * 10_000],
)
def test_a_manifest_that_is_no_manifest_is_refused(members: Members, text: bytes, tmp_path: Path) -> None:
    assert "malformed manifest" in refusal(seal(tmp_path / "b.gensoup", {**members, "manifest.json": text}))


FRAMES, PROBABILITIES = np.zeros((1, 32, 32, 3), np.uint8), np.full((1, 3), 1 / 3, np.float32)
CAMERA = np.zeros((20, 20, 3), np.uint8)
GOLDEN = Golden((CAMERA,), FRAMES, PROBABILITIES)


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"",
        lambda: b"no npz",
        lambda: npz(frames=FRAMES, probabilities=PROBABILITIES),
        lambda: npz(frames=FRAMES, camera_0=CAMERA),
        lambda: npz(frames=FRAMES[:0], probabilities=PROBABILITIES[:0]),
        lambda: npz(frames=FRAMES, probabilities=np.full((2, 3), 1 / 3, np.float32), camera_0=CAMERA),
        lambda: npz(frames=FRAMES, probabilities=PROBABILITIES[0], camera_0=CAMERA),
        lambda: npz(frames=FRAMES[0], probabilities=np.zeros((32, 3), np.float32), camera_0=CAMERA),
        lambda: npz(frames=np.uint8(3), probabilities=PROBABILITIES, camera_0=CAMERA),
        lambda: npz(frames=FRAMES.astype(np.float32), probabilities=PROBABILITIES, camera_0=CAMERA),
        lambda: npz(frames=FRAMES, probabilities=PROBABILITIES, camera_0=CAMERA.astype(np.float64)),
        lambda: npz(frames=FRAMES, probabilities=PROBABILITIES, camera_0=CAMERA[0]),
        lambda: npz(frames=FRAMES, probabilities=PROBABILITIES.astype(np.complex64), camera_0=CAMERA),
        lambda: npz(frames=FRAMES, probabilities=PROBABILITIES, camera_0=CAMERA[:0]),
        lambda: npz(frames=FRAMES, probabilities=PROBABILITIES, camera_0=np.zeros((1, 9000, 3), np.uint8)),
        lambda: npz(frames=np.asfortranarray(FRAMES), probabilities=PROBABILITIES, camera_0=CAMERA),
    ],
)
def test_malformed_golden_frames_are_refused(members: Members, make: Callable[[], bytes], tmp_path: Path) -> None:
    assert "malformed golden.npz" in refusal(seal(tmp_path / "b.gensoup", with_golden(members, make())))


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_nothing_is_ever_unpickled(members: Members, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    poison = np.array([Payload(trace)], object)
    pickled = pickle.dumps(Payload(trace))
    pickle.loads(pickled)
    assert trace.exists()  # the payload works
    trace.unlink()
    arrays = {"frames": FRAMES, "probabilities": PROBABILITIES, "camera_0": CAMERA}
    contents = [npz(**{**arrays, name: poison}) for name in arrays] + [pickled]
    for content in contents:
        assert "malformed golden.npz" in refusal(seal(tmp_path / "b.gensoup", with_golden(members, content)))
    assert not trace.exists()


@pytest.mark.parametrize("name", ["notes.txt", "../../etc/passwd", "/etc/passwd", "C:\\\\x", "a/model.onnx", "\x1b[2J"])
def test_a_member_of_another_name_is_refused(members: Members, name: str, tmp_path: Path) -> None:
    message = refusal(seal(tmp_path / "b.gensoup", {**members, name: b"more"}))
    assert "no member of a bundle" in message
    assert message.isprintable()


def test_a_member_that_was_taken_out_is_named(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "b.gensoup"
    write_bundle(path, bundle.manifest, bundle.models, bundle.golden, "# A card")
    members = members_of(path)
    del members["card.md"]
    assert "lacks card.md" in refusal(seal(path, members))


def test_a_graph_that_takes_weights_from_elsewhere_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    """ONNX Runtime and OpenVINO would look for them in the working directory: no digest covers what lies there."""
    model = onnx.load_model_from_string(bundle.model)
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "weights")
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights.bin")
    path = tmp_path / "b.gensoup"
    write_bundle(path, bundle.manifest, {"fp32": model.SerializeToString()}, bundle.golden)
    assert "model.onnx takes weights from files outside of the bundle" in refusal(path)


def test_a_graph_that_is_none_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "b.gensoup"
    write_bundle(path, bundle.manifest, {"fp32": b"no model"}, bundle.golden)
    assert "malformed model.onnx" in refusal(path)


def test_compressed_members_are_refused(members: Members, tmp_path: Path) -> None:
    path = seal(tmp_path / "b.gensoup", {**members, "card.md": bytes(10_000_000)}, zipfile.ZIP_DEFLATED)
    assert "compressed" in refusal(path)


def test_what_is_too_large_is_refused(members: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gensoup.runtime import bundle

    path = seal(tmp_path / "b.gensoup", members)
    monkeypatch.setattr(bundle, "MAX_BYTES", 100)
    assert "larger than" in refusal(path)
    with pytest.raises(BundleError, match="more than the"):
        write_bundle(path, Manifest.from_json(members["manifest.json"]), {"fp32": b"graph"}, GOLDEN)
    big = {**members, "manifest.json": members["manifest.json"] + b" " * (1 << 20)}
    monkeypatch.undo()
    assert "manifest.json is larger than 1024 KiB" in refusal(seal(path, big))
