"""The bundle ``NAME.gensoup``: one zip file that holds all a cart needs, checked before anything in it is used.

The zip's comment ends in the SHA-256 (64 hex digits) of all bytes before it, so a change of any one byte is noticed
before the zip is parsed; each member's own SHA-256 stands in ``manifest.json``. Hashes detect damage, not tampering:
that is what signatures are for (``seal.py``, ``signature.py``). Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import unicodedata
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.archive import DEFLATED, STORED, Archive, one_line, shown
from gensoup.runtime.errors import BundleError, UsageError
from gensoup.runtime.files import write_atomic
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.seal import DIGEST_LENGTH, MAX_SIGNATURES, Sealed, Signature, seal, unseal

if TYPE_CHECKING:
    from gensoup.runtime.signature import SigningKey

SCHEMA_VERSION = 1
SUFFIX = ".gensoup"
MAX_BYTES = 384 << 20  # read whole, and once more in parts: so no bundle, however made, takes 1 GiB to refuse
# Where the graph of each precision lies; fp32 is in every bundle, the others where they were asked for and proven.
MODEL_FILES = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
CARD_FILE = "card.md"
_MANIFEST_FILE, _GOLDEN_FILE = "manifest.json", "golden.npz"
_REQUIRED = (_MANIFEST_FILE, MODEL_FILES["fp32"], _GOLDEN_FILE)
# Of each member; a manifest of ours has some kB, golden frames 5 MB.
_LIMITS = {
    _MANIFEST_FILE: 1 << 20,
    CARD_FILE: 1 << 20,
    _GOLDEN_FILE: 64 << 20,
    **dict.fromkeys(MODEL_FILES.values(), MAX_BYTES),
}
# Control characters, line and paragraph separators, halves of surrogate pairs: they steer terminals or break lines.
_UNSHOWABLE = ("Cc", "Cs", "Zl", "Zp")
_GOLDEN_BYTES, _GOLDEN_ARRAYS, _LONGEST_SIDE = 64 << 20, 64, 8192


@dataclass(frozen=True)
class Manifest:
    """What a bundle says about itself.

    precisions: per precision ("fp32"): ``member`` (the graph's file), ``engine`` and ``reference`` of the parity check,
        ``tolerance`` (largest accepted difference of a probability) and what was reached.
    thresholds: label → the least probability at which that label counts as certain; empty: none were chosen.
    metrics: name → value, with ``intervals`` (name → [low, high], 95%).
    provenance: data fingerprint, seed, versions, genes.
    members: file → SHA-256; filled in by :func:`write_bundle`.
    """

    labels: tuple[str, ...]
    preprocess: Preprocess
    architecture: str
    macs: int
    parameters: int
    precisions: Mapping[str, Mapping[str, Any]]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels {list(self.labels)}: must be different names, at least one")
        if any(unicodedata.category(sign) in _UNSHOWABLE for label in self.labels for sign in label):
            raise ValueError(f"labels {list(self.labels)}: may hold no line breaks or other control characters")
        if self.thresholds and set(self.thresholds) != set(self.labels):
            raise ValueError("thresholds: must name every label, and nothing else")

    def tolerance(self, precision: str = "fp32") -> float:
        """The largest accepted difference of a probability. Raises KeyError for a precision the bundle lacks."""
        return float(self.precisions[precision]["tolerance"])

    def to_json(self) -> str:
        """The text of ``manifest.json``. Raises ValueError for numbers that are not finite: JSON has none."""
        values = {**asdict(self), "preprocess": self.preprocess.to_dict()}
        return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Parse ``manifest.json``. Raises BundleError for a newer schema or a malformed text."""
        try:
            values = json.loads(text, parse_constant=_not_finite, parse_float=_finite)
            version = values["schema_version"]
            _check_number("schema_version", version, 1, whole=True)
            if version > SCHEMA_VERSION:
                raise BundleError(
                    f"manifest schema {shown(str(version))} is newer than this GenSoup reads ({SCHEMA_VERSION}): "
                    "update gensoup"
                )
            values["preprocess"] = Preprocess.from_dict(values["preprocess"])
            if not isinstance(values["labels"], list) or not all(isinstance(one, str) for one in values["labels"]):
                raise ValueError("labels must be a list of names")
            values["labels"] = tuple(values["labels"])
            for name in ("precisions", "thresholds", "metrics", "provenance", "members"):
                if not isinstance(values.get(name, {}), dict):
                    raise ValueError(f"{name} must be a mapping")
            manifest = cls(**values)
            manifest._check_numbers()
            return manifest
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BundleError(f"malformed manifest ({one_line(error)})") from error

    def _check_numbers(self) -> None:
        """Raise ValueError for numbers that no bundle can have."""
        _check_number("macs", self.macs, 0, whole=True)
        _check_number("parameters", self.parameters, 0, whole=True)
        for name in {"fp32", *self.precisions}:
            _check_number(f"tolerance of {name}", self.precisions[name]["tolerance"], 0, 1)
        for label, threshold in self.thresholds.items():
            _check_number(f"threshold of {label}", threshold, 0, 1)


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
        """The inverse of :meth:`to_npz`. Raises BundleError when arrays are missing, or of the wrong shape or size."""
        try:
            arrays = Archive(
                content, comment=0, most=_GOLDEN_ARRAYS, unpacked=_GOLDEN_BYTES, methods=(STORED, DEFLATED)
            )

            def array(name: str) -> NDArray[Any]:
                return _array(arrays.read(f"{name}.npy", _GOLDEN_BYTES))

            frames, probabilities = array("frames"), array("probabilities")
            cameras = tuple(array(f"camera_{index}") for index in range(len(frames)))
        except BundleError as error:
            raise BundleError(f"malformed {_GOLDEN_FILE} ({error})") from error
        except Exception as error:  # numpy raises many kinds on foreign bytes, SyntaxError too
            raise BundleError(f"malformed {_GOLDEN_FILE} ({one_line(error)})") from error
        if frames.ndim != 4 or probabilities.ndim != 2 or len(frames) == 0 or len(frames) != len(probabilities):
            raise BundleError(f"malformed {_GOLDEN_FILE} (no frames, or not one row of probabilities a frame)")
        for image in (*frames, *cameras):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise BundleError(f"malformed {_GOLDEN_FILE} (frames must be uint8 [height, width, 3])")
            if not 1 <= min(image.shape) <= max(image.shape) <= _LONGEST_SIDE:
                raise BundleError(f"malformed {_GOLDEN_FILE} (frames must have 1 to {_LONGEST_SIDE} pixels a side)")
        if probabilities.dtype != np.float32:
            raise BundleError(f"malformed {_GOLDEN_FILE} (probabilities must be float32)")
        return cls(cameras, frames, probabilities)


@dataclass(frozen=True)
class Bundle:
    """A bundle that passed its hashes, and its signature where one was required.

    models: precision → ONNX bytes, of every precision in the manifest. card: the model card, empty where there is none.
    sha256: of the whole file, as it was before it was signed. signatures: as found; they say nothing unless checked.
    """

    path: Path
    manifest: Manifest
    models: Mapping[str, bytes]
    golden: Golden
    sha256: str
    card: str = ""
    signatures: tuple[Signature, ...] = ()

    @property
    def model(self) -> bytes:
        """The fp32 graph: the reference and the fail-over."""
        return self.models["fp32"]


def write_bundle(path: Path, manifest: Manifest, models: Mapping[str, bytes], golden: Golden, card: str = "") -> str:
    """Write a bundle atomically and return its digest. The same content gives the same bytes.

    models: precision → ONNX bytes, the same precisions as in the manifest, else ValueError. Raises BundleError for
    more than a bundle may hold.
    """
    if set(models) != set(manifest.precisions):
        raise ValueError(f"models of {sorted(models)} for a manifest of {sorted(manifest.precisions)}")
    members = {MODEL_FILES[name]: models[name] for name in MODEL_FILES if name in models}
    members[_GOLDEN_FILE] = golden.to_npz()
    if card:
        members[CARD_FILE] = card.encode()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    text = Manifest(**{**_fields(manifest), "members": digests}).to_json().encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", STORED) as archive:
        for name, content in {_MANIFEST_FILE: text, **members}.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
        archive.comment = b"0" * DIGEST_LENGTH
    content = seal(buffer.getvalue())
    if len(content) > MAX_BYTES:
        raise BundleError(f"{path}: {len(content) >> 20} MiB, more than the {MAX_BYTES >> 20} MiB a bundle may have")
    write_atomic(path, content)
    return content[-DIGEST_LENGTH:].decode()


def read_bundle(path: Path, require_signature: Path | None = None) -> Bundle:
    """Read and check a bundle: whole-file digest, signature, members' digests, manifest, golden frames.

    require_signature: a file of one or several public keys, one of which must have signed the bundle.
    Raises BundleError, one line that names the file, whatever is wrong with it; UsageError for what is no public key.
    """
    return _opened(path, require_signature)[0]


def sign_bundle(path: Path, key: SigningKey, out: Path) -> str:
    """Write the bundle with one more signature to ``out``, atomically, and return its digest, which stays.

    Raises BundleError for a damaged bundle, which nobody should vouch for, UsageError where the key has signed already.
    """
    bundle, sealed = _opened(path, None)
    if any(signature.key == key.public.raw for signature in bundle.signatures):
        raise UsageError(f"{path}: is signed by {key.public.name} already")
    if len(bundle.signatures) == MAX_SIGNATURES:
        raise UsageError(
            f"{path}: has {MAX_SIGNATURES} signatures, no room for more; sign the bundle as it was exported"
        )
    signatures = (*bundle.signatures, key.sign(bundle.sha256))
    write_atomic(out, seal(sealed.unsigned, signatures))
    return bundle.sha256


def bundle_digest(content: bytes) -> str:
    """The digest a bundle is known by, signed or not, after its bytes were checked. Raises BundleError for others."""
    return unseal(content).digest


def _opened(path: Path, require_signature: Path | None) -> tuple[Bundle, Sealed]:
    try:
        sealed = unseal(_content(path))  # not held by a name of its own: it may be as large as memory allows
        if require_signature is not None:
            from gensoup.runtime.signature import check_signed, load_public_keys

            check_signed(sealed.signatures, sealed.digest, load_public_keys(require_signature), require_signature)
        return _parsed(path, sealed), sealed
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BundleError(f"cannot be read ({error.strerror})") from error
    if len(content) > MAX_BYTES:
        raise BundleError(f"larger than {MAX_BYTES >> 20} MiB, no bundle of ours")
    return content


def _parsed(path: Path, sealed: Sealed) -> Bundle:
    archive = Archive(sealed.unsigned, comment=DIGEST_LENGTH, most=len(_LIMITS), unpacked=MAX_BYTES)
    if missing := [name for name in _REQUIRED if name not in archive.names]:
        raise BundleError(f"incomplete, lacks {', '.join(missing)}")
    manifest = Manifest.from_json(archive.read(_MANIFEST_FILE, _LIMITS[_MANIFEST_FILE]))
    if unknown := [name for name in archive.names if name not in _LIMITS]:
        raise BundleError(f"holds '{shown(unknown[0])}', no member of a bundle of ours")
    members = {name: archive.read(name, _LIMITS[name]) for name in archive.names if name != _MANIFEST_FILE}
    for name, member in members.items():
        if manifest.members.get(name) != hashlib.sha256(member).hexdigest():
            raise BundleError(f"damaged ({name} does not match the manifest): copy or export it again")
    if gone := [name for name in manifest.members if name not in members]:
        raise BundleError(f"incomplete, lacks {shown(gone[0])}, which its manifest names")
    models = {name: members[file] for name, file in MODEL_FILES.items() if file in members}
    if set(models) != set(manifest.precisions):
        named = shown(", ".join(manifest.precisions))
        raise BundleError(f"holds graphs of {', '.join(models)}, its manifest says {named}")
    golden = Golden.from_npz(members[_GOLDEN_FILE])
    if golden.probabilities.shape[1] != len(manifest.labels):
        raise BundleError(f"{len(manifest.labels)} labels for {golden.probabilities.shape[1]} outputs")
    try:
        card = members.get(CARD_FILE, b"").decode()
    except UnicodeDecodeError as error:
        raise BundleError(f"malformed {CARD_FILE} (no UTF-8)") from error
    return Bundle(path, manifest, models, golden, sealed.digest, card, sealed.signatures)


def _array(content: bytes) -> NDArray[Any]:
    """One array of an npz. Its header is believed only where it speaks of exactly the bytes that follow."""
    stream = io.BytesIO(content)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, by_column, dtype = read_header[np.lib.format.read_magic(stream)](stream)
    if by_column or dtype.hasobject:
        raise ValueError("arrays must be in C order and hold numbers")
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell() or min(shape, default=0) < 0:
        raise ValueError("an array's size is not that of its bytes")
    return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape)


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _not_finite(shown(text, 20))


def _check_number(name: str, value: Any, least: float, most: float = math.inf, whole: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not least <= value <= most:
        raise ValueError(f"{name} is {shown(repr(value), 40)}, must lie in {least:g} to {most:g}")


def _fields(manifest: Manifest) -> dict[str, Any]:
    return {name: getattr(manifest, name) for name in manifest.__dataclass_fields__}
