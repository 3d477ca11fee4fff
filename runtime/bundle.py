"""The bundle ``NAME.gensoup``: one zip file that holds all a cart needs, checked before anything in it is used.

The zip's comment is the SHA-256 (64 hex digits) of all bytes before it, so a change of any one byte is noticed
before the zip is parsed; each member's own SHA-256 stands in ``manifest.json``. Hashes detect damage, not tampering.
Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import BundleError
from gensoup.runtime.files import write_atomic
from gensoup.runtime.preprocess import Preprocess

SCHEMA_VERSION = 1
SUFFIX = ".gensoup"
MAX_BYTES = 1 << 30
# Where the graph of each precision lies; fp32 is in every bundle, the others where they were asked for and proven.
MODEL_FILES = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
CARD_FILE = "card.md"
_DIGEST_LENGTH = 64
_REQUIRED = ("manifest.json", MODEL_FILES["fp32"], "golden.npz")


@dataclass(frozen=True)
class Manifest:
    """What a bundle says about itself.

    precisions: per precision ("fp32"): ``member`` (the graph's file), ``engine`` and ``reference`` of the parity check,
        ``tolerance`` (largest accepted difference of a probability) and what was reached.
    metrics: name → value, with ``intervals`` (name → [low, high], 95%).
    provenance: data fingerprint, seed, versions, genes.
    saliency: ``available``; if so ``size`` of the map, its range per class, ``floor`` and ``top``, and the number of
        ``frames`` it was fixed on; else the ``reason``. Empty in bundles from before there were maps.
    members: file → SHA-256; filled in by :func:`write_bundle`.
    """

    labels: tuple[str, ...]
    preprocess: Preprocess
    architecture: str
    macs: int
    parameters: int
    precisions: Mapping[str, Mapping[str, Any]]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    saliency: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels {list(self.labels)}: must be different names, at least one")

    def tolerance(self, precision: str = "fp32") -> float:
        """The largest accepted difference of a probability. Raises KeyError for a precision the bundle lacks."""
        return float(self.precisions[precision]["tolerance"])

    def to_json(self) -> str:
        """The text of ``manifest.json``."""
        return json.dumps({**asdict(self), "preprocess": self.preprocess.to_dict()}, indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Parse ``manifest.json``. Raises BundleError for a newer schema or a malformed text."""
        try:
            values = json.loads(text)
            version = int(values["schema_version"])
            if version > SCHEMA_VERSION:
                raise BundleError(
                    f"manifest schema {version} is newer than this GenSoup reads ({SCHEMA_VERSION}): update gensoup"
                )
            values["preprocess"] = Preprocess.from_dict(values["preprocess"])
            if not isinstance(values["labels"], list):
                raise ValueError("labels must be a list")
            values["labels"] = tuple(str(label) for label in values["labels"])
            manifest = cls(**values)
            manifest.tolerance()
            if not isinstance(manifest.members, Mapping):
                raise ValueError("members must map files to digests")
            if not isinstance(manifest.saliency, Mapping):
                raise ValueError("saliency must say whether it is available")
            return manifest
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BundleError(f"malformed manifest ({error})") from error


@dataclass(frozen=True)
class Golden:
    """Frames with known answers, opened on every device before the bundle is used.

    camera_frames: BGR uint8 arrays [h, w, 3] of odd sizes and 1080p.
    frames: uint8 [N, H, W, 3], what preprocessing must make of them (at most one grey level apart).
    probabilities: float32 [N, K], what the reference makes of ``frames``.
    """

    camera_frames: tuple[NDArray[np.uint8], ...]
    frames: NDArray[np.uint8]
    probabilities: NDArray[np.float32]

    def to_npz(self) -> bytes:
        """The bytes of ``golden.npz``."""
        buffer = io.BytesIO()
        cameras = {f"camera_{index}": frame for index, frame in enumerate(self.camera_frames)}
        np.savez_compressed(buffer, allow_pickle=False, frames=self.frames, probabilities=self.probabilities, **cameras)
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> Golden:
        """The inverse of :meth:`to_npz`. Raises BundleError when arrays are missing or of the wrong shape."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                frames, probabilities = arrays["frames"], arrays["probabilities"]
                cameras = tuple(arrays[f"camera_{index}"] for index in range(len(frames)))
        except Exception as error:  # numpy and zipfile raise many kinds on foreign bytes, SyntaxError and zlib's too
            raise BundleError(f"malformed golden.npz ({_first_line(error)})") from error
        if frames.ndim != 4 or probabilities.ndim != 2 or len(frames) == 0 or len(frames) != len(probabilities):
            raise BundleError("malformed golden.npz (no frames, or not one row of probabilities a frame)")
        images = (*frames, *cameras)
        if any(image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 for image in images):
            raise BundleError("malformed golden.npz (frames must be uint8 [height, width, 3])")
        if probabilities.dtype != np.float32:
            raise BundleError("malformed golden.npz (probabilities must be float32)")
        return cls(cameras, frames, probabilities)


@dataclass(frozen=True)
class Bundle:
    """A bundle that passed its hashes.

    models: precision → ONNX bytes, of every precision in the manifest. card: the model card, empty where there is none.
    sha256: that of the whole file's bytes before the digest.
    """

    path: Path
    manifest: Manifest
    models: Mapping[str, bytes]
    golden: Golden
    sha256: str
    card: str = ""

    @property
    def model(self) -> bytes:
        """The fp32 graph: the reference and the fail-over."""
        return self.models["fp32"]


def write_bundle(path: Path, manifest: Manifest, models: Mapping[str, bytes], golden: Golden, card: str = "") -> str:
    """Write a bundle atomically and return its digest. The same content gives the same bytes.

    models: precision → ONNX bytes, the same precisions as in the manifest, else ValueError.
    """
    if set(models) != set(manifest.precisions):
        raise ValueError(f"models of {sorted(models)} for a manifest of {sorted(manifest.precisions)}")
    members = {MODEL_FILES[name]: models[name] for name in MODEL_FILES if name in models}
    members["golden.npz"] = golden.to_npz()
    if card:
        members[CARD_FILE] = card.encode()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    text = Manifest(**{**_fields(manifest), "members": digests}).to_json().encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {"manifest.json": text, **members}.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
        archive.comment = b"0" * _DIGEST_LENGTH
    body = buffer.getvalue()[:-_DIGEST_LENGTH]
    digest = hashlib.sha256(body).hexdigest()
    write_atomic(path, body + digest.encode())
    return digest


def read_bundle(path: Path) -> Bundle:
    """Read and check a bundle: whole-file digest, members' digests, manifest, golden frames.

    Raises BundleError, one line that names the file, whatever is wrong with it.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BundleError("larger than 1 GiB, no bundle of ours")
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error
    try:
        return _parsed(path, content)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error


def bundle_digest(content: bytes) -> str:
    """The digest a bundle's bytes carry, after checking that it is theirs. Raises BundleError otherwise."""
    if not content.startswith(b"PK"):
        raise BundleError("not a GenSoup bundle, give the NAME.gensoup that `gensoup export` wrote")
    body, stated = content[:-_DIGEST_LENGTH], content[-_DIGEST_LENGTH:]
    digest = hashlib.sha256(body).hexdigest()
    if stated != digest.encode():
        raise BundleError("damaged (its SHA-256 does not match): copy or export it again")
    return digest


def _parsed(path: Path, content: bytes) -> Bundle:
    digest = bundle_digest(content)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if missing := [name for name in _REQUIRED if name not in archive.namelist()]:
                raise BundleError(f"incomplete, lacks {', '.join(missing)}")
            if sum(info.file_size for info in archive.infolist()) > MAX_BYTES:
                raise BundleError("unpacks to more than 1 GiB, no bundle of ours")
            members = {name: archive.read(name) for name in _known(archive.namelist())}
    except BundleError:
        raise
    except Exception as error:  # zipfile raises many kinds on foreign bytes, struct's and zlib's too
        raise BundleError(f"damaged ({_first_line(error)})") from error
    manifest = Manifest.from_json(members.pop("manifest.json"))
    for name, member in members.items():
        if manifest.members.get(name) != hashlib.sha256(member).hexdigest():
            raise BundleError(f"damaged ({name} does not match the manifest): copy or export it again")
    models = {name: members[file] for name, file in MODEL_FILES.items() if file in members}
    if set(models) != set(manifest.precisions):
        raise BundleError(f"holds graphs of {', '.join(models)}, its manifest says {', '.join(manifest.precisions)}")
    golden = Golden.from_npz(members["golden.npz"])
    try:
        card = members.get(CARD_FILE, b"").decode()
    except UnicodeDecodeError as error:
        raise BundleError(f"malformed {CARD_FILE} (no UTF-8)") from error
    return Bundle(path, manifest, models, golden, digest, card)


def _known(names: list[str]) -> list[str]:
    return [name for name in dict.fromkeys((*_REQUIRED, *MODEL_FILES.values(), CARD_FILE)) if name in names]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _fields(manifest: Manifest) -> dict[str, Any]:
    return {name: getattr(manifest, name) for name in manifest.__dataclass_fields__}
