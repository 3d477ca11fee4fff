"""A wheel of this very package, from its installed files: a device gets the code that asks, released or not."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import gensoup
from gensoup.runtime.errors import GenSoupError

_TAG = "py3-none-any"
_WHEEL = f"Wheel-Version: 1.0\nGenerator: gensoup\nRoot-Is-Purelib: true\nTag: {_TAG}\n"
_DATE = (1980, 1, 1, 0, 0, 0)


def build_wheel() -> tuple[str, bytes]:
    """File name and content; the same files give the same bytes. Source: the binary distribution format (PEP 427).

    Raises GenSoupError where the package runs without being installed, and its requirements are not known.
    """
    try:
        installed = metadata.distribution("gensoup")
    except metadata.PackageNotFoundError as error:
        raise GenSoupError(
            "gensoup is not installed, only imported: pip install it, then probe another device"
        ) from error
    files = dict(_package(Path(gensoup.__file__).parent))
    # A local version of its own: where this version is installed already, with other code, pip would leave that.
    digest = hashlib.sha256(repr(sorted((name, _digest(content)) for name, content in files.items())).encode())
    version = f"{installed.version.partition('+')[0]}+{digest.hexdigest()[:8]}"
    about = f"gensoup-{version}.dist-info"
    told = (installed.read_text("METADATA") or "").replace(
        f"Version: {installed.version}\n", f"Version: {version}\n", 1
    )
    files[f"{about}/METADATA"] = told.encode()
    files[f"{about}/WHEEL"] = _WHEEL.encode()
    files[f"{about}/entry_points.txt"] = (installed.read_text("entry_points.txt") or "").encode()
    record = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in files.items()]
    files[f"{about}/RECORD"] = "\n".join([*record, f"{about}/RECORD,,", ""]).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return f"gensoup-{version}-{_TAG}.whl", buffer.getvalue()


def _package(root: Path) -> Iterator[tuple[str, bytes]]:
    """The package's files under their names in the wheel, links (of an editable installation) followed."""
    for folder, below, names in os.walk(root, followlinks=True):
        below[:] = sorted(name for name in below if name != "__pycache__")
        for name in sorted(names):
            if not name.endswith((".pyc", ".pyo")):
                path = Path(folder) / name
                yield f"gensoup/{path.relative_to(root).as_posix()}", path.read_bytes()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
