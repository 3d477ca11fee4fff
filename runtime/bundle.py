"""The bundle ``NAME.gensoup``: one zip file that holds all a cart needs, checked before anything in it is used.

The zip's comment ends in the SHA-256 (64 hex digits) of all bytes before it, so a change of any one byte is noticed
before the zip is parsed; each member's own SHA-256 stands in ``manifest.json``. Hashes detect damage, not tampering:
that is what signatures are for (``seal.py``, ``signature.py``). Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gensoup.runtime.archive import STORED, Archive, shown
from gensoup.runtime.engines.external_data import names_files
from gensoup.runtime.errors import BundleError, UsageError
from gensoup.runtime.files import write_atomic
from gensoup.runtime.golden import GOLDEN_FILE, MAX_GOLDEN_BYTES, Golden
from gensoup.runtime.manifest import Manifest
from gensoup.runtime.seal import DIGEST_LENGTH, MAX_SIGNATURES, Sealed, Signature, seal, unseal

if TYPE_CHECKING:
    from gensoup.runtime.signature import SigningKey

SUFFIX = ".gensoup"
MAX_BYTES = 384 << 20  # read whole, and once more in parts: so no bundle, however made, takes 1 GiB to refuse
# Where the graph of each precision lies; fp32 is in every bundle, the others where they were asked for and proven.
MODEL_FILES = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
CARD_FILE = "card.md"
_MANIFEST_FILE = "manifest.json"
_REQUIRED = (_MANIFEST_FILE, MODEL_FILES["fp32"], GOLDEN_FILE)
# Of each member; a manifest of ours has some kB, golden frames 5 MB.
_LIMITS = {
    _MANIFEST_FILE: 1 << 20,
    CARD_FILE: 1 << 20,
    GOLDEN_FILE: MAX_GOLDEN_BYTES,
    **dict.fromkeys(MODEL_FILES.values(), MAX_BYTES),
}


@dataclass(frozen=True)
class Bundle:
    """A bundle that passed its hashes, and its signature where one was required.

    models: precision → ONNX bytes, of every precision in the manifest. card: the model card, empty where there is none.
    sha256: of the whole file, as it was before it was signed. signatures: as found; they say nothing unless checked.
    members: name → (bytes, SHA-256), the manifest's own too. size: bytes of the file.
    """

    path: Path
    manifest: Manifest
    models: Mapping[str, bytes]
    golden: Golden
    sha256: str
    card: str = ""
    signatures: tuple[Signature, ...] = ()
    members: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    size: int = 0

    @property
    def model(self) -> bytes:
        """The fp32 graph: the reference and the fail-over."""
        return self.models["fp32"]


def write_bundle(path: Path, manifest: Manifest, models: Mapping[str, bytes], golden: Golden, card: str = "") -> str:
    """Write a bundle atomically and return its digest. See :func:`pack_bundle`."""
    content = pack_bundle(path, manifest, models, golden, card)
    write_atomic(path, content)
    return bundle_digest(content)


def pack_bundle(path: Path, manifest: Manifest, models: Mapping[str, bytes], golden: Golden, card: str = "") -> bytes:
    """The bytes of a bundle that is to stand at ``path``. The same content gives the same bytes.

    models: precision → ONNX bytes, the same precisions as in the manifest, else ValueError. Raises BundleError for
    more than a bundle may hold.
    """
    if set(models) != set(manifest.precisions):
        raise ValueError(f"models of {sorted(models)} for a manifest of {sorted(manifest.precisions)}")
    members = {MODEL_FILES[name]: models[name] for name in MODEL_FILES if name in models}
    members[GOLDEN_FILE] = golden.to_npz()
    if card:
        members[CARD_FILE] = card.encode()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    text = replace(manifest, members=digests).to_json().encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", STORED) as archive:
        for name, content in {_MANIFEST_FILE: text, **members}.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
        archive.comment = b"0" * DIGEST_LENGTH
    content = seal(buffer.getvalue())
    if len(content) > MAX_BYTES:
        raise BundleError(f"{path}: {len(content) >> 20} MiB, more than the {MAX_BYTES >> 20} MiB a bundle may have")
    return content


def read_bundle(path: Path, require_signature: Path | None = None) -> Bundle:
    """Read and check a bundle: whole-file digest, signature, members' digests, manifest, golden frames.

    require_signature: a file of one or several public keys, one of which must have signed the bundle.
    Raises BundleError, one line that names the file, whatever is wrong with it; UsageError for what is no public key.
    """
    return _opened(path, require_signature)[0]


def parse_bundle(path: Path, content: bytes) -> Bundle:
    """As :func:`read_bundle`, of the bytes that are to stand at ``path``."""
    try:
        return _parsed(path, unseal(content))
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error


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
        raise BundleError(f"cannot be read ({error.strerror}); give the path of a bundle, NAME{SUFFIX}") from error
    if len(content) > MAX_BYTES:
        raise BundleError(f"larger than {MAX_BYTES >> 20} MiB, no bundle of ours")
    return content


def _parsed(path: Path, sealed: Sealed) -> Bundle:
    archive = Archive(sealed.unsigned, comment=DIGEST_LENGTH, most=len(_LIMITS), unpacked=MAX_BYTES)
    if missing := [name for name in _REQUIRED if name not in archive.names]:
        raise BundleError(f"incomplete, lacks {', '.join(missing)}")
    text = archive.read(_MANIFEST_FILE, _LIMITS[_MANIFEST_FILE])
    manifest = Manifest.from_json(text)
    if unknown := [name for name in archive.names if name not in _LIMITS]:
        raise BundleError(f"holds '{shown(unknown[0])}', no member of a bundle of ours")
    members = {name: archive.read(name, _LIMITS[name]) for name in archive.names if name != _MANIFEST_FILE}
    digests = {name: hashlib.sha256(member).hexdigest() for name, member in members.items()}
    for name, digest in digests.items():
        if manifest.members.get(name) != digest:
            raise BundleError(f"damaged ({name} does not match the manifest): copy or export it again")
    if gone := [name for name in manifest.members if name not in members]:
        raise BundleError(f"incomplete, lacks {shown(gone[0])}, which its manifest names")
    models = {name: members[file] for name, file in MODEL_FILES.items() if file in members}
    if set(models) != set(manifest.precisions):
        named = shown(", ".join(manifest.precisions))
        raise BundleError(f"holds graphs of {', '.join(models)}, its manifest says {named}")
    for name, model in models.items():
        _check_whole(MODEL_FILES[name], model)
    golden = Golden.from_npz(members[GOLDEN_FILE])
    if golden.probabilities.shape[1] != len(manifest.labels):
        raise BundleError(f"{len(manifest.labels)} labels for {golden.probabilities.shape[1]} outputs")
    try:
        card = members.get(CARD_FILE, b"").decode()
    except UnicodeDecodeError as error:
        raise BundleError(f"malformed {CARD_FILE} (no UTF-8)") from error
    found = {_MANIFEST_FILE: (len(text), hashlib.sha256(text).hexdigest())}
    found |= {name: (len(member), digests[name]) for name, member in members.items()}
    return Bundle(path, manifest, models, golden, sealed.digest, card, sealed.signatures, found, sealed.size)


def _check_whole(file: str, model: bytes) -> None:
    """Raise BundleError unless a graph has all of its weights in it, where the digests cover them."""
    try:
        outside = names_files(model)
    except ValueError as error:
        raise BundleError(f"malformed {file} ({error})") from error
    if outside:
        raise BundleError(f"{file} takes weights from files outside of the bundle, no bundle of ours")
