"""Who vouches for a bundle or certificate: Ed25519 keys (RFC 8032), made, read, and held against signatures.

The only module that needs `cryptography`, and only once a key is really used.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gensoup.runtime.errors import BundleError, MissingDependencyError, UsageError
from gensoup.runtime.files import write_error
from gensoup.runtime.seal import Signature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PUBLIC_SUFFIX = ".pub"
_MAX_KEY_BYTES = 1 << 16
# Signed before the digest, so that the same key may sign both without one passing for the other.
BUNDLE = b"GenSoup bundle 1\n"
CERTIFICATE = b"GenSoup certificate 1\n"
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
# Asked for the passphrase of an encrypted key; None where there is nobody to ask.
Passphrase = Callable[[], "str | None"]


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key: its 32 bytes."""

    raw: bytes

    @property
    def name(self) -> str:
        """A short name to tell keys apart: the first 16 hex digits of the SHA-256 of its bytes."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def holds(self, signature: Signature, digest: str, purpose: bytes = BUNDLE) -> bool:
        """Whether ``signature`` is this key's, for the bundle of this digest, or for another ``purpose``."""
        _need_cryptography()
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        if signature.key != self.raw:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature.value, purpose + digest.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


class SigningKey:
    """An Ed25519 private key."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        """Usually by :meth:`load`."""
        self._private = private

    @classmethod
    def load(cls, path: Path, passphrase: Passphrase = lambda: None) -> SigningKey:
        """The private key in a PEM file. ``passphrase`` is called only where the key is encrypted.

        Raises UsageError, one line, for anything that is no such key, MissingDependencyError without `cryptography`.
        """
        _need_cryptography()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        blocks = _pem_blocks(path)
        kinds = [kind for kind, _ in blocks]
        if all(kind.endswith("PUBLIC KEY") for kind in kinds):
            raise UsageError(
                f"{path}: is a public key; sign with the private one that `gensoup keygen` wrote beside it"
            )
        if len(blocks) != 1:
            raise UsageError(f"{path}: holds {len(blocks)} keys; sign with one at a time")
        secret = None
        if kinds == ["ENCRYPTED PRIVATE KEY"]:
            secret = passphrase()
            if not secret:
                raise UsageError(f"{path}: needs its passphrase; set GENSOUP_PASSPHRASE or sign at a terminal")
        try:
            private = load_pem_private_key(blocks[0][1], None if secret is None else secret.encode())
        except (ValueError, TypeError) as error:
            reason = "cannot be read" if secret is None else "the passphrase is wrong, or the file is damaged"
            raise UsageError(f"{path}: {reason}; give the private key that `gensoup keygen` wrote") from error
        except Exception as error:  # UnsupportedAlgorithm
            raise UsageError(f"{path}: not an Ed25519 key; make one with `gensoup keygen`") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise UsageError(f"{path}: not an Ed25519 key; make one with `gensoup keygen`")
        return cls(private)

    @property
    def public(self) -> PublicKey:
        """The key that checks what this one signs."""
        return PublicKey(self._private.public_key().public_bytes_raw())

    def sign(self, digest: str, purpose: bytes = BUNDLE) -> Signature:
        """Vouch for the bundle (or what else ``purpose`` says) of this digest. The same digest gives the same bytes."""
        return Signature(self.public.raw, self._private.sign(purpose + digest.encode()))


def create_key(path: Path, passphrase: str | None = None) -> PublicKey:
    """Make a key pair: the private key in ``path`` (PEM, PKCS 8, for the owner's eyes alone), the public one beside it.

    Raises UsageError where either file exists: a key that was replaced can sign no more. WriteError on a full disk.
    """
    _need_cryptography()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    beside = public_path(path)
    for taken in (path, beside):
        if os.path.lexists(taken):
            raise UsageError(f"{taken}: exists already; a key is never overwritten, name another file")
    private = Ed25519PrivateKey.generate()
    locked = form.NoEncryption() if passphrase is None else form.BestAvailableEncryption(passphrase.encode())
    secret = private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, locked)
    public = private.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    _write_new(path, secret, 0o600)
    try:
        _write_new(beside, public, 0o644)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return SigningKey(private).public


def public_path(path: Path) -> Path:
    """Where the public key of the private key ``path`` lies."""
    return path.with_name(path.name + PUBLIC_SUFFIX)


def load_public_keys(path: Path) -> tuple[PublicKey, ...]:
    """The public keys in a PEM file, one or several: any of them is trusted.

    Raises UsageError, one line, for anything else, a private key above all; MissingDependencyError.
    """
    _need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    keys = []
    for kind, block in _pem_blocks(path):
        if "PRIVATE" in kind:
            raise UsageError(
                f"{path}: is a private key, which belongs on no cart; give the public one, {public_path(path).name}"
            )
        try:
            key = load_pem_public_key(block)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UsageError(f"{path}: not a readable public key; give the one that `gensoup keygen` wrote") from error
        if not isinstance(key, Ed25519PublicKey):
            raise UsageError(f"{path}: not an Ed25519 key; make one with `gensoup keygen`")
        keys.append(PublicKey(key.public_bytes_raw()))
    return tuple(keys)


def check_signed(
    signatures: Sequence[Signature], digest: str, keys: Sequence[PublicKey], source: Path, purpose: bytes = BUNDLE
) -> PublicKey:
    """The first of ``keys`` (from ``source``) that vouches for the bundle, or what ``purpose`` says, of ``digest``.

    Raises BundleError, one line: not signed, signed by others alone, or a signature that does not hold.
    """
    wanted = " or ".join(key.name for key in keys)
    if not signatures:
        raise BundleError(f"is not signed, and a signature of {wanted} ({source}) is required: get the signed one")
    ours = [(key, signature) for key in keys for signature in signatures if signature.key == key.raw]
    if not ours:
        signers = ", ".join(PublicKey(signature.key).name for signature in signatures)
        raise BundleError(f"is signed by {signers}, not by {wanted} ({source}): get the one signed by that key")
    for key, signature in ours:
        if key.holds(signature, digest, purpose):
            return key
    raise BundleError(f"the signature of {wanted} ({source}) does not hold: altered after signing, do not use it")


def _pem_blocks(path: Path) -> list[tuple[str, bytes]]:
    """Kind and text of each PEM block in a file, at least one."""
    try:
        if path.stat().st_size > _MAX_KEY_BYTES:
            raise UsageError(f"{path}: too large for a key; give a file that `gensoup keygen` wrote")
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror}); give a file that `gensoup keygen` wrote"
        ) from error
    blocks = [(found.group(1).decode(), found.group(0) + b"\n") for found in _BLOCK.finditer(content)]
    if not blocks:
        raise UsageError(f"{path}: holds no key in PEM form; give a file that `gensoup keygen` wrote")
    return blocks


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that must not exist, with its permissions from the first instant on."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise UsageError(f"{path}: exists already; a key is never overwritten, name another file") from error
    except OSError as error:
        raise write_error(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise write_error(path, error) from error


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("cryptography", "sign") from error
