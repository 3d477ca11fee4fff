"""``roles.csv``: which image of a dataset folder served a run for what, so that only unseen ones are scored later."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

from gensoup.runtime.errors import DataError
from gensoup.runtime.files import write_atomic

ROLES_FILE = "roles.csv"


def write_roles(path: Path, roles: Mapping[str, tuple[str, ...]]) -> None:
    """Write ``roles.csv`` (file,role), atomically."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["file", "role"])
    writer.writerows((file, role) for role, files in roles.items() for file in files)
    write_atomic(path, text.getvalue())


def read_roles(path: Path) -> dict[str, tuple[str, ...]]:
    """The inverse of :func:`write_roles`. Raises DataError when the file is missing or malformed."""
    roles: dict[str, list[str]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, strict=True)
            if next(rows, None) != ["file", "role"]:
                raise ValueError("its first line is not 'file,role'")
            for name, role in rows:
                roles.setdefault(role, []).append(name)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: not the roles.csv of a run ({error})") from error
    return {role: tuple(files) for role, files in roles.items()}


def roles_digest(roles: Mapping[str, tuple[str, ...]]) -> str:
    """SHA-256 (hex) over which file has which role, in whatever order: tells one run's roles from another's."""
    lines = sorted(f"{file}\0{role}\n" for role, files in roles.items() for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
