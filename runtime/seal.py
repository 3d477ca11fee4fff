"""The end of a bundle file: the zip's comment, which holds signatures, if any, and the digest of all bytes before it.

Unsigned, the comment is the 64 hex digits of a SHA-256. A signature is one more line before them; adding it changes
the comment, its length in the zip's last record, and therefore the digest at the end. What was signed is the digest
of the *unsigned* file, which anyone can make again by taking the lines out: so all signatures vouch for the same bytes,
and come and go without changing what the bundle is called elsewhere, such as in a certificate.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from gensoup.runtime.errors import BundleError

DIGEST_LENGTH = 64
MAX_SIGNATURES = 8
_LINE = re.compile(rb"\ned25519 ([0-9a-f]{64}) ([0-9a-f]{128})")
_LINE_LENGTH = 202
_LENGTH_FIELD = 2  # bytes, little endian, the last before the comment
_UNSIGNED_LENGTH = DIGEST_LENGTH.to_bytes(_LENGTH_FIELD, "little")


@dataclass(frozen=True)
class Signature:
    """An Ed25519 signature as it stands in a bundle: the signer's public key (32 bytes) and its 64 bytes.

    Whoever writes a signature also writes the key beside it: that it holds says nothing until the key is one's own.
    """

    key: bytes
    value: bytes

    def to_line(self) -> bytes:
        """As it stands in the comment."""
        return f"\ned25519 {self.key.hex()} {self.value.hex()}".encode()


@dataclass(frozen=True)
class Sealed:
    """A bundle's bytes, found undamaged.

    unsigned: the file as it was before it was signed, digest included; digest: that of ``unsigned``, by which
    a bundle is known. signatures: not checked. size: bytes of the file, signatures included.
    """

    unsigned: bytes
    digest: str
    signatures: tuple[Signature, ...]
    size: int


def unseal(content: bytes) -> Sealed:
    """Check the digest at the end of a bundle file and take its signatures off.

    Raises BundleError, one line, for what is no bundle, and for any byte that changed since it was sealed.
    """
    if not content.startswith(b"PK"):
        raise BundleError("not a GenSoup bundle, give the NAME.gensoup that `gensoup export` wrote")
    whole = memoryview(content)
    end = max(0, len(content) - DIGEST_LENGTH)
    digest = hashlib.sha256(whole[:end]).hexdigest()
    if whole[end:] != digest.encode():
        raise BundleError("damaged (its SHA-256 does not match): copy or export it again")
    signatures: list[Signature] = []
    while found := _LINE.fullmatch(content, max(0, end - _LINE_LENGTH), end):
        signatures.insert(0, Signature(*(bytes.fromhex(part.decode()) for part in found.groups())))
        end -= _LINE_LENGTH
    if not signatures:
        return Sealed(content, digest, (), len(content))
    if len(signatures) > MAX_SIGNATURES:
        raise BundleError(f"more than {MAX_SIGNATURES} signatures, no bundle of ours")
    end -= _LENGTH_FIELD
    if whole[end : end + _LENGTH_FIELD] != _comment_length(signatures):
        raise BundleError("damaged (the zip's comment is not as long as its signatures)")
    unsigned = hashlib.sha256(whole[:end])
    unsigned.update(_UNSIGNED_LENGTH)
    digest = unsigned.hexdigest()
    return Sealed(b"".join((whole[:end], _UNSIGNED_LENGTH, digest.encode())), digest, tuple(signatures), len(content))


def seal(unsigned: bytes, signatures: Sequence[Signature] = ()) -> bytes:
    """The inverse of :func:`unseal`. ``unsigned`` may have any digits in the digest's place; they are replaced.

    Raises ValueError when ``unsigned`` is no zip with a comment of 64 bytes, or for too many signatures.
    """
    head, length = unsigned[: -DIGEST_LENGTH - _LENGTH_FIELD], unsigned[-DIGEST_LENGTH - _LENGTH_FIELD : -DIGEST_LENGTH]
    if length != _UNSIGNED_LENGTH or len(signatures) > MAX_SIGNATURES:
        raise ValueError(f"no zip with a comment of {DIGEST_LENGTH} bytes, or {len(signatures)} signatures")
    body = b"".join((head, _comment_length(signatures), *(signature.to_line() for signature in signatures)))
    return body + hashlib.sha256(body).hexdigest().encode()


def _comment_length(signatures: Sequence[Signature]) -> bytes:
    return (DIGEST_LENGTH + len(signatures) * _LINE_LENGTH).to_bytes(_LENGTH_FIELD, "little")
