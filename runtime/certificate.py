"""The certificate: what one bundle was shown to hold on one kind of device, as a file that cannot be altered unnoticed.

The file is JSON: ``certificate`` (what is certified), ``sha256`` of its canonical form (RFC 8785), ``signatures``
(Ed25519, of that digest). As with bundles, the digest shows damage; only a demanded signature shows tampering.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gensoup.runtime.archive import one_line, shown
from gensoup.runtime.errors import BundleError, CertificateError, MissingDependencyError
from gensoup.runtime.files import write_atomic
from gensoup.runtime.seal import MAX_SIGNATURES, Signature

if TYPE_CHECKING:
    from gensoup.runtime.signature import SigningKey

SCHEMA_VERSION = 1
_MAX_BYTES = 1 << 20
_HEX = re.compile(r"[0-9a-f]{64}")
_REMEDY = "write one with `gensoup bench --tier certify --certificate`"


@dataclass(frozen=True)
class Certificate:
    """A certificate whose digest was found whole.

    values: all that is certified, as docs/certificate.md lists it. source: the file, for messages.
    bundle_sha256, engine, precision, threads (None: the engine's default), engine_versions (package → version): what
    was measured. rate_hz, limit_ms: how often frames came, and the latency above which one was a miss. height, width:
    of the frames, pixels. device: the facts of :func:`gensoup.runtime.identity.device_facts`, one at least. versions:
    of what every frame goes through.
    """

    values: Mapping[str, Any]
    source: Path
    bundle_sha256: str
    engine: str
    precision: str
    threads: int | None
    engine_versions: Mapping[str, str | None]
    rate_hz: float
    limit_ms: float
    height: int
    width: int
    device: Mapping[str, Any]
    versions: Mapping[str, Any]

    @classmethod
    def of(cls, values: Mapping[str, Any], source: Path) -> Certificate:
        """Read what is certified. Raises CertificateError, naming ``source``, where it is not a certificate of ours."""
        try:
            version = _whole(values["schema_version"])
            if version > SCHEMA_VERSION:
                raise CertificateError(f"{source}: schema {version} is newer than this gensoup reads: update gensoup")
            if (verdict := (values["verdict"], values["tier"])) != ("PASS", "certify"):
                raise ValueError(f"certifies a {verdict[0]} of tier {verdict[1]}, not a PASS of certify")
            engine, limits, frames = values["engine"], values["limits"], values["source"]
            sha256, facts = values["bundle"]["sha256"], {**values["device"]["facts"]}
            if not _HEX.fullmatch(sha256):
                raise ValueError("bundle.sha256 is no digest")
            if not facts:
                raise ValueError("device.facts tells of no device")
            return cls(
                values=values,
                source=source,
                bundle_sha256=sha256,
                engine=_text(engine["name"]),
                precision=_text(engine["precision"]),
                threads=None if engine["threads"] is None else _whole(engine["threads"]),
                engine_versions={**engine["versions"]},
                rate_hz=_positive(limits["rate_hz"]),
                limit_ms=_positive(limits["latency_ms"]),
                height=_whole(frames["height"]),
                width=_whole(frames["width"]),
                device=facts,
                versions={**(values.get("versions") or {})},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CertificateError(f"{source}: malformed certificate ({_said(error)}); {_REMEDY}") from error


def write_certificate(path: Path, values: Mapping[str, Any], key: SigningKey | None = None) -> Certificate:
    """Write a certificate of ``values``, atomically, signed where a ``key`` is given.

    Raises CertificateError for values that :class:`Certificate` would not take, MissingDependencyError, WriteError.
    """
    certificate = Certificate.of(values, path)
    digest = _digest(values)
    signatures = [] if key is None else [key.sign(digest, _purpose())]
    content = {
        "certificate": values,
        "sha256": digest,
        "signatures": [{"key": one.key.hex(), "value": one.value.hex()} for one in signatures],
    }
    write_atomic(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return certificate


def read_certificate(path: Path, require_signature: Path | None = None) -> Certificate:
    """Read a certificate and check its digest, and its signature where public keys are named.

    Raises CertificateError, one line that names the file, whatever is wrong with it; UsageError for what is no public
    key; MissingDependencyError without the extra ``sign``.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read ({error.strerror}); {_REMEDY}") from error
    if len(text) > _MAX_BYTES:
        raise CertificateError(f"{path}: too large for a certificate; {_REMEDY}")
    try:
        content = json.loads(text, parse_constant=_not_finite)
        values, said = content["certificate"], content["sha256"]
        signatures = _signatures(content["signatures"])
        if not isinstance(values, dict):
            raise ValueError("certificate must be a mapping")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CertificateError(f"{path}: not a certificate ({_said(error)}); {_REMEDY}") from error
    if _digest(values) != said:
        raise CertificateError(f"{path}: altered or damaged (its SHA-256 does not match): do not use it; {_REMEDY}")
    if require_signature is not None:
        from gensoup.runtime.signature import check_signed, load_public_keys

        try:
            check_signed(signatures, said, load_public_keys(require_signature), require_signature, _purpose())
        except BundleError as error:
            raise CertificateError(f"{path}: {error}") from error
    return Certificate.of(values, path)


def check_canonical_form() -> None:
    """Raise MissingDependencyError where no certificate could be written or read."""
    _digest({})


def _digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical form. Raises CertificateError for values that have none."""
    try:
        import rfc8785
    except ImportError as error:
        raise MissingDependencyError("rfc8785", "sign") from error
    try:
        return hashlib.sha256(rfc8785.dumps({**values})).hexdigest()
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeError) as error:
        raise CertificateError(f"has no canonical form ({one_line(error)})") from error


def _purpose() -> bytes:
    from gensoup.runtime.signature import CERTIFICATE

    return CERTIFICATE


def _signatures(entries: Sequence[Mapping[str, str]]) -> tuple[Signature, ...]:
    if len(entries) > MAX_SIGNATURES:
        raise ValueError(f"more than {MAX_SIGNATURES} signatures")
    return tuple(Signature(bytes.fromhex(one["key"]), bytes.fromhex(one["value"])) for one in entries)


def _said(error: Exception) -> str:
    return f"lacks {one_line(error)}" if isinstance(error, KeyError) else one_line(error)


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{shown(repr(value), 40)} is no name")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{shown(repr(value), 40)} is no positive whole number")
    return value


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{shown(repr(value), 40)} is no positive number")
    return float(value)
